"""Reading and writing volumes, with the faults that SimpleITK reads over.

It fills what is cut off a NIfTI file with zeros, reads on in a compressed file
that is damaged (`volume_streams`), and stacks whatever slices a folder of DICOM
files has.
"""

from collections.abc import Iterator
import contextlib
import gzip
import logging
import math
from pathlib import Path
import struct
from typing import Any
import zlib

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import volume_streams
from jaxedge.data.volume_images import (
    Volume,
    from_image,
    make,
    shown,
    simpleitk,
    to_image,
)

# Spacings outside of these are seldom in millimetres.
_USUAL = (0.01, 50.0)
# Of its spacing, a slice may lie so far from its place.
_UNEVEN = 0.01
# Of NIfTI-1 and -2: byte order apart, where the header tells what
# (nifti1.h, nifti2.h): struct format of the dimensions, and their offset;
# offset of the bits a voxel; struct format and offset of the data's place.
_HEADERS = {
    348: ("8h", 40, 72, "f", 108),
    540: ("8q", 16, 14, "q", 168),
}
_CHUNK = 1 << 22

_log = logging.getLogger(__name__)


def read(
    path: str | Path, *, key: str = "image", channel: int | None = None
) -> Volume:
    """A volume from a file, or from a folder with one DICOM series.

    Args:
        path: NRRD, NIfTI, MetaImage, DICOM, ..., or .npz.
        key: array of a .npz, "image" or "mask".
        channel: of an image with several numbers a voxel.

    Returns:
        The volume, of the dtype that the file has.

    Raises:
        UsageError: for a missing or damaged file, several series, slices that
            are missing, several numbers a voxel without `channel`, or more than
            three axes.
    """
    path = Path(path)
    if not path.exists():
        raise checks.UsageError(f"{path} is missing; check the path.")
    if path.suffix == ".npz":
        return _read_npz(path, key)
    sitk = simpleitk()
    if path.is_dir():
        _check_folder(sitk, path)
    else:
        _check_nifti(path)
        volume_streams.check(path)
    with _quiet(sitk):
        image = _image(sitk, path)
    image = _channel(sitk, image, channel, path)
    try:
        volume = from_image(image)
    except checks.UsageError as error:
        raise checks.UsageError(f"{path}: {error}") from None
    low, high = _USUAL
    if volume.spacing.min() < low or volume.spacing.max() > high:
        _log.warning(
            "%s has a spacing of %s mm (z, y, x); is it in millimetres?",
            path,
            shown(volume.spacing),
        )
    return volume


def write(path: str | Path, volume: Volume) -> None:
    """Writes a volume, in one step, in the format of the file's name.

    Args:
        path: ends with .nrrd, .nii, .nii.gz, .mha or .npz. A bool array is
            stored as bytes of 0 and 1, and in a .npz as its "mask".
        volume: what is stored.

    Raises:
        UsageError: for another ending, or a folder that cannot be written to.
    """
    path = Path(path)
    if not path.name.endswith((".nrrd", ".nii", ".nii.gz", ".mha", ".npz")):
        raise checks.UsageError(
            f"{path} has no known ending; name it .nrrd, .nii, .nii.gz, .mha or"
            " .npz."
        )
    # The format is told by the ending, so this goes in front.
    temporary = path.with_name(f".partial-{path.name}")
    try:
        if path.suffix == ".npz":
            _write_npz(temporary, volume)
        else:
            image = to_image(volume)
            simpleitk().WriteImage(image, str(temporary), True)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise checks.UsageError(
            f"{path} cannot be written ({_reason(error)}); choose a folder that"
            " exists and has room."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _image(sitk: Any, path: Path) -> Any:
    try:
        if not path.is_dir():
            return sitk.ReadImage(str(path))
        return sitk.ReadImage(_slices(sitk, path))
    except (RuntimeError, OSError) as error:
        raise checks.UsageError(
            f"{path} is no readable volume ({_reason(error)}); fetch or export"
            " it again. Read are NRRD, NIfTI, MetaImage, DICOM images (no"
            " RTSTRUCT) and .npz."
        ) from None


def _channel(sitk: Any, image: Any, channel: int | None, path: Path) -> Any:
    """The image itself, or one of several numbers a voxel."""
    n = image.GetNumberOfComponentsPerPixel()
    # Of a complex number both parts count as one.
    if n == 1 or "complex" in image.GetPixelIDTypeAsString():
        return image
    if channel is None:
        raise checks.UsageError(
            f"{path} has {n} numbers a voxel, as colours and overlapping"
            " regions have; choose one with channel (for a mask, label_channel"
            " in the parameter file)."
        )
    checks.whole("channel", channel, 0)
    checks.in_range(f"channel of {path}", channel, 0, n - 1)
    return sitk.VectorIndexSelectionCast(image, channel)


def _read_npz(path: Path, key: str) -> Volume:
    try:
        stored = npz.load(path)
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} is no readable .npz ({_reason(error)}); store it again."
        ) from None
    if lacking := sorted({key, "spacing_xyz"} - {*stored}):
        raise checks.UsageError(
            f"{path} holds {', '.join(sorted(stored))}, but lacks"
            f" {', '.join(lacking)}; store the array under that name."
        )
    if stored[key].dtype.kind not in "biuf":
        raise checks.UsageError(
            f"{path} holds {stored[key].dtype}, but must hold real numbers."
        )
    try:
        return make(
            stored[key],
            np.flip(stored["spacing_xyz"]),
            stored.get("origin_xyz", np.zeros(3)),
            stored.get("direction"),
        )
    except checks.UsageError as error:
        raise checks.UsageError(f"{path}: {error}") from None


def _write_npz(path: Path, volume: Volume) -> None:
    array = volume.array_ZxYxX
    arrays = {
        "mask" if array.dtype == bool else "image": (
            array if volume.dimensions == 3 else array[0]
        ),
        "spacing_xyz": volume.spacing[::-1],
        "origin_xyz": volume.origin,
        "direction": volume.direction,
    }
    np.savez_compressed(path, **arrays)


@contextlib.contextmanager
def _quiet(sitk: Any) -> Iterator[None]:
    """Without ITK's warnings on the console: what matters is checked here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _reason(error: Exception) -> str:
    """The last line of a long story."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _check_nifti(path: Path) -> None:
    """Raises if a NIfTI file is shorter than its header says.

    Args:
        path: any file; only .nii and .nii.gz are looked at.

    Raises:
        UsageError: naming the file.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            needed = _needed(file.read(544))
            file.seek(0)
            size = 0
            while part := file.read(_CHUNK):
                size += len(part)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _damaged(path, reason) from None
    if needed is None:
        raise _damaged(path, "it has no header of NIfTI")
    if size < needed:
        raise _damaged(path, f"{size} bytes, where {needed} are needed")


def _needed(head: bytes) -> int | None:
    """Bytes of the whole file, None if this is no header."""
    for order in "<>":
        (kind,) = struct.unpack_from(f"{order}i", head)
        if kind in _HEADERS:
            dims, at, bits, place, start = _HEADERS[kind]
            n, *sizes = struct.unpack_from(order + dims, head, at)
            (each,) = struct.unpack_from(f"{order}h", head, bits)
            (first,) = struct.unpack_from(order + place, head, start)
            if not math.isfinite(first):
                raise ValueError(f"its data begin at byte {first}")
            voxels = math.prod(max(s, 1) for s in sizes[:n])
            return int(first) + voxels * each // 8
    return None


def _damaged(path: Path, reason: str) -> checks.UsageError:
    return checks.UsageError(
        f"{path} is no whole NIfTI file ({reason}); fetch it again."
    )


def _slices(sitk: Any, folder: Path) -> tuple[str, ...]:
    """Files of the one DICOM series of a folder, in order along the patient.

    Raises:
        UsageError: for none or several.
    """
    reader = sitk.ImageSeriesReader
    known = reader.GetGDCMSeriesIDs(str(folder))
    if not known:
        raise checks.UsageError(
            f"{folder} holds no DICOM series; give a file, or the folder with"
            " the series itself."
        )
    files = {
        one: reader.GetGDCMSeriesFileNames(str(folder), one) for one in known
    }
    if len(known) > 1:
        told = "; ".join(f"{k} ({len(v)} files)" for k, v in files.items())
        raise checks.UsageError(
            f"{folder} holds {len(known)} DICOM series: {told}. Put one of them"
            " into a folder of its own."
        )
    return files[known[0]]


def _check_folder(sitk: Any, folder: Path) -> None:
    """Raises unless the slices of a DICOM series are evenly spaced.

    Raises:
        UsageError: as `slices`, or naming the gap.
    """
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        files = _slices(sitk, folder)
        places = [_place(sitk, file) for file in files]
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
    if len(files) < 3 or any(place is None for place in places):
        return
    steps = np.diff(np.array(places, float))
    step = np.median(steps)
    worst = int(np.argmax(np.abs(steps - step)))
    if abs(steps[worst] - step) > _UNEVEN * abs(step):
        raise checks.UsageError(
            f"{folder}: slices lie {step:.6g} mm apart, but"
            f" {Path(files[worst]).name} and {Path(files[worst + 1]).name}"
            f" {steps[worst]:.6g} mm; add the missing slices, or take out what"
            " is there twice."
        )


def _place(sitk: Any, file: str) -> float | None:
    """Of a slice along its normal, mm; None if the file does not tell."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise checks.UsageError(
            f"{file} is no readable DICOM file ({reason}); export it again."
        ) from None
    position, axes = "0020|0032", "0020|0037"
    if not all(reader.HasMetaDataKey(key) for key in (position, axes)):
        return None
    at = np.array(reader.GetMetaData(position).split("\\"), float)
    row, column = np.array(reader.GetMetaData(axes).split("\\"), float).reshape(
        2, 3
    )
    return float(np.cross(row, column) @ at)
