"""A random point-set machine whose readout alone is learned, arXiv:2312.09262.

Sets of points are told apart, or their points where the model has a decoder.
The readout is solved for in closed form, or trained by Adam as in the paper
(`point_ridge`, `point_adam`). A chip has random weights of its own, so each
chip learns a readout for itself, from what it reads, noise included.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.hardware import crossbar
from jaxedge.learn import readout
from jaxedge.models.pointset import (
    Abstraction,
    Inputs,
    PointClassifier,
    PointSegmenter,
)
from jaxedge.recipes import point_adam, point_machine, point_ridge, settings
from jaxedge.recipes.point_machine import Machine
from jaxedge.recipes.recipe import Recipe


class Model(NamedTuple):
    """The encoder; its last abstraction has one group of all points.

    Attributes:
        points: centroids of each abstraction but the last.
        radii: of their neighbourhoods, unit of the points.
        neighbours: of a centroid.
        features: outputs of every abstraction.
        decoder: outputs of every propagation, the coarsest first, as many as
            there are abstractions: points are told apart. Empty: sets are.
        mode: how images become points, of `features.points.MODES`.
        low: value of a pixel that is -1 among the places of points.
        high: value of a pixel that is 1.
        repeat_places: see `pointset.Inputs`.
        categories: columns of a set's one-hot category, its last ones.
    """

    points: tuple[int, ...]
    radii: tuple[float, ...]
    neighbours: tuple[int, ...]
    features: tuple[int, ...]
    decoder: tuple[int, ...]
    mode: str
    low: float
    high: float
    repeat_places: bool
    categories: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        self.inputs.check()
        n = len(self.features) - 1
        for name in ("points", "radii", "neighbours"):
            given = getattr(self, name)
            if len(given) != n:
                raise checks.UsageError(
                    f"model.{name} has {len(given)} entries, but"
                    f" model.features has {n + 1}: one a layer, of which the"
                    " last takes all points."
                )
        for layer in self.layers:
            layer.check()
        if self.decoder and len(self.decoder) != n + 1:
            raise checks.UsageError(
                f"model.decoder has {len(self.decoder)} entries, but"
                f" model.features has {n + 1}: features go back the way they"
                " came, or not at all."
            )
        for width in self.decoder:
            checks.whole("model.decoder", width, 1)
        if self.categories and not self.decoder:
            raise checks.UsageError(
                f"model.categories is {self.categories}, but only a decoder is"
                " shown the category; give model.decoder, or 0."
            )

    @property
    def layers(self) -> tuple[Abstraction, ...]:
        """The abstractions."""
        *near, last = self.features
        sizes = zip(self.points, self.radii, self.neighbours, near, strict=True)
        return (
            *(Abstraction(*size) for size in sizes),
            Abstraction(None, 0.0, 0, last),
        )

    @property
    def inputs(self) -> Inputs:
        """What the inputs are."""
        return Inputs(
            self.mode, self.low, self.high, self.repeat_places, self.categories
        )


class Learn(NamedTuple):
    """How the readout is found.

    Attributes:
        readout: "ridge", solved for in one pass, or "adam", as the paper.
        ridge: penalty of a squared weight, relative to the mean over features
            of their centred sums of squares; None takes the one of
            `point_ridge.GRID` with the least error by generalised
            cross-validation.
        bias: "none", "penalised" or "free", see `learn.readout.solve`.
        calibrate: batches, or frames of a chip, that set the statistics of the
            normalisation layers.
        serve: "own", every chip learns a readout; or "any", one readout is to
            serve chips that learn nothing: fresh chips in training tell how
            far their features are off.
        reads: of every lesson by a chip. The readout learns from their mean,
            and from their variance that a single read has more of it.
        augment: of `point_machine.AUGMENTS`, in training.
        chip_examples: training examples of a chip's own readout.
        chip_epochs: passes over them by Adam.
    """

    readout: str
    ridge: float | None
    bias: str
    calibrate: int
    serve: str
    reads: int
    augment: str
    chip_examples: int
    chip_epochs: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        if self.ridge is not None:
            checks.in_range("learn.ridge", self.ridge, 0, open_low=True)
        checks.choice("learn.readout", self.readout, ("ridge", "adam"))
        checks.choice("learn.bias", self.bias, readout.BIASES)
        checks.choice("learn.serve", self.serve, ("own", "any"))
        checks.choice("learn.augment", self.augment, point_machine.AUGMENTS)
        for name in ("calibrate", "reads", "chip_examples", "chip_epochs"):
            checks.whole(f"learn.{name}", getattr(self, name), 1)
        if self.readout == "adam" and (self.serve == "any" or self.reads > 1):
            raise checks.UsageError(
                f"learn.serve is {self.serve!r} and learn.reads {self.reads},"
                " but noise enters by second moments, which Adam has none of;"
                " take learn.readout='ridge', or 'own' and 1."
            )


class Train(NamedTuple):
    """How long the readout learns; fields of `settings.Train`.

    One epoch is all that the closed form needs without `learn.augment`.
    """

    epochs: int
    batch: int
    evaluate_every: int
    checkpoint_every: int
    select_on: str

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        settings.Train(*self, hardware="ideal", input_ranges=False).check()


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: Model
    learn: Learn
    optimizer: point_adam.Adam
    train: Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    settings.check_unused("data.crop", given.data)
    return given


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
        steps_per_epoch: batches of a pass.
        data_root: not looked at; this recipe reads no files.
        chip: not looked at; no chip is in its training loop.

    Raises:
        UsageError: if the batches that calibrate leave none to learn from, or
            if one readout is to serve chips of random weights.
    """
    del data_root, chip
    learn, plan = given.learn, settings.make_plan(given.hardware)
    memory = isinstance(plan, crossbar.Spec)
    if learn.serve == "any" and memory and crossbar.is_random(plan.device):
        raise checks.UsageError(
            f"learn.serve is 'any', but {given.hardware.device} has random"
            " weights, others on every chip; take 'own', or a device that is"
            " programmed."
        )
    example = jnp.asarray(example)
    machine = make_machine(given.model, example, classes, given.data.name)
    if learn.readout == "adam":
        recipe = point_adam.make(
            machine, learn, given.optimizer, steps_per_epoch, example
        )
    else:
        batches = given.train.epochs * steps_per_epoch
        if batches <= learn.calibrate:
            raise checks.UsageError(
                f"learn.calibrate takes {learn.calibrate} batches, but training"
                f" has {batches}; lower it or train.batch."
            )
        recipe = point_ridge.make(machine, learn, plan, example)
    return machine.complete(recipe, learn.augment)


def make_machine(
    model: Model, example: Any, classes: int, name: str
) -> Machine:
    """The network of a config, for a data set.

    Args:
        model: sizes.
        example: [1, ...] inputs.
        classes: of the data set.
        name: of the data set, whose parts of categories are looked up.
    """
    sets = model.inputs.sets(example)
    if model.points and model.points[0] > sets.shape[1]:
        raise checks.UsageError(
            f"model.points begins with {model.points[0]}, but a set of {name}"
            f" has {sets.shape[1]} points."
        )
    common = {"layers": model.layers, "inputs": model.inputs}
    if not model.decoder:
        network = PointClassifier(classes, **common)
        return Machine(network, model.inputs, model.features[-1], classes)
    network = PointSegmenter(classes, decoder=model.decoder, **common)
    parts = np.ones((1, classes), bool)
    if model.categories:
        known = data.parts_of(name)
        if len(known) != model.categories:
            raise checks.UsageError(
                f"model.categories is {model.categories}, but {name} has"
                f" {len(known)}."
            )
        rows = [np.isin(np.arange(classes), own) for own in known.values()]
        parts = np.stack(rows)
    return Machine(network, model.inputs, model.decoder[-1], classes, parts)
