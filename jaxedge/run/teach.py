"""Stores what a teacher says of crops of the training images."""

from pathlib import Path
from typing import Any

import jax
from rich.progress import Progress

from jaxedge import data, recipes
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import teacher
from jaxedge.models import checkpoints
from jaxedge.recipes import quantization_aware
from jaxedge.run.loop import Preempted, Stop


def teach(
    config: Any,
    name: str,
    out: str,
    *,
    crops: int,
    least: float,
    data_root: str | None = None,
    stop: Stop | None = None,
) -> Path:
    """Runs a published network over random crops; goes on where it stopped.

    Args:
        config: names the data set and the seed.
        name: of `models.checkpoints.CHECKPOINTS`.
        out: folder that is made, see `data.teacher`.
        crops: of each image.
        least: smallest share of an image's area that a crop has, (0, 1].
        data_root: as in `data.load`.
        stop: looked at after every batch.

    Returns:
        The folder.

    Raises:
        UsageError: for a network that does not fit the data set, or as
            `data.teacher.write`.
        Preempted: when `stop` was asked; what is done is kept.
    """
    checks.choice("--teacher", name, checkpoints.CHECKPOINTS)
    checks.whole("--crops", crops, 1)
    checks.in_range("--least", least, 0, 1, open_low=True)
    given = recipes.get(config.recipe).parse(config)
    source = data.load(
        given.data.name, "train", data_root, **given.data.options
    )
    network = quantization_aware.teacher(name, None, data_root)
    known = checkpoints.CHECKPOINTS[name]
    if (source.x.shape[1:], len(source.classes)) != (
        known.image,
        known.model.classes,
    ):
        raise checks.UsageError(
            f"the teacher {name!r} takes images of shape {known.image} and"
            f" tells {known.model.classes} classes, but {source.name} has"
            f" {source.x.shape[1:]} and {len(source.classes)}; choose another."
        )
    forward = jax.jit(network)
    with Progress() as progress:
        bar = progress.add_task("teaching", total=len(source.y))

        def tick(done: int, total: int) -> None:
            progress.update(bar, completed=done)
            if stop is not None and stop.asked and done < total:
                raise Preempted(f"stopped after {done} of {total} images")

        teacher.write(
            out,
            source,
            forward,
            crops=crops,
            k=min(5, len(source.classes)),
            key=stream(jax.random.key(config.seed), "teacher"),
            scale=(least, 1.0),
            progress=tick,
        )
    return Path(out)
