"""Results of chips on disk: streams that grow, archives that are finished."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
import zipfile
import zlib

import numpy as np

from jaxedge.core import checks, npz


class Stream:
    """Scores of chips 0, 1, ... in a file that is valid at any moment.

    A line of JSON for each chunk of chips, with a checksum. Whatever follows
    the first line that is cut, damaged or out of order counts as not written,
    so that a process killed at any time loses the line under way at most.

    Args:
        path: file; need not exist.
    """

    def __init__(self, path: Path):
        self._path = path
        self._next = 0

    def count(self) -> int:
        """Chips that are on disk."""
        return sum(len(chunk) for chunk, _ in self._chunks())

    def read(self, n: int) -> np.ndarray:
        """The first `n` chips or as many as there are, [<= n]."""
        found, missing = [np.zeros(0, np.float32)], n
        for chunk, _ in self._chunks():
            found.append(chunk[:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found)

    def append(self, score: np.ndarray) -> None:
        """Adds the next chips, [c]; call `mend` once before the first."""
        with self._path.open("ab") as file:
            file.write(_line(self._next, score))
        self._next += len(score)

    def mend(self) -> int:
        """Cuts off what is damaged; returns the number of chips left."""
        chips = end = 0
        for chunk, after in self._chunks():
            chips, end = chips + len(chunk), after
        if self._path.exists() and self._path.stat().st_size > end:
            os.truncate(self._path, end)
        self._next = chips
        return chips

    def _chunks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Sound chunks, and where in the file each of them ends."""
        if not self._path.is_file():
            return
        chips = end = 0
        with self._path.open("rb") as file:
            for line in file:
                chunk = _chunk(line, chips)
                if chunk is None:
                    return
                chips, end = chips + len(chunk), end + len(line)
                yield chunk, end


def _line(start: int, score: np.ndarray) -> bytes:
    score = np.asarray(score, np.float32)
    row = {
        "start": start,
        "crc32": zlib.crc32(score.tobytes(), start),  # Of both.
        "score": score.tolist(),
    }
    return json.dumps(row).encode() + b"\n"


def _chunk(line: bytes, start: int) -> np.ndarray | None:
    """The chips of a line, None unless it is sound and the next one."""
    try:
        row = json.loads(line)
        score = np.array(row["score"], np.float32)
        crc = zlib.crc32(score.tobytes(), start)
        whole = line.endswith(b"\n") and score.ndim == 1
        sound = whole and row["crc32"] == crc and row["start"] == start
    except (
        KeyError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        return None
    return score if sound else None


class Rows(NamedTuple):
    """An array that is written row by row: [L, C] float32."""

    shape: tuple[int, int]
    rows: Iterable[np.ndarray]


def write(path: Path, arrays: Mapping[str, np.ndarray | Rows]) -> None:
    """Writes an npz file, row by row, so that a kill leaves the old or the new.

    Args:
        path: of the file.
        arrays: by name; of `Rows` no more than one is held at a time.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    head = np.lib.format.write_array_header_1_0
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    if not isinstance(array, Rows):
                        np.lib.format.write_array(file, np.asarray(array))
                        continue
                    shape = {"descr": "<f4", "fortran_order": False}
                    head(file, {**shape, "shape": array.shape})
                    for row in array.rows:
                        file.write(np.asarray(row, "<f4").tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _array(file: Any, name: str) -> np.ndarray:
    found = file[name]
    if not isinstance(found, np.ndarray):  # Bytes of something else.
        raise ValueError(f"{name} is no array")
    return found


class Archive(Mapping[str, np.ndarray]):
    """The arrays of an npz file, each read when it is asked for.

    Args:
        path: file; there are no arrays if there is none.
        hide: names that are left out.

    Raises:
        UsageError: when the file cannot be read.
    """

    def __init__(self, path: Path, hide: Sequence[str] = ()):
        self._path = path
        names = self._open(lambda file: file.files) if path.is_file() else ()
        self._names = tuple(name for name in names if name not in hide)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._open(lambda file: _array(file, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _open(self, use: Callable[[Any], Any]) -> Any:
        try:
            # Opened here: numpy leaves a file open that is no archive.
            with self._path.open("rb") as file, np.load(file) as arrays:
                return use(arrays)
        except npz.DAMAGED as error:
            raise checks.UsageError(
                f"{str(self._path)!r} cannot be read ({npz.reason(error)});"
                " delete it and repeat `jaxedge chips` with this workdir."
            ) from error
