"""Sets of images: what they must be, and the ranges that they are scaled to.

Letters: N images of H rows, W columns and C channels; F = H W C values.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.features import shapes
from jaxedge.features.radiomics.order_statistics import percentiles

# Percentiles of all values of a set between which its robust range is: ours.
ENDS = (1, 99)
# Exact, and no difference of two numbers overflows then, nor is its inverse, by
# which a compiler may multiply, too small to be more than 0.
_SMALLER = 1 / 16


def checked(name: str, images: Any, least: int = 1, side: int = 1) -> jax.Array:
    """Images as [N, H, W, C] of at least float32.

    Args:
        name: of the measure, for messages.
        images: [N, H, W] or [N, H, W, C], real, finite.
        least: the smallest N.
        side: the smallest H and W.

    Raises:
        UsageError: for another rank, too few or too small images, what is no
            real number, NaN or infinity.
    """
    array = shapes.known("images", images)
    if array.ndim not in (3, 4):
        raise checks.UsageError(
            f"images has shape {array.shape}, but must be [N, H, W] or"
            " [N, H, W, C]: a set, not one image."
        )
    if len(array) < least:
        raise checks.UsageError(
            f"images has N = {len(array)}, but {name} needs at least {least}"
            " images; give more of them, or choose a measure of single images."
        )
    if min(array.shape[1:3]) < side or not array.size:
        raise checks.UsageError(
            f"images has shape {array.shape}, but {name} needs at least {side}"
            " rows and columns, and a channel."
        )
    if isinstance(array, np.ndarray):
        array = _narrow(array)
    checks.finite("images", array)
    array = jnp.asarray(array)
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return wide if wide.ndim == 4 else wide[..., None]


def unit(x: Any, xp: Any = jnp) -> Any:
    """The values from 0, the least, to 1, the largest; 0 if they are equal.

    Args:
        x: any shape, finite.
        xp: `jax.numpy` or `numpy`, to whose arrays x belongs.
    """
    x = x * _SMALLER
    return _between(x, xp.min(x), xp.max(x), xp)


def robust(x: jax.Array) -> jax.Array:
    """The values from 0 to 1 on the range without 1 % at either end.

    What lies beyond is set to the nearer end. If that range is a single value,
    as where nearly everything is background, it is from the least value to the
    largest; if those are equal, all are 0. Percentiles are numpy's, in float32.

    Args:
        x: any shape, finite.
    """
    x = x * _SMALLER
    value_V = jnp.ravel(x).astype(jnp.float32)
    inside_V = jnp.ones(value_V.shape, bool)
    below_2, step_2 = percentiles(value_V, inside_V, ENDS)
    low, high = (below_2 + step_2).astype(x.dtype)
    return _inside(x, low, high, jnp)


def robust_on_host(x: np.ndarray) -> np.ndarray:
    """`robust` in float64, by numpy."""
    x = x * _SMALLER
    low, high = np.percentile(x, ENDS)
    return _inside(x, low, high, np)


def _inside(x: Any, low: Any, high: Any, xp: Any) -> Any:
    single = high <= low
    low = xp.where(single, xp.min(x), low)
    high = xp.where(single, xp.max(x), high)
    return xp.clip(_between(x, low, high, xp), 0, 1)


def _between(x: Any, low: Any, high: Any, xp: Any) -> Any:
    span = high - low
    return (x - low) / xp.where(span > 0, span, 1)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Numbers that float32 would round, on the range from 0 to 1.

    No measure depends on scale or offset, but a small spread about a large
    value would be lost.
    """
    if np.can_cast(array.dtype, np.float32):
        return array
    wide = array.astype(np.float64)
    known = np.isfinite(wide)
    if not known.all():
        return np.where(known, 0, np.nan)
    return unit(wide, np)
