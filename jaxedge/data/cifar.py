"""What CIFAR-10 and CIFAR-100 share (Krizhevsky 2009): files, images, splits.

In both, an image is its red, green and blue planes of 32 x 32 by rows.

Letters: N images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import pickles

PLANES = 3 * 32 * 32  # Bytes of an image.


def folder(root: Path, parent: str, names: Sequence[str]) -> Path | None:
    """The first of some folders that is there, in `parent` or at the root."""
    places = (place / name for name in names for place in (root / parent, root))
    return next((place for place in places if place.is_dir()), None)


def content(path: Path) -> bytes:
    """All of a file.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error.strerror}); check the path and its"
            " permissions."
        ) from error


def unpickled(
    path: Path, pickled: bytes, names: Sequence[str], of: str
) -> list[Any]:
    """Entries of a pickled dictionary of Python 2, texts as bytes.

    Args:
        path: of the file, for messages.
        pickled: its content.
        names: of the entries.
        of: the data set, likewise.

    Raises:
        UsageError: if it is no such dictionary.
    """
    try:
        found = pickles.load(pickled, encoding="bytes")
        return [found[name.encode()] for name in names]
    except pickles.DAMAGED as error:
        reason = f"{type(error).__name__}: {npz.reason(error)}"
        raise bad(
            path, f"is no pickle with {', '.join(names)} ({reason})", of
        ) from None


def records(path: Path, labels: int, rows: int, of: str) -> np.ndarray:
    """Records of the binary version, [N, labels + 3072] uint8.

    Args:
        path: of the file.
        labels: of each image, a byte each.
        rows: N.
        of: the data set, for messages.

    Raises:
        UsageError: if the file is missing or of another size.
    """
    found, size = np.frombuffer(content(path), np.uint8), labels + PLANES
    if found.size != rows * size:
        raise bad(
            path, f"has {found.size:,} bytes instead of {rows * size:,}", of
        )
    return found.reshape(rows, size)


def images(planes: np.ndarray) -> np.ndarray:
    """Planes [N, 3072] uint8 as images [N, 32, 32, 3] float32 in [0, 1]."""
    planes_NxCxHxW = planes.reshape(-1, 3, 32, 32)
    x_NxHxWxC = np.ascontiguousarray(
        planes_NxCxHxW.transpose(0, 2, 3, 1), np.float32
    )
    x_NxHxWxC /= 255
    return x_NxHxWxC


def part(split: str, rows: int) -> slice:
    """Rows of a split; the last tenth of the training images is "valid"."""
    start = rows - rows // 10
    parts = {"train": slice(0, start), "valid": slice(start, rows)}
    return parts.get(split, slice(0, rows))


def bad(path: Path, fault: str, of: str) -> checks.UsageError:
    """An error for a file that holds something else."""
    return checks.UsageError(
        f"{path} {fault}; replace it with an intact copy of {of}'s."
    )
