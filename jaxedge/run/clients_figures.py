"""The pictures of a run's clients: arrays in, one matplotlib Figure out.

Letters: R rounds, E examples, L points of a line, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN, WORST = "mean", "worst client"
# Where the mean is black, clients have the other colours.
_COLOURS = canvas.PALETTE[:-1]
_DASHES = ("-", "--", ":")
# Markers are drawn on shorter lines.
_MARKED = 20
# Images of a line of a sheet, the gap between them and the room for two lines
# of text, in widths of an image.
_ACROSS, _GAP, _TEXT = 6, 0.08, 0.36
# A class's name is cut to so many letters.
_LETTERS = 18


def scores(
    x: Sequence[float],
    lines: Mapping[str, np.ndarray],
    xlabel: str,
    score: str,
) -> Figure:
    """A score of clients, a line each.

    Args:
        x: what is below, in ascending order, [L].
        lines: by client, or `MEAN`, or `WORST`, the score, [L] in [0, 1]; NaN
            breaks a line.
        xlabel: label of `x`.
        score: the metric that it is, in words.

    Raises:
        UsageError: if there is nothing to draw, or a line does not fit `x`.
    """
    if not lines or not len(x):
        raise checks.UsageError(
            "no scores of clients to draw; evaluate at least once."
        )
    fig, (ax,) = canvas.figure(8.4, 3.6)
    marker = "o" if len(x) <= _MARKED else ""
    clients = [name for name in lines if name not in (MEAN, WORST)]
    for name, values in lines.items():
        if np.shape(values) != (len(x),):
            raise checks.UsageError(
                f"the scores of {name!r} have shape {np.shape(values)}, but"
                f" there are {len(x)} places to draw them at."
            )
        look: dict = {"color": canvas.INK, "lw": 2.6, "zorder": 3}
        if name == WORST:
            look = {"color": canvas.VERMILION, "lw": 1.6}
        elif name != MEAN:
            turn, colour = divmod(clients.index(name), len(_COLOURS))
            dash = _DASHES[turn % len(_DASHES)]
            look = {"color": _COLOURS[colour], "lw": 1.6, "ls": dash}
        ax.plot(
            x, 100 * np.asarray(values, float), marker=marker, ms=4,
            label=name, **look,
        )  # fmt: skip
    known = 100 * np.concatenate([np.asarray(a, float) for a in lines.values()])
    ax.set_ylim(*_limits(known[np.isfinite(known)]))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"{score[:1].upper()}{score[1:]} (%)")
    canvas.integers(ax)
    canvas.legend(ax, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _limits(percent: np.ndarray) -> tuple[float, float]:
    """Of an axis: around what is drawn, but not far beyond 0 and 100."""
    low, high = (percent.min(), percent.max()) if percent.size else (0, 100)
    room = max(5.0, 0.08 * (high - low))
    return max(low - room, -2.0), min(high + room, 102.0)


def rounds(
    drift: tuple[np.ndarray, np.ndarray],
    counts: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """How far clients move away from the server, and who is missing.

    Args:
        drift: rounds and the mean distance in each, [R] each.
        counts: by what they did, rounds and number of clients, [R] each; with
            none there is no such panel.

    Raises:
        UsageError: if there are no rounds.
    """
    if not len(drift[0]):
        raise checks.UsageError("no rounds of clients to draw; train some.")
    panels = 1 + bool(counts)
    fig, axes = canvas.figure(2.2 + 3.4 * panels, 3.1, columns=panels)
    marker = "o" if len(drift[0]) <= _MARKED else ""
    axes[0].plot(*drift, color=canvas.BLUE, lw=1.8, marker=marker, ms=4)
    axes[0].set_ylabel("Drift")
    axes[0].set_ylim(bottom=0)
    colours = (canvas.SKY, canvas.VERMILION)
    for (name, (x, y)), colour in zip(counts.items(), colours, strict=False):
        axes[1].plot(
            x, y, color=colour, lw=1.8, marker=marker, ms=4, label=name,
            drawstyle="steps-mid",
        )  # fmt: skip
    for ax in axes[1:]:
        ax.set_ylabel("Clients")
        ax.set_ylim(bottom=0)
        canvas.integers(ax, "y")
        canvas.legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    for ax in axes:
        ax.set_xlabel("Round")
        canvas.integers(ax)
    return fig


def sheet(images: np.ndarray, names: Sequence[str]) -> Figure:
    """Examples beside each other, with a few words under each.

    Args:
        images: [E, H, W, 1 or 3] uint8.
        names: the words, [E]; of two lines at most.

    Raises:
        UsageError: for no images, or words that do not fit them.
    """
    images = np.asarray(images)
    if images.ndim != 4 or len(images) != len(names) or not len(images):
        raise checks.UsageError(
            f"{len(names)} texts do not fit images of shape {images.shape};"
            " repeat `jaxedge chips`."
        )
    height = images.shape[1] / images.shape[2]
    rows = -(-len(images) // _ACROSS)
    wide, tall = _ACROSS + (_ACROSS - 1) * _GAP, rows * (height + _TEXT)
    fig, (ax,) = canvas.panels(10.4, 10.4 * tall / wide + 0.15, 1)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        row, column = divmod(i, _ACROSS)
        left, top = column * (1 + _GAP), row * (height + _TEXT)
        shown = image if image.shape[-1] == 3 else image[..., 0]
        ax.imshow(
            shown, extent=(left, left + 1, top + height, top), cmap="gray",
            vmin=0, vmax=255,
        )  # fmt: skip
        ax.text(
            left + 0.5, top + height + 0.04, name, ha="center", va="top",
            fontsize=9, color=canvas.INK, parse_math=False,
        )  # fmt: skip
    ax.set_xlim(0, wide)
    ax.set_ylim(tall, 0)
    ax.set_aspect("equal")
    return fig


def short(name: str) -> str:
    """A name that fits under an image."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
