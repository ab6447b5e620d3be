"""Directions between voxels, and volumes seen along them.

A region fills a part of its box. Work on its voxels alone, which the host can
list, gathers their neighbours, which CPUs do in vectors. Letters: V voxels that
are looked at, W places of a row, A directions.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def offsets(
    distances: tuple[int, ...] = (1,), plane: int | None = None
) -> np.ndarray:
    """Steps to the neighbours at given distances, one of each two opposites.

    Args:
        distances: in voxels of the infinity norm, each at least 1.
        plane: axis that no step crosses; None for all three.

    Returns:
        int [A, 3], steps along (z, y, x), the first that is not zero above
        zero: 13 for distance 1, 4 in a plane.
    """
    reach = range(-max(distances), max(distances) + 1)
    found = []
    for step in itertools.product(reach, repeat=3):
        forward = step > (0, 0, 0)
        flat = plane is None or step[plane] == 0
        if forward and flat and max(map(abs, step)) in distances:
            found.append(step)
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def shifted(
    array_ZxYxX: jax.Array, offset: np.ndarray, fill: float = 0
) -> jax.Array:
    """The value one step away: result[v] = array[v + offset].

    Args:
        array_ZxYxX: any dtype.
        offset: step along (z, y, x); numbers known before compiling.
        fill: value beyond the border.

    Returns:
        [Z, Y, X], same dtype.
    """
    steps = [int(step) for step in offset]
    cut, pads = [], []
    for step, size in zip(steps, array_ZxYxX.shape, strict=True):
        cut.append(slice(max(step, 0), max(size + min(step, 0), 0)))
        pads.append((min(max(-step, 0), size), min(max(step, 0), size)))
    return jnp.pad(array_ZxYxX[tuple(cut)], pads, constant_values=fill)


def distance(
    offset_Ax3: np.ndarray, spacing: jax.Array, norm: str
) -> jax.Array:
    """Length of steps in millimetres.

    Args:
        offset_Ax3: steps along (z, y, x).
        spacing: [1, 3], mm, in that order.
        norm: "manhattan", "euclidean" or "infinity".

    Returns:
        float [A].
    """
    legs = jnp.abs(jnp.asarray(offset_Ax3, jnp.float32) * spacing)
    if norm == "manhattan":
        return legs.sum(-1)
    if norm == "euclidean":
        return jnp.sqrt((legs**2).sum(-1))
    return legs.max(-1)


def taken(values_N: jax.Array, index: jax.Array) -> jax.Array:
    """Values at legal places, in a loop over vectors."""
    return values_N.at[index].get(
        mode="promise_in_bounds", wrap_negative_indices=False
    )


class Row(NamedTuple):
    """A volume as one row, where a neighbour is a fixed step away.

    Empty places part the volume's lines and slices, and lie at both ends.

    Attributes:
        values_W: any dtype, 0 at empty places.
        at_V: int32, places of the voxels that are looked at; an empty one where
            a list has no voxel.
        place_Vx3: int32, where they lie in the volume, (z, y, x).
        step_A: int32, steps in the row.
    """

    values_W: jax.Array
    at_V: jax.Array
    place_Vx3: jax.Array
    step_A: jax.Array

    @property
    def own_V(self) -> jax.Array:
        """Values of the voxels."""
        return self.beside(0)

    def beside(self, step: jax.typing.ArrayLike) -> jax.Array:
        """Values one step away from the voxels, 0 beyond the border: [V]."""
        return taken(self.values_W, self.at_V + step)


def listed(array_ZxYxX: jax.Array, place_V: jax.Array | None) -> jax.Array:
    """Values of voxels, [V]; 0 where a list has none.

    Args:
        array_ZxYxX: any dtype.
        place_V: as of `row`.
    """
    values_V = array_ZxYxX.ravel()
    if place_V is None:
        return values_V
    found_V = taken(values_V, jnp.maximum(place_V, 0))
    return jnp.where(place_V < 0, jnp.zeros_like(found_V), found_V)


def row(
    array_ZxYxX: jax.Array,
    offset_Ax3: np.ndarray,
    place_V: jax.Array | None = None,
) -> Row:
    """A volume as a row, with room between its lines for some steps.

    Args:
        array_ZxYxX: any dtype, 0 outside the region.
        offset_Ax3: steps along (z, y, x); numbers known before compiling.
        place_V: int32, the flat places of the voxels that are looked at, -1 for
            none; None for all voxels in their order.
    """
    shape = array_ZxYxX.shape
    _, height, width = np.abs(offset_Ax3).max(0, initial=0) + shape
    strides_3 = np.array([height * width, width, 1], np.int32)
    step_A = (offset_Ax3 @ strides_3).astype(np.int32)
    margin = int(np.abs(step_A).max(initial=0))
    place_Vx3 = _places(shape, place_V)
    at_V = (place_Vx3 * strides_3[None]).sum(1) + 2 * margin
    if place_V is not None:  # an empty place with a margin on both sides
        at_V = jnp.where(place_V < 0, margin, at_V)
    # XLA would pad anew for each neighbour that is gathered; it keeps these.
    empty_W = jnp.zeros(shape[0] * strides_3[0] + 3 * margin, array_ZxYxX.dtype)
    values_W = empty_W.at[at_V].set(
        listed(array_ZxYxX, place_V), mode="promise_in_bounds"
    )
    return Row(values_W, at_V, place_Vx3, jnp.asarray(step_A))


def _places(shape: tuple[int, ...], place_V: jax.Array | None) -> jax.Array:
    """(z, y, x) of flat places, int32 [V, 3]; the first place for none."""
    if place_V is None:
        flat_V = jnp.arange(np.prod(shape), dtype=jnp.uint32)
    else:
        flat_V = jnp.maximum(place_V, 0).astype(jnp.uint32)
    line_V, x_V = jnp.divmod(flat_V, shape[2])
    z_V, y_V = jnp.divmod(line_V, shape[1])
    return jnp.stack([z_V, y_V, x_V], 1).astype(jnp.int32)


def alike(own: Row) -> jax.Array:
    """The neighbours of the same value inside the region.

    Args:
        own: values, 0 outside.

    Returns:
        int32 [A, V], the neighbour's number among the voxels that are looked
        at; a voxel's own where its neighbour is not alike.
    """
    value_V = own.own_V
    number_V = jnp.arange(value_V.size, dtype=jnp.int32)
    empty_W = jnp.zeros(own.values_W.shape, jnp.int32)
    numbers = own._replace(values_W=empty_W.at[own.at_V].set(number_V))

    def same(step: jax.Array) -> jax.Array:
        return (own.beside(step) == value_V) & (value_V > 0)

    def number(along: tuple) -> jax.Array:
        same_V, step = along
        return jnp.where(same_V, numbers.beside(step), number_V)

    # A loop that gathers from two arrays is no loop over vectors.
    same_AxV = jax.lax.map(same, own.step_A)
    return jax.lax.map(number, (same_AxV, own.step_A))
