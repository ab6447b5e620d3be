"""Volumes made ready for radiomic features, as pyradiomics 3.0.1 does it.

Normalised intensities, another grid, a region of a range of intensities, and
the filtered images that pyradiomics calls image types. It computes them with
SimpleITK and PyWavelets, and so does this. Its documentation lists where it
leaves the IBSI: the grid is aligned to the corner of the first voxel, the mask
is put onto it by the nearest voxel, and intensities are not rounded, unless the
file has whole numbers, which resampling keeps.
"""

from collections.abc import Sequence

import numpy as np

from jaxedge.core import checks
from jaxedge.data import volumes
from jaxedge.data.image_types import IMAGE_TYPES as IMAGE_TYPES
from jaxedge.data.image_types import NOT_BUILT as NOT_BUILT
from jaxedge.data.image_types import Filters as Filters
from jaxedge.data.image_types import gradient as gradient
from jaxedge.data.image_types import images as images
from jaxedge.data.image_types import laplacian as laplacian
from jaxedge.data.image_types import pointwise as pointwise
from jaxedge.data.image_types import wavelets as wavelets
from jaxedge.data.volumes import Volume

INTERPOLATORS = (
    "sitkNearestNeighbor",
    "sitkLinear",
    "sitkBSpline",
    "sitkGaussian",
    "sitkLabelGaussian",
    "sitkHammingWindowedSinc",
    "sitkCosineWindowedSinc",
    "sitkWelchWindowedSinc",
    "sitkLanczosWindowedSinc",
    "sitkBlackmanWindowedSinc",
)
RESEGMENT_MODES = ("absolute", "relative", "sigma")


def normalise(
    image: Volume, *, scale: float = 1.0, outliers: float | None = None
) -> Volume:
    """Mean and standard deviation of the whole image taken off.

    Args:
        image: any real dtype; a constant one becomes 0.
        scale: what the result is multiplied by, above 0.
        outliers: standard deviations at which it is clipped before that, above
            0; None clips nothing.

    Returns:
        float64 (float32 where the image is).

    Raises:
        UsageError: for NaN or infinity anywhere in the image.
    """
    checks.in_range("scale", scale, 0, open_low=True)
    _check_finite(image, "normalising")
    array = image.array_ZxYxX
    if array.min() == array.max():
        return image.of(np.zeros(array.shape))
    done = volumes.simpleitk().Normalize(volumes.to_image(image))
    array = volumes.from_image(done).array_ZxYxX
    if outliers is not None:
        checks.in_range("outliers", outliers, 0, open_low=True)
        array = np.clip(array, -outliers, outliers)
    return image.of(array * array.dtype.type(scale))


def resample(
    image: Volume,
    region: Volume,
    spacing: Sequence[float],
    *,
    interpolator: str = "sitkBSpline",
    pad: int = 5,
) -> tuple[Volume, Volume]:
    """Image and region on a grid of another spacing, around the region.

    The grid has the direction of the region's; its corner is that of the
    region's first voxel. A region of one slice keeps its spacing across it.
    Where the image has the spacing already, both are cut out and no more.

    Args:
        image: any real dtype, which stays.
        region: bool, maybe on another grid.
        spacing: mm along (z, y, x); 0 keeps that of the region.
        interpolator: of the image, one of `INTERPOLATORS`; the region takes the
            nearest voxel.
        pad: voxels of the new grid that are kept around the region.

    Returns:
        Image and region on one grid.

    Raises:
        UsageError: for a region beyond the image, or of which nothing is left.
    """
    checks.choice("interpolator", interpolator, INTERPOLATORS)
    checks.whole("pad", pad, 0)
    wanted = np.asarray(spacing, float)
    if wanted.shape != (3,):
        raise checks.UsageError(
            f"spacing is {spacing}, but must be three numbers, mm along"
            " (z, y, x)."
        )
    checks.in_range("spacing", wanted, 0)
    _check_finite(image, "resampling")
    volumes.check_inside(image, region)
    low, high = volumes.box(region.array_ZxYxX)
    keeps = (wanted == 0) | (low == high)
    step = np.where(keeps, region.spacing, wanted)
    if np.allclose(image.spacing, step):
        if volumes.differences(image, region):
            region = volumes.onto(region, image)
        return crop(image, region, pad)
    ratio = region.spacing / step
    first = np.maximum(np.floor((low - 0.5) * ratio - pad), 0)
    last = np.ceil((high + 0.5) * ratio + pad)
    size = region.array_ZxYxX.shape
    last = np.minimum(last, np.ceil(np.array(size) * ratio) - 1)
    # In voxels of the region's grid: its corner lies half of one before 0.
    start = 0.5 * (step - region.spacing) / region.spacing + first / ratio
    grid = (step, start, (last - first + 1).astype(int))
    moved = _onto_grid(image, region, grid, interpolator)
    put = _onto_grid(region, region, grid, "sitkNearestNeighbor")
    put = put.of(put.array_ZxYxX > 0)
    if not put.array_ZxYxX.any():
        raise checks.UsageError(
            f"no voxel of the region is left at a spacing of"
            f" {volumes.shown(step)} mm; take a finer one."
        )
    return moved, put


def _onto_grid(
    volume: Volume,
    frame: Volume,
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    interpolator: str,
) -> Volume:
    """On a grid of (spacing, first voxel, size) in the frame of a volume."""
    step, start, size = (part[::-1][: frame.dimensions] for part in grid)
    sitk, of_frame = volumes.simpleitk(), volumes.to_image(frame)
    image = volumes.to_image(volume)
    origin = of_frame.TransformContinuousIndexToPhysicalPoint(start.tolist())
    moving = sitk.ResampleImageFilter()
    moving.SetOutputSpacing(step.tolist())
    moving.SetOutputDirection(of_frame.GetDirection())
    moving.SetOutputOrigin(origin)
    moving.SetSize(size.tolist())
    moving.SetOutputPixelType(image.GetPixelID())
    moving.SetInterpolator(getattr(sitk, interpolator))
    return volumes.from_image(moving.Execute(image))


def crop(image: Volume, region: Volume, pad: int = 0) -> tuple[Volume, Volume]:
    """What lies around a region, of an image on the same grid.

    Args:
        image: cut out.
        region: bool, cut out alike.
        pad: voxels that are kept around the region, where there are some.
    """
    low, high = volumes.box(region.array_ZxYxX)
    first = np.maximum(low - pad, 0)
    last = np.minimum(high + pad, np.array(region.array_ZxYxX.shape) - 1)
    part = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    shift = image.direction @ (image.spacing * first)[::-1]
    cut = [
        volume._replace(
            array_ZxYxX=volume.array_ZxYxX[part], origin=image.origin + shift
        )
        for volume in (image, region)
    ]
    return cut[0], cut[1]


def resegment(
    image: Volume,
    region: Volume,
    limits: Sequence[float],
    mode: str = "absolute",
) -> Volume:
    """The voxels of a region whose intensities lie within limits, both closed.

    Args:
        image: on the grid of the region.
        region: bool.
        limits: the lower one, or both, in any order.
        mode: "absolute", in units of the image; "relative", in parts of the
            largest intensity of the region; "sigma", in its standard
            deviations from its mean.

    Raises:
        UsageError: if fewer than two voxels are left.
    """
    checks.choice("mode", mode, RESEGMENT_MODES)
    if len(limits) not in (1, 2):
        raise checks.UsageError(
            f"limits are {list(limits)}, but must be [lower] or [lower, upper]."
        )
    inside = image.array_ZxYxX[region.array_ZxYxX]
    centre, unit = {
        "absolute": (0, 1),
        "relative": (0, inside.max()),
        "sigma": (inside.mean(), inside.std()),
    }[mode]
    bounds = [centre + unit * limit for limit in sorted(limits)]
    kept = region.array_ZxYxX & (image.array_ZxYxX >= bounds[0])
    if len(bounds) == 2:
        kept &= image.array_ZxYxX <= bounds[1]
    if kept.sum() < 2:
        raise checks.UsageError(
            f"{kept.sum()} of {inside.size} voxels lie within"
            f" {volumes.shown(bounds)}, where the region spans"
            f" {volumes.shown((inside.min(), inside.max()))}; widen the limits."
        )
    return region.of(kept)


def _check_finite(image: Volume, what: str) -> None:
    array = image.array_ZxYxX
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise checks.UsageError(
            f"the image holds {bad} NaN or infinite values, which {what} would"
            " spread; put a number in their place."
        )
