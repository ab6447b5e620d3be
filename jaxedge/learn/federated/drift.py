"""What FedProx and SCAFFOLD change in a client's gradients.

`local` stands before the client's own optimiser and has optax's signature, so
that it can be chained and applied like any transformation of optax.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.federated import clients, controls


class Optimizer(Protocol):
    """An optax transformation, or another pair that is called like one."""

    @property
    def init(self) -> Callable[..., Any]:
        """params -> state."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """(gradients, state, params) -> (updates, state)."""
        ...


class Transformation(NamedTuple):
    """A pair of pure functions with the signature of optax.

    Attributes:
        init: params -> state.
        update: (gradients, state, params) -> (updates, state).
    """

    init: Callable[..., Any]
    update: Callable[..., Any]


class Local(NamedTuple):
    """The state of `local`.

    Attributes:
        anchor: the params that the server sent.
        correction: what is added to every gradient, c - c_i in SCAFFOLD:
            floats like the params, a single 0 for any other leaf.
        inner: the state of the client's own optimiser.
    """

    anchor: Any
    correction: Any
    inner: Any


def local(optimizer: Optimizer, mu: ArrayLike = 0.0) -> Transformation:
    """The client's optimiser, which sees g + mu (x - anchor) + correction.

    The proximal term of FedProx (Li et al. 2020, arXiv:1812.06127, eq. 2) and
    the control variates of SCAFFOLD (Karimireddy et al. 2020, eq. 3). `begin`
    sets anchor and correction at the start of a round.

    Args:
        optimizer: an optax transformation or another such pair.
        mu: weight of the proximal term, >= 0.

    Returns:
        Pair whose state is a `Local`. Its update needs the params.

    Raises:
        UsageError: for a negative `mu`, or (of the update) no params.
    """
    checks.in_range("mu", mu, 0)

    def init(params):
        zero = controls.correction(params, None)
        return Local(params, zero, optimizer.init(params))

    def corrected(g, x, anchor, correction):
        if not clients.is_float(x):
            return g
        pull = mu * (clients.wide(x) - clients.wide(anchor))
        return (clients.wide(g) + pull + correction).astype(g.dtype)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise checks.UsageError(
                "federated.local needs the params: call"
                " update(gradients, state, params)."
            )
        updates = jax.tree.map(
            corrected, updates, params, state.anchor, state.correction
        )
        updates, inner = optimizer.update(updates, state.inner, params, **extra)
        return updates, state._replace(inner=inner)

    return Transformation(init, update)


def begin(state: Local, model: Any, own: Any = None) -> Local:
    """The state at the start of a round; that of the optimiser stays.

    Args:
        state: of `local`.
        model: what the server sent, params or a `Controlled`.
        own: the client's control variate, for a `Controlled`.
    """
    return state._replace(
        anchor=controls.params_of(model),
        correction=controls.correction(model, own),
    )
