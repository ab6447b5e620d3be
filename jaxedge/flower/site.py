"""One client of a run: its examples, its memory, and what it computes.

Letters: M examples of the client.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.flower import examples, store, task
from jaxedge.learn import federated as rules
from jaxedge.recipes import client_data, queries, rounds
from jaxedge.recipes.recipe import Sums, add

# Of a batch of an evaluation, at most: examples, and numbers of their inputs.
_ROWS, _NUMBERS = 500, 2**22


class Labels(NamedTuple):
    """What a client has annotated; it stays annotated, whatever happens.

    Attributes:
        rows: which of its examples, [M] bool.
        query: in which query, [M] int32; -1 in none.
        score: uncertainty at the last query, [M] float32; NaN for none.
        asked: round of the last query, int32 []; -1 before the first.
    """

    rows: Any
    query: Any
    score: Any
    asked: Any


class Kept(NamedTuple):
    """What a client keeps of a round that the server took it into.

    Attributes:
        client: for its next round.
        own: what it learned, which its queries ask.
    """

    client: rounds.Client
    own: Any


class Order(NamedTuple):
    """What a server asks of a client.

    Attributes:
        run: name of the run, unlike that of any other.
        round: from 0.
        accepted: last round that the server took of this client; -1 for none.
        present: whether it takes part; if not, it only answers queries.
        model: what the server sends to train from.
        memory: what else of the server's network differs from its start.
    """

    run: str
    round: int
    accepted: int
    present: bool
    model: Any
    memory: Mapping[str, np.ndarray]


class Answer(NamedTuple):
    """What a client sends back.

    Attributes:
        labelled: its number of labelled examples.
        model: what it learned; None where it did not take part.
        sums: of its steps.
    """

    labelled: int
    model: Any
    sums: Mapping[str, Any]


class Site(NamedTuple):
    """A client, ready to be asked.

    Attributes:
        task: of the run.
        client: its number.
        splits: its own examples.
        folder: where it keeps what it must remember.
        start: the state of a server before the first round.
        first: what it keeps before its first round.
        learn: (state, client, batch, part) -> (model, client, sums), compiled.
        ask: its queries; None where all its examples are labelled.
        evaluate: (variables, batch) -> sums, compiled.
    """

    task: task.Task
    client: int
    splits: Mapping[str, data.Source]
    folder: Path
    start: rounds.State
    first: Kept
    learn: Callable[..., Any]
    ask: Callable[..., queries.Found] | None
    evaluate: Callable[..., Sums]


def make(text: str, client: int, folder: Path) -> Site:
    """A client from what lies in its folder.

    Args:
        text: the run, as of `task.write`.
        client: its number.
        folder: holds `examples/`; the client keeps its memory beside it.

    Raises:
        UsageError: for a number that is no client's, or bad examples.
    """
    run = task.read(text)
    checks.in_range("client", client, 0, len(run.names) - 1)
    found = examples.read(
        folder / "examples", run.facts, run.given.data.name, client
    )
    run = task.read(text, found)
    plan = run.plan._replace(clients=1, keeps=False)

    @jax.jit
    def begun(key: jax.Array) -> tuple[rounds.State, Kept]:
        state = rounds.init(plan, key)
        mine = jax.tree.map(lambda a: a[0], state.fed.clients_C)
        own = rounds.sent(state.base) if run.plan.keeps else ()
        return state, Kept(mine, own)

    @jax.jit
    def learn(state: Any, mine: Any, batch: Any, part: Any) -> Any:
        stacked = jax.tree.map(lambda a: a[None], mine)
        fed = state.fed._replace(clients_C=stacked)
        state = rounds.renewed(plan, state._replace(fed=fed))
        mine = jax.tree.map(lambda a: a[0], state.fed.clients_C)
        ids = jnp.array([client])
        key = rules.client_keys(rounds.round_key(state), ids)[0]
        model = state.fed.params
        return rounds.train(plan, state, model, mine, batch, part, key)

    state, first = begun(stream(run.key, "init"))
    ask = None
    if run.given.active.method != queries.ALL:
        classes = len(run.facts.classes)
        ask = queries.asker(
            run.given.active,
            plan.inner,
            classes,
            found["train"],
            run.given.evidence,
        )
    evaluate = jax.jit(run.recipe.evaluate)
    return Site(run, client, found, folder, state, first, learn, ask, evaluate)


def train(site: Site, order: Order) -> Answer:
    """A client's part in a round: queries that are due, then its training.

    What it keeps is on disk before the answer is there to be sent.

    Raises:
        UsageError: where the folder lacks what the client must remember.
    """
    folder = site.folder / order.run
    kept = _remembered(site, folder, order.accepted)
    state = server_state(site, order)
    labels = _labelled(site, folder, order, state, kept)
    count = int(labels.rows.sum())
    if not order.present:
        return Answer(count, None, {})
    source, given = site.splits["train"], site.task.given
    known = source.aux or {}
    aux = {name: a for name, a in known.items() if name != "site"}
    held = np.array([len(source.y)])
    most = queries.most(given.active, held, given.train.epochs)
    passes = given.federated.local_epochs
    part = client_data.part(
        source.y,
        labels.rows,
        stream(site.task.key, "order"),
        order.round,
        client=site.client,
        batch=given.train.batch,
        passes=passes,
        steps=client_data.steps_of(int(most[0]), given.train.batch, passes),
        classes=len(site.task.facts.classes),
    )
    batch = client_data.Round(source.x, source.y, aux, part)
    model, mine, sums = site.learn(state, kept.client, batch, part)
    own = rules.params_of(model) if site.task.plan.keeps else ()
    store.save(_round_file(folder, order.round), Kept(mine, own))
    return Answer(count, model, sums)


def server_state(site: Site, order: Order) -> rounds.State:
    """The server's state before a round, as far as a client can know it."""
    start, model = site.start, order.model
    memory = store.patched(
        order.memory, start.base.memory, "the server's memory"
    )
    base = rounds.received(start.base, rules.params_of(model))
    base = base._replace(memory=memory, step=jnp.int32(order.round))
    return start._replace(
        round=jnp.int32(order.round),
        base=base,
        fed=start.fed._replace(params=model),
    )


def evaluate(site: Site, state: rounds.State, split: str) -> Sums | None:
    """Sums over a split of the client; None where it has nothing of it.

    Args:
        site: the client.
        state: the server's.
        split: of "train", "valid", "test".
    """
    source = site.splits[split]
    if not len(source.y):
        return None
    recipe, total = site.task.recipe, None
    variables = jax.jit(recipe.trial or recipe.finish)(state)
    size = min(len(source.y), _ROWS, max(_NUMBERS // source.x[0].size, 1))
    for batch in data.in_order(source, size):
        sums = site.evaluate(variables, batch)
        total = sums if total is None else add(total, sums)
    return total


def _remembered(site: Site, folder: Path, accepted: int) -> Kept:
    """What the client kept of the last round that the server took."""
    if accepted < 0:
        return site.first
    path = _round_file(folder, accepted)
    if not path.exists():
        raise checks.UsageError(
            f"{site.task.names[site.client]} lacks {path}, what it kept of"
            f" round {accepted + 1}; give the node its folder back, or begin a"
            " new run."
        )
    for old in folder.glob("round_*.npz"):
        if int(old.stem.removeprefix("round_")) < accepted:
            old.unlink(missing_ok=True)
    return store.load(path, site.first)


def _labelled(
    site: Site, folder: Path, order: Order, state: rounds.State, kept: Kept
) -> Labels:
    """Which examples are labelled, after the queries that are due."""
    source, m = site.splits["train"], len(site.splits["train"].y)
    if site.ask is None:
        return _no_labels(m)._replace(rows=np.ones(m, bool))
    path, labels = folder / "labels.npz", _no_labels(m)
    if path.exists():
        labels = store.load(path, labels)
    elif order.accepted >= 0:
        raise checks.UsageError(
            f"{site.task.names[site.client]} lacks {path}, what it has"
            " annotated; give the node its folder back, or begin a new run."
        )
    every = site.task.given.active.every
    due = order.round // every * every
    for epoch in sorted({0, due}):
        if epoch <= int(labels.asked):
            continue
        nets = (None, None)
        if epoch:
            finish = jax.jit(site.task.plan.inner.finish)
            mine = rounds.received(state.base, kept.own)
            nets = finish(state.base), finish(mine)
        key = stream(
            stream(site.task.key, "chosen", epoch), "client", site.client
        )
        found = site.ask(source, labels.rows, epoch, key, *nets)
        labels = _after(labels, found, epoch, every)
        store.save(path, labels)
    return labels


def _no_labels(m: int) -> Labels:
    """Before the first query."""
    return Labels(
        rows=np.zeros(m, bool),
        query=np.full(m, -1, np.int32),
        score=np.full(m, np.nan, np.float32),
        asked=np.int32(-1),
    )


def _after(
    labels: Labels, found: queries.Found, epoch: int, every: int
) -> Labels:
    rows, query = labels.rows.copy(), labels.query.copy()
    rows[found.picked] = True
    query[found.picked] = epoch // every
    score = np.where(np.isnan(found.score), labels.score, found.score)
    return Labels(rows, query, score, np.int32(epoch))


def _round_file(folder: Path, round: int) -> Path:
    return folder / f"round_{round:05d}.npz"
