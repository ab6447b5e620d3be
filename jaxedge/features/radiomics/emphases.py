"""Statistics of how often each grey level occurs with each extent.

Run lengths, zone sizes and zone distances are counted in matrices of the same
kind: c(i, j) pieces of grey level i and extent j, n in all. Their features are
one family (arXiv:1612.07003, sections 3.7 to 3.9), computed here once. Letters:
G grey levels, J extents.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks

# The names of `statistics`, in the order of the papers.
STATISTICS = (
    "short",
    "long",
    "low",
    "high",
    "short_low",
    "short_high",
    "long_low",
    "long_high",
    "grey_non_uniformity",
    "grey_non_uniformity_normalised",
    "extent_non_uniformity",
    "extent_non_uniformity_normalised",
    "percentage",
    "grey_variance",
    "extent_variance",
    "entropy",
)


def statistics(
    counts_GxJ: jax.Array,
    grey_G: jax.Array,
    extent_J: jax.Array,
    n_voxels: jax.Array,
) -> dict[str, jax.Array]:
    """The 16 statistics of one matrix.

    Short and long are the means of 1/j^2 and j^2, low and high those of 1/i^2
    and i^2, and four are means of products. Non-uniformity is the sum of
    squared marginal counts over n (normalised: over n^2), percentage n over
    `n_voxels`, variance that of i or j, entropy that of (i, j) in bits. Each
    is a sum of terms of one sign, so that float32 keeps its digits.

    Args:
        counts_GxJ: whole numbers, or weighted counts; at least 0.
        grey_G: grey level of each row, not 0 where the row counts anything.
        extent_J: extent of each column, likewise.
        n_voxels: as many as the pieces would be if each were one voxel.

    Returns:
        float32 scalars by the names of `STATISTICS`; 0 for an empty matrix.
    """
    c_GxJ = counts_GxJ.astype(jnp.float32)
    by_G, by_J = c_GxJ.sum(1), c_GxJ.sum(0)
    n = jnp.maximum(by_G.sum(), jnp.finfo(jnp.float32).tiny)
    i_G = jnp.where(by_G > 0, grey_G.astype(jnp.float32), 1)
    j_J = jnp.where(by_J > 0, extent_J.astype(jnp.float32), 1)
    # One pass along the rows each, then one over the grey levels.
    short_G = (c_GxJ / j_J[None] ** 2).sum(1)
    long_G = (c_GxJ * j_J[None] ** 2).sum(1)
    information_G = jax.scipy.special.entr(c_GxJ / n).sum(1)
    non_uniform = _squares(by_G, n), _squares(by_J, n)
    return {
        "short": short_G.sum() / n,
        "long": long_G.sum() / n,
        "low": (by_G / i_G**2).sum() / n,
        "high": (by_G * i_G**2).sum() / n,
        "short_low": (short_G / i_G**2).sum() / n,
        "short_high": (short_G * i_G**2).sum() / n,
        "long_low": (long_G / i_G**2).sum() / n,
        "long_high": (long_G * i_G**2).sum() / n,
        "grey_non_uniformity": non_uniform[0],
        "grey_non_uniformity_normalised": non_uniform[0] / n,
        "extent_non_uniformity": non_uniform[1],
        "extent_non_uniformity_normalised": non_uniform[1] / n,
        "percentage": by_G.sum() / jnp.maximum(n_voxels, 1),
        "grey_variance": _variance(by_G / n, i_G),
        "extent_variance": _variance(by_J / n, j_J),
        "entropy": information_G.sum() / jnp.log(2.0),
    }


def greys(grey_G: ArrayLike | None, n_levels: int) -> jax.Array:
    """The grey level of each row, float32 [G]; None stands for 1 to G.

    Raises:
        UsageError: for another number of rows than `n_levels`.
    """
    if grey_G is None:
        return jnp.arange(1, n_levels + 1, dtype=jnp.float32)
    grey = jnp.asarray(grey_G, jnp.float32)
    if grey.shape != (n_levels,):
        raise checks.UsageError(
            f"grey_G has shape {grey.shape}, but must be one grey level for"
            f" each of {n_levels} rows."
        )
    return grey


def _squares(counts_K: jax.Array, n: jax.Array) -> jax.Array:
    return (counts_K * (counts_K / n)).sum()


def _variance(share_K: jax.Array, value_K: jax.Array) -> jax.Array:
    mean = (share_K * value_K).sum()
    return (share_K * (value_K - mean) ** 2).sum()
