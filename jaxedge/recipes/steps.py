"""Weights and inputs on integer grids whose steps are learned by gradient.

Quantization-aware training by learned step sizes (LSQ, as vvtq 4 and qat_acs 3
have it), for any network: every matrix and kernel becomes a `LearnedStep`, and
every place that a network shows (`models.layers.site`) a grid.

Letter: G groups of a tensor with steps of their own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core.trees import map_named
from jaxedge.hardware import calibration
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize import integer, variation
from jaxedge.quantize.grid import Grid
from jaxedge.recipes import supervised
from jaxedge.recipes.grid_places import Place as Place
from jaxedge.recipes.grid_places import Places as Places
from jaxedge.recipes.grid_places import Quantize as Quantize
from jaxedge.recipes.grid_places import places as places
from jaxedge.recipes.grid_places import sites_of

# What a grid of inputs is named by, beside the path of its kernel.
_INPUTS = ":inputs"
# Inputs that fall below zero by at most this share of their largest, such as
# those behind a GELU, have a grid with an offset. Our choice.
_SHALLOW = 0.25


class Learned(NamedTuple):
    """What the optimiser moves.

    Attributes:
        own: pytree that the rule learns.
        steps: of weights, [G] by path.
        input_steps: of inputs and places, likewise.
        offsets: of inputs and places, [] by path.
    """

    own: Any
    steps: dict[str, jax.Array]
    input_steps: dict[str, jax.Array]
    offsets: dict[str, jax.Array]


class Memory(NamedTuple):
    """What a rule with grids remembers; all of it numbers, by path.

    Attributes:
        own: the rule's memory.
        bits: of weights, [].
        low: smallest codes of inputs and places, [].
        high: largest codes, [].
        moved: whether they have an offset, 0 or 1, [].
        trackers: of the weights' codes, where they are followed.
        held: of these the weights that are frozen, where some may be.
    """

    own: Any
    bits: dict[str, jax.Array]
    low: dict[str, jax.Array]
    high: dict[str, jax.Array]
    moved: dict[str, jax.Array]
    trackers: dict[str, variation.Tracker]
    held: dict[str, variation.Held]


def add(
    rule: supervised.Rule, found: Places, given: Quantize
) -> supervised.Rule:
    """A rule that learns grids too.

    Args:
        rule: what else is learned; its view has plain arrays.
        found: from `places`.
        given: how.
    """
    met = {path + _INPUTS: place for path, place in found.inputs.items()}
    met |= found.sites

    def init(key: jax.Array, params: Any) -> tuple[Learned, Memory]:
        own, memory = rule.init(key, params)
        one = {path: jnp.ones(p.groups) for path, p in met.items()}
        w = _weights(rule.view(own, memory), found)
        bits = {
            path: jnp.float32(place.bits)
            for path, place in found.weights.items()
        }
        steps = {path: _first_step(w[path], found.weights[path]) for path in w}
        limits = {path: integer.limits(p.bits) for path, p in met.items()}
        learned = Learned(own, steps, one, {p: jnp.zeros(()) for p in met})
        memory = Memory(
            own=memory,
            bits=bits,
            low={path: jnp.float32(low) for path, (low, _) in limits.items()},
            high={path: jnp.float32(top) for path, (_, top) in limits.items()},
            moved={path: jnp.zeros(()) for path in met},
            trackers={},
            held={},
        )
        if not given.track:
            return learned, memory
        codes = _codes(w, learned, memory)
        trackers = {path: variation.start(c) for path, c in codes.items()}
        if given.freeze is None:
            return learned, memory._replace(trackers=trackers)
        # None of them: nothing has oscillated yet.
        held = {
            path: variation.freeze(tracker, threshold=given.freeze)
            for path, tracker in trackers.items()
        }
        return learned, memory._replace(trackers=trackers, held=held)

    def begin(
        learned: Learned, memory: Memory, run: Callable[[Any], Any]
    ) -> tuple[Learned, Memory]:
        params = rule.view(learned.own, memory.own)
        notes: dict[str, list[_Fit]] = {}

        def look(path: str, x: jax.Array) -> None:
            notes.setdefault(path, []).append(_fit(x, met[path], given.signs))

        tapped, calls = calibration.tap(
            params,
            lambda leaf, x: x,
            lambda path, leaf: path in found.inputs,
        )
        shown = sites_of(run(tapped), every=True)
        for path, seen in calls.items():
            for x in seen:
                look(path + _INPUTS, x)
        for path in found.sites:
            for x in shown.get(path, ()):
                look(path, x)
        fits = {path: _joined(calls) for path, calls in notes.items()}

        # A layer that the network does not use keeps what it has.
        def pick(old: Any, name: str) -> Any:
            return {**old, **{p: getattr(fit, name) for p, fit in fits.items()}}

        learned = learned._replace(
            input_steps=pick(learned.input_steps, "step"),
            offsets=pick(learned.offsets, "offset"),
        )
        memory = memory._replace(
            low=pick(memory.low, "low"),
            high=pick(memory.high, "high"),
            moved=pick(memory.moved, "moved"),
        )
        return learned, memory

    def grid_of(
        path: str, place: Place, learned: Learned, memory: Memory
    ) -> Grid:
        return Grid(
            learned.input_steps[path],
            memory.low[path],
            memory.high[path],
            memory.moved[path] * learned.offsets[path],
            place.axis,
        )

    def view(learned: Learned, memory: Memory) -> Any:
        def attach(path: str, w: Any) -> Any:
            own = inputs = None
            if path in found.weights:
                own = weight_grid(path, learned, memory)
                w = hold(path, w, own, memory)
            if path in found.inputs:
                place = found.inputs[path]
                inputs = grid_of(path + _INPUTS, place, learned, memory)
            if own is None and inputs is None:
                return w
            return LearnedStep(w, own, inputs)

        params = map_named(attach, rule.view(learned.own, memory.own))
        for path, place in found.sites.items():
            leaf = grid_of(path, place, learned, memory)
            params = _placed(params, path, leaf)
        return params

    def weight_grid(path: str, learned: Learned, memory: Memory) -> Grid:
        low, high = map(jnp.asarray, integer.limits(memory.bits[path]))
        return Grid(learned.steps[path], low, high, scale=given.scale)

    def hold(path: str, w: jax.Array, grid: Grid, memory: Memory) -> jax.Array:
        """Frozen weights at their levels, which move with the step alone."""
        if path not in memory.held:
            return w
        held = memory.held[path]
        factor = integer.gradient_scale(
            given.scale, w, grid.high, groups=grid.step.size
        )
        # As `quantize.grid` rounds by it, which has a least step.
        step = integer.fitted_step(grid.steps(w), w.shape)
        step = integer.scaled_gradient(step, factor)
        level = step * held.codes.astype(jnp.float32)
        return jnp.where(held.mask, level.astype(w.dtype), w)

    def _codes(w: Any, learned: Learned, memory: Memory) -> Any:
        return {
            path: weight_grid(path, learned, memory).codes(w[path])
            for path in found.weights
        }

    def advance(old: Learned, new: Learned, memory: Memory) -> Any:
        own, sums = rule.advance(old.own, new.own, memory.own)
        memory = memory._replace(own=own)
        if not given.track or not found.weights:
            return memory, sums
        w = _weights(rule.view(new.own, own), found)
        codes = _codes(w, new, memory)
        before = memory.trackers
        for path, held in memory.held.items():
            codes[path] = jnp.where(held.mask, held.codes, codes[path])
        moved = {p: variation.flips(before[p].codes, codes[p]) for p in codes}
        after = {p: variation.track(before[p], codes[p]) for p in codes}
        # By how much the share rises: the sum over all steps is that of the
        # last, whichever batches there were.
        rise = _oscillating(after) - _oscillating(before)
        sums = {
            **sums,
            "flips/total": _share(moved, w),
            "oscillating_rise/total": rise,
        }
        memory = memory._replace(trackers=after)
        if given.freeze is not None:
            held = {
                p: variation.freeze(
                    after[p], memory.held[p], threshold=given.freeze
                )
                for p in after
            }
            memory = memory._replace(held=held)
        return memory, sums

    def penalty(
        learned: Learned, memory: Memory, progress: jax.Array
    ) -> jax.Array:
        w = _weights(rule.view(learned.own, memory.own), found)
        terms = []
        for path in found.weights:
            grid = weight_grid(path, learned, memory)
            factor = integer.gradient_scale(
                given.scale, w[path], grid.high, groups=grid.step.size
            )
            terms.append(
                variation.bin_regulariser(
                    hold(path, w[path], grid, memory),
                    grid.steps(w[path]),
                    bits=memory.bits[path],
                    grad_scale=factor,
                )
            )
        weight = variation.schedule(
            progress, start=given.regulariser_start, top=given.regulariser
        )
        return weight * sum(terms, start=jnp.zeros(()))

    def review(memory: Memory, metrics: Any) -> Memory:
        return memory._replace(own=rule.review(memory.own, metrics))

    def summary(memory: Memory) -> dict[str, jax.Array]:
        own = rule.summary(memory.own)
        if not memory.trackers:
            return own
        found = {**own, "oscillating": _oscillating(memory.trackers)}
        if memory.held:
            masks = {path: held.mask for path, held in memory.held.items()}
            shares = {path: jnp.mean(mask) for path, mask in masks.items()}
            found["frozen"] = _share(shares, masks)
        return found

    return supervised.Rule(
        init=init,
        view=view,
        advance=advance,
        review=review,
        summary=summary,
        begin=begin,
        penalty=penalty if given.regulariser and found.weights else None,
    )


def rates(given: Quantize, learned: Any) -> Any:
    """How fast each part of `Learned` moves, over the weights' rate."""
    if not isinstance(learned, Learned):
        return jax.tree.map(lambda leaf: 1.0, learned)
    part = lambda tree, rate: jax.tree.map(lambda leaf: rate, tree)  # noqa: E731
    return Learned(
        part(learned.own, 1.0),
        part(learned.steps, given.step_rate),
        part(learned.input_steps, given.input_rate),
        part(learned.offsets, given.input_rate),
    )


def trackers(memory: Any) -> dict[str, variation.Tracker]:
    """Those of a rule's memory, whatever other rules lie around it."""
    while memory is not None and not isinstance(memory, Memory):
        memory = getattr(memory, "own", None)
    return {} if memory is None else memory.trackers


class _Fit(NamedTuple):
    """What one tensor asks of its grid: step [G], the others []."""

    step: jax.Array
    low: jax.Array
    high: jax.Array
    offset: jax.Array
    moved: jax.Array


def _fit(x: jax.Array, place: Place, signs: str) -> _Fit:
    """A grid by the first tensor that it meets, [..., axis, ...]."""
    x = jax.lax.stop_gradient(x.astype(jnp.float32))
    parts = jnp.moveaxis(x, place.axis, 0).reshape(place.groups, -1)
    low, top = integer.limits(place.bits, signed=True)
    high = integer.limits(place.bits, signed=False)[1]

    def step(x: jax.Array, signed: bool) -> jax.Array:
        one = lambda x: integer.init_act_step(  # noqa: E731
            x, place.bits, signed=signed
        )
        return jax.vmap(one)(x)

    both = step(parts, True)
    zero = jnp.zeros(())
    signed = _Fit(both, jnp.float32(low), jnp.float32(top), zero, zero)
    if signs == "signed":
        return signed
    least, most = x.min(), x.max()
    positive = least >= 0
    shallow = ~positive & (-least < _SHALLOW * most)
    up = positive | shallow
    offset = jnp.where(shallow, least, 0)
    return _Fit(
        jnp.where(up, step(parts - offset, False), both),
        jnp.where(up, 0, low).astype(jnp.float32),
        jnp.where(up, high, top).astype(jnp.float32),
        offset,
        shallow.astype(jnp.float32),
    )


def _joined(calls: list[_Fit]) -> _Fit:
    """Of a layer that is called more than once: the first's kind, mean step."""
    step = jnp.mean(jnp.stack([call.step for call in calls]), 0)
    return calls[0]._replace(step=step)


def _first_step(w: jax.Array, place: Place) -> jax.Array:
    """Steps of the groups of a weight, [G]."""
    parts = jnp.moveaxis(w, -1, 0).reshape(place.groups, -1)
    return jax.vmap(lambda w: integer.init_step(w, place.bits))(parts)


def _oscillating(trackers: Mapping[str, variation.Tracker]) -> jax.Array:
    """The share of all weights that oscillate, float32 []."""
    shares = {p: variation.oscillating(t) for p, t in trackers.items()}
    return _share(shares, {p: t.codes for p, t in trackers.items()})


def _share(shares: Mapping[str, jax.Array], sizes: Mapping[str, Any]) -> Any:
    """Mean of the layers' shares, each counted by its size."""
    total = sum(sizes[path].size for path in shares)
    weighed = [shares[path] * (sizes[path].size / total) for path in shares]
    return jnp.sum(jnp.stack(weighed))


def _weights(params: Any, found: Places) -> dict[str, jax.Array]:
    """The weights that have grids, by path."""
    kept: dict[str, jax.Array] = {}

    def note(path: str, w: Any) -> None:
        if path in found.weights:
            kept[path] = w

    map_named(note, params)
    return kept


def _placed(params: Any, path: str, leaf: Any) -> Any:
    """Nested dicts with one more leaf."""
    head, _, rest = path.partition("/")
    if not rest:
        return {**params, head: leaf}
    return {**params, head: _placed(params.get(head, {}), rest, leaf)}
