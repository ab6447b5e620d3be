"""Squares of images and of their labels, cut, flipped and turned at random.

Letters: B images, H height, W width, C channels, S side of the squares.
"""

import functools

import jax
import jax.numpy as jnp

from jaxedge.core import checks, keys


def random_squares(
    key: jax.Array, x: jax.Array, y: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """Cuts one square out of each image, in one of its eight positions.

    Places are uniform, and so are the positions: a flip along each axis with
    chance 1/2 and a turn by 0 to 3 right angles (edge_pruning 2) reach each of
    the eight with the same chance, as do two flips and a transposition.

    Args:
        key: consumed; each image has draws of its own.
        x: [B, H, W, C].
        y: labels [B, H, W], which move with their pixels; or [B, ...] of any
            other rank, which stay as they are.
        size: S, at most H and W.

    Returns:
        x [B, S, S, C] and y [B, S, S], or `y`.

    Raises:
        UsageError: for another shape or a square that does not fit.
    """
    keys.check_key(key)
    checks.whole("size", size, 1)
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise checks.UsageError(
            f"squares of {size} pixels need images [B, H, W, C] at least as"
            f" large, got {x.shape}."
        )
    if y.ndim == 3 and y.shape != x.shape[:3]:
        raise checks.UsageError(
            f"labels of shape {y.shape} do not fit images of shape {x.shape}."
        )
    # The same key twice cuts an image and its labels alike.
    each = jax.vmap(functools.partial(_square, size=size))
    keys_B = jax.random.split(key, len(x))
    return each(keys_B, x), each(keys_B, y) if y.ndim == 3 else y


def _square(key: jax.Array, a: jax.Array, size: int) -> jax.Array:
    """A square of an array [H, W, ...]; the key alone tells which."""
    place, position = jax.random.split(key)
    room = jnp.array(a.shape[:2]) - size + 1
    start = jax.random.randint(place, (2,), 0, room)
    swapped, upside_down, mirrored = jax.random.bernoulli(position, shape=(3,))
    rest = a.ndim - 2
    a = jax.lax.dynamic_slice(
        a, (*start, *[0] * rest), (size, size, *a.shape[2:])
    )
    a = jnp.where(swapped, jnp.swapaxes(a, 0, 1), a)
    a = jnp.where(upside_down, a[::-1], a)
    return jnp.where(mirrored, a[:, ::-1], a)
