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
run lengths up to the longest side; t the axis that runs go along, N slices of R
rows and C columns across it, each flat as M places or, with margins, W.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

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
) -> jax.Array:
    """Counts of runs by direction, grey level and length.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: mm along (z, y, x); only a weighting reads it.
        options: weighting and plane.
        definitions: by "pyradiomics", a direction counts nothing unless two
            voxels lie on one of its lines.

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
    return _matrix(levels, spacing_3, int(n_levels), options, definitions)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _matrix(
    levels_ZxYxX: jax.Array,
    spacing_3: jax.Array,
    n_levels: int,
    options: Options,
    definitions: str,
) -> jax.Array:
    offset_Ax3 = neighbours.offsets((1,), options.plane)
    found = {}
    for axis in range(3):
        steps = [step for step in offset_Ax3 if _leading(step) == axis]
        if steps:
            found |= _along(levels_ZxYxX, n_levels, axis, steps)
    ordered = [found[tuple(step)] for step in offset_Ax3]
    counts_AxGxL = jnp.stack([counts for counts, _ in ordered])
    if definitions == "pyradiomics":
        paired_A = jnp.stack([paired for _, paired in ordered])
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


def _leading(step: np.ndarray) -> int:
    """The first axis that a step moves along; there it moves by +1."""
    return int(np.flatnonzero(step)[0])


class _Line(NamedTuple):
    """What a scan over slices knows of the lines of one direction.

    Attributes:
        code_W: of the last slice, with margins: twice a voxel's place in its
            run, counted from 1 (0 outside the region), plus 1 if a voxel of
            the region lies before it on the line.
        reached_K: voxels so far at each (level, place); the last bin is of no
            meaning.
        paired: whether any line holds two voxels of the region.
    """

    code_W: jax.Array
    reached_K: jax.Array
    paired: jax.Array


def _along(
    levels_ZxYxX: jax.Array, n_levels: int, axis: int, steps: list[np.ndarray]
) -> dict[tuple[int, ...], tuple[jax.Array, jax.Array]]:
    """Runs of the directions that cross the slices of one axis.

    A scan over the slices extends each run by one voxel, so that a voxel is
    looked at once a direction. As many runs have length l or more as voxels are
    at place l. They are counted inside the scan: under `jax.vmap` its outputs
    would have to be transposed.

    Returns:
        By step: int32 [G, L], and whether any line holds two voxels.
    """
    longest = max(levels_ZxYxX.shape)
    shape = n_levels, longest
    flat_NxM, pitch, voxel_M = _flat(jnp.moveaxis(levels_ZxYxX, axis, 0))
    across = [np.delete(step, axis) for step in steps]
    shifts = [int(row) * pitch + int(column) for row, column in across]
    margin = pitch + 1

    def scan(carry, here_M):
        before_W, lines = carry
        new = []
        for shift, line in zip(shifts, lines, strict=True):
            code_M, line = _extend(
                line, before_W, here_M, margin - shift, longest
            )
            code_M = jnp.where(voxel_M, code_M, 0)
            new.append(line._replace(code_W=_widen(code_M, margin)))
        return (_widen(here_M, margin), tuple(new)), None

    empty_W = jnp.zeros(flat_NxM.shape[1] + 2 * margin, jnp.int32)
    bins_K = jnp.zeros(n_levels * longest + 1, jnp.int32)
    start = (_Line(empty_W, bins_K, jnp.bool_(False)),) * len(shifts)
    (_, lines), _ = jax.lax.scan(scan, (empty_W, start), flat_NxM)
    return {
        tuple(step): (_runs(line.reached_K[:-1].reshape(shape)), line.paired)
        for step, line in zip(steps, lines, strict=True)
    }


def _extend(
    line: _Line,
    before_W: jax.Array,
    here_M: jax.Array,
    first: int,
    longest: int,
) -> tuple[jax.Array, _Line]:
    """Takes one more slice; `first` is where its first voxel looks back."""
    back = slice(first, first + here_M.shape[0])
    inside_M, code_M = here_M > 0, line.code_W[back]
    place_M = jnp.where(before_W[back] == here_M, code_M >> 1, 0) + 1
    bin_M = (here_M - 1) * longest + place_M - 1
    bin_M = jnp.where(inside_M, bin_M, line.reached_K.shape[0] - 1)
    reached_K = line.reached_K.at[bin_M].add(1, mode="promise_in_bounds")
    paired = line.paired | (inside_M & (code_M > 0)).any()
    new_M = jnp.where(inside_M, 2 * place_M, 0) + (code_M > 0)
    return new_M, _Line(line.code_W, reached_K, paired)


def _runs(reached_GxL: jax.Array) -> jax.Array:
    """Runs of each length, from the runs of that length and more."""
    return reached_GxL - jnp.pad(reached_GxL[:, 1:], ((0, 0), (0, 1)))


def _widen(array_M: jax.Array, margin: int) -> jax.Array:
    """Margins of zeros; unlike a pad, XLA does this without a look at each."""
    edge = jnp.zeros(margin, array_M.dtype)
    return jnp.concatenate([edge, array_M, edge])


def _flat(slices_NxRxC: jax.Array) -> tuple[jax.Array, int, np.ndarray]:
    """Slices as vectors, in which a step is a shift by a fixed number.

    An empty column parts the rows, so that no step reaches another row's end.

    Returns:
        [N, M], M = R * pitch; pitch = C + 1; and whether a place is a voxel
        [M].
    """
    n, rows, columns = slices_NxRxC.shape
    padded = jnp.pad(slices_NxRxC, ((0, 0), (0, 0), (0, 1)))
    voxel_M = np.tile(np.arange(columns + 1) < columns, rows)
    return padded.reshape(n, -1), columns + 1, voxel_M
