"""Maps of first-order statistics that boxes of voxels give.

Order statistics, and deviations from a mean or between percentiles, are none of
them; those see the voxels of each kernel (`voxelwise_windows`).
"""

import math

import jax
import jax.numpy as jnp

from jaxedge.features.radiomics import boxes

# Name -> highest power of the distance to the mean that it is made from.
_MOMENTS = {"Mean": 2, "Variance": 2, "Skewness": 3, "Kurtosis": 4}
_SQUARES = ("Energy", "RootMeanSquared", "TotalEnergy")
_EXTREMES = ("Maximum", "Minimum", "Range")
_HISTOGRAM = ("Entropy", "Uniformity")

KNOWN = (*_MOMENTS, *_SQUARES, *_EXTREMES, *_HISTOGRAM)


def maps(
    values_ZxYxX: jax.Array,
    levels_ZxYxX: jax.Array,
    n_levels: int,
    names: tuple[str, ...],
    *,
    radius: int,
    plane: int | None,
    voxel_volume: jax.Array,
    shift: jax.Array,
) -> dict[str, jax.Array]:
    """Statistics of the kernel around every voxel.

    Args:
        values_ZxYxX: float32 intensities, finite.
        levels_ZxYxX: int32 rows of grey levels, 0 where a voxel does not count.
        n_levels: of them.
        names: of `KNOWN`.
        radius: of the kernel, in voxels.
        plane: axis that kernels do not cross; None for none.
        voxel_volume: mm^3.
        shift: added to intensities for energies and their root.

    Returns:
        name -> [Z, Y, X]; of a kernel without a voxel any number.
    """
    frame = boxes.frame(values_ZxYxX.shape, radius, plane)
    values = boxes.flatten(values_ZxYxX, frame)
    levels = boxes.flatten(levels_ZxYxX, frame)
    valid = levels > 0
    count = boxes.sums(valid.astype(values.dtype), frame)
    count = jnp.maximum(count, 1)
    found: dict[str, jax.Array] = {}
    if order := max((_MOMENTS.get(name, 0) for name in names), default=0):
        found |= _moments(boxes.moments(values, valid, frame, order=order))
    if any(name in _SQUARES for name in names):
        squares = jnp.where(valid, (values + shift) ** 2, 0)
        energy = boxes.sums(squares, frame)
        found["Energy"] = energy
        found["RootMeanSquared"] = jnp.sqrt(energy / count)
        found["TotalEnergy"] = energy * voxel_volume
    if any(name in _EXTREMES for name in names):
        found |= _extremes(values, valid, frame)
    if any(name in _HISTOGRAM for name in names):
        found |= _histogram(levels, n_levels, count, frame)
    return {name: boxes.unflatten(found[name], frame) for name in names}


def _moments(moments: boxes.Moments) -> dict[str, jax.Array]:
    variance = moments.central(2)
    spread = jnp.where(variance == 0, 1, variance)
    found = {"Mean": moments.mean, "Variance": variance}
    if len(moments.powers) > 1:
        found["Skewness"] = moments.central(3) / (spread * jnp.sqrt(spread))
    if len(moments.powers) > 2:
        found["Kurtosis"] = moments.central(4) / spread**2
    return found


def _extremes(
    values: jax.Array, valid: jax.Array, frame: boxes.Frame
) -> dict[str, jax.Array]:
    least, most = (
        boxes.reduce(join, jnp.where(valid, values, empty), frame)
        for join, empty in ((jnp.minimum, math.inf), (jnp.maximum, -math.inf))
    )
    return {"Minimum": least, "Maximum": most, "Range": most - least}


def _histogram(
    levels: jax.Array, n_levels: int, count: jax.Array, frame: boxes.Frame
) -> dict[str, jax.Array]:
    """One level after the other: no histogram of a kernel is ever kept."""

    def level(row, sums):
        share = boxes.sums((levels == row + 1).astype(count.dtype), frame)
        share = share / count
        bits = jnp.log2(jnp.where(share > 0, share, 1))
        return {
            "Entropy": sums["Entropy"] - share * bits,
            "Uniformity": sums["Uniformity"] + share * share,
        }

    nothing = dict.fromkeys(_HISTOGRAM, jnp.zeros_like(count))
    return jax.lax.fori_loop(0, n_levels, level, nothing)
