"""Medical volumes with their geometry, and regions that fit their image.

Read are NRRD, NIfTI, MetaImage, DICOM and whatever else SimpleITK reads, and
.npz with `image`, `mask`, `spacing_xyz`, `origin_xyz` and `direction`. Arrays
are [Z, Y, X], the slowest axis first, as SimpleITK hands them out; the frame of
the patient is (x, y, z) in millimetres, as in the files.
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data.volume_files import read as read
from jaxedge.data.volume_files import write as write
from jaxedge.data.volume_images import Volume as Volume
from jaxedge.data.volume_images import from_image as from_image
from jaxedge.data.volume_images import make as make
from jaxedge.data.volume_images import shown as shown
from jaxedge.data.volume_images import simpleitk as simpleitk
from jaxedge.data.volume_images import to_image as to_image

TOLERANCE = 1e-6  # SimpleITK's own, and so pyradiomics'.
_SHOWN = 8  # More labels than that help nobody.


def read_pair(
    image: str | Path,
    mask: str | Path,
    *,
    label: int | None = 1,
    resample: bool = False,
    tolerance: float = TOLERANCE,
    channel: int | None = None,
) -> tuple[Volume, Volume]:
    """An image, and a region of it.

    Args:
        image: as for `read`.
        mask: likewise, of whole numbers; of a .npz its "mask".
        label: number of the region; None for the only one there is.
        resample: whether a mask on another grid is put onto the image's, the
            nearest voxel of it onto each.
        tolerance: by which origin and spacing may differ, as a part of the
            image's spacing along x, and directions, as pyradiomics'
            geometryTolerance.
        channel: of a mask that has several numbers a voxel.

    Returns:
        The image, and the region as bool on the same grid.

    Raises:
        UsageError: as `read`, and for a label that the mask lacks, a grid that
            differs, a region of one voxel or beyond the image, or NaN in it.
    """
    volume = read(image)
    region = read_region(mask, label=label, channel=channel)
    region = fitted(volume, region, resample=resample, tolerance=tolerance)
    check_region(volume, region)
    return volume, region


def fitted(
    image: Volume,
    region: Volume,
    *,
    resample: bool = False,
    tolerance: float = TOLERANCE,
) -> Volume:
    """A region on the grid of its image.

    Args:
        image: whose grid counts.
        region: bool, on the same grid, or with `resample` on another.
        resample: as of `read_pair`.
        tolerance: likewise.

    Raises:
        UsageError: for another grid, without `resample`, naming what differs.
    """
    found = differences(image, region, tolerance)
    if not found:
        return region
    if not resample:
        raise checks.UsageError(
            "the mask does not lie on the grid of the image:"
            f" {'; '.join(found)} (image and mask). If both show the same"
            " place, ask to resample the mask (resample=True; --resample_mask;"
            " correctMask: true), or for rounding errors raise the tolerance"
            " (geometryTolerance)."
        )
    return onto(region, image)


def read_region(
    path: str | Path, *, label: int | None = 1, channel: int | None = None
) -> Volume:
    """A region of a mask as bool, on the grid of the mask.

    Args:
        path: as for `read`.
        label: number of the region; None for the only one there is.
        channel: of a mask that has several numbers a voxel.

    Raises:
        UsageError: as `read`, for numbers that are not whole, an empty mask, a
            missing label, or several of them without a choice.
    """
    volume = read(path, key="mask", channel=channel)
    array = volume.array_ZxYxX
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.rint(array))
        if not whole.all():
            raise checks.UsageError(
                f"mask {path} holds {array[~whole][0]}, but labels are whole"
                " numbers; threshold it first, or swap IMAGE and MASK."
            )
    labels = [int(v) for v in np.unique(array) if v != 0]
    if not labels:
        raise checks.UsageError(
            f"mask {path} is empty: every voxel is 0; mark the region."
        )
    some = ", ".join(map(str, labels[:_SHOWN])) + ", ..." * (
        len(labels) > _SHOWN
    )
    if label is None and len(labels) > 1:
        raise checks.UsageError(
            f"mask {path} holds the labels {some}; choose one with label."
        )
    chosen = labels[0] if label is None else label
    if chosen not in labels:
        raise checks.UsageError(
            f"mask {path} holds no label {chosen}; choose from {some} with"
            " label."
        )
    return volume.of(array == chosen)


def differences(
    image: Volume, mask: Volume, tolerance: float = TOLERANCE
) -> list[str]:
    """What tells two grids apart, in words; empty where they are one."""
    found = []
    sizes = [v.array_ZxYxX.shape[-v.dimensions :] for v in (image, mask)]
    if sizes[0] != sizes[1]:
        found.append(f"size {sizes[0]} and {sizes[1]} voxels")
    # As ITK: in parts of the spacing along the first axis.
    room = tolerance * image.spacing[2]
    for name, most in (
        ("spacing", room),
        ("origin", room),
        ("direction", tolerance),
    ):
        one, other = getattr(image, name), getattr(mask, name)
        if np.abs(one - other).max() > most:
            unit = "" if name == "direction" else " mm"
            found.append(f"{name} {shown(one)} and {shown(other)}{unit}")
    return found


def onto(region: Volume, image: Volume) -> Volume:
    """A region on the grid of an image, by the nearest voxel.

    Args:
        region: bool, on its own grid.
        image: whose grid it is put on.

    Raises:
        UsageError: if it reaches beyond the image, or no voxel is left.
    """
    check_inside(image, region)
    sitk = simpleitk()
    filtered = sitk.ResampleImageFilter()
    filtered.SetReferenceImage(to_image(image))
    filtered.SetInterpolator(sitk.sitkNearestNeighbor)
    put = from_image(filtered.Execute(to_image(region)))
    return image.of(put.array_ZxYxX > 0)


def check_inside(image: Volume, region: Volume) -> None:
    """Raises unless the box around a region lies in the image.

    Half a voxel around the outermost centres belongs to both, and a thousandth
    is forgiven, as pyradiomics does.

    Raises:
        UsageError: for an empty region, or with how far it reaches.
    """
    low, high = box(region.array_ZxYxX)
    sitk_region, sitk_image = to_image(region), to_image(image)
    corners = []
    for corner in (low - 0.5, high + 0.5):
        index = corner[::-1][: region.dimensions].tolist()
        point = sitk_region.TransformContinuousIndexToPhysicalPoint(index)
        corners.append(
            sitk_image.TransformPhysicalPointToContinuousIndex(point)
        )
    least, most = np.min(corners, 0), np.max(corners, 0)
    size = np.array(sitk_image.GetSize())
    if (least < -0.501).any() or (most > size - 0.499).any():
        raise checks.UsageError(
            "the region reaches beyond the image: its box spans voxels"
            f" {shown(least[::-1])} to {shown(most[::-1])} of an image of"
            f" {shown(size[::-1])} (z, y, x); give the mask of this image."
        )


def check_region(image: Volume, region: Volume) -> None:
    """Raises unless features of a region can be computed.

    Raises:
        UsageError: for an empty region or a single voxel, or NaN or infinity in
            it.
    """
    inside = image.array_ZxYxX[region.array_ZxYxX]
    if inside.size < 2:
        what = "is empty" if not inside.size else "is a single voxel"
        raise checks.UsageError(f"the region {what}; mark at least two voxels.")
    if inside.dtype.kind == "f" and not np.isfinite(inside).all():
        bad = int((~np.isfinite(inside)).sum())
        raise checks.UsageError(
            f"the image holds {bad} NaN or infinite values in the region of"
            f" {inside.size} voxels; mend the image, or leave them out of the"
            " mask."
        )


def box(region_ZxYxX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel of a region along (z, y, x), int [3] each.

    Raises:
        UsageError: if it is empty.
    """
    if not region_ZxYxX.any():
        raise checks.UsageError("the region is empty; mark some voxels.")
    bounds = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(region_ZxYxX.any(others))
        bounds.append((at[0], at[-1]))
    low, high = np.array(bounds).T
    return low, high
