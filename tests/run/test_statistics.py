"""Tests of intervals, against scipy's own and against what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxedge.core import checks
from jaxedge.run import statistics


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_a_share_has_the_exact_binomial_interval(confidence):
    for n in (1, 7, 1000):
        good = np.unique(np.linspace(0, n, 9).astype(int))
        low, high = statistics.share_interval(good, n, confidence)
        for k, a, b in zip(good, low, high, strict=True):
            test = stats.binomtest(int(k), n).proportion_ci(confidence)
            assert (a, b) == pytest.approx((test.low, test.high), abs=1e-12)


def test_known_ends_of_a_share():
    # No failure in n: 1 - high = 0 and low = (tail)^(1/n).
    low, high = statistics.share_interval(20, 20)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 20)), 1)
    low, high = statistics.share_interval(0, 20)
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 20)))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_share_is_covered_at_least_as_often_as_stated(share):
    # The exact probability that the interval holds the true share.
    n = 60
    good = np.arange(n + 1)
    low, high = statistics.share_interval(good, n)
    inside = (low <= share) & (share <= high)
    assert stats.binom.pmf(good, n, share)[inside].sum() >= 0.95


def test_a_mean_has_students_interval():
    values = np.random.default_rng(0).normal(3, 2, 12).astype(np.float32)
    expected = stats.ttest_1samp(values.astype(float), 0).confidence_interval(
        0.9
    )
    found = statistics.mean_interval(values, 0.9)
    assert found == pytest.approx((expected.low, expected.high))


def test_one_value_has_no_interval_and_equal_ones_have_a_point():
    assert all(math.isnan(end) for end in statistics.mean_interval([0.5]))
    assert statistics.mean_interval([0.5, 0.5]) == (0.5, 0.5)


def test_a_yield_curve_counts_chips():
    accuracy = np.array([0.8, 0.5, 0.8, 0.9], np.float32)
    curve = statistics.yield_curve(accuracy)
    np.testing.assert_array_equal(curve.threshold, np.float32([0.5, 0.8, 0.9]))
    np.testing.assert_array_equal(curve.share, [1, 0.75, 0.25])
    for k, low, high in zip((4, 3, 1), curve.low, curve.high, strict=True):
        test = stats.binomtest(k, 4).proportion_ci(0.95)
        assert (low, high) == pytest.approx((test.low, test.high), abs=1e-12)


def test_a_description_is_finite_and_ordered():
    rng = np.random.default_rng(1)
    said = statistics.describe(rng.random(50).astype(np.float32), 0.4)
    assert said["score_min"] < said["score_p05"] < said["score_p95"]
    for name in ("score_mean", "yield"):
        assert said[f"{name}_low"] < said[name] < said[f"{name}_high"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: statistics.share_interval(3, 2), "good is 3"),
        (lambda: statistics.share_interval(0, 0), "n is 0"),
        (lambda: statistics.share_interval(1, 2, 1.5), "confidence is 1.5"),
        (lambda: statistics.mean_interval([1, 2], -1), "confidence is -1"),
        (lambda: statistics.yield_curve(np.zeros(0)), r"got shape \(0,\)"),
        (lambda: statistics.yield_curve(np.zeros((2, 2))), r"\(2, 2\)"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(checks.UsageError, match=says):
        call()
