"""Counting of voxels by two properties, the step that texture matrices share.

On CPU a count is a loop over voxels that adds to a cell, of about 1 ns each. An
accelerator would wait where many voxels fall into one cell, so that there the
matrix is a product of two sets of indicators, exact below 2^24 voxels.
"""

import functools

import jax
from jax.custom_batching import custom_vmap
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks

_EXACT = 2**24  # whole numbers up to here are float32
_MOST = 2**31  # of int32


def check_levels(levels: ArrayLike, n_levels: int) -> jax.Array:
    """Grey levels as int32.

    Args:
        levels: [Z, Y, X], whole numbers in 0 to `n_levels`.
        n_levels: number of rows of a matrix.

    Raises:
        UsageError: for another rank, fractions, or a level out of range.
    """
    checks.whole("n_levels", n_levels, 1)
    kind = getattr(levels, "dtype", None) or np.asarray(levels).dtype
    if jnp.ndim(levels) != 3 or not jnp.issubdtype(kind, jnp.integer):
        raise checks.UsageError(
            f"levels has shape {jnp.shape(levels)} and dtype {kind}, but must"
            " be whole numbers [Z, Y, X]: 0 outside the region, 1 to n_levels"
            " inside."
        )
    checks.in_range("levels", levels, 0, n_levels)
    return jnp.asarray(levels, jnp.int32)


def greys(levels: jax.Array, grey_G: ArrayLike) -> jax.Array:
    """Grey level of every voxel.

    Args:
        levels: int32 [Z, Y, X], the row of each voxel, from 1; 0 outside.
        grey_G: the whole number that each row stands for.

    Returns:
        int32 [Z, Y, X], 0 outside.
    """
    grey = jnp.round(jnp.asarray(grey_G)).astype(jnp.int32)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), grey])[levels]


def pairs(
    first_N: jax.Array,
    second_N: jax.Array,
    shape: tuple[int, int],
    *,
    product: bool | None = None,
) -> jax.Array:
    """How many voxels have the one property and the other.

    Args:
        first_N: int32, row of each voxel, in 0 to rows - 1.
        second_N: int32, its column, in 0 to columns - 1.
        shape: rows and columns; Python numbers.
        product: whether indicators are multiplied; None for all backends but
            the CPU.

    Returns:
        int32 [rows, columns].
    """
    rows, columns = shape
    if product is None:
        product = jax.default_backend() != "cpu"
    if not product or first_N.size >= _EXACT:
        cell_N = first_N * columns + second_N
        counts = totals(cell_N, jnp.ones_like(cell_N), rows * columns)
        return counts.reshape(rows, columns)
    # 0 and 1 are exact in bfloat16, and sums are those of float32.
    counts = jnp.einsum(
        "nr,nc->rc",
        jax.nn.one_hot(first_N, rows, dtype=jnp.bfloat16),
        jax.nn.one_hot(second_N, columns, dtype=jnp.bfloat16),
        preferred_element_type=jnp.float32,
    )
    return counts.astype(jnp.int32)


def totals(cell_N: jax.Array, values_N: jax.Array, size: int) -> jax.Array:
    """Sums of values by cell.

    Args:
        cell_N: int32 in 0 to size - 1.
        values_N: numbers to add.
        size: number of cells; a Python number.

    Returns:
        [size], dtype of the values.
    """
    return _totals(size)(cell_N, values_N)


@functools.cache
def _totals(size: int):
    """The sums of `size` cells, as one loop for a whole batch.

    A scatter that JAX batches has an index of two numbers, which takes XLA two
    to three times as long on CPU.
    """

    @custom_vmap
    def add(cell_N: jax.Array, values_N: jax.Array) -> jax.Array:
        return _scatter(cell_N, values_N, size)

    @add.def_vmap
    def many(batch, batched, cell_N, values_N):
        given = []
        for array, has in zip((cell_N, values_N), batched, strict=True):
            stacked = jnp.broadcast_to(array, (batch, *array.shape))
            given.append(array if has else stacked)
        cell_BxN, values_BxN = given
        if batch * size >= _MOST:
            one = functools.partial(_scatter, size=size)
            return jax.vmap(one)(cell_BxN, values_BxN), True
        first_B = jnp.arange(batch, dtype=cell_BxN.dtype) * size
        cells = (cell_BxN + first_B[:, None]).ravel()
        found = totals(cells, values_BxN.ravel(), batch * size)
        return found.reshape(batch, size), True

    return add


def _scatter(cell_N: jax.Array, values_N: jax.Array, size: int) -> jax.Array:
    empty = jnp.zeros(size, values_N.dtype)
    return empty.at[cell_N].add(values_N, mode="promise_in_bounds")
