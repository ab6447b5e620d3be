"""One real federation: a SuperLink and two SuperNodes over TLS, on loopback.

It is started once. After two rounds one of its nodes is killed; beside them
there are nodes that must not get in.
"""

from collections.abc import Iterator
import os
import re
import signal
import threading
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxedge.core.trees import path_name
from jaxedge.flower import (
    bundle,
    certificates,
    examples,
    server,
    store,
    task,
)
from jaxedge.flower.deploy import Federation
from jaxedge.models import arrays
from jaxedge.run import metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS, KILLED_AFTER, TIMEOUT = 3, 2, 60.0
FLAGS = (
    f"--config.train.epochs={ROUNDS}",
    f"--config.train.evaluate_every={ROUNDS}",
)
# What a round does beside waiting: messages are written and read, at most.
SLACK = 15.0


class Seen(NamedTuple):
    """What there was to see of the federation.

    Attributes:
        job: what ran.
        before: arrays of the server after `KILLED_AFTER` rounds.
        rows: metrics of the whole run.
        network: of the whole run.
        problem: what ended the run, if anything did.
        logs: what nodes said that had no business there.
        alive: which of them still run.
        processes: ids of all groups that were started.
    """

    job: Any
    before: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    network: dict[str, np.ndarray]
    problem: list[Exception]
    logs: dict[str, str]
    alive: dict[str, bool]
    processes: list[int]


@pytest.fixture(scope="module")
def seen(tmp_path_factory, resolve) -> Seen:
    folder = tmp_path_factory.mktemp("federation")
    job = resolve(*FLAGS)
    found = task.of_job(job)
    settings = {"task": task.write(found), "folder": str(folder / "server")}
    bundle.write(folder / "app", settings | {"timeout": TIMEOUT})
    with Federation(folder / "flower") as federation:
        return _watched(federation, job, found, folder)


def _watched(federation: Federation, job: Any, found: Any, folder: Any) -> Seen:
    keys = folder / "keys"
    federation.start_server()
    known = [certificates.node(keys, name) for name in ("north", "south")]
    federation.register(*known)
    for client, key in enumerate(known):
        own = folder / key.private.name
        examples.write(job.splits, client, own / "examples")
        config = {"client": client, "folder": str(own)}
        federation.start_node(key.private.name, key, config)
    nowhere = {"client": 0, "folder": str(folder / "nowhere")}
    stranger = certificates.node(keys, "stranger")
    other = certificates.server(folder / "other").authority
    federation.start_node("stranger", stranger, nowhere)
    federation.start_node("nobody", None, nowhere)
    federation.start_node("misled", known[0], nowhere, authority=other)
    problem: list[Exception] = []

    def run() -> None:
        try:
            federation.run(folder / "app")
        except Exception as error:  # noqa: BLE001 - shown by the tests
            problem.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    state, before = folder / "server" / server.STATE, {}
    for _ in _ticks(thread):
        if state.exists():
            before = store.arrays(state)
            if int(before["state/round"]) == KILLED_AFTER:
                break
    os.killpg(federation.process("south"), signal.SIGKILL)
    thread.join()
    names = ("stranger", "nobody", "misled")
    file = folder / "server" / arrays.FILE
    return Seen(
        job,
        before,
        metrics.read(folder / "server" / "metrics.jsonl"),
        store.arrays(file) if file.exists() else {},
        problem,
        {name: federation.log(name).read_text() for name in names},
        {name: federation.alive(name) for name in names},
        [federation.process(n) for n in (*names, "superlink", "north")],
    )


def _ticks(thread: threading.Thread) -> Iterator[None]:
    """Moments in the life of a thread."""
    while thread.is_alive():
        time.sleep(0.2)
        yield


def test_network_is_that_of_a_simulation(seen, simulate):
    assert not seen.problem
    assert int(seen.before["state/round"]) == KILLED_AFTER
    state = simulate(seen.job, KILLED_AFTER)
    leaves = jax.tree_util.tree_leaves_with_path(state.fed.params)
    assert leaves
    for way, leaf in leaves:
        np.testing.assert_allclose(
            seen.before[f"state/fed/params/{path_name(way)}"],
            leaf,
            rtol=0,
            atol=1e-5,
        )


def test_run_outlives_a_node_that_is_killed(seen):
    assert not seen.problem
    rows = [row for row in seen.rows if row["phase"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, ROUNDS + 1))
    clients = [row["clients"] for row in rows]
    assert clients[:KILLED_AFTER] == [2.0] * KILLED_AFTER
    assert clients[-1] == 1.0
    assert max(row["seconds"] for row in rows) < TIMEOUT + SLACK
    assert seen.network
    assert all(np.isfinite(array).all() for array in seen.network.values())


@pytest.mark.parametrize(
    "name, reason",
    [
        ("stranger", "code: 2004"),
        ("nobody", "code: 2001"),
        ("misled", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_others_are_refused(seen, name, reason):
    assert not seen.alive[name]
    assert re.search(reason, seen.logs[name])


def test_everything_has_been_stopped(seen):
    for group in seen.processes:
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
