"""Rounds of clients as pure functions over a state, for any inner recipe.

Letters: C clients, S steps of a round at most, B examples of a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.hardware import convolution
from jaxedge.learn import federated as rules
from jaxedge.learn.federated import clients as stacks
from jaxedge.recipes import optimizers
from jaxedge.recipes.client_data import Part, Round
from jaxedge.recipes.recipe import Recipe, Sums, add


class Client(NamedTuple):
    """What a client keeps from round to round.

    Attributes:
        step: steps that it has taken, int32.
        opt: its optimiser's state.
        control: its control variate, for "scaffold".
    """

    step: jax.Array
    opt: Any
    control: Any


class State(NamedTuple):
    """All that training carries from round to round.

    Attributes:
        round: int32 [].
        base: the server's network, a state of the inner recipe.
        fed: of `learn.federated.round`.
        start: what the network began with, where every query begins anew.
        own: what each client learned in the last round, [C, ...] each; nothing
            where no query asks for it.
        labelled: examples of all clients, int32 [].
    """

    round: jax.Array
    base: Any
    fed: Any
    start: Any
    own: Any
    labelled: jax.Array


class Privacy(NamedTuple):
    """Differential privacy of the clients (`federated.privacy.private`).

    Attributes:
        clip: largest norm of what a client may change in a round.
        noise: standard deviation of the noise on the sum, over `clip`.
        delta: for which the summary tells epsilon.
    """

    clip: float
    noise: float
    delta: float


class Plan(NamedTuple):
    """How clients and server work together.

    Attributes:
        inner: what a client runs; its optimiser is a `federated.local`.
        strategy: of the server.
        clients: C.
        rounds: of the whole training.
        rate: rounds since the network began -> the clients' learning rate.
        period: rounds after which the network begins anew; 0 never does.
        equal: whether clients count alike, not by their examples.
        present: probability that a client takes part in a round.
        controls: whether clients have control variates.
        keeps: whether what each client learned is kept for a query.
        mode: as of `federated.round`.
        privacy: of the clients; None is none.
        apart: whether clients keep their own state themselves, elsewhere.
    """

    inner: Recipe
    strategy: rules.Strategy
    clients: int
    rounds: int
    rate: Callable[[Any], Any]
    period: int = 0
    equal: bool = False
    present: float = 1.0
    controls: bool = False
    keeps: bool = False
    mode: str = "map"
    privacy: Privacy | None = None
    apart: bool = False


def init(plan: Plan, key: jax.Array) -> State:
    """The state before the first round."""
    return _begun(plan, plan.inner.init(key))


def begin(plan: Plan, state: State, batch: Round) -> State:
    """The state once the first step of every client has been seen."""
    if plan.inner.begin is None:
        return state
    rows = batch.parts.rows[:, 0].reshape(-1)
    weight = batch.parts.weight[:, 0].reshape(-1)
    first = take(batch, rows, weight)
    return _begun(plan, plan.inner.begin(state.base, first))


def update(plan: Plan, state: State, batch: Round) -> tuple[State, Sums]:
    """One round."""
    state = renewed(plan, state)
    key = round_key(state)
    weights_C = weigh(plan, key, batch.parts.labelled)

    def local(model, client, part, key):
        sent, client, sums = train(plan, state, model, client, batch, part, key)
        own = rules.params_of(sent)
        moved = distance(own, rules.params_of(model))
        return sent, client, (sums, moved, own if plan.keeps else ())

    fed, info = rules.round(
        local,
        server(plan, key),
        state.fed,
        batch.parts,
        weights_C,
        key,
        mode=plan.mode,
    )
    sums_C, moved_C, own = info.clients_C
    sums = jax.tree.map(lambda a: jnp.where(info.taken_C, a, 0).sum(0), sums_C)
    labelled = batch.parts.labelled.sum()
    # Without anybody there is no mean.
    sums |= {"count": jnp.maximum(sums["count"], 1)}
    sums |= told(info, labelled, moved_C)
    if plan.keeps:
        own = stacks.choose(info.taken_C, own, state.own)
    return merged(plan, state, fed, own, labelled), sums


def told(info: rules.Info, labelled: jax.Array, moved_C: jax.Array) -> Sums:
    """What a row of metrics says of a round, beside its clients' sums.

    Args:
        info: of the round.
        labelled: examples of all clients.
        moved_C: how far each client moved in what is learned.
    """
    taken = info.taken_C.sum()
    return {
        "clients/total": taken.astype(jnp.float32),
        "rejected/total": (~info.finite_C).sum().astype(jnp.float32),
        "drift/total": jnp.where(info.taken_C, moved_C, 0).sum()
        / jnp.maximum(taken, 1),
        "labelled/total": labelled.astype(jnp.float32),
    }


def train(
    plan: Plan,
    state: State,
    model: Any,
    client: Client,
    batch: Round,
    part: Part,
    key: jax.Array,
) -> tuple[Any, Client, Sums]:
    """A client's training in a round.

    Args:
        plan: of the training.
        state: before the round; of it only the round and what no client
            changes is used.
        model: what the server sends.
        client: what the client kept.
        batch: where its examples are.
        part: which of them it learns from.
        key: of the client in this round.

    Returns:
        What it sends, what it keeps, and the sums of its steps.
    """
    age = age_of(plan, state)
    rate = plan.rate(age)
    opt = rules.begin(client.opt, _learned(model), _part(client.control))
    opt = opt._replace(inner=optimizers.set_rate(opt.inner, rate))
    own = state.base._replace(step=client.step, key=key, opt=opt)
    own = received(own, rules.params_of(model))
    known = {"share": part.share, "age": age.astype(jnp.float32)}

    def learn(own, rows, weight):
        # The steps are a loop of one program, slow for convolutions on a CPU.
        with convolution.by_patches(jax.default_backend() == "cpu"):
            return plan.inner.update(own, take(batch, rows, weight, known))

    def step(i, carry):
        own, sums = carry
        own, more = learn(own, part.rows[i], part.weight[i])
        return own, add(sums, more)

    shapes = jax.eval_shape(learn, own, part.rows[0], part.weight[0])[1]
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    own, sums = jax.lax.fori_loop(0, part.steps, step, (own, zero))
    reply, control = rules.reply(
        model, client.control, sent(own), part.steps, rate
    )
    return reply, Client(own.step, own.opt, control), sums


def merged(
    plan: Plan, state: State, fed: rules.State, own: Any, labelled: jax.Array
) -> State:
    """The state after a round, of what the server made of the replies."""
    found = rules.params_of(fed.params)
    assert plan.inner.merge is not None
    base = plan.inner.merge(state.base, found["learned"], found["batch_stats"])
    return state._replace(
        round=state.round + 1,
        base=base._replace(step=base.step + 1),
        fed=fed,
        own=own,
        labelled=labelled.astype(jnp.int32),
    )


def summary(plan: Plan, state: State) -> dict[str, jax.Array]:
    """Scalars of the final state, and epsilon where clients are private."""
    found = dict(plan.inner.summary(state.base))
    found |= {"rounds": state.round, "labelled": state.labelled}
    given = plan.privacy
    if given is not None and given.noise and plan.rounds:
        cost = rules.accountant.renyi(given.noise, plan.present, plan.rounds)
        spent = rules.accountant.spent(cost, given.delta)
        found |= {"epsilon": jnp.float32(spent.epsilon)}
    return found


def network(plan: Plan, state: State, client: int | None) -> Any:
    """Variables of a client after the last round; of None the server's."""
    base = state.base
    if client is not None:
        base = received(base, jax.tree.map(lambda a: a[client], state.own))
    return plan.inner.finish(base)


def sent(state: Any) -> dict[str, Any]:
    """What the server and the clients send each other."""
    return {"learned": state.learned, "batch_stats": state.stats}


def received(state: Any, model: dict[str, Any]) -> Any:
    """The state of a network with what was `sent`."""
    return state._replace(learned=model["learned"], stats=model["batch_stats"])


def round_key(state: State) -> jax.Array:
    """Of the round that comes."""
    return stream(state.base.key, "round", state.round)


def age_of(plan: Plan, state: State) -> jax.Array:
    """Rounds since the network began."""
    return state.round % plan.period if plan.period else state.round


def weigh(plan: Plan, key: jax.Array, labelled_C: jax.Array) -> jax.Array:
    """The weight of each client in the round's mean, 0 for the absent."""
    shape = (plan.clients,)
    present_C = jax.random.bernoulli(
        stream(key, "present"), plan.present, shape
    )
    weights_C = jnp.where(present_C, labelled_C, 0).astype(jnp.float32)
    return jnp.minimum(weights_C, 1) if plan.equal else weights_C


def server(plan: Plan, key: jax.Array) -> rules.Strategy:
    """The strategy, behind privacy where there is any."""
    if plan.privacy is None:
        return plan.strategy
    return rules.privacy.private(
        plan.strategy,
        key,
        limit=plan.privacy.clip,
        noise=plan.privacy.noise,
        expected=plan.present * plan.clients,
    )


def take(batch: Round, rows: Any, weight: Any, known: Any = None) -> data.Batch:
    """Examples of a round."""
    aux = {k: v[rows] for k, v in batch.aux.items()} | (known or {})
    return data.Batch(batch.x[rows], batch.y[rows], weight, aux or None)


def fresh(plan: Plan, base: Any, round: jax.Array) -> rules.State:
    """Server and clients that begin with a network."""
    model: Any = jax.tree.map(jnp.copy, sent(base))
    if plan.controls:
        model = rules.controlled(model)
    # No two rounds of a training have the same noise.
    strategy = server(plan, stream(base.key, "privacy", round))
    if plan.apart:
        return rules.init(strategy, model)
    control = rules.own_controls(model, plan.clients)
    opt = _each(plan, base.opt)
    steps = jnp.zeros(plan.clients, jnp.int32)
    return rules.init(strategy, model, Client(steps, opt, control))


def _begun(plan: Plan, base: Any) -> State:
    """The state before the first round, of a network."""
    # Copies: the loop donates the state, and no buffer twice.
    copied = jax.tree.map(jnp.copy, base)
    return State(
        round=jnp.int32(0),
        base=base,
        fed=fresh(plan, base, jnp.int32(0)),
        start=copied if plan.period else (),
        own=_each(plan, sent(base)) if plan.keeps else (),
        labelled=jnp.int32(0),
    )


def renewed(plan: Plan, state: State) -> State:
    """The state, with a new network where a query comes before the round."""
    if not plan.period:
        return state
    base, fed = jax.lax.cond(
        age_of(plan, state) == 0,
        lambda: (state.start, fresh(plan, state.start, state.round)),
        lambda: (state.base, state.fed),
    )
    # Chips and noise are not those of before.
    base = base._replace(step=state.base.step)
    return state._replace(base=base, fed=fed)


def _each(plan: Plan, tree: Any) -> Any:
    """The same for each client."""
    return jax.tree.map(
        lambda a: jnp.repeat(jnp.asarray(a)[None], plan.clients, 0), tree
    )


def distance(a: Any, b: Any) -> jax.Array:
    """How far apart two networks are in what is learned, []."""
    return optax.tree.norm(
        jax.tree.map(jnp.subtract, a["learned"], b["learned"])
    )


def _learned(model: Any) -> Any:
    """Of what the server sends, what an optimiser moves."""
    if isinstance(model, rules.Controlled):
        return rules.Controlled(_part(model.params), _part(model.control))
    return _part(model)


def _part(tree: Any) -> Any:
    return None if tree is None else tree["learned"]
