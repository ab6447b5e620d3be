"""Maps of any feature: the kernel around each voxel as a volume of its own.

The kernels of some voxels at a time are cut out, and the functions of the
feature classes map over them. A kernel may have fewer voxels than the region
has grey levels; then its levels are counted anew from 1, with what each stands
for beside them, so that matrices stay small.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.features.radiomics import (
    first_order,
    glcm,
    gldm,
    glrlm,
    glszm,
    ngtdm,
)
from jaxedge.features.radiomics.options import Options

# Numbers of one matrix of all kernels of a block: 4 MiB of float32.
_ROOM = 2**20
_MOST = 256
_DIRECTIONS = 13


class Volume(NamedTuple):
    """What kernels are cut from.

    Attributes:
        values_ZxYxX: float32 intensities, finite.
        levels_ZxYxX: int32 rows of grey levels, 0 where a voxel does not count.
        grey_G: float32, the grey level of each row, rising.
        n_grey: highest grey level of the region.
        spacing_3: mm along (z, y, x).
        shift: added to intensities for energies.
    """

    values_ZxYxX: jax.Array
    levels_ZxYxX: jax.Array
    grey_G: jax.Array
    n_grey: jax.Array
    spacing_3: jax.Array
    shift: jax.Array


class _Window(NamedTuple):
    """One kernel, as the classes take it; letters as in `Volume`."""

    values: jax.Array
    levels: jax.Array
    grey_G: jax.Array


def _texture(module: Any, *wanted: str) -> Callable[..., dict]:
    """Calls a class with what it asks for."""

    def features(window: _Window, volume: Volume, options: Options) -> dict:
        known = {
            "spacing": volume.spacing_3,
            "n_grey": volume.n_grey,
        }
        return module.features(
            window.levels,
            window.grey_G.shape[0],
            grey_G=window.grey_G,
            options=options,
            **{name: known[name] for name in wanted},
        )

    return features


def _statistics(window: _Window, volume: Volume, options: Options) -> dict:
    del options
    return first_order.features(
        window.values,
        window.levels > 0,
        window.levels,
        window.grey_G.shape[0],
        voxel_volume=jnp.prod(volume.spacing_3),
        shift=volume.shift,
    )


_CLASSES: dict[str, Callable[..., dict]] = {
    "firstorder": _statistics,
    "glcm": _texture(glcm, "spacing", "n_grey"),
    "gldm": _texture(gldm),
    "glrlm": _texture(glrlm, "spacing"),
    "glszm": _texture(glszm),
    "ngtdm": _texture(ngtdm),
}


def maps(
    volume: Volume,
    where_ZxYxX: jax.Array,
    names: tuple[str, ...],
    *,
    radius: int,
    options: Options,
    block: int | None = None,
) -> dict[str, jax.Array]:
    """Features of the kernel around some voxels.

    Args:
        volume: what kernels are cut from.
        where_ZxYxX: bool, the voxels that get a value.
        names: "class_Feature", as pyradiomics calls them.
        radius: of the kernel, in voxels.
        options: of the texture matrices.
        block: kernels at a time; None for as many as take some megabytes.

    Returns:
        name -> float32 [Z, Y, X], 0 where there is no value.
    """
    shape = where_ZxYxX.shape
    radii = [
        0 if axis == options.plane else min(radius, size - 1)
        for axis, size in enumerate(shape)
    ]
    kernel = tuple(2 * r + 1 for r in radii)
    rows = min(volume.grey_G.shape[0], math.prod(kernel))
    block = block or _block(kernel, rows, where_ZxYxX.size)
    voxel_N, count = _voxels(where_ZxYxX, block)
    cut = _cutter(volume, shape, radii)

    def one(voxel):
        window = _compact(cut(voxel), rows)
        return _features(window, volume, names, options)

    def some(turn, found_FxN):
        at_B = jax.lax.dynamic_slice(voxel_N, (turn * block,), (block,))
        here_BxF = jax.vmap(one)(at_B)
        # Places that are left over lie beyond the last voxel.
        return found_FxN.at[:, at_B].set(here_BxF.T, mode="drop")

    empty = jnp.zeros((len(names), where_ZxYxX.size))
    found = jax.lax.fori_loop(0, -(-count // block), some, empty)
    return dict(zip(names, found.reshape(-1, *shape), strict=True))


def _block(kernel: tuple[int, ...], rows: int, most: int) -> int:
    largest = max(math.prod(kernel), _DIRECTIONS * rows * max(*kernel, rows))
    return max(1, min(_ROOM // largest, _MOST, most))


def _voxels(where_ZxYxX: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """Places of the voxels in a row, in whole blocks, and how many."""
    size = where_ZxYxX.size
    found = jnp.flatnonzero(
        where_ZxYxX, size=-(-size // block) * block, fill_value=size
    )
    return found.astype(jnp.int32), where_ZxYxX.sum()


def _cutter(
    volume: Volume, shape: tuple[int, ...], radii: list[int]
) -> Callable[[jax.Array], _Window]:
    """What cuts the kernel around a voxel, by its place in the row."""
    pads = [(r, r) for r in radii]
    values, levels = (
        jnp.pad(array, pads)
        for array in (volume.values_ZxYxX, volume.levels_ZxYxX)
    )
    wide = [size + 2 * r for size, r in zip(shape, radii, strict=True)]
    kernel, last = [2 * r + 1 for r in radii], math.prod(shape) - 1
    steps = np.ravel_multi_index(np.indices(kernel), wide).astype(np.int32)

    def cut(voxel):
        # A place that is left over gets the kernel of the last voxel.
        z, y, x = jnp.unravel_index(jnp.minimum(voxel, last), shape)
        here = (z * wide[1] + y) * wide[2] + x + jnp.asarray(steps)
        return _Window(
            values.ravel()[here], levels.ravel()[here], volume.grey_G
        )

    return cut


def _compact(window: _Window, rows: int) -> _Window:
    """The same with its levels counted from 1, as many as may occur."""
    if rows == window.grey_G.shape[0]:
        return window
    levels = window.levels
    known_G = jnp.arange(1, window.grey_G.shape[0] + 1)
    occurs_G = (levels.reshape(-1, 1) == known_G[None]).any(0)
    rank_G = jnp.cumsum(occurs_G)
    place_G = jnp.where(occurs_G, rank_G - 1, rows)
    grey = jnp.zeros(rows).at[place_G].set(window.grey_G, mode="drop")
    ranks = jnp.where(levels > 0, rank_G[jnp.maximum(levels, 1) - 1], 0)
    return _Window(window.values, ranks.astype(jnp.int32), grey)


def _features(
    window: _Window, volume: Volume, names: tuple[str, ...], options: Options
) -> jax.Array:
    """[F], in the order of the names; what is not asked for is not computed."""
    classes = {name.split("_")[0] for name in names}
    found = {kind: _CLASSES[kind](window, volume, options) for kind in classes}
    pairs = (name.split("_", 1) for name in names)
    return jnp.stack([found[kind][feature] for kind, feature in pairs])
