"""What the pool of a query must look like on the host."""

from typing import Any

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks


def known(name: str, **arrays: Any) -> None:
    """Raises for a tracer: a query looks at the numbers."""
    for array in arrays:
        if isinstance(arrays[array], Tracer):
            raise checks.UsageError(
                f"{array} of {name} is traced, but a query runs on the host;"
                " call it outside jit, vmap and grad."
            )


def host(name: str, value: Any, axes: str) -> np.ndarray:
    """`value` as an array of numpy's in at least float32, copied if need be.

    Args:
        name: what the user calls the array.
        value: real numbers.
        axes: their letters, such as "ND".

    Raises:
        UsageError: for what is not real, another rank, or an empty axis.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # Rows of unequal length.
        raise checks.UsageError(f"{name} must be an array.") from None
    if array.ndim != len(axes) or not array.size:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be"
            f" [{', '.join(axes)}] without an empty axis."
        )
    dtype = array.dtype
    if not jnp.issubdtype(dtype, np.number) or np.iscomplexobj(array):
        raise checks.UsageError(
            f"{name} has dtype {dtype}, but must hold real numbers."
        )
    return array.astype(np.result_type(dtype, np.float32), copy=False)


def affordable(budget: Any, pool: int) -> None:
    """Raises unless `budget` samples can be taken from a pool of `pool`."""
    checks.whole("budget", budget)
    if budget > pool:
        raise checks.UsageError(
            f"budget is {budget}, but the pool has {pool} samples; lower the"
            " budget to what the pool has."
        )


def shares(name: str, value: Any, classes: int) -> jax.Array:
    """Shares or counts of classes [K], of which one at least is positive."""
    array = value if isinstance(value, Tracer) else host(name, value, "K")
    if array.shape != (classes,):
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but there are {classes} classes."
        )
    checks.in_range(name, array, 0)
    if checks.concrete(array) and not np.any(np.asarray(array) > 0):
        raise checks.UsageError(
            f"{name} is 0 of every class; give what the client has labelled."
        )
    return jnp.asarray(array)
