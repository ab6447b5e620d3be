"""Volumes: arrays with a place in the patient, and images of SimpleITK.

Arrays are [Z, Y, X], the slowest axis first, as SimpleITK hands them out; the
frame of the patient is (x, y, z) in millimetres, as in the files.
"""

import importlib
import math
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks


class Volume(NamedTuple):
    """An array and where its voxels lie.

    Attributes:
        array_ZxYxX: any real dtype, as in the file; bool for a region.
        spacing: [3] float64, mm between voxels along (z, y, x).
        origin: [3] float64, mm along (x, y, z): the centre of voxel (0, 0, 0).
        direction: [3, 3] float64, unit columns: where (x, y, z) of the array
            point to in the frame of the patient.
        dimensions: 3, or 2 for a picture, which has Z = 1.
    """

    array_ZxYxX: np.ndarray
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray
    dimensions: int = 3

    def of(self, array_ZxYxX: np.ndarray) -> "Volume":
        """Another array of the same shape at the same place."""
        return self._replace(array_ZxYxX=array_ZxYxX)


def make(
    array: Any,
    spacing: Any = (1.0, 1.0, 1.0),
    origin: Any = (0.0, 0.0, 0.0),
    direction: Any = None,
) -> Volume:
    """A volume from an array.

    Args:
        array: [Z, Y, X], or [Y, X] for a picture.
        spacing: mm along (z, y, x).
        origin: mm along (x, y, z).
        direction: [3, 3]; None for the identity.

    Raises:
        UsageError: for another number of axes, a spacing that is none, or a
            place that is no number.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3):
        raise checks.UsageError(
            f"a volume has the axes (z, y, x), but the array has the shape"
            f" {array.shape}; take out one volume."
        )
    spacing = _numbers("spacing (mm)", spacing, (3,))
    checks.in_range("spacing (mm)", spacing, 0, open_low=True)
    eye = np.eye(3) if direction is None else direction
    return Volume(
        array if array.ndim == 3 else array[None],
        spacing,
        _numbers("origin (mm)", origin, (3,)),
        _numbers("direction", eye, (3, 3)),
        array.ndim,
    )


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers in that shape, float64."""
    try:
        found = np.asarray(value, float).reshape(shape)
    except (TypeError, ValueError):
        raise checks.UsageError(
            f"{name} is {value!r}, but must be {math.prod(shape)} numbers."
        ) from None
    checks.in_range(name, found)
    return found


def simpleitk() -> Any:
    """The module SimpleITK.

    Raises:
        UsageError: where it is not installed.
    """
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise checks.UsageError(
            "medical files are read with SimpleITK, which cannot be imported"
            f' ({error}); pip install "jaxedge[medical]".'
        ) from None


def to_image(volume: Volume) -> Any:
    """The volume as an image of SimpleITK."""
    sitk = simpleitk()
    n, array = volume.dimensions, volume.array_ZxYxX
    if array.dtype == bool:
        array = array.astype(np.uint8)
    image = sitk.GetImageFromArray(array if n == 3 else array[0])
    image.SetSpacing(volume.spacing[::-1][:n].tolist())
    image.SetOrigin(volume.origin[:n].tolist())
    image.SetDirection(volume.direction[:n, :n].ravel().tolist())
    return image


def from_image(image: Any) -> Volume:
    """The volume that an image of SimpleITK is.

    Raises:
        UsageError: for other than two or three axes, or complex numbers.
    """
    n = image.GetDimension()
    if n not in (2, 3):
        raise checks.UsageError(
            f"it has {n} axes of the sizes {image.GetSize()}; take out one"
            " volume."
        )
    array = simpleitk().GetArrayFromImage(image)
    if array.dtype.kind not in "biuf":
        raise checks.UsageError(
            f"it holds numbers of the type {array.dtype}; take their magnitude."
        )
    direction = np.eye(3)
    direction[:n, :n] = np.reshape(image.GetDirection(), (n, n))
    origin = [*image.GetOrigin(), 0.0][:3]
    spacing = [*image.GetSpacing(), 1.0][:3]
    made = make(array, spacing[::-1], origin, direction)
    return made


def shown(numbers: Any) -> str:
    """Numbers in brackets, for a message."""
    return f"({', '.join(f'{v:.9g}' for v in np.ravel(numbers))})"
