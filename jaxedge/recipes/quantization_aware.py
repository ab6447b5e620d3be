"""Quantization-aware training: low-bit networks that learn their grids.

Two published systems from the same parts. "Quantization Variation"
(arXiv:2307.00331) trains vision transformers with learned steps by module, a
teacher's stored outputs, and a regulariser against oscillation; adaptive
coreset selection (arXiv:2306.07215) trains on the part of the examples that
tells most, chosen anew every few epochs. Every part is a section of the config,
and any network, hardware and data set will do.
"""

from collections.abc import Callable, Mapping
import os
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import data
from jaxedge.core import checks
from jaxedge.data import fkd
from jaxedge.data import teacher as teachers
from jaxedge.models import arrays, checkpoints, resnet
from jaxedge.models.layers import SITES
from jaxedge.recipes import (
    augmentation,
    classifier,
    coresets,
    optimizers,
    settings,
    steps,
    supervised,
    teaching,
)
from jaxedge.recipes.recipe import Recipe

FOLDER = "checkpoints"


class Model(NamedTuple):
    """Which network, and where its weights start.

    Attributes:
        name: as in `settings.Model`, or a name of
            `models.checkpoints.CHECKPOINTS`, whose published weights it starts
            from.
        widths: as in `settings.Model`; none for a checkpoint.
        start: folder of a finished run of the same network, whose weights it
            starts from; of a checkpoint the file with its arrays. None draws
            them, or takes the checkpoint of the data root.
    """

    name: str
    widths: tuple[int, ...] = ()
    start: str | None = None

    def check(self) -> None:
        """Raises UsageError for a network that is not known."""
        if self.published:
            if self.widths:
                raise checks.UsageError(
                    f"model.widths is {self.widths}, but the checkpoint"
                    f" {self.name!r} has its own; leave them out."
                )
            return
        known = (*settings.NETWORKS, *checkpoints.CHECKPOINTS)
        checks.choice("model.name", self.name, known)
        self.section.check()

    @property
    def published(self) -> bool:
        """Whether its weights are a checkpoint's."""
        return self.name in checkpoints.CHECKPOINTS

    @property
    def section(self) -> settings.Model:
        """Of a network that rounds nothing by itself."""
        return settings.Model(self.name, self.widths, None, "example")


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: Model
    augment: augmentation.Augmentation
    quantize: steps.Quantize
    distill: teaching.Distill
    coreset: coresets.Coreset
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    settings.check_unused("data.crop", given.data)
    if given.train.input_ranges and given.quantize.inputs is not None:
        raise checks.UsageError(
            "train.input_ranges is true, but quantize.inputs learns the ranges"
            " of inputs; choose one of them."
        )
    return given


def prepare(
    given: Settings, splits: Mapping[str, data.Source]
) -> tuple[dict[str, data.Source], int]:
    """Data sets with what the recipe knows of them.

    Args:
        given: from `parse`.
        splits: "train", "valid", "test".

    Returns:
        The same, with a teacher's stored outputs; and how many examples an
        epoch has.

    Raises:
        UsageError: for stored outputs that do not fit, or a part that keeps no
            example.
    """
    train = splits["train"]
    if _stored(given.distill):
        train = _taught(given.distill, train)
    rows = coresets.count(given.coreset, train)
    return {**splits, "train": train}, rows


def _taught(given: teaching.Distill, train: data.Source) -> data.Source:
    """The examples with a teacher's stored outputs."""
    folder = str(given.teacher)
    published = fkd.is_folder(folder)
    told = (fkd if published else teachers).open(folder, train)
    most = told.stored.flips.shape[1]
    if given.crops > most:
        raise checks.UsageError(
            f"distill.crops is {given.crops}, but {folder} holds {most} of an"
            " image."
        )
    known: dict[str, Any] = {**(train.aux or {}), **told.stored._asdict()}
    x: Any = train.x
    if published:  # Their boxes are shares of all of an image.
        x, known["whole"] = x.with_whole(given.side)
    return train._replace(x=x, aux=known)


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    splits: Mapping[str, data.Source] | None = None,
    **how: Any,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: for the learning-rate schedule.
        data_root: folder that holds `checkpoints/`, as in `data.load`.
        chip: programs the chip of `train.hardware` "one_chip".
        splits: from `prepare`; for a coreset alone.
        **how: further arguments of `classifier.assemble`.

    Raises:
        UsageError: for a file that is missing, damaged or of another network.
    """
    example = jnp.asarray(example)
    model, start = network(given.model, example, classes, data_root)
    rule = _rule(given, model, start, example)
    return classifier.assemble(
        given,
        rule,
        example,
        classes,
        steps_per_epoch,
        chip,
        model=model,
        start=start,
        augment=_augment(given, classes, example, data_root),
        steps=given.train.epochs * steps_per_epoch,
        subset=coresets.make(
            given.coreset, model, start, rule, splits, given.train.epochs
        ),
        rates=lambda learned: steps.rates(given.quantize, learned),
        **how,
    )


def network(
    given: Model,
    example: jax.Array,
    classes: int,
    data_root: str | os.PathLike[str] | None,
) -> tuple[nn.Module, Any]:
    """The network of a config, and variables to start with or None.

    Arguments and errors are those of `build`.
    """
    if given.published:
        return published(given.name, given.start, data_root)
    model = settings.make_model(given.section, classes, example.shape[1:])
    if given.start is None:
        return model, None
    like = jax.eval_shape(model.init, jax.random.key(0), example)
    return model, arrays.load(given.start, like)


def published(
    name: str, path: str | None, data_root: str | os.PathLike[str] | None
) -> tuple[nn.Module, Any]:
    """A published network and its variables.

    Args:
        name: of `models.checkpoints.CHECKPOINTS`.
        path: of its file; None is that of the data root.
        data_root: as for `build`.
    """
    if path is None:
        root = data.find_root(f"the checkpoint {name!r}", FOLDER, data_root)
        path = str(root / FOLDER / f"{name}.npz")
    return checkpoints.load(name, Path(path).expanduser())


def _rule(
    given: Settings, model: nn.Module, start: Any, example: jax.Array
) -> supervised.Rule:
    """What is learned: weights, and the grids that they are on."""
    rule = supervised.weights_rule()
    if given.quantize.weights is None and given.quantize.inputs is None:
        return rule
    like = start or jax.eval_shape(model.init, jax.random.key(0), example)

    def apply(params: Any) -> Any:
        # Only shapes count.
        stats = jax.tree.map(
            lambda a: jnp.zeros(a.shape, a.dtype), like.get("batch_stats", {})
        )
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, example, mutable=[SITES])[1]

    shapes = jax.eval_shape(lambda tree: tree, like["params"])
    found = steps.places(apply, shapes, given.quantize)
    return steps.add(rule, found, given.quantize)


def _augment(
    given: Settings,
    classes: int,
    example: jax.Array,
    data_root: str | os.PathLike[str] | None,
) -> supervised.Augment | None:
    """What a step makes of its examples, and who teaches them."""
    own = augmentation.make(given.augment, classes)
    told = given.distill
    if told.teacher is None:
        return own
    if _stored(told):
        size = (example.shape[1], example.shape[2])
        return teaching.by_store(size, classes, told, own)
    return teaching.by_network(
        teacher(told.teacher, told.path, data_root), told, own
    )


def teacher(
    name: str, path: str | None, data_root: str | os.PathLike[str] | None
) -> Callable[[jax.Array], Any]:
    """A published network as a function of images; arguments of `published`."""
    model, variables = published(name, path, data_root)
    folded = resnet.fold(variables, model.eps)  # type: ignore[attr-defined]
    plain = model.clone(folded=True)  # type: ignore[call-arg]
    return lambda x: plain.apply(folded, x)


def _stored(given: teaching.Distill) -> bool:
    """Whether the teacher is a folder of its outputs."""
    return (
        given.teacher is not None
        and given.teacher not in checkpoints.CHECKPOINTS
    )


__all__ = [
    "Model",
    "Settings",
    "build",
    "network",
    "parse",
    "prepare",
    "published",
    "teacher",
]
