"""CIFAR-10: 60,000 photographs of ten classes, 32 x 32 (Krizhevsky 2009).

It is read from a folder of the official archives, in their Python or binary
version, or from lossless WebP sheets, which may hold the first 10,000 training
images alone. Whatever the files, images come in the official order as records
of the binary version: a label, then the red, green and blue planes by rows.

Letters: N images.
"""

from collections.abc import Sequence
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import cifar
from jaxedge.data.source import Source, make_source

OF = "CIFAR-10"

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BATCH_ROWS = 10_000
PARTS = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
# Of the files of the Python version, as torchvision lists them.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# Of the records, whatever file they come from. The sheets hold these two only.
SHA256 = {
    "data_batch_1": (
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
    ),
    "test_batch": (
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
    ),
}
# A sheet has 40 rows of 50 images.
SHEET = (40, 50)


def read(split: str, root: Path) -> Source:
    """CIFAR-10, x [N, 32, 32, 3] float32, pixel / 255 in [0, 1].

    Nothing is normalised here: what a network subtracts and divides by belongs
    to the network.

    Args:
        split: "test" (10,000 images), "train" or "valid". The last tenth of
            the training images that the root holds is "valid": 45,000 and
            5,000 from an official archive; 9,000 and 1,000 from the sheets,
            whose sources are named "cifar10 (first 10,000)".
        root: the folder that holds `cifar10/` with the sheets, or, there or
            at its top, `cifar-10-batches-py/` or `cifar-10-batches-bin/`.

    Returns:
        The source.

    Raises:
        UsageError: if files are missing, damaged or of another data set, or
            if sheets are to be read and Pillow is not installed.
    """
    part = "test" if split == "test" else "train"
    records = np.concatenate(_batches(part, root))
    name = "cifar10"
    if part == "train":
        if len(records) == BATCH_ROWS:
            name = "cifar10 (first 10,000)"
    records = records[cifar.part(split, len(records))]
    return make_source(
        cifar.images(records[:, 1:]),
        records[:, 0],
        classes=CLASSES,
        name=name,
        split=split,
    )


def _batches(part: str, root: Path) -> list[np.ndarray]:
    """Records [10000, 3073] of each batch that the root holds."""
    found = cifar.folder(root, "cifar10", tuple(_VERSIONS))
    if found is not None:
        open_batch = _VERSIONS[found.name]
        return [
            _checked(found, name, open_batch(found, name))
            for name in PARTS[part]
        ]
    folder = root / "cifar10"
    if not any(folder.glob("*.webp")):
        raise checks.UsageError(
            f"{folder} holds no CIFAR-10; put cifar-10-batches-py/ or"
            " cifar-10-batches-bin/ of the official archives there, or the"
            " WebP sheets train_00 to train_04 and test_00 to test_04 with"
            " labels.npz."
        )
    name = PARTS[part][0]
    return [_checked(folder, name, _from_sheets(folder, part))]


def _from_pickle(folder: Path, name: str) -> np.ndarray:
    path = folder / name
    content = cifar.content(path)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[name]:
        raise _bad(path, "does not have the official file's checksum")
    return _records(*cifar.unpickled(path, content, ("labels", "data"), OF))


def _from_binary(folder: Path, name: str) -> np.ndarray:
    return cifar.records(folder / f"{name}.bin", 1, BATCH_ROWS, OF)


_VERSIONS = {
    "cifar-10-batches-py": _from_pickle,
    "cifar-10-batches-bin": _from_binary,
}


def _from_sheets(folder: Path, part: str) -> np.ndarray:
    labels = _labels(folder / "labels.npz", f"{part}_labels")
    images = [_sheet(folder / f"{part}_{i:02d}.webp") for i in range(5)]
    planes = np.concatenate(images).transpose(0, 3, 1, 2)
    return _records(labels, planes.reshape(BATCH_ROWS, -1))


def _sheet(path: Path) -> np.ndarray:
    """The images of a sheet, [2000, 32, 32, 3]."""
    content = cifar.content(path)
    try:
        # Optional: the extra `data`.
        from PIL import Image
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with Pillow, which cannot be imported ({error});"
            " install jaxedge[data]."
        ) from error
    down, across = SHEET
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
        tiles = pixels.reshape(down, 32, across, 32, 3)
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise _bad(path, f"is no sheet of {down} x {across} images") from error
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)


def _labels(path: Path, name: str) -> np.ndarray:
    """The first labels of a part, [10000]."""
    content = cifar.content(path)
    try:
        with np.load(io.BytesIO(content)) as file:
            labels = file[name][:BATCH_ROWS]
    except npz.DAMAGED as error:
        raise _bad(path, f"holds no readable array {name!r}") from error
    if labels.shape != (BATCH_ROWS,):
        raise _bad(path, f"holds {labels.shape} {name} for {BATCH_ROWS} images")
    return labels


def _records(labels: Sequence[int] | np.ndarray, planes: Any) -> np.ndarray:
    """Labels [N] and planes [N, 3072] as records [N, 3073]."""
    column = np.asarray(labels, np.uint8)[:, None]
    return np.concatenate([column, np.asarray(planes, np.uint8)], 1)


def _checked(folder: Path, name: str, records: np.ndarray) -> np.ndarray:
    """The records, if they are those of CIFAR-10 as far as that is known."""
    found = hashlib.sha256(records.tobytes()).hexdigest()
    if found != SHA256.get(name, found):
        raise _bad(folder, f"holds other images or labels than {name}")
    return records


def _bad(path: Path, fault: str) -> checks.UsageError:
    return cifar.bad(path, fault, OF)
