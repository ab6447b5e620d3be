"""A published network, as it is or tuned on for the hardware.

With `train.epochs` 0 nothing is learned: the study is one of the published
weights. Otherwise they are where training starts, such as on a fresh chip at
every step (`train.hardware`).
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxedge import data
from jaxedge.core import checks
from jaxedge.models import checkpoints, resnet
from jaxedge.recipes import classifier, optimizers, settings, supervised
from jaxedge.recipes.recipe import Recipe

FOLDER = "checkpoints"


class Model(NamedTuple):
    """Which network.

    Attributes:
        checkpoint: a name of `models.checkpoints.CHECKPOINTS`.
        path: file with its arrays; None takes
            `<data root>/checkpoints/<checkpoint>.npz`.
        fold: whether batch normalisation is folded into the convolutions, so
            that the arrays hold the scaled kernels and a bias is added
            digitally; otherwise it is computed digitally, and its statistics
            are those of training.
    """

    checkpoint: str
    path: str | None
    fold: bool

    def check(self) -> None:
        """Raises UsageError for a network that is not known."""
        checks.choice(
            "model.checkpoint", self.checkpoint, checkpoints.CHECKPOINTS
        )


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: Model
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    return settings.unpack_sections(Settings, config)


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: for the learning-rate schedule.
        data_root: folder that holds `checkpoints/`, as in `data.load`.
        chip: programs the chip of `train.hardware` "one_chip".

    Raises:
        UsageError: if the file is missing, damaged or of another network, or
            if the network does not fit the data set.
    """
    name = given.model.checkpoint
    _check_fits(name, tuple(example.shape[1:]), classes, given.data.name)
    model, start = checkpoints.load(name, _path(given.model, data_root))
    if given.model.fold:
        start = resnet.fold(start, model.eps)
        model = model.clone(folded=True)
    return classifier.assemble(
        given,
        supervised.weights_rule(),
        example,
        classes,
        steps_per_epoch,
        chip,
        model=model,
        start=start,
    )


def _path(model: Model, data_root: str | os.PathLike[str] | None) -> Path:
    if model.path is not None:
        return Path(model.path).expanduser()
    what = f"the checkpoint {model.checkpoint!r}"
    root = data.find_root(what, FOLDER, data_root)
    return root / FOLDER / f"{model.checkpoint}.npz"


def _check_fits(
    name: str, image: tuple[int, ...], classes: int, source: str
) -> None:
    known = checkpoints.CHECKPOINTS[name]
    if (image, classes) != (known.image, known.model.classes):
        raise checks.UsageError(
            f"the checkpoint {name!r} takes inputs of shape {known.image} and"
            f" tells {known.model.classes} classes, but {source!r} has {image}"
            f" and {classes}; choose another data.name or model.checkpoint."
        )


__all__ = ["Model", "Settings", "build", "parse"]
