"""What point sets must look like, and errors that say so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks


def rows(name: str, array: Any, columns: int = 1) -> jax.Array:
    """`array` as [..., N, C] of at least float32, with finite numbers.

    Args:
        name: what the user calls the array.
        array: of real numbers.
        columns: the least C.

    Raises:
        UsageError: for another rank, no rows, too few columns, complex
            numbers, NaN or infinity.
    """
    array = real(name, array)
    if array.ndim < 2 or not array.shape[-2] or array.shape[-1] < columns:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be [..., N, C], N >= 1"
            f" points with C >= {columns} columns."
        )
    return array


def real(name: str, array: Any) -> jax.Array:
    """`array` of at least float32: bfloat16 has 8 bits of a coordinate.

    Raises:
        UsageError: for what is not real, NaN or infinity.
    """
    array = known(name, array)
    checks.finite(name, array)
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def known(name: str, array: Any) -> Any:
    """`array` as numpy's unless it is JAX's: under jit, its numbers stay known.

    Raises:
        UsageError: for what is not real.
    """
    kind = type(array).__name__
    try:
        array = array if isinstance(array, jax.Array) else np.asarray(array)
    except ValueError:  # Rows of unequal length.
        array = np.asarray(None)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise checks.UsageError(f"{name} is complex, but must be real.")
    if not any(jnp.issubdtype(array.dtype, d) for d in (jnp.number, jnp.bool)):
        raise checks.UsageError(
            f"{name} must be an array of numbers, got {kind}."
        )
    return array


def same(axes: str, **shapes: tuple[int, ...]) -> None:
    """Raises unless all shapes, given by name, are one.

    Args:
        axes: what the shapes are those of.
        **shapes: by the name of the array.
    """
    if len(set(shapes.values())) > 1:
        found = " and ".join(f"{n} has {shape}" for n, shape in shapes.items())
        raise checks.UsageError(f"{axes} must agree, but {found}.")


def at_most(n: int, available: int, remedy: str) -> None:
    """Raises if `n` points are asked of fewer."""
    if n > available:
        raise checks.UsageError(
            f"n is {n}, but there are {available} points; {remedy}."
        )
