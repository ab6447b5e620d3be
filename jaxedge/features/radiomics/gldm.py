"""Grey-level dependence matrices: how many neighbours are like a voxel.

The IBSI calls them neighbouring grey-level dependence matrices (arXiv:
1612.07003, 3.11; Sun and Wee, 1983). Letters: G grey levels, D = 1 + neighbours
dependence counts, of which column d is 1 + d: a voxel counts itself. Where
pyradiomics 3.0.1 deviates from the IBSI:

- it leaves out grey level non-uniformity normalised, which is first-order
  uniformity, and dependence count percentage, which is always 1;
- dependence count energy is not in pyradiomics;
- it takes no alpha but whole numbers, and neighbours by the infinity norm,
  which is the IBSI's choice as well.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import histogram, neighbours
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.options import Options

_IBSI = {
    "ngl_lde_3D": "SmallDependenceEmphasis",
    "ngl_hde_3D": "LargeDependenceEmphasis",
    "ngl_lgce_3D": "LowGrayLevelEmphasis",
    "ngl_hgce_3D": "HighGrayLevelEmphasis",
    "ngl_ldlge_3D": "SmallDependenceLowGrayLevelEmphasis",
    "ngl_ldhge_3D": "SmallDependenceHighGrayLevelEmphasis",
    "ngl_hdlge_3D": "LargeDependenceLowGrayLevelEmphasis",
    "ngl_hdhge_3D": "LargeDependenceHighGrayLevelEmphasis",
    "ngl_glnu_3D": "GrayLevelNonUniformity",
    "ngl_glnu_norm_3D": "GrayLevelNonUniformityNormalized",
    "ngl_dcnu_3D": "DependenceNonUniformity",
    "ngl_dcnu_norm_3D": "DependenceNonUniformityNormalized",
    "ngl_dc_perc_3D": "DependencePercentage",
    "ngl_gl_var_3D": "GrayLevelVariance",
    "ngl_dc_var_3D": "DependenceVariance",
    "ngl_dc_entr_3D": "DependenceEntropy",
    "ngl_dc_energy_3D": "DependenceEnergy",
}
# What pyradiomics has none of, or calls deprecated.
_IBSI_ONLY = (
    "GrayLevelNonUniformityNormalized",
    "DependencePercentage",
    "DependenceEnergy",
)


def features(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    grey_G: ArrayLike | None = None,
    n_grey: ArrayLike | None = None,
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
    place_V: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Features of the dependence of neighbours.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: has no influence.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_grey: has no influence.
        options: distances, plane and alpha.
        definitions: "pyradiomics" for its 14 features, or "ibsi" for the tags
            of the IBSI, such as "ngl_lde_3D".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Name -> float32 [].

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    del spacing, n_grey
    counts = matrix(
        levels_ZxYxX, n_levels, grey_G=grey_G, options=options, place_V=place_V
    )
    return from_matrix(counts, grey_G, definitions=definitions)


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    grey_G: ArrayLike | None = None,
    options: Options = options_lib.DEFAULT,
    product: bool | None = None,
    place_V: jax.Array | None = None,
) -> jax.Array:
    """Counts of voxels by grey level and number of dependent neighbours.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        grey_G: whole number, grey level of each row, which alpha compares.
        options: distances, plane and alpha.
        product: how voxels are counted, as in `histogram.pairs`.
        place_V: as of `features`.

    Returns:
        int32 [G, D], with as many columns as a voxel can have neighbours, and
        one more.

    Raises:
        UsageError: for levels or options that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    grey = levels
    if grey_G is not None and options.alpha >= 1:  # else equal is equal
        grey = histogram.greys(levels, grey_G)
    return _matrix(levels, grey, place_V, int(n_levels), options, product)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _matrix(
    levels: jax.Array,
    grey: jax.Array,
    place_V: jax.Array | None,
    n_levels: int,
    options: Options,
    product: bool | None,
) -> jax.Array:
    widest = math.floor(options.alpha)
    half_Ax3 = neighbours.offsets(options.distances, options.plane)
    offset_Ax3 = np.concatenate([half_Ax3, -half_Ax3])
    row = neighbours.row(grey, offset_Ax3, place_V)
    own_V = row.own_V
    level_V = neighbours.listed(levels, place_V)

    def add(like_V: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        other_V = row.beside(step)
        near_V = jnp.abs(other_V - own_V) <= widest
        return like_V + (near_V & (other_V > 0)), None

    like_V, _ = jax.lax.scan(add, jnp.zeros_like(level_V), row.step_A)
    counts = histogram.pairs(
        level_V,
        jnp.where(level_V > 0, like_V, 0),
        (n_levels + 1, len(offset_Ax3) + 1),
        product=product,
    )
    return counts[1:]


def from_matrix(
    counts_GxD: ArrayLike,
    grey_G: ArrayLike | None = None,
    *,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """Features of a matrix, as `features`.

    Args:
        counts_GxD: of voxels, at least 0.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        definitions: "pyradiomics" or "ibsi".

    Returns:
        Name -> float32 []; 0 of an empty matrix.

    Raises:
        UsageError: for another shape of counts, or unknown definitions.
    """
    options_lib.check_definitions(definitions)
    counts = jnp.asarray(counts_GxD)
    if counts.ndim != 2:
        raise checks.UsageError(
            f"counts has shape {counts.shape}, but must be [G, D], grey levels"
            " by dependence counts."
        )
    if grey_G is None:
        grey_G = jnp.arange(1.0, len(counts) + 1)
    found = _features(counts, jnp.asarray(grey_G, jnp.float32))
    if definitions == "ibsi":
        return {tag: found[name] for tag, name in _IBSI.items()}
    return {k: value for k, value in found.items() if k not in _IBSI_ONLY}


@jax.jit
def _features(counts: jax.Array, grey: jax.Array) -> dict[str, jax.Array]:
    total = counts.sum()
    scale = jnp.where(total > 0, total, 1).astype(jnp.float32)
    p = counts / scale
    grey_p, size_p = counts.sum(1) / scale, counts.sum(0) / scale
    # Rows of no level may have 0 for one.
    grey2 = jnp.where(grey_p > 0, grey, 1) ** 2
    sizes = jnp.arange(1.0, counts.shape[1] + 1)
    size2 = sizes**2

    def weighed(by_grey: jax.Array, by_size: jax.Array) -> jax.Array:
        return (p * by_grey[:, None] * by_size[None]).sum()

    safe = jnp.where(p > 0, p, 1)
    return {
        "SmallDependenceEmphasis": (size_p / size2).sum(),
        "LargeDependenceEmphasis": (size_p * size2).sum(),
        "GrayLevelNonUniformity": (grey_p**2).sum() * scale,
        "GrayLevelNonUniformityNormalized": (grey_p**2).sum(),
        "DependenceNonUniformity": (size_p**2).sum() * scale,
        "DependenceNonUniformityNormalized": (size_p**2).sum(),
        "GrayLevelVariance": _variance(grey_p, grey),
        "DependenceVariance": _variance(size_p, sizes),
        "DependenceEntropy": -(p * jnp.log2(safe)).sum(),
        "DependenceEnergy": (p**2).sum(),
        "DependencePercentage": p.sum(),
        "LowGrayLevelEmphasis": (grey_p / grey2).sum(),
        "HighGrayLevelEmphasis": (grey_p * grey2).sum(),
        "SmallDependenceLowGrayLevelEmphasis": weighed(1 / grey2, 1 / size2),
        "SmallDependenceHighGrayLevelEmphasis": weighed(grey2, 1 / size2),
        "LargeDependenceLowGrayLevelEmphasis": weighed(1 / grey2, size2),
        "LargeDependenceHighGrayLevelEmphasis": weighed(grey2, size2),
    }


def _variance(p_K: jax.Array, values_K: jax.Array) -> jax.Array:
    mean = (p_K * values_K).sum()
    return (p_K * (values_K - mean) ** 2).sum()
