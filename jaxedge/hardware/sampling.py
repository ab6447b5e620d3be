"""Random draws that are made once, and only where they matter."""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np


@functools.partial(
    jax.jit, static_argnames=("draw", "shape", "dtype", "otherwise")
)
def draw_if(
    active: ArrayLike,
    draw: Callable[..., Any],
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: Any,
    args: tuple[Any, ...] = (),
    otherwise: Callable[..., Any] = jnp.zeros,
) -> Any:
    """`draw(key, [n], dtype, *args)` where `active`, else a stand-in.

    A spread of zero then costs no random numbers. The branch has a second
    use: XLA on CPU would otherwise fuse the draw into every consumer and
    compute it anew in each, which costs more than the products of a chip.
    Under vmap both sides are computed and selected. Draws are flat, which
    changes no number, because a short last axis defeats vector instructions.

    Args:
        active: truth value, [].
        draw: a function of a module, such as `jax.random.normal`; a closure
            would compile anew at every call outside of jit.
        key: consumed.
        shape: of the result.
        dtype: of the draw.
        args: further arguments of both functions, pytrees of numbers.
        otherwise: `otherwise([n], dtype, *args)` is the stand-in, of the
            structure of `draw`.
    """
    flat = (math.prod(shape),)
    drawn = jax.lax.cond(
        jnp.asarray(active, bool),
        lambda: draw(key, flat, dtype, *args),
        lambda: otherwise(flat, dtype, *args),
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
