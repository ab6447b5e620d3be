"""NRRD and MetaImage files: their heads, and voxels against their checksums.

SimpleITK reads on where a compressed stream differs from its checksum, so that
a flipped bit costs a thousand voxels without a word. It ends the process where
a line of an NRRD head is long and means nothing to it, and where the name of a
MetaImage's voxels has a mark of printf or is no text. Seen in 2.5.7. Sources:
the definition of the NRRD file format (fields `encoding` and `data file`) and
that of MetaImage (`CompressedData`, `ElementDataFile`); RFC 1950 and 1952 of
the checksums.
"""

from pathlib import Path
import re
from typing import IO, NamedTuple
import zlib

from jaxedge.core import checks, npz

# Longest head, in bytes, that is looked through.
_HEAD = 1 << 20
_CHUNK = 1 << 22
# A stream of zlib or of gzip, told by how it begins.
_EITHER = 32 + zlib.MAX_WBITS
# Longest line of an NRRD head; those of any text are marked so.
_LINE, _TEXT = 500, re.compile(rb"#|content:|[^:]*:=")
# The name of voxels in a file a slice.
_SLICES = re.compile(rb"[^%]*%\d*d[^%]*")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_NRRD, _META = (".nrrd", ".nhdr"), (".mha", ".mhd")


class _Stream(NamedTuple):
    """Where compressed voxels are.

    Attributes:
        path: of the file.
        start: their first byte.
    """

    path: Path
    start: int


def check(path: Path) -> None:
    """Raises if the head or the compressed voxels of a file are damaged.

    Args:
        path: any file; only .nrrd, .nhdr, .mha and .mhd are looked at, and of
            their voxels those that zlib or gzip has packed in one file.

    Raises:
        UsageError: naming the file.
    """
    kind = path.suffix.lower()
    if kind not in (*_NRRD, *_META):
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        found = (_of_nrrd if kind in _NRRD else _of_meta)(path, head)
        if found is None or not found.path.is_file():
            return  # SimpleITK says what is missing.
        with found.path.open("rb") as file:
            file.seek(found.start)
            _unpack(file)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(
            path, f"its voxels cannot be unpacked ({npz.reason(error)})"
        ) from None


def _of_nrrd(path: Path, head: bytes) -> _Stream | None:
    end = re.search(rb"\r?\n\r?\n", head)
    lines = head[: end.start() if end else None]
    for line in lines.splitlines():
        if len(line) > _LINE and not _TEXT.match(line):
            raise _damaged(path, f"its head has a line of {len(line):,} bytes")
    fields = _fields(lines, ":")
    if fields.get("encoding", "").lower() not in ("gzip", "gz"):
        return None
    name = fields.get("data file", fields.get("datafile"))
    if "line skip" in fields or "lineskip" in fields:
        return None
    if name is not None:  # Several files have no checksum of their own here.
        return _Stream(path.parent / name, 0)
    return _Stream(path, end.end()) if end else None


def _of_meta(path: Path, head: bytes) -> _Stream | None:
    last = re.search(rb"^ElementDataFile *= *(.*?) *(?:\r?\n|\Z)", head, re.M)
    if last is None:
        return None
    name = last.group(1)
    odd = b"%" in name and not _SLICES.fullmatch(name)
    if odd or len(name) > _LINE or _NO_TEXT.search(name):
        raise _damaged(path, f"its voxels are in {name[:40]!r}")
    fields = _fields(head[: last.start()], "=")
    if fields.get("compresseddata", "").lower() not in ("true", "t", "1"):
        return None
    if name.upper() == b"LOCAL":
        return _Stream(path, last.end())
    return _Stream(path.parent / name.decode("utf-8", "replace"), 0)


def _fields(head: bytes, mark: str) -> dict[str, str]:
    """Names in small letters, and what they are."""
    lines = head.decode("utf-8", "replace").splitlines()
    parts = [line.partition(mark) for line in lines]
    return {
        name.strip().lower(): value.strip() for name, found, value in parts
        if found
    }  # fmt: skip


def _damaged(path: Path, fault: str) -> checks.UsageError:
    return checks.UsageError(
        f"{path} is damaged: {fault}; fetch or export it again."
    )


def _unpack(file: IO[bytes]) -> None:
    """Raises unless a stream is whole and is what its checksum says."""
    stream = zlib.decompressobj(_EITHER)
    while not stream.eof:
        part = file.read(_CHUNK)
        if not part:
            raise EOFError("it ends before its end")
        while part and not stream.eof:
            stream.decompress(part, _CHUNK)
            part = stream.unconsumed_tail


__all__ = ["check"]
