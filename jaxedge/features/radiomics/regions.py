"""A region of interest as padded arrays, checked and binned on the host.

Programs are compiled for shapes. So that a cohort needs a few of them, the box
around a region is padded to sizes of the form 2^n or 3 * 2^(n-1), and its grey
levels, of which only those that occur get a row, to multiples of 8 or more.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import bins

# Of matrices of pairs of them, 13 take 4 bytes * 13 * G^2.
MOST_LEVELS = 4096
_MILLIMETRES = (1e-3, 1e3)


class Region(NamedTuple):
    """What features are made from; numpy or jax arrays, any leading axes.

    Voxels are listed in the order of the volume. Behind the last of them are
    entries for none.

    Attributes:
        values_V: float32 intensities, 0 of none.
        levels_V: int32, the row of a voxel's grey level, from 1 on; 0 of none.
        place_V: int32, its flat place in the box; -1 of none.
        grey_G: float32, the grey level of each row; rows without one are 0.
        n_grey: float32, the highest grey level.
        spacing_3: float32, mm along (z, y, x).
        shape_ZxYxX: bool, the region whose shape is measured, in the same box.
    """

    values_V: Any
    levels_V: Any
    place_V: Any
    grey_G: Any
    n_grey: Any
    spacing_3: Any
    shape_ZxYxX: Any

    @property
    def n_levels(self) -> int:
        """Rows of matrices, G."""
        return self.grey_G.shape[-1]

    def boxed(self, listed_V: Any) -> jax.Array:
        """A box of what the voxels of one region have, 0 elsewhere."""
        box = jnp.zeros(self.shape_ZxYxX.shape, listed_V.dtype)
        place_V = jnp.where(self.place_V < 0, box.size, self.place_V)
        filled = box.ravel().at[place_V].set(listed_V, mode="drop")
        return filled.reshape(box.shape)


class Box(NamedTuple):
    """Where a region lies in its volume: first voxel and size, (z, y, x)."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Its voxels."""
        pairs = zip(self.start, self.size, strict=True)
        return tuple(slice(at, at + n) for at, n in pairs)

    def grown(self, by: int, shape: tuple[int, ...]) -> "Box":
        """With so many voxels more on each side, within a volume."""
        start = tuple(max(at - by, 0) for at in self.start)
        ends = (
            min(at + n + by, most)
            for at, n, most in zip(self.start, self.size, shape, strict=True)
        )
        size = (end - at for at, end in zip(start, ends, strict=True))
        return Box(start, tuple(size))


def prepare(
    image: jax.typing.ArrayLike,
    mask: jax.typing.ArrayLike,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    definitions: str = "pyradiomics",
    label: int | None = None,
    shape_mask: jax.typing.ArrayLike | None = None,
    size: tuple[int, ...] | None = None,
    n_levels: int | None = None,
) -> Region:
    """Crops, checks, bins and pads one region.

    Args:
        image: [Z, Y, X], or [Y, X] for one slice; any real dtype.
        mask: same shape; bool, or whole numbers.
        spacing: mm along (z, y, x); (y, x) will do for a slice.
        bin_width: unit of the intensities.
        bin_count: number of bins in place of a width.
        definitions: "pyradiomics" or "ibsi".
        label: value of the mask that is the region; None where it has one.
        shape_mask: the region whose shape is measured, where it is another.
        size: of the padded box, [3]; None for the next that is used.
        n_levels: rows for grey levels; None for the next number that is used.

    Returns:
        The region as numpy arrays, with room behind in each.

    Raises:
        UsageError: for shapes that differ, an empty region or one voxel,
            several labels, NaN in the region, or a spacing that is not in
            millimetres.
    """
    region = cut(
        image,
        mask,
        spacing=spacing,
        bin_width=bin_width,
        bin_count=bin_count,
        definitions=definitions,
        label=label,
        shape_mask=shape_mask,
    )
    room = _room(region.shape_ZxYxX.shape, size)
    (voxels,) = padded_size(region.levels_V.shape)
    rows = _rows(region.n_levels, n_levels)
    made = stacked([region], room, voxels, rows)
    return jax.tree.map(lambda leaf: leaf[0], made)


def cut(
    image: jax.typing.ArrayLike,
    mask: jax.typing.ArrayLike,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    definitions: str = "pyradiomics",
    label: int | None = None,
    shape_mask: jax.typing.ArrayLike | None = None,
) -> Region:
    """Crops, checks and bins one region, without room to spare.

    Args:
        image: as of `prepare`, as is all that follows.
        mask: same shape.
        spacing: mm along (z, y, x).
        bin_width: unit of the intensities.
        bin_count: number of bins in place of a width.
        definitions: "pyradiomics" or "ibsi".
        label: value of the mask that is the region.
        shape_mask: the region whose shape is measured, where it is another.

    Returns:
        The region as numpy arrays of the size of its box, with a row for each
        grey level that occurs.

    Raises:
        UsageError: as `prepare`.
    """
    image_ZxYxX, inside_ZxYxX, spacing_3 = volume(image, mask, spacing, label)
    shape_ZxYxX = inside_ZxYxX
    if shape_mask is not None:
        _, shape_ZxYxX, _ = volume(image, shape_mask, spacing, label)
    around = box(inside_ZxYxX | shape_ZxYxX)
    image_ZxYxX, inside_ZxYxX, shape_ZxYxX = (
        array[around.slices]
        for array in (image_ZxYxX, inside_ZxYxX, shape_ZxYxX)
    )
    found_N = image_ZxYxX[inside_ZxYxX]
    grey_N = bins.on_host(
        found_N,
        bin_width=bin_width,
        bin_count=bin_count,
        definitions=definitions,
    )
    _warn_flat(found_N, grey_N, bin_width, bin_count)
    occurs = np.bincount(grey_N) > 0
    present, row = np.flatnonzero(occurs), np.cumsum(occurs, dtype=np.int32)
    _rows(len(present), None)
    return Region(
        found_N.astype(np.float32),
        row[grey_N],
        np.flatnonzero(inside_ZxYxX).astype(np.int32),
        present.astype(np.float32),
        np.float32(present[-1]),
        spacing_3,
        shape_ZxYxX,
    )


def plain(region: Region) -> Region:
    """The region with a row for every grey level up to the highest."""
    grey_G = np.arange(1, region.n_grey + 1, dtype=np.float32)
    levels_V = region.grey_G[region.levels_V - 1].astype(np.int32)
    return region._replace(levels_V=levels_V, grey_G=grey_G)


def stacked(
    regions: Sequence[Region], room: tuple[int, ...], voxels: int, rows: int
) -> Region:
    """Regions with room behind: in boxes, in lists, and for grey levels."""

    def together(fill: int, shape: tuple[int, ...], leaves: Any) -> np.ndarray:
        whole = np.full((len(leaves), *shape), fill, leaves[0].dtype)
        for i, leaf in enumerate(leaves):
            whole[(i, *map(slice, leaf.shape))] = leaf
        return whole

    shapes = Region(
        (voxels,), (voxels,), (voxels,), (rows,), (), (3,), tuple(room)
    )
    placed = [_placed(region, room) for region in regions]
    columns = zip(*placed, strict=True)
    fills = Region(0, 0, -1, 0, 0, 0, 0)
    return Region(*map(together, fills, shapes, columns))


def _placed(region: Region, room: tuple[int, ...]) -> Region:
    """A region with the places that its voxels have in a larger box."""
    _, height, width = region.shape_ZxYxX.shape
    line_V = region.place_V // width
    # One line more for each slice, one voxel more for each line.
    lines_V = line_V + line_V // height * (room[1] - height)
    place_V = region.place_V + (room[2] - width) * line_V
    place_V = place_V + (lines_V - line_V) * room[2]
    return region._replace(place_V=place_V.astype(np.int32))


def volume(
    image: Any, mask: Any, spacing: Any, label: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked image [Z, Y, X], bool mask [Z, Y, X] and spacing [3]."""
    image, mask = np.asarray(image), np.asarray(mask)
    if image.ndim not in (2, 3) or image.shape != mask.shape:
        raise checks.UsageError(
            f"image has shape {image.shape} and mask {mask.shape}, but both"
            " must have one shape [Z, Y, X], or [Y, X] for a slice; resample"
            " the mask to the image first (jaxedge.data.volumes.read_pair does,"
            " with resample=True)."
        )
    if image.dtype.kind not in "biuf":
        raise checks.UsageError(
            f"image has dtype {image.dtype}, but must hold real numbers."
        )
    inside = region(mask, label)
    bad = 0
    if image.dtype.kind == "f":
        bad = np.count_nonzero(~np.isfinite(image[inside]))
    if bad:
        raise checks.UsageError(
            f"image holds {bad} NaN or infinite values in the"
            " region; leave those voxels out of the mask, or mend them."
        )
    legs = _spacing(spacing, image.ndim)
    if image.ndim == 2:
        return image[None], inside[None], legs
    return image, inside, legs


def region(mask: np.ndarray, label: int | None) -> np.ndarray:
    """A mask as bool.

    Raises:
        UsageError: for a mask without the label, with several and none chosen,
            or of one voxel.
    """
    if mask.dtype.kind not in "biuf":
        raise checks.UsageError(
            f"mask has dtype {mask.dtype}, but must be bool or whole numbers."
        )
    if mask.dtype == bool:  # A sort of it would take as long as all else.
        found = np.ones(int(np.any(mask)), np.int64)
    else:
        found = np.unique(mask[mask != 0])
    if not np.isfinite(found.astype(np.float64)).all() or (found % 1).any():
        raise checks.UsageError(
            "mask holds numbers that are no labels (fractions or NaN); give"
            " whole numbers, with 0 outside."
        )
    labels = [int(value) for value in found]
    if not labels:
        raise checks.UsageError(
            "mask is empty; a region of at least two voxels is needed."
        )
    if label is None and len(labels) > 1:
        raise checks.UsageError(
            f"mask has the labels {labels}; choose one, such as"
            f" label={labels[0]}."
        )
    wanted = labels[0] if label is None else label
    if wanted not in labels:
        raise checks.UsageError(
            f"label is {wanted}, but the mask has {labels}."
        )
    inside = mask == wanted
    if inside.sum() < 2:
        raise checks.UsageError(
            "mask is a single voxel; a region of at least two is needed."
        )
    return inside


def box(inside_ZxYxX: np.ndarray) -> Box:
    """The smallest box around a region."""
    flat_YxX = np.any(inside_ZxYxX, 0)
    lines = inside_ZxYxX.any((1, 2)), np.any(flat_YxX, 1), np.any(flat_YxX, 0)
    start, size = [], []
    for line in lines:
        at = np.flatnonzero(line)
        start.append(int(at[0]))
        size.append(int(at[-1] - at[0] + 1))
    return Box(tuple(start), tuple(size))


def padded_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """The next sizes that are used: 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    return tuple(_next(n) for n in size)


def padded_side(found: int) -> int:
    """The next length of a box that cohorts use: multiples of 4, 8, 16, ..."""
    return padded_levels(2 * found) // 2


def padded_levels(found: int) -> int:
    """The next number of rows that is used: multiples of 8, 16, 32, ..."""
    step = 8
    while found > 8 * step:
        step *= 2
    return -(-found // step) * step


def _next(number: int) -> int:
    power = 1 << max(number - 1, 0).bit_length()
    return power * 3 // 4 if power > 2 and number <= power * 3 // 4 else power


def _rows(found: int, n_levels: int | None) -> int:
    if found > MOST_LEVELS:
        raise checks.UsageError(
            f"the region has {found} grey levels, more than {MOST_LEVELS}: its"
            " matrices would not fit; take a larger bin_width, or a bin_count."
        )
    rows = padded_levels(found) if n_levels is None else n_levels
    if rows < found:
        raise checks.UsageError(
            f"n_levels is {rows}, but the region has {found} grey levels."
        )
    return rows


def _room(size: tuple[int, ...], wanted: Any) -> tuple[int, ...]:
    room = padded_size(size) if wanted is None else tuple(wanted)
    if any(n > most for n, most in zip(size, room, strict=True)):
        raise checks.UsageError(
            f"size is {room}, but the box around the region is {size}."
        )
    return room


def padded(array_ZxYxX: np.ndarray, room: tuple[int, ...]) -> np.ndarray:
    """An array with zeros behind, [*room]."""
    pairs = zip(array_ZxYxX.shape, room, strict=True)
    return np.pad(array_ZxYxX, [(0, most - n) for n, most in pairs])


def _spacing(spacing: Any, ndim: int) -> np.ndarray:
    legs = np.asarray(spacing, np.float64)
    if legs.shape == (2,) and ndim == 2:
        legs = np.array([1.0, *legs])
    low, high = _MILLIMETRES
    if legs.shape != (3,) or not np.all((legs >= low) & (legs <= high)):
        raise checks.UsageError(
            f"spacing is {spacing}, but must be three numbers in [{low},"
            f" {high}] mm along (z, y, x); multiply metres by 1,000."
        )
    return legs.astype(np.float32)


def _warn_flat(
    found_N: np.ndarray,
    grey_N: np.ndarray,
    bin_width: float,
    bin_count: int | None,
) -> None:
    """Tells when bins are wider than all that a region shows."""
    span = float(found_N.max()) - float(found_N.min())
    if span and bin_count is None and grey_N.min() == grey_N.max():
        warnings.warn(
            f"all intensities, which span {span:g}, fall into one bin of width"
            f" {bin_width:g}: its texture is constant. Take a smaller bin_width"
            " if the image has another unit.",
            stacklevel=5,
        )
