"""Wasserstein distances of samples, exact on a line and over random lines.

W_p is the least mean distance, (mean |x - y|^p)^(1/p), over all ways to move
the one set onto the other. On a line the sorted samples meet in order.

Letters: N and M samples, F features, P projections.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.wasserstein import inputs


def exact_1d(
    x_N: ArrayLike,
    y_M: ArrayLike,
    *,
    p: ArrayLike = 1,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> jax.Array:
    """W_p of two sets of numbers, from their quantiles.

    (integral over t in [0, 1] of |Q_x(t) - Q_y(t)|^p dt)^(1/p), where Q is a
    quantile; for p = 1 that is the area between the distribution functions.
    The cost is that of sorting N + M numbers.

    Args:
        x_N: [N], any unit, finite.
        y_M: [M], same unit.
        p: at least 1, a scalar; it may be traced.
        x_weights: of the samples, [N], at least 0 and not all 0; only their
            ratios count. None weighs all the same.
        y_weights: likewise, [M].

    Returns:
        [], at least 0 and at least float32, the unit of x. The gradient is
        finite; at equal sets it is 0.

    Raises:
        UsageError: for another rank, no samples, numbers that are not finite,
            p below 1, or weights of another shape or range.
    """
    x, y = inputs.points("x_N", x_N, "N"), inputs.points("y_M", y_M, "M")
    of_x = _weights("x_weights", x_weights, x)
    of_y = _weights("y_weights", y_weights, y)
    return _exact(x, y, of_x, of_y, _order(p))


def sliced(
    key: jax.Array,
    x_NxF: ArrayLike,
    y_MxF: ArrayLike,
    *,
    projections: int = 128,
    p: ArrayLike = 2,
) -> jax.Array:
    """The sliced W_p of two sets of points: over random directions.

    (mean over P directions of W_p^p of the points along them)^(1/p), where the
    directions are uniform on the sphere (Rabin, SSVM 2011; Bonneel, JMIV 2015).
    Its p-th power is unbiased over the directions, whatever P, as an estimate
    for these points; the root is too low on average, less so with a larger P,
    except at p = 1. Neither is unbiased for what the points are samples of:
    two sets of one law are apart.

    A direction sees little of a distance: points d apart in F dimensions are
    d / sqrt(F) apart at p = 2. So compare at one F alone.

    Args:
        key: a typed key, shape []; consumed.
        x_NxF: [N, F], any unit, finite.
        y_MxF: [M, F], same unit.
        projections: P, at least 1, a Python number.
        p: at least 1, a scalar; it may be traced.

    Returns:
        [], at least 0 and at least float32, the unit of x, with finite
        gradients. Memory grows with P (N + M).

    Raises:
        UsageError: for another rank, features that differ, no samples, numbers
            that are not finite, p below 1, or no projections.
    """
    inputs.one_key(key)
    x, y = (
        inputs.points("x_NxF", x_NxF, "NF"),
        inputs.points("y_MxF", y_MxF, "MF"),
    )
    if x.shape[1] != y.shape[1]:
        raise checks.UsageError(
            f"x_NxF has {x.shape[1]} features and y_MxF {y.shape[1]}, but both"
            " must have the same."
        )
    checks.whole("projections", projections, 1)
    p = _order(p)
    dtype = jnp.promote_types(x.dtype, y.dtype)
    along_PxF = _directions(key, int(projections), x.shape[1], dtype)
    return _sliced(along_PxF, x, y, p)


def _order(p: ArrayLike) -> jax.Array:
    # One type, lest 1 and 1.5 be two programs.
    return jnp.asarray(inputs.scalar("p", p, 1), jnp.result_type(float))


def _weights(
    name: str, weights: ArrayLike | None, like: jax.Array
) -> jax.Array | None:
    if weights is None:
        return None
    array = inputs.points(name, weights, "N")
    if array.shape != like.shape:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be {like.shape}, one"
            " number a sample."
        )
    known = inputs.known(name, weights)
    checks.in_range(name, known, 0)
    if checks.concrete(known) and not np.asarray(known).any():
        raise checks.UsageError(f"{name} are all 0; give some sample weight.")
    return array


def _directions(key: jax.Array, n: int, features: int, dtype) -> jax.Array:
    """Uniform on the sphere, [P, F]."""
    draw_PxF = jax.random.normal(key, (n, features), dtype)
    length_Px1 = jnp.linalg.norm(draw_PxF, axis=1, keepdims=True)
    # A draw of zeros only, which in one dimension does occur.
    draw_PxF = jnp.where(length_Px1 > 0, draw_PxF, 1)
    return draw_PxF / jnp.linalg.norm(draw_PxF, axis=1, keepdims=True)


@jax.jit
def _exact(x, y, of_x, of_y, p) -> jax.Array:
    return _norm(*_gaps(x, y, of_x, of_y), p)


@jax.jit
def _sliced(along_PxF, x_NxF, y_MxF, p) -> jax.Array:
    def gaps(x_N, y_M):
        return _gaps(x_N, y_M, None, None)

    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    precision = jax.lax.Precision.HIGHEST
    x_PxN = jnp.matmul(along_PxF, x_NxF.T, precision=precision)
    y_PxM = jnp.matmul(along_PxF, y_MxF.T, precision=precision)
    gap, share = jax.vmap(gaps)(x_PxN, y_PxM)
    return _norm(gap, share / len(along_PxF), p)


def _gaps(
    x: jax.Array,
    y: jax.Array,
    of_x: jax.Array | None,
    of_y: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Differences of the quantiles, and the share of mass that has each."""
    dtype = jnp.promote_types(x.dtype, y.dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    n, m = len(x), len(y)
    if n == m and of_x is None and of_y is None:
        return jnp.sort(x) - jnp.sort(y), jnp.full(n, 1 / n, dtype)
    (x, ends_x), (y, ends_y) = _quantiles(x, of_x), _quantiles(y, of_y)
    ends = jnp.concatenate([ends_x, ends_y])
    order = jnp.argsort(ends)
    # Between two ends, the quantile of x is that of as many ends below.
    by_x = (order < n).astype(jnp.int32)
    below_x = jnp.cumsum(by_x) - by_x
    below_y = jnp.arange(n + m) - below_x
    # After the last end there is a share of 0, or of a rounding.
    gap = x[jnp.minimum(below_x, n - 1)] - y[jnp.minimum(below_y, m - 1)]
    return gap, jnp.diff(ends[order], prepend=0)


def _quantiles(
    x: jax.Array, weights: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Sorted samples, and the mass up to the end of each, at last 1."""
    if weights is None:
        return jnp.sort(x), jnp.arange(1, len(x) + 1, dtype=x.dtype) / len(x)
    order = jnp.argsort(x)
    # Shares of the largest: neither sums nor ratios overflow.
    weights = weights / jax.lax.stop_gradient(jnp.max(weights))
    mass = jnp.cumsum(weights[order].astype(x.dtype))
    return x[order], mass / mass[-1]


def _norm(gap: jax.Array, share: jax.Array, p: jax.Array) -> jax.Array:
    """(sum share |gap|^p)^(1/p), with a gradient of 0 at 0."""
    size = jnp.abs(gap)
    p = p.astype(size.dtype)
    top = jax.lax.stop_gradient(jnp.max(size))
    some = top > 0
    # Powers of large and of small numbers leave the range of float32.
    top = jnp.where(some, top, 1)
    mean = jnp.sum(share * (size / top) ** p)
    # Also 0 where only samples without mass are apart.
    some = mean > 0
    return jnp.where(some, top * jnp.where(some, mean, 1) ** (1 / p), 0)
