"""Server and clients apart from each other, without a network between them.

What is expected is a simulation of the same config: one program in which all
clients are computed.
"""

import jax
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.flower import server, site, store, task
from jaxedge.learn import federated as rules

pytestmark = pytest.mark.usefixtures("compile_quickly")

# Networks begin anew at the second query, of round 3, under a server that has
# moments and adds noise.
FEAL = (
    "--config.active.method=feal",
    "--config.active.initial=12",
    "--config.active.budget=10",
    "--config.active.every=2",
    "--config.federated.strategy=fedadam",
    "--config.federated.rate=0.01",
    "--config.federated.clip=0.5",
    "--config.federated.noise=0.1",
    "--config.federated.weights=equal",
)
# Clients have a memory of every round, and are not in each.
SCAFFOLD = (
    "--config.federated.strategy=scaffold",
    "--config.optimizer.name=sgd",
    "--config.optimizer.momentum=0.0",
    "--config.optimizer.learning_rate=0.05",
    "--config.federated.present=0.6",
)


def assert_close(state, other):
    """Whether two servers have the same network, to 1e-5."""
    pairs = (rules.params_of(s.fed.params) for s in (state, other))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), *pairs
    )


def distance(state, other):
    """The largest difference between the networks of two servers."""
    pairs = (rules.params_of(s.fed.params) for s in (state, other))
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), *pairs)
    return max(jax.tree.leaves(gaps))


@pytest.mark.parametrize("flags", [FEAL, SCAFFOLD], ids=["feal", "scaffold"])
def test_rounds_apart_are_those_of_a_simulation(
    resolve, rehearse, simulate, flags
):
    job = resolve(*flags)
    cast = rehearse(job)
    memory = begun = server.remembered(cast.server)
    for _ in range(3):
        memory = cast.round(memory).memory
    expected = simulate(job, 3)
    assert_close(memory.state, expected)
    # 1e-5 is not the distance from where all began.
    assert distance(begun.state, expected) > 1e-3
    assert int(memory.state.labelled) == int(expected.labelled)
    # What lies on disk is enough to go on from, for everybody.
    server.save(cast.server, memory)
    again = server.remembered(cast.server)
    jax.tree.map(
        np.testing.assert_array_equal, store.flat(again), store.flat(memory)
    )
    before = {c: own.folder for c, own in enumerate(cast.sites)}
    orders = {c: cast.order(memory, c) for c in before}
    for client, order in orders.items():
        if order.accepted < 0:
            continue
        kept = sorted(p.name for p in (before[client] / order.run).iterdir())
        assert f"round_{order.accepted:05d}.npz" in kept


@pytest.fixture
def cast(resolve, rehearse):
    """Two clients with FEAL, before the first round."""
    return rehearse(resolve(*FEAL[:4], "--config.active.restart=False"))


def answers(cast, memory):
    return {
        c: site.train(own, cast.order(memory, c))
        for c, own in enumerate(cast.sites)
    }


def test_a_client_goes_on_from_the_last_round_that_was_taken(cast):
    memory = server.remembered(cast.server)
    memory = cast.round(memory).memory
    first = answers(cast, memory)
    # The server did not take that round, and asks again: the same answer, and
    # no label twice.
    again = answers(cast, memory)
    jax.tree.map(np.testing.assert_array_equal, first[0].model, again[0].model)
    assert again[0].labelled == first[0].labelled == 12
    # A client that missed a query makes up for it.
    absent = cast.round(memory, absent={1}).memory
    assert absent.accepted_C.tolist() == [1, 0]
    late = server.settled(cast.server, absent, answers(cast, absent)).memory
    assert late.labelled_C.tolist() == [22, 22]
    # A folder that was lost is named.
    lost = cast.sites[0].folder / server.name(late)
    for path in lost.glob("round_*"):
        path.unlink()
    with pytest.raises(checks.UsageError, match="client0 lacks .*round_00002"):
        site.train(cast.sites[0], cast.order(late, 0))
    (lost / "labels.npz").unlink()


def test_nan_and_other_shapes_are_refused_and_named(cast):
    memory = server.remembered(cast.server)
    good = answers(cast, memory)
    broken = jax.tree.map(lambda a: np.full_like(a, np.nan), good[1].model)
    both = {0: good[0], 1: good[1]._replace(model=broken)}
    found = server.settled(cast.server, memory, both)
    assert list(found.refused) == ["client1"]
    assert "NaN" in found.refused["client1"]
    assert found.row["clients"] == 1 and found.row["rejected"] == 1
    assert found.memory.accepted_C.tolist() == [0, -1]
    alone = server.settled(cast.server, memory, {0: good[0]})
    assert_close(found.memory.state, alone.memory.state)
    # Nobody: the network stays.
    none = server.settled(cast.server, memory, {})
    assert distance(none.memory.state, memory.state) == 0
    assert int(none.memory.state.round) == 1


def test_what_a_client_has_must_be_like_the_run(cast):
    own = cast.sites[0]
    text = task.write(own.task)
    path = own.folder / "examples" / "valid.npz"
    held = store.arrays(path)
    store.save(path, held | {"x": held["x"][:, :4]})
    with pytest.raises(checks.UsageError, match="valid.npz has examples of sh"):
        site.make(text, 0, own.folder)
    path.unlink()
    with pytest.raises(checks.UsageError, match="valid.npz cannot be read"):
        site.make(text, 0, own.folder)
    with pytest.raises(checks.UsageError, match="client is 2"):
        site.make(text, 2, own.folder)


def test_evaluations_of_clients_are_that_of_all_examples(cast):
    memory = server.remembered(cast.server)
    state = cast.round(memory).memory.state
    sums = []
    for client, own in enumerate(cast.sites):
        order = cast.order(memory._replace(state=state), client)
        sums.append(site.evaluate(own, site.server_state(own, order), "valid"))
    found = server.metrics_of(cast.server, sums)
    recipe = cast.server.task.recipe
    splits = [own.splits["valid"] for own in cast.sites]
    x = np.concatenate([s.x for s in splits])
    y = np.concatenate([s.y for s in splits])
    logits = recipe.forward(recipe.finish(state), x)
    right = np.asarray(logits).argmax(-1) == y
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    recalls = []
    for source in splits:
        told = np.asarray(recipe.forward(recipe.finish(state), source.x))
        told = told.argmax(-1)
        recalls.append(
            np.mean([(told == k)[source.y == k].mean() for k in set(source.y)])
        )
    want = np.mean(recalls)
    assert found["balanced_accuracy"] == pytest.approx(want, abs=1e-6)
    with pytest.raises(checks.UsageError, match="no client evaluated"):
        server.metrics_of(cast.server, [])


def test_configs_that_no_server_can_run_are_refused(resolve):
    job = resolve()
    config = {**job.config, "recipe": "classifier"}
    with pytest.raises(checks.UsageError, match="'federated'"):
        task.make(config, task.of_job(job).facts)
    found = resolve("--config.quantize.weights=4", "--config.quantize.inputs=4")
    with pytest.raises(checks.UsageError, match="first examples of all"):
        task.of_job(found)
