"""What changed when a campaign began, and how sure that is.

Segmented regression of a daily series: a line, steps for weekdays, and from the
first day of the campaign another level and another slope (Bernal, Cummins &
Gasparrini, Int. J. Epidemiology 46, 2017, on interrupted time series). Errors
follow an AR(1) process by the calendar, so days may be missing; its correlation
is chosen by restricted likelihood, and intervals use Student's t.

It compares a place with its own past. It is no proof of a cause: nothing here
tells what would have happened in these days without a campaign.

Letters: N days, M gaps between them, K coefficients.
"""

from collections.abc import Sequence
import datetime as dt
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95  # Of all intervals.
# Our limits: two weeks before, one within, and enough days to spare.
LEAST_BEFORE, LEAST_DURING, LEAST_SPARE, LEAST_PAIRS = 14, 7, 10, 3
_MOST_RHO, _LEAST_RHO = 0.9, -0.5


class Interval(NamedTuple):
    """A value and where it may lie; NaN ends where that is unknown."""

    value: float
    low: float
    high: float


class Point(NamedTuple):
    """A day of the fit.

    Attributes:
        day: of it.
        value: as measured.
        fit: what the regression says.
        without: the same had nothing changed at the start, with its interval.
    """

    day: dt.date
    value: float
    fit: float
    without: Interval


class Estimate(NamedTuple):
    """What changed.

    Attributes:
        mean: average difference, during the campaign, to the earlier line.
        level: difference on its first day.
        slope: more of it with each day.
        rho: correlation of two days in a row.
        before: days that the earlier line rests on.
        during: days of the campaign.
        points: of all these days.
    """

    mean: Interval
    level: Interval
    slope: Interval
    rho: float
    before: int
    during: int
    points: tuple[Point, ...]


class NoEstimate(NamedTuple):
    """Why there is none.

    Attributes:
        reason: "before" or "during" for too few days, "spare" for too few in
            all, "weekdays" where they cannot be told from the campaign.
        before: days there are.
        during: likewise.
        least: how many it takes.
    """

    reason: str
    before: int
    during: int
    least: int


class Fit(NamedTuple):
    """A regression.

    Attributes:
        beta_K: coefficients.
        cov_KxK: their covariance.
        rho: correlation of neighbours.
        spare: degrees of freedom.
    """

    beta_K: np.ndarray
    cov_KxK: np.ndarray
    rho: float
    spare: int

    def interval(self, a_K: np.ndarray) -> Interval:
        """Of a sum of coefficients with weights."""
        value = float(a_K @ self.beta_K)
        wide = float(
            stats.t.ppf((1 + LEVEL) / 2, self.spare)
            * np.sqrt(max(a_K @ self.cov_KxK @ a_K, 0.0))
        )
        return Interval(value, value - wide, value + wide)


def interrupted(
    days: Sequence[dt.date],
    values: Sequence[float] | np.ndarray,
    starts: dt.date,
    ends: dt.date,
) -> Estimate | NoEstimate:
    """Level and slope that changed with a campaign.

    Args:
        days: in any order, each once; those after `ends` are left out.
        values: finite, one of each day, such as grams a diner.
        starts: first day of the campaign.
        ends: its last day.
    """
    pairs = sorted(
        (d, float(v)) for d, v in zip(days, values, strict=True) if d <= ends
    )
    before = sum(day < starts for day, _ in pairs)
    during = len(pairs) - before
    if before < LEAST_BEFORE:
        return NoEstimate("before", before, during, LEAST_BEFORE)
    if during < LEAST_DURING:
        return NoEstimate("during", before, during, LEAST_DURING)
    t_N = np.array([(day - starts).days for day, _ in pairs], float)
    y_N = np.array([value for _, value in pairs])
    weekday_N = np.array([day.weekday() for day, _ in pairs])
    x_NxK = design(t_N, weekday_N)
    if len(t_N) - x_NxK.shape[1] < LEAST_SPARE:
        least = LEAST_SPARE + x_NxK.shape[1]
        return NoEstimate("spare", before, during, least)
    if np.linalg.matrix_rank(x_NxK) < x_NxK.shape[1]:
        return NoEstimate("weekdays", before, during, LEAST_BEFORE)
    found = fit(t_N, x_NxK, y_N)
    return _told(pairs, found, x_NxK, t_N, before)


def design(t_N: np.ndarray, weekday_N: np.ndarray) -> np.ndarray:
    """Columns: 1, time, level and slope from time 0 on, weekdays but one."""
    on_N = (t_N >= 0).astype(float)
    present = np.unique(weekday_N)[1:]
    steps = [(weekday_N == day).astype(float) for day in present]
    return np.stack([np.ones_like(t_N), t_N, on_N, on_N * t_N, *steps], 1)


def fit(t_N: np.ndarray, x_NxK: np.ndarray, y_N: np.ndarray) -> Fit:
    """Generalised least squares with AR(1) errors, rho by REML.

    Args:
        t_N: day numbers, whole and rising; gaps count.
        x_NxK: columns of full rank.
        y_N: what is explained.
    """
    gap_M = np.diff(t_N)[:, None]
    xy = np.column_stack([x_NxK, y_N])
    spare = len(y_N) - x_NxK.shape[1]

    def solve(rho: float) -> tuple[float, np.ndarray, np.ndarray]:
        # Given the day before, g days ago, a day is rho^g of it plus noise of
        # variance 1 - rho^(2 g): independent of all that was before.
        kept_M = rho**gap_M
        var_M = 1 - kept_M**2
        white = np.vstack([xy[:1], (xy[1:] - kept_M * xy[:-1]) / var_M**0.5])
        q, r = np.linalg.qr(white[:, :-1])
        z_N = white[:, -1]
        inverse = np.linalg.inv(r)
        beta_K = inverse @ (q.T @ z_N)
        rss = float(np.sum((z_N - white[:, :-1] @ beta_K) ** 2))
        # Minus twice the restricted log likelihood, but for constants.
        loss = (
            spare * np.log(max(rss, 1e-300))
            + np.sum(np.log(var_M))
            + 2 * np.sum(np.log(np.abs(np.diag(r))))
        )
        return float(loss), beta_K, rss / spare * inverse @ inverse.T

    plain = solve(0.0)
    scale = float(np.abs(y_N).max()) or 1.0
    if np.abs(y_N - x_NxK @ plain[1]).max() < 1e-9 * scale:
        return Fit(plain[1], plain[2], 0.0, spare)  # Nothing is left to chance.
    best = optimize.minimize_scalar(
        lambda rho: solve(rho)[0],
        bounds=(_LEAST_RHO, _MOST_RHO),
        method="bounded",
        options={"xatol": 1e-4},
    )
    rho = float(best.x)  # pyright: ignore[reportAttributeAccessIssue]
    _, beta, cov = solve(rho)
    return Fit(beta, cov, rho, spare)


def _told(
    pairs: list[tuple[dt.date, float]],
    found: Fit,
    x_NxK: np.ndarray,
    t_N: np.ndarray,
    before: int,
) -> Estimate:
    unit = np.eye(x_NxK.shape[1])
    on_N = t_N >= 0
    earlier_NxK = x_NxK.copy()
    earlier_NxK[:, 2:4] = 0
    points = tuple(
        Point(day, value, float(fitted), found.interval(row))
        for (day, value), fitted, row in zip(
            pairs, x_NxK @ found.beta_K, earlier_NxK, strict=True
        )
    )
    mean_K = unit[2] + t_N[on_N].mean() * unit[3]
    return Estimate(
        found.interval(mean_K),
        found.interval(unit[2]),
        found.interval(unit[3]),
        found.rho,
        before,
        len(pairs) - before,
        points,
    )


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval:
    """Sum over sum, with an interval that takes the days as a sample.

    The variance is that of the linearised ratio (Cochran, Sampling
    Techniques, the ratio estimator), with Student's t of N - 1.

    Args:
        tops: such as grams of each day.
        bottoms: such as diners of each day, positive in sum.

    Returns:
        NaN ends for fewer than two days.
    """
    a_N, b_N = np.asarray(tops, float), np.asarray(bottoms, float)
    value = float(a_N.sum() / b_N.sum())
    if len(a_N) < 2:
        return Interval(value, np.nan, np.nan)
    n = len(a_N)
    left_N = a_N - value * b_N
    error = np.sqrt(n / (n - 1) * np.sum(left_N**2)) / b_N.sum()
    wide = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    return Interval(value, max(value - wide, 0.0), value + wide)


def week_total(
    weekdays: Sequence[int],
    values: Sequence[float] | np.ndarray,
    within: Sequence[bool],
) -> Interval:
    """Sum of some days, with an interval from days of the same weekday.

    Each day is its weekday's mean plus an error of one variance, which is
    pooled over weekdays; Student's t with as many degrees of freedom as there
    are days beyond one a weekday.

    Args:
        weekdays: of all days, [N].
        values: of them.
        within: which of them are summed.

    Returns:
        NaN ends where fewer than `LEAST_PAIRS` days are beyond that.
    """
    day_N, y_N = np.asarray(weekdays), np.asarray(values, float)
    in_N = np.asarray(within, bool)
    value = float(y_N[in_N].sum())
    spare = len(y_N) - len(np.unique(day_N))
    if spare < LEAST_PAIRS:
        return Interval(value, np.nan, np.nan)
    left_N = y_N.copy()
    for day in np.unique(day_N):
        left_N[day_N == day] -= y_N[day_N == day].mean()
    error = np.sqrt(in_N.sum() * np.sum(left_N**2) / spare)
    wide = float(stats.t.ppf((1 + LEVEL) / 2, spare) * error)
    return Interval(value, max(value - wide, 0.0), value + wide)


__all__ = [
    "Estimate",
    "Fit",
    "Interval",
    "LEAST_BEFORE",
    "LEAST_DURING",
    "LEAST_PAIRS",
    "LEAST_SPARE",
    "LEVEL",
    "NoEstimate",
    "Point",
    "design",
    "fit",
    "interrupted",
    "ratio",
    "week_total",
]
