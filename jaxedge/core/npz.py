"""Arrays in files of numpy, read so that all damage is told alike."""

from collections.abc import Sequence
import lzma
from pathlib import Path
import struct
import tokenize
import zipfile
import zlib

import numpy as np

# What a missing, cut or corrupt file raises in numpy and in zipfile: a header
# that is no Python, a shape that no memory holds, a member that says to be
# encrypted or packed in a way that nobody knows.
DAMAGED = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(
    path: Path, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of an archive, without pickled objects.

    Args:
        path: of the .npz file.
        names: which; None reads all.

    Raises:
        One of `DAMAGED`: if it is missing, damaged, or lacks an array. The
            caller knows what it is of.
    """
    # Opened here: numpy leaves a file open that is no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        wanted = archive.files if names is None else names
        found = {name: archive[name] for name in wanted}
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # Bytes of something else.
            raise ValueError(f"{name} is no array")
    return found


def reason(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


__all__ = ["DAMAGED", "load", "reason"]
