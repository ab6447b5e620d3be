"""Damaged copies of files, each of a number; used by `reproduce_fuzz`."""

from collections.abc import Callable, Sequence
import contextlib
import gzip
import io
import re
from typing import Literal, NamedTuple
import zipfile
import zlib

import numpy as np

# Where most formats have their sizes.
_HEAD = 64
_WORDS = (
    b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"99999999999999999999",
    b"9" * 400, b"1e-999", b"null", b"true", b"[]", b"{}", b'""', b"-0.0",
    b"0x_", b"2001-99-99", b"{[a]: b}", b"[" * 100_000, b"*a", b"&a [*a]",
    b"!!python/object:os.system", b"\xff\xfe", b"\x00", "\u0663".encode(),
)  # fmt: skip
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"


class Made(NamedTuple):
    """An input.

    Attributes:
        file: which of the files of its format is damaged.
        content: of that file.
    """

    file: int
    content: bytes


def made(reader: str, number: int, sound: Sequence[bytes]) -> Made:
    """The input of a number.

    Args:
        reader: whose input it is.
        number: any; the same one makes the same input.
        sound: the files of the format.
    """
    rng = np.random.default_rng([zlib.crc32(reader.encode()), number])
    file = int(rng.integers(len(sound)))
    content = sound[file]
    for _ in range(int(rng.choice([1, 2, 4], p=[0.7, 0.2, 0.1]))):
        content = _changed(content, rng)
    return Made(file, content)


def _changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Damaged once, most often within what is packed."""
    if rng.random() < 0.7:
        if content.startswith(_ZIP):
            with contextlib.suppress(Exception):  # Damaged before: as it is.
                return _within_zip(content, rng)
        if content.startswith(_GZIP):
            with contextlib.suppress(Exception):
                inner = _changed(gzip.decompress(content), rng)
                return gzip.compress(inner, 1, mtime=0)
    return _DAMAGE[int(rng.integers(len(_DAMAGE)))](content, rng)


def _within_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """One member is damaged, and has a checksum of what it is then."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        names = old.namelist()
        chosen = names[int(rng.integers(len(names)))]
        with zipfile.ZipFile(packed, "w") as new:
            for name in names:
                inner = old.read(name)
                new.writestr(
                    zipfile.ZipInfo(name),
                    _changed(inner, rng) if name == chosen else inner,
                )
    return packed.getvalue()


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if out else 0):
        out[_at(out, rng)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content) + 1))]


def _twice(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _part(content, rng)
    return content[:end] + content[start:]


def _without(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _part(content, rng)
    return content[:start] + content[end:]


def _swapped(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _part(content, rng)
    middle = (start + end) // 2
    return (
        content[:start]
        + content[middle:end]
        + content[start:middle]
        + content[end:]
    )


def _extreme(content: bytes, rng: np.random.Generator) -> bytes:
    """A number of some bytes becomes one at the end of its range."""
    width = int(rng.choice([1, 2, 4, 8]))
    top, order = 1 << 8 * width - 1, _ORDERS[int(rng.integers(2))]
    whole = (0, 1, top - 1, top, 2 * top - 1, 2 * top - 2, 1 << 4 * width)
    values = [n.to_bytes(width, order) for n in whole]
    if width > 2:
        kind = f"{'<' if order == 'little' else '>'}f{width}"
        values += [
            np.array(x, kind).tobytes() for x in (np.nan, np.inf, -1.0, 3e38)
        ]
    out, at = bytearray(content), _at(content, rng)
    out[at : at + width] = values[int(rng.integers(len(values)))]
    return bytes(out[: max(len(content), 1)])


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    """A word or a number of a text becomes something else."""
    found = [m.span() for m in re.finditer(rb"[\w.+-]+", content[:4096])]
    start, end = found[int(rng.integers(len(found)))] if found else (0, 0)
    new = _WORDS[int(rng.integers(len(_WORDS)))]
    return content[:start] + new + content[end:]


def _at(content: Sequence[int], rng: np.random.Generator) -> int:
    """A place, half of the time in the head."""
    most = min(len(content), _HEAD) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(most, 1)))


def _part(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = _at(content, rng)
    return start, min(start + int(rng.integers(1, 65)), len(content))


_DAMAGE: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _twice,
    _without,
    _swapped,
    _extreme,
    _extreme,
    _word,
)


__all__ = ["Made", "made"]
