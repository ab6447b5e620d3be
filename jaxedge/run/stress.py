"""The pictures and tables of a study: yield, sweeps, sensitivity by layer.

Letters: C chips, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas, figures, statistics, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_SECONDS = {
    60.0: "1 min", 3600.0: "1 h", 86400.0: "1 day", 604800.0: "1 week",
    2592000.0: "30 days", 31536000.0: "1 year", 315360000.0: "10 years",
}  # fmt: skip


class Axis(NamedTuple):
    """How the levels of a sweep are written and drawn.

    Attributes:
        title: of the axis, with its unit.
        noun: what follows a level in a sentence.
        name: a level as text.
        factor: to the unit of the axis.
        log: whether the axis is logarithmic; None decides by the levels.
        none: what a level of None is called.
    """

    title: str
    noun: str
    name: Callable[[float], str] = text.number
    factor: float = 1.0
    log: bool | None = None
    none: str = "none"


_AXES = {
    "read_noise": Axis(
        "Read noise, relative standard deviation (%)", "read noise",
        text.percent_short, 100,
    ),
    "fault": Axis(
        "Stuck cells (% of all cells)", "stuck cells", text.percent_short, 100
    ),
    "sigma": Axis(
        "Spreads and noises of the macro, beside those of the design",
        "times the spreads and noises",
    ),
    "seconds": Axis(
        "Time since programming", "after programming",
        lambda s: _NAMED_SECONDS.get(float(s), f"{s:g} s"), log=True,
    ),
    "adc_bits": Axis(
        "Resolution of the ADC (bits)", "bits of the ADC", none="exact"
    ),
    "array": Axis("Rows and columns of a tile", "rows and columns", log=True),
    "r_wire": Axis(
        "Resistance of a segment of wire (Ω)", "Ω a segment of wire", log=True
    ),
}  # fmt: skip


def axis(sweep: str) -> Axis:
    """The axis of a sweep; a field without one of its own has its name."""
    base = sweep.removesuffix("_uncompensated")
    found = _AXES[base] if base in _AXES else Axis(base, base)
    if base == sweep:
        return found
    noun = f"{found.noun} without compensation"
    return found._replace(title=f"{found.title}, not compensated", noun=noun)


def against(
    sweep: str, levels: np.ndarray, score_LxC: np.ndarray, score: str
) -> Figure:
    """Score of chips against the levels of a sweep, as stored.

    Numbers are drawn to scale, None beyond the last of them; text has a place
    each.

    Args:
        sweep: its name.
        levels: [L], see `sweeps.as_array`.
        score_LxC: in [0, 1].
        score: the metric that it is.
    """
    how = axis(sweep)
    names = level_names(sweep, levels)
    if levels.dtype.kind == "U":
        places = np.arange(len(levels), dtype=float)
        return figures.score_against(
            places, score_LxC, how.title, score, ticks=names
        )
    x, log = how.factor * levels, how.log
    positive = x[x > 0]
    if log is None:
        log = positive.size > 0 and positive.max() > 10 * positive.min()
    known = x[np.isfinite(x)]
    if len(known) < len(x):
        last = known.max(initial=1.0)
        x = np.where(np.isfinite(x), x, 2 * last if log else last + 1)
        ticks = names
    else:
        ticks = names if sweep.startswith("seconds") else None
    return figures.score_against(
        x, score_LxC, how.title, score, log=bool(log), ticks=ticks
    )


def level_names(sweep: str, levels: np.ndarray) -> list[str]:
    """Levels as text; NaN is None, such as the bits of an exact ADC."""
    if levels.dtype.kind == "U":
        return [str(level) for level in levels]
    how = axis(sweep)
    return [how.name(x) if np.isfinite(x) else how.none for x in levels]


def sentence(
    sweep: str, levels: np.ndarray, score_LxC: np.ndarray, score: str
) -> str:
    """Mean score at the first and the last level, and the chips."""
    how, names = axis(sweep), level_names(sweep, levels)
    ends = (0, -1)
    if levels.dtype.kind != "U":  # NaN is sorted last.
        order = np.argsort(levels)
        ends = (order[0], order[-1])
    low, high = (
        f"{text.percent(score_LxC[end].mean(dtype=float))} at {names[end]}"
        for end in ends
    )
    return (
        f"The {text.metric(score)} goes on average from {low} {how.noun} to"
        f" {high}, over {score_LxC.shape[1]:,} chips a level."
    )


def rows(
    sweep: str,
    levels: np.ndarray,
    score_LxC: np.ndarray,
    threshold: float,
) -> list[list[str]]:
    """The lines of a table: level, mean, its interval, spread, yield."""
    found = []
    for name, row in zip(level_names(sweep, levels), score_LxC, strict=True):
        say = statistics.describe(row, threshold)
        found.append(
            [
                name,
                text.percent(say["score_mean"]),
                text.between(say["score_mean_low"], say["score_mean_high"]),
                text.between(say["score_p05"], say["score_p95"]),
                text.percent(say["yield"]),
                text.between(say["yield_low"], say["yield_high"]),
            ]
        )
    return found


HEAD = (
    "Level", "Mean", "its 95 % interval", "5-95 % of chips", "Yield",
    "its 95 % interval",
)  # fmt: skip


def yield_curve(score_C: np.ndarray, threshold: float, score: str) -> Figure:
    """The share of good chips against the score that is asked of them.

    Args:
        score_C: score of every chip, [C] in [0, 1].
        threshold: that of the study, marked.
        score: the metric that it is.

    Raises:
        UsageError: if a score is NaN or there are no chips.
    """
    checks.in_range("score", score_C, 0, 1)
    curve = statistics.yield_curve(score_C)
    fig, (ax,) = canvas.figure(6.4, 3.4)
    x = 100 * curve.threshold
    ax.fill_between(
        x, 100 * curve.low, 100 * curve.high, step="pre", color=canvas.BLUE,
        alpha=0.18, lw=0, label="95 % interval, pointwise",
    )  # fmt: skip
    ax.step(
        x, 100 * curve.share, where="pre", color=canvas.BLUE, lw=1.8,
        label="yield",
    )  # fmt: skip
    if x[0] <= 100 * threshold <= x[-1]:
        ax.axvline(100 * threshold, color=canvas.VERMILION, lw=1.5, ls="--")
    ax.set_ylim(-2, 102)
    ax.set_xlabel(f"Test {text.metric(score)} asked of a chip (%)")
    ax.set_ylabel("Yield (%)")
    canvas.legend(ax, loc="best")
    return fig


def layer_errors(
    names: Sequence[str], scores: Mapping[str, np.ndarray], score: str
) -> Figure:
    """What chips miss, by the layer that is (or is not) on hardware.

    Args:
        names: the layers, [L].
        scores: by what a bar stands for, [L, C] each, in [0, 1].
        score: the metric that they are.
    """
    fig, ax = canvas.bars(names)
    fig.set_figheight(1.3 + 0.34 * len(names) * max(len(scores), 1))
    height = 0.72 / len(scores)
    colours = (canvas.BLUE, canvas.ORANGE)
    for i, (label, score_LxC) in enumerate(scores.items()):
        error = 100 * (1 - np.asarray(score_LxC, float))
        mean = error.mean(1)
        low, high = np.percentile(error, [5, 95], axis=1)
        # A mean may lie outside of the middle nine tenths.
        reach = np.maximum([mean - low, high - mean], 0)
        place = np.arange(len(names)) + (i - (len(scores) - 1) / 2) * height
        ax.barh(
            place, mean, height=0.9 * height, color=colours[i], label=label,
            xerr=reach, error_kw={"ecolor": canvas.MUTED, "elinewidth": 1},
        )  # fmt: skip
    ax.set_xlabel(
        f"100 % − test {text.metric(score)}\nmean, and 5-95 % of chips"
    )
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def worst_layer(names: Sequence[str], scores: Mapping[str, np.ndarray]) -> str:
    """For each kind of bar, the layer with the lowest mean score."""
    parts = []
    for label, score_LxC in scores.items():
        mean = score_LxC.mean(1, dtype=float)
        worst = int(np.argmin(mean))
        parts.append(
            f"{label}: {names[worst]} is worst, with"
            f" {text.percent(mean[worst])} on average"
        )
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."
