"""Digital-to-analogue and analogue-to-digital conversion.

Every converter passes its gradient straight through, inside its range.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks

# Samples of which percentiles are taken, at most.
_SORTED = 2**19


def straight_through(x: jax.Array, value: jax.Array) -> jax.Array:
    """`value` forward, exactly; the gradient of `x` backward."""
    return jax.lax.stop_gradient(value) + (x - jax.lax.stop_gradient(x))


def within(x: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """Clips; the slope is 1 up to and on the bounds, where clip has a half."""
    outside = (x < low) | (x > high)
    return jnp.where(outside, jnp.clip(x, low, high), x)


def uniform(x: jax.Array, lo: ArrayLike, hi: ArrayLike, bits: int) -> jax.Array:
    """Rounds to 2^bits levels between `lo` and `hi` and clips outside.

    code = clip(round((x - lo) / step), 0, 2^bits - 1), step = (hi - lo) /
    (2^bits - 1), halves to even (device_physics D.6). Where hi equals lo the
    only level is lo. Outside the range the gradient is zero.

    Args:
        x: any shape and unit.
        lo: lowest level, broadcastable to `x`, unit of `x`.
        hi: highest level.
        bits: resolution, at least 1.

    Returns:
        The value of the code, shape and dtype of `x`.
    """
    check_bits("bits", bits)
    levels = 2**bits - 1
    step = (hi - jnp.asarray(lo, x.dtype)) / levels
    safe = jnp.where(step > 0, step, 1)
    code = jnp.clip(jnp.round((x - lo) / safe), 0, levels)
    value = (lo + code * step).astype(x.dtype)
    return straight_through(within(x, lo, hi), value)


def signed(x: jax.Array, limit: ArrayLike, bits: int) -> jax.Array:
    """Rounds to the 2^bits - 1 levels of a converter with a level at zero.

    code = clip(round(x / step), -n, n), n = 2^(bits-1) - 1, step = limit / n:
    the codes of a differential converter, whose most negative one is not used
    (as in AIHWKit). An even number of levels would read no current as half a
    step. Outside the range the gradient is zero.

    Args:
        x: any shape and unit.
        limit: largest level, at least 0, broadcastable to `x`, unit of `x`;
            where it is 0 the only level is 0.
        bits: resolution, at least 2.

    Returns:
        The value of the code, shape and dtype of `x`.

    Examples:
        >>> signed(jnp.array([-2.0, 0.1, 0.4]), 0.75, bits=3).tolist()
        [-0.75, 0.0, 0.5]
    """
    check_bits("bits", bits, 2)
    largest = 2 ** (bits - 1) - 1
    limit = jnp.asarray(limit, x.dtype)
    step = limit / largest
    safe = jnp.where(step > 0, step, 1)
    code = jnp.clip(jnp.round(x / safe), -largest, largest)
    return straight_through(within(x, -limit, limit), code * step)


class Range(NamedTuple):
    """Limits of a converter, unit of what it converts."""

    lo: jax.Array
    hi: jax.Array


def calibrate(
    samples: jax.Array,
    bits: int,
    percentile: ArrayLike = 100.0,
    *,
    axis: int | Sequence[int] | None = None,
) -> Range:
    """The range of `uniform` that holds the middle of some samples.

    A share (100 - percentile) / 2 per cent of the samples lies below the range
    and as much above (the calibrated ranges of cross-sim; device_physics D.8).
    Where the samples have both signs the range moves by up to half a step, so
    that one level is exactly zero: else no signal would read as a signal.

    Args:
        samples: partial sums or activations, any shape and unit, of inputs as
            they will come.
        bits: resolution, at least 1.
        percentile: share of the samples inside, per cent, in (0, 100]; 100 is
            the range of the samples.
        axis: axes of the samples; the others keep a range each, such as one a
            tile. None takes all, and of more than 2^19 samples every n-th for a
            percentile below 100.

    Returns:
        Limits, of the shape that is left; equal for constant samples.

    Raises:
        UsageError: for no samples, NaN or infinite ones, or a percentile out
            of its range.
    """
    check_bits("bits", bits)
    checks.in_range("percentile", percentile, 0, 100, open_low=True)
    samples = jnp.asarray(samples)
    if not samples.size:
        raise checks.UsageError(
            f"samples of shape {samples.shape} are none; give some vectors."
        )
    checks.finite("samples", samples)
    axis = tuple(axis) if isinstance(axis, Sequence) else axis
    tail = (100 - jnp.asarray(percentile)) / 2
    some = _some(samples) if axis is None else samples
    lo = jnp.percentile(some, tail, axis)
    hi = jnp.percentile(some, 100 - tail, axis)
    if some.size < samples.size:  # The range of all is that of all.
        lo = jnp.where(tail <= 0, samples.min(), lo)
        hi = jnp.where(tail <= 0, samples.max(), hi)
    return with_zero(Range(lo, hi), bits)


def _some(samples: jax.Array) -> jax.Array:
    """All samples, or of more than can be sorted quickly every n-th.

    n shares no divisor with their number, so that they come from all places of
    all axes.
    """
    n = -(-samples.size // _SORTED)
    while math.gcd(n, samples.size) > 1:
        n += 1
    return samples.reshape(-1)[::n]


def with_zero(limits: Range, bits: int) -> Range:
    """A range of both signs moved by up to half a step, to a level at zero.

    Args:
        limits: any shape and unit; those of one sign stay.
        bits: resolution, at least 1.
    """
    lo, hi = limits
    levels = 2**bits - 1
    step = (hi - lo) / levels
    below = jnp.round(-lo / jnp.where(step > 0, step, 1))
    both = (lo < 0) & (hi > 0)
    moved = jnp.where(both, -below * step, lo)
    return Range(moved, jnp.where(both, moved + levels * step, hi))


def union(ranges: Sequence[Range]) -> Range:
    """The range that holds all of some ranges, [] each."""
    low, high = (jnp.stack(ends) for ends in zip(*ranges, strict=True))
    return Range(jnp.min(low), jnp.max(high))


def saturation(x: jax.Array, lo: ArrayLike, hi: ArrayLike) -> jax.Array:
    """Share of `x` that a converter from `lo` to `hi` clips, in [0, 1], [].

    Half a step beyond a limit still rounds to it, but counts.
    """
    return jnp.mean((x < lo) | (x > hi), dtype=jnp.float32)


def affine(
    x: jax.Array, bits: int, limits: Range | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Splits vectors into unsigned codes: x is about step * code + low.

    Args:
        x: [..., I].
        bits: resolution, at least 1.
        limits: of all vectors, unit of `x`; None gives each vector its own.
            Inputs beyond are clipped. Their gradient is that of learned steps:
            all of what is clipped, and the rounding error elsewhere.

    Returns:
        code [..., I], whole numbers in [0, 2^bits - 1] whose gradient is that
        of (x - low) / step; step and low [..., 1], or [] with limits; all of
        them at least float32. A constant vector has code 0 (device_physics
        D.6).
    """
    check_bits("input_bits", bits)
    # bfloat16 cannot tell 127 from 128, which would be bit plane 7 alone.
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if limits is None:
        low = jax.lax.stop_gradient(x.min(-1, keepdims=True))
        high = jax.lax.stop_gradient(x.max(-1, keepdims=True))
    else:
        low, high = (jnp.asarray(limit, x.dtype) for limit in limits)
        x = within(x, low, high)
    levels = 2**bits - 1
    step = (high - low) / levels
    scaled = (x - low) / jnp.where(step > 0, step, 1)
    code = jnp.clip(jnp.round(scaled), 0, levels)
    return straight_through(scaled, code), step, low


def bit_planes(code: jax.Array, bits: int) -> jax.Array:
    """Binary digits of whole numbers, least first: [..., I] -> [bits, ..., I].

    The gradient of plane k is that of code / (bits * 2^k), so that the
    weighted sum of the planes has the gradient of the code.
    """
    whole = jax.lax.stop_gradient(code).astype(jnp.int32)
    planes = [
        straight_through(
            code / (bits * 2**k), ((whole >> k) & 1).astype(code.dtype)
        )
        for k in range(bits)
    ]
    return jnp.stack(planes)


def check_bits(name: str, bits: int | None, low: int = 1) -> None:
    """Raises unless `bits` is None or a whole number in [low, 24]."""
    if bits is None:
        return
    whole = isinstance(bits, int) and not isinstance(bits, bool)
    if not whole or not low <= bits <= 24:
        raise checks.UsageError(
            f"{name} is {bits!r}, but must be a whole number in [{low}, 24], or"
            " None for no quantisation."
        )
