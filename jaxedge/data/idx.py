"""The IDX format of the MNIST family: an array of bytes with a short header.

The header is big-endian: two zero bytes, a type code, the number of axes, then
four bytes an axis. Source: "The MNIST database", section "File formats".
"""

import gzip
import os
from pathlib import Path
import zlib

import numpy as np

from jaxedge.core import checks

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08


def read(path: str | os.PathLike[str], axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped (told by its content).

    Args:
        path: the file.
        axes: how many axes the array must have; 3 for images, 1 for labels.

    Returns:
        The array, uint8, with the shape that the header states.

    Raises:
        UsageError: if the file is missing, cut short, corrupt, of another
            type or rank, empty, or longer than its header says.
    """
    path = Path(path)
    content = _content(path)
    header = 4 + 4 * axes
    if len(content) < 4 or content[:2] != b"\0\0":
        raise _bad(path, f"is no IDX file: it starts with {content[:4]!r}")
    if content[2] != UNSIGNED_BYTE:
        raise _bad(
            path,
            f"holds IDX type 0x{content[2]:02x}, but must hold unsigned bytes"
            f" (0x{UNSIGNED_BYTE:02x})",
        )
    if content[3] != axes:
        raise _bad(path, f"has {content[3]} axes, but must have {axes}")
    if len(content) < header:
        raise _bad(path, f"ends within its header of {header} bytes")
    # Python integers: a corrupt header may state more than int64 can hold.
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, 4))
    return _payload(path, content, header, shape)


def _payload(
    path: Path, content: bytes, header: int, shape: tuple[int, ...]
) -> np.ndarray:
    wanted, found = 1, len(content) - header
    for n in shape:
        wanted *= n
    if wanted == 0:
        raise _bad(path, f"states the shape {shape}, which is empty")
    if found != wanted:
        fault = "is cut short" if found < wanted else "has trailing bytes"
        raise _bad(
            path,
            f"{fault}: its header states {shape}, {wanted} bytes, but"
            f" {found} follow",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    """All bytes of the file, unpacked if it is gzipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error.strerror}); check the path and its"
            " permissions."
        ) from error
    if content[:2] != GZIP_MAGIC:
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise _bad(path, "is a gzip file that is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _bad(path, f"is a corrupt gzip file ({error})") from error


def _bad(path: Path, fault: str) -> checks.UsageError:
    return checks.UsageError(
        f"{path} {fault}; replace it with an intact copy of the file."
    )
