"""Edge pruning of random resistive memory, arXiv:2311.07164.

The weights are random and stay; a score for each decides which edges exist.
"""

import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import map_named
from jaxedge.learn import masks
from jaxedge.recipes import (
    classifier,
    optimizers,
    scores,
    settings,
    supervised,
)
from jaxedge.recipes.recipe import Recipe, Sums


class Learn(NamedTuple):
    """What is learned.

    Attributes:
        rule: "mask" learns the edges of a random network, "weights" trains
            the weights of the same network, the baseline.
        keep: fraction of weights kept in every layer.
        weights: random weights, "signed" constants or "kaiming_normal".
        dead_band_start: relative score change below which a cell keeps its
            state; 0 turns the band off.
        dead_band_stop: where the band ends.
        dead_band_steps: improvements of the selection metric on the way.
        label_smoothing: share of the target that is spread over all classes;
            0 where a config does not say.
    """

    rule: str
    keep: float
    weights: str
    dead_band_start: float
    dead_band_stop: float
    dead_band_steps: int
    label_smoothing: float = 0.0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("learn.rule", self.rule, ("mask", "weights"))
        checks.choice("learn.weights", self.weights, _WEIGHTS)
        checks.in_range("learn.keep", self.keep, 0, 1)
        checks.in_range("learn.dead_band_start", self.dead_band_start, 0)
        checks.in_range(
            "learn.dead_band_stop", self.dead_band_stop, 0, self.dead_band_start
        )
        checks.in_range("learn.dead_band_steps", self.dead_band_steps, 1)
        checks.in_range("learn.label_smoothing", self.label_smoothing, 0, 1)


class Memory(NamedTuple):
    """What the rule remembers beside the scores.

    Attributes:
        weights: frozen random weights; None where a parameter is digital.
        mask: the mask in force, likewise; kept with the scores, because with
            a dead-band the scores alone do not tell it.
        limit: present width of the dead-band, [].
        best: best selection metric so far, [].
        programmed: sets and resets since the start, without the initial
            pruning.
    """

    weights: Any
    mask: Any
    limit: jax.Array
    best: jax.Array
    programmed: masks.Flips


def random_weights(
    key: jax.Array, like: jax.Array, keep: float, kind: str
) -> jax.Array:
    """Weights that are never trained.

    std = sqrt(2 / (keep * fan_in)): the reference scale of a layer of which
    a share `keep` is left (edge_pruning 4.1, trap T1).

    Args:
        key: consumed.
        like: a freshly initialised kernel [..., O], whose signs are taken.
        keep: fraction kept.
        kind: "signed" for sign(like) * std, "kaiming_normal" for N(0, std).
    """
    fan_in = math.prod(like.shape[:-1])
    std = math.sqrt(2 / (max(keep, 1 / fan_in) * fan_in))
    return (_WEIGHTS[kind](key, like) * std).astype(like.dtype)


_WEIGHTS = {
    "signed": lambda key, like: jnp.where(like < 0, -1.0, 1.0),
    "kaiming_normal": lambda key, like: jax.random.normal(key, like.shape),
}


def mask_rule(learn: Learn, select: str = "accuracy") -> supervised.Rule:
    """Learned scores choose which frozen weights exist.

    Matrices and kernels have scores. What no array holds, such as the scale
    and bias of a normalisation, is learned as it is.

    Args:
        learn: how.
        select: the metric whose improvements narrow the dead-band.
    """

    def init(key: jax.Array, params: Any) -> tuple[Any, Memory]:
        def scores(path: str, kernel: jax.Array) -> jax.Array:
            if _digital(path, kernel):
                return kernel
            bound = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
            return jax.random.uniform(
                stream(key, f"scores/{path}"), kernel.shape, kernel.dtype,
                -bound, bound,
            )  # fmt: skip

        def weights(path: str, kernel: jax.Array) -> jax.Array | None:
            if _digital(path, kernel):
                return None
            return random_weights(
                stream(key, f"weights/{path}"),
                kernel,
                learn.keep,
                learn.weights,
            )

        def mask(path: str, score: jax.Array) -> jax.Array | None:
            if _digital(path, score):
                return None
            return masks.top_fraction(score, learn.keep)

        learned = map_named(scores, params)
        return learned, Memory(
            weights=map_named(weights, params),
            mask=map_named(mask, learned),
            limit=jnp.float32(learn.dead_band_start),
            best=jnp.float32(-jnp.inf),
            programmed=masks.Flips(jnp.int32(0), jnp.int32(0)),
        )

    def view(scores: Any, memory: Memory) -> Any:
        return jax.tree.map(
            lambda s, w, m: (
                s if m is None else hardware.MaskedRandom(w, masks.attach(s, m))
            ),
            scores,
            memory.weights,
            memory.mask,
        )

    def advance(old: Any, new: Any, memory: Memory) -> tuple[Memory, Sums]:
        mask = jax.tree.map(
            lambda o, n, m: (
                None
                if m is None
                else masks.dead_band(o, n, m, memory.limit, learn.keep)
            ),
            old,
            new,
            memory.mask,
        )
        # Sums of Flips over the layers.
        layers = jax.tree.map(masks.flips, memory.mask, mask)
        new_flips = jax.tree.map(
            lambda *counts: sum(counts[1:], start=counts[0]),
            *jax.tree.leaves(layers, is_leaf=_is_flips),
        )
        total = jax.tree.map(jnp.add, memory.programmed, new_flips)
        flipped = (new_flips.sets + new_flips.resets).astype(jnp.float32)
        return (
            memory._replace(mask=mask, programmed=total),
            {"flips/total": flipped},
        )

    def review(memory: Memory, metrics: Any) -> Memory:
        # The band narrows whenever the selection metric improves, and is not
        # clamped at its stop (edge_pruning 4.4).
        narrowing = learn.dead_band_start - learn.dead_band_stop
        better = metrics[select] > memory.best
        step = narrowing / learn.dead_band_steps
        limit = jnp.maximum(memory.limit - jnp.where(better, step, 0), 0)
        return memory._replace(
            limit=limit.astype(jnp.float32),
            best=jnp.fmax(memory.best, metrics[select]),
        )

    def summary(memory: Memory) -> dict[str, jax.Array]:
        leaves = jax.tree.leaves(memory.mask)
        size = sum(mask.size for mask in leaves)
        kept = sum(masks.kept_count(m.size, learn.keep) for m in leaves)
        sets, resets = memory.programmed
        return {
            "sets": sets,
            "resets": resets,
            "initial_resets": jnp.int32(size - kept),
            "flips_per_weight": (sets + resets) / size,
        }

    return supervised.Rule(init, view, advance, review, summary)


def _digital(path: str, parameter: Any) -> bool:
    """Whether no array holds it: a bias, a scale, a token, a table."""
    return not hardware.is_deployed(path, parameter)


def _is_flips(node: Any) -> bool:
    return isinstance(node, masks.Flips)


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: settings.Model
    learn: Learn
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    if given.learn.rule == "mask":  # Which edges exist has no average.
        settings.check_unused("optimizer.average", given.optimizer)
    return given


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    **how: Any,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: for the learning-rate schedule.
        data_root: not looked at; this recipe reads no files.
        chip: programs the chip of `train.hardware` "one_chip".
        **how: further arguments of `classifier.assemble`.
    """
    del data_root
    learn = given.learn
    rule = supervised.weights_rule()
    if learn.rule == "mask":
        rule = mask_rule(learn, scores.get(given.train.score, classes).name)
    return classifier.assemble(
        given,
        rule,
        example,
        classes,
        steps_per_epoch,
        chip,
        smoothing=learn.label_smoothing,
        **how,
    )


__all__ = ["Learn", "Memory", "Settings", "build", "mask_rule", "parse"]
