"""The pictures of a network's confidence: arrays in, one Figure out.

Letters: M bins, T points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas, statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of curves: the second one lies on the first, which shows where they agree.
_LINES = ((canvas.BLUE, 3.0), (canvas.VERMILION, 1.4))


def reliability(
    weight_M: np.ndarray, confidence_M: np.ndarray, accuracy_M: np.ndarray
) -> Figure:
    """How many answers are right against how sure they are; below, how many.

    Args:
        weight_M: examples in each of M bins of equal width, whole numbers.
        confidence_M: their mean confidence.
        accuracy_M: how many of them are right, in [0, 1].

    Raises:
        UsageError: for sizes that differ, numbers out of range, or no examples.
    """
    weight = np.asarray(weight_M, float)
    shapes = {np.shape(a) for a in (weight, confidence_M, accuracy_M)}
    if len(shapes) > 1 or weight.ndim != 1 or not weight.sum() > 0:
        raise checks.UsageError(
            f"bins of confidence have shapes {sorted(shapes)} and hold"
            f" {weight.sum():g} examples, but need one number a bin and some"
            " example; repeat `jaxedge chips`."
        )
    checks.in_range("number of examples in a bin", weight, 0)
    for name, values in (
        ("confidence", confidence_M),
        ("accuracy", accuracy_M),
    ):
        checks.in_range(f"{name} of a bin", values, 0, 1)
    fig, (ax, below) = canvas.figure(5.4, 5.8, columns=2)
    grid = fig.add_gridspec(2, 1, height_ratios=(3, 1))
    ax.set_subplotspec(grid[0])
    below.set_subplotspec(grid[1])
    below.sharex(ax)
    bins = len(weight)
    left, width = 100 * np.arange(bins) / bins, 100 / bins
    used = weight > 0
    sure, right = (
        100 * np.asarray(a, float)[used] for a in (confidence_M, accuracy_M)
    )
    where = {"align": "edge", "edgecolor": "white", "lw": 0.8}
    ax.bar(left[used], right, width, color=canvas.SKY, alpha=0.35, **where)
    ax.plot((0, 100), (0, 100), color=canvas.MUTED, lw=1.2, ls="--")
    ax.errorbar(
        sure, right, _reach(weight[used], right / 100), fmt="o", ms=5,
        color=canvas.BLUE, lw=1.3, capsize=2.5, capthick=1.3, zorder=3,
    )  # fmt: skip
    share = 100 * weight / weight.sum()
    below.bar(left, share, width, color=canvas.BLUE, **where)
    ax.set_xlim(-1.5, 101.5)
    ax.set_ylim(-2, 102)
    ax.tick_params(labelbottom=False)
    ax.set_ylabel("Right answers (%)")
    below.set_ylabel("Examples (%)")
    below.set_xlabel("Confidence (%)")
    fig.align_ylabels([ax, below])
    return fig


def _reach(count: np.ndarray, share: np.ndarray) -> np.ndarray:
    """How far the intervals of some shares reach down and up, %, [2, bins]."""
    found = []
    for n, part in zip(np.rint(count).astype(int), share, strict=True):
        low, high = statistics.share_interval(np.rint(n * part), int(n))
        found.append((part - low, high - part))
    # The share is rounded, its interval is not.
    return 100 * np.maximum(np.array(found, float).T, 0)


def risk_coverage(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """How many answers are wrong if only the surest are given.

    Args:
        curves: by place, the share that is answered, rising, and how many of
            these are wrong, [T] each in [0, 1]; two places at most.

    Raises:
        UsageError: for none or more of them, sizes that differ, or shares out
            of range.
    """
    if not 1 <= len(curves) <= len(_LINES):
        raise checks.UsageError(
            f"{len(curves)} curves of risk to draw, but there must be 1 or"
            f" {len(_LINES)}; repeat `jaxedge chips`."
        )
    fig, (ax,) = canvas.figure(6.8, 3.5)
    for (colour, width), (place, (coverage, risk)) in zip(
        _LINES, curves.items(), strict=False
    ):
        if coverage.shape != risk.shape or coverage.ndim != 1:
            raise checks.UsageError(
                f"coverage of shape {coverage.shape} does not fit risk of shape"
                f" {risk.shape} ({place}); repeat `jaxedge chips`."
            )
        checks.in_range("coverage", coverage, 0, 1)
        checks.in_range("risk", risk, 0, 1)
        ax.plot(
            100 * coverage, 100 * risk, color=colour, lw=width, label=place,
            marker="o" if len(risk) < 3 else "", ms=4,
        )  # fmt: skip
    most = max(100 * risk.max() for _, risk in curves.values())
    ax.set_xlim(0, 100)
    ax.set_ylim(0, np.clip(1.1 * most, 1, 102))
    ax.set_xlabel("Answered, the surest first (%)")
    ax.set_ylabel("Wrong answers (%)")
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig
