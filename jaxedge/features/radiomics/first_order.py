"""First-order statistics: what the intensities are, wherever they lie.

Sources: pyradiomics 3.0.1, whose names and rules are the default, and IBSI
(arXiv:1612.07003, sections 3.3 to 3.5). Where pyradiomics departs from IBSI:

- Kurtosis is the fourth moment over the squared variance, IBSI's less 3;
- Energy and RootMeanSquared are of the intensities plus a shift;
- TotalEnergy, energy times the volume of a voxel, is not in IBSI;
- Entropy and Uniformity, of grey levels, are IBSI's features of the intensity
  histogram.

Percentiles interpolate between ranks in both, see `order_statistics`; IBSI's
values for its digital phantom do not tell that rule from the nearest rank.
Intensities are centred before powers are taken, and sums carry their rounding
errors along, so that float32 keeps about six digits whatever the mean. Letters:
Z, Y, X voxels, V of them, N in the region; G grey levels.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features.radiomics import (
    emphases,
    histogram,
    intensity_histogram,
    order_statistics,
    sums,
)
from jaxedge.features.radiomics import options as options_lib

_PERCENT = (10, 25, 50, 75, 90)

_NAMES = {
    "10Percentile": "p10",
    "90Percentile": "p90",
    "Energy": "energy",
    "InterquartileRange": "iqr",
    "Kurtosis": "kurt",
    "Maximum": "max",
    "MeanAbsoluteDeviation": "mad",
    "Mean": "mean",
    "Median": "median",
    "Minimum": "min",
    "Range": "range",
    "RobustMeanAbsoluteDeviation": "rmad",
    "RootMeanSquared": "rms",
    "Skewness": "skew",
    "Variance": "var",
}


def features(
    values_ZxYxX: ArrayLike,
    mask_ZxYxX: ArrayLike,
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    grey_G: ArrayLike | None = None,
    voxel_volume: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """The statistics of the intensities of a region.

    Neighbours do not matter, so that any three axes do: a list of the voxels of
    the region, [1, 1, N], takes the least time.

    Args:
        values_ZxYxX: intensities, finite in the region.
        mask_ZxYxX: bool, the region, N < 2^24.
        levels_ZxYxX: whole numbers, 1 to G in the region.
        n_levels: G; a Python number.
        grey_G: whole number, the grey level that each row stands for, which
            IBSI's ih_* and ivh_* are of; None for 1 to G.
        voxel_volume: mm^3.
        shift: added to the intensities in the energies (pyradiomics'
            voxelArrayShift).
        definitions: "pyradiomics"; or "ibsi" for stat_* of the intensities, and
            ih_* and ivh_* of the grey levels.

    Returns:
        Name or tag -> float32 []. Skewness and kurtosis of a constant region
        are 0, and so is a ratio to a mean, or to a sum of quartiles, that is 0.

    Raises:
        UsageError: for arrays of different shapes, or levels or definitions
            that are not legal.
    """
    options_lib.check_definitions(definitions)
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    for name, array in (("values", values_ZxYxX), ("mask", mask_ZxYxX)):
        if jnp.shape(array) != levels.shape:
            raise checks.UsageError(
                f"{name} has shape {jnp.shape(array)}, but levels"
                f" {levels.shape}; they must agree."
            )
    mask_V = jnp.asarray(mask_ZxYxX, bool).ravel()
    value_V = jnp.asarray(values_ZxYxX, jnp.float32).ravel()
    row_V = jnp.where(mask_V, levels.ravel(), 0)
    if definitions == "ibsi":
        grey_G = emphases.greys(grey_G, int(n_levels)).astype(jnp.int32)
        return _ibsi(value_V, mask_V, row_V, grey_G)
    return _pyradiomics(
        value_V, mask_V, row_V, voxel_volume, shift, int(n_levels)
    )


@functools.partial(jax.jit, static_argnums=5)
def _pyradiomics(
    value_V: jax.Array,
    mask_V: jax.Array,
    row_V: jax.Array,
    voxel_volume: ArrayLike,
    shift: ArrayLike,
    n_levels: int,
) -> dict[str, jax.Array]:
    found = statistics(value_V, mask_V, shift)
    count_G = _counts(row_V, n_levels)
    return {
        **{name: found[key] for name, key in _NAMES.items()},
        "TotalEnergy": found["energy"] * voxel_volume,
        "Entropy": intensity_histogram.entropy(count_G),
        "Uniformity": intensity_histogram.uniformity(count_G),
    }


@jax.jit
def _ibsi(
    value_V: jax.Array, mask_V: jax.Array, row_V: jax.Array, grey_G: jax.Array
) -> dict[str, jax.Array]:
    grey_V = jnp.concatenate([jnp.zeros(1, jnp.int32), grey_G])[row_V]
    of_grey = statistics(grey_V.astype(jnp.float32), mask_V)
    return {
        **_tagged("stat_", statistics(value_V, mask_V), ("energy", "rms")),
        **_tagged("ih_", of_grey),
        **intensity_histogram.features(_counts(row_V, grey_G.size), grey_G),
    }


def _counts(row_V: jax.Array, n_levels: int) -> jax.Array:
    return histogram.totals(row_V, jnp.ones_like(row_V), n_levels + 1)[1:]


def statistics(
    value_V: jax.Array, mask_V: jax.Array, shift: ArrayLike = 0.0
) -> dict[str, jax.Array]:
    """Moments, percentiles and deviations of values.

    Args:
        value_V: float32, finite in the region.
        mask_V: bool.
        shift: added to the values in energy and rms.

    Returns:
        float32 scalars by IBSI's short tags; kurt is not less 3. Finite for an
        empty region.
    """
    n = jnp.maximum(mask_V.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    value_V = jnp.where(mask_V, value_V, 0)
    low, high = _extremes(value_V, mask_V)
    centre = _centre(value_V, n, low, high)
    # Powers of unscaled differences might leave the range of float32.
    reach = jnp.maximum(high - centre, centre - low)
    scale = jax.lax.stop_gradient(jnp.where(reach > 0, reach, 1))
    unit_V = jnp.where(mask_V, (value_V - centre) / scale, 0)
    raw = sums.total(jnp.stack([unit_V**k for k in (1, 2, 3, 4)])) / n
    mean, m2, m3, m4 = _central(raw)
    below, add = order_statistics.percentiles(value_V, mask_V, _PERCENT)
    p10, p25, p50, p75, p90 = below + add
    shifted_V = jnp.where(mask_V, value_V + shift, 0)
    keep_V = mask_V & (value_V >= p10) & (value_V <= p90)
    kept = jnp.maximum(keep_V.sum(dtype=jnp.int32), 1)
    robust = sums.total(jnp.where(keep_V, unit_V, 0)[None])[0] / kept
    deviations = sums.total(
        jnp.stack(
            [
                jnp.where(mask_V, jnp.abs(unit_V - mean), 0) / n,
                jnp.where(keep_V, jnp.abs(unit_V - robust), 0) / kept,
                jnp.where(mask_V, jnp.abs(value_V - p50) / scale, 0) / n,
                shifted_V**2,
            ]
        )
    )
    mad, rmad, medad, energy = deviations
    spread = jnp.where(m2 > 0, m2, 1)
    mean = centre + mean * scale
    return {
        "mean": mean,
        "var": m2 * scale**2,
        "skew": m3 / spread**1.5,
        "kurt": m4 / spread**2,
        "median": p50,
        "min": low,
        "p10": p10,
        "p90": p90,
        "max": high,
        # Not p75 - p25, which were rounded at the size of the values.
        "iqr": (below[3] - below[1]) + (add[3] - add[1]),
        "range": high - low,
        "mad": mad * scale,
        "rmad": rmad * scale,
        "medad": medad * scale,
        "cov": _ratio(_root(m2) * scale, mean),
        "qcod": _ratio(p75 - p25, p75 + p25),
        "energy": energy,
        "rms": _root(energy / n),
    }


def _tagged(
    prefix: str, found: dict[str, jax.Array], also: tuple[str, ...] = ()
) -> dict[str, jax.Array]:
    """Statistics by IBSI's tags; the excess kurtosis of a constant is 0."""
    excess = jnp.where(found["range"] > 0, found["kurt"] - 3, 0)
    found = {**found, "kurt": excess}
    left_out = {"energy", "rms"} - set(also)
    return {prefix + tag: found[tag] for tag in found if tag not in left_out}


def _extremes(
    value_V: jax.Array, mask_V: jax.Array
) -> tuple[jax.Array, jax.Array]:
    low = jnp.min(value_V, where=mask_V, initial=jnp.inf)
    high = jnp.max(value_V, where=mask_V, initial=-jnp.inf)
    some = mask_V.any()
    return jnp.where(some, low, 0), jnp.where(some, high, 0)


def _centre(
    value_V: jax.Array, n: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """About the mean, and such that values less it are not rounded.

    It is a multiple of the spacing of float32 at the largest magnitude.
    """
    value_V, low, high = jax.lax.stop_gradient((value_V, low, high))
    mean = sums.total(value_V[None])[0] / n
    _, exponent = jnp.frexp(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    spacing = jnp.ldexp(jnp.float32(1), exponent - 24)
    spacing = jnp.maximum(spacing, jnp.finfo(jnp.float32).tiny)
    return jnp.clip(jnp.round(mean / spacing) * spacing, low, high)


def _central(
    raw: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mean and central moments 2 to 4 from moments about almost the mean."""
    a, r2, r3, r4 = raw
    return (
        a,
        r2 - a**2,
        r3 - 3 * a * r2 + 2 * a**3,
        r4 - 4 * a * r3 + 6 * a**2 * r2 - 3 * a**4,
    )


def _ratio(above: jax.Array, below: jax.Array) -> jax.Array:
    return jnp.where(below == 0, 0, above / jnp.where(below == 0, 1, below))


def _root(square: jax.Array) -> jax.Array:
    """The square root; its slope at 0 is 0, not infinite."""
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
