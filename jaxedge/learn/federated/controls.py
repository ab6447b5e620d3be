"""SCAFFOLD: clients whose gradients are corrected for their drift.

Server and clients keep control variates, estimates of their gradients; a
client adds the server's less its own (Karimireddy et al. 2020,
arXiv:1910.06378, Algorithm 1, option II).

The server sends `Controlled(params, control)`; a client sends back its params
and how its control changed, as another. All functions here take plain params
as well, so that a client is written once for every strategy:

    own, optimiser = client_state, federated.local(optax.sgd(rate), strategy.mu)
    params = federated.params_of(model)
    opt = federated.begin(optimiser.init(params), model, own)
    ... steps of the optimiser ...
    reply, own = federated.reply(model, own, params, steps, rate)

Letters: C clients, T the shape of a leaf without that axis.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.federated import aggregate, clients
from jaxedge.learn.federated.strategies import Strategy, kept_if_alone


class Controlled(NamedTuple):
    """What server and clients of SCAFFOLD send each other.

    Attributes:
        params: the model's, a pytree.
        control: the server's control variate, or the change of a client's:
            floats like the params, a single 0 for any other leaf.
    """

    params: Any
    control: Any


def scaffold(n_clients: int, rate: ArrayLike = 1.0) -> Strategy:
    """The server of SCAFFOLD; its model is a `Controlled` of `controlled`.

    x = x + rate mean(y_i - x) and c = c + n / N mean(c_i' - c_i), means over
    the n clients that take part. As in the paper all of them count alike: only
    whether a weight is above 0 matters.

    Args:
        n_clients: N, of all clients, also those that are absent.
        rate: of the server, >= 0.

    Raises:
        UsageError: for N < 1, a negative rate, or (of the update) known
            weights with more than N participants.
    """
    checks.whole("n_clients", n_clients, 1)
    checks.in_range("rate", rate, 0)

    def update(state, model, replies_CxT, weights_C):
        _check_share(weights_C, n_clients)
        weights_C = clients.weigh(weights_C, params=replies_CxT)
        taken_C = (weights_C > 0).astype(weights_C.dtype)
        mean = aggregate.average(replies_CxT, taken_C, otherwise=model)
        share = taken_C.sum() / n_clients
        control = jax.tree.map(
            lambda c, d: c + share.astype(c.dtype) * d,
            model.control,
            mean.control,
        )
        params = jax.tree.map(
            lambda x, y: _step(x, y, rate), model.params, mean.params
        )
        new = Controlled(params, control)
        return kept_if_alone(weights_C, new, model), state

    return Strategy(lambda model: (), update)


def controlled(params: Any) -> Controlled:
    """Params with a control variate of zero, before the first round."""
    return Controlled(params, _zeros(params))


def params_of(model: Any) -> Any:
    """The params of what a server or a client sent, with or without control."""
    return model.params if isinstance(model, Controlled) else model


def own_controls(model: Any, n: int) -> Any:
    """The control variates of `n` clients before their first round.

    Returns:
        Zeros [n, ...] for a `Controlled`, else None.
    """
    if not isinstance(model, Controlled):
        return None
    return jax.tree.map(
        lambda c: jnp.zeros((n,) + c.shape, c.dtype), model.control
    )


def correction(model: Any, own: Any) -> Any:
    """What a client adds to its gradients: c - c_i, or zeros without control.

    Args:
        model: as the server sent it.
        own: the client's control variate c_i; unused for plain params.
    """
    if not isinstance(model, Controlled):
        return _zeros(model)
    return jax.tree.map(jnp.subtract, model.control, own)


def reply(
    model: Any, own: Any, end: Any, steps: ArrayLike, rate: ArrayLike
) -> tuple[Any, Any]:
    """What a client sends after its steps, and its new control variate.

    c_i' = c_i - c + (x - y_i) / (steps rate), the mean of the gradients that
    moved plain SGD from x to y_i (option II). For a schedule `rate` is the mean
    of the rates; for another optimiser c_i' is in units of its updates.

    Args:
        model: as the server sent it.
        own: c_i.
        end: y_i, the params after the steps.
        steps: number of steps; after 0 the control variate stays.
        rate: of the client's SGD, > 0.

    Returns:
        (`Controlled(end, c_i' - c_i)`, c_i'); for plain params (end, own).

    Raises:
        UsageError: for a rate or a number of steps outside its range.
    """
    if not isinstance(model, Controlled):
        return end, own
    checks.in_range("steps", steps, 0)
    checks.in_range("rate", rate, 0, open_low=True)
    moved = jnp.asarray(steps) > 0
    way = jnp.where(moved, steps * rate, 1)

    def change(x, y, c):
        if not clients.is_float(x):
            return jnp.zeros_like(c)
        mean = (clients.wide(x) - clients.wide(y)) / way.astype(c.dtype)
        return jnp.where(moved, mean - c, 0).astype(c.dtype)

    changes = jax.tree.map(change, model.params, end, model.control)
    new = jax.tree.map(jnp.add, own, changes)
    return Controlled(end, changes), new


def _zeros(params: Any) -> Any:
    return jax.tree.map(
        lambda p: (
            jnp.zeros_like(clients.wide(p))
            if clients.is_float(p)
            else jnp.zeros(())
        ),
        params,
    )


def _step(x: ArrayLike, y: jax.Array, rate: ArrayLike) -> jax.Array:
    if not clients.is_float(x):
        return y
    x, dtype = clients.wide(x), jnp.result_type(x)
    return (x + rate * (clients.wide(y) - x)).astype(dtype)


def _check_share(weights_C: ArrayLike, n_clients: int) -> None:
    if not checks.concrete(weights_C):
        return
    present = int(np.sum(np.asarray(weights_C) > 0))
    if present > n_clients:
        raise checks.UsageError(
            f"{present} clients take part, but n_clients is {n_clients}; give"
            " the number of all clients."
        )
