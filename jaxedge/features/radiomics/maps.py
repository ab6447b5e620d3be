"""Maps of radiomic features: each voxel by the features of its neighbourhood.

As pyradiomics' extraction by voxel (3.0.1, voxelBased=True): intensities are
binned once; a kernel is a cube of voxels around one voxel, of which those count
that have a grey level. Where only the region has grey levels, that is
maskedKernel=True; where the whole image has, and `where` is the region, it is
False. The highest grey level in Idn and Idmn is that of the whole region.

Features that are sums over the voxels or the pairs of a kernel are summed over
all kernels at once, at a cost that hardly grows with the radius
(`voxelwise_values`, `voxelwise_pairs`); all others come from kernels that are
cut out (`voxelwise_windows`).

Where pyradiomics differs:

- glcm_JointAverage is NaN there where a kernel has no pair along one of the
  directions, because it takes a plain mean over them; here it is the mean over
  those that have pairs, as for all other features, and half of SumAverage.
- glcm_MCC is lost for a whole batch of voxels if one kernel has no pair along
  one of the directions; here it is the mean over those that have.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features.radiomics import (
    histogram,
    voxelwise_pairs,
    voxelwise_values,
    voxelwise_windows,
)
from jaxedge.features.radiomics import names as names_module
from jaxedge.features.radiomics import options as options_module
from jaxedge.features.radiomics.options import DEFAULT, Options

KNOWN = tuple(
    f"{kind}_{feature}"
    for kind, features in names_module.PYRADIOMICS.items()
    if not kind.startswith("shape")
    for feature in features
)


def maps(
    values_ZxYxX: ArrayLike,
    levels_ZxYxX: ArrayLike,
    n_levels: int,
    *,
    names: Sequence[str],
    radius: int = 1,
    where_ZxYxX: ArrayLike | None = None,
    grey_G: ArrayLike | None = None,
    n_grey: ArrayLike | None = None,
    spacing: Any = (1.0, 1.0, 1.0),
    options: Options = DEFAULT,
    voxel_shift: ArrayLike = 0.0,
    empty: ArrayLike = jnp.nan,
    block: int | None = None,
) -> dict[str, jax.Array]:
    """Features of the kernel around every voxel.

    Args:
        values_ZxYxX: intensities, finite where a voxel counts.
        levels_ZxYxX: whole numbers, 1 to G where a voxel counts, else 0.
        n_levels: G; a Python number.
        names: such as "glcm_Idn" or "firstorder_Mean", of `KNOWN`.
        radius: of the kernel, in voxels, at least 1: it is 2 * radius + 1 wide.
        where_ZxYxX: bool, the voxels that get a value; None for those that
            count.
        grey_G: whole numbers, the grey level that each row stands for, rising;
            None for 1 to G.
        n_grey: highest grey level of the region; None for that of the levels.
        spacing: mm along (z, y, x).
        options: of the texture matrices; in a plane, kernels are flat too.
        voxel_shift: added to intensities for energies and their root.
        empty: value where a feature is not defined: of a kernel without a pair
            for glcm, or without two voxels on a line for glrlm.
        block: kernels that are cut out at a time; None for as many as take some
            megabytes.

    Returns:
        name -> float32 [Z, Y, X], 0 outside `where_ZxYxX`. The gradient reaches
        the values through first-order features other than order statistics and
        deviations.

    Raises:
        UsageError: for an unknown name, levels out of range, a radius below 1,
            shapes that differ, or options that are not legal.
    """
    names = checked(names)
    checks.whole("radius", radius, 1)
    options_module.check(options)
    levels = histogram.check_levels(levels_ZxYxX, n_levels)
    where = levels > 0 if where_ZxYxX is None else jnp.asarray(where_ZxYxX)
    for name, array in (("values", values_ZxYxX), ("where", where)):
        if jnp.shape(array) != levels.shape:
            raise checks.UsageError(
                f"{name} has shape {jnp.shape(array)} and levels"
                f" {levels.shape}, but both must have one shape [Z, Y, X]."
            )
    values = jnp.where(levels > 0, jnp.asarray(values_ZxYxX, jnp.float32), 0)
    checks.finite("values", values)
    if grey_G is None:
        grey_G = jnp.arange(1, n_levels + 1)
    elif jnp.shape(grey_G) != (n_levels,):
        raise checks.UsageError(
            f"grey has shape {jnp.shape(grey_G)}, but must name the grey level"
            f" of each of the {n_levels} rows."
        )
    grey = jnp.asarray(grey_G, jnp.float32)
    if n_grey is None:
        n_grey = jnp.where(
            levels > 0, grey[jnp.maximum(levels, 1) - 1], 1
        ).max()
    volume = voxelwise_windows.Volume(
        values,
        levels,
        grey,
        jnp.asarray(n_grey, jnp.float32),
        jnp.asarray(spacing, jnp.float32),
        jnp.asarray(voxel_shift, jnp.float32),
    )
    return _maps(
        volume, where, jnp.float32(empty),
        names=names, radius=int(radius), options=options, block=block,
    )  # fmt: skip


def checked(names: Any) -> tuple[str, ...]:
    """Names of features as a tuple; raises for one that is not known."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise checks.UsageError("names is empty; name at least one feature.")
    for name in names:
        if name not in KNOWN:
            raise checks.unknown("feature of a voxel", name, KNOWN)
    return tuple(dict.fromkeys(names))


@functools.partial(
    jax.jit, static_argnames=("names", "radius", "options", "block")
)
def _maps(
    volume: voxelwise_windows.Volume,
    where: jax.Array,
    empty: jax.Array,
    *,
    names: tuple[str, ...],
    radius: int,
    options: Options,
    block: int | None,
) -> dict[str, jax.Array]:
    summed, cut = _ways(names, options)
    found = {}
    if pairs := summed["glcm"]:
        levels = volume.levels_ZxYxX
        maps = voxelwise_pairs.maps(
            volume.grey_G[jnp.maximum(levels, 1) - 1],
            levels > 0,
            pairs,
            radius=radius,
            n_grey=volume.n_grey,
            spacing=volume.spacing_3,
            options=options,
        )
        found |= {f"glcm_{name}": array for name, array in maps.items()}
    if statistics := summed["firstorder"]:
        maps = voxelwise_values.maps(
            volume.values_ZxYxX,
            volume.levels_ZxYxX,
            volume.grey_G.shape[0],
            statistics,
            radius=radius,
            plane=options.plane,
            voxel_volume=jnp.prod(volume.spacing_3),
            shift=volume.shift,
        )
        found |= {f"firstorder_{name}": array for name, array in maps.items()}
    if cut:
        found |= voxelwise_windows.maps(
            volume, where, cut, radius=radius, options=options, block=block
        )
    return {
        name: jnp.where(
            where, jnp.where(jnp.isnan(found[name]), empty, found[name]), 0
        )
        for name in names
    }


def _ways(
    names: tuple[str, ...], options: Options
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Features by class that are sums over all kernels; and the others."""
    summed: dict[str, tuple[str, ...]] = {"glcm": (), "firstorder": ()}
    cut = []
    for name in names:
        kind, feature = name.split("_", 1)
        pairs = kind == "glcm" and voxelwise_pairs.known(feature, options)
        if pairs or (
            kind == "firstorder" and feature in voxelwise_values.KNOWN
        ):
            summed[kind] += (feature,)
        else:
            cut.append(name)
    return summed, tuple(cut)
