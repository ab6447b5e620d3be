"""Random streams by name: adding a stream never changes another.

Keys are `jax.random.key` with threefry. Under the `rbg` generators a chip
would depend on how many other chips are drawn beside it, so they are refused.
"""

import math
from typing import Any
import zlib

import jax
from jax.extend import random as extended
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core.checks import UsageError, whole


def stream(
    key: jax.Array, name: str, step: ArrayLike | None = None
) -> jax.Array:
    """The key of the stream `name`, at `step` if one is given.

    The name enters by its CRC-32, which is the same in every process (Python's
    own hash is salted).

    Args:
        key: a typed key, shape []; not consumed, so many streams may be taken.
        name: the stream's name, such as a parameter path.
        step: a non-negative integer, for streams that are drawn repeatedly.

    Returns:
        A typed key, shape [].

    Examples:
        >>> key = jax.random.key(0)
        >>> bool(stream(key, "read") == stream(key, "read"))
        True
        >>> bool(stream(key, "read", 1) == stream(key, "read", 2))
        False
    """
    named = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return named if step is None else jax.random.fold_in(named, step)


def chip_keys(key: jax.Array, n: int) -> jax.Array:
    """`n` chips, shape [n]: a prefix of any longer list from the same key.

    Examples:
        >>> key = jax.random.key(0)
        >>> few, many = chip_keys(key, 3), chip_keys(key, 1000)
        >>> bool((few == many[:3]).all())
        True
    """
    check_key(key)
    whole("the number of chips", n, 1)
    return jax.random.split(key, n)


def mirror(key: jax.Array) -> jax.Array:
    """The antithetic twin of a key: whatever it draws, the twin draws mirrored.

    Every random bit is turned over, so that a uniform number u on [0, 1)
    becomes 1 - u and a normal number z becomes -z, to a unit in the last place
    of u; a rare event of the one end becomes a rare event of the other. Both
    keys have the same law. Streams of the twin are the twins of the streams.
    (Owen, Monte Carlo theory, methods and examples, 2013, section 8.2.)

    Args:
        key: typed threefry keys, any shape; not consumed.

    Returns:
        Typed keys of the same shape; the twin of the twin is the key.
    """
    return _with_generator(key, _MIRROR, twin=True)


def lattice(key: jax.Array) -> jax.Array:
    """A key whose n draws lie evenly, for averages with little error.

    n uniform numbers of one call are the points k a / m mod 1 of the smallest
    power m = 2^j >= n, in an order given by a random odd a, all shifted by one
    random number: a randomly shifted lattice of rank 1, whose single numbers
    are uniform (Owen 2013, chapter 16). Streams are shifted and ordered apart.
    The numbers of one call depend on each other: never make a chip of them.

    Args:
        key: typed threefry keys, any shape; not consumed.

    Returns:
        Typed keys of the same shape.
    """
    return _with_generator(key, _LATTICE)


def unrolled(key: jax.Array) -> jax.Array:
    """A key that draws the same numbers in less time on CPU.

    There JAX goes through memory after every fourth round of threefry; here
    all 20 rounds are one pass.

    Args:
        key: typed threefry keys, any shape; not consumed.

    Returns:
        Typed keys of the same shape; twins and lattices are so already.
    """
    check_key(key)
    plain = str(key.dtype) == "key<fry>"
    return _with_generator(key, _UNROLLED) if plain else key


def _with_generator(key: jax.Array, kind: Any, twin: bool = False) -> jax.Array:
    """The same key data under another generator; a twin goes back."""
    check_key(key)
    data = jax.random.key_data(key)
    other = jax.random.wrap_key_data(data, impl=kind)
    if twin and other.dtype == key.dtype:
        return jax.random.wrap_key_data(data)
    return other


def _unrolled_bits(key: jax.Array, width: int, shape: Any) -> jax.Array:
    """The bits of `jax.random.bits` (partitionable, JAX's default)."""
    n = math.prod(shape)
    if width != 32 or n >= 2**32:
        return _THREEFRY.random_bits(key, width, shape)
    high, low = _threefry(key[0], key[1], jax.lax.iota(jnp.uint32, n))
    return (high ^ low).reshape(shape)


def _threefry(
    key_high: jax.Array, key_low: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds of counters below 2^32.

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    keys = key_high, key_low, key_high ^ key_low ^ np.uint32(0x1BD11BDA)
    x, y = jnp.broadcast_to(keys[0], count.shape), count + keys[1]
    for turn in range(5):
        for rotation in _ROTATIONS[turn % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> np.uint32(32 - rotation)))
        x = x + keys[(turn + 1) % 3]
        y = y + keys[(turn + 2) % 3] + np.uint32(turn + 1)
    return x, y


_ROTATIONS = tuple(
    tuple(np.uint32(r) for r in turn)
    for turn in ((13, 15, 26, 6), (17, 29, 16, 24))
)


def _mirrored_bits(key: jax.Array, width: int, shape: Any) -> jax.Array:
    return ~_unrolled_bits(key, width, shape)


def _lattice_bits(key: jax.Array, width: int, shape: Any) -> jax.Array:
    order, shift = _THREEFRY.random_bits(key, width, (2,))
    n = math.prod(shape)
    bits = max(n - 1, 1).bit_length()
    k = jnp.arange(n, dtype=order.dtype) * (order | 1)
    return ((k << (width - bits)) + shift).reshape(shape)


_THREEFRY = extended.threefry_prng_impl


def _generator(name: str, bits: Any) -> Any:
    return extended.define_prng_impl(
        key_shape=_THREEFRY.key_shape,
        seed=_THREEFRY.seed,
        split=_THREEFRY.split,
        random_bits=bits,
        fold_in=_THREEFRY.fold_in,
        name=name,
        tag=name,
    )


_UNROLLED = _generator("fry_unrolled", _unrolled_bits)
_MIRROR = _generator("fry_mirror", _mirrored_bits)
_LATTICE = _generator("fry_lattice", _lattice_bits)


def check_key(key: jax.Array) -> None:
    """Raises unless `key` is a typed threefry key (or an array of them)."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        raise UsageError(
            "a key must come from jax.random.key, got"
            f" {type(key).__name__} of dtype {dtype}."
        )
    if "fry" not in str(dtype):
        raise UsageError(
            f"a key of type {dtype} makes a chip depend on its neighbours"
            " under vmap; use jax.random.key with the default threefry."
        )
