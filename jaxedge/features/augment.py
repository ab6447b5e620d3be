"""Clouds moved, scaled and thinned at random, for training.

Letters: B clouds, or any number of leading axes, of N rows with C columns, the
first three of which are the point (arXiv:2312.09262, deplm 2). One key draws
for all clouds. Every function returns the shape of what it is given, and at
least float32.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks, keys
from jaxedge.features import shapes


def normalise(points: ArrayLike) -> jax.Array:
    """Centres each cloud on its mean and divides by its largest radius.

    Args:
        points: [..., N, D], coordinates alone, finite, any unit.

    Returns:
        [..., N, D] within the unit ball; zeros where all points are one.

    Raises:
        UsageError: for NaN coordinates or a wrong shape.
    """
    return _normalised(shapes.rows("points", points))


@jax.jit
def _normalised(points: jax.Array) -> jax.Array:
    centred = points - jnp.mean(points, axis=-2, keepdims=True)
    squared = jnp.sum(centred * centred, axis=-1, keepdims=True)
    largest = jnp.max(squared, axis=-2, keepdims=True)
    # The slope of a square root is infinite at 0.
    safe = jnp.where(largest > 0, largest, 1)
    return centred / jnp.sqrt(safe)


def random_scale(
    key: jax.Array,
    points: ArrayLike,
    low: ArrayLike = 0.8,
    high: ArrayLike = 1.25,
    *,
    columns: int = 3,
) -> jax.Array:
    """Multiplies each cloud by one number, uniform in [low, high).

    Args:
        key: consumed.
        points: [..., N, C].
        low: least factor, positive.
        high: largest factor, above `low`.
        columns: how many columns are scaled, the first ones.

    Returns:
        [..., N, C].

    Raises:
        UsageError: for factors out of order or not positive, more columns than
            there are, NaN or a wrong shape.
    """
    points = _given(key, points, columns)
    checks.in_range("low", low, 0, open_low=True)
    checks.ordered("low", low, "high", high)
    return _scaled(key, points, low, high, int(columns))


@functools.partial(jax.jit, static_argnames="columns")
def _scaled(
    key: jax.Array,
    points: jax.Array,
    low: ArrayLike,
    high: ArrayLike,
    columns: int,
) -> jax.Array:
    shape = (*points.shape[:-2], 1, 1)
    factor = jax.random.uniform(key, shape, points.dtype, low, high)
    return jnp.where(_first(points, columns), points * factor, points)


def random_shift(
    key: jax.Array,
    points: ArrayLike,
    reach: ArrayLike = 0.1,
    *,
    columns: int = 3,
) -> jax.Array:
    """Moves each cloud by a vector, uniform in [-reach, reach) on each axis.

    Args:
        key: consumed.
        points: [..., N, C].
        reach: unit of the points, at least 0.
        columns: how many columns are moved, the first ones.

    Returns:
        [..., N, C].

    Raises:
        UsageError: for a negative reach, more columns than there are, NaN or a
            wrong shape.
    """
    points = _given(key, points, columns)
    checks.in_range("reach", reach, 0)
    return _shifted(key, points, reach, int(columns))


@functools.partial(jax.jit, static_argnames="columns")
def _shifted(
    key: jax.Array, points: jax.Array, reach: ArrayLike, columns: int
) -> jax.Array:
    shape = (*points.shape[:-2], 1, points.shape[-1])
    step = jax.random.uniform(key, shape, points.dtype, -1, 1) * reach
    return jnp.where(_first(points, columns), points + step, points)


def random_dropout(
    key: jax.Array, points: ArrayLike, most: ArrayLike = 0.875
) -> jax.Array:
    """Replaces a random share of the rows of each cloud by its row 0.

    The chance of a row to be dropped is uniform in [0, most), one number a
    cloud.

    Args:
        key: consumed.
        points: [..., N, C]; whole rows are replaced.
        most: the largest chance, in [0, 1].

    Returns:
        [..., N, C].

    Raises:
        UsageError: for a chance outside [0, 1], NaN or a wrong shape.
    """
    points = _given(key, points, 1)
    checks.in_range("most", most, 0, 1)
    return _dropped(key, points, most)


@jax.jit
def _dropped(key: jax.Array, points: jax.Array, most: ArrayLike) -> jax.Array:
    *lead, total, _ = points.shape
    numbers = jax.random.uniform(key, (*lead, total + 1, 1))
    share, drawn = numbers[..., :1, :] * most, numbers[..., 1:, :]
    return jnp.where(drawn < share, points[..., :1, :], points)


def _given(key: jax.Array, points: ArrayLike, columns: int) -> jax.Array:
    """The points, once they and the key are checked."""
    keys.check_key(key)
    checks.whole("columns", columns, 1)
    return shapes.rows("points", points, columns)


def _first(points: jax.Array, columns: int) -> jax.Array:
    """Marks the first columns, shape of the points."""
    last = points.ndim - 1
    return jax.lax.broadcasted_iota(jnp.int32, points.shape, last) < columns
