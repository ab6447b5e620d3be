"""A round of 100 clients of a small CNN: simulated, and on deployed Flower.

    .venv/bin/python scripts/bench/flower_round.py [--clients=100] [--nodes=2]
    .venv/bin/python scripts/bench/flower_round.py --nodes=0  # No deployment.

Beside the simulated round stands what nobody can save: the clients' local steps
alone, without a server. The deployment is the same config on `--nodes` of its
clients, all on this machine; the others never come. Two numbers follow: its
round as it was, which 100 nodes on 100 machines could take at best, and what
the processes of 100 clients would take on this machine, by their processor
time (what Flower's own processes and waiting take is left out).
"""

import argparse
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.flower import bundle, certificates, deploy, examples, task
from jaxedge.learn import federated as rules
from jaxedge.recipes import rounds
from jaxedge.run import main, metrics, spread_over_cores, workdir

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "feal.py"
ROUNDS, TIMEOUT = 3, 600.0


class Work(NamedTuple):
    """A task, and the examples of its clients."""

    task: task.Task
    splits: dict[str, data.Source]


def resolve(clients: int, mode: str) -> Work:
    """Handwritten digits, dealt out evenly to clients with a small CNN."""
    flags = (
        f"--config={CONFIG}:heart",
        "--config.data.name=digits",
        "--config.model.name=cnn",
        "--config.model.widths=(8,8,32)",
        "--config.active.method=all",
        f"--config.federated.clients={clients}",
        f"--config.federated.mode={mode}",
        "--config.train.batch=4",
        f"--config.train.epochs={ROUNDS}",
        f"--config.train.evaluate_every={ROUNDS}",
        "--workdir=unused",
    )
    splits = {}
    for split in data.SPLITS:
        source = data.load("digits", split)
        names = [f"client{c}" for c in range(clients)]
        # Of 8 x 8 pixels nothing is left after two convolutions.
        source = source._replace(x=source.x.repeat(2, 1).repeat(2, 2))
        owner = np.arange(len(source.y)) % clients
        splits[split] = data.sites.tagged(source, owner, names)
    train = splits["train"]
    facts = task.Facts(
        train.x.shape[1:], "float32", (), train.classes, len(train.y)
    )
    config = workdir.plain(main.parse(flags).config)
    return Work(task.make(config, facts, splits), splits)


def simulated(work: Work, repeats: int) -> tuple[float, float]:
    """Seconds of a round, and of its clients' steps alone."""
    plan, recipe, key = work.task.plan, work.task.recipe, work.task.key
    assert recipe.rounds is not None
    order, source = stream(key, "order"), work.splits["train"]
    batch = jax.device_put(next(recipe.rounds.batches(source, order, 0, None)))
    state = jax.jit(recipe.init)(stream(key, "init"))

    @jax.jit
    def steps(state: Any, batch: Any) -> Any:
        keys_C = rules.client_keys(
            rounds.round_key(state), jnp.arange(plan.clients)
        )

        def one(c: Any) -> Any:
            client, part, key = c
            model = state.fed.params
            return rounds.train(plan, state, model, client, batch, part, key)

        rows_C = (state.fed.clients_C, batch.parts, keys_C)
        if plan.mode == "vmap":
            return jax.vmap(one)(rows_C)
        return jax.lax.map(one, rows_C)

    programs = {"round": jax.jit(recipe.update), "steps": steps}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, f in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(f(state, batch))
            if turn:  # The first compiles.
                seconds[name].append(time.perf_counter() - began)
    return tuple(float(np.min(s)) for s in seconds.values())  # type: ignore


def deployed(work: Work, nodes: int) -> tuple[float, float]:
    """Seconds of a round of some nodes, and processor seconds of a client.

    Both of rounds after the first, which compiles.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "task": task.write(work.task),
            "folder": str(folder / "server"),
        }
        bundle.write(
            folder / "app", settings | {"timeout": TIMEOUT, "nodes": nodes}
        )
        with deploy.Federation(folder / "flower") as federation:
            federation.start_server()
            keys = [certificates.node(folder, f"n{c}") for c in range(nodes)]
            federation.register(*keys)
            for client, key in enumerate(keys):
                own = folder / f"client{client}"
                examples.write(work.splits, client, own / "examples")
                config = {"client": client, "folder": str(own)}
                federation.start_node(own.name, key, config)
            federation.run(folder / "app")
        rows = metrics.read(folder / "server" / "metrics.jsonl")
    later = [row for row in rows if row["phase"] == "train"][1:]
    return tuple(  # type: ignore
        min(row[name] for row in later) for name in ("seconds", "processor")
    )


def console() -> int:
    """Measures and prints; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    spread_over_cores()
    best, missed = float("inf"), False
    for mode in ("map", "vmap"):
        seconds, steps = simulated(resolve(given.clients, mode), given.repeats)
        print(
            f"simulated, {given.clients} clients, {mode}: {1e3 * seconds:.1f}"
            f" ms a round, {1e3 * steps:.1f} ms their steps alone:"
            f" x{seconds / steps:.2f} (at most 1.2)"
        )
        missed |= seconds > 1.2 * steps
        best = min(best, seconds)
    if given.nodes:
        took, client = deployed(resolve(given.clients, "map"), given.nodes)
        cores = os.cpu_count() or 1
        whole = given.clients * client / cores
        print(
            f"deployed, {given.nodes} clients on {cores} cores: {took:.1f} s a"
            f" round, x{took / best:.0f} of the simulated one of"
            f" {given.clients}"
        )
        print(
            f"deployed, {given.clients} clients on {cores} cores, by processor"
            f" time ({client:.1f} s a client): {whole:.0f} s a round,"
            f" x{whole / best:.0f} (at least 500)"
        )
        missed |= whole < 500 * best
    return int(missed)


if __name__ == "__main__":
    sys.exit(console())
