"""Means over parts of an image, in the bins of PyTorch.

Letters: B batch, H height, W width, C channels, S parts a side.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks


def adaptive_mean(x: ArrayLike, size: Sequence[int]) -> jax.Array:
    """Means over as many parts of each image as are asked for.

    Part i of S along n pixels goes from floor(i n / S) to the pixel before
    ceil((i + 1) n / S), as in `adaptive_avg_pool2d` of PyTorch: parts overlap
    where S does not divide n, and repeat pixels where it is more than n.

    Args:
        x: [B, H, W, C], no side empty.
        size: parts of height and width.

    Returns:
        [B, *size, C], dtype of `x`, summed in float32 at least.

    Raises:
        UsageError: for another rank, an empty side, or a size that is no two
            whole numbers above 0.
    """
    x = jnp.asarray(x)
    if x.ndim != 4 or not all(x.shape[1:3]):
        raise checks.UsageError(
            f"images of shape {x.shape} have no parts, but must be"
            " [B, H, W, C] with pixels."
        )
    if len(size) != 2:
        raise checks.UsageError(
            f"size is {tuple(size)}, but must be two numbers, of height and"
            " width."
        )
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Parts are rectangles, so that a mean of means of rows is their mean.
    for axis, parts in zip((1, 2), size, strict=True):
        checks.whole("size", parts, 1)
        means = [
            jax.lax.slice_in_dim(y, *ends, axis=axis).mean(axis, keepdims=True)
            for ends in _bins(y.shape[axis], parts)
        ]
        y = jnp.concatenate(means, axis)
    return y.astype(x.dtype)


def flat_means(x: ArrayLike, side: int = 3) -> jax.Array:
    """A vector of each image, for comparing images.

    Args:
        x: [B, H, W, C].
        side: S, parts a side; FEAL (arXiv:2312.02567) has 3.

    Returns:
        [B, C * S * S], channel after channel as PyTorch flattens them, and
        row after row in each.
    """
    means = adaptive_mean(x, (side, side))
    return jnp.moveaxis(means, -1, 1).reshape(len(means), -1)


def _bins(n: int, parts: int) -> list[tuple[int, int]]:
    """First pixel of each part, and the one behind its last."""
    return [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
