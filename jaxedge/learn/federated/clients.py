"""Stacked clients: pytrees whose every leaf has a leading axis of clients.

Letters: C clients, T the shape of a leaf without that axis.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import path_name

# The sum of a million of these is still a float32.
_LARGEST = 1e30


def count(**stacks: Any) -> int:
    """C, the length of the leading axis of every leaf of all `stacks`.

    Args:
        **stacks: pytrees by the name that the user knows them by.

    Raises:
        UsageError: for a leaf of another length, none at all, or no clients.
    """
    lengths = {
        f"{name}/{path_name(path)}".rstrip("/"): (jnp.shape(leaf) or (None,))[0]
        for name, tree in stacks.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if not lengths:
        raise checks.UsageError(
            f"{' and '.join(stacks)} hold no array, but the clients are counted"
            " by the leading axis of one."
        )
    (first, n), *rest = lengths.items()
    for name, length in lengths.items():
        if length is None:
            raise checks.UsageError(
                f"{name} is a single number, but needs a leading axis of"
                " clients."
            )
    for name, length in rest:
        if length != n:
            raise checks.UsageError(
                f"{first} has {n} clients but {name} has {length}; every leaf"
                " needs one leading axis of clients."
            )
    if not n:
        raise checks.UsageError(
            f"{first} has 0 clients, but at least one is needed."
        )
    return n


def weigh(weights_C: ArrayLike, **stacks: Any) -> jax.Array:
    """Weights as floats, of which 0 is a client that takes no part.

    Args:
        weights_C: real numbers in [0, 1e30] or bool, [C]. A traced weight
            that is NaN, infinite or negative counts as 0, as does one below
            the least normal float.
        **stacks: what the clients sent, by name.

    Returns:
        [C], at least float32.

    Raises:
        UsageError: for a known weight that is not such, or lengths that differ.
    """
    if not isinstance(weights_C, jax.Array):
        weights_C = np.asarray(weights_C)
    checks.in_range("a client's weight", weights_C, 0, _LARGEST)
    if jnp.ndim(weights_C) != 1:
        raise checks.UsageError(
            f"the weights have shape {jnp.shape(weights_C)}, but must be [C],"
            " one for each client."
        )
    count(**stacks, weights=weights_C)
    return _usable(weights_C)


def column(values_C: jax.Array, like: jax.Array) -> jax.Array:
    """[C] as [C, 1, ..., 1], of the rank of `like`."""
    return values_C.reshape(values_C.shape + (1,) * (like.ndim - 1))


def choose(mask_C: jax.Array, yes_CxT: Any, no_CxT: Any) -> Any:
    """Of each client the one pytree where the mask is true, else the other."""

    def leaf(yes, no):
        yes, no = jnp.asarray(yes), jnp.asarray(no)
        mask = jnp.broadcast_to(column(mask_C, yes), yes.shape)
        return jnp.where(mask, yes, no.astype(yes.dtype))

    return jax.tree.map(leaf, yes_CxT, no_CxT)


def same_form(name: str, tree: Any, like: Any, *, stacked: bool) -> None:
    """Raises unless `tree` has the structure and shapes of `like`.

    Args:
        name: what the user calls the tree.
        tree: a pytree.
        like: what it should look like.
        stacked: whether the leaves of `tree` have one more axis, of clients.

    Raises:
        UsageError: naming the first leaf that differs.
    """
    found, want = jax.tree.structure(tree), jax.tree.structure(like)
    if found != want:
        raise checks.UsageError(
            f"{name} has the structure {found}, but must have {want}."
        )
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(tree),
        jax.tree.leaves(like),
        strict=True,
    )
    for (path, leaf), wanted in pairs:
        shape = jnp.shape(leaf)[1:] if stacked else jnp.shape(leaf)
        if shape != jnp.shape(wanted):
            raise checks.UsageError(
                f"{path_name(path) or 'the array'} of {name} has shape {shape}"
                f"{' a client' if stacked else ''}, but must have"
                f" {jnp.shape(wanted)}."
            )


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def wide(leaf: ArrayLike) -> jax.Array:
    """A float leaf in the format its sums are taken in: at least float32."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


@jax.jit
def _usable(weights_C: jax.Array) -> jax.Array:
    weights_C = wide(weights_C)
    least = jnp.finfo(weights_C.dtype).tiny
    usable_C = jnp.isfinite(weights_C) & (weights_C >= least)
    return jnp.where(usable_C, weights_C, 0)
