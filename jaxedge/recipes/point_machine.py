"""A frozen encoder of point sets, and what its two kinds of readout share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import points
from jaxedge.learn import readout
from jaxedge.models.pointset import Inputs, Located
from jaxedge.recipes import point_scores, supervised
from jaxedge.recipes.recipe import Recipe, Sums


class Machine(NamedTuple):
    """A network whose encoder is random, and how it is judged.

    Attributes:
        network: `PointClassifier` or `PointSegmenter`.
        inputs: what its inputs are.
        width: features that the readout gets, F.
        classes: of sets or of points, K.
        parts: the parts of each category, bool [C, K], if points are told
            apart; None if sets are.
    """

    network: Any
    inputs: Inputs
    width: int
    classes: int
    parts: Any = None

    def apply(self, variables: Any, x: Any, key: Any = None, **rest) -> Any:
        """The network; `encode=True` stops before the readout."""
        return self.network.apply(variables, x, key=key, **rest)

    def encode(self, params: Any, stats: Any, x: Any, key: Any = None) -> Any:
        """Features of all rows, [R, F]: one a set, or one a point."""
        variables = {"params": params, "batch_stats": stats}
        y = self.apply(variables, x, key, encode=True)
        return y.reshape(-1, self.width)

    def targets(self, batch: Any) -> tuple[jax.Array, jax.Array]:
        """Targets [R, K] and weights [R] of the rows; ignored ones weigh 0."""
        weights = supervised.label_weights(batch).reshape(-1)
        labels = jnp.maximum(batch.y, 0).reshape(-1)
        return readout.class_targets(labels, self.classes), weights

    def calibrated(
        self, params: Any, stats: Any, step: jax.Array, x: Any, key: Any
    ) -> Any:
        """Statistics as means over all batches so far, not decaying ones."""
        _, changed = self.apply(
            {"params": params, "batch_stats": stats},
            x,
            key,
            encode=True,
            train=True,
            mutable=["batch_stats"],
        )
        # The layer mixes 1/10 of the batch in.
        return jax.tree.map(
            lambda old, new: old + 10 * (new - old) / (step + 1),
            stats,
            changed["batch_stats"],
        )

    def scores(self, logits: jax.Array, batch: Any) -> Sums:
        """What a batch adds to the sums of `point_scores.measure`."""
        if self.parts is None:
            return point_scores.of_sets(logits, batch)
        sets = batch.x.sets if isinstance(batch.x, Located) else batch.x
        category = jnp.zeros(len(logits), jnp.int32)
        if self.inputs.categories:
            category = sets[:, 0, -self.inputs.categories :].argmax(-1)
        return point_scores.of_points(
            logits, batch, jnp.asarray(self.parts), category
        )

    def complete(self, recipe: Recipe, augment: str) -> Recipe:
        """A recipe of this machine: how it is judged, and what it is shown."""

        def evaluate(variables: Any, batch: Any, key: Any = None) -> Sums:
            return self.scores(self.apply(variables, batch.x, key), batch)

        def update(state: Any, batch: Any) -> tuple[Any, Sums]:
            key = stream(state.key, "augment", state.step)
            x = changed(key, self.inputs.sets(batch.x), augment)
            return recipe.update(state, batch._replace(x=x))

        return recipe._replace(
            evaluate=evaluate,
            update=recipe.update if augment == "none" else update,
            forward=self.apply,
            measure=point_scores.measure,
            score="accuracy" if self.parts is None else "instance_iou",
            prepare=self.network.locate,
            learns=("readout",),
        )


def changed(key: jax.Array, sets: jax.Array, how: str) -> jax.Array:
    """Sets at random places, as the paper trains (deplm 2); consumes `key`."""
    first, second = stream(key, "first"), stream(key, "second")
    if how == "drop_and_shift":
        sets = points.random_dropout(first, sets)
    elif how == "scale_and_shift":
        sets = points.random_scale(first, sets)
    return points.random_shift(second, sets)


AUGMENTS = ("none", "drop_and_shift", "scale_and_shift")


def calibrate(
    machine: Machine, variables: Any, lessons: Any, key: Any, first: int
) -> tuple[Any, Any]:
    """A chip's own statistics from its first frames; and the other frames."""
    params = variables["params"]
    if len(lessons.y) <= first:
        raise checks.UsageError(
            f"learn.calibrate takes {first} frames of a chip's lessons, but"
            f" there are {len(lessons.y)}; lower it or chips.batch, or raise"
            " learn.chip_examples."
        )

    def step(stats: Any, frame: Any) -> tuple[Any, None]:
        i, batch = frame
        read = None if key is None else stream(key, "read", i)
        return machine.calibrated(params, stats, i, batch.x, read), None

    frames = (jnp.arange(first), jax.tree.map(lambda a: a[:first], lessons))
    stats, _ = jax.lax.scan(step, variables["batch_stats"], frames)
    return stats, jax.tree.map(lambda a: a[first:], lessons)
