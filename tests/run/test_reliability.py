"""Tests of what is kept of probabilities, each found again in numpy."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn import metrics

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.learn import evidential
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import exhibits, frames, reliability

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
KEY = jax.random.key(7)
NOISE, CLASSES, N, BATCH = 0.7, 4, 23, 10
GAIN = np.linspace(0.5, 2.5, CLASSES, dtype=np.float32)
PAIR = exhibits.Pair({"gain": np.ones(CLASSES, np.float32)}, {"gain": GAIN})
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, CLASSES)).astype(np.float32)
Y = np.where(RNG.random(N) < 0.5, X.argmax(1), RNG.integers(0, CLASSES, N))


def forward(variables, x, key=None):
    """The inputs are the outputs; a chip has a gain a class, and noise."""
    out = x * jnp.broadcast_to(variables["gain"], x.shape)
    if key is None:
        return out
    return out + NOISE * jax.random.normal(key, out.shape)


def unused(*args):
    raise AssertionError("probabilities need outputs alone")


RECIPE = Recipe(unused, unused, unused, unused, unused, forward, unused)


def framed(x=X, y=Y, batch=BATCH):
    source = data.make_source(
        x, y, classes=tuple("abcd"), name="toy", split="test"
    )
    return frames.frames(source, batch)


def collect(test=None, recipe=RECIPE, pair=PAIR, classes=CLASSES):
    test = framed() if test is None else test
    found = reliability.collect(recipe, pair, test, classes, KEY)
    return {k.removeprefix("reliability/"): v for k, v in found.items()}


def outputs(place):
    """What the network tells, in float64; a frame has a noise of its own."""
    if place == "ideal":
        return X.astype(float)
    noise = [
        jax.random.normal(stream(KEY, "read", i), (BATCH, CLASSES))
        for i in range(3)
    ]
    return (X * GAIN).astype(float) + NOISE * np.concatenate(noise)[:N]


def expected(p, right, y):
    """The measures of probabilities [N, K], by loops and scikit-learn."""
    sure = p.max(1)
    place = np.maximum(np.ceil(sure * 15) - 1, 0).astype(int)
    used = [place == m for m in range(15)]
    means = [
        np.array([a[u].mean() if u.any() else 0 for u in used])
        for a in (sure, right)
    ]
    weight = np.array([u.sum() for u in used])
    risk = np.cumsum(1 - right[np.argsort(-sure)]) / np.arange(1, N + 1)
    return {
        "weight": weight,
        "confidence": means[0],
        "accuracy": means[1],
        "coverage": np.arange(1, N + 1) / N,
        "risk": risk,
        "ece": (weight * np.abs(means[1] - means[0])).sum() / N,
        "brier": ((p - np.eye(CLASSES)[y]) ** 2).sum(1).mean(),
        "nll": metrics.log_loss(y, p, labels=range(CLASSES)),
        "aurc": risk.mean(),
        "auroc": metrics.roc_auc_score(right, sure),
        "examples": N,
    }


@pytest.fixture(scope="module")
def found():
    return collect()


@pytest.mark.parametrize("place", ["ideal", "chip"])
def test_measures_are_those_of_numpy(found, place):
    logits = outputs(place)
    right = (logits.argmax(1) == Y).astype(float)
    wanted = expected(scipy.special.softmax(logits, 1), right, Y)
    mine = {
        name.removeprefix(f"{place}/"): array
        for name, array in found.items()
        if name.startswith(f"{place}/")
    }
    assert mine.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(
            mine[name], value, rtol=2e-6, atol=1e-6, err_msg=name
        )
    assert 0 < right.sum() < N  # There is something to tell apart.


def test_right_answers_are_those_that_are_counted(found):
    for place, variables in zip(("ideal", "chip"), PAIR, strict=True):
        key = KEY if place == "chip" else None
        counts = exhibits.confusion(RECIPE, variables, framed(), CLASSES, key)
        weight, share = (found[f"{place}/{n}"] for n in ("weight", "accuracy"))
        assert (weight * share).sum() == pytest.approx(np.trace(counts))


def test_outputs_are_computed_by_a_program_that_others_share(compilations):
    test = framed()

    def shared(variables, x, key=None):
        return forward(variables, x, key)

    recipe = RECIPE._replace(forward=shared)
    jax.jit(shared)(PAIR.ideal, test.x[0], None)
    jax.jit(shared)(PAIR.chip, test.x[0], stream(KEY, "read", 0))
    with compilations() as names:
        assert collect(test, recipe)
    assert not any("shared" in name for name in names)


def test_evidence_has_probabilities_of_its_own():
    def probability(logits):
        return evidential.probability(evidential.alpha(logits, "softplus"))

    found = collect(recipe=RECIPE._replace(probability=probability))
    alpha = 1 + np.logaddexp(0, X.astype(float))
    p = alpha / alpha.sum(1, keepdims=True)
    wanted = expected(p, (X.argmax(1) == Y).astype(float), Y)
    for name in ("confidence", "ece", "brier", "nll", "aurc", "auroc"):
        mine = found[f"ideal/{name}"]
        np.testing.assert_allclose(mine, wanted[name], rtol=2e-6, atol=1e-6)
    assert not found["softmax"] and collect()["softmax"]


def test_the_answer_is_that_of_the_outputs_where_there_is_no_evidence():
    def probability(logits):
        return evidential.probability(evidential.alpha(logits, "relu"))

    test = framed(-1 - np.abs(X), (-1 - np.abs(X)).argmax(1))
    recipe = RECIPE._replace(probability=probability)
    found = reliability.read(recipe, PAIR.ideal, test, None)
    np.testing.assert_array_equal(found.confidence, 1 / CLASSES)
    assert found.right.all()


def test_padding_and_unknown_labels_do_not_count():
    test = framed()
    y = np.asarray(test.y).copy()
    y[0, ::2] = data.IGNORED
    said = reliability.read(RECIPE, PAIR.ideal, test._replace(y=y), None)
    rows = np.setdiff1d(np.arange(N), np.arange(0, BATCH, 2))
    assert len(said.right) == len(rows)
    p = scipy.special.softmax(X[rows].astype(float), 1)
    np.testing.assert_allclose(said.confidence, p.max(1), rtol=1e-6)
    y[:] = data.IGNORED
    assert collect(test._replace(y=y)).keys() == {"softmax"}


def test_a_probability_of_nothing_has_a_finite_surprise():
    x = np.array([[0, 200, 0, 0]] * 2, np.float32)
    found = collect(framed(x, np.array([1, 0])))
    assert found["ideal/nll"] == pytest.approx(100, rel=1e-6)
    assert found["ideal/brier"] == pytest.approx(1, rel=1e-6)


def test_outputs_that_are_no_numbers_leave_their_place_out():
    broken = exhibits.Pair(PAIR.ideal, {"gain": np.full(4, np.nan, np.float32)})
    names = {name.split("/")[0] for name in collect(pair=broken)}
    assert names == {"softmax", "ideal"}


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_its_middle():
    rng = np.random.default_rng(1)
    sure = rng.random(1000).astype(np.float32)
    right = (rng.random(1000) < sure).astype(np.float32)
    found = reliability.measure(
        reliability.Answers(sure, right, sure, np.full(1000, np.inf))
    )
    coverage = found["coverage"]
    assert len(coverage) == len(found["risk"]) == 199
    np.testing.assert_allclose(coverage[[0, 99, -1]], (1e-3, 0.5, 1))
    assert (np.diff(coverage) > 0).all()
    wrong = 1 - right[np.argsort(-sure)]
    rows = np.rint(1000 * coverage).astype(int)
    np.testing.assert_allclose(
        found["risk"], [wrong[:n].mean() for n in rows], rtol=1e-5
    )
    assert np.isposinf(found["nll"])
    assert sum(array.nbytes for array in found.values()) < 3000


def test_nothing_is_told_apart_where_all_is_right():
    found = collect(framed(y=X.argmax(1)))
    assert np.isnan(found["ideal/auroc"]) and found["ideal/aurc"] == 0


def test_what_has_no_probabilities_is_left_out():
    image = framed()._replace(y=jnp.zeros((3, BATCH, 2), int))
    assert collect(image) == {}
    assert collect(classes=3) == {}
    one = RECIPE._replace(forward=lambda variables, x, key=None: x[:, :1])
    assert collect(recipe=one, classes=1) == {}
    pair = RECIPE._replace(forward=lambda variables, x, key=None: (x, x))
    assert collect(recipe=pair) == {}


@pytest.mark.parametrize("loss", ["soft_dice", "digamma"])
def test_a_federated_recipe_tells_what_its_outputs_mean(loss, resolve):
    made = resolve(
        f"--config={ROOT}/configs/feal.py:quick",
        "--config.data.name=digits",
        "--config.federated.clients=2",
        f"--config.evidence.loss={loss}",
        "--config.evidence.activation=exp",
    )
    probability = made.recipe.probability
    if loss != "digamma":
        assert probability is None
        return
    alpha = 1 + np.exp(X.astype(float))
    p = alpha / alpha.sum(1, keepdims=True)
    np.testing.assert_allclose(probability(jnp.asarray(X)), p, rtol=1e-5)
