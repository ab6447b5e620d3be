"""Integer quantisers whose step is learned.

A step is the distance between two levels. It has any shape that broadcasts to
that of what it quantises: [] for a tensor, [O] for the channels of [..., I, O],
[heads, 1, 1] for the heads of [heads, I, O]. Codes are the whole numbers in
[low, high], from `limits`. Those, the steps and the scales of gradients may all
be traced, so that another number of bits is no other program.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks

# Steps are used as if they were at least this (vvtq 4.1).
MIN_STEP = 1e-4
GRADIENT_SCALES = ("count", "count_released", "l1", "l1_published", "none")


def limits(bits: ArrayLike, signed: bool = True) -> tuple[ArrayLike, ArrayLike]:
    """The smallest and the largest code, Qn and Qp.

    Args:
        bits: whole, in [2, 8]; if traced, unchecked and rounded. No gradient
            reaches it.
        signed: codes in [-2^(bits-1), 2^(bits-1) - 1], else [0, 2^bits - 1].

    Returns:
        (low, high): Python integers for a Python integer, else float32 in the
        shape of `bits`.

    Raises:
        UsageError: for bits outside [2, 8] or between two whole numbers.
    """
    checks.in_range("bits", bits, 2, 8)
    if isinstance(bits, (int, np.integer)):
        bits = int(bits)
        if signed:
            return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return 0, 2**bits - 1
    if checks.concrete(bits) and np.any(np.asarray(bits) % 1):
        raise checks.UsageError(
            f"bits is {bits}, but must be whole; round it first."
        )
    # A shift, as 2.0**n is not a whole number on every device.
    places = jnp.round(jnp.asarray(bits, jnp.float32)).astype(jnp.int32)
    count = jnp.left_shift(1, places - int(signed)).astype(jnp.float32)
    return (-count if signed else jnp.zeros_like(count)), count - 1


def lsq(
    x: jax.Array,
    step: ArrayLike,
    *,
    low: ArrayLike,
    high: ArrayLike,
    grad_scale: ArrayLike = 1.0,
) -> jax.Array:
    """Rounds to a grid of a learned step: step * round(clip(x / step)).

    Halves go to even. With v = x / step, the gradient of x passes straight
    through where low <= v <= high and is 0 elsewhere; that of the step is
    grad_scale times the sum, over what shares the step, of the incoming
    gradient times round(v) - v inside, `low` below and `high` above (LSQ,
    arXiv:1902.08153; vvtq 4.1). The edges are inside, as in VVTQ's explicit
    gradient; LSQ's formula has them outside, where a step gets `low` or `high`.

    Args:
        x: floating point, any shape; computed in float32.
        step: above 0, broadcastable to `x`. A traced step below `MIN_STEP` is
            used as `MIN_STEP`, and its gradient is that of the step used, so
            that it can grow again, as the released code has it, whose step is
            set to the limit.
        low: smallest code, broadcastable to `x`.
        high: largest code, above `low`, broadcastable to `x`.
        grad_scale: of the step's gradient, from `gradient_scale`,
            broadcastable to `step`.

    Returns:
        Shape and dtype of `x`. NaN stays NaN.

    Raises:
        UsageError: for a known step that is not above 0, limits out of order,
            or shapes that do not fit.

    Examples:
        >>> x = jnp.array([0.3, 0.8, 9.0])
        >>> lsq(x, 0.5, low=-8, high=7).tolist()
        [0.5, 1.0, 3.5]
    """
    return lsq_plus(x, step, 0.0, low=low, high=high, grad_scale=grad_scale)


def lsq_plus(
    x: jax.Array,
    step: ArrayLike,
    offset: ArrayLike,
    *,
    low: ArrayLike,
    high: ArrayLike,
    grad_scale: ArrayLike = 1.0,
) -> jax.Array:
    """`lsq` of x - offset, with the offset added again.

    The gradient of the offset is the sum of what comes in outside the range: 0
    inside (LSQ+, arXiv:2004.09576). It is not scaled, as in the released code
    (vvtq 4.1); give `scaled_gradient(offset, ...)` if it should be.

    Args:
        x: as for `lsq`.
        step: as for `lsq`.
        offset: of code 0, broadcastable to `x`.
        low: as for `lsq`.
        high: as for `lsq`.
        grad_scale: as for `lsq`.

    Returns:
        Shape and dtype of `x`.
    """
    step, low, high = _checked(x, step, low, high)
    return _quantised(
        x,
        scaled_gradient(step, grad_scale),
        _fitted("offset", offset, x.shape),
        low,
        high,
    )


def pact(x: jax.Array, limit: ArrayLike, *, bits: ArrayLike) -> jax.Array:
    """Clips to [0, limit] and rounds to 2^bits - 1 steps (PACT).

    Halves go to even. The gradient of x passes straight through where 0 <= x <
    limit, and that of the limit is the sum of what comes in where x >= limit
    (PACT, arXiv:1805.06085). No gradient reaches `bits`.

    Args:
        x: floating point, any shape; computed in float32.
        limit: above 0, broadcastable to `x`; a traced one below `MIN_STEP` is
            used as `MIN_STEP`.
        bits: as for `limits`, [] or broadcastable to `x`.

    Returns:
        Shape and dtype of `x`.
    """
    check_floating(x)
    _, levels = limits(bits, signed=False)
    limit = _usable("limit", limit, x.shape)
    return _clipped_relu(x, limit, _fitted("bits", levels, x.shape))


def code(
    x: jax.Array,
    step: ArrayLike,
    *,
    low: ArrayLike,
    high: ArrayLike,
    offset: ArrayLike = 0.0,
) -> jax.Array:
    """The codes round(clip((x - offset) / step)) of `lsq` and `lsq_plus`.

    Args:
        x: as for `lsq`, but finite.
        step: as for `lsq`.
        low: as for `lsq`.
        high: as for `lsq`.
        offset: as for `lsq_plus`.

    Returns:
        int32, shape of `x`; signed codes of up to 8 bits fit int8.
    """
    step, low, high = _checked(x, step, low, high)
    checks.finite("x", x)
    v = _over(x, step, _fitted("offset", offset, x.shape))
    return jnp.round(jnp.clip(v, low, high)).astype(jnp.int32)


def clipped(
    x: jax.Array,
    step: ArrayLike,
    *,
    low: ArrayLike,
    high: ArrayLike,
    grad_scale: ArrayLike = 1.0,
) -> jax.Array:
    """`lsq` without the rounding: clip(x / step) * step, x itself inside.

    The gradient of the step is `low` below and `high` above, and 0 inside.

    Args:
        x: as for `lsq`.
        step: as for `lsq`.
        low: as for `lsq`.
        high: as for `lsq`.
        grad_scale: as for `lsq`.

    Returns:
        Shape and dtype of `x`.
    """
    step, low, high = _checked(x, step, low, high)
    v = _over(x, jax.lax.stop_gradient(step), jnp.zeros_like(step))
    step = scaled_gradient(step, grad_scale)
    # Not a product of v, whose gradient leaves a rounding error in the step.
    outside = jnp.where(v > high, high * step, x.astype(jnp.float32))
    return jnp.where(v < low, low * step, outside).astype(x.dtype)


def scaled_gradient(a: jax.Array, scale: ArrayLike) -> jax.Array:
    """`a` forward, and its gradient times a scale backward.

    Args:
        a: floating point, any shape.
        scale: broadcastable to `a`; no gradient reaches it.
    """
    scale = jax.lax.stop_gradient(_fitted("grad_scale", scale, a.shape))
    still = jax.lax.stop_gradient(a)
    return still + scale.astype(a.dtype) * (a - still)


def gradient_scale(
    kind: str, x: jax.Array, high: ArrayLike, *, groups: int = 1
) -> jax.Array:
    """By how much the gradient of a step is scaled.

    A step gathers gradients from all that it quantises, and a weight its own
    alone. Unscaled, a step of many weights moves much faster, against its size,
    than the weights do, and the more so the more codes there are; the scale
    brings the two relative changes to one order (LSQ, arXiv:1902.08153).

    - "count": 1 / sqrt(n high), of LSQ.
    - "count_released": 1 / (sqrt(n) high), which VVTQ's code has for
      activations.
    - "l1": 1 / sqrt(|x|_1 high), which VVTQ's code has for weights and heads:
      modules of small weights learn their steps faster.
    - "l1_published": 1 / (sqrt(high) |x|_1), as its formula is told, without
      the root over the norm (vvtq 7.7).
    - "none": 1.

    Args:
        kind: one of `GRADIENT_SCALES`.
        x: what is quantised, any shape. Activations count with their batch, as
            in the released code.
        high: largest code, above 0.
        groups: how many channels or heads have a step of their own; n and the
            norm are divided by it.

    Returns:
        float32, shape of `high`, without a gradient. Where the norm is 0, as of
        weights that are all zero, it counts as 1.

    Raises:
        UsageError: for an unknown kind, or groups that do not divide x.size.
    """
    checks.choice("kind", kind, GRADIENT_SCALES)
    checks.whole("groups", groups, 1)
    checks.in_range("high", high, 0, open_low=True)
    if x.size % groups:
        raise checks.UsageError(
            f"groups is {groups}, but must divide the {x.size} entries of x,"
            f" {x.shape}; give the number of steps."
        )
    high = jax.lax.stop_gradient(jnp.asarray(high, jnp.float32))
    if kind == "none":
        return jnp.ones_like(high)
    if kind.startswith("count"):
        n = x.size / groups
        inverse = 1 / jnp.sqrt(n * high)
        return inverse if kind == "count" else inverse / jnp.sqrt(high)
    size = jnp.abs(jax.lax.stop_gradient(x)).astype(jnp.float32)
    norm = jnp.sum(size) / groups
    norm = jnp.where(norm > 0, norm, 1)
    if kind == "l1":
        return 1 / jnp.sqrt(norm * high)
    return 1 / (jnp.sqrt(high) * norm)


def fitted_step(step: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """The step that is used: as many axes as `shape`, at least `MIN_STEP`.

    Its gradient passes as if nothing were limited.
    """
    return _usable("step", step, shape)


def check_floating(x: jax.Array) -> None:
    """Raises UsageError unless `x` is floating point."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"x is {x.dtype}, but must be floating point; cast it first."
        )


def _fitted(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """`value` with as many axes as `shape`, to which it broadcasts, float32."""
    value = jnp.asarray(value, jnp.float32)
    fits = value.ndim <= len(shape) and all(
        a in (1, b)
        for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise checks.UsageError(
            f"{name} has shape {value.shape}, which does not broadcast to"
            f" {shape}; keep the axes of a channel or head, of size 1"
            " elsewhere."
        )
    return value.reshape((1,) * (len(shape) - value.ndim) + value.shape)


def _usable(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """A step fitted to a shape and at least MIN_STEP; its gradient passes."""
    checks.in_range(name, value, 0, open_low=True)
    value = _fitted(name, value, shape)
    still = jax.lax.stop_gradient(value)
    return jnp.maximum(still, MIN_STEP) + (value - still)


def _checked(
    x: jax.Array, step: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A usable step and limits, fitted to `x`."""
    check_floating(x)
    checks.ordered("low", low, "high", high)
    return (
        fitted_step(step, x.shape),
        _fitted("low", low, x.shape),
        _fitted("high", high, x.shape),
    )


def _over(x: jax.Array, step: jax.Array, offset: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) - offset) / step


def _summed(a: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sums over the axes along which `shape` was broadcast."""
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    return jnp.sum(a, axes, keepdims=True)


@jax.custom_vjp
def _quantised(
    x: jax.Array,
    step: jax.Array,
    offset: jax.Array,
    low: jax.Array,
    high: jax.Array,
) -> jax.Array:
    q = jnp.round(jnp.clip(_over(x, step, offset), low, high))
    return (step * q + offset).astype(x.dtype)


def _quantised_forward(x, step, offset, low, high):
    # The quotient is taken anew backward: x is alive anyway.
    saved = x, step, offset, low, high
    return _quantised(*saved), saved


def _quantised_backward(saved, slope):
    x, step, offset, low, high = saved
    v = _over(x, step, offset)
    below, above = v < low, v > high
    code = jnp.where(above, high, jnp.round(v) - v)
    code = jnp.where(below, low, code)
    outside = below | above
    wide = slope.astype(jnp.float32)
    return (
        jnp.where(outside, 0, slope),
        _summed(wide * code, step.shape),
        _summed(jnp.where(outside, wide, 0), offset.shape),
        None,
        None,
    )


_quantised.defvjp(_quantised_forward, _quantised_backward)


@jax.custom_vjp
def _clipped_relu(
    x: jax.Array, limit: jax.Array, levels: jax.Array
) -> jax.Array:
    share = jnp.clip(x.astype(jnp.float32) / limit, 0, 1)
    return (jnp.round(share * levels) / levels * limit).astype(x.dtype)


def _clipped_relu_forward(x, limit, levels):
    return _clipped_relu(x, limit, levels), (x, limit)


def _clipped_relu_backward(saved, slope):
    x, limit = saved
    above = x.astype(jnp.float32) >= limit
    at_limit = jnp.where(above, slope.astype(jnp.float32), 0)
    inside = (x >= 0) & ~above
    return jnp.where(inside, slope, 0), _summed(at_limit, limit.shape), None


_clipped_relu.defvjp(_clipped_relu_forward, _clipped_relu_backward)
