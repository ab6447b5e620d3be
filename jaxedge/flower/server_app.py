"""The ServerApp: a `server` that asks its clients by messages of Flower.

The run config holds "task" (`task.write`), "folder", where the server keeps its
state and leaves the result, and "timeout", seconds that a round may wait for
its clients; also "nodes", without which the first round does not begin before
"timeout" is over, by default one a client. A server that is started again goes
on where it was.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
import time
from typing import Any, NamedTuple

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.flower import messages, server
from jaxedge.flower.site import Answer
from jaxedge.models import arrays
from jaxedge.run import metrics, workdir

# Seconds between two looks for answers.
_PAUSE = 0.1
# And between two looks for nodes that are gone.
_LOOK = 2.0
# What an answer that is none of this app may raise.
_BAD = (KeyError, TypeError, ValueError)
# Names in a line, at most.
_SHOWN = 8
# How the last line of a run begins, after what all of them begin with.
OURS, FINISHED, FAILED = "jaxedge: ", "finished: ", "failed: "
_ROWS = "metrics.jsonl"
SUMMARY = "summary.json"


class Asking(NamedTuple):
    """How a server reaches its clients.

    Attributes:
        grid: of Flower.
        timeout: seconds that a round waits at most.
        clients: which client a node is, of those that have answered.
        problems: what clients had to say instead of an answer.
    """

    grid: Grid
    timeout: float
    clients: dict[int, int]
    problems: list[str]


def make(fixed: Mapping[str, Any] | None = None) -> ServerApp:
    """The app.

    Args:
        fixed: what takes the place of the run config where there is none.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        given: Mapping[str, Any] = (
            context.run_config if fixed is None else fixed
        )
        timeout = float(given["timeout"])
        checks.in_range("timeout", timeout, 0, 1e9, open_low=True)
        try:
            own = server.make(str(given["task"]), Path(str(given["folder"])))
            nodes = int(given.get("nodes", len(own.task.names)))
            run(own, Asking(grid, timeout, {}, []), nodes)
        except Exception as error:
            _say(f"{FAILED}{' '.join(str(error).split()) or repr(error)}")
            raise

    return app


def run(own: server.Server, asking: Asking, nodes: int) -> None:
    """All rounds that are left, and the result.

    Args:
        own: the server.
        asking: how it reaches clients.
        nodes: for which it waits before its first round.

    Raises:
        UsageError: for a folder of another run, or a round without clients;
            what was done before is kept.
    """
    workdir.check(own.folder, own.task.config, study=False)
    workdir.create(own.folder, own.task.config)
    memory = server.remembered(own)
    done = int(memory.state.round)
    writer = metrics.Jsonl(own.folder / _ROWS, done if done else -1)
    try:
        _wait_for_nodes(asking, nodes)
        memory, tested = _rounds(own, asking, memory, writer)
    finally:
        writer.close()
    variables = jax.jit(own.task.recipe.finish)(memory.best)
    arrays.save(own.folder / arrays.FILE, variables)
    summary = {"config": own.task.config, "metrics": tested}
    workdir.write_json(own.folder / SUMMARY, summary)
    _say(f"{FINISHED}{own.folder / arrays.FILE}")


def _rounds(
    own: server.Server,
    asking: Asking,
    memory: server.Memory,
    writer: metrics.Writer,
) -> tuple[server.Memory, dict[str, float]]:
    """What is left of the rounds, and the metrics of the best state."""
    given = own.task.given.train
    tested: dict[str, float] = {}
    while True:
        done = int(memory.state.round)
        last = done == given.epochs
        due = last or done % given.evaluate_every == 0
        if due and done > int(memory.reviewed):
            splits = {given.select_on} | ({"valid", "test"} if last else set())
            found = _evaluate(own, asking, memory, memory.state, splits)
            select = found[given.select_on]
            memory = server.reviewed(own, memory, select)
            writer.write(done, {"phase": "valid", "epoch": done, **select})
            server.save(own, memory)
            if last and int(memory.best.round) == done:
                tested = _named(found)
        if last:
            break
        began = time.monotonic()
        memory, row = _round(own, asking, memory)
        row |= {"seconds": time.monotonic() - began}
        writer.write(done + 1, {"phase": "train", "epoch": done + 1, **row})
        server.save(own, memory)
    if not tested:
        both = ("valid", "test")
        tested = _named(_evaluate(own, asking, memory, memory.best, both))
    return memory, tested


def _round(
    own: server.Server, asking: Asking, memory: server.Memory
) -> tuple[server.Memory, dict[str, float]]:
    """One round: ask, wait, combine."""
    round = int(memory.state.round)
    present_C = np.asarray(own.present(memory.state))
    active = own.task.given.active
    # Those that are absent from the round are asked which labels they need.
    queried = own.task.plan.keeps and round % active.every == 0
    content = _content(own, memory, memory.state, present_C)
    absent = {
        node
        for node, client in asking.clients.items()
        if not (queried or present_C[client])
    }
    nodes = set(asking.grid.get_node_ids()) - absent
    spent: list[float] = []
    found = _ask(asking, nodes, content, "train", str(round + 1))
    like = memory.state.fed.params
    answers: dict[int, Answer] = {}
    for node, message in found.items():
        try:
            client = _client(own, asking, node, message)
            if client not in answers:
                answers[client] = _answer(message, like, own.task.names[client])
                spent.append(_spent(message))
        except _BAD as error:
            _complain(
                asking, f"round {round + 1}: refused: node {node}: {error!s}"
            )
    names = own.task.names
    if not answers and (present_C.any() or not nodes):
        why = asking.problems[-1] if asking.problems else "none said why"
        raise checks.UsageError(
            f"no client answered in round {round + 1} within"
            f" {asking.timeout:g} s ({why}); look at the nodes, then run the"
            f" same command again: it goes on from {own.folder}."
        )
    after = server.settled(own, memory, answers)
    for client, reason in after.refused.items():
        _say(f"round {round + 1}: refused: {client}: {reason}")
    expected = {c for c in range(len(names)) if present_C[c] or queried}
    if missing := [names[c] for c in sorted(expected - set(answers))]:
        more = f" and {len(missing) - _SHOWN} more" * (len(missing) > _SHOWN)
        shown = ", ".join(missing[:_SHOWN])
        _say(f"round {round + 1}: no answer from {shown}{more}")
    row = after.row | {"processor": float(np.mean(spent or [0.0]))}
    _say(
        f"round {round + 1}: {int(row['clients'])} of {len(names)} clients,"
        f" loss {row.get('loss', np.nan):.4f}"
    )
    return after.memory, row


def _evaluate(
    own: server.Server,
    asking: Asking,
    memory: server.Memory,
    state: Any,
    splits: Iterable[str],
) -> dict[str, dict[str, float]]:
    """Metrics of a state by split, on the examples of the clients."""
    all_C = np.ones(len(own.task.names), bool)
    content = _content(own, memory, state, all_C)
    content.config_records["asked"]["splits"] = sorted(splits)
    nodes = set(asking.grid.get_node_ids())
    found = _ask(asking, nodes, content, "evaluate", "evaluation")
    sums: dict[str, dict[int, Any]] = {split: {} for split in splits}
    for node, message in found.items():
        try:
            client = _client(own, asking, node, message)
        except _BAD as error:
            _say(f"evaluation: refused: node {node}: {error!s}")
            continue
        for split in splits:
            told = message.content.array_records.get(split)
            if told is not None:
                sums[split].setdefault(client, messages.arrays(told))
    return {
        split: server.metrics_of(own, [by[c] for c in sorted(by)])
        for split, by in sums.items()
    }


def _content(
    own: server.Server, memory: server.Memory, state: Any, present_C: np.ndarray
) -> RecordDict:
    """What every client is sent."""
    asked = {
        "run": server.name(memory),
        "round": int(state.round),
        "accepted": memory.accepted_C.tolist(),
        "present": [int(here) for here in present_C],
    }
    return RecordDict(
        {
            "asked": ConfigRecord(asked),
            "model": messages.pack(state.fed.params),
            "memory": messages.record(server.differing(own, state)),
        }
    )


def _ask(
    asking: Asking,
    nodes: Iterable[int],
    content: RecordDict,
    kind: str,
    group: str,
) -> dict[int, Message]:
    """The answers of the nodes that answered in time, by node."""
    sent = [
        Message(content, node, kind, ttl=asking.timeout, group_id=group)
        for node in sorted(nodes)
    ]
    deadline = time.monotonic() + asking.timeout
    ids = asking.grid.push_messages(sent)
    waiting = {
        name: message.metadata.dst_node_id
        for name, message in zip(ids, sent, strict=True)
        if name is not None
    }
    found, look = {}, time.monotonic() + _LOOK
    while waiting and time.monotonic() < deadline:
        for message in asking.grid.pull_messages(sorted(waiting)):
            node = waiting.pop(message.metadata.reply_to_message_id, None)
            if message.has_error():
                client = asking.clients.get(node or 0)
                who = f"node {node}" if client is None else f"client {client}"
                _complain(
                    asking, f"{kind} {group}: {who}: {message.error.reason}"
                )
            elif node is not None:
                found[node] = message
        if time.monotonic() > look:
            look = time.monotonic() + _LOOK
            # Of a node that ended before its answer none will come.
            online = set(asking.grid.get_node_ids())
            waiting = {k: v for k, v in waiting.items() if v in online}
        time.sleep(_PAUSE)
    return found


def _client(
    own: server.Server, asking: Asking, node: int, message: Message
) -> int:
    """Which client an answer comes from.

    Raises:
        UsageError: for one that is none, or that another node is.
    """
    told: Any = message.content["told"]
    client = int(told["client"])
    checks.in_range(
        f"client of node {node}", client, 0, len(own.task.names) - 1
    )
    online = set(asking.grid.get_node_ids())
    for other, known in asking.clients.items():
        if known == client and other != node and other in online:
            raise checks.UsageError(
                f"node {node} says it is {own.task.names[client]}, but node"
                f" {other} is; give each node a client of its own."
            )
    asking.clients[node] = client
    return client


def _answer(message: Message, like: Any, who: str) -> Answer:
    """What a client answered.

    Raises:
        UsageError: for a model that does not look like the server's.
    """
    content: Any = message.content
    model, sums = None, {}
    if "model" in content:
        model = messages.unpack(content["model"], like, f"the model of {who}")
        sums = messages.arrays(content["sums"])
    return Answer(int(content["told"]["labelled"]), model, sums)


def _spent(message: Message) -> float:
    """Processor seconds that an answer took its client."""
    told: Any = message.content["told"]
    return float(told["processor"])


def _wait_for_nodes(asking: Asking, count: int) -> None:
    """Waits until so many nodes are there, but not longer than a round."""
    deadline = time.monotonic() + asking.timeout
    while len(set(asking.grid.get_node_ids())) < count:
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE)


def _named(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics with their splits, as of a run."""
    return {
        f"{split}_{name}": value
        for split in ("valid", "test")
        for name, value in found[split].items()
    }


def _complain(asking: Asking, text: str) -> None:
    asking.problems.append(text)
    _say(text)


def _say(text: str) -> None:
    print(OURS + text, flush=True)


app = make()
