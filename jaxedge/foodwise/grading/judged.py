"""How good doubts are, and from which doubt on the grader says nothing.

Letters: N plates, K classes.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks


class Threshold(NamedTuple):
    """From where on a network is unsure.

    Attributes:
        u: the largest doubt with which it still says something; below 0 it
            never does.
        accuracy: of what it says, on the plates that this was chosen by.
        coverage: share of them on which it says something.
    """

    u: float
    accuracy: float
    coverage: float


def doubts(alphas: Any) -> np.ndarray:
    """Vacuity K / S of Dirichlet parameters, [..., K] -> [...]."""
    alpha = np.asarray(alphas, np.float64)
    return alpha.shape[-1] / alpha.sum(-1)


def threshold(alphas: Any, labels: Any, accuracy: float) -> Threshold:
    """The largest doubt up to which answers are as accurate as is asked.

    Plates of equal doubt are answered together or not at all.

    Args:
        alphas: Dirichlet parameters, [N, K].
        labels: [N].
        accuracy: asked for, in (0, 1].

    Returns:
        The threshold, of doubt -1 where no part is as accurate.

    Raises:
        UsageError: for an accuracy out of range or no plates.
    """
    checks.in_range("accuracy", accuracy, 0, 1, open_low=True)
    alpha, label = np.asarray(alphas), np.asarray(labels)
    if alpha.ndim != 2 or len(alpha) != len(label) or not len(label):
        raise checks.UsageError(
            f"alphas have shape {alpha.shape} and labels {label.shape}, but"
            " must be [N, K] and [N], with a plate at least."
        )
    u = doubts(alpha)
    order = np.argsort(u, kind="stable")
    right = (alpha.argmax(1) == label)[order]
    share = np.cumsum(right) / np.arange(1, len(u) + 1)
    last = np.append(np.diff(u[order]) > 0, True)
    good = np.flatnonzero(last & (share >= accuracy))
    if not good.size:
        return Threshold(-1.0, 1.0, 0.0)
    end = good[-1]
    return Threshold(
        float(u[order][end]), float(share[end]), float((end + 1) / len(u))
    )


def scores(alphas: Any, labels: Any) -> dict[str, float]:
    """What one chip's answers are worth.

    Args:
        alphas: [N, K].
        labels: [N].

    Returns:
        accuracy; that of the most certain 80 and 60 %, "certain_80" and
        "certain_60"; the share of all errors among the least certain 20 %,
        "caught", NaN without errors; and the mean doubt.
    """
    u, alpha = doubts(alphas), np.asarray(alphas)
    wrong = alpha.argmax(-1) != np.asarray(labels)
    ranked = wrong[np.argsort(u, kind="stable")]
    n = len(ranked)
    caught = (
        ranked[int(0.8 * n) :].sum() / wrong.sum() if wrong.any() else np.nan
    )
    return {
        "accuracy": float(1 - wrong.mean()),
        "certain_80": float(1 - ranked[: int(0.8 * n)].mean()),
        "certain_60": float(1 - ranked[: int(0.6 * n)].mean()),
        "caught": float(caught),
        "doubt": float(u.mean()),
    }
