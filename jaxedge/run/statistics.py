"""How sure a study is: intervals of shares, of means, of yield curves."""

from typing import NamedTuple

import numpy as np

from jaxedge.core import checks

CONFIDENCE = 0.95


def share_interval(
    good: np.ndarray | int, n: int, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """The exact interval of a share, `good` of `n` (Clopper and Pearson 1934).

    It covers the true share with at least the stated confidence, whatever the
    share: the ends are quantiles of Beta(good, n - good + 1) and
    Beta(good + 1, n - good).

    Args:
        good: successes, in [0, n], any shape.
        n: trials, at least 1.
        confidence: in [0, 1].

    Returns:
        The lower and the upper end, each of the shape of `good`.
    """
    from scipy import stats

    checks.whole("n", n, 1)
    checks.in_range("good", good, 0, n)
    checks.in_range("confidence", confidence, 0, 1)
    good, tail = np.asarray(good), (1 - confidence) / 2
    # A beta law needs positive parameters: the ends 0 and 1 are set apart.
    low = stats.beta.ppf(tail, np.maximum(good, 1), n - good + 1)
    high = stats.beta.isf(tail, good + 1, np.maximum(n - good, 1))
    return np.where(good > 0, low, 0.0), np.where(good < n, high, 1.0)


def mean_interval(
    values: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of a mean by Student's t; NaN, NaN for a single value.

    Args:
        values: independent draws, [n], n >= 1.
        confidence: in [0, 1].
    """
    from scipy import stats

    checks.in_range("confidence", confidence, 0, 1)
    values = np.asarray(values, np.float64)
    if values.size < 2:
        return float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(values.size)
    reach = error * stats.t.isf((1 - confidence) / 2, values.size - 1)
    return float(mean - reach), float(mean + reach)


class YieldCurve(NamedTuple):
    """The share of good chips against the score that is asked of them.

    Attributes:
        threshold: scores, increasing, [T].
        share: of the chips that reach them, [T].
        low: lower end of the pointwise Clopper-Pearson band, [T].
        high: upper end.
    """

    threshold: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def yield_curve(
    score: np.ndarray, confidence: float = CONFIDENCE
) -> YieldCurve:
    """The yield at every score that some chip has, and its band.

    The band is pointwise: each point has the stated confidence, all of them
    together less.

    Args:
        score: of every chip, [C], C >= 1.
        confidence: in [0, 1].
    """
    score = np.asarray(score)
    if score.ndim != 1 or not score.size:
        raise checks.UsageError(
            f"a yield curve needs the scores of chips, [C] with C >= 1,"
            f" got shape {score.shape}."
        )
    threshold, chips = np.unique(score, return_counts=True)
    good = score.size - np.cumsum(chips) + chips
    low, high = share_interval(good, score.size, confidence)
    return YieldCurve(threshold, good / score.size, low, high)


def describe(score: np.ndarray, threshold: float) -> dict[str, float]:
    """What is said of some chips: their score, their yield, how sure.

    Args:
        score: of every chip, [C].
        threshold: score at which a chip is good.
    """
    # Compared in the array's own dtype: float32(0.9) reaches a limit of 0.9.
    good = int((score >= threshold).sum())
    low, high = share_interval(good, score.size)
    mean_low, mean_high = mean_interval(score)
    return {
        "score_mean": float(score.mean()),
        "score_mean_low": mean_low,
        "score_mean_high": mean_high,
        "score_std": float(score.std()),
        "score_p05": float(np.percentile(score, 5)),
        "score_p95": float(np.percentile(score, 95)),
        "score_min": float(score.min()),
        "yield": good / score.size,
        "yield_low": float(low),
        "yield_high": float(high),
    }
