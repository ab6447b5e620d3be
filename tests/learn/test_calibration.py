"""Calibration against loops in numpy and against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxedge.core import UsageError
from jaxedge.learn import calibration

pytestmark = pytest.mark.usefixtures("compile_quickly")

N, K, M = 120, 4, 10
NAMES = ("width", "mass")
ece = jax.jit(
    calibration.expected_calibration_error, static_argnames=("bins", "by")
)
diagram = jax.jit(calibration.reliability, static_argnames=("bins", "by"))
curve = jax.jit(calibration.risk_coverage)
aurc = jax.jit(calibration.aurc)
auroc = jax.jit(calibration.auroc)


def case(ties=False, seed=0):
    """Confidences, whether they are right, and weights with padding."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(N).astype(np.float32)
    if ties:
        # Multiples of a quarter, which some edges are too.
        confidence = np.round(confidence * 4).astype(np.float32) / 4
    correct = (rng.random(N) < confidence).astype(np.float32)
    weight = (rng.random(N) < 0.7).astype(np.float32)
    return confidence, correct, weight


def kept(confidence, correct, weight):
    return confidence[weight > 0], correct[weight > 0]


def binned(confidence, correct, weight, by):
    """The diagram by its definition: (e_{m-1}, e_m], the first one closed."""
    confidence, correct = kept(confidence, correct, weight)
    edges = np.float32(np.arange(M + 1) / M)
    if by == "mass":
        edges[1:-1] = np.quantile(
            confidence, np.arange(1, M) / M, method="inverted_cdf"
        )
    rows = []
    for m in range(M):
        inside = (confidence > edges[m]) & (confidence <= edges[m + 1])
        if m == 0:
            inside |= confidence == 0
        n = inside.sum()
        means = (confidence[inside].mean(), correct[inside].mean()) if n else 0
        rows.append((n, *np.broadcast_to(means, 2)))
    return edges, np.array(rows)


@pytest.mark.parametrize("by", NAMES)
@pytest.mark.parametrize("ties", [False, True])
def test_the_diagram_is_that_of_a_loop(by, ties):
    given = case(ties)
    found = diagram(*given, bins=M, by=by)
    edges, rows = binned(*given, by)
    np.testing.assert_array_equal(found.edges, edges)
    np.testing.assert_allclose(np.stack(found[1:], 1), rows, rtol=1e-5)
    n, sure, right = rows.T
    error = (n * abs(sure - right)).sum() / n.sum()
    np.testing.assert_allclose(ece(*given, bins=M, by=by), error, rtol=1e-5)


def test_bins_of_equal_mass_are_equal():
    confidence, correct, _ = case()
    found = diagram(confidence, correct, np.ones(N), bins=M, by="mass")
    np.testing.assert_array_equal(found.weight, N / M)


def test_a_perfect_and_a_vain_network():
    sure, right = np.full(8, 0.75, np.float32), np.arange(8) % 4 > 0
    assert ece(sure, right) == 0
    np.testing.assert_allclose(ece(np.ones(8, np.float32), right), 0.25)


def test_a_weight_counts_as_often_as_it_says():
    confidence, correct, _ = case(True)
    often = np.random.default_rng(1).integers(0, 3, N)
    for measure in (ece, auroc):
        weighted = measure(confidence, correct, np.float32(often))
        repeated = measure(*(np.repeat(a, often) for a in case(True)[:2]))
        np.testing.assert_allclose(weighted, repeated, rtol=1e-5)


# Scores.


def predictions(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(K), N).astype(np.float32)
    weight = (rng.random(N) < 0.7).astype(np.float32)
    return p, rng.integers(0, K, N), weight


def test_scores_are_those_of_scikit_learn():
    p, labels, weight = predictions()
    given = {"labels": range(K), "sample_weight": weight}
    p64 = np.float64(p) / np.float64(p).sum(1, keepdims=True)
    brier = metrics.brier_score_loss(labels, p64, scale_by_half=False, **given)
    np.testing.assert_allclose(
        calibration.brier(p, labels, weight), brier, rtol=1e-5
    )
    np.testing.assert_allclose(
        calibration.negative_log_likelihood(p, labels, weight),
        metrics.log_loss(labels, p64, **given),
        rtol=1e-5,
    )


def test_padding_of_probability_0_costs_nothing():
    p, labels = jnp.array([[0.5, 0.5], [1.0, 0.0]]), jnp.array([0, 1])
    measure = calibration.negative_log_likelihood
    np.testing.assert_allclose(
        measure(p, labels, jnp.array([1, 0])), np.log(2), rtol=1e-6
    )
    assert measure(p, labels) == np.inf


def test_the_surest_class_of_pixels():
    p, labels, _ = predictions()
    shape = (4, 5, 6)
    sure, right = calibration.top(p.reshape(*shape, K), labels.reshape(shape))
    assert sure.shape == right.shape == shape
    np.testing.assert_array_equal(sure.ravel(), p.max(1))
    np.testing.assert_array_equal(right.ravel(), p.argmax(1) == labels)


def test_confusion_and_balanced_accuracy():
    p, labels, weight = predictions()
    guess = p.argmax(1)
    found = calibration.confusion(labels, guess, K, weight)
    expected = metrics.confusion_matrix(
        labels, guess, labels=range(K), sample_weight=weight
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(
        calibration.balanced_accuracy(found),
        metrics.balanced_accuracy_score(labels, guess, sample_weight=weight),
        rtol=1e-6,
    )
    halves = [
        calibration.confusion(labels[i::2], guess[i::2], K, weight[i::2])
        for i in range(2)
    ]
    np.testing.assert_array_equal(sum(halves), expected)


def test_absent_classes_do_not_weigh_on_balanced_accuracy():
    counts = jnp.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    found = calibration.balanced_accuracy(counts)
    np.testing.assert_allclose(found, (3 / 4 + 2 / 4) / 2)
    assert np.isnan(calibration.balanced_accuracy(jnp.zeros((3, 3))))


def test_traced_labels_outside_do_not_count():
    count = jax.jit(calibration.confusion, static_argnums=2)
    found = count(jnp.array([0, -1, 3, 1]), jnp.array([0, 1, 1, -3]), 3)
    assert found.sum() == found[0, 0] == 1


# Detection.


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_the_chance_of_a_pair_in_order(ties):
    score, positive, weight = case(ties)
    found = auroc(score, positive, weight)
    np.testing.assert_allclose(
        found,
        metrics.roc_auc_score(positive, score, sample_weight=weight),
        rtol=1e-5,
    )
    s, p = kept(score, positive, weight)
    pairs = s[p == 1][:, None] - s[p == 0][None]
    chance = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    np.testing.assert_allclose(found, chance, rtol=1e-5)


def test_many_scores_rank_exactly():
    rng = np.random.default_rng(0)
    positive = rng.random(200_000) < 0.1
    score = (rng.normal(size=positive.size) + positive).astype(np.float32)
    np.testing.assert_allclose(
        auroc(score, positive), metrics.roc_auc_score(positive, score),
        rtol=1e-5,
    )  # fmt: skip


def test_one_kind_has_no_auroc():
    score = jnp.arange(5.0)
    assert np.isnan(auroc(score, jnp.ones(5)))
    assert np.isnan(auroc(score, jnp.zeros(5)))
    # The only negative one is padding.
    assert np.isnan(auroc(score, jnp.arange(5) > 0, jnp.arange(5.0)))


def orders(confidence, loss, shuffles):
    """The curve of examples in order, in the mean over orders of ties."""
    rng = np.random.default_rng(0)
    n, total = len(loss), 0
    for _ in range(shuffles):
        shuffled = rng.permutation(n)
        order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
        total = total + np.cumsum(loss[order]) / np.arange(1, n + 1)
    return total / shuffles


def test_the_risk_of_the_surest():
    confidence, correct, weight = case()
    found = curve(confidence, 1 - correct, weight)
    sure, right = kept(confidence, correct, weight)
    n = len(sure)
    risk = orders(sure, 1 - np.float64(right), 1)
    np.testing.assert_allclose(found.risk[:n], risk, rtol=1e-5)
    np.testing.assert_allclose(found.coverage[:n], np.arange(1, n + 1) / n)
    np.testing.assert_array_equal(found.coverage[n:], 1)
    np.testing.assert_allclose(found.risk[n:], risk[-1], rtol=1e-5)
    area = aurc(confidence, 1 - correct, weight)
    np.testing.assert_allclose(area, risk.mean(), rtol=1e-5)


def test_ties_are_in_the_mean_order():
    confidence, correct, _ = case(True)
    shuffles = 2000
    expected = orders(confidence, 1 - np.float64(correct), shuffles)
    # The standard deviation of the mean of j <= 30 tied losses is at most a
    # half, so 5 standard errors of 2000 shuffles are .056.
    found = curve(confidence, 1 - correct, np.ones(N))
    np.testing.assert_allclose(found.risk, expected, atol=0.056)
    order = np.random.default_rng(1).permutation(N)
    again = curve(confidence[order], 1 - correct[order], np.ones(N))
    np.testing.assert_allclose(again.risk, found.risk, rtol=1e-5)


def test_equally_sure_examples_all_have_the_mean_risk():
    loss = jnp.array([1.0, 0.0, 0.0, 1.0])
    found = curve(jnp.ones(4), loss)
    np.testing.assert_allclose(found.risk, 0.5)


# Transformations and input.


def test_vmap_is_a_loop_and_jit_is_eager():
    rows = [np.stack(a) for a in zip(case(), case(True, 1), strict=True)]
    for measure in (ece, aurc, auroc):
        mapped = jax.vmap(measure)(*rows)
        loop = [measure(*(a[i] for a in rows)) for i in range(2)]
        np.testing.assert_allclose(mapped, loop, rtol=1e-5)
        with jax.disable_jit():
            eager = measure(*(a[0] for a in rows))
        np.testing.assert_allclose(eager, loop[0], rtol=1e-5)
    p, labels, weight = (
        np.stack(a) for a in zip(predictions(), predictions(1), strict=True)
    )
    for measure in (calibration.brier, calibration.negative_log_likelihood):
        mapped = jax.vmap(measure)(p, labels, weight)
        loop = [measure(p[i], labels[i], weight[i]) for i in range(2)]
        np.testing.assert_allclose(mapped, loop, rtol=1e-5)


def test_values_do_not_recompile(compilations):
    auroc(*case())
    with compilations() as names:
        auroc(*case(seed=5))
    assert not names


def test_nothing_that_counts_is_no_number():
    confidence, correct, _ = case()
    for measure in (ece, aurc, auroc):
        assert np.isnan(measure(confidence, correct, np.zeros(N)))


def test_low_precision_is_counted_in_float32():
    confidence, correct, _ = case()
    found = calibration.aurc(confidence.astype(jnp.bfloat16), correct)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda c: c.aurc(jnp.ones(3), jnp.ones(4)), r"loss \(4,\)"),
        (lambda c: c.auroc(jnp.ones(3), jnp.ones(3), jnp.ones(2)), "weight"),
        (lambda c: c.auroc(jnp.ones(3), jnp.full(3, 2)), "positive is 2"),
        (lambda c: c.auroc(jnp.array([jnp.nan]), jnp.ones(1)), "score is nan"),
        (lambda c: c.aurc(jnp.ones(0), jnp.ones(0)), "some examples"),
        (lambda c: c.aurc(jnp.ones(2), jnp.ones(2), -jnp.ones(2)), "weight is"),
        (lambda c: c.reliability(2 * jnp.ones(3), jnp.ones(3)), "confidence"),
        (lambda c: c.reliability(jnp.ones(3), jnp.ones(3), bins=0), "bins"),
        (lambda c: c.reliability(jnp.ones(3), jnp.ones(3), by="m"), "by 'm'"),
        (lambda c: c.brier(jnp.ones((3, 2)), jnp.ones(3)), "whole numbers"),
        (lambda c: c.brier(jnp.ones((3, 2)), jnp.full(3, 2)), "labels is 2"),
        (lambda c: c.brier(jnp.ones((3, 2)), jnp.ones(4, int)), r"\(4,\)"),
        (lambda c: c.brier(jnp.float32(1), jnp.ones(4, int)), "last axis"),
        (lambda c: c.confusion([0], [3], 3), "predicted is 3"),
        (lambda c: c.balanced_accuracy(jnp.ones((2, 3))), r"\(2, 3\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call(calibration)
