"""Samples as rows of numbers: what they must look like, and blocks of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks

_BLOCK = 2**20  # numbers at a time, 4 MB, which a cache holds
_PASSES = 128  # lowest numbers beyond which a sort takes less time


class Spread(NamedTuple):
    """A mean over draws, and how far they lie apart; both [].

    Attributes:
        mean: over all draws.
        deviation: the standard deviation of one, with one draw less below.
    """

    mean: jax.Array
    deviation: jax.Array


def spread(values_S: jax.Array) -> Spread:
    """Of S >= 2 draws."""
    return Spread(jnp.mean(values_S), jnp.std(values_S, ddof=1))


def rows(name: str, value: Any, least: int = 2, ndim: int = 2) -> jax.Array:
    """`value` as an array of at least float32, one sample a row.

    Args:
        name: what the user calls the array.
        value: real numbers, finite.
        least: rows.
        ndim: number of axes.

    Raises:
        UsageError: for another rank, too few rows, no columns, what is not
            real, NaN or infinity.
    """
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not jnp.issubdtype(array.dtype, np.number) or jnp.iscomplexobj(array):
        raise checks.UsageError(
            f"{name} has dtype {array.dtype}, but must hold real numbers."
        )
    if array.ndim != ndim or not array.size:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must have {ndim} axes, none"
            " of them empty, with one sample a row."
        )
    if len(array) < least:
        raise checks.UsageError(
            f"{name} has {len(array)} rows, but {least} at least are needed;"
            " make more samples."
        )
    checks.finite(name, array)
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def pair(
    names: tuple[str, str], values: tuple[Any, Any], least: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Two sets of rows with the same features, of one dtype; see `rows`."""
    a, b = map(rows, names, values, least)
    if a.shape[1] != b.shape[1]:
        raise checks.UsageError(
            f"{names[0]} has {a.shape[1]} features and {names[1]}"
            f" {b.shape[1]}, but both must come from the same network."
        )
    dtype = jnp.promote_types(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def product(a_NxF: jax.Array, b_MxF: jax.Array) -> jax.Array:
    """a b^T, [N, M]."""
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a_NxF, b_MxF.T, precision=jax.lax.Precision.HIGHEST)


def by_block(
    f: Callable[..., Any], arrays: tuple[jax.Array, ...], width: int
) -> Any:
    """`f` of some rows at a time, so that memory stays bounded.

    Args:
        f: from a block of every array to a pytree of one row a row.
        arrays: [N, ...]; rows of zeros may follow them.
        width: numbers that `f` holds at a time for one row.

    Returns:
        What `f` gives for all N rows.
    """
    n = len(arrays[0])
    size = min(max(_BLOCK // width, 1), n)
    blocks = -(-n // size)

    def cut(array):
        missing = [(0, blocks * size - n)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, missing).reshape(blocks, size, *array.shape[1:])

    # Made again for a gradient, as all blocks together may not fit.
    found = jax.lax.map(jax.checkpoint(lambda block: f(*block)),
                        tuple(map(cut, arrays)))  # fmt: skip
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], found)


def lowest(values_RxM: jax.Array, k: int) -> jax.Array:
    """Columns of the k lowest numbers of each row, int32 [R, k].

    Rising, of equal numbers the first; finite ones. For few of them many times
    faster than `jax.lax.top_k` on CPU.
    """
    if k > _PASSES:
        return jnp.argsort(values_RxM, axis=1)[:, :k].astype(jnp.int32)
    last = values_RxM.shape[1] - 1
    place = jax.lax.broadcasted_iota(jnp.int32, values_RxM.shape, 1)

    def step(values, _):
        low = jnp.min(values, axis=1, keepdims=True)
        chosen = jnp.where(values == low, place, last)
        chosen = jnp.min(chosen, axis=1, keepdims=True)
        return jnp.where(place == chosen, jnp.inf, values), chosen[:, 0]

    return jax.lax.scan(step, values_RxM, length=k)[1].T
