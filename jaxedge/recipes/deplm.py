"""A random point-set machine whose readout alone is learned, arXiv:2312.09262.

The first batches set the statistics of the normalisation layers; each batch
after them adds to the second moments of the encoder's features, from which the
readout is solved for in closed form: one pass over the data, no gradient. A
chip has random weights of its own, so each chip learns a readout for itself,
from what it reads, noise included.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import points
from jaxedge.learn import readout, readout_scores, row_blocks
from jaxedge.models.pointset import Abstraction, PointClassifier
from jaxedge.recipes import settings, supervised
from jaxedge.recipes.recipe import Recipe, Sums

# Ridges to choose from, two a decade.
GRID = np.logspace(-4, 1, 11, dtype=np.float32)


class Model(NamedTuple):
    """The encoder; its last abstraction has one group of all points.

    Attributes:
        points: centroids of each abstraction but the last.
        radii: of their neighbourhoods, unit of the points.
        neighbours: of a centroid.
        features: outputs of every abstraction.
        mode: how images become points, of `features.points.MODES`.
        low: value of a pixel that is -1 among the places of points.
        high: value of a pixel that is 1.
    """

    points: tuple[int, ...]
    radii: tuple[float, ...]
    neighbours: tuple[int, ...]
    features: tuple[int, ...]
    mode: str
    low: float
    high: float

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("model.mode", self.mode, points.MODES)
        checks.ordered("model.low", self.low, "model.high", self.high)
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

    @property
    def layers(self) -> tuple[Abstraction, ...]:
        """The abstractions."""
        *near, last = self.features
        sizes = zip(self.points, self.radii, self.neighbours, near, strict=True)
        return (
            *(Abstraction(*size) for size in sizes),
            Abstraction(None, 0.0, 0, last),
        )


class Learn(NamedTuple):
    """How the readout is found.

    Attributes:
        ridge: penalty of a squared weight, relative to the mean over features
            of their centred sums of squares; None takes the one of `GRID` with
            the least error by generalised cross-validation.
        bias: "none", "penalised" or "free", see `learn.readout.solve`.
        calibrate: batches, or frames of a chip, that set the statistics of the
            normalisation layers.
        chip_examples: training examples of a chip's own readout.
    """

    ridge: float | None
    bias: str
    calibrate: int
    chip_examples: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        if self.ridge is not None:
            checks.in_range("learn.ridge", self.ridge, 0, open_low=True)
        checks.choice("learn.bias", self.bias, readout.BIASES)
        checks.whole("learn.calibrate", self.calibrate, 1)
        checks.whole("learn.chip_examples", self.chip_examples, 1)


class Train(NamedTuple):
    """One pass is all that learns; fields of `settings.Train`."""

    epochs: int
    batch: int
    evaluate_every: int
    checkpoint_every: int
    select_on: str

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        settings.Train(*self, hardware="ideal").check()


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: Model
    learn: Learn
    train: Train
    hardware: settings.Hardware


class State(NamedTuple):
    """What a pass carries.

    Attributes:
        step: int32 [].
        key: the run's key.
        params: of the network; the readout's are not looked at.
        stats: of the normalisation layers.
        sums: of the readout.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    stats: Any
    sums: readout.State


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
        steps_per_epoch: batches of a pass, more than `learn.calibrate`.
        data_root: not looked at; this recipe reads no files.
        chip: not looked at; no chip is in its training loop.

    Raises:
        UsageError: if the batches that calibrate leave none to learn from.
    """
    del data_root, chip
    learn, batches = given.learn, given.train.epochs * steps_per_epoch
    if batches <= learn.calibrate:
        raise checks.UsageError(
            f"learn.calibrate takes {learn.calibrate} batches, but training"
            f" has {batches}; lower it or train.batch."
        )
    model = PointClassifier(classes, given.model.layers, given.model.mode)
    width = given.model.features[-1]

    def scaled(x: jax.Array) -> jax.Array:
        if x.ndim != 4:
            return x
        low, high = given.model.low, given.model.high
        return (x - low) * (2 / (high - low)) - 1

    def encode(
        params: Any, stats: Any, x: jax.Array, key: jax.Array | None, **apply
    ) -> Any:
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, scaled(x), key=key, encode=True, **apply)

    def calibrated(
        params: Any, stats: Any, step: jax.Array, x: jax.Array, key: Any
    ) -> Any:
        """Means over all batches so far instead of a decaying one."""
        _, changed = encode(
            params, stats, x, key, train=True, mutable=["batch_stats"]
        )
        # The layer mixes 1/10 of the batch in.
        return jax.tree.map(
            lambda old, new: old + 10 * (new - old) / (step + 1),
            stats,
            changed["batch_stats"],
        )

    def learned(
        sums: readout.State, params: Any, stats: Any, batch: Any, key: Any
    ) -> readout.State:
        features = encode(params, stats, batch.x, key)
        targets = readout.class_targets(batch.y, classes)
        return readout.update(sums, features, targets, batch.weight)

    def step_of(carry: Any, batch: Any, params: Any, key: Any) -> Any:
        """(step, stats, sums) after one more batch."""
        step, stats, sums = carry
        read = None if key is None else stream(key, "read", step)
        first = step < learn.calibrate
        stats = jax.lax.cond(
            first,
            lambda: calibrated(params, stats, step, batch.x, read),
            lambda: stats,
        )
        sums = jax.lax.cond(
            first,
            lambda: sums,
            lambda: learned(sums, params, stats, batch, read),
        )
        return step + 1, stats, sums

    def solved(params: Any, stats: Any, sums: readout.State) -> Any:
        known = row_blocks.totals(sums)
        moment = jnp.trace(known.xx) / width
        ridge = learn.ridge
        if ridge is None:
            errors = readout_scores.gcv(sums, moment * GRID, bias=learn.bias)
            ridge = jnp.asarray(GRID)[jnp.argmin(jnp.mean(errors, 1))]
        found = readout.solve(sums, ridge * moment, bias=learn.bias)
        head = {"kernel": found.matrix, "bias": found.bias}
        return {"params": params | {"readout": head}, "batch_stats": stats}

    def init(key: jax.Array) -> State:
        drawn = model.init(stream(key, "params"), scaled(jnp.asarray(example)))
        return State(
            jnp.int32(0),
            key,
            drawn["params"],
            drawn["batch_stats"],
            readout.init(width, classes),
        )

    def update(state: State, batch: Any) -> tuple[State, Sums]:
        carry = state.step, state.stats, state.sums
        step, stats, sums = step_of(carry, batch, state.params, None)
        state = state._replace(step=step, stats=stats, sums=sums)
        return state, {"count": batch.weight.sum()}

    def finish(state: State) -> Any:
        return solved(state.params, state.stats, state.sums)

    def forward(
        variables: Any, x: jax.Array, key: jax.Array | None = None, **apply
    ) -> Any:
        return model.apply(variables, scaled(x), key=key, **apply)

    def evaluate(
        variables: Any, batch: Any, key: jax.Array | None = None
    ) -> Sums:
        return supervised.cross_entropy(forward(variables, batch.x, key), batch)

    def adapt(variables: Any, lessons: Any, key: jax.Array) -> Any:
        params, stats = variables["params"], variables["batch_stats"]
        zero = jnp.int32(0), stats, readout.init(width, classes)

        def step(carry: Any, batch: Any) -> tuple[Any, None]:
            return step_of(carry, batch, params, key), None

        (_, stats, sums), _ = jax.lax.scan(step, zero, lessons)
        return solved(params, stats, sums)

    return Recipe(
        init,
        update,
        finish,
        evaluate,
        review=lambda state, metrics: state,
        forward=forward,
        summary=lambda state: {},
        adapt=adapt,
        lessons=learn.chip_examples,
    )
