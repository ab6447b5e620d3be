"""One model of many: means, medians and trimmed means of stacked clients.

A client takes part if its weight is above 0. What an absent one holds, NaN and
infinity too, never reaches the result.

Float leaves are summed in float32 at least and keep their dtype. Whole-number
leaves (step counters, counts of batches) get the mean rounded to the nearest,
half to even, or the median rounded down; they keep what all clients agree on,
however large, and their values must lie within 2^31 of each other. Of bool
leaves the majority counts; a tie is False.

Letters: C clients, T the shape of a leaf without that axis.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import path_name
from jaxedge.learn.federated import clients


def average(
    params_CxT: Any, weights_C: ArrayLike, *, otherwise: Any = None
) -> Any:
    """The weighted mean of the clients (McMahan et al. 2017, FedAvg).

    sum_c w_c x_c / sum_c w_c over the clients with w_c > 0
    (arXiv:1602.05629, Algorithm 1).

    Args:
        params_CxT: pytree of real, whole or bool arrays [C, ...].
        weights_C: [C] >= 0, such as numbers of samples or a mask.
        otherwise: pytree without the axis of clients, returned where all
            weights are 0; None stands for zeros.

    Returns:
        Pytree without the axis of clients, of the same dtypes.

    Raises:
        UsageError: for shapes that do not agree, a bad weight or dtype.
    """
    return _average(*_checked(params_CxT, weights_C, otherwise))


def median(
    params_CxT: Any, weights_C: ArrayLike, *, otherwise: Any = None
) -> Any:
    """The median of every entry over the clients (Yin et al. 2018).

    Of an even number the middle of the two (arXiv:1803.01498, Definition 1).
    Clients that take part must be finite: see `finite_clients`.

    Args:
        params_CxT: as for `average`.
        weights_C: [C] >= 0; only whether one is above 0 counts.
        otherwise: as for `average`.

    Returns:
        As `average`.

    Raises:
        UsageError: as `average`.
    """
    return _median(*_checked(params_CxT, weights_C, otherwise))


def trimmed_mean(
    params_CxT: Any,
    weights_C: ArrayLike,
    share: float,
    *,
    otherwise: Any = None,
) -> Any:
    """The mean of every entry without the extreme clients (Yin et al. 2018).

    Of n participants the floor(share n) smallest and as many of the largest
    are left out, with share n as exact as `share` is written
    (arXiv:1803.01498, Definition 2).

    Args:
        params_CxT: as for `average`.
        weights_C: [C] >= 0; only whether one is above 0 counts.
        share: left out at either end, in [0, 1/2); a Python number.
        otherwise: as for `average`.

    Returns:
        As `average`; for a share of 0 the unweighted mean.

    Raises:
        UsageError: for a share outside, or as `average`.
    """
    cut_N = cuts(share, jnp.shape(weights_C)[0] if jnp.ndim(weights_C) else 0)
    return _trimmed_mean(*_checked(params_CxT, weights_C, otherwise), cut_N)


def finite_clients(updates_CxT: Any) -> jax.Array:
    """Marks the clients all of whose floats are finite: bool [C]."""
    clients.count(updates=updates_CxT)
    return _finite_clients(updates_CxT)


def rejected(
    updates_CxT: Any,
    weights_C: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Which clients `finite_clients` rejects, and why; on the host.

    Args:
        updates_CxT: pytree of arrays [C, ...], no tracers.
        weights_C: [C]; a client of weight 0 is absent and not rejected.
        names: of the C clients; None names them "client 0" and so on.

    Returns:
        For each rejected client the leaf with its first bad entries.

    Raises:
        UsageError: for numbers of names, weights and clients that differ.
    """
    n = clients.count(updates=updates_CxT)
    names = [f"client {i}" for i in range(n)] if names is None else names
    if len(names) != n:
        raise checks.UsageError(f"{n} clients have {len(names)} names.")
    present = np.ones(n, bool)
    if weights_C is not None:
        present = np.asarray(clients.weigh(weights_C, updates=updates_CxT)) > 0
    found: dict[str, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates_CxT):
        if not clients.is_float(leaf):
            continue
        bad_C = (~np.isfinite(np.asarray(leaf, np.float32))).reshape(n, -1)
        for i in np.flatnonzero(bad_C.any(1) & present).tolist():
            reason = f"{bad_C[i].sum()} NaN or infinite values"
            found.setdefault(names[i], f"{path_name(path)}: {reason}")
    return found


def norms(updates_CxT: Any) -> jax.Array:
    """The Euclidean norm of each client's floats, [C], float32 at least.

    Neither overflows nor underflows before the norm itself does; its slope at
    an update of zero is taken as 0.
    """
    clients.count(updates=updates_CxT)
    return _norms(updates_CxT)


def cuts(share: float, most: int) -> np.ndarray:
    """floor(share n) for n = 0 to `most`, of the decimal number `share`.

    Raises:
        UsageError: for a share outside [0, 1/2), or under jit.
    """
    if isinstance(share, Tracer):
        raise checks.UsageError(
            "share is traced, but must be a Python number; mark it static."
        )
    checks.in_range("share (left out at either end)", share, 0)
    exact = Fraction(repr(float(share)))
    if exact >= Fraction(1, 2):
        raise checks.UsageError(
            f"share is {share}, but must be below 0.5: it is left out at"
            " either end."
        )
    return np.asarray([int(exact * n) for n in range(most + 1)], np.int32)


def _checked(params_CxT: Any, weights_C: ArrayLike, otherwise: Any) -> Any:
    """Params, usable weights, and what to return for nobody."""
    weights_C = clients.weigh(weights_C, params=params_CxT)
    if otherwise is None:
        # As bool, which every dtype can be made of.
        otherwise = jax.tree.map(
            lambda x: np.zeros(jnp.shape(x)[1:], bool), params_CxT
        )
    clients.same_form("params", params_CxT, otherwise, stacked=True)
    wanted = (jnp.floating, jnp.integer, jnp.bool_)
    for path, x in jax.tree_util.tree_leaves_with_path(params_CxT):
        dtype = jnp.result_type(x)
        if not any(jnp.issubdtype(dtype, kind) for kind in wanted):
            raise checks.UsageError(
                f"{path_name(path) or 'the array'} has dtype {dtype}, but only"
                " real, whole and bool arrays can be aggregated; leave it out"
                " of what clients send."
            )
    return params_CxT, weights_C, otherwise


@jax.jit
def _average(params_CxT: Any, weights_C: jax.Array, otherwise: Any) -> Any:
    taken_C = weights_C > 0
    share_C = weights_C / jnp.where(taken_C.any(), weights_C.sum(), 1)

    def leaf(x):
        return _mean(x, share_C, taken_C)

    return _aggregate(leaf, params_CxT, taken_C, otherwise)


@jax.jit
def _median(params_CxT: Any, weights_C: jax.Array, otherwise: Any) -> Any:
    taken_C = weights_C > 0
    n = taken_C.sum()

    def leaf(x):
        x = _sorted(x, taken_C)
        low, high = x[jnp.maximum(n - 1, 0) // 2], x[n // 2]
        if clients.is_float(x):
            # Each halved first: their sum may be beyond the largest float.
            return clients.wide(low) / 2 + clients.wide(high) / 2
        return (low & high) + ((low ^ high) >> 1)

    return _aggregate(leaf, params_CxT, taken_C, otherwise)


@jax.jit
def _trimmed_mean(
    params_CxT: Any, weights_C: jax.Array, otherwise: Any, cut_N: jax.Array
) -> Any:
    taken_C = weights_C > 0
    n = taken_C.sum()
    cut = cut_N[n]
    rank_C = jnp.arange(taken_C.size)
    kept_C = (rank_C >= cut) & (rank_C < n - cut)
    share_C = kept_C / jnp.maximum(n - 2 * cut, 1).astype(jnp.float32)

    def leaf(x):
        return _mean(_sorted(x, taken_C), share_C, kept_C)

    return _aggregate(leaf, params_CxT, taken_C, otherwise)


@jax.jit
def _finite_clients(updates_CxT: Any) -> jax.Array:
    n = jax.tree.leaves(updates_CxT)[0].shape[0]
    good_C = jnp.ones(n, bool)
    for x in jax.tree.leaves(updates_CxT):
        if clients.is_float(x):
            good_C &= jnp.isfinite(x).reshape(n, -1).all(1)
    return good_C


@jax.jit
def _norms(updates_CxT: Any) -> jax.Array:
    leaves = jax.tree.leaves(updates_CxT)
    n = leaves[0].shape[0]
    flat = [
        clients.wide(x).reshape(n, -1) for x in leaves if clients.is_float(x)
    ]
    if not flat:
        return jnp.zeros(n)
    largest = [jnp.max(jnp.abs(x), 1, initial=0) for x in flat]
    largest_C = jax.lax.stop_gradient(jnp.stack(largest, 1).max(1))
    # Not of the very largest or least, whose inverse is no normal float.
    scale_C = jnp.clip(largest_C, 2.0**-120, 2.0**120)
    scale_C = jnp.where(jnp.isfinite(largest_C), scale_C, 1)
    squares = [((x / scale_C[:, None]) ** 2).sum(1) for x in flat]
    square_C = jnp.stack(squares).sum(0)
    zero_C = square_C == 0
    root_C = jnp.sqrt(jnp.where(zero_C, 1, square_C))
    return scale_C * jnp.where(zero_C, 0, root_C)


def _aggregate(
    leaf: Callable[[jax.Array], jax.Array],
    params_CxT: Any,
    taken_C: jax.Array,
    otherwise: Any,
) -> Any:
    """`leaf` of every leaf in a format that it can work in, and back."""

    def one(x: jax.Array, rest: jax.Array) -> jax.Array:
        found = leaf(x.astype(jnp.int32) if x.dtype == bool else x)
        found = jnp.where(taken_C.any(), found, rest.astype(found.dtype))
        return found.astype(x.dtype)

    return jax.tree.map(one, params_CxT, otherwise)


def _mean(x: jax.Array, share_C: jax.Array, taken_C: jax.Array) -> jax.Array:
    """sum share x over those taken; rounded for whole numbers."""
    taken = jnp.broadcast_to(clients.column(taken_C, x), x.shape)
    if clients.is_float(x):
        x = clients.wide(jnp.where(taken, x, 0))
        # A sum rather than a product, which would ask where it is sharded.
        return (x * clients.column(share_C, x).astype(x.dtype)).sum(0)
    # From a participant's own number, so that large ones that agree stay.
    first_C = taken_C & (jnp.cumsum(taken_C) == 1)
    first = jnp.broadcast_to(clients.column(first_C, x), x.shape)
    dtype = jnp.promote_types(x.dtype, jnp.int32)
    wrap = {4: jnp.int32, 8: jnp.int64}[dtype.itemsize]
    whole = x.astype(dtype).astype(wrap)
    start = jnp.where(first, whole, 0).sum(0, dtype=wrap)
    far = jnp.where(taken, whole - start[None], 0).astype(share_C.dtype)
    far = jnp.round((far * clients.column(share_C, x)).sum(0))
    return (start + far.astype(wrap)).astype(x.dtype)


def _sorted(x: jax.Array, taken_C: jax.Array) -> jax.Array:
    """Sorts the participants of every entry, with the absent after them."""
    taken = jnp.broadcast_to(clients.column(taken_C, x), x.shape)
    last = jnp.inf if clients.is_float(x) else jnp.iinfo(x.dtype).max
    return jnp.sort(jnp.where(taken, x, jnp.asarray(last, x.dtype)), 0)
