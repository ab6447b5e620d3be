"""What samples, scores and numbers must look like, and errors that say so."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key


def samples(name: str, value: ArrayLike) -> jax.Array:
    """`value` [B, ...] as given, of two axes or more.

    Raises:
        UsageError: for what is not floating point, has no samples or no
            features, or holds numbers that are not finite.
    """
    array = known(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise checks.UsageError(
            f"{name} is {array.dtype}, but a critic has slopes in floating"
            " point alone; scale the samples, such as to [-1, 1]."
        )
    if array.ndim < 2 or not array.size:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be [B, ...] of two axes"
            " or more, none of them empty."
        )
    checks.finite(name, array)
    return jnp.asarray(array)


def pair(real: ArrayLike, fake: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as `samples` of one shape; raises UsageError for two."""
    real, fake = samples("real", real), samples("fake", fake)
    if real.shape != fake.shape:
        raise checks.UsageError(
            f"real has shape {real.shape} and fake {fake.shape}, but both must"
            " be as many samples of one size."
        )
    return real, fake


def scores(value: Any, n: int) -> jax.Array:
    """What a critic says of n samples, at least float32 [n].

    Raises:
        UsageError: for other than one floating-point number a sample.
    """
    array = jnp.asarray(value)
    if array.shape not in ((n,), (n, 1)):
        raise checks.UsageError(
            f"the critic makes shape {array.shape} of {n} samples, but must"
            f" make {(n,)} or {(n, 1)}, one score a sample."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise checks.UsageError(
            f"the critic makes {array.dtype}, but must make floating point."
        )
    return array.reshape(n).astype(at_least_float32(array.dtype))


def points(name: str, value: ArrayLike, axes: str) -> jax.Array:
    """`value` of at least float32; whole numbers are real numbers too.

    Args:
        name: what the user calls the array.
        value: real numbers.
        axes: their letters, such as "NF".

    Raises:
        UsageError: for another rank, an empty axis, or numbers that are not
            real or not finite.
    """
    array = known(name, value)
    real = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    if not real or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise checks.UsageError(
            f"{name} has dtype {array.dtype}, but must hold real numbers."
        )
    if array.ndim != len(axes) or not array.size:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be"
            f" [{', '.join(axes)}] without an empty axis; reshape it."
        )
    checks.finite(name, array)
    array = jnp.asarray(array)  # float32 of float64, by JAX's setting.
    return array.astype(at_least_float32(array.dtype))


def scalar(
    name: str, value: ArrayLike, low: float = 0, *, open_low: bool = False
) -> ArrayLike:
    """`value`, one number of at least `low`; it may be traced.

    Raises:
        UsageError: for several numbers, or one out of range.
    """
    if jnp.ndim(value):
        raise checks.UsageError(
            f"{name} has shape {jnp.shape(value)}, but must be one number;"
            " jax.vmap maps over several."
        )
    checks.in_range(name, value, low, open_low=open_low)
    return value


def one_key(key: jax.Array) -> None:
    """Raises UsageError unless `key` is a typed key of shape []."""
    check_key(key)
    if key.shape:
        raise checks.UsageError(
            f"key has shape {key.shape}, but must be one key; jax.vmap maps"
            " over several."
        )


def at_least_float32(dtype: Any) -> Any:
    """The type of sums: bfloat16 would lose all but the first numbers."""
    return jnp.promote_types(dtype, jnp.float32)


def known(name: str, value: Any) -> Any:
    """`value` as numpy's unless JAX's: under jit, its numbers stay known.

    Raises:
        UsageError: for rows of unequal length.
    """
    try:
        return value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:
        raise checks.UsageError(f"{name} must be an array.") from None
