"""The pictures of a report: arrays in, one matplotlib Figure out.

Letters: C chips, L levels, I word lines (inputs), O bit lines (outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.core import checks
from jaxedge.hardware import devices
from jaxedge.run import canvas, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

_PHASES = (
    ("train", canvas.SKY),
    ("valid", canvas.VERMILION),
    ("test", canvas.GREEN),
)
# Where energy goes: entry of a layer, label, colour.
PARTS = (
    ("joules_adc", "ADC", canvas.BLUE),
    ("joules_dac", "DAC", canvas.ORANGE),
    ("joules_array", "Array", canvas.GREEN),
    ("joules_digital", "Digital", canvas.SKY),
)
# Longest line drawn and largest map side: more is not seen, only stored.
_POINTS = 400
MAP_SIDE = 192


def chip_yield(score_C: np.ndarray, threshold: float) -> float:
    """The share of chips with a score of at least `threshold`, [0, 1]."""
    # Compared in the array's own dtype: float32(0.9) reaches a limit of 0.9.
    return float(np.mean(np.asarray(score_C) >= threshold))


def learning_curve(rows: Rows, score: str) -> Figure:
    """Loss, a score and mask flips over training, by phase.

    A line of more than 400 rows is averaged in equal blocks.

    Args:
        rows: what `metrics.read` returns; None marks a value that was not
            finite and breaks the line.
        score: the metric that selects epochs.

    Raises:
        UsageError: if no row holds any of these scalars.
    """
    panels = (  # Scalar, label, factor.
        ("loss", "Loss", 1.0),
        (score, f"{text.metric_title(score)} (%)", 100.0),
        ("flips", "Mask flips", 1.0),
    )
    shown = [p for p in panels if any(p[0] in row for row in rows)]
    if not shown:
        raise checks.UsageError(
            f"none of {len(rows)} rows of metrics holds a loss,"
            f" {score!r} or flips; train before drawing the learning curve."
        )
    x_name = "epoch" if all("epoch" in row for row in rows) else "step"
    fig, axes = canvas.figure(1 + 3.1 * len(shown), 3.1, columns=len(shown))
    for ax, (name, label, factor) in zip(axes, shown, strict=True):
        for phase, colour in _PHASES:
            x, y = series(rows, phase, x_name, name)
            if len(x):
                marker = "o" if len(x) <= 20 else ""
                ax.plot(
                    x, y * factor, color=colour, lw=1.8, marker=marker,
                    ms=4, label=phase,
                )  # fmt: skip
        ax.set_xlabel(x_name.capitalize())
        ax.set_ylabel(label)
        canvas.integers(ax)
    most = max(axes, key=lambda ax: len(ax.get_lines()))
    if len(most.get_lines()) > 1:
        canvas.legend(most, loc="best")
    return fig


def score_histogram(
    score_C: np.ndarray, threshold: float, score: str
) -> Figure:
    """How many chips reach which score; those of the yield are shaded.

    Args:
        score_C: score of every chip, [C] in [0, 1].
        threshold: score that a good chip reaches, in [0, 1].
        score: the metric that it is.

    Raises:
        UsageError: if a score is NaN or there are no chips.
    """
    score_C = np.asarray(score_C)
    _chips("score", score_C)
    edges = _edges(score_C, threshold)
    good_C = score_C >= threshold
    fig, (ax,) = canvas.figure(6.4, 3.4)
    for chips_C, colour, label in (
        (good_C, canvas.BLUE, f"at least {100 * threshold:.1f} %"),
        (~good_C, "#b3bcc4", "below"),
    ):
        ax.hist(
            100.0 * score_C[chips_C], bins=list(100 * edges), color=colour,
            edgecolor="white", lw=0.5,
            label=f"{label}: {int(chips_C.sum()):,} chips",
        )  # fmt: skip
    span = edges[-1] - edges[0]
    if edges[0] - span <= threshold <= edges[-1] + span:
        ax.axvline(100 * threshold, color=canvas.VERMILION, lw=1.5, ls="--")
    ax.set_title(
        f"yield {100 * chip_yield(score_C, threshold):.1f} %",
        loc="left", fontsize=12, fontweight="bold", color=canvas.INK,
    )  # fmt: skip
    ax.set_xlabel(f"Test {text.metric(score)} of a chip (%)")
    ax.set_ylabel("Chips")
    canvas.integers(ax, "y")
    # Above the axes, where it cannot hide a bar.
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def score_against(
    levels: np.ndarray,
    score_LxC: np.ndarray,
    xlabel: str,
    score: str,
    *,
    log: bool = False,
    ticks: Sequence[str] | None = None,
) -> Figure:
    """Score of chips over a stress: mean, 5th to 95th percentile, chips.

    Args:
        levels: the stress, [L], in the unit that `xlabel` states.
        score_LxC: score of every chip at every level, [L, C] in [0, 1].
        xlabel: label of the stress, with its unit.
        score: the metric that the chips are judged by.
        log: logarithmic stress axis (linear below the least positive level,
            so that a level of 0 has its place).
        ticks: names of the levels, [L]; None writes them as numbers.

    Raises:
        UsageError: if shapes differ or a score is NaN.
    """
    levels, score_LxC = np.asarray(levels), np.asarray(score_LxC)
    if score_LxC.ndim != 2 or levels.shape != score_LxC.shape[:1]:
        raise checks.UsageError(
            f"score of shape {score_LxC.shape} does not fit levels of"
            f" shape {levels.shape}: give one row of chips a level."
        )
    _chips("score", score_LxC)
    order = np.argsort(levels)
    x, y_LxC = levels[order], 100.0 * score_LxC[order]
    low, high = np.percentile(y_LxC, [5, 95], axis=1)
    fig, (ax,) = canvas.figure(5.6, 3.4)
    ax.fill_between(
        x, low, high, color=canvas.BLUE, alpha=0.18, lw=0,
        label="5-95 % of chips",
    )  # fmt: skip
    ax.scatter(
        np.repeat(x, y_LxC.shape[1]), y_LxC.ravel(), s=10, color=canvas.BLUE,
        alpha=0.35, lw=0, label="one chip",
        rasterized=y_LxC.size > 1000,
    )  # fmt: skip
    ax.plot(
        x, y_LxC.mean(1), color=canvas.BLUE, lw=2, marker="o", ms=5,
        mec="white", label="mean",
    )  # fmt: skip
    if log and np.any(x > 0):
        least = float(x[x > 0].min())
        ax.set_xscale("symlog", linthresh=least, linscale=0.5)
        ticks = ticks or [f"{level:g}" for level in levels]
    if ticks:
        names = [str(ticks[i]) for i in order]
        ax.set_xticks(x, names, minor=False)
        ax.minorticks_off()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"Test {text.metric(score)} (%)")
    canvas.legend(ax, loc="best")
    return fig


def conductance_map(g_IxO: np.ndarray, title: str) -> Figure:
    """The conductances of an array as a picture, in microsiemens.

    At most the first 192 word lines and bit lines are shown: a cell that is
    smaller than a dot would be averaged with its neighbours.

    Args:
        g_IxO: conductance of every cell, [I, O] in siemens.
        title: the name of the layer.

    Raises:
        UsageError: if `g_IxO` is not a non-empty matrix of finite numbers.
    """
    g_IxO = np.asarray(g_IxO)
    if g_IxO.ndim != 2 or not g_IxO.size:
        raise checks.UsageError(
            f"the conductances of {title!r} have the shape {g_IxO.shape};"
            " give a matrix of word lines by bit lines."
        )
    checks.finite(f"conductance of {title!r}", g_IxO)
    shown = 1e6 * g_IxO[:MAP_SIDE, :MAP_SIDE]
    rows, columns = shown.shape
    height = float(np.clip(4.2 * rows / columns, 1.9, 4.2))
    fig, (ax,) = canvas.figure(5.2, height + 0.7)
    image = ax.imshow(
        shown, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest"
    )
    bar = fig.colorbar(image, ax=ax, pad=0.02, aspect=max(8, 5 * height))
    bar.set_label("Conductance (µS)", color=canvas.INK, fontsize=10)
    bar.ax.tick_params(colors=canvas.MUTED, labelsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(
        title, loc="left", fontsize=11, color=canvas.INK, parse_math=False
    )
    ax.set_xlabel("Bit line")
    ax.set_ylabel("Word line")
    for axis in "xy":
        canvas.integers(ax, axis)
    return fig


def cell_fit(found: devices.Fit, conductances: np.ndarray) -> Figure:
    """A fitted device beside what was measured: shares, and quantiles.

    Args:
        found: from `devices.fit`.
        conductances: the cells that it was fitted to, S, any shape; the means
            of repeated readings.
    """
    g = np.ravel(np.asarray(conductances, float))
    formed = np.sort(g)[-found.formed :]
    law = devices.law(found.device)
    fig, (left, right) = canvas.figure(8.2, 3.4, columns=2)
    left.hist(
        1e6 * formed, bins=30, density=True, color=canvas.SKY,
        edgecolor="white", lw=0.5, label=f"{found.formed:,} formed cells",
    )  # fmt: skip
    x = np.linspace(formed[0], formed[-1], _POINTS)
    left.plot(
        1e6 * x, 1e-6 * law.pdf(x), color=canvas.VERMILION, lw=1.8,
        label=f"{found.device.family}, KS distance"
        f" {found.distance[found.device.family]:.3f}",
    )  # fmt: skip
    left.set_xlabel("Conductance (µS)")
    left.set_ylabel("Density (1/µS)")
    canvas.legend(left, loc="lower right", bbox_to_anchor=(1, 1))
    expected = law.ppf((np.arange(formed.size) + 0.5) / formed.size)
    right.plot(1e6 * expected, 1e6 * formed, "o", ms=2.5, color=canvas.BLUE)
    ends = 1e6 * np.array([formed[0], formed[-1]])
    right.plot(ends, ends, color=canvas.VERMILION, lw=1.5)
    right.set_xlabel("Fitted quantile (µS)")
    right.set_ylabel("Measured quantile (µS)")
    share = found.formed / found.cells
    left.set_title(
        f"{100 * share:.1f} % formed", loc="left", fontsize=11, color=canvas.INK
    )
    return fig


def sparsity(names: Sequence[str], kept: Sequence[float]) -> Figure:
    """The share of weights that the mask keeps, by layer.

    Args:
        names: the layers, first to last, [L].
        kept: share kept of each, [L] in [0, 1].

    Raises:
        UsageError: if the two differ in length or a share is out of range.
    """
    names, share = [str(name) for name in names], np.asarray(kept, float)
    if share.shape != (len(names),) or not names:
        raise checks.UsageError(
            f"{len(names)} layer names do not fit kept shares of shape"
            f" {share.shape}; give one share a layer."
        )
    checks.in_range("kept share of a layer", share, 0, 1)
    fig, ax = canvas.bars(names)
    y = np.arange(len(names))
    ax.barh(y, 100.0, color="#e9edf0", height=0.62, label="pruned")
    ax.barh(y, 100 * share, color=canvas.BLUE, height=0.62, label="kept")
    for place, value in enumerate(100 * share):
        ax.text(
            101, place, f"{value:.1f} %", va="center", fontsize=9,
            color=canvas.INK,
        )  # fmt: skip
    ax.set_xlim(0, 112)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("Weights kept (%)")
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return fig


def energy(layers: Sequence[Mapping[str, Any]]) -> Figure:
    """The energy of each layer, by part, for one input.

    Args:
        layers: for each layer its `name` and `joules_adc`, `joules_dac`,
            `joules_array` and, if counted, `joules_digital`: joules, >= 0.

    Raises:
        UsageError: if there are no layers or an energy is out of range.
    """
    if not layers:
        raise checks.UsageError("no layers to draw energies of; give some.")
    names = [str(layer["name"]) for layer in layers]
    shown = energy_parts(layers)
    parts = {
        part: np.array([layer[part] for layer in layers], float)
        for part, _, _ in shown
    }
    for part, joules in parts.items():
        checks.in_range(part, joules, 0)
    total = np.sum(list(parts.values()), axis=0)
    factor, unit = text.prefix(float(total.max()))
    fig, ax = canvas.bars(names)
    y, left = np.arange(len(names)), np.zeros(len(names))
    for part, label, colour in shown:
        width = factor * parts[part]
        ax.barh(y, width, left=left, color=colour, height=0.62, label=label)
        left += width
    for place, value in enumerate(left):
        ax.annotate(
            f"{value:.3g}", (value, place), (4, 0), va="center", fontsize=9,
            textcoords="offset points", color=canvas.INK,
        )  # fmt: skip
    ax.set_xlim(0, 1.12 * left.max() or 1)
    ax.set_xlabel(f"Energy for one input ({unit}J)")
    canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=4)
    return fig


def energy_parts(
    layers: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, str]]:
    """The `PARTS` that were counted; a ledger may leave out the digital."""
    return [
        part
        for part in PARTS
        if part[0] != "joules_digital" or part[0] in layers[0]
    ]


def series(
    rows: Rows, phase: str, x_name: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """One line of a learning curve, averaged in blocks if it is long.

    Args:
        rows: of `metrics.read`.
        phase: of which rows.
        x_name: the scalar along the line, such as "epoch".
        name: the scalar that is drawn; NaN where it is None.

    Returns:
        Both, [points] each.
    """
    pairs = [
        (row[x_name], np.nan if row[name] is None else row[name])
        for row in rows
        if row.get("phase") == phase and name in row
    ]
    table = np.array(pairs, float).reshape(-1, 2)
    if len(table) > _POINTS:
        blocks = np.array_split(table, _POINTS)
        table = np.array([block.mean(0) for block in blocks])
    return table[:, 0], table[:, 1]


def _edges(score_C: np.ndarray, threshold: float) -> np.ndarray:
    """Histogram edges of which one parts the good chips from the others.

    Accuracies are multiples of 1/(number of test examples). Bins are whole
    multiples of that step, or they would hold unequal numbers of values and
    the histogram would look like a comb.
    """
    values = np.unique(np.round(score_C.astype(float), 7))
    step = float(np.diff(values).min()) if len(values) > 1 else 0.005
    span = float(values[-1] - values[0])
    width = step * max(1.0, np.ceil(span / step / 30 - 1e-6))
    good_C = score_C[score_C >= threshold]
    anchor = float(good_C.min()) if good_C.size else values[-1] + step
    anchor -= step / 2
    below = np.ceil(max(0.0, anchor - values[0] + step / 2) / width - 1e-6)
    above = np.ceil(max(0.0, values[-1] - anchor + step / 2) / width - 1e-6)
    return anchor + width * np.arange(-below, above + 1)


def _chips(name: str, score: np.ndarray) -> None:
    """Raises unless there are chips and each has a score in [0, 1]."""
    if not score.size:
        raise checks.UsageError(
            f"{name} is empty (shape {score.shape}); study at least 1 chip."
        )
    checks.in_range(name, score, 0, 1)
