"""What a server does with its clients' models, as pairs of pure functions.

    strategy = federated.fedadam(rate=0.01)
    state = strategy.init(params)
    params, state = strategy.update(state, params, params_CxT, weights_C)

A round in which nobody takes part changes neither. Whole-number and bool
leaves take the combined value; only floats have momenta.

Letters: C clients, T the shape of a leaf without that axis.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.learn.federated import aggregate, clients


class Combine(Protocol):
    """`average`, `median` or another that is called like them."""

    def __call__(
        self, params_CxT: Any, weights_C: ArrayLike, *, otherwise: Any
    ) -> Any:
        """One model of the clients', or `otherwise` where nobody took part."""
        ...


class Strategy(NamedTuple):
    """How a server turns the clients' models into the next one.

    Attributes:
        init: params -> the server's state.
        update: (state, params, params_CxT, weights_C) -> (params, state).
        mu: weight of the proximal term in the clients' gradients, for `local`.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any, ArrayLike], tuple[Any, Any]]
    mu: ArrayLike = 0.0


class Momentum(NamedTuple):
    """The server's velocity, a pytree like the params."""

    velocity: Any


class Adaptive(NamedTuple):
    """Moving first and second moments of the mean update, like the params."""

    mean: Any
    square: Any


def fedavg(combine: Combine = aggregate.average) -> Strategy:
    """The mean of the clients' models (McMahan et al. 2017).

    Args:
        combine: takes the place of the mean.
    """

    def step(state, params, target):
        return (target, state)

    return _server(lambda params: (), step, combine)


def fedprox(mu: ArrayLike, combine: Combine = aggregate.average) -> Strategy:
    """FedAvg whose clients are held near the server's model (Li et al. 2020).

    Clients minimise f(x) + mu/2 |x - x_server|^2 (arXiv:1812.06127, eq. 2): see
    `local`, to which `mu` must be given.

    Args:
        mu: >= 0.
        combine: takes the place of the mean.

    Raises:
        UsageError: for a negative `mu`.
    """
    checks.in_range("mu", mu, 0)
    return fedavg(combine)._replace(mu=mu)


def fedmedian() -> Strategy:
    """The median of every entry, without weights (Yin et al. 2018)."""
    return fedavg(aggregate.median)


def fedtrim(share: float) -> Strategy:
    """The trimmed mean of every entry, without weights (Yin et al. 2018).

    Args:
        share: left out at either end, in [0, 1/2); a Python number.

    Raises:
        UsageError: for a share outside.
    """
    aggregate.cuts(share, 0)
    return fedavg(functools.partial(aggregate.trimmed_mean, share=share))


def fedavgm(
    rate: ArrayLike = 1.0,
    momentum: ArrayLike = 0.9,
    combine: Combine = aggregate.average,
) -> Strategy:
    """FedAvg with momentum at the server (Hsu, Qi & Brown 2019).

    v = momentum v + d and x = x + rate v, with d the mean of the clients'
    models less x (arXiv:1909.06335, section 4.3).

    Args:
        rate: >= 0.
        momentum: in [0, 1].
        combine: takes the place of the mean.

    Raises:
        UsageError: for a number outside its range.
    """
    checks.in_range("rate", rate, 0)
    checks.in_range("momentum", momentum, 0, 1)

    def step(state, params, target):
        move = _difference(target, params)
        velocity = jax.tree.map(
            lambda v, d: momentum * v + d, state.velocity, move
        )
        change = jax.tree.map(lambda v: rate * v, velocity)
        return _moved(params, target, change), Momentum(velocity)

    return _server(lambda params: Momentum(_slots(params)), step, combine)


def fedadam(
    rate: ArrayLike,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    tau: ArrayLike = 1e-3,
    combine: Combine = aggregate.average,
) -> Strategy:
    """Adam at the server (Reddi et al. 2021).

    m = b1 m + (1 - b1) d, v = b2 v + (1 - b2) d^2 and
    x = x + rate m / (sqrt v + tau), from m = 0 and v = tau^2, without the
    correction of bias (arXiv:2003.00295, Algorithm 2).

    Args:
        rate: >= 0; the paper tunes it to the task.
        b1: in [0, 1].
        b2: in [0, 1].
        tau: > 0; how adaptive the steps are.
        combine: takes the place of the mean.

    Raises:
        UsageError: for a number outside its range.
    """

    def square(v, d):
        return b2 * v + (1 - b2) * d**2

    return _adaptive(square, rate, (b1, b2), tau, combine)


def fedyogi(
    rate: ArrayLike,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    tau: ArrayLike = 1e-3,
    combine: Combine = aggregate.average,
) -> Strategy:
    """Yogi at the server (Reddi et al. 2021).

    As `fedadam` but for v = v - (1 - b2) d^2 sign(v - d^2).
    """

    def square(v, d):
        return v - (1 - b2) * d**2 * jnp.sign(v - d**2)

    return _adaptive(square, rate, (b1, b2), tau, combine)


def fedadagrad(
    rate: ArrayLike,
    b1: ArrayLike = 0.0,
    tau: ArrayLike = 1e-3,
    combine: Combine = aggregate.average,
) -> Strategy:
    """Adagrad at the server (Reddi et al. 2021): `fedadam` with v = v + d^2."""
    return _adaptive(lambda v, d: v + d**2, rate, (b1, 0.0), tau, combine)


def averaging(strategy: Strategy, chosen: Callable[[str], bool]) -> Strategy:
    """A strategy that leaves some of the leaves to the plain weighted mean.

    For running statistics of batch normalisation, whose variance no optimiser
    may push below 0.

    Args:
        strategy: for the other leaves.
        chosen: whether a leaf, by its path such as `batch_stats/norm/mean`, is
            averaged.
    """

    def update(state, params, params_CxT, weights_C):
        moved, state = strategy.update(state, params, params_CxT, weights_C)
        mean = aggregate.average(params_CxT, weights_C, otherwise=params)

        def pick(name, new, plain):
            return plain if chosen(name) else new

        return map_named(pick, moved, mean), state

    return strategy._replace(update=update)


def _adaptive(square, rate, decays, tau, combine) -> Strategy:
    checks.in_range("rate", rate, 0)
    checks.in_range("tau", tau, 0, open_low=True)
    for name, decay in zip(("b1", "b2"), decays, strict=True):
        checks.in_range(name, decay, 0, 1)
    b1 = decays[0]

    def init(params):
        mean = _slots(params)
        return Adaptive(mean, jax.tree.map(lambda m: m + tau**2, mean))

    def step(state, params, target):
        move = _difference(target, params)
        mean = jax.tree.map(
            lambda m, d: b1 * m + (1 - b1) * d, state.mean, move
        )
        second = jax.tree.map(square, state.square, move)
        change = jax.tree.map(
            lambda m, v: rate * m / (jnp.sqrt(v) + tau), mean, second
        )
        return _moved(params, target, change), Adaptive(mean, second)

    return _server(init, step, combine)


def _server(init, step, combine: Combine) -> Strategy:
    """Combines the clients, steps, and takes it back where nobody was there."""

    def update(state, params, params_CxT, weights_C):
        target = combine(params_CxT, weights_C, otherwise=params)
        moved = step(state, params, target)
        weights_C = clients.weigh(weights_C, params=params_CxT)
        return kept_if_alone(weights_C, moved, (params, state))

    return Strategy(init, update)


def kept_if_alone(weights_C: jax.Array, new: Any, old: Any) -> Any:
    """`new` where anybody took part, else `old`, of its dtypes."""
    some = (weights_C > 0).any()

    def leaf(n, o):
        o = jnp.asarray(o)
        return jnp.where(some, jnp.asarray(n).astype(o.dtype), o)

    return jax.tree.map(leaf, new, old)


def _slots(params: Any) -> Any:
    """Zeros for the floats; a single one stands for any other leaf."""
    return jax.tree.map(
        lambda p: (
            jnp.zeros_like(clients.wide(p))
            if clients.is_float(p)
            else jnp.zeros(())
        ),
        params,
    )


def _difference(a: Any, b: Any) -> Any:
    """a - b of the floats, in the form of `_slots`."""
    return jax.tree.map(
        lambda a, b: (
            clients.wide(a) - clients.wide(b)
            if clients.is_float(b)
            else jnp.zeros(())
        ),
        a,
        b,
    )


def _moved(params: Any, target: Any, change: Any) -> Any:
    """params + change of the floats, and the target of the other leaves."""
    return jax.tree.map(
        lambda p, t, c: (
            (clients.wide(p) + c).astype(jnp.result_type(p))
            if clients.is_float(p)
            else t
        ),
        params,
        target,
        change,
    )
