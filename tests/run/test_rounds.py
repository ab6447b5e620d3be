"""A federated run with queries: exact resume, and what it leaves behind."""

import json

import jax
import numpy as np
import pytest

from jaxedge.run import job, loop

FLAGS = (
    "--config=configs/feal.py:heart",
    "--config.data.name=digits",
    "--config.federated.clients=2",
    "--config.federated.alpha=1.0",
    "--config.federated.local_epochs=1",
    "--config.model.widths=(6,6)",
    "--config.active.every=2",
    "--config.train.epochs=4",
    "--config.train.evaluate_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.watch=true",
)


@pytest.fixture(scope="module")
def whole(resolve, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    made = resolve(*FLAGS)
    return made, folder, job.train(made, folder)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def bits(state):
    keys = jax.dtypes.prng_key
    return [
        np.asarray(
            jax.random.key_data(a)
            if jax.dtypes.issubdtype(a.dtype, keys)
            else a
        ).tobytes()
        for a in jax.tree.leaves(state)
    ]


def test_labels_are_bought_and_told(whole):
    made, folder, _ = whole
    found = rows(folder)
    assert [r["rows"] for r in found if r["phase"] == "choose"] == [10, 20]
    labelled = [r["labelled"] for r in found if r["phase"] == "train"]
    assert labelled == [10, 10, 20, 20]
    first, second = (
        np.load(folder / "chosen" / f"epoch_{epoch:05d}.npy")
        for epoch in (0, 2)
    )
    assert first.sum() == 10 and second.sum() == 20 and (second >= first).all()
    site = made.splits["train"].aux["site"]
    assert (np.bincount(site[second]) == 10).all()
    assert [r["epoch"] for r in found if r["phase"] == "test"] == [2, 4]


@pytest.mark.parametrize("stops", [[1], [2, 1]])
def test_a_stopped_run_is_the_same(whole, tmp_path, stop_at, stops):
    """In the middle of a query's rounds, and between two queries."""
    made, folder, state = whole
    for steps in stops:
        with pytest.raises(loop.Preempted):
            job.train(made, tmp_path, stop_at(steps))
    assert bits(job.train(made, tmp_path)) == bits(state)
    assert rows(tmp_path) == rows(folder)
