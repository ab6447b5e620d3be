"""The pictures of a comparison: numbers of runs in, one Figure out.

Letters: N runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.run import canvas, figures, pareto, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# So many labels on a front, and lines with a colour of their own, can be read.
_LABELS = 12
# Letters of a value below an axis.
_LETTERS = 14
# Numbers that span more lie on a logarithmic axis.
_SPAN = 30.0


def front(
    x_N: np.ndarray,
    y_N: np.ndarray,
    labels: Sequence[str],
    names: tuple[str, str],
    more: bool = False,
) -> Figure:
    """Runs by two numbers; those that another beats in both are grey.

    Args:
        x_N: the less the better, in the unit that its name states; NaN for a
            run that lacks it.
        y_N: the more the better, likewise.
        labels: of the runs, short.
        names: of the two axes.
        more: whether more is better along x too.
    """
    cost_NxK = np.stack([-x_N if more else x_N, -y_N], axis=1)
    best_N, known_N = pareto.efficient(cost_NxK), ~np.isnan(cost_NxK).any(1)
    fig, (ax,) = canvas.figure(5.6, 3.6)
    rest_N = known_N & ~best_N
    if rest_N.any():
        ax.plot(
            x_N[rest_N], y_N[rest_N], "o", ms=6, color=canvas.GREY, mec="white",
            label="dominated",
        )  # fmt: skip
    order = np.flatnonzero(best_N)[np.argsort(x_N[best_N], kind="stable")]
    ax.plot(
        x_N[order], y_N[order], "o-", ms=7, lw=1.2, color=canvas.BLUE,
        mec="white", drawstyle=f"steps-{'pre' if more else 'post'}",
        label="not dominated",
    )  # fmt: skip
    for place in map(int, order[:_LABELS]):
        ax.annotate(
            labels[place], (x_N[place], y_N[place]), (5, 5), fontsize=9,
            textcoords="offset points", color=canvas.INK, parse_math=False,
        )  # fmt: skip
    _scale(ax, x_N[known_N])
    ax.margins(0.12)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def curves(
    rows_N: Sequence[Sequence[Mapping[str, Any]]],
    labels: Sequence[str],
    score: str,
) -> Figure | None:
    """The learning curves of runs over each other; None without any.

    Args:
        rows_N: of `metrics.read`, of each run.
        labels: of the runs.
        score: the metric that they are judged by.
    """
    panels = [
        panel
        for panel in (
            ("train", "loss", "Training loss", 1.0),
            ("valid", score, f"Validation {text.metric(score)} (%)", 100.0),
        )
        if any(
            row.get("phase") == panel[0] and panel[1] in row
            for rows in rows_N
            for row in rows
        )
    ]
    if not panels:
        return None
    fig, axes = canvas.figure(1.4 + 4.0 * len(panels), 3.4, len(panels))
    few = len(rows_N) <= _LABELS
    for ax, (phase, name, label, factor) in zip(axes, panels, strict=True):
        for turn, rows in enumerate(rows_N):
            rows = [row for row in rows if "epoch" in row]
            x, y = figures.series(rows, phase, "epoch", name)
            colour = canvas.PALETTE[turn % len(canvas.PALETTE)]
            ax.plot(
                x, factor * y, lw=1.6 if few else 0.9,
                ls="-" if turn < len(canvas.PALETTE) else "--",
                color=colour if few else canvas.BLUE, alpha=1 if few else 0.35,
                marker="o" if few and len(x) <= 20 else "", ms=3,
                label=labels[turn],
            )  # fmt: skip
        ax.set_xlabel("Epoch")
        ax.set_ylabel(label)
        canvas.integers(ax)
    if few:
        canvas.legend(axes[-1], loc="center left", bbox_to_anchor=(1, 0.5))
        legend = axes[-1].get_legend()
        for entry in legend.get_texts() if legend else ():
            entry.set_parse_math(False)
    return fig


def field(
    values: Sequence[Any], y_N: np.ndarray, name: str, ylabel: str
) -> Figure:
    """A score against a field of the config: every run, and means.

    Args:
        values: of the field; numbers lie at their place, others side by side.
        y_N: the score in percent; NaN for a run that lacks it.
        name: of the field.
        ylabel: of the score.
    """
    fig, (ax,) = canvas.figure(4.2, 3.1)
    ordered = numeric(values)
    if ordered:
        x_N = np.array(values, float)
        _scale(ax, x_N)
    else:
        kinds = sorted({_order(value) for value in values})
        x_N = np.array([kinds.index(_order(value)) for value in values], float)
        names = [_cut(told) for _, _, told in kinds]
        ax.set_xticks(range(len(kinds)), names, parse_math=False)
        ax.margins(x=0.15)
    ax.plot(x_N, y_N, "o", ms=6, color=canvas.SKY, mec="white", label="run")
    places = np.unique(x_N[~np.isnan(y_N)])
    means = [np.nanmean(y_N[x_N == place]) for place in places]
    ax.plot(
        places, means, color=canvas.INK, ls="-" if ordered else "", lw=1.2,
        marker="_", ms=14, label="mean",
    )  # fmt: skip
    ax.set_xlabel(name, parse_math=False)
    ax.set_ylabel(ylabel)
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def numeric(values: Sequence[Any]) -> bool:
    """Whether all values are numbers."""
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in values
    )


def _order(value: Any) -> tuple[bool, float, str]:
    """Places numbers in their order, before words."""
    told = "none" if value is None else text.flat(value)
    if value is None or not numeric([value]):
        return True, 0.0, told
    return False, float(value), told


def _scale(ax: Axes, x_N: np.ndarray) -> None:
    """A logarithmic axis for positive numbers that span much."""
    if x_N.size and x_N.min() > 0 and x_N.max() / x_N.min() >= _SPAN:
        ax.set_xscale("log")


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
