"""The server of a run, whatever carries its messages.

Letters: C clients.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from pathlib import Path
from typing import Any, NamedTuple
import uuid

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.flower import store, task
from jaxedge.flower.site import Answer
from jaxedge.learn import federated as rules
from jaxedge.recipes import rounds
from jaxedge.recipes.recipe import Sums, add, mean

STATE = "state.npz"


class Memory(NamedTuple):
    """What a server keeps from round to round, and finds again on disk.

    Attributes:
        run: name of the run, unlike that of any other, [32] uint8.
        state: after the last round.
        best: after the round with the best evaluation.
        score: of that one, float32 [].
        reviewed: rounds before the last evaluation, int32 [].
        accepted_C: last round that each client was taken in, int32; -1 never.
        labelled_C: examples of each client, as it last told, int32.
    """

    run: Any
    state: rounds.State
    best: rounds.State
    score: Any
    reviewed: Any
    accepted_C: Any
    labelled_C: Any


class Server(NamedTuple):
    """A server of a task, compiled once.

    Attributes:
        task: of the run.
        folder: where it keeps what it must remember.
        start: key -> the state before the first round.
        settle: (state, models [C, ...], here_C, labelled_C) -> (state, info).
        present: state -> which clients take part, bool [C].
    """

    task: task.Task
    folder: Path
    start: Callable[[jax.Array], rounds.State]
    settle: Callable[..., tuple[rounds.State, rules.Info]]
    present: Callable[[rounds.State], jax.Array]


class Settled(NamedTuple):
    """What came of a round.

    Attributes:
        memory: after it.
        row: its metrics.
        refused: by client, why its answer was not used.
    """

    memory: Memory
    row: dict[str, float]
    refused: dict[str, str]


def make(text: str, folder: Path) -> Server:
    """A server from the text of its run, see `task.write`."""
    run = task.read(text)
    plan = run.plan._replace(apart=True, keeps=False)

    def present(state: rounds.State) -> jax.Array:
        all_C = jnp.ones(plan.clients, jnp.int32)
        return rounds.weigh(plan, rounds.round_key(state), all_C) > 0

    def settle(
        state: rounds.State, sent_CxT: Any, here_C: Any, labelled_C: Any
    ) -> tuple[rounds.State, rules.Info]:
        state = rounds.renewed(plan, state)
        key = rounds.round_key(state)
        weights_C = jnp.where(here_C, rounds.weigh(plan, key, labelled_C), 0)

        def local(model: Any, mine: Any, sent: Any, key: Any) -> Any:
            del key  # The client has drawn with it.
            pair = rules.params_of(sent), rules.params_of(model)
            return sent, mine, rounds.distance(*pair)

        fed, info = rules.round(
            local,
            rounds.server(plan, key),
            state.fed,
            sent_CxT,
            weights_C,
            key,
        )
        labelled = labelled_C.sum()
        return rounds.merged(plan, state, fed, (), labelled), info

    def start(key: jax.Array) -> rounds.State:
        return rounds.init(plan, key)

    programs = (jax.jit(f) for f in (start, settle, present))
    return Server(run, folder, *programs)


def remembered(server: Server) -> Memory:
    """What lies in the server's folder, or the state before the first round.

    Raises:
        UsageError: for a file that is damaged, or of another config.
    """
    path, count = server.folder / STATE, len(server.task.names)
    state = server.start(stream(server.task.key, "init"))
    new = Memory(
        run=np.frombuffer(uuid.uuid4().hex.encode(), np.uint8),
        state=state,
        best=state,
        score=np.float32(-np.inf),
        reviewed=np.int32(0),
        accepted_C=np.full(count, -1, np.int32),
        labelled_C=np.zeros(count, np.int32),
    )
    return store.load(path, new) if path.exists() else new


def save(server: Server, memory: Memory) -> None:
    """Puts what a server keeps on disk, in one step."""
    store.save(server.folder / STATE, memory)


def name(memory: Memory) -> str:
    """The name of the run."""
    return bytes(np.asarray(memory.run)).decode()


def differing(server: Server, state: rounds.State) -> dict[str, np.ndarray]:
    """What clients need of a server's network beside what it sends to train."""
    start = server.start(stream(server.task.key, "init"))
    return store.changed(state.base.memory, start.base.memory)


def settled(
    server: Server, memory: Memory, answers: Mapping[int, Answer]
) -> Settled:
    """The server after a round, of the answers that came.

    An answer with NaN or infinity counts as none.

    Args:
        server: with its programs.
        memory: before the round.
        answers: by client, whose models look like the server's.
    """
    names, state = server.task.names, memory.state
    round, labelled_C = int(state.round), np.array(memory.labelled_C)
    here_C = np.zeros(len(names), bool)
    for client, answer in answers.items():
        labelled_C[client] = answer.labelled
        here_C[client] = answer.model is not None
    models = [
        answers[c].model if here_C[c] else state.fed.params
        for c in range(len(names))
    ]
    sent_CxT = jax.tree.map(lambda *a: np.stack(a), *models)
    after, info = server.settle(state, sent_CxT, here_C, labelled_C)
    taken_C = np.asarray(info.taken_C)
    refused = rules.rejected(sent_CxT, here_C.astype(np.float32), names)
    row = _row([answers[c].sums for c in np.flatnonzero(taken_C).tolist()])
    told = rounds.told(info, labelled_C.sum(), moved_C=info.clients_C)
    row |= mean({"count": jnp.ones(()), **told})
    new = memory._replace(
        state=after,
        accepted_C=np.where(taken_C, np.int32(round), memory.accepted_C),
        labelled_C=labelled_C,
    )
    return Settled(new, row, refused)


def reviewed(
    server: Server, memory: Memory, metrics: Mapping[str, float]
) -> Memory:
    """What a server keeps after an evaluation."""
    recipe = server.task.recipe
    state = jax.jit(recipe.review)(memory.state, dict(metrics))
    score = np.float32(metrics[recipe.score])
    better = bool(score > memory.score)
    return memory._replace(
        state=state,
        best=state if better else memory.best,
        score=score if better else np.float32(memory.score),
        reviewed=np.int32(state.round),
    )


def metrics_of(
    server: Server, sums: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Metrics of the sums that clients sent of their examples.

    Raises:
        UsageError: for no sums at all.
    """
    if not sums:
        raise checks.UsageError(
            "no client evaluated the network; start the nodes, and run the same"
            " command again."
        )
    return mean(_total(sums), server.task.recipe.measure)


def _row(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of the steps of a round."""
    if not sums:
        return {}
    total = _total(sums)
    return mean(total | {"count": jnp.maximum(total["count"], 1)})


def _total(sums: Sequence[Mapping[str, Any]]) -> Sums:
    forms = [{name: np.shape(a) for name, a in one.items()} for one in sums]
    # What a client of another version counts is left out.
    alike = [dict(s) for s, f in zip(sums, forms, strict=True) if f == forms[0]]
    return functools.reduce(add, alike)
