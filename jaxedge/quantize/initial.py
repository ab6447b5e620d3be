"""How learned steps begin.

One step may be shared by all of an array or by parts of it: `axes` are those
over which it is shared, None for all. The channels of [I, O] have axes 0, the
heads of [heads, I, O] have (1, 2). Steps come in the shape of the array with
ones at `axes`, leading ones dropped, so that they broadcast: [], [O] and
[heads, 1, 1]. They are float32, at least `learned.MIN_STEP`, and without a
gradient.

Parts that are all zero, or constant for `init_offset`, get 1 / high, whose
range is about 1: with a large step, unlike a tiny one, gradients reach what
grows later.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.quantize import learned

_MOST_ROUNDS = 100
_SETTLED = 1e-5


def init_step(
    w: jax.Array,
    bits: ArrayLike,
    *,
    signed: bool = True,
    axes: int | Sequence[int] | None = None,
) -> jax.Array:
    """A step of small squared error, by alternating least squares.

    step <- <w, q> / <q, q> with the codes q of the step before, until it
    changes by less than 1e-5 of itself, at most 100 times (vvtq 4.1). It starts
    from max|w| / high and from 2 mean|w| / sqrt(high), and the better end is
    kept: from the first alone, a few outliers leave all other weights at 0 at 2
    bits (vvtq 7.6).

    Args:
        w: weights, or a batch of activations, floating point.
        bits: [], as for `learned.limits`.
        signed: whether codes are.
        axes: over which one step is shared; None for all.

    Returns:
        The step, float32.
    """
    axes = _reduced(w, axes)
    low, high = _scalar_limits(bits, signed)
    w = jax.lax.stop_gradient(w.astype(jnp.float32))
    size = jnp.abs(w)
    largest = size.max(axes, keepdims=True) / high
    usual = 2 * size.mean(axes, keepdims=True) / jnp.sqrt(high)
    starts = jnp.stack([largest, usual])
    starts = jnp.where(starts > 0, starts, 1 / high)

    def total(a: jax.Array) -> jax.Array:
        return jnp.sum(a, axes, keepdims=True)

    def codes(step: jax.Array) -> jax.Array:
        return jnp.round(jnp.clip(w / step, low, high))

    def refine(state):
        rounds, step, moving = state
        q = codes(step)
        power = total(q * q)
        # Where all codes are 0 the step stays.
        better = total(w * q) / jnp.where(power > 0, power, 1)
        better = jnp.where(moving & (power > 0), better, step)
        # Per part, so that its step does not depend on the other parts.
        moving &= jnp.abs(better - step) >= _SETTLED * step
        return rounds + 1, better, moving

    def settle(step: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, step, _ = jax.lax.while_loop(
            lambda state: jnp.any(state[2]) & (state[0] < _MOST_ROUNDS),
            refine,
            (0, step, jnp.ones(step.shape, bool)),
        )
        return step, total((w - step * codes(step)) ** 2)

    step, error = jax.lax.map(settle, starts)
    best = jnp.where(error[1] < error[0], step[1], step[0])
    return _as_step(best, axes)


def init_act_step(
    x: jax.Array,
    bits: ArrayLike,
    *,
    signed: bool = True,
    axes: int | Sequence[int] | None = None,
) -> jax.Array:
    """The first step of activations, 2 mean|x| / sqrt(high) of one batch.

    Of LSQ, arXiv:1902.08153. VVTQ's code takes the high of signed codes,
    2^(bits-1) - 1, for unsigned ones too (vvtq 4.1): `signed=True` has that.

    Args:
        x: a batch of training activations, floating point.
        bits: [], as for `learned.limits`.
        signed: whether codes are.
        axes: as for `init_step`.

    Returns:
        The step, float32.
    """
    axes = _reduced(x, axes)
    _, high = _scalar_limits(bits, signed)
    size = jnp.abs(jax.lax.stop_gradient(x.astype(jnp.float32)))
    step = 2 * size.mean(axes, keepdims=True) / jnp.sqrt(high)
    return _as_step(jnp.where(step > 0, step, 1 / high), axes)


def init_offset(
    x: jax.Array,
    bits: ArrayLike,
    *,
    signed: bool = False,
    axes: int | Sequence[int] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The first step and offset of `learned.lsq_plus`: the range of a batch.

    The extremes get the extreme codes: step = (max - min) / (high - low) and
    offset = min - step low. A default of ours: how VVTQ's paper begins is
    unknown, its code begins at an offset of 0, and LSQ+ prefers a search for
    the least squared error.

    Args:
        x: a batch of training activations, floating point.
        bits: [], as for `learned.limits`.
        signed: whether codes are.
        axes: as for `init_step`.

    Returns:
        (step, offset), float32, of one shape.
    """
    axes = _reduced(x, axes)
    low, high = _scalar_limits(bits, signed)
    x = jax.lax.stop_gradient(x.astype(jnp.float32))
    least = x.min(axes, keepdims=True)
    step = (x.max(axes, keepdims=True) - least) / (high - low)
    step = jnp.maximum(jnp.where(step > 0, step, 1 / high), learned.MIN_STEP)
    return _squeezed(step, axes), _squeezed(least - step * low, axes)


def _scalar_limits(
    bits: ArrayLike, signed: bool
) -> tuple[jax.Array, jax.Array]:
    """`learned.limits` as float32 []."""
    low, high = (
        jnp.asarray(a, jnp.float32) for a in learned.limits(bits, signed)
    )
    if high.ndim:
        raise checks.UsageError(
            f"bits has shape {high.shape}, but must be one number; vmap over"
            " parts of other bits."
        )
    return low, high


def _reduced(x: jax.Array, axes: int | Sequence[int] | None) -> tuple[int, ...]:
    """The axes of `x` over which a step is shared, none negative."""
    learned.check_floating(x)
    if axes is None:
        return tuple(range(x.ndim))
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    bad = [a for a in axes if not -x.ndim <= a < x.ndim]
    if bad:
        raise checks.UsageError(
            f"axes holds {bad[0]}, but x has shape {x.shape}; give axes in"
            f" [{-x.ndim}, {x.ndim})."
        )
    return tuple(sorted({a % x.ndim for a in axes}))


def _squeezed(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Without the leading ones of reduced axes."""
    leading = 0
    while leading in axes:
        leading += 1
    return a.reshape(a.shape[leading:])


def _as_step(step: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return _squeezed(jnp.maximum(step, learned.MIN_STEP), axes)
