"""Random numbers of cells: drawn once, only where they matter, and cheaply.

The numbers are those of `jax.random` with the same key. Draws are flat, which
changes no number, because a short last axis defeats vector instructions.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core.keys import unrolled


@functools.partial(
    jax.jit, static_argnames=("law", "shape", "dtype", "otherwise", "each")
)
def draw_if(
    active: ArrayLike,
    law: Callable[..., Any],
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: Any,
    args: tuple[Any, ...] = (),
    otherwise: Callable[..., Any] = jnp.zeros,
    each: int | None = None,
) -> Any:
    """`law(u, *args)` of uniform u where `active`, else a stand-in.

    A spread of zero then costs no random numbers. The branches have a second
    use: XLA on CPU would otherwise fuse the draw into every consumer and
    compute it anew in each, which costs more than the products of a chip; and
    it computes the law faster apart from the rounds of threefry. Under vmap
    both sides are computed and selected.

    Args:
        active: truth value, [].
        law: takes uniform numbers on (-1, 1) to what is drawn, such as
            `to_normal`: a function of a module, for a closure would compile
            anew at every call outside of jit.
        key: consumed.
        shape: of the result.
        dtype: of the draw.
        args: further arguments of both functions, pytrees of numbers.
        otherwise: `otherwise([n], dtype, *args)` is the stand-in, of the
            structure of `law(u, *args)`.
        each: how many numbers make one result: u is [n], or [each, n].
    """
    flat = (math.prod(shape),)
    numbers = flat if each is None else (each, *flat)
    active = jnp.asarray(active, bool)
    u = jax.lax.cond(
        active,
        lambda: open_uniform(key, numbers, dtype),
        lambda: jnp.zeros(numbers, dtype),
    )
    drawn = jax.lax.cond(
        active,
        lambda u: law(u, *args),
        lambda u: otherwise(flat, dtype, *args),
        u,
    )
    return jax.tree.map(lambda a: a.reshape(shape), drawn)


def open_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Uniform numbers on the open interval (-1, 1); consumes `key`."""
    low = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    flat = (math.prod(shape),)
    return jax.random.uniform(unrolled(key), flat, dtype, low, 1).reshape(shape)


def uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Uniform numbers on [0, 1); consumes `key`."""
    flat = (math.prod(shape),)
    return jax.random.uniform(unrolled(key), flat, dtype).reshape(shape)


def open_share(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers on the open interval (0, 1), float32; consumes `key`.

    Each is the middle of one of 2^23 equal parts.
    """
    return uniform(key, shape) + np.float32(2.0**-24)


def normal(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Standard normal numbers; consumes `key`."""
    flat = (math.prod(shape),)
    return jax.random.normal(unrolled(key), flat, dtype).reshape(shape)


def normal_of(
    key: jax.Array, std: ArrayLike, shape: tuple[int, ...]
) -> jax.Array:
    """Normal numbers of a std [], float32; one of zero costs none."""
    std = jnp.asarray(std, jnp.float32)
    return std * draw_if(std > 0, to_normal, key, shape, jnp.float32)


def to_normal(u: jax.Array) -> jax.Array:
    """Standard normal numbers from uniform ones on (-1, 1)."""
    return np.sqrt(2).astype(u.dtype) * jax.lax.erf_inv(u)
