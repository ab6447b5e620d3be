"""Fixtures of federated runs: a small config, and clients without a network."""

from collections.abc import Callable
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxedge.core.keys import stream
from jaxedge.flower import examples, server, site, task
from jaxedge.run import job, main

# Without the extra there is nothing to test.
if importlib.util.find_spec("flwr") is None:
    collect_ignore_glob = ["test_*.py"]

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "feal.py"
# Handwritten digits, dealt out to two clients in unequal shares.
SMALL = (
    f"--config={CONFIG}:heart",
    "--config.data.name=digits",
    "--config.model.widths=(8,)",
    "--config.federated.clients=2",
    "--config.federated.alpha=1.0",
    "--config.active.method=all",
    "--config.train.epochs=3",
    "--config.train.evaluate_every=3",
    "--config.train.checkpoint_every=3",
    "--workdir=unused",
)


class Rehearsal(NamedTuple):
    """Server and clients in this process."""

    server: server.Server
    sites: list[site.Site]

    def order(self, memory: server.Memory, client: int) -> site.Order:
        """What the server asks of a client."""
        present_C = np.asarray(self.server.present(memory.state))
        return site.Order(
            server.name(memory),
            int(memory.state.round),
            int(memory.accepted_C[client]),
            bool(present_C[client]),
            memory.state.fed.params,
            server.differing(self.server, memory.state),
        )

    def round(self, memory: server.Memory, absent=()) -> server.Settled:
        """One round, of which some clients hear nothing."""
        answers = {
            c: site.train(own, self.order(memory, c))
            for c, own in enumerate(self.sites)
            if c not in absent
        }
        return server.settled(self.server, memory, answers)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Flags of a config that takes seconds."""
    return SMALL


@pytest.fixture(scope="session")
def resolve() -> Callable[..., job.Job]:
    """A function from further flags to a checked job."""

    def resolve(*flags: str) -> job.Job:
        return job.resolve(main.parse([*SMALL, *flags]).config, None)

    return resolve


@pytest.fixture
def rehearse(tmp_path) -> Callable[[job.Job], Rehearsal]:
    """A function from a job to its server and clients."""

    def rehearse(resolved: job.Job) -> Rehearsal:
        found = task.of_job(resolved)
        text, sites = task.write(found), []
        for c in range(len(found.names)):
            folder = tmp_path / f"client{c}"
            examples.write(resolved.splits, c, folder / "examples")
            sites.append(site.make(text, c, folder))
        return Rehearsal(server.make(text, tmp_path / "server"), sites)

    return rehearse


@pytest.fixture(scope="session")
def simulate() -> Callable[[job.Job, int], Any]:
    """A function from a job to its state after some rounds of a simulation."""

    def simulate(resolved: job.Job, rounds: int) -> Any:
        recipe, key = resolved.recipe, stream(resolved.key, "train")
        source, order = resolved.splits["train"], stream(key, "order")
        state = jax.jit(recipe.init)(stream(key, "init"))
        update, rows = jax.jit(recipe.update), None
        memory = recipe.subset and recipe.subset.init(source)
        for epoch in range(rounds):
            if recipe.subset is not None:
                if epoch % recipe.subset.every == 0:
                    choosing = stream(key, "chosen", epoch)
                    memory = recipe.subset.choose(
                        state, memory, source, epoch, choosing
                    )
                rows = memory["rows"]
            batch = next(recipe.rounds.batches(source, order, epoch, rows))
            state, _ = update(state, batch)
        return state

    return simulate
