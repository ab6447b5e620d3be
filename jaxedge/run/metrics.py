"""Where the numbers of a run go while it runs: a JSONL file, TensorBoard.

A row is one call of `write`: a step and its named scalars, of which `phase`
("train", "valid" or "test") is text. A run resumed from the checkpoint of
step s keeps the rows up to s and writes the later ones anew. So that no row
is lost, write the rows of a step before its checkpoint.
"""

from collections.abc import Mapping, Sequence
import json
import math
import numbers
import os
from pathlib import Path
import time
from typing import Any, Protocol

from jaxedge.core import checks

Scalars = Mapping[str, float | int | str]


class Writer(Protocol):
    """Anything that takes the scalars of a step."""

    def write(self, step: int, scalars: Scalars) -> None:
        """Takes the named scalars of one step."""
        ...

    def close(self) -> None:
        """Puts everything on disk; a second call does nothing."""
        ...


class Jsonl:
    """Appends one JSON object a row, on disk as soon as `write` returns.

    NaN and infinity, which JSON does not know, become null.

    Args:
        path: the file; its folder is made if need be.
        resume_step: rows of later steps are dropped first (-1 drops all);
            None keeps every row. A half-written last line always goes.

    Raises:
        UsageError: if `path` holds a line that is no row of metrics.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = read(path)
            if resume_step is not None:
                kept = [row for row in kept if row["step"] <= resume_step]
            replace(path, "".join(_line(row) for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, scalars: Scalars) -> None:
        """Appends one row."""
        if "step" in scalars:
            raise checks.UsageError(
                f"a scalar is called 'step' (value {scalars['step']!r}), the"
                " name of the row's own step; rename the scalar."
            )
        self._file.write(_line({"step": step, **scalars}))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes the numbers of each row for TensorBoard, as "<phase>/<name>".

    Args:
        folder: where the event files go; a resumed run adds one.
        resume_step: TensorBoard hides what earlier files say of later steps
            (-1 hides all); None hides nothing.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None):
        import tensorboardX

        self._writer = tensorboardX.SummaryWriter(
            str(folder),
            # The first step that TensorBoard purges, so one past the kept.
            purge_step=None if resume_step is None else resume_step + 1,
            # File names carry whole seconds only: without a suffix, a run
            # restarted within a second would overwrite its first events.
            filename_suffix=f".{time.time_ns()}",
        )

    def write(self, step: int, scalars: Scalars) -> None:
        """Adds the row's numbers; text other than `phase` is left out."""
        prefix = f"{scalars['phase']}/" if "phase" in scalars else ""
        for name, value in scalars.items():
            if not isinstance(value, str):
                self._writer.add_scalar(prefix + name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class Several:
    """Passes every row on to each of `writers`, in their order."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers = tuple(writers)

    def write(self, step: int, scalars: Scalars) -> None:
        """Writes the row to every writer."""
        for writer in self._writers:
            writer.write(step, scalars)

    def close(self) -> None:
        """Closes every writer."""
        for writer in self._writers:
            writer.close()


def read(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, without a half-written last line.

    Raises:
        UsageError: if there is no such file, or an earlier line is no row.
    """
    path = Path(path)
    if not path.is_file():
        raise checks.UsageError(
            f"no metrics file {str(path)!r}; give the workdir of a run that"
            " was started."
        )
    lines = path.read_bytes().splitlines()
    rows = [_row(line) for line in lines]
    if rows and rows[-1] is None:
        # The run was killed while it wrote this line.
        rows.pop()
    if None in rows:
        number = rows.index(None) + 1
        raise checks.UsageError(
            f"line {number} of {str(path)!r} is not a row of metrics:"
            f" {lines[number - 1][:60]!r}; delete that line."
        )
    return [row for row in rows if row is not None]


def replace(path: str | Path, text: str) -> None:
    """Writes `text` to `path` so that a kill leaves the old or the new file."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _row(line: bytes) -> dict[str, Any] | None:
    """The JSON object with a step on this line, None if there is none."""
    try:
        row = json.loads(line)
    # Also bytes that are no text, or brackets within brackets without end.
    except (RecursionError, ValueError):
        return None
    sound = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if sound else None


def _line(row: Mapping[str, Any]) -> str:
    plain = {name: _plain(value) for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _plain(value: Any) -> float | int | str | None:
    """A number of numpy or JAX as Python's own; None for NaN, infinity."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
