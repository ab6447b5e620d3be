"""Files of `torch.save`, read without PyTorch and without running anything.

Since PyTorch 1.6 such a file is a zip archive: a pickle, `data.pkl`, that names
the bytes of its tensors, which lie beside it in `data/`.
"""

from collections import OrderedDict
from collections.abc import Sequence
import math
from pathlib import Path
import pickle
from typing import Any
import zipfile

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import pickles

# What the older form begins with.
_OLD = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
_KINDS = {
    "BoolStorage": "?",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "ShortStorage": "<i2",
}


def read(path: Path) -> Any:
    """What a file holds, with numpy arrays in place of tensors.

    Args:
        path: of the file.

    Returns:
        Lists, tuples, dictionaries, numbers and arrays, as they were saved.

    Raises:
        UsageError: for a file that is missing, damaged, of an older or of no
            such form, or that holds more than plain values and arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpickled(archive)
    except (*pickles.DAMAGED, *npz.DAMAGED) as error:
        raise checks.UsageError(
            f"{path} {_fault(path, error)}; write or fetch it again."
        ) from None


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be read."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or npz.reason(error)})"
    if isinstance(error, zipfile.BadZipFile):
        with path.open("rb") as file:
            if file.read(len(_OLD)) == _OLD:
                return "has the form of PyTorch before 1.6"
    return f"is no readable file of torch.save ({npz.reason(error)})"


def _unpickled(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    pickled = [name for name in names if name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise ValueError(f"it holds {len(pickled)} files data.pkl")
    top = pickled[0].removesuffix("data.pkl")
    order = f"{top}byteorder"
    if order in names and archive.read(order).strip() != b"little":
        raise ValueError("its bytes are in another order")

    def storage(pid: Any) -> np.ndarray:
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, np.dtype):
            raise pickle.UnpicklingError(f"it refers to {word!r}")
        found = np.frombuffer(archive.read(f"{top}data/{key}"), kind)
        if len(found) != count:
            raise ValueError(f"tensor {key} has {len(found)} of {count} values")
        return found

    known = {("torch", name): np.dtype(k) for name, k in _KINDS.items()}
    known |= {
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("collections", "OrderedDict"): OrderedDict,
    }
    return pickles.load(
        archive.read(pickled[0]), known=known, persistent=storage
    )


def _tensor(
    values: np.ndarray,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *_: Any,
) -> np.ndarray:
    """A view of stored values; its strides count values."""
    sizes = (offset, *shape, *strides)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise ValueError("a tensor is made of no stored values")
    if not all(type(n) is int for n in sizes):
        raise ValueError("a tensor has sizes that are no whole numbers")
    pairs = list(zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor has negative sizes")
    last = offset + sum((n - 1) * step for n, step in pairs)
    if math.prod(shape) and last >= len(values):
        raise ValueError("a tensor reaches beyond its values")
    if not math.prod(shape):
        return np.zeros(tuple(shape), values.dtype)
    width = values.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        values[offset:], tuple(shape), [step * width for step in strides]
    ).copy()
