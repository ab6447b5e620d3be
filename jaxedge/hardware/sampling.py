"""Random draws that are made once, and only where they matter."""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np


def draw_if(
    active: ArrayLike,
    draw: Callable[..., Any],
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: Any,
    otherwise: Callable[..., Any] = jnp.zeros,
) -> Any:
    """`draw(key, [n], dtype)` where `active`, else `otherwise([n], dtype)`.

    A spread of zero then costs no random numbers. The branch has a second
    use: XLA on CPU would otherwise fuse the draw into every consumer and
    compute it anew in each, which costs more than the products of a chip.
    Under vmap both sides are computed and selected. Draws are flat, which
    changes no number, because a short last axis defeats vector instructions.

    Args:
        active: truth value, [].
        draw: such as `jax.random.normal`.
        key: consumed.
        shape: of the result.
        dtype: of the draw.
        otherwise: what stands in for it, of the same structure.
    """
    flat = (math.prod(shape),)
    drawn = jax.lax.cond(
        jnp.asarray(active, bool),
        lambda: draw(key, flat, dtype),
        lambda: otherwise(flat, dtype),
    )
    return jax.tree.map(lambda a: a.reshape(shape), drawn)


def open_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """Uniform numbers on the open interval (-1, 1); consumes `key`."""
    low = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    u = jax.random.uniform(key, (math.prod(shape),), dtype, low, 1)
    return u.reshape(shape)


def normal(u: jax.Array) -> jax.Array:
    """Standard normal numbers from uniform ones on (-1, 1)."""
    return np.sqrt(2).astype(u.dtype) * jax.lax.erf_inv(u)
