"""An image and a region made ready for features, as a parameter file says.

The order is that of pyradiomics 3.0.1: normalise, resample or crop, check,
resegment. So is what it does with a resegmented region: the shape is that of
the region before, yet only within the box around the region after.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import volume_filters, volumes
from jaxedge.data.volumes import Volume
from jaxedge.run.radiomics_parameters import Parameters


class Prepared(NamedTuple):
    """An image that is ready for its features.

    Attributes:
        image: normalised, resampled.
        region: bool, whose intensities count.
        shape: bool, whose shape counts.
        read_size: of the image as it was read, (z, y, x).
        read_spacing: likewise, mm.
    """

    image: Volume
    region: Volume
    shape: Volume
    read_size: tuple[int, ...]
    read_spacing: tuple[float, ...]


def read(image: Path, mask: Path, parameters: Parameters) -> Prepared:
    """Reads and prepares a case.

    Raises:
        UsageError: naming what is wrong with the files or the region.
    """
    setting = parameters.setting
    volume = volumes.read(image)
    region = volumes.read_region(
        mask, label=setting["label"], channel=setting["label_channel"]
    )
    return prepare(volume, region, parameters)


def prepare(image: Volume, region: Volume, parameters: Parameters) -> Prepared:
    """An image and a region, maybe on another grid, made ready.

    Raises:
        UsageError: naming what is wrong with them.
    """
    setting = parameters.setting
    as_read = image.array_ZxYxX.shape, tuple(image.spacing.tolist())
    tolerance = setting["geometryTolerance"] or volumes.TOLERANCE
    asked = setting["correctMask"]
    spacing = setting["resampledPixelSpacing"]
    # Without an interpolator pyradiomics does not resample either.
    how = setting["interpolator"]
    moves = spacing is not None and how is not None
    if not (moves and asked):
        region = volumes.fitted(
            image, region, resample=asked, tolerance=tolerance
        )
    if setting["normalize"]:
        image = volume_filters.normalise(
            image,
            scale=setting["normalizeScale"],
            outliers=setting["removeOutliers"],
        )
    if moves:
        image, region = volume_filters.resample(
            image,
            region,
            _zyx(spacing, image.dimensions),
            interpolator=how or "",
            pad=setting["padDistance"],
        )
    elif setting["preCrop"]:
        image, region = volume_filters.crop(
            image, region, setting["padDistance"]
        )
    _check_size(region, setting)
    volumes.check_region(image, region)
    if setting["resegmentRange"] is None:
        return Prepared(image, region, region, *as_read)
    kept = volume_filters.resegment(
        image, region, setting["resegmentRange"], setting["resegmentMode"]
    )
    _check_size(kept, setting)
    shape = kept if setting["resegmentShape"] else region
    within = np.zeros(shape.array_ZxYxX.shape, bool)
    low, high = volumes.box(kept.array_ZxYxX)
    within[tuple(map(slice, low, high + 1))] = True
    shape = shape.of(shape.array_ZxYxX & within)
    return Prepared(image, kept, shape, *as_read)


def _check_size(region: Volume, setting: Mapping[str, Any]) -> None:
    low, high = volumes.box(region.array_ZxYxX)
    extended = int((high > low).sum())
    voxels, least = int(region.array_ZxYxX.sum()), setting["minimumROISize"]
    if extended < setting["minimumROIDimensions"] and voxels > 1:
        raise checks.UsageError(
            f"the region is more than one voxel wide along {extended} axes, but"
            f" minimumROIDimensions is {setting['minimumROIDimensions']}; mark"
            " more, or lower it."
        )
    if least is not None and voxels <= least:
        raise checks.UsageError(
            f"the region has {voxels} voxels, but must have more than"
            f" minimumROISize, {least}; mark more, or lower it."
        )


def _zyx(spacing: Any, dimensions: int) -> list[float]:
    """Of a parameter file, which has (x, y, z); 0 keeps."""
    if len(spacing) != dimensions:
        raise checks.UsageError(
            f"resampledPixelSpacing is {list(spacing)}, but the image has"
            f" {dimensions} axes; give one number each, x first."
        )
    return [*[0.0] * (3 - dimensions), *spacing[::-1]]
