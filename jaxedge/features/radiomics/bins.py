"""Grey levels: intensities in bins of one width, or in so many bins.

pyradiomics puts the edges of bins of one width at its multiples, from the one
at or below the smallest intensity of the region on. The IBSI starts at the
smallest intensity itself (fixed bin size, Q3RU), for want of a range of
re-segmentation. A number of bins (fixed bin number, K15C) is alike in both.

`on_host` is what the peer computes, in double precision; `by_width` and
`by_count` are the same rules inside a compiled program, in the precision of the
intensities, so a value on an edge may fall to its other side.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks

# More levels than that are a wrong unit, and do not fit into memory.
MOST_BINS = 1_000_000


def on_host(
    values_N: np.ndarray,
    *,
    bin_width: float = 25.0,
    bin_count: int | None = None,
    definitions: str = "pyradiomics",
) -> np.ndarray:
    """Grey levels of the intensities of a region.

    Args:
        values_N: finite, any unit, at least one.
        bin_width: unit of the intensities, above 0.
        bin_count: number of bins between the smallest and the largest; in place
            of the width where it is given.
        definitions: "pyradiomics" or "ibsi", where the first bin starts.

    Returns:
        int32 [N], 1 for the first bin.

    Raises:
        UsageError: for a width or a count out of range, or so small a width
            that there would be more than a million bins.
    """
    values_N = np.asarray(values_N)
    if values_N.dtype.kind in "iu":
        first, last = int(values_N.min()), int(values_N.max())
        if last - first < values_N.size:
            # Few numbers, each of which is looked up once.
            of_every = on_host(
                np.arange(first, last + 1).astype(np.float64),
                bin_width=bin_width,
                bin_count=bin_count,
                definitions=definitions,
            )
            return of_every[values_N.astype(np.int64) - first]
    values_N = values_N.astype(np.float64)
    low, high = values_N.min(), values_N.max()
    if bin_count is not None:
        checks.whole("bin_count", bin_count, 1)
        edges = np.histogram_bin_edges(values_N, bin_count)
        edges[-1] += 1.0  # The largest value belongs to the last bin.
        return np.digitize(values_N, edges).astype(np.int32)
    checks.in_range("bin_width", bin_width, 0, open_low=True)
    if (high - low) / bin_width > MOST_BINS:
        raise checks.UsageError(
            f"bin_width is {bin_width}, but the intensities span"
            f" {high - low:g}: {(high - low) / bin_width:.3g} bins; take a"
            " larger bin_width, or a bin_count."
        )
    first = low - low % bin_width if definitions == "pyradiomics" else low
    edges = np.arange(first, high + 2 * bin_width, bin_width)
    return np.digitize(values_N, edges).astype(np.int32)


def by_width(
    values_ZxYxX: jax.Array,
    mask_ZxYxX: jax.Array,
    bin_width: jax.typing.ArrayLike,
    *,
    definitions: str = "pyradiomics",
) -> jax.Array:
    """Grey levels of one bin width, under jit and vmap.

    Args:
        values_ZxYxX: intensities.
        mask_ZxYxX: bool, the region.
        bin_width: unit of the intensities, above 0.
        definitions: "pyradiomics" or "ibsi", where the first bin starts.

    Returns:
        int32 [Z, Y, X], 1 for the first bin, 0 outside the region.
    """
    checks.in_range("bin_width", bin_width, 0, open_low=True)
    low = jnp.min(values_ZxYxX, where=mask_ZxYxX, initial=jnp.inf)
    first = low - low % bin_width if definitions == "pyradiomics" else low
    steps = jnp.floor((values_ZxYxX - first) / bin_width).astype(jnp.int32)
    return jnp.where(mask_ZxYxX, steps + 1, 0)


def by_count(
    values_ZxYxX: jax.Array, mask_ZxYxX: jax.Array, bin_count: int
) -> jax.Array:
    """Grey levels of so many bins, under jit and vmap.

    Args:
        values_ZxYxX: intensities.
        mask_ZxYxX: bool, the region.
        bin_count: at least 1.

    Returns:
        int32 [Z, Y, X] in 1 to bin_count, 0 outside the region.
    """
    checks.whole("bin_count", bin_count, 1)
    low = jnp.min(values_ZxYxX, where=mask_ZxYxX, initial=jnp.inf)
    high = jnp.max(values_ZxYxX, where=mask_ZxYxX, initial=-jnp.inf)
    # numpy puts one value into the middle of a range of 1.
    flat = high == low
    low = jnp.where(flat, low - 0.5, low)
    span = jnp.where(flat, 1.0, high - low)
    steps = jnp.floor((values_ZxYxX - low) / span * bin_count)
    steps = jnp.clip(steps, 0, bin_count - 1).astype(jnp.int32)
    return jnp.where(mask_ZxYxX, steps + 1, 0)
