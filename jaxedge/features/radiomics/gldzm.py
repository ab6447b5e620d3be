"""Grey-level distance-zone matrix (GLDZM): how deep zones lie in a region.

Source: IBSI (arXiv:1612.07003, section 3.9); pyradiomics has none. The zones
are those of the size-zone matrix. The distance of a zone is the least of its
voxels' to the nearest voxel outside the region or the edge of the image, over
faces, so that it is 1 at the border. Letters: Z, Y, X voxels; G grey levels, D
distances.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features.radiomics import (
    emphases,
    histogram,
    neighbours,
    zones,
)
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.options import Options

_TAGS = {
    "short": "sde",
    "long": "lde",
    "low": "lgze",
    "high": "hgze",
    "short_low": "sdlge",
    "short_high": "sdhge",
    "long_low": "ldlge",
    "long_high": "ldhge",
    "grey_non_uniformity": "glnu",
    "grey_non_uniformity_normalised": "glnu_norm",
    "extent_non_uniformity": "zdnu",
    "extent_non_uniformity_normalised": "zdnu_norm",
    "percentage": "z_perc",
    "grey_variance": "gl_var",
    "extent_variance": "zd_var",
    "entropy": "zd_entr",
}


def features(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    spacing: ArrayLike | Sequence[float] = (1.0, 1.0, 1.0),
    grey_G: ArrayLike | None = None,
    n_grey: ArrayLike | None = None,
    options: Options = options_lib.DEFAULT,
    definitions: str = "ibsi",
    place_V: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """The 16 features of the distances of zones.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: has no influence; distances are in voxels.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_grey: has no influence.
        options: plane, which neither zones nor ways to the border leave.
        definitions: "ibsi".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Tag -> float32 [], such as dzm_sde_3D, which in a plane are those of
        2_5D.

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    del spacing, n_grey
    checks.choice("definitions of gldzm", definitions, ("ibsi",))
    counts_GxD = matrix(
        levels_ZxYxX, n_levels, options=options, place_V=place_V
    )
    n_voxels = (jnp.asarray(levels_ZxYxX) > 0).sum()
    return from_matrix(counts_GxD, grey_G, n_voxels=n_voxels, options=options)


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    options: Options = options_lib.DEFAULT,
    place_V: jax.Array | None = None,
) -> jax.Array:
    """Counts of zones by grey level and distance.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        options: plane.
        place_V: as of `features`.

    Returns:
        int32 [G, D], distances 1 to half the shortest side.

    Raises:
        UsageError: for levels or options that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    return _matrix(levels, place_V, int(n_levels), options.plane)


def from_matrix(
    counts_GxD: ArrayLike,
    grey_G: ArrayLike | None = None,
    *,
    n_voxels: ArrayLike,
    options: Options = options_lib.DEFAULT,
) -> dict[str, jax.Array]:
    """The features of zones that `matrix` counted, as `features`.

    Args:
        counts_GxD: of zones, at least 0.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_voxels: of the region.
        options: plane, for the tags.

    Returns:
        Tag -> float32 []; 0 where there are no zones.
    """
    counts = jnp.asarray(counts_GxD)
    grey_G = emphases.greys(grey_G, counts.shape[0])
    distance_D = jnp.arange(1, counts.shape[1] + 1)
    found = emphases.statistics(
        counts, grey_G, distance_D, jnp.asarray(n_voxels)
    )
    space = "3D" if options.plane is None else "2_5D"
    return {
        f"dzm_{_TAGS[name]}_{space}": value for name, value in found.items()
    }


@functools.partial(jax.jit, static_argnums=(2, 3))
def _matrix(
    levels_ZxYxX: jax.Array,
    place_V: jax.Array | None,
    n_levels: int,
    plane: int | None,
) -> jax.Array:
    level_V = neighbours.listed(levels_ZxYxX, place_V)
    root_V = zones.label(levels_ZxYxX, plane, place_V)
    size_V = zones.sizes(root_V, level_V)
    depths_ZxYxX = zones.depths(levels_ZxYxX > 0, plane)
    depth_V = neighbours.listed(depths_ZxYxX, place_V)
    distance_V = zones.shallowest(root_V, depth_V)
    sides = [n for axis, n in enumerate(levels_ZxYxX.shape) if axis != plane]
    deepest = -(-min(sides) // 2)
    n_cells = n_levels * deepest
    cell_V = (level_V - 1) * deepest + distance_V - 1
    cell_V = jnp.where(size_V > 0, cell_V, n_cells)
    counts = histogram.totals(cell_V, jnp.ones_like(cell_V), n_cells + 1)
    return counts[:-1].reshape(n_levels, deepest)
