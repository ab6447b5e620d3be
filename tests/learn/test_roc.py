"""ROC curves against scikit-learn, pairs in float64, and closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from jaxedge.core import UsageError
from jaxedge.learn import roc

pytestmark = pytest.mark.usefixtures("compile_quickly")

P, Q, C = 23, 31, 3
KEY = jax.random.key(3)
areas = jax.jit(roc.areas)


def detectors(seed=0, digits=1):
    """Scores of three detectors, some of them equal, [C, P] and [C, Q]."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=P + Q)
    score = 0.7 * common + rng.normal(size=(C, P + Q))
    score[:, :P] += np.array([0.5, 1.0, 2.0])[:, None]
    score = np.round(score, digits).astype(np.float32)
    return score[:, :P], score[:, P:]


def by_pairs(positive, negative):
    """DeLong's areas and covariances from all pairs, float64."""
    psi = np.heaviside(
        positive[:, :, None].astype(float) - negative[:, None, :], 0.5
    )
    over, under = psi.mean(2), psi.mean(1)
    return psi.mean((1, 2)), np.cov(over) / P + np.cov(under) / Q


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_areas_are_those_of_all_pairs(digits):
    positive, negative = detectors(digits=digits)
    tied = np.isin(positive, negative).any()
    assert tied == (digits < 6)
    found = areas(positive, negative)
    area, covariance = by_pairs(positive, negative)
    np.testing.assert_allclose(found.area_C, area, rtol=1e-6)
    # Sums of up to 31 products of float32.
    np.testing.assert_allclose(found.covariance_CxC, covariance, rtol=2e-5)
    y = np.repeat([1, 0], [P, Q])
    for c in range(C):
        known = metrics.roc_auc_score(y, np.r_[positive[c], negative[c]])
        np.testing.assert_allclose(found.area_C[c], known, rtol=1e-6)


def test_the_variance_is_that_of_normal_laws():
    # psi of two normal laws, means 1 apart: its variance t has a part x of the
    # positives, as much of the negatives, and a rest r of both together. The
    # components of P have the variance x + r / Q, so that the estimate is
    # x / P + x / Q + 2 r / (P Q) on average.
    n, p, q = 2000, 12, 17
    z = 1 / np.sqrt(2)
    area = scipy.stats.norm.cdf(z)
    # Two of one kind that meet the same other have a correlation of 1/2.
    half: dict[str, Any] = {"cov": [[1, 0.5], [0.5, 1]]}
    x = scipy.stats.multivariate_normal.cdf([z, z], **half) - area**2
    r = area * (1 - area) - 2 * x
    rng = np.random.default_rng(1)
    found = areas(
        rng.normal(1, 1, (n, p)).astype(np.float32),
        rng.normal(0, 1, (n, q)).astype(np.float32),
    )
    for values, mean in (
        (found.area_C, area),
        (np.diag(found.covariance_CxC), x / p + x / q + 2 * r / (p * q)),
    ):
        values = np.asarray(values, float)
        error = values.std(ddof=1) / np.sqrt(n)
        assert error < 0.01 * mean
        assert abs(values.mean() - mean) < 4 * error


def test_intervals_are_normal():
    found = roc.interval(jnp.array([0.7, 1.0]), jnp.array([0.01, 0.0]), 0.9)
    reach = 0.1 * scipy.stats.norm.isf(0.05)
    np.testing.assert_allclose(found.low, np.array([0.7 - reach, 1]), rtol=1e-6)
    np.testing.assert_allclose(
        found.high, np.array([0.7 + reach, 1]), rtol=1e-6
    )


@pytest.mark.parametrize("digits", [0, 6])
def test_a_curve_is_that_of_sklearn(digits):
    positive, negative = (a[1] for a in detectors(digits=digits))
    found = roc.curve(positive, negative)
    false, true, _ = metrics.roc_curve(
        np.repeat([1, 0], [P, Q]),
        np.r_[positive, negative],
        drop_intermediate=False,
    )
    points = np.unique(np.round(np.stack(found, 1), 6), axis=0)
    known = np.unique(np.round(np.stack([false, true], 1), 6), axis=0)
    np.testing.assert_allclose(points, known, atol=2e-6)
    assert (np.diff(found.false) >= 0).all() and len(found.true) == P + Q + 2


def most_found(positive, negative, alarms):
    """The share of positives with so many alarms, on scikit-learn's curve."""
    y = np.repeat([1, 0], [len(positive), len(negative)])
    false, true, _ = metrics.roc_curve(y, np.r_[positive, negative])
    # The upper end of a step; numpy takes the last of equal places too.
    place = np.rint(false * len(negative) * 1e6) / 1e6
    return np.interp(alarms, place, true)


def test_a_band_is_that_of_a_bootstrap_in_numpy():
    positive, negative = (a[1] for a in detectors(2, 1))
    alarms, draws = np.arange(0, Q + 1, 3), 2000
    found = roc.band(KEY, positive, negative, alarms, confidence=0.9)
    np.testing.assert_allclose(
        found.value, most_found(positive, negative, alarms), atol=1e-6
    )
    rng = np.random.default_rng(4)
    drawn = np.stack(
        [
            most_found(rng.choice(positive, P), rng.choice(negative, Q), alarms)
            for _ in range(draws)
        ]
    )
    # How many draws are below an end has a standard deviation of
    # sqrt(0.05 * 0.95 / 2000) = 0.5 %, and so has the place of the end itself;
    # five times both together are 3.5 %. Ties widen what an end may be.
    for end, tail in ((found.low, 0.05), (found.high, 0.95)):
        end = np.asarray(end)
        under = (drawn < end - 1e-5).mean(0)
        upto = (drawn <= end + 1e-5).mean(0)
        assert (under < tail + 0.035).all() and (upto > tail - 0.035).all()
    assert (found.low <= found.value).all() and (found.high > found.low).any()


def test_a_band_of_two_kinds_of_positives_is_binomial():
    # 20 are above all others and 20 below: but for alarms beyond them all,
    # Binomial(40, 1/2) / 40 are found.
    positive = np.repeat([2.0, 0.0], 20).astype(np.float32)
    negative = np.linspace(0.5, 1.5, 9, dtype=np.float32)
    found = roc.band(KEY, positive, negative, np.array([0, 4, 8, 9]))
    np.testing.assert_allclose(found.value, [0.5, 0.5, 0.5, 1])
    law = scipy.stats.binom(40, 0.5)
    # Of 2000 draws a share has a standard deviation of 0.35 % at the ends.
    for end, tail in ((found.low, 0.025), (found.high, 0.975)):
        near = law.ppf([tail - 0.014, tail + 0.014]) / 40
        assert (near[0] - 1e-6 <= end[:3]).all()
        assert (end[:3] <= near[1] + 1e-6).all()
    np.testing.assert_array_equal((found.low[3], found.high[3]), (1, 1))


def test_a_band_depends_on_its_key_alone_and_is_compiled_once(compilations):
    positive, negative = (a[0] for a in detectors())
    alarms = np.array([0, 5, 20])
    first = roc.band(KEY, positive, negative, alarms, draws=50)
    again = roc.band(KEY, positive, negative, alarms, draws=50)
    key = jax.random.key(9)
    with compilations() as names:
        other = roc.band(key, positive + 1, negative, alarms + 1, draws=50)
    assert not names
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).any()


def test_a_detector_without_error_has_no_width():
    positive, negative = jnp.arange(5.0) + 9, jnp.arange(4.0)
    found = roc.areas(positive[None], negative[None])
    assert found.area_C[0] == 1 and found.covariance_CxC[0, 0] == 0
    ends = roc.band(KEY, positive, negative, np.arange(5), draws=20)
    assert (np.stack(ends) == 1).all()


def test_half_precision_is_computed_in_float32():
    positive, negative = (a.astype(jnp.bfloat16) for a in detectors())
    found = areas(positive, negative)
    assert found.covariance_CxC.dtype == jnp.float32
    known = by_pairs(*(np.asarray(a, float) for a in (positive, negative)))
    np.testing.assert_allclose(found.area_C, known[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("positive", "negative", "says"),
    [
        (np.ones((1, 1)), np.ones((1, 2)), r"positive scores.*\(1, 1\).*2 ex"),
        (np.ones((1, 2)), np.ones(2), r"negative scores.*2 axes"),
        (np.ones((1, 2)), np.ones((2, 2)), "same detectors"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "positive scores holds 2"),
        (np.ones((1, 2), complex), np.ones((1, 2)), "complex"),
    ],
)
def test_scores_that_do_not_fit_are_named(positive, negative, says):
    with pytest.raises(UsageError, match=says):
        roc.areas(positive, negative)


def test_numbers_out_of_range_are_named():
    with pytest.raises(UsageError, match="variance is -1"):
        roc.interval(0.5, -1.0)
    with pytest.raises(UsageError, match="confidence is 2"):
        roc.interval(0.5, 1.0, 2)
    with pytest.raises(UsageError, match="alarms_T is 3"):
        roc.band(KEY, jnp.ones(2), jnp.ones(2), np.arange(4))
    with pytest.raises(UsageError, match="draws"):
        roc.band(KEY, jnp.ones(2), jnp.ones(2), jnp.ones(1), draws=0)
