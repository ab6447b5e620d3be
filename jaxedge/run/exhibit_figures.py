"""The pictures of a network's answers: arrays in, one matplotlib Figure out.

Letters: E examples, H height, W width, C channels, P points, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import IGNORED
from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Counts are written into the cells of a matrix up to this many classes.
_WRITTEN = 40
_TRUE, _IDEAL, _CHIP = "True", "Ideal hardware", "First chip"
# What counts nowhere in a map of colours: beyond the last colour.
_OTHER = len(canvas.PALETTE)


class Shown(NamedTuple):
    """What is seen of an example, or of several with a leading axis [E].

    Attributes:
        x: the input.
        truth: its labels.
        ideal: the answers on ideal hardware, of the shape of the labels.
        chip: the answers on a chip.
    """

    x: np.ndarray
    truth: np.ndarray
    ideal: np.ndarray
    chip: np.ndarray


def confusion(counts_KxK: np.ndarray, classes: Sequence[str]) -> Figure:
    """How often each class was answered for each, and as a share of its row.

    Args:
        counts_KxK: whole numbers; rows are true, columns answered.
        classes: the names, [K].

    Raises:
        UsageError: for counts that do not fit the classes, or are negative.
    """
    counts, size = np.asarray(counts_KxK), len(classes)
    if counts.shape != (size, size) or not size:
        raise checks.UsageError(
            f"a confusion matrix of shape {counts.shape} does not fit"
            f" {size} classes; give one row and one column a class."
        )
    checks.in_range("count of a confusion matrix", counts, 0)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.0, 0.22 * size + 1.4)
    fig, (ax,) = canvas.figure(side + 0.9, side)
    mesh = ax.pcolormesh(share, cmap="Blues", vmin=0, vmax=1)
    font = float(np.clip(80 / size, 6, 9))
    if size <= _WRITTEN:
        for row, column in np.argwhere(counts):
            ax.text(
                column + 0.5, row + 0.5, f"{counts[row, column]:,}",
                ha="center", va="center", fontsize=font,
                color="white" if share[row, column] > 0.5 else canvas.INK,
            )  # fmt: skip
    places = np.arange(size) + 0.5
    names = [name if len(name) <= 18 else f"{name[:17]}…" for name in classes]
    turned = 90 if size > 12 or max(map(len, names)) > 2 else 0
    ax.set_xticks(places, names, parse_math=False, rotation=turned)
    ax.set_yticks(places, names, parse_math=False)
    ax.tick_params(length=0, labelsize=float(np.clip(150 / size, 7, 9)))
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Answered")
    ax.set_ylabel("True")
    bar = fig.colorbar(mesh, ax=ax, pad=0.02, shrink=0.8)
    _style(bar, "Share of the true class")
    return fig


def segmented(shown: Shown, classes: Sequence[str]) -> Figure:
    """An image, its labels, and the answers on ideal hardware and on a chip.

    Args:
        shown: `x` [H, W, C], drawn in grey, or in colour if C is 3, from its
            least to its largest value; the others [H, W], grey where the label
            is IGNORED. Of two classes the answers are probabilities of the
            second, else labels.
        classes: the names, [K].

    Raises:
        UsageError: if sizes differ or a probability is out of range.
    """
    maps = shown[1:]
    _agree("pixels", shown.x.shape[:2], maps, classes)
    height, width = shown.truth.shape
    tall = float(np.clip(2.55 * height / width, 1.2, 5.0))
    fig, axes = canvas.panels(11, tall + 0.6, 4)
    axes[0].imshow(_visible(shown.x), cmap="gray")
    known = shown.truth != IGNORED
    if len(classes) == 2:
        for name, values in zip((_IDEAL, _CHIP), maps[1:], strict=True):
            checks.in_range(f"probability on {name.lower()}", values, 0, 1)
        values = [np.ma.array(np.asarray(a, float), mask=~known) for a in maps]
        image = _maps(axes[1:], values, "cividis", 1)
        bar = fig.colorbar(image, ax=axes, pad=0.01, aspect=14, shrink=0.9)
        _style(bar, f"Probability of {classes[1]}")
    else:
        from matplotlib.colors import ListedColormap

        index, found, more = _few([np.where(known, a, IGNORED) for a in maps])
        values = [np.ma.array(a, mask=~known) for a in index]
        cmap = ListedColormap([*canvas.PALETTE, "#ffffff"])
        _maps(axes[1:], values, cmap, _OTHER)
        _key(fig, [classes[int(k)] for k in found], more, "white")
    for ax, name in zip(axes, ("Image", _TRUE, _IDEAL, _CHIP), strict=True):
        _title(ax, name)
    return fig


def parts(shown: Shown, classes: Sequence[str]) -> Figure:
    """A point set three times: coloured by its parts, and by the answers.

    Args:
        shown: `x` [P, 3], places; the others [P], labels. Points whose label
            is IGNORED are grey.
        classes: the names, [K].

    Raises:
        UsageError: if sizes differ.
    """
    maps = shown[1:]
    _agree("points", shown.x.shape[:1], maps, classes)
    known = shown.truth != IGNORED
    index, found, more = _few([np.where(known, a, IGNORED) for a in maps])
    fig, axes = canvas.panels(9.6, 3.4, 3, "3d")
    colours = np.array([*canvas.PALETTE, canvas.GREY])
    names = (_TRUE, _IDEAL, _CHIP)
    for ax, labels, name in zip(axes, index, names, strict=True):
        _cloud(ax, shown.x, colours[labels].tolist())
        _title(ax, name)
    _key(fig, [classes[int(k)] for k in found], more, canvas.GREY)
    return fig


def clouds(shown: Shown, classes: Sequence[str]) -> Figure:
    """Point sets, coloured by the class that the chip answers.

    Args:
        shown: `x` [E, P, 3], places; the others [E], labels.
        classes: the names, [K].

    Raises:
        UsageError: if sizes differ.
    """
    _agree("sets", shown.x.shape[:1], shown[1:], classes)
    fig, axes = canvas.panels(11, 3.7, len(shown.x), "3d")
    (index,), _, _ = _few([shown.chip])
    colours = [*canvas.PALETTE, canvas.GREY]
    names = (_TRUE, _IDEAL, _CHIP)
    for i, ax in enumerate(axes):
        _cloud(ax, shown.x[i], colours[index[i]])
        lines = (
            f"{name}: {classes[int(labels[i])]}"
            for name, labels in zip(names, shown[1:], strict=True)
        )
        _title(ax, "\n".join(lines))
    return fig


def _agree(
    what: str, shape: tuple[int, ...], maps: Sequence, classes: Sequence[str]
) -> None:
    """Raises unless every map has a label for each of some things."""
    for found in maps:
        if found.shape != shape:
            raise checks.UsageError(
                f"labels or answers of shape {found.shape} do not fit {what}"
                f" of shape {shape}; repeat `jaxedge chips`."
            )
        checks.in_range("label or answer", found, IGNORED, len(classes) - 1)


def _visible(image_HxWxC: np.ndarray) -> np.ndarray:
    """In [0, 1], as colours if there are three channels, else as their mean."""
    image = np.asarray(image_HxWxC, float)
    if image.shape[-1] != 3:
        image = image.mean(-1)
    low, high = image.min(), image.max()
    return (image - low) / (high - low if high > low else 1)


def _few(
    maps: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], np.ndarray, bool]:
    """Labels as colours: the commonest get one each, all others the last.

    Returns:
        The colour of each label, of the maps' shapes; the labels with a colour
        of their own, in the order of the colours; whether there are others.
    """
    everything = np.concatenate([np.ravel(a) for a in maps])
    labels, counts = np.unique(
        everything[everything != IGNORED], return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:_OTHER]
    found = np.sort(labels[order])
    table = {int(k): place for place, k in enumerate(found)}
    pick = np.vectorize(lambda k: table.get(int(k), _OTHER), otypes=[int])
    return [pick(a) for a in maps], found, len(labels) > len(found)


def _maps(axes: Sequence[Axes], maps: Sequence, cmap, high: float):
    """Draws maps of values from 0 to `high`, grey where they are masked."""
    from matplotlib import colormaps

    chosen = colormaps[cmap] if isinstance(cmap, str) else cmap
    chosen = chosen.with_extremes(bad=canvas.GREY)
    images = [
        ax.imshow(
            values, cmap=chosen, vmin=0, vmax=high, interpolation="nearest"
        )
        for ax, values in zip(axes, maps, strict=True)
    ]
    return images[-1]


def _cloud(ax: Axes, points_Px3: np.ndarray, colour) -> None:
    """Points in space, all axes to one scale."""
    span = np.ptp(points_Px3, axis=0)
    ax.scatter(
        *points_Px3.T, c=colour, s=5, lw=0, depthshade=False, rasterized=True
    )  # type: ignore[call-arg]
    box = np.maximum(span, 1e-6 + 0.05 * span.max())
    ax.set_box_aspect(box, zoom=1.4)  # type: ignore[call-arg]
    ax.view_init(20, -60)  # type: ignore[attr-defined]


def _key(fig: Figure, names: Sequence[str], more: bool, other: str) -> None:
    """Under a figure, which class has which colour."""
    from matplotlib.patches import Patch

    colours = [*canvas.PALETTE[: len(names)], *([other] if more else [])]
    patches = [
        Patch(facecolor=colour, edgecolor=canvas.LINE, label=name)
        for name, colour in zip(
            [*names, "other"][: len(colours)], colours, strict=True
        )
    ]
    drawn = fig.legend(
        handles=patches, loc="outside lower center", ncols=4, frameon=False,
        fontsize=9, labelcolor=canvas.INK, handlelength=1.2,
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set_parse_math(False)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=10, color=canvas.INK, parse_math=False)


def _style(bar, label: str) -> None:
    """The scale of colours, as quiet as the axes are."""
    bar.set_label(label, color=canvas.INK, fontsize=9, parse_math=False)
    bar.ax.tick_params(colors=canvas.MUTED, labelsize=8)
    bar.outline.set_visible(False)
