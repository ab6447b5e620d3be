"""The pictures of learned grids: arrays in, one matplotlib Figure out.

Letters: M modules, B bins, T points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A density of the heat map that is this many times that of evenly spread
# weights is as dark as it gets.
_DARKEST = 3.0
_REMEDY = "repeat `jaxedge chips`"


class Change(NamedTuple):
    """What grids cost in one measure, the more the worse.

    Attributes:
        label: of the axis, with its unit.
        alone: of each module, what its grids alone cost, [M].
        spared: what is saved where they alone are left out, [M].
    """

    label: str
    alone: np.ndarray
    spared: np.ndarray


def sensitivity(names: Sequence[str], changes: Sequence[Change]) -> Figure:
    """Two bars a module and measure: its grids alone, and all but them.

    Args:
        names: of the modules, [M].
        changes: one a panel, one or more.

    Raises:
        UsageError: for sizes that differ, or numbers that are not finite.
    """
    sizes = {np.shape(a) for change in changes for a in change[1:]}
    if not names or sizes != {(len(names),)}:
        raise checks.UsageError(
            f"sensitivities of shapes {sorted(sizes)} do not fit"
            f" {len(names)} modules; {_REMEDY}."
        )
    fig, axes = _rows(names, len(changes), 0.44)
    place = np.arange(len(names))
    for ax, change in zip(axes, changes, strict=True):
        for values, offset, colour, label in (
            (
                change.alone,
                -0.19,
                canvas.BLUE,
                "the only one on its grids: what it loses",
            ),
            (
                change.spared,
                0.19,
                canvas.ORANGE,
                "the only one off: what is won back",
            ),
        ):
            checks.finite(f"sensitivity ({change.label})", values)
            ax.barh(place + offset, values, 0.36, color=colour, label=label)
        ax.axvline(0, color=canvas.MUTED, lw=0.8)
        ax.set_xlabel(change.label)
    # Of the figure, as it may be wider than the first axes.
    handles, said = axes[0].get_legend_handles_labels()
    fig.legend(
        handles, said, loc="outside upper left", ncols=2, frameon=False,
        fontsize=9, labelcolor=canvas.INK, handlelength=1.4,
    )  # fmt: skip
    return fig


def oscillation(
    names: Sequence[str], kinds: Sequence[str], share_M: np.ndarray
) -> Figure:
    """The share of the weights that oscillate, a bar a module.

    Args:
        names: of the modules, [M].
        kinds: theirs, which colours tell apart, [M].
        share_M: in [0, 1].

    Raises:
        UsageError: for sizes that differ, or shares out of range.
    """
    sizes = {np.shape(share_M), (len(kinds),)}
    if not names or sizes != {(len(names),)}:
        raise checks.UsageError(
            f"shares of shape {np.shape(share_M)} and {len(kinds)} kinds do"
            f" not fit {len(names)} modules; {_REMEDY}."
        )
    checks.in_range("share of oscillating weights", share_M, 0, 1)
    fig, ax = canvas.bars(names)
    place, of = np.arange(len(names)), np.array(kinds)
    known = list(dict.fromkeys(kinds))
    for i, kind in enumerate(known):
        rows = of == kind
        colour = canvas.PALETTE[i % len(canvas.PALETTE)]
        share = 100 * np.asarray(share_M)[rows]
        ax.barh(place[rows], share, 0.62, color=colour, label=kind)
    ax.set_xlabel("Oscillating weights (%)")
    ax.set_xlim(0, max(1.05 * 100 * np.max(share_M), 0.1))
    if len(known) > 1:
        canvas.legend(
            ax,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=min(4, len(known)),
        )
    return fig


def distances(names: Sequence[str], share_MxB: np.ndarray) -> Figure:
    """How far weights are from their levels, a row a module.

    Args:
        names: of the modules, [M].
        share_MxB: of the weights of a module in each of B equal parts of half a
            step; rows sum to 1.

    Raises:
        UsageError: for sizes that differ, or shares out of range.
    """
    shape = np.shape(share_MxB)
    if len(shape) != 2 or shape[0] != len(names) or not names:
        raise checks.UsageError(
            f"distances of shape {shape} do not fit {len(names)} modules;"
            f" {_REMEDY}."
        )
    checks.in_range("share of weights at a distance", share_MxB, 0, 1)
    fig, (ax,) = _rows(names, 1, 0.3)
    bins = shape[1]
    drawn = ax.imshow(
        bins * np.asarray(share_MxB), cmap="Blues", vmin=0, vmax=_DARKEST,
        aspect="auto", interpolation="nearest",
        extent=(0, 0.5, len(names) - 0.5, -0.5),
    )  # fmt: skip
    ax.grid(False)
    ax.set_xlabel("Distance to the nearest level (steps); .5 is the middle")
    bar = fig.colorbar(drawn, ax=ax, pad=0.02, aspect=25, extend="max")
    bar.set_label("over even spread", color=canvas.INK, fontsize=9)
    bar.ax.tick_params(colors=canvas.MUTED, labelsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return fig


def training(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Curves over training, one a panel.

    Args:
        curves: by the label of the vertical axis, epochs and values, [T] each.

    Raises:
        UsageError: for none, or sizes that differ.
    """
    shapes = [(np.shape(x), np.shape(y)) for x, y in curves.values()]
    if not curves or any(x != y or len(x) != 1 for x, y in shapes):
        raise checks.UsageError(
            f"curves over training have the shapes {shapes}, but need as many"
            f" epochs as values; {_REMEDY}."
        )
    fig, axes = canvas.figure(1 + 3.6 * len(curves), 3.1, columns=len(curves))
    for ax, (label, (x, y)) in zip(axes, curves.items(), strict=True):
        marker = "o" if len(x) <= 20 else ""
        ax.plot(x, y, color=canvas.BLUE, lw=1.8, marker=marker, ms=4)
        ax.set_ylim(0, max(1.08 * np.nanmax(y, initial=0), 1e-9))
        ax.set_xlabel("Epoch")
        ax.set_ylabel(label)
        canvas.integers(ax)
    return fig


def _rows(
    names: Sequence[str], columns: int, tall: float
) -> tuple[Figure, list[Any]]:
    """Axes side by side with a row a name, the first on top.

    Args:
        names: written beside the first axes.
        columns: how many axes.
        tall: inches of a row.
    """
    fig, axes = canvas.figure(
        3.2 + 3.6 * columns, 1.3 + tall * len(names), columns
    )
    for i, ax in enumerate(axes):
        ax.grid(False, axis="y")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        said = names if i == 0 else [""] * len(names)
        ax.set_yticks(
            range(len(names)), said, parse_math=False, color=canvas.INK
        )
        ax.set_ylim(len(names) - 0.5, -0.5)
    return fig, axes
