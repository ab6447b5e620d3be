"""What changed with a campaign: against formulas, and how often it is right."""

import datetime as dt
import math

import numpy as np
import pytest
from scipy import stats

from jaxedge.foodwise.waste import series

pytestmark = pytest.mark.physics

START = dt.date(2026, 3, 9)  # A Monday.


def days_of(before=28, during=14):
    return [START + dt.timedelta(days=i) for i in range(-before, during)]


def made(days, *, level=-6.0, slope=-0.2, noise=0.0):
    """Grams of each day by a formula, plus noise."""
    t = np.array([(day - START).days for day in days])
    weekend = np.array([day.weekday() >= 5 for day in days])
    return 100 + 0.1 * t + 5 * weekend + (t >= 0) * (level + slope * t) + noise


def test_a_series_without_noise_is_told_exactly():
    days = days_of()
    found = series.interrupted(days, made(days), START, days[-1])
    assert isinstance(found, series.Estimate)
    for interval, true in (
        (found.level, -6),
        (found.slope, -0.2),
        (found.mean, -6 - 0.2 * 6.5),
    ):
        np.testing.assert_allclose(interval, true, atol=1e-8)
    assert (found.before, found.during, len(found.points)) == (28, 14, 42)
    last = found.points[-1]
    assert last.fit - last.without.value == pytest.approx(-6 - 0.2 * 13)


def test_gaps_and_order_do_not_matter():
    days = [d for d in days_of() if d.day not in (2, 17)]
    values = made(days)
    found = series.interrupted(days[::-1], values[::-1], START, days[-1])
    assert isinstance(found, series.Estimate)
    assert found.level.value == pytest.approx(-6)


def test_the_fit_is_generalised_least_squares():
    """Against the textbook formula with the dense covariance matrix."""
    rng = np.random.default_rng(3)
    t = np.sort(rng.choice(60, 42, replace=False)).astype(float) - 30
    x = series.design(t, np.mod(t, 7).astype(int))
    y = x @ rng.normal(size=x.shape[1]) + rng.normal(size=len(t)).cumsum() / 2
    found = series.fit(t, x, y)
    assert 0.05 < found.rho < 0.9

    def dense(rho):
        v = rho ** np.abs(t[:, None] - t)
        inverse = np.linalg.inv(v)
        cov = np.linalg.inv(x.T @ inverse @ x)
        beta = cov @ x.T @ inverse @ y
        left = y - x @ beta
        rss = left @ inverse @ left
        loss = (
            found.spare * math.log(rss)
            + np.linalg.slogdet(v)[1]
            - np.linalg.slogdet(cov)[1]
        )
        return loss, beta, rss / found.spare * cov

    loss, beta, cov = dense(found.rho)
    np.testing.assert_allclose(found.beta_K, beta, rtol=1e-7)
    np.testing.assert_allclose(found.cov_KxK, cov, rtol=1e-7, atol=1e-12)
    # No correlation nearby has a higher restricted likelihood.
    for other in (found.rho - 0.02, found.rho + 0.02):
        assert dense(other)[0] > loss
    a = np.eye(x.shape[1])[2]
    wide = stats.t.ppf(0.975, found.spare) * math.sqrt(cov[2, 2])
    np.testing.assert_allclose(
        found.interval(a), (beta[2], beta[2] - wide, beta[2] + wide), rtol=1e-6
    )


@pytest.mark.parametrize("rho, least", [(0.0, 0.91), (0.3, 0.88)])
def test_intervals_hold_the_truth(rho, least):
    """n = 200 series: the standard error of a share near 0.95 is 0.015, so a
    procedure that covers 0.95 stays above 0.91 but once in a hundred; with
    correlated days 0.93 was seen in 400 others, whose limit is 0.88."""
    rng = np.random.default_rng(5)
    days, n = days_of(), 200
    noise = rng.normal(size=(n, len(days)))
    noise[:, 0] /= math.sqrt(1 - rho**2)
    for k in range(1, len(days)):
        noise[:, k] += rho * noise[:, k - 1]
    held = 0
    for row in noise:
        found = series.interrupted(
            days, made(days, noise=3 * row), START, days[-1]
        )
        assert isinstance(found, series.Estimate)
        held += found.mean.low <= -7.3 <= found.mean.high
    assert least <= held / n < 1


@pytest.mark.parametrize(
    "before, during, reason, least",
    [
        (13, 14, "before", 14),
        (28, 6, "during", 7),
        (0, 14, "before", 14),
        (14, 0, "during", 7),
    ],
)
def test_too_few_days_give_no_estimate(before, during, reason, least):
    days = days_of(before, during)
    ends = START + dt.timedelta(days=13)
    found = series.interrupted(days, made(days), START, ends)
    assert found == series.NoEstimate(reason, before, during, least)


def test_weekdays_of_the_campaign_alone_give_no_estimate():
    # Mondays to Wednesdays before, Thursdays to Sundays within.
    days = [d for d in days_of(49, 28) if (d < START) == (d.weekday() < 3)]
    found = series.interrupted(
        days, made(days), START, START + dt.timedelta(days=27)
    )
    assert isinstance(found, series.NoEstimate)
    assert found.reason == "weekdays"


def test_days_after_the_campaign_are_not_used():
    days = days_of(28, 21)
    values = made(days)
    ends = START + dt.timedelta(days=13)
    spoilt = [
        v if d <= ends else 1e6 for d, v in zip(days, values, strict=True)
    ]
    assert series.interrupted(days, values, START, ends) == series.interrupted(
        days, spoilt, START, ends
    )


def test_a_ratio_with_equal_diners_is_a_mean():
    grams = [90.0, 100.0, 120.0, 95.0]
    mean, half = np.mean(grams), stats.sem(grams) * stats.t.ppf(0.975, 3)
    np.testing.assert_allclose(
        series.ratio([50 * g for g in grams], [50] * 4),
        (mean, mean - half, mean + half),
    )


def test_a_ratio_weighs_days_by_diners():
    found = series.ratio([1000, 9000], [10, 60])
    assert found.value == pytest.approx(10_000 / 70)
    alone = series.ratio([500], [5])
    assert alone.value == 100 and math.isnan(alone.low)


def test_a_week_is_compared_by_weekday():
    rng = np.random.default_rng(1)
    weekdays = [*range(7)] * 5
    values = np.array(weekdays) * 10.0 + 50 + rng.normal(size=35)
    within = [n >= 28 for n in range(35)]
    found = series.week_total(weekdays, values, within)
    # A one-way analysis of variance with seven groups of five.
    grid = values.reshape(5, 7)
    pooled = ((grid - grid.mean(0)) ** 2).sum() / 28
    half = stats.t.ppf(0.975, 28) * math.sqrt(7 * pooled)
    total = grid[-1].sum()
    np.testing.assert_allclose(found, (total, total - half, total + half))
    alone = series.week_total(weekdays[:7], values[:7], [True] * 7)
    assert math.isnan(alone.low) and math.isnan(alone.high)
