"""The pictures of made pairs: arrays in, one matplotlib Figure out.

Letters: E columns, H height, W width, N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.core import checks
from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _TALLEST = 9.6, 12.0  # Inches.
_GAP = 0.06  # Between images, a share of their height.
_LINES = ((canvas.BLUE, 2.4, "-"), (canvas.VERMILION, 1.6, "--"))


def grid(
    lines: Mapping[str, np.ndarray],
    titles: Sequence[str] = (),
    differences: Sequence[str] = (),
) -> Figure:
    """Images in lines below each other, a word in front of each line.

    Args:
        lines: by that word, [E, H, W] in [-1, 1], grey; of `differences`, which
            lie in [-2, 2], blue is negative and red positive.
        titles: above the columns, [E]; none if empty.
        differences: words of such lines.

    Raises:
        UsageError: for no lines, sizes that differ, or values out of range.
    """
    shapes = {name: np.shape(images) for name, images in lines.items()}
    if len({*shapes.values()}) != 1 or len(next(iter(shapes.values()))) != 3:
        raise checks.UsageError(
            f"lines of images have the shapes {shapes}, but must have one [E,"
            " H, W]; repeat `jaxedge chips`."
        )
    count, height, width = next(iter(shapes.values()))
    gap = max(1, round(_GAP * height))
    coloured = []
    for name, images in lines.items():
        reach = 2.0 if name in differences else 1.0
        # Arithmetic in float32 may pass an end.
        most = 1.001 * reach
        checks.in_range(f"pixel of {name!r}", images, -most, most)
        coloured.append(_coloured(images / reach, name in differences))
    tiles = np.pad(
        np.stack(coloured),
        ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)),
        constant_values=1.0,
    )
    rows = len(lines)
    whole = tiles.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), count * (width + gap), 3
    )[:-gap, :-gap]
    tall = (_WIDTH - 1.6) * whole.shape[0] / whole.shape[1] + 0.5
    fig, (ax,) = canvas.figure(_WIDTH, min(tall, _TALLEST))
    fig.set_layout_engine("constrained", w_pad=0.25, h_pad=0.08)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.imshow(whole, interpolation="nearest")
    # Room that squares leave is given to the words.
    ax.set_anchor("E")
    middles = np.arange(rows) * (height + gap) + (height - 1) / 2
    ax.set_yticks(middles, [*lines], parse_math=False, color=canvas.INK)
    places = np.arange(len(titles)) * (width + gap) + (width - 1) / 2
    ax.set_xticks(places, titles, parse_math=False, color=canvas.INK)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    return fig


def _coloured(images: np.ndarray, signed: bool) -> np.ndarray:
    """Values in [-1, 1] as colours, [..., 3] in [0, 1]."""
    from matplotlib import colormaps

    share = (np.clip(images, -1, 1) + 1) / 2
    name = "RdBu_r" if signed else "gray"
    return colormaps[name](share)[..., :3]


def distances(found: Mapping[str, np.ndarray]) -> Figure:
    """Which share of pairs is nearer than a distance to a training pair.

    Args:
        found: by what is written beside the line, distances [N]; two at most.

    Raises:
        UsageError: for none or more of them, or distances that are none.
    """
    if not 1 <= len(found) <= len(_LINES):
        raise checks.UsageError(
            f"{len(found)} sets of distances to draw, but there must be 1 or"
            f" {len(_LINES)}; repeat `jaxedge chips`."
        )
    fig, (ax,) = canvas.figure(6.4, 3.4)
    for (colour, width, style), (name, apart) in zip(
        _LINES, found.items(), strict=False
    ):
        apart = np.asarray(apart)
        checks.in_range(f"distance of {name!r}", apart, 0)
        share = 100 * np.arange(1, len(apart) + 1) / len(apart)
        ax.step(
            np.sort(apart), share, where="post", color=colour, lw=width,
            ls=style, label=name,
        )  # fmt: skip
    ax.set_xlim(left=0)
    ax.set_ylim(0, 101)
    ax.set_xlabel("Distance to the nearest training pair (root mean square)")
    ax.set_ylabel("Pairs that are nearer (%)")
    canvas.legend(ax, loc="lower right")
    return fig
