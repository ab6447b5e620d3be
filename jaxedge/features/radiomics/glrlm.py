"""Grey-level run-length matrix (GLRLM): lines of voxels of equal grey level.

Sources: pyradiomics 3.0.1, whose names and rules are the default, and IBSI
(arXiv:1612.07003, section 3.7). Where pyradiomics departs from IBSI:

- a direction in which no line holds two voxels of the region is left out; IBSI
  averages over all 13. With one voxel there is none left, and every feature is
  NaN;
- matrices of several directions are merged only under a weighting, which IBSI
  calls 3D_comb for equal weights; the run percentage is then that of the merged
  matrix in both.

Letters: Z, Y, X voxels; A directions (13, or 4 in a plane), G grey levels, L
run lengths up to the longest side; V voxels that are looked at.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import emphases, histogram, neighbours
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.options import Options

_NAMES = {
    "short": ("ShortRunEmphasis", "sre"),
    "long": ("LongRunEmphasis", "lre"),
    "low": ("LowGrayLevelRunEmphasis", "lgre"),
    "high": ("HighGrayLevelRunEmphasis", "hgre"),
    "short_low": ("ShortRunLowGrayLevelEmphasis", "srlge"),
    "short_high": ("ShortRunHighGrayLevelEmphasis", "srhge"),
    "long_low": ("LongRunLowGrayLevelEmphasis", "lrlge"),
    "long_high": ("LongRunHighGrayLevelEmphasis", "lrhge"),
    "grey_non_uniformity": ("GrayLevelNonUniformity", "glnu"),
    "grey_non_uniformity_normalised": (
        "GrayLevelNonUniformityNormalized",
        "glnu_norm",
    ),
    "extent_non_uniformity": ("RunLengthNonUniformity", "rlnu"),
    "extent_non_uniformity_normalised": (
        "RunLengthNonUniformityNormalized",
        "rlnu_norm",
    ),
    "percentage": ("RunPercentage", "r_perc"),
    "grey_variance": ("GrayLevelVariance", "gl_var"),
    "extent_variance": ("RunVariance", "rl_var"),
    "entropy": ("RunEntropy", "rl_entr"),
}


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
    """The 16 features of the run lengths of a region.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: mm along (z, y, x); only a weighting reads it.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        n_grey: has no influence.
        options: weighting and plane.
        definitions: "pyradiomics" or "ibsi".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Name -> float32 []: pyradiomics' names, or IBSI's tags, rlm_*_3D_avg
        (mean over directions) and rlm_*_3D_comb (merged), which in a plane are
        those of 2_5D.

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    del n_grey
    counts_AxGxL = matrix(
        levels_ZxYxX,
        n_levels,
        spacing=spacing,
        options=options,
        definitions=definitions,
        place_V=place_V,
    )
    return from_matrix(
        counts_AxGxL, grey_G, options=options, definitions=definitions
    )


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    spacing: ArrayLike | Sequence[float] = (1.0, 1.0, 1.0),
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
    place_V: jax.Array | None = None,
) -> jax.Array:
    """Counts of runs by direction, grey level and length.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: mm along (z, y, x); only a weighting reads it.
        options: weighting and plane.
        definitions: by "pyradiomics", a direction counts nothing unless two
            voxels lie on one of its lines.
        place_V: as of `features`.

    Returns:
        int32 [A, G, L], directions in the order of `neighbours.offsets`; with a
        weighting their weighted sum, float32 [1, G, L].

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    options_lib.check_definitions(definitions)
    spacing_3 = jnp.asarray(spacing, jnp.float32)
    return _matrix(
        levels, place_V, spacing_3, int(n_levels), options, definitions
    )


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _matrix(
    levels_ZxYxX: jax.Array,
    place_V: jax.Array | None,
    spacing_3: jax.Array,
    n_levels: int,
    options: Options,
    definitions: str,
) -> jax.Array:
    offset_Ax3 = neighbours.offsets((1,), options.plane)
    row = neighbours.row(levels_ZxYxX, -offset_Ax3, place_V)
    shape = n_levels, max(levels_ZxYxX.shape)
    axis_A = [int(np.flatnonzero(step)[0]) for step in offset_Ax3]
    level_V = row.own_V
    counts_AxGxL = jax.lax.map(
        lambda along: _runs(level_V, along[0], along[1], shape),
        (neighbours.alike(row), row.place_Vx3.T[np.array(axis_A)]),
    )
    if definitions == "pyradiomics":
        # Nearly always a run of two tells; then no line is looked at.
        found_A = (counts_AxGxL[:, :, 1:] > 0).any((1, 2))
        paired_A = _paired(row, offset_Ax3, levels_ZxYxX.shape, found_A)
        counts_AxGxL = jnp.where(paired_A[:, None, None], counts_AxGxL, 0)
    if options.weighting is None:
        return counts_AxGxL
    weight_A = _weights(offset_Ax3, spacing_3, options.weighting)
    return (weight_A[:, None, None] * counts_AxGxL).sum(0, keepdims=True)


def from_matrix(
    counts_AxGxL: ArrayLike,
    grey_G: ArrayLike | None = None,
    *,
    options: Options = options_lib.DEFAULT,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """The features of counts that `matrix` made, as `features`.

    Args:
        counts_AxGxL: of runs, at least 0; a direction without any is left out.
        grey_G: whole number, the grey level that each row stands for; None for
            1 to G.
        options: plane, for IBSI's tags.
        definitions: "pyradiomics" or "ibsi".

    Returns:
        Name -> float32 []; NaN where there are no counts, as of pyradiomics.

    Raises:
        UsageError: for another shape of counts, or unknown definitions.
    """
    options_lib.check_definitions(definitions)
    counts = jnp.asarray(counts_AxGxL)
    if counts.ndim != 3:
        raise checks.UsageError(
            f"counts has shape {counts.shape}, but must be [A, G, L],"
            " directions by grey levels by lengths."
        )
    grey = emphases.greys(grey_G, counts.shape[1])
    mean = _mean_over_directions(counts, grey)
    if definitions == "pyradiomics":
        return {_NAMES[name][0]: value for name, value in mean.items()}
    merged = _mean_over_directions(counts.sum(0, keepdims=True), grey)
    space = "3D" if options.plane is None else "2_5D"
    return {
        f"rlm_{_NAMES[name][1]}_{space}_{suffix}": value
        for suffix, values in (("avg", mean), ("comb", merged))
        for name, value in values.items()
    }


@jax.jit
def _mean_over_directions(
    counts_AxGxL: jax.Array, grey_G: jax.Array
) -> dict[str, jax.Array]:
    length_L = jnp.arange(1, counts_AxGxL.shape[2] + 1)

    def one(counts_GxL):
        n_voxels = (counts_GxL.sum(0) * length_L).sum()
        return emphases.statistics(counts_GxL, grey_G, length_L, n_voxels)

    by_direction = jax.vmap(one)(counts_AxGxL)
    used_A = (counts_AxGxL > 0).any((1, 2))
    return {
        name: jnp.where(used_A, value_A, 0).sum() / used_A.sum()
        for name, value_A in by_direction.items()
    }


def _weights(
    offset_Ax3: np.ndarray, spacing_3: jax.Array, norm: str
) -> jax.Array:
    if norm == "no_weighting":
        return jnp.ones(len(offset_Ax3))
    return neighbours.distance(offset_Ax3, spacing_3[None], norm)


def _runs(
    level_V: jax.Array,
    before_V: jax.Array,
    place_V: jax.Array,
    shape: tuple[int, int],
) -> jax.Array:
    """Runs of one direction by level and length.

    As many runs have length l or more as voxels are at place l of theirs.

    Args:
        level_V: 1 to G, 0 outside.
        before_V: number of the voxel before in the run, of the first its own.
        place_V: along an axis that the direction goes along by one.
        shape: G and L.
    """
    n_levels, longest = shape
    first_V = before_V
    for _ in range((longest - 1).bit_length()):  # twice as far back each time
        first_V = neighbours.taken(first_V, first_V)
    within_V = place_V - neighbours.taken(place_V, first_V)
    cell_V = level_V * longest + within_V
    counts = histogram.totals(
        cell_V, jnp.ones_like(cell_V), (n_levels + 1) * longest
    )
    reached_GxL = counts.reshape(-1, longest)[1:]
    return reached_GxL - jnp.pad(reached_GxL[:, 1:], ((0, 0), (0, 1)))


def _paired(
    row: neighbours.Row,
    offset_Ax3: np.ndarray,
    shape: tuple[int, ...],
    found_A: jax.Array,
) -> jax.Array:
    """Whether any line of a direction holds two voxels of the region, [A].

    Args:
        row: of levels.
        offset_Ax3: the directions.
        shape: of the volume.
        found_A: of which it is known.
    """
    inside_V = row.own_V > 0

    def along(direction):
        step_3, step, found = direction

        def further(state):
            n, *_ = state
            place_Vx3 = row.place_Vx3 - n * step_3[None]
            legal = (place_Vx3 >= 0) & (place_Vx3 < np.array(shape)[None])
            legal_V = legal.all(1) & inside_V
            other_V = row.beside(jnp.where(legal_V, n * step, 0))
            return n + 1, (legal_V & (other_V > 0)).any(), legal_V.any()

        def unknown(state):
            _, found, some = state
            return some & ~found

        start = jnp.int32(1), found, inside_V.any()
        return jax.lax.while_loop(unknown, further, start)[1]

    step_Ax3 = jnp.asarray(offset_Ax3, jnp.int32)
    return jax.lax.map(along, (step_Ax3, row.step_A, found_A))
