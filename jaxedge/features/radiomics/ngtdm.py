"""Neighbourhood grey-tone difference matrices: how voxels stand out.

Amadasun and King (1989), as pyradiomics 3.0.1 and the IBSI (arXiv:1612.07003,
3.10) have it. Letters: G grey levels, K neighbours at most. Where pyradiomics
deviates from the IBSI:

- a voxel without a neighbour in the region counts, with a difference of 0; the
  IBSI leaves it out;
- of a constant region, coarseness is 1e6, as the IBSI proposes, and the others
  are 0.
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

_MOST = 2**31 - 1  # of int32
_GREY = 2**16  # highest grey level of rows whose levels are given
_COARSEST = 1e6

_IBSI = {
    "ngt_coarseness_3D": "Coarseness",
    "ngt_contrast_3D": "Contrast",
    "ngt_busyness_3D": "Busyness",
    "ngt_complexity_3D": "Complexity",
    "ngt_strength_3D": "Strength",
}


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
    """Features of the difference to a neighbourhood.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: has no influence.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_grey: has no influence.
        options: distances and plane.
        definitions: "pyradiomics" for its 5 features, or "ibsi" for the tags of
            the IBSI, such as "ngt_coarseness_3D".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Name -> float32 [].

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    del spacing, n_grey
    counts = matrix(
        levels_ZxYxX,
        n_levels,
        grey_G=grey_G,
        options=options,
        definitions=definitions,
        place_V=place_V,
    )
    return from_matrix(counts, grey_G, definitions=definitions)


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    grey_G: ArrayLike | None = None,
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
    place_V: jax.Array | None = None,
) -> jax.Array:
    """Voxels of each grey level, and their summed differences.

    The sum of differences of the voxels with W neighbours is that of the whole
    numbers |W i - sum of neighbours|, over W.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        grey_G: whole number, grey level of each row.
        options: distances and plane.
        definitions: whether voxels without neighbours count: "pyradiomics", or
            not: "ibsi".
        place_V: as of `features`.

    Returns:
        float32 [G, 2]: number of voxels n_i, and sum of differences s_i.

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    options_lib.check_definitions(definitions)
    grey, widest = levels, int(n_levels)
    if grey_G is not None:
        grey, widest = histogram.greys(levels, grey_G), _GREY
    alone = definitions == "pyradiomics"
    sizes = int(n_levels), widest
    return _matrix(levels, grey, place_V, sizes, options, alone)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _matrix(
    levels: jax.Array,
    grey: jax.Array,
    place_V: jax.Array | None,
    sizes: tuple[int, int],
    options: Options,
    alone: bool,
) -> jax.Array:
    n_levels, widest = sizes
    half_Ax3 = neighbours.offsets(options.distances, options.plane)
    offset_Ax3 = np.concatenate([half_Ax3, -half_Ax3])
    row = neighbours.row(grey, offset_Ax3, place_V)
    level_V = neighbours.listed(levels, place_V)
    own_V = neighbours.listed(grey, place_V)

    def add(sums: tuple, step: jax.Array) -> tuple[tuple, None]:
        number_V, total_V = sums
        other_V = row.beside(step)
        return (number_V + (other_V > 0), total_V + other_V), None

    nothing_V = jnp.zeros_like(level_V)
    (number_V, total_V), _ = jax.lax.scan(add, (nothing_V,) * 2, row.step_A)
    around_V = jnp.where(level_V > 0, number_V, 0)
    apart_V = jnp.abs(around_V * own_V - total_V)
    apart_V = jnp.where(level_V > 0, apart_V, 0)
    counted_V = jnp.where(alone, 1, jnp.minimum(around_V, 1))
    voxels = histogram.pairs(level_V, counted_V, (n_levels + 1, 2))
    shape = (n_levels + 1, len(offset_Ax3) + 1)
    sums = _sums(level_V * shape[1] + around_V, apart_V, shape, widest)
    return jnp.stack([voxels[1:, 1].astype(jnp.float32), sums], 1)


def _sums(
    cell_N: jax.Array, apart_N: jax.Array, shape: tuple[int, int], widest: int
) -> jax.Array:
    """Sum of differences of each level, float32 [G].

    Whole numbers are added exactly, in blocks so small that none overflows, and
    divided by the number of neighbours that they have in common.
    """
    most, size = shape[1] - 1, math.prod(shape)
    block = max(_MOST // (most * widest), 1)
    blocks = -(-cell_N.size // block)
    if blocks > 1:
        place = np.arange(cell_N.size) // block * size
        cell_N += jnp.asarray(place, jnp.int32)
    sums = histogram.totals(cell_N, apart_N, blocks * size)
    sums = sums.reshape(blocks, *shape).astype(jnp.float32).sum(0)
    return (sums[1:, 1:] / jnp.arange(1.0, most + 1)[None]).sum(1)


def from_matrix(
    counts_Gx2: ArrayLike,
    grey_G: ArrayLike | None = None,
    *,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """Features of a matrix, as `features`.

    Args:
        counts_Gx2: number of voxels n_i, and sum of differences s_i, of a row.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        definitions: "pyradiomics" or "ibsi".

    Returns:
        Name -> float32 []. Without differences, coarseness is 1e6 and the
        others are 0.

    Raises:
        UsageError: for another shape of counts, or unknown definitions.
    """
    options_lib.check_definitions(definitions)
    counts = jnp.asarray(counts_Gx2, jnp.float32)
    if counts.ndim != 2 or counts.shape[1] != 2:
        raise checks.UsageError(
            f"counts has shape {counts.shape}, but must be [G, 2]: number of"
            " voxels and sum of differences of each grey level."
        )
    if grey_G is None:
        grey_G = jnp.arange(1.0, len(counts) + 1)
    found = _features(counts, jnp.asarray(grey_G, jnp.float32))
    if definitions == "ibsi":
        return {tag: found[name] for tag, name in _IBSI.items()}
    return found


@jax.jit
def _features(counts: jax.Array, grey: jax.Array) -> dict[str, jax.Array]:
    voxels, s = counts[:, 0], counts[:, 1]
    total = jnp.maximum(voxels.sum(), 1)
    p, here = voxels / total, voxels > 0
    both = here[:, None] & here[None]
    apart = jnp.where(both, grey[:, None] - grey[None], 0)
    either = jnp.where(both, p[:, None] + p[None], 1)
    tone = (p * s).sum()
    kinds = here.sum()
    # Whole numbers i n_i, whose differences are exact.
    weight = grey * voxels
    unlike = jnp.abs(weight[:, None] - weight[None])
    unlike = jnp.where(both, unlike, 0).sum() / total
    spread = (p[:, None] * p[None] * apart**2).sum()
    shared = jnp.where(both, (p * s)[:, None] + (p * s)[None], 0)
    return {
        "Coarseness": _ratio(1, tone, _COARSEST),
        "Contrast": _ratio(spread * s.sum() / total, kinds * (kinds - 1)),
        "Busyness": _ratio(tone, unlike),
        "Complexity": (jnp.abs(apart) * shared / either).sum() / total,
        "Strength": _ratio((either * apart**2).sum(), s.sum()),
    }


def _ratio(upper: ArrayLike, lower: jax.Array, empty: float = 0.0) -> jax.Array:
    """A quotient; `empty` of a denominator of 0."""
    quotient = upper / jnp.where(lower == 0, 1, lower)
    return jnp.where(lower == 0, empty, quotient).astype(jnp.float32)
