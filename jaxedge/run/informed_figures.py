"""The pictures of what radiomics tells: arrays in, one matplotlib Figure out.

Letters: S slices, H height, W width, L local maps, G global features, D deep
features, T points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of curves: the second one lies on the first, which shows where they agree.
_LINES = ((canvas.BLUE, 2.4), (canvas.VERMILION, 1.4))
# Between the slices of a picture, a share of their height; inches of a column
# of slices with what is around it, and of the tallest picture.
_GAP, _COLUMN, _TALLEST = 0.04, 2.2, 9.0


class Curve(NamedTuple):
    """An ROC curve, shares in [0, 1].

    Attributes:
        false: share of false alarms, rising, [T].
        true: share that is found, [T].
        at: where the band is known, rising, [T'].
        low: its lower end, [T'].
        high: its upper end.
    """

    false: np.ndarray
    true: np.ndarray
    at: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Slices(NamedTuple):
    """A volume with its local maps.

    Attributes:
        image: [S, H, W].
        region: bool, [S, H, W].
        maps: finite numbers in the region, [S, H, W, L].
    """

    image: np.ndarray
    region: np.ndarray
    maps: np.ndarray


def curves(found: Mapping[str, Curve]) -> Figure:
    """ROC curves with their bands.

    Args:
        found: by what is written beside the line; two at most.

    Raises:
        UsageError: for none or more of them, sizes that differ, or shares out
            of range.
    """
    if not 1 <= len(found) <= len(_LINES):
        raise checks.UsageError(
            f"{len(found)} ROC curves to draw, but there must be 1 or"
            f" {len(_LINES)}; repeat `jaxedge chips`."
        )
    fig, (ax,) = canvas.figure(5.4, 5.2)
    ax.plot((0, 100), (0, 100), color=canvas.MUTED, lw=1.2, ls="--")
    for (colour, width), (name, curve) in zip(
        _LINES, found.items(), strict=False
    ):
        for pair in (curve[:2], curve[2:]):
            if len({np.shape(a) for a in pair}) > 1 or np.ndim(pair[0]) != 1:
                raise checks.UsageError(
                    f"the ROC curve {name!r} has arrays of the shapes"
                    f" {[np.shape(a) for a in curve]}, which do not fit; repeat"
                    " `jaxedge chips`."
                )
        for share in curve:
            checks.in_range(f"share of {name!r}", share, 0, 1)
        at, low, high = (100 * np.asarray(a) for a in curve[2:])
        ax.fill_between(
            at, low, high, step="post", color=colour, alpha=0.18, lw=0
        )
        ax.plot(
            100 * curve.false, 100 * curve.true, color=colour, lw=width,
            label=name, zorder=3,
        )  # fmt: skip
    ax.set_xlim(-1, 101)
    ax.set_ylim(-1, 101)
    ax.set_aspect("equal")
    ax.set_xlabel("False alarms, 1 - specificity (%)")
    ax.set_ylabel("Found, sensitivity (%)")
    canvas.legend(ax, loc="lower right")
    return fig


def slices(
    shown: Slices, depths: Sequence[str], names: Sequence[str]
) -> Figure:
    """Slices of a volume with the outline of its region; beside, local maps.

    Maps have one scale, from their least to their largest value in the region;
    outside of it they are grey.

    Args:
        shown: what is drawn.
        depths: words on each slice, [S].
        names: words above each map, [L].

    Raises:
        UsageError: for sizes that differ, or a map that is not finite.
    """
    from matplotlib.collections import LineCollection

    shape = shown.image.shape
    fits = shown.region.shape == shape and shown.maps.shape[:3] == shape
    counts = (len(depths), len(names)) == (len(shown.image), _last(shown.maps))
    if len(shape) != 3 or not (fits and counts):
        raise checks.UsageError(
            f"slices of the shapes {[np.shape(a) for a in shown]} do not fit"
            f" each other, {len(depths)} depths and {len(names)} names; repeat"
            " `jaxedge chips`."
        )
    inside = np.asarray(shown.region, bool)
    checks.in_range("value of a local map", shown.maps[inside])
    columns = 1 + len(names)
    gap = max(1, round(_GAP * shape[1]))
    tall = _COLUMN * (shape[1] + gap) / shape[2] * shape[0] + 0.3
    fig, axes = canvas.panels(
        _COLUMN * columns + 1.0, min(tall, _TALLEST), columns
    )
    image = _below(shown.image, gap, np.nan)
    axes[0].imshow(image, cmap="gray", interpolation="nearest")
    for i, words in enumerate(depths):
        axes[0].text(
            0, i * (shape[1] + gap), words, ha="left", va="top", fontsize=8,
            color="white", parse_math=False,
        )  # fmt: skip
    drawn = _maps(axes[1:], shown, gap)
    lines = outline(_below(inside.astype(float), gap, 0.0) > 0)
    for ax, name in zip(axes, ("Image", *names), strict=True):
        ax.add_collection(
            LineCollection(list(lines), colors=canvas.ORANGE, linewidths=1)
        )
        ax.set_title(name, fontsize=10, color=canvas.INK, parse_math=False)
    if drawn is not None:
        _scale(fig.colorbar(drawn, ax=axes, pad=0.01, aspect=30, shrink=0.8))
    return fig


def _maps(axes: Sequence, shown: Slices, gap: int):
    """Draws the local maps; the last image, whose scale is that of all."""
    from matplotlib import colormaps

    inside = np.asarray(shown.region, bool)
    values = shown.maps[inside]
    low, high = (values.min(), values.max()) if values.size else (0, 1)
    # What is masked is outside of the region, and what is below lies between
    # slices.
    cmap = colormaps["viridis"].with_extremes(bad=canvas.GREY, under="white")
    drawn = None
    for ax, value in zip(axes, np.moveaxis(shown.maps, -1, 0), strict=True):
        seen = _below(np.where(inside, value, np.nan), gap, low - 1)
        drawn = ax.imshow(
            np.ma.array(seen, mask=np.isnan(seen)), cmap=cmap, vmin=low,
            vmax=high, interpolation="nearest",
        )  # fmt: skip
    return drawn


def _below(slices_SxHxW: np.ndarray, gap: int, fill: float) -> np.ndarray:
    """Slices below each other, with rows of `fill` between them."""
    wide = np.pad(
        np.asarray(slices_SxHxW, float),
        ((0, 0), (0, gap), (0, 0)),
        constant_values=fill,
    )
    return wide.reshape(-1, wide.shape[-1])[:-gap]


def outline(region_HxW: np.ndarray) -> np.ndarray:
    """The sides that pixels of a region share with others, [lines, 2, 2].

    Args:
        region_HxW: bool.

    Returns:
        Both ends of each, as x and y; pixel (i, j) has its middle at x = j and
        y = i, as images are drawn.
    """
    wide = np.pad(np.asarray(region_HxW, bool), 1)
    found = []
    # Sides between the rows of an image, then between its columns.
    for turned, region in enumerate((wide, wide.T)):
        row, column = np.nonzero(region[1:] != region[:-1])
        # Of a padded image, whose pixels are one further.
        ends = [
            np.stack([column - 1 + reach, row - 0.5], -1)
            for reach in (-0.5, 0.5)
        ]
        lines = np.stack(ends, 1)
        found.append(lines[..., ::-1] if turned else lines)
    return np.concatenate(found)


def _last(array: np.ndarray) -> int:
    return array.shape[-1] if array.ndim else 0


def correlations(
    found: Mapping[str, np.ndarray], names: Sequence[str]
) -> Figure:
    """How far each deep feature repeats each radiomic one, by their |r|.

    Args:
        found: by what is written above, correlations [D, G].
        names: of the radiomic features, [G].

    Raises:
        UsageError: for none, sizes that differ, or numbers out of range.
    """
    shapes = [np.shape(a) for a in found.values()]
    wrong = [s for s in shapes if len(s) != 2 or s[1] != len(names) or not s[0]]
    if not found or wrong:
        raise checks.UsageError(
            f"correlations of the shapes {shapes} do not fit {len(names)}"
            " features; repeat `jaxedge chips`."
        )
    for name, r in found.items():
        checks.in_range(f"correlation {name}", r, -1, 1)
    panels = len(found)
    tall = panels * (0.8 + 0.26 * len(names)) + 0.4
    fig, axes = canvas.figure(9.6, tall, columns=panels)
    grid = fig.add_gridspec(panels, 1)
    drawn: Any = None
    for i, (ax, (name, r_DxG)) in enumerate(
        zip(axes, found.items(), strict=True)
    ):
        ax.set_subplotspec(grid[i])
        ax.grid(False)
        drawn = ax.imshow(
            np.abs(r_DxG).T, cmap="Blues", vmin=0, vmax=1, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        ax.set_yticks(range(len(names)), names, parse_math=False)
        ax.set_title(
            f"{name}: mean |r| {np.abs(r_DxG).mean():.3f}", loc="left",
            fontsize=10, color=canvas.INK, parse_math=False,
        )  # fmt: skip
        ax.tick_params(length=0)
        canvas.integers(ax)
    axes[-1].set_xlabel("Deep feature")
    _scale(fig.colorbar(drawn, ax=axes, pad=0.01, aspect=20), "|r|")
    return fig


def _scale(bar, label: str = "") -> None:
    """The scale of colours, as quiet as the axes are."""
    bar.set_label(label, color=canvas.INK, fontsize=9, parse_math=False)
    bar.ax.tick_params(colors=canvas.MUTED, labelsize=8)
    bar.outline.set_visible(False)
