"""The report of a network in small numbers: formats, errors, outliers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.run import canvas, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = Mapping[str, Mapping[str, Any]]


def document(note: Mapping[str, Any], records: Records) -> str:
    """The page.

    Args:
        note: of the packed network.
        records: of its matrices by path, as from `llm_fp4.layers`.
    """
    errors = np.array([one["error"] for one in records.values()])
    weights = np.array([np.prod(one["shape"]) for one in records.values()])
    bits = np.array([one["bits_per_weight"] for one in records.values()])
    worst = [*records][int(errors.argmax())]
    how = note["config"]["quantize"]
    title = f"{Path(note['model']).name} in small numbers"
    cards = [
        ("bits a weight", f"{np.average(bits, weights=weights):.3f}", "scales"),
        ("matrices", str(len(records)), f"{int(weights.sum()):,} weights"),
        ("error of the outputs", f"{np.median(errors):.2e}", "median"),
        ("largest", f"{errors.max():.2e}", worst),
        ("seconds", f"{note['seconds']}", "of this process"),
    ]
    rows = [
        (
            path,
            " x ".join(map(str, one["shape"])),
            one["weight_format"],
            one["act_format"],
            f"{one['bits_per_weight']:.3f}",
            f"{one['error']:.2e}",
            f"{100 * one['shifted']:.0f} %",
        )
        for path, one in records.items()
    ]
    head = (
        "matrix",
        "shape",
        "weights",
        "activations",
        "bits a weight",
        "error",
        "shifted channels",
    )
    body = (
        f"<h1>{page.escape(title)}</h1>"
        + page.cards(cards)
        + page.section(
            "Errors",
            page.picture(
                error_bars(records),
                f"Errors of {len(records)} matrices, from {errors.min():.1e} to"
                f" {errors.max():.1e}, the largest of {worst}.",
                "Squared error of the outputs over their square, by what each"
                " matrix was calibrated with. The colour is the format of its"
                " activations.",
            ),
        )
        + page.section(
            "Outlier channels",
            page.picture(
                outliers(records),
                _said_outliers(records),
                "The largest activation of each channel over the median"
                " channel's, in octaves, channels sorted. A scale for all has"
                " to span it; pre-shifted channels have a scale each.",
            ),
        )
        + page.section("Matrices", page.table("Layer by layer", head, rows))
        + page.section(
            "How", page.pairs("Settings", [(k, v) for k, v in how.items()])
        )
    )
    return page.document(title, body)


def error_bars(records: Records) -> Figure:
    """Errors matrix by matrix, coloured by format."""
    fig, (ax,) = canvas.figure(9.0, 3.2)
    kinds = sorted({one["act_format"] for one in records.values()})
    colours = dict(zip(kinds, canvas.PALETTE, strict=False))
    for i, one in enumerate(records.values()):
        colour = colours.get(one["act_format"], canvas.GREY)
        ax.bar(i, one["error"], color=colour)
    for kind in kinds:
        ax.bar(0, 0, color=colours.get(kind, canvas.GREY), label=kind)
    ax.set_yscale("log")
    ax.set_xlabel("matrix, as in the table")
    ax.set_ylabel("error of the outputs")
    ax.legend(frameon=False, fontsize=9)
    return fig


def outliers(records: Records) -> Figure:
    """How far the channels of each matrix's inputs lie apart."""
    fig, (ax,) = canvas.figure(9.0, 3.6)
    spans = {path: _octaves(one) for path, one in records.items()}
    marked = sorted(spans, key=lambda path: -spans[path][-1])[:3]
    for path, octaves in spans.items():
        place = np.linspace(0, 1, len(octaves))
        if path in marked:
            colour = canvas.PALETTE[marked.index(path)]
            ax.plot(place, octaves, color=colour, lw=1.6, label=path, zorder=3)
        else:
            ax.plot(place, octaves, color=canvas.GREY, lw=0.6)
    ax.set_xlabel("channel, sorted, share")
    ax.set_ylabel("largest activation, octaves")
    ax.legend(frameon=False, fontsize=8)
    return fig


def _octaves(one: Mapping[str, Any]) -> np.ndarray:
    most = np.sort(np.asarray(one["channel_most"], float))
    middle = np.median(most[most > 0]) if (most > 0).any() else 1.0
    return np.log2(np.maximum(most, 2.0**-10 * middle) / middle)


def _said_outliers(records: Records) -> str:
    spans = {path: _octaves(one)[-1] for path, one in records.items()}
    path = max(spans, key=lambda path: spans[path])
    return (
        f"The widest is {path}: its largest channel is {2 ** spans[path]:.0f}"
        " times the median one."
    )
