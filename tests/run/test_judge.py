"""Tests of the network that judges made pairs."""

import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.models.pair_classifier import PairClassifier
from jaxedge.run import judge

pytestmark = pytest.mark.usefixtures("compile_quickly")

KEY = jax.random.key(3)
FEW = judge.Lessons(epochs=6, batch=8, rate=1e-2)
SIDES = 6, 5


def made(n, split, classes=2):
    """Pairs of noise whose second modality is brighter in class 1."""
    rng = np.random.default_rng(len(split))
    y = np.arange(n) % classes
    x = rng.normal(0, 0.1, (n, *SIDES, 2)).astype(np.float32)
    x[..., 1] += 0.6 * y[:, None, None] - 0.3
    # Brighter on top and on the left, so that mirrors show.
    x[:, 0] += 0.5
    x[:, :, 0] += 0.2
    names = tuple("abcd"[:2])
    return data.make_source(x, y, classes=names, name="toy", split=split)


TRAIN, TEST = made(40, "train"), made(21, "test")


@pytest.fixture(scope="module")
def taught():
    return judge.train(KEY, TRAIN, FEW)


def test_it_learns_the_labels_of_real_pairs(taught):
    assert taught.task == judge.LABELS
    assert (taught.pairs, taught.classes) == (40, 2)
    assert judge.accuracy(taught, TEST) == 1
    wrong = TEST._replace(y=np.where(np.arange(21) < 7, 1 - TEST.y, TEST.y))
    assert judge.accuracy(taught, wrong) == pytest.approx(14 / 21)


def test_features_are_what_the_last_layer_sees(taught):
    found = judge.features(taught, TEST.x)
    assert found.shape == (21, 64) and found.dtype == np.float32
    assert (found >= 0).all() and found.std(0).max() > 0
    last = jax.tree.map(np.asarray, taught.variables["params"]["last"])
    said = (found.astype(float) @ last["kernel"] + last["bias"]).argmax(1)
    np.testing.assert_array_equal(said, TEST.y)


def test_the_same_key_is_the_same_network(taught):
    again = judge.train(KEY, TRAIN, FEW)
    jax.tree.map(
        np.testing.assert_array_equal, again.variables, taught.variables
    )
    other = judge.train(jax.random.key(4), TRAIN, FEW)
    pair = taught.variables, other.variables
    assert any(
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(*map(jax.tree.leaves, pair), strict=True)
    )


def test_made_pairs_teach_what_their_labels_say(taught):
    right = judge.synthetic_accuracy(KEY, TRAIN.x, TRAIN.y, TEST, FEW)
    wrong = judge.synthetic_accuracy(KEY, TRAIN.x, 1 - TRAIN.y, TEST, FEW)
    # The very same pairs teach the very same network.
    assert right == judge.accuracy(taught, TEST) == 1
    assert wrong == 0


def test_without_classes_it_learns_mirrors():
    one = TRAIN._replace(y=0 * TRAIN.y)
    asked = judge._asked(one, judge.MIRRORS)
    np.testing.assert_array_equal(asked.y, np.arange(40) % 4)
    for row, turned in enumerate((one.x[0], one.x[1, :, ::-1])):
        np.testing.assert_array_equal(asked.x[row], turned)
    np.testing.assert_array_equal(asked.x[2], one.x[2, ::-1])
    np.testing.assert_array_equal(asked.x[3], one.x[3, ::-1, ::-1])
    np.testing.assert_array_equal(one.x, TRAIN.x)  # As it was.
    # Six passes are enough to do better than by chance, 1/4: of 40 guesses
    # more than 18 are right once in 500 times.
    taught = judge.train(KEY, one, FEW)
    assert taught.task == judge.MIRRORS and taught.classes == 4
    assert judge.accuracy(taught, one) > 18 / 40


@pytest.mark.parametrize("n", [1, 5, 13])
def test_rows_go_through_in_batches(monkeypatch, n):
    monkeypatch.setattr(judge, "_AT_ONCE", 5)
    sizes = []

    def double(a, b):
        sizes.append(len(a))
        return 2 * a + b

    a = np.arange(float(n))
    np.testing.assert_array_equal(judge.by_batch(double, a, a), 3 * a)
    assert set(sizes) == {min(n, 5)}


def test_the_network_has_the_size_that_it_says():
    def shapes(side):
        x = np.zeros((1, side, side, 2), np.float32)
        return jax.eval_shape(PairClassifier().init, KEY, x)["params"]

    found = shapes(1)
    assert found == shapes(33)
    assert sum(a.size for a in jax.tree.leaves(found)) == 31_826


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (TRAIN._replace(x=TRAIN.x[..., :1]), r"toy/train have shape \(40, 6"),
        (TRAIN.rows(np.arange(1)), "toy/train has 1 pair"),
        (
            TRAIN._replace(aux={"paired": np.arange(40) > 2}),
            "3 of 40 rows .* are no pairs",
        ),
    ],
)
def test_what_cannot_teach_is_named(source, says):
    with pytest.raises(UsageError, match=says):
        judge.train(KEY, source, FEW)


def test_labels_of_made_pairs_must_fit():
    with pytest.raises(UsageError, match="made of toy"):
        judge.synthetic_accuracy(KEY, TRAIN.x, TRAIN.y + 1, TEST, FEW)
