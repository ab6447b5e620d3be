"""Grey-level co-occurrence matrices: how often two levels are neighbours.

Letters: A directions, G grey levels. Definitions are those of pyradiomics 3.0.1
(Haralick, 1973) and of the IBSI (arXiv:1612.07003, 3.6). Where pyradiomics
deviates from the IBSI:

- names: it calls difference average what the IBSI also calls dissimilarity,
  cluster tendency what it also calls sum variance, and sum of squares the joint
  variance;
- MCC, the maximal correlation coefficient, is not in the IBSI;
- without `symmetric`, a pair counts in one direction only, while the IBSI
  always adds both;
- distances are those of the infinity norm, one of those that the IBSI leaves
  open, and weighting by distance is exp(-d^2);
- it does not merge matrices unless they are weighted ("no_weighting" is the
  merged one); here "ibsi" gives both, averaged and merged.

A feature is the mean over directions that have a pair. Without any pair there
is no feature: it is NaN as in pyradiomics, and 0 for an empty region.
"""

import functools
from typing import Any

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import histogram, neighbours
from jaxedge.features.radiomics import options as options_lib
from jaxedge.features.radiomics.glcm_features import from_matrix as from_matrix
from jaxedge.features.radiomics.options import Options


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
    """Features of the co-occurrence of grey levels.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: mm along (z, y, x), which weighting needs.
        grey_G: whole number, the grey level that each row stands for, rising
            over the rows that occur; None for 1 to G.
        n_grey: highest grey level of the whole region, for Idn and Idmn; None
            for that of `levels_ZxYxX`. If 1, the whole region is flat.
        options: distances, symmetric, weighting and plane.
        definitions: "pyradiomics" for its 24 features, or "ibsi" for the tags
            of the IBSI, such as "cm_corr_3D_avg" and "cm_corr_3D_comb".
        place_V: flat places of the region's voxels, as of `neighbours.row`,
            which saves time; None for all voxels.

    Returns:
        Name -> float32 [].

    Raises:
        UsageError: for levels, options or definitions that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check_definitions(definitions)
    counts = matrix(
        levels, n_levels, spacing=spacing, options=options, place_V=place_V
    )
    top = levels.max()
    low = jnp.where(levels > 0, levels, n_levels + 1).min()
    flat = top == low
    if n_grey is None:
        n_grey = top if grey_G is None else jnp.asarray(grey_G)[top - 1]
    elif grey_G is not None:
        # Of a window, whose one level need not be that of the region.
        flat = jnp.asarray(n_grey) == 1
    found = from_matrix(
        counts, grey_G, n_grey, flat=flat, definitions=definitions
    )
    return {k: jnp.where(top > 0, value, 0) for k, value in found.items()}


def matrix(
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    options: Options = options_lib.DEFAULT,
    product: bool | None = None,
    place_V: jax.Array | None = None,
) -> jax.Array:
    """Counts of pairs of neighbours by their grey levels.

    Args:
        levels_ZxYxX: whole numbers, 1 to G inside the region, 0 outside.
        n_levels: G; a Python number.
        spacing: mm along (z, y, x).
        options: distances, symmetric, weighting and plane.
        product: how pairs are counted, as in `histogram.pairs`.
        place_V: as of `features`.

    Returns:
        int32 [A, G, G], one matrix a direction; with weighting float32
        [1, G, G], their weighted sum in units of the largest weight that has a
        pair, because exp(-d^2) of slices centimetres apart is 0 in float32.

    Raises:
        UsageError: for levels or options that are not legal.
    """
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    options_lib.check(options)
    counts = _matrix(levels, place_V, int(n_levels), options, product)
    if options.weighting is None:
        return counts
    squares_A = _squares(spacing, options)
    beyond_A = jnp.asarray(squares_A - squares_A.min(), jnp.float32)
    return _weighted(counts, beyond_A)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _matrix(
    levels: jax.Array,
    place_V: jax.Array | None,
    n_levels: int,
    options: Options,
    product: bool | None,
) -> jax.Array:
    rows = n_levels + 1  # Row 0 is of voxels outside.
    offset_Ax3 = neighbours.offsets(options.distances, options.plane)
    row = neighbours.row(levels, offset_Ax3, place_V)
    own_V = row.own_V

    def count(step: jax.Array) -> jax.Array:
        beside_V = row.beside(step)
        return histogram.pairs(own_V, beside_V, (rows, rows), product=product)

    found = jax.lax.map(count, row.step_A)[:, 1:, 1:]
    if options.symmetric:
        found += found.swapaxes(1, 2)
    # Else XLA puts the matrices together anew for every feature.
    return jax.lax.optimization_barrier(found)


@jax.jit
def _weighted(counts_AxGxG: jax.Array, squares_A: jax.Array) -> jax.Array:
    used_A = counts_AxGxG.sum((1, 2)) > 0
    nearest = jnp.where(used_A, squares_A, jnp.inf).min()
    weight_A = jnp.where(used_A, jnp.exp(nearest - squares_A), 0)
    # Not a product: float32 must not be rounded on accelerators.
    return (counts_AxGxG * weight_A[:, None, None]).sum(0, keepdims=True)


def _squares(spacing: Any, options: Options) -> Any:
    """Squared length of every direction, in float64 if it is known."""
    offset_Ax3 = neighbours.offsets(options.distances, options.plane)
    if options.weighting == "no_weighting":
        return np.zeros(len(offset_Ax3))
    known = not isinstance(spacing, Tracer)
    if known:
        spacing = np.asarray(spacing, np.float64)
        checks.in_range("spacing", spacing, 0, open_low=True)
    legs = np.abs(offset_Ax3) * spacing[None]
    if options.weighting == "manhattan":
        return legs.sum(-1) ** 2
    if options.weighting == "euclidean":
        return (legs**2).sum(-1)
    return legs.max(-1) ** 2
