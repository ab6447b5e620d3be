"""What evidence about samples must look like, and errors that say so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks


def real(name: str, value: Any, axes: str) -> jax.Array:
    """`value` as an array of at least float32: bfloat16 scores would tie.

    Args:
        name: what the user calls the array.
        value: real numbers.
        axes: their letters, such as "NK".

    Raises:
        UsageError: for what is not real, another rank, or an empty axis.
    """
    array = _shaped(name, _array(name, value), axes)
    dtype = array.dtype
    if not jnp.issubdtype(dtype, np.number) or jnp.iscomplexobj(array):
        raise checks.UsageError(
            f"{name} has dtype {dtype}, but must hold real numbers."
        )
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def whole(
    name: str, value: Any, n: int | None = None, classes: int | None = None
) -> Any:
    """`value` as whole numbers [N], numpy's unless JAX's.

    Args:
        name: what the user calls the array.
        value: the class of every sample.
        n: N; None leaves that open.
        classes: how many there are, likewise.

    Raises:
        UsageError: for numbers that are not whole, another shape, or, where
            they are known, a class that does not exist.
    """
    array = _shaped(name, _array(name, value), "N")
    if not jnp.issubdtype(array.dtype, np.integer):
        raise checks.UsageError(
            f"{name} has dtype {array.dtype}, but must hold whole numbers."
        )
    if n is not None:
        same("samples", **{name: array.size, "the rest": n})
    checks.in_range(name, array, 0, np.inf if classes is None else classes - 1)
    return array


def true_or_false(name: str, value: Any, axes: str) -> jax.Array:
    """`value` as an array of truth values; raises UsageError for others."""
    array = _shaped(name, _array(name, value), axes)
    if array.dtype != bool:
        raise checks.UsageError(
            f"{name} has dtype {array.dtype}, but must be bool; compare"
            " predictions with labels."
        )
    return jnp.asarray(array)


def same(axis: str, **sizes: Any) -> None:
    """Raises unless all sizes, given by name, are one."""
    if len(set(sizes.values())) > 1:
        found = " and ".join(f"{name} has {n}" for name, n in sizes.items())
        raise checks.UsageError(f"{axis} must agree, but {found}.")


def no_nan(name: str, array: Any) -> None:
    """Raises if known numbers hold NaN; infinity is a score like any other."""
    if not checks.concrete(array):
        return
    bad = np.isnan(np.asarray(array, np.float64))
    if bad.any():
        raise checks.UsageError(
            f"{name} holds {int(bad.sum())} NaN values, the first of sample"
            f" {int(np.argwhere(bad)[0, 0])}; clean them before the selection."
        )


def _array(name: str, value: Any) -> Any:
    try:
        return value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:  # Rows of unequal length.
        raise checks.UsageError(f"{name} must be an array.") from None


def _shaped(name: str, array: Any, axes: str) -> Any:
    if array.ndim != len(axes) or not array.size:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be"
            f" [{', '.join(axes)}] without an empty axis."
        )
    return array
