"""Tests of training that several devices share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge import data, models
from jaxedge.core.checks import UsageError
from jaxedge.recipes import supervised
from jaxedge.run import loop
from jaxedge.run.checkpoint import Checkpoints
from jaxedge.run.sharing import Sharing

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3, 2, 1)).astype(np.float32)
SOURCE = data.make_source(
    X,
    (X.sum((1, 2, 3)) > 0).astype(int),
    classes=("a", "b"),
    name="toy",
    split="train",
)


class Rows(list):
    """A writer that keeps what it is told."""

    def write(self, step, scalars):
        self.append((step, dict(scalars)))

    def close(self):
        pass


def trained(devices, folder):
    # Normalised over the batch, which both devices hold a half of.
    recipe = supervised.make(
        models.Mlp((4, 2)),
        jnp.asarray(X[:1]),
        supervised.weights_rule(),
        optax.sgd(0.1),
    )
    rows, checkpoints = Rows(), Checkpoints(folder, "accuracy")
    state = loop.train(
        recipe,
        {"train": SOURCE, "select": SOURCE},
        loop.Plan(3, 8, devices=devices),
        jax.random.key(0),
        checkpoints,
        lambda step: rows,
    )
    checkpoints.close()
    return state, rows


def test_all_devices_learn_what_one_does(tmp_path):
    assert jax.device_count() == 2
    one, rows = trained("one", tmp_path / "one")
    both, shared = trained("all", tmp_path / "both")
    for a, b in zip(
        jax.tree.leaves((one.learned, one.stats)),
        jax.tree.leaves((both.learned, both.stats)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert [step for step, _ in rows] == [step for step, _ in shared]
    for (_, a), (_, b) in zip(rows, shared, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)


def test_rows_are_spread_and_states_are_everywhere():
    sharing = Sharing("all", 8)
    batch = sharing.batch(data.Batch(X[:8], np.zeros(8), np.ones(8)))
    assert {s.data.shape for s in batch.x.addressable_shards} == {(4, 3, 2, 1)}
    state = sharing.state({"w": jnp.ones((4, 2)), "key": jax.random.key(0)})
    assert {s.data.shape for s in state["w"].addressable_shards} == {(4, 2)}
    # What two devices do not divide is on each.
    odd = sharing.batch(X[:7])
    assert {s.data.shape for s in odd.addressable_shards} == {(7, 3, 2, 1)}


def test_a_batch_that_the_devices_do_not_divide():
    with pytest.raises(UsageError, match="train.batch is 9, which 2 devices"):
        Sharing("all", 9)
    with pytest.raises(UsageError, match="unknown train.devices 'both'"):
        Sharing("both", 8)
    assert isinstance(Sharing("one", 9).batch(X), jax.Array)
