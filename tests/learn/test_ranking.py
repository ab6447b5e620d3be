"""Areas under curves against scikit-learn, which sorts every score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxedge.core import UsageError
from jaxedge.learn import ranking

areas = jax.jit(ranking.areas)
count = jax.jit(ranking.histograms, static_argnames="bins")


def detector(n, scale=3.0, seed=0):
    """Scores of a mediocre detector, what is positive, what counts."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.2
    score = scale * (rng.normal(size=n) + positive)
    return score.astype(np.float32), positive, (rng.random(n) < 0.8) * 1.0


def of_sklearn(score, positive, weight):
    """The areas of all examples that count."""
    score, positive = score[weight > 0], positive[weight > 0]
    precision, recall, _ = metrics.precision_recall_curve(positive, score)
    return {
        "roc_auc": metrics.roc_auc_score(positive, score),
        "pr_auc": metrics.auc(recall, precision),
        "average_precision": metrics.average_precision_score(positive, score),
    }


def test_scores_in_bins_of_their_own_are_ranked_exactly():
    score, *rest = detector(5000)
    score = np.round(score)  # About 25 values, no two of them in one bin.
    found = areas(count(score, *rest))
    for name, value in of_sklearn(score, *rest).items():
        # Some roundings of float32 in each of about 25 terms.
        np.testing.assert_allclose(found[name], value, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("bins", [64, ranking.BINS])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_ties_within_bins_cost_no_more_than_they_can(bins, scale):
    case = detector(5000, scale)
    histograms = count(*case, bins)
    found = areas(histograms)
    p, n = (np.asarray(h, np.float64)[::-1] for h in histograms)
    hits, alarms = np.cumsum(p), np.cumsum(n)
    # Pairs of one bin are half right; at best all are, at worst none.
    roc = (p * n).sum() / (2 * p.sum() * n.sum())
    # Within a bin precision lies between that of its negatives first and that
    # of its positives first.
    low = (hits - p) / np.maximum(hits - p + alarms, 1)
    high = hits / np.maximum(hits + alarms - n, 1)
    high[hits + alarms - n == 0] = 1
    precision = (p * (high - low)).sum() / p.sum()
    limits = {"roc_auc": roc}
    limits |= dict.fromkeys(("pr_auc", "average_precision"), precision)
    for name, value in of_sklearn(*case).items():
        assert abs(found[name] - value) < limits[name] + 1e-5, name
    if bins == ranking.BINS and scale == 1:
        assert roc < 1e-3 and precision < 0.02  # Limits that say something.


def test_the_line_at_zero():
    score, positive, weight = detector(3000)
    found = areas(count(score, positive, weight))
    called, real = score[weight > 0] >= 0, positive[weight > 0]
    for name, value in {
        "sensitivity": called[real].mean(),
        "specificity": (~called[~real]).mean(),
        "dice": metrics.f1_score(real, called),
    }.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_histograms_add_up():
    case = detector(4000)
    whole = count(*case)
    parts = [count(*(a[i::4] for a in case)) for i in range(4)]
    total = jax.tree.map(lambda *a: sum(a), *parts)
    jax.tree.map(np.testing.assert_array_equal, total, whole)
    shaped = [a.reshape(4, 10, 100) for a in case]
    jax.tree.map(np.testing.assert_array_equal, count(*shaped), whole)
    many = jax.vmap(ranking.histograms)(*shaped)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a.sum(0), b), many, whole
    )
    chips = jax.vmap(ranking.areas)(many)
    alone = areas(jax.tree.map(lambda a: a[2], many))
    for name, value in alone.items():
        np.testing.assert_allclose(chips[name][2], value, rtol=1e-5)


def test_any_score_has_a_bin():
    score = jnp.array([-3e38, -1e9, -1e-30, 0.0, 1e-30, 1e9, 3e38])
    positive = jnp.arange(7) >= 3
    found = count(score, positive, jnp.ones(7))
    assert found.positive.sum() == 4 and found.negative.sum() == 3
    assert areas(found)["roc_auc"] > 0.9
    assert areas(found)["sensitivity"] == 1


def test_a_data_set_of_one_kind_has_no_curve():
    score, _, weight = detector(10)
    found = areas(count(score, np.ones(10, bool), weight))
    assert np.isnan(found["roc_auc"]) and not np.isnan(found["pr_auc"])


def test_zero_parts_two_bins():
    with pytest.raises(UsageError, match="bins is 7, but must be even"):
        ranking.histograms(*map(jnp.asarray, detector(5)), 7)
