"""Differential privacy of clients or examples: clip, add noise, account.

The sum of vectors of norm at most `limit`, with normal noise of standard
deviation noise * limit, tells little of any one of them (Abadi et al. 2016,
arXiv:1607.00133; for clients McMahan et al. 2018, arXiv:1710.06963); how little
is told by `accountant`. Noise of float32 is not proof against an attack on its
lowest bits (Mironov 2012, doi:10.1145/2382196.2382264).

Letters: C clients (or examples), T the shape of a leaf without that axis.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import map_named
from jaxedge.learn.federated import aggregate, clients
from jaxedge.learn.federated.strategies import Strategy


class Clipped(NamedTuple):
    """Updates whose norms are bounded.

    Attributes:
        updates_CxT: as given, but no longer than the limit.
        norms_C: before, [C].
    """

    updates_CxT: Any
    norms_C: jax.Array


class Private(NamedTuple):
    """The state of a `private` server.

    Attributes:
        inner: the state of the strategy.
        key: of all noise.
        round: how many rounds have drawn from it, int32 [].
    """

    inner: Any
    key: jax.Array
    round: jax.Array


def clip(updates_CxT: Any, limit: ArrayLike) -> Clipped:
    """Shortens each client's update to a Euclidean norm of at most `limit`.

    u min(1, limit / |u|) over all leaves together, up to rounding in the
    dtype. An update whose norm is no finite float32 becomes 0, so that the
    bound always holds.

    Args:
        updates_CxT: pytree of float arrays [C, ...], such as one gradient an
            example.
        limit: > 0.

    Raises:
        UsageError: for a limit that is not positive or a leaf of whole numbers.
    """
    checks.in_range("limit", limit, 0, open_low=True)
    _check_floats(updates_CxT)
    norms_C = aggregate.norms(updates_CxT)
    good_C = jnp.isfinite(norms_C)
    long_C = good_C & (norms_C > limit)
    factor_C = jnp.where(long_C, limit / jnp.where(long_C, norms_C, 1), 1)

    def leaf(u):
        good = jnp.broadcast_to(clients.column(good_C, u), u.shape)
        u_wide = clients.wide(jnp.where(good, u, 0))
        return (u_wide * clients.column(factor_C, u)).astype(u.dtype)

    return Clipped(jax.tree.map(leaf, updates_CxT), norms_C)


def add_noise(key: jax.Array, tree: Any, std: ArrayLike) -> Any:
    """Adds independent normal noise to every float.

    Args:
        key: typed, shape []; each leaf draws from the stream of its path.
        tree: pytree of float arrays.
        std: standard deviation, >= 0.

    Raises:
        UsageError: for a negative `std` or a leaf of whole numbers.
    """
    check_key(key)
    checks.in_range("std", std, 0)
    _check_floats(tree)

    def leaf(name, x):
        wide = clients.wide(x)
        noise = jax.random.normal(stream(key, name), wide.shape, wide.dtype)
        return (wide + std * noise).astype(x.dtype)

    return map_named(leaf, tree)


def private_mean(
    key: jax.Array,
    updates_CxT: Any,
    mask_C: ArrayLike,
    *,
    limit: ArrayLike,
    noise: ArrayLike,
    expected: ArrayLike,
) -> Any:
    """(sum of clipped updates + noise) / expected number of clients.

    Clients count alike, and the divisor is fixed: the number that took part
    is itself private (McMahan et al. 2018, Algorithm 1, fixed-denominator
    estimator). One client changes the sum by at most `limit`, so `noise` is
    what the accountant calls so.

    Args:
        key: typed, shape []; consumed.
        updates_CxT: pytree of float arrays [C, ...].
        mask_C: who takes part, [C]; each client by its own chance.
        limit: largest norm, > 0.
        noise: standard deviation of the noise over `limit`, >= 0.
        expected: number of clients that take part on average, > 0.

    Returns:
        Pytree without the axis of clients, of the dtypes of the updates.

    Raises:
        UsageError: for numbers outside their range or shapes that differ.
    """
    checks.in_range("noise", noise, 0)
    checks.in_range("expected", expected, 0, open_low=True)
    _check_floats(updates_CxT)
    taken_C = clients.weigh(mask_C, updates=updates_CxT) > 0
    # In float32 from here: clipping must not be undone by a rounding.
    wide_CxT = jax.tree.map(clients.wide, updates_CxT)
    clipped_CxT = clip(wide_CxT, limit).updates_CxT

    def total(u):
        taken = jnp.broadcast_to(clients.column(taken_C, u), u.shape)
        return jnp.where(taken, u, 0).sum(0)

    noisy = add_noise(key, jax.tree.map(total, clipped_CxT), noise * limit)
    return jax.tree.map(
        lambda x, u: (x / expected).astype(u.dtype), noisy, updates_CxT
    )


def private(
    strategy: Strategy,
    key: jax.Array,
    *,
    limit: ArrayLike,
    noise: ArrayLike,
    expected: ArrayLike,
) -> Strategy:
    """A strategy that sees only the private mean of the clients' updates.

    Its model is params + `private_mean` of what the clients changed; all that
    a strategy does with it afterwards costs no privacy. Unlike other
    strategies this one moves even if nobody takes part: that nobody did would
    show otherwise.

    Args:
        strategy: for plain params, all leaves floats. Medians see one client.
        key: typed, shape []; every round draws its own noise from it.
        limit: as for `private_mean`.
        noise: likewise.
        expected: likewise.

    Raises:
        UsageError: (of init) for a leaf of whole numbers.
    """
    check_key(key)

    def init(params):
        _check_floats(params)
        inner = strategy.init(params)
        return Private(inner, key, jnp.zeros((), jnp.int32))

    def update(state, params, params_CxT, weights_C):
        def change(y, x):
            return clients.wide(y) - clients.wide(x)[None]

        mean = private_mean(
            stream(state.key, "noise", state.round),
            jax.tree.map(change, params_CxT, params),
            weights_C,
            limit=limit,
            noise=noise,
            expected=expected,
        )
        target = jax.tree.map(
            lambda x, d: (clients.wide(x) + d).astype(jnp.result_type(x))[None],
            params,
            mean,
        )
        params, inner = strategy.update(
            state.inner, params, target, jnp.ones(1)
        )
        return params, Private(inner, state.key, state.round + 1)

    return strategy._replace(init=init, update=update)


def _check_floats(tree: Any) -> None:
    def leaf(name, x):
        if not clients.is_float(x):
            raise checks.UsageError(
                f"{name or 'the array'} has dtype {jnp.result_type(x)}, which"
                " noise cannot protect; leave it out of what clients send."
            )

    map_named(leaf, tree)
