"""Grey-level size-zone matrix (GLSZM): connected voxels of equal grey level.

Sources: pyradiomics 3.0.1, whose names are the default, and IBSI
(arXiv:1612.07003, section 3.8), which defines all 16 features alike;
pyradiomics does not depart from it.

A zone may have any size up to the volume's, but few sizes occur together: k
different ones hold k (k + 1) / 2 voxels at least. So the matrix has a column
for each size that occurs, at most about the square root of 2 V. Letters: Z, Y,
X voxels, V of them; G grey levels, S columns.
"""

from collections.abc import Sequence
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.features.radiomics import (
    emphases,
    histogram,
    neighbours,
    zones,
)
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.options import Options

_ROWS = 64  # Blocks in which columns are counted off: 64 short sums, in step.

_NAMES = {
    "short": ("SmallAreaEmphasis", "sze"),
    "long": ("LargeAreaEmphasis", "lze"),
    "low": ("LowGrayLevelZoneEmphasis", "lgze"),
    "high": ("HighGrayLevelZoneEmphasis", "hgze"),
    "short_low": ("SmallAreaLowGrayLevelEmphasis", "szlge"),
    "short_high": ("SmallAreaHighGrayLevelEmphasis", "szhge"),
    "long_low": ("LargeAreaLowGrayLevelEmphasis", "lzlge"),
    "long_high": ("LargeAreaHighGrayLevelEmphasis", "lzhge"),
    "grey_non_uniformity": ("GrayLevelNonUniformity", "glnu"),
    "grey_non_uniformity_normalised": (
        "GrayLevelNonUniformityNormalized",
        "glnu_norm",
    ),
    "extent_non_uniformity": ("SizeZoneNonUniformity", "zsnu"),
    "extent_non_uniformity_normalised": (
        "SizeZoneNonUniformityNormalized",
        "zsnu_norm",
    ),
    "percentage": ("ZonePercentage", "z_perc"),
    "grey_variance": ("GrayLevelVariance", "gl_var"),
    "extent_variance": ("ZoneVariance", "zs_var"),
    "entropy": ("ZoneEntropy", "zs_entr"),
}


class Counts(NamedTuple):
    """Zones by grey level and size.

    Attributes:
        counts_GxS: int32, zones of each level and column.
        size_S: int32, voxels of a zone of each column, in no order; 0 where
            a column is not used.
    """

    counts_GxS: jax.Array
    size_S: jax.Array


def features(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    spacing: ArrayLike | Sequence[float] = (1.0, 1.0, 1.0),
    grey_G: ArrayLike | None = None,
    n_grey: ArrayLike | None = None,
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
    place_V: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """The 16 features of the zone sizes of a region.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: has no influence.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_grey: has no influence.
        options: plane.
        definitions: "pyradiomics" or "ibsi".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Name -> float32 []: pyradiomics' names, or IBSI's tags such as
        szm_sze_3D, which in a plane are those of 2_5D.

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    del spacing, n_grey
    counts = matrix(levels_ZxYxX, n_levels, options=options, place_V=place_V)
    return from_matrix(counts, grey_G, options=options, definitions=definitions)


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    options: Options = options_lib.DEFAULT,
    place_V: jax.Array | None = None,
) -> Counts:
    """Counts of zones by grey level and size.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        options: plane.
        place_V: as of `features`.

    Returns:
        Counts of S columns, the largest number of different sizes that fit into
        V voxels: S (S + 1) / 2 <= V.

    Raises:
        UsageError: for levels or options that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    return _matrix(levels, place_V, int(n_levels), options.plane)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _matrix(
    levels_ZxYxX: jax.Array,
    place_V: jax.Array | None,
    n_levels: int,
    plane: int | None,
) -> Counts:
    level_V = neighbours.listed(levels_ZxYxX, place_V)
    size_V = zones.sizes(zones.label(levels_ZxYxX, plane, place_V), level_V)
    n_voxels = level_V.size
    n_columns = (math.isqrt(8 * n_voxels + 1) - 1) // 2
    # By size, 0 to V; 0 is that of a voxel which is not the first of its zone.
    zones_F = histogram.totals(size_V, jnp.ones_like(size_V), n_voxels + 1)
    occurs_F = (zones_F > 0).at[0].set(False)
    column_F = jnp.where(occurs_F, _numbered(occurs_F), n_columns)
    size_F = jnp.where(occurs_F, jnp.arange(n_voxels + 1, dtype=jnp.int32), 0)
    column_V = column_F.at[size_V].get(mode="promise_in_bounds")
    n_cells = n_levels * n_columns
    cell_V = (level_V - 1) * n_columns + column_V
    cell_V = jnp.where(size_V > 0, cell_V, n_cells)
    counts = histogram.totals(cell_V, jnp.ones_like(cell_V), n_cells + 1)
    size_S = histogram.totals(column_F, size_F, n_columns + 1)[:-1]
    return Counts(counts[:-1].reshape(n_levels, n_columns), size_S)


def from_matrix(
    counts: Counts,
    grey_G: ArrayLike | None = None,
    *,
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """The features of zones that `matrix` counted, as `features`.

    Args:
        counts: of zones, by grey level and size.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        options: plane, for IBSI's tags.
        definitions: "pyradiomics" or "ibsi".

    Returns:
        Name -> float32 []; 0 where there are no zones.

    Raises:
        UsageError: for unknown definitions.
    """
    options_lib.check_definitions(definitions)
    grey_G = emphases.greys(grey_G, counts.counts_GxS.shape[0])
    found = _statistics(counts, grey_G)
    if definitions == "pyradiomics":
        return {_NAMES[name][0]: value for name, value in found.items()}
    space = "3D" if options.plane is None else "2_5D"
    return {
        f"szm_{_NAMES[name][1]}_{space}": value for name, value in found.items()
    }


@jax.jit
def _statistics(counts: Counts, grey_G: jax.Array) -> dict[str, jax.Array]:
    n_voxels = (counts.counts_GxS.sum(0) * counts.size_S).sum()
    return emphases.statistics(
        counts.counts_GxS, grey_G, counts.size_S, n_voxels
    )


def _numbered(marked_N: jax.Array) -> jax.Array:
    """A number for each marked place, from 0, in no order.

    Places are counted off down the columns of a table, whose long rows are
    added in step: ten times as fast as counting in order.
    """
    width = -(-marked_N.size // _ROWS)
    table = jnp.pad(marked_N, (0, width * _ROWS - marked_N.size))
    table = table.reshape(_ROWS, width).astype(jnp.int32)
    within = jnp.cumsum(table, 0)
    before = jnp.cumsum(within[-1]) - within[-1]
    return (within - 1 + before[None]).reshape(-1)[: marked_N.size]
