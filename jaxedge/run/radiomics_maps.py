"""Maps of features over slices, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.data import volumes
from jaxedge.run import canvas
from jaxedge.run.radiomics_case import Map
from jaxedge.run.radiomics_prepare import Prepared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 6
_MARGIN = 4  # Voxels around the region.
MOST = 40  # Rows of a sheet.


def sheet(prepared: Prepared, made: Sequence[Map]) -> Figure:
    """A row a map, a column a slice, over the image in grey.

    Colours span each map's values in the region; the first `MOST` are shown.

    Args:
        prepared: the image and the region.
        made: maps on its grid, at least one.
    """
    from matplotlib.figure import Figure

    made = made[:MOST]
    image, region = volumes_around(prepared)
    shown = [_cut(prepared, one.volume.array_ZxYxX) for one in made]
    inside = np.flatnonzero(region.any((1, 2)))
    places = np.linspace(0, len(inside) - 1, min(_COLUMNS, len(inside)))
    at = inside[np.unique(places.round().astype(int))]
    _, dy, dx = prepared.image.spacing
    height = 1.7 * min(
        max(region.shape[1] * dy / (region.shape[2] * dx), 0.5), 2
    )
    fig = Figure(figsize=(1.7 * len(at) + 1.2, height * len(made) + 0.5))
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.04)
    grid = fig.subplots(len(made), len(at), squeeze=False)
    # The window of the grey image: without the outermost hundredth.
    low, high = np.percentile(image[np.isfinite(image)], (1, 99))
    for row, one, values in zip(grid, made, shown, strict=True):
        known = values[region]
        known = known[np.isfinite(known)]
        span = (known.min(), known.max()) if known.size else (0, 1)
        for ax, z in zip(row, at, strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.imshow(image[z], "gray", vmin=low, vmax=high, aspect=dy / dx)
            layer = ax.imshow(
                np.where(region[z], values[z], np.nan), "viridis",
                vmin=span[0], vmax=span[1], aspect=dy / dx,
                interpolation="nearest",
            )  # fmt: skip
        row[0].set_ylabel(
            f"{one.name.replace('_', ' ')}\nradius {one.radius}",
            fontsize=7, color=canvas.INK, parse_math=False,
        )  # fmt: skip
        bar = fig.colorbar(layer, ax=list(row), shrink=0.8, pad=0.01)
        bar.ax.tick_params(labelsize=6, colors=canvas.MUTED)
        bar.outline.set_visible(False)
    first = volumes.box(prepared.region.array_ZxYxX)[0][0]
    for ax, z in zip(grid[0], at, strict=True):
        place = z - inside[0] + first
        ax.set_title(f"slice {place}", fontsize=7, color=canvas.MUTED)
    return fig


def save(path: Path, prepared: Prepared, made: Sequence[Map]) -> None:
    """Writes the sheet as PNG, in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        sheet(prepared, made).savefig(
            temporary, format="png", dpi=160, metadata={"Software": None}
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def volumes_around(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Image and region within a few voxels around the region."""
    return (
        _cut(prepared, prepared.image.array_ZxYxX.astype(np.float32)),
        _cut(prepared, prepared.region.array_ZxYxX),
    )


def _cut(prepared: Prepared, array_ZxYxX: np.ndarray) -> np.ndarray:
    low, high = volumes.box(prepared.region.array_ZxYxX)
    first = np.maximum(low - _MARGIN, 0)
    return array_ZxYxX[tuple(map(slice, first, high + _MARGIN + 1))]
