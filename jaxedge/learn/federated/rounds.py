"""A round of federated learning as one pure function of stacked clients.

    state = federated.init(strategy, params, clients_C)
    step = jax.jit(functools.partial(federated.round, train, strategy))
    state, info = step(state, data_C, mask_C, key)

Letters: C clients, T the shape of a leaf without that axis.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.learn.federated import aggregate, clients, controls
from jaxedge.learn.federated.strategies import Strategy

MODES = ("vmap", "map")
# (params, client_state, data_c, key) -> (params, client_state, info)
Train = Callable[[Any, Any, Any, jax.Array], tuple[Any, Any, Any]]


class State(NamedTuple):
    """What is carried from round to round.

    Attributes:
        params: what the server sends: the model's params, or `Controlled`.
        server: the state of the strategy.
        clients_C: pytree of the clients' own states, each leaf [C, ...]; None
            if they have none.
    """

    params: Any
    server: Any
    clients_C: Any


class Info(NamedTuple):
    """What may be plotted of a round.

    Attributes:
        clients_C: what `local` told of each client, [C, ...]. Absent clients
            are computed too: leave them out by `taken_C`.
        taken_C: whose params were used, bool [C].
        finite_C: whose params hold neither NaN nor infinity, bool [C]; absent
            clients count as finite.
        norms_C: distance of the client's params from those sent, [C] float32;
            0 for those not taken.
    """

    clients_C: Any
    taken_C: jax.Array
    finite_C: jax.Array
    norms_C: jax.Array


def init(strategy: Strategy, params: Any, clients_C: Any = None) -> State:
    """The state before the first round.

    Args:
        strategy: of the server.
        params: what the server sends first.
        clients_C: the clients' own states, each leaf [C, ...].
    """
    return State(params, strategy.init(params), clients_C)


def client_keys(key: jax.Array, ids_C: ArrayLike) -> jax.Array:
    """The keys of clients in a round, [C]: each depends on its own id alone.

    Args:
        key: of the round, typed, shape []; not consumed.
        ids_C: whole numbers >= 0, [C].
    """
    check_key(key)
    root = stream(key, "client")
    return jax.vmap(jax.random.fold_in, (None, 0))(root, jnp.asarray(ids_C))


def round(
    local: Train,
    strategy: Strategy,
    state: State,
    data_C: Any,
    mask_C: ArrayLike,
    key: jax.Array,
    *,
    ids_C: ArrayLike | None = None,
    mode: str = "vmap",
    block: int = 1,
    mesh: Mesh | None = None,
) -> tuple[State, Info]:
    """Trains the clients and lets the server combine what they send.

    An absent client (mask 0) keeps its own state and contributes nothing,
    whatever its data hold; one whose params turn out NaN or infinite is
    treated likewise. If nobody is left, params and server stay as they are.
    A client's result depends on its id, not on who else is there.

    Args:
        local: a client's training, pure, from (params, its own state, its
            data, its key) to (params, state, info). The params come back in
            the same form; for `scaffold` see `reply`.
        strategy: of the server.
        state: from `init` or the round before.
        data_C: pytree of the clients' data, each leaf [C, ...].
        mask_C: who takes part, [C]: bool, or weights >= 0 of the mean such as
            numbers of samples.
        key: of this round, typed, shape []; consumed.
        ids_C: the clients' numbers, for the keys; None counts from 0. A stack
            that holds a choice of clients gives theirs.
        mode: "vmap" trains all clients at once, "map" one block after the
            other, in less memory.
        block: clients a device trains at once under "map".
        mesh: devices that share the clients out, in equal numbers, with axes
            of type Auto; None leaves the arrays where they are (under "vmap"
            they may be sharded over such a mesh).

    Returns:
        The new state, and `Info`.

    Raises:
        UsageError: for shapes that do not agree, no clients, a bad weight, mode
            or key, or params that come back in another form.
    """
    checks.choice("mode", mode, MODES)
    checks.whole("block", block, 1)
    stacks = dict(data=data_C, client_states=state.clients_C)
    weights_C = clients.weigh(mask_C, **stacks)
    ids_C = jnp.arange(weights_C.size) if ids_C is None else ids_C
    clients.count(weights=weights_C, ids=ids_C)
    keys_C = client_keys(key, ids_C)

    def train(c):
        return local(state.params, *c)

    rows_C = (state.clients_C, data_C, keys_C)
    if mesh is None:
        out = _every(train, rows_C, mode, block)
    else:
        out = _shared(local, state.params, rows_C, (mode, block, mesh))
    sent_CxT, states_C, info_C = out
    clients.same_form("what local sends", sent_CxT, state.params, stacked=True)
    clients.same_form(
        "the client state of local", states_C, state.clients_C, stacked=False
    )
    finite_C = aggregate.finite_clients(sent_CxT) | (weights_C == 0)
    taken_C = finite_C & (weights_C > 0)
    params, server = strategy.update(
        state.server, state.params, sent_CxT, jnp.where(taken_C, weights_C, 0)
    )
    kept_C = clients.choose(taken_C, states_C, state.clients_C)
    norms_C = jnp.where(taken_C, _distances(sent_CxT, state.params), 0)
    info = Info(info_C, taken_C, finite_C, norms_C)
    return State(params, server, kept_C), info


def _every(train: Callable[[Any], Any], rows_C: Any, mode: str, block: int):
    if mode == "vmap":
        return jax.vmap(train)(rows_C)
    return jax.lax.map(train, rows_C, batch_size=None if block == 1 else block)


def _shared(local: Train, params: Any, rows_C: Any, how: Any) -> Any:
    """`_every` on each device of a mesh, for its share of the clients."""
    mode, block, mesh = how
    n = rows_C[2].size
    kinds = {kind.name for kind in mesh.axis_types} - {"Auto"}
    if kinds:
        raise checks.UsageError(
            f"the mesh has axes of type {', '.join(kinds)}, but must have"
            " Auto ones; make it with axis_types=(jax.sharding.AxisType.Auto,)."
        )
    if n % mesh.size:
        raise checks.UsageError(
            f"{n} clients cannot be shared out equally to {mesh.size} devices;"
            f" add {-n % mesh.size} with mask 0."
        )

    def share(params, rows_C):
        return _every(lambda c: local(params, *c), rows_C, mode, block)

    split, every = PartitionSpec(mesh.axis_names), PartitionSpec()
    return jax.shard_map(
        share,
        mesh=mesh,
        in_specs=(every, split),
        out_specs=split,
        check_vma=False,
    )(params, rows_C)


def _distances(sent_CxT: Any, params: Any) -> jax.Array:
    """Norms of what the clients' params changed by, [C]."""

    def change(sent, p):
        if not clients.is_float(p):
            return sent
        return clients.wide(sent) - clients.wide(p)[None]

    pairs = (controls.params_of(tree) for tree in (sent_CxT, params))
    return aggregate.norms(jax.tree.map(change, *pairs))
