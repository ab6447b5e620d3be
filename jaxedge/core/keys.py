"""Random streams by name: adding a stream never changes another.

Keys are `jax.random.key` with threefry. Under the `rbg` generators a chip
would depend on how many other chips are drawn beside it, so they are refused.
"""

import zlib

import jax
from jax.typing import ArrayLike

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
    """
    named = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return named if step is None else jax.random.fold_in(named, step)


def chip_keys(key: jax.Array, n: int) -> jax.Array:
    """`n` chips, shape [n]: a prefix of any longer list from the same key."""
    check_key(key)
    whole("the number of chips", n, 1)
    return jax.random.split(key, n)


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
