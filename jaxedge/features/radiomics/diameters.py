"""The largest distances between points of a region's mesh.

The points are the middles of the faces between voxels inside and outside. The
hull of them is that of the centres of the voxels, widened by the octahedron of
half a voxel along each axis: in any direction, the farthest voxel has its face
on that side bare. So the largest distance between points is that of two voxels,
and one voxel more along one axis,

    max over voxels v, w and axes k of |v - w| + s_k e_k, legs |v - w| >= 0,

and of a line of voxels only both ends count. Among points in one plane, as
pyradiomics 3.0.1 compares them, the same holds in two dimensions; between two
slices lie the faces that both share, which differ in one of them: points as far
apart as a voxel of one slice and one of the next, unless two of the same slice
are further apart.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SHORT = 1 << 13  # Longer lines need more than int16.
_NONE = -1.0  # A squared distance below all.


class Diameters(NamedTuple):
    """Largest distances, mm.

    Attributes:
        across_3: within planes across the axes (z, y, x), which pyradiomics
            calls slice, column and row.
        largest: in three dimensions.
    """

    across_3: jax.Array
    largest: jax.Array


def diameters(mask_ZxYxX: jax.Array, spacing_3: jax.Array) -> Diameters:
    """Largest distances between points of the mesh.

    Exact; the time grows with the square of the number of lines of voxels along
    the longest axis.

    Args:
        mask_ZxYxX: bool.
        spacing_3: mm along (z, y, x).

    Returns:
        float32, 0 for an empty region.
    """
    across = [
        _in_planes(
            jnp.moveaxis(mask_ZxYxX, axis, 0), jnp.delete(spacing_3, axis)
        )
        for axis in range(3)
    ]
    order = np.argsort(mask_ZxYxX.shape, kind="stable")
    largest = _in_space(mask_ZxYxX.transpose(order), spacing_3[order])
    return Diameters(_root(jnp.stack(across)), _root(largest))


def diameter(mask_YxX: jax.Array, spacing_2: jax.Array) -> jax.Array:
    """Largest distance between points of the mesh of a slice.

    Args:
        mask_YxX: bool.
        spacing_2: mm along (y, x).

    Returns:
        float32 [], mm; 0 for an empty region.
    """
    return _root(_in_planes(mask_YxX[None], spacing_2))


def _in_planes(mask_PxYxX: jax.Array, spacing_2: jax.Array) -> jax.Array:
    """Squared, of points in one plane or between two planes."""
    first, last = _ends(mask_PxYxX)
    y, x = spacing_2
    leg_y = _steps(first.shape[1]) * y
    leg_x, found = _apart(first, last, first, last, x)
    same = leg_y**2 + leg_x**2 + _widened((leg_y, y), (leg_x, x))
    best = jnp.max(jnp.where(found, same, _NONE))
    leg_x, found = _apart(first[:-1], last[:-1], first[1:], last[1:], x)
    between = jnp.where(found, leg_y**2 + leg_x**2, _NONE)
    return jnp.maximum(best, jnp.max(between))


def _in_space(mask_ZxYxX: jax.Array, spacing_3: jax.Array) -> jax.Array:
    """Squared, of all points; one turn for each distance along z."""
    first, last = _ends(mask_ZxYxX)
    z, y, x = spacing_3
    leg_y = _steps(first.shape[1]) * y
    none = mask_ZxYxX.shape[2] + 1
    beyond = ((0, first.shape[0]), (0, 0))
    firsts = jnp.pad(first, beyond, constant_values=none)
    lasts = jnp.pad(last, beyond, constant_values=-none)

    def turn(best: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        there = functools.partial(
            jax.lax.dynamic_slice_in_dim,
            start_index=step,
            slice_size=first.shape[0],
        )
        leg_x, found = _apart(first, last, there(firsts), there(lasts), x)
        leg_z = step.astype(jnp.float32) * z
        wide = _widened((leg_z, z), (leg_y, y), (leg_x, x))
        squared = leg_z**2 + leg_y**2 + leg_x**2 + wide
        return jnp.maximum(best, jnp.where(found, squared, _NONE).max()), None

    steps = jnp.arange(first.shape[0])
    return jax.lax.scan(turn, jnp.float32(_NONE), steps)[0]


def _ends(mask_PxYxX: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and last voxel of each line along x, [P, Y].

    Without any, first is above and last below all others, by so much that
    their difference is below 0.
    """
    n = mask_PxYxX.shape[2]
    at_X = jnp.arange(n, dtype=jnp.int16 if n < _SHORT else jnp.int32)
    first = jnp.min(jnp.where(mask_PxYxX, at_X, n + 1), axis=2)
    last = jnp.max(jnp.where(mask_PxYxX, at_X, -n - 1), axis=2)
    return first, last


def _apart(
    first: jax.Array,
    last: jax.Array,
    other_first: jax.Array,
    other_last: jax.Array,
    spacing: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """How far apart ends of lines y and y' of paired planes are at most.

    Args:
        first: [P, Y].
        last: [P, Y].
        other_first: [P, Y], of the plane that each is paired with.
        other_last: [P, Y].
        spacing: mm along the lines.

    Returns:
        mm [Y, Y], the greatest over P; and whether there are such lines.
    """
    ahead = other_last[:, None, :] - first[:, :, None]
    behind = last[:, :, None] - other_first[:, None, :]
    voxels = jnp.maximum(
        jnp.max(ahead, axis=0, initial=-1), jnp.max(behind, axis=0, initial=-1)
    )
    return voxels.astype(jnp.float32) * spacing, voxels >= 0


def _widened(*legs: tuple[jax.Array, jax.Array]) -> jax.Array:
    """What one more voxel along the best axis adds to a squared distance."""
    more = [2 * leg * spacing + spacing**2 for leg, spacing in legs]
    best = more[0]
    for other in more[1:]:
        best = jnp.maximum(best, other)
    return best


def _steps(n: int) -> jax.Array:
    """Lines between lines y and y', float32 [Y, Y]."""
    at_Y = np.arange(n, dtype=np.float32)
    return jnp.asarray(np.abs(at_Y[:, None] - at_Y))


def _root(squared: jax.Array) -> jax.Array:
    """Square root, 0 with a gradient of 0 where there was no distance."""
    some = squared > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1)), 0)
