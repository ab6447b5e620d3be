"""What logits, Dirichlet parameters and labels must look like."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks


def real(name: str, value: ArrayLike) -> jax.Array:
    """`value` [..., K] in at least float32; bfloat16 knows 8 bits of evidence.

    Raises:
        UsageError: for what is not floating point, has no classes, or holds
            numbers that are not finite.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating) or not array.ndim:
        raise checks.UsageError(
            f"{name} is {array.dtype} of shape {array.shape}, but must be"
            " floating point with the classes on its last axis."
        )
    if not array.shape[-1]:
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but needs a class at least."
        )
    checks.finite(name, array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def dirichlet(alpha: ArrayLike) -> jax.Array:
    """Dirichlet parameters [..., K]; raises UsageError unless positive."""
    array = real("alpha", alpha)
    checks.in_range("alpha", array, 0, open_low=True)
    return array


def labels(onehot: ArrayLike, like: jax.Array) -> jax.Array:
    """One-hot or soft labels, of the shape and type of `like` [..., K].

    Raises:
        UsageError: for another shape, or numbers outside [0, 1].
    """
    array = jnp.asarray(onehot)
    if array.shape != like.shape:
        raise checks.UsageError(
            f"onehot has shape {array.shape}, but must be {like.shape} like"
            " the predictions; jax.nn.one_hot makes it of class numbers."
        )
    checks.in_range("onehot", array, 0, 1)
    return array.astype(like.dtype)


def of_classes(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """One number a class, [K] or like `like` [..., K], as the latter.

    Raises:
        UsageError: for another shape, or numbers that are negative.
    """
    array = jnp.asarray(value)
    if array.shape not in (like.shape[-1:], like.shape):
        raise checks.UsageError(
            f"{name} has shape {array.shape}, but must be {like.shape[-1:]},"
            " one number a class."
        )
    checks.in_range(name, array, 0)
    return jnp.broadcast_to(array.astype(like.dtype), like.shape)


def of_examples(weight: ArrayLike | None, like: jax.Array) -> jax.Array:
    """Weights of examples or pixels, [...] of `like` [..., K]; None is 1.

    Raises:
        UsageError: for another shape, or numbers that are negative.
    """
    if weight is None:
        return jnp.ones(like.shape[:-1], like.dtype)
    array = jnp.asarray(weight)
    if array.shape != like.shape[:-1]:
        raise checks.UsageError(
            f"weight has shape {array.shape}, but must be {like.shape[:-1]},"
            " the predictions' without the classes."
        )
    checks.in_range("weight", array, 0)
    return array.astype(like.dtype)
