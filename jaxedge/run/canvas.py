"""What every figure of a report shares: colours, axes, a way into HTML.

Figures are built through matplotlib's objects: no pyplot, no open windows, no
state shared between calls. matplotlib is imported inside the functions, so
that nobody waits for it who draws nothing. Colours are those of Okabe and Ito
(Color Universal Design, 2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#24313d", "#5b6873", "#d7dde2"
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILION, SKY = "#d55e00", "#56b4e9"
PURPLE = "#cc79a7"
GREY = "#b3bcc4"  # For what counts nowhere, or is one of many.
# In the order of use; the dark ones first.
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, INK)


def figure(
    width: float, height: float, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with styled axes side by side.

    Args:
        width: of the whole figure, inches.
        height: likewise.
        columns: the number of axes.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height))
    fig.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    axes = list(np.ravel(fig.subplots(1, columns)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(LINE)
        ax.tick_params(colors=MUTED, labelsize=9, length=3)
        ax.grid(color=LINE, lw=0.6)
        ax.set_axisbelow(True)
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set(color=INK, fontsize=10)
    return fig, axes


def panels(
    width: float, height: float, columns: int, projection: str | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side that show pictures, without scales.

    Args:
        width: of the whole figure, inches.
        height: likewise.
        columns: the number of axes.
        projection: "3d" for axes in space.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height))
    fig.set_layout_engine("constrained", w_pad=0.04, h_pad=0.06)
    how = {"projection": projection}
    axes = list(np.ravel(fig.subplots(1, columns, subplot_kw=how)))
    for ax in axes:
        ax.set_axis_off()
    return fig, axes


def bars(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Axes for one horizontal bar a name, the first on top."""
    fig, (ax,) = figure(6.4, 1.3 + 0.34 * len(names))
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks(range(len(names)), names, parse_math=False, color=INK)
    ax.invert_yaxis()
    return fig, ax


def legend(ax: Axes, **where: Any) -> None:
    """A frameless legend; `where` is passed on to `Axes.legend`."""
    ax.legend(
        frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4, **where
    )


def integers(ax: Axes, axis: str = "x") -> None:
    """Ticks of "x" or "y" at whole numbers: chips and lines have no halves."""
    from matplotlib.ticker import MaxNLocator

    chosen = ax.xaxis if axis == "x" else ax.yaxis
    chosen.set_major_locator(MaxNLocator("auto", integer=True))


def to_svg_or_png(fig: Figure) -> str:
    """The figure as a data URI: PNG if it holds an image, else SVG.

    The same figure gives the same text, so reports can be compared.
    """
    import matplotlib

    file = io.BytesIO()
    if any(ax.images for ax in fig.axes):
        fig.savefig(file, format="png", dpi=160, metadata={"Software": None})
        return _uri("image/png", file)
    # Element ids are random without a salt, and only rc parameters set it;
    # the context restores them at once.
    with matplotlib.rc_context({"svg.hashsalt": "jaxedge"}):
        fig.savefig(file, format="svg", dpi=160, metadata={"Date": None})
    return _uri("image/svg+xml", file)


def save(fig: Figure, path: Path) -> None:
    """Writes an SVG file; the same figure is the same file."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "jaxedge"}):
        fig.savefig(path, format="svg", metadata={"Date": None})


def _uri(kind: str, file: io.BytesIO) -> str:
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:{kind};base64,{text}"
