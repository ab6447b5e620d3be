"""What predictions, labels and weights must look like."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks


def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted mean, NaN without any weight."""
    return jnp.sum(weight * x) / jnp.sum(weight)


def real(
    name: str, value: ArrayLike, low: float = -jnp.inf, high: float = jnp.inf
) -> jax.Array:
    """Finite numbers in [low, high], in at least float32, or a UsageError."""
    array = jnp.asarray(value)
    if jnp.iscomplexobj(array):
        raise checks.UsageError(f"{name} is complex, but must be real.")
    checks.in_range(name, array, low, high)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def class_numbers(name: str, value: ArrayLike, classes: int) -> jax.Array:
    """Whole numbers in [0, K), or a UsageError."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise checks.UsageError(
            f"{name} is {array.dtype}, but must hold whole numbers: the class"
            " of each example."
        )
    checks.in_range(name, array, 0, classes - 1)
    return array


def examples(
    weight: ArrayLike | None, **arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """Arrays of one shape, and the weight as the last of them, as [N] each.

    Raises:
        UsageError: for shapes that differ, or no examples.
    """
    shape = next(iter(arrays.values())).shape
    if weight is None:
        arrays["weight"] = jnp.ones(shape)
    else:
        arrays["weight"] = real("weight", weight, 0)
    if any(a.shape != shape or not a.size for a in arrays.values()):
        found = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise checks.UsageError(
            f"shapes are {found}, but must be one, with some examples."
        )
    return tuple(a.ravel() for a in arrays.values())


def predictions(
    probability: ArrayLike, labels: ArrayLike, weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Probabilities [N, K], labels [N] and weights [N], or a UsageError."""
    p = real("probability", probability, 0, 1)
    if not p.ndim:
        raise checks.UsageError(
            "probability is one number, but needs the classes on its last axis."
        )
    k = p.shape[-1]
    labels = class_numbers("labels", labels, k)
    if labels.shape != p.shape[:-1]:
        raise checks.UsageError(
            f"labels have shape {labels.shape}, but must be {p.shape[:-1]},"
            " that of probability without the classes."
        )
    labels_N, weight_N = examples(weight, labels=labels)
    return p.reshape(-1, k), labels_N, weight_N
