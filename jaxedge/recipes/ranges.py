"""Input ranges that are learned by gradient, beside what a rule learns.

Each layer learns one number, the size of its range beside the one that the
first batch asked for; the place of zero in it stays. The number is a logarithm:
ranges stay positive, and a step moves all of them alike, whatever the unit of
their inputs (the relative gradient of aihwkit 1.x).

Letter: L layers whose hardware has coded inputs.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.trees import map_named, path_name
from jaxedge.hardware import calibration, converters

# A range shrinks while at least this share of the inputs lies inside, each
# step by this share and the learning rate (`InputRangeParameter` of aihwkit).
USED = 0.95
DECAY = 0.001


class Learned(NamedTuple):
    """What the optimiser moves.

    Attributes:
        own: pytree that the rule learns.
        sizes: logarithm of each range over its start, [L].
    """

    own: Any
    sizes: jax.Array


class Memory(NamedTuple):
    """What a rule with ranges remembers.

    Attributes:
        own: the rule's memory.
        start: each range as the first batch asked for it, [L] each.
    """

    own: Any
    start: converters.Range


def layers(params: Any, plan: Any) -> tuple[str, ...]:
    """Paths of the weights whose hardware has coded inputs, L of them.

    Args:
        params: parameters, or their shapes (`jax.eval_shape`).
        plan: as in `hardware.deploy`.

    Raises:
        UsageError: if there are none.
    """
    plan = hardware.Plan.of(plan)
    chip = jax.eval_shape(hardware.deploy, jax.random.key(0), params, plan)
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        chip, is_leaf=hardware.is_weight
    )
    found = tuple(path_name(path) for path, leaf in leaves if _is_coded(leaf))
    if not found:
        raise checks.UsageError(
            "input ranges are to be learned (train.input_ranges), but the"
            " hardware takes inputs as they are; give hardware.input_bits, such"
            " as 4, or learn none."
        )
    return found


def add(rule: Any, paths: Sequence[str]) -> Any:
    """A `supervised.Rule` that learns ranges too.

    Its learned parameters are `Learned`, its memory `Memory`; the network's
    parameters get a `hardware.Ranged` at each path.

    Args:
        rule: what else is learned.
        paths: from `layers`.
    """

    def init(key: jax.Array, params: Any) -> tuple[Learned, Memory]:
        own, memory = rule.init(key, params)
        one = jnp.ones(len(paths), jnp.float32)
        start = converters.Range(-one, +one)  # Until the first batch.
        return Learned(own, jnp.zeros_like(one)), Memory(memory, start)

    def view(learned: Learned, memory: Memory) -> Any:
        growth = jnp.exp(learned.sizes)
        lo, hi = (growth * end for end in memory.start)

        def attach(path: str, leaf: Any) -> Any:
            if path not in paths:
                return leaf
            i = paths.index(path)
            return hardware.Ranged(leaf, converters.Range(lo[i], hi[i]))

        params = rule.view(learned.own, memory.own)
        return map_named(attach, params, is_leaf=hardware.is_weight)

    def advance(old: Learned, new: Learned, memory: Memory) -> Any:
        own, sums = rule.advance(old.own, new.own, memory.own)
        return memory._replace(own=own), sums

    def review(memory: Memory, metrics: Any) -> Memory:
        return memory._replace(own=rule.review(memory.own, metrics))

    def summary(memory: Memory) -> dict[str, jax.Array]:
        return rule.summary(memory.own)

    return rule._replace(
        init=init, view=view, advance=advance, review=review, summary=summary
    )


def find(
    chip: Any, run: Callable[[Any], Any], paths: Sequence[str]
) -> converters.Range:
    """The ranges that a network asks for on a chip, to start from.

    They hold the share `input_percentile` of the inputs, all of them where the
    design has none (or its `input_range`), and always zero.

    Args:
        chip: deployed parameters, of weights without ranges.
        run: the network on a batch, as for `calibration.observe`.
        paths: from `layers`.

    Returns:
        Limits, [L] each.

    Raises:
        UsageError: as `calibration.observe`.
    """

    def ask(leaf: Any) -> Any:
        if not _is_coded(leaf):
            return leaf
        spec = calibration.settled(leaf.spec)
        share = leaf.spec.input_percentile
        if share is None and spec.input_range is None:
            share = 100.0
        spec = dataclasses.replace(spec, input_percentile=share)
        return dataclasses.replace(leaf, spec=spec)

    chip = jax.tree.map(ask, chip, is_leaf=hardware.is_weight)
    limits: dict[str, Any] = {}

    def note(path: str, leaf: Any) -> None:
        if _is_coded(leaf):
            # A layer that the network does not use needs no range.
            limits[path] = leaf.spec.input_range or (0.0, 0.0)

    fitted = calibration.fit(chip, run)
    map_named(note, fitted, is_leaf=hardware.is_weight)
    lo, hi = (
        jnp.stack([jnp.float32(limits[path][end]) for path in paths])
        for end in (0, 1)
    )
    lo, hi = jnp.minimum(lo, 0), jnp.maximum(hi, 0)
    return converters.Range(lo, jnp.where(hi > lo, hi, 1))


def inside(leaf: Any, x: jax.Array) -> jax.Array:
    """Share of the inputs of an array within its range, []."""
    limits = leaf.spec.input_range
    if limits is None:  # Nothing is clipped.
        return jnp.ones(())
    return 1 - converters.saturation(x, *limits)


def shares(
    seen: Mapping[str, Sequence[jax.Array]], paths: Sequence[str]
) -> jax.Array:
    """What `inside` gave, averaged over the calls of each layer, [L].

    Of a layer that the network does not call nothing is used.

    Args:
        seen: from `calibration.tap`, after the network has run.
        paths: from `layers`.
    """
    found = [seen.get(path, [jnp.zeros(())]) for path in paths]
    return jnp.stack([jnp.mean(jnp.stack(list(calls))) for calls in found])


def penalty(sizes: jax.Array, used: jax.Array) -> jax.Array:
    """Added to a loss: lets ranges shrink of which a part is not used, [].

    Args:
        sizes: of `Learned`, [L].
        used: from `shares`, [L].
    """
    return DECAY * jnp.sum(jnp.where(used > USED, sizes, 0))


def weights_only(learned: Any) -> Any:
    """A mask for weight decay: it would pull sizes to where they began.

    Of any pytree that has what a rule learns as `own`, the rest is left out.
    """
    if not hasattr(learned, "own"):
        return jax.tree.map(lambda leaf: True, learned)
    mask = jax.tree.map(lambda leaf: False, learned)
    return mask._replace(own=weights_only(learned.own))


def _is_coded(node: Any) -> bool:
    """Whether a leaf is an array whose inputs have a resolution."""
    array = isinstance(node, calibration.ARRAYS)
    return array and node.spec.input_bits is not None
