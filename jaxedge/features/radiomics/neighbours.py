"""Directions between voxels, and volumes seen along them."""

import itertools

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
