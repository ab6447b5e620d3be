"""The tables of `jaxedge radiomics`: cases in, features out.

OUT.csv has a row a case: the columns of the case, then its features. OUT.json
beside it has the settings, the versions of the packages, and of each case its
files, what is worth knowing of them, warnings, and the error of one that
failed, which has no row.
"""

from collections.abc import Mapping, Sequence
import csv
import difflib
import importlib.metadata
import io
import json
from pathlib import Path
import platform
import re
import time
from typing import Any, NamedTuple

from jaxedge.core import checks
from jaxedge.run import workdir
from jaxedge.run.metrics import replace

_PACKAGES = ("jaxedge", "jax", "numpy", "SimpleITK", "PyWavelets")
# Of the time since the last time, writing takes at most one part in so many.
_PATIENCE = 10


class Case(NamedTuple):
    """An image and a region.

    Attributes:
        columns: as in the table it comes from.
        image: where it is.
        mask: likewise.
        label: None for that of the parameter file.
        channel: likewise.
        fault: why there is no such case; "" where there is.
        name: for messages and file names.
    """

    columns: Mapping[str, str]
    image: Path
    mask: Path
    label: int | None = None
    channel: int | None = None
    fault: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """What tells it from other cases."""
        return json.dumps(self.columns)

    def stamp(self) -> list[Any]:
        """Changes when a file does."""
        found: list[Any] = []
        for path in (self.image, self.mask):
            state = path.stat()
            found += [str(path.resolve()), state.st_size, state.st_mtime_ns]
        return found


def cases(path: Path) -> list[Case]:
    """The cases of a table, as of pyradiomics' batch mode.

    Args:
        path: a CSV with the columns Image and Mask, and maybe Label,
            Label_channel and ID; others are kept. Paths are relative to it.

    Raises:
        UsageError: for a missing or empty table, columns, or a case twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise checks.UsageError(
            f"the table {path} cannot be read ({reason}); check the path."
        ) from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    columns = list(reader.fieldnames or ())
    for name in ("Image", "Mask"):
        if name not in columns:
            folded = {c.strip().lower(): c for c in columns}
            close = difflib.get_close_matches(name.lower(), folded, 1)
            hint = f"; rename {folded[close[0]]!r}" if close else ""
            raise checks.UsageError(
                f"the table {path} has the columns {', '.join(columns)}, but"
                f" needs Image and Mask{hint}."
            )
    found, lines = [], {}
    for row in reader:
        case = _case(path, row, reader.line_num)
        title = re.sub(r"[^\w.-]+", "-", case.columns.get("ID", ""))
        number = f"case{len(found) + 1}"
        case = case._replace(name="_".join(filter(None, (number, title))))
        if case.key in lines:
            raise checks.UsageError(
                f"lines {lines[case.key]} and {reader.line_num} of {path} are"
                " the same case; give each an ID, or take one out."
            )
        lines[case.key] = reader.line_num
        found.append(case)
    if not found:
        raise checks.UsageError(f"the table {path} has no case; add a line.")
    return found


def _case(table: Path, row: Mapping[Any, Any], line: int) -> Case:
    # Under None is what a line has beyond the columns.
    columns = {k: (v or "").strip() for k, v in row.items() if k is not None}
    fault = ""
    if None in row:
        fault = f"line {line} of {table} has more values than columns"
    numbers = {}
    for name in ("Label", "Label_channel"):
        text = columns.get(name, "")
        try:
            # What a spreadsheet writes of a column with gaps.
            numbers[name] = int(text.removesuffix(".0")) if text else None
        except ValueError:
            fault = f"line {line} of {table}: {name} {text!r} is no number"
    for name in ("Image", "Mask"):
        if not columns[name]:
            fault = f"line {line} of {table} names no {name}"
    return Case(
        columns,
        table.parent / columns["Image"],
        table.parent / columns["Mask"],
        numbers.get("Label"),
        numbers.get("Label_channel"),
        fault,
    )


class Table:
    """The features of cases that are done, on disk.

    Args:
        path: the CSV; may hold rows of the same settings, which stay.
        settings: what features depend on; JSON.

    Raises:
        UsageError: if the file is of other settings, or none of ours.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self._path, self._note = path, path.with_suffix(".json")
        self._settings = json.loads(json.dumps(workdir.jsonable(settings)))
        self._rows: dict[str, dict[str, str]] = {}
        self._cases: dict[str, dict[str, Any]] = {}
        self._written, self._cost = 0.0, 0.0
        if not path.resolve().parent.is_dir() or path.is_dir():
            raise checks.UsageError(
                f"{path} cannot be written; give --out=FILE.csv in a folder"
                " that exists."
            )
        if path.exists() or self._note.exists():
            self._read()

    def kept(self, case: Case) -> bool:
        """Whether the row of a case is there, and its files are the same."""
        if case.key not in self._rows or case.fault:
            return False
        try:
            return self._cases[case.key]["stamp"] == case.stamp()
        except OSError:
            return False

    def put(self, case: Case, found: Mapping[str, float], **note: Any) -> None:
        """Takes the features of a case, and what else is to be told of it."""
        cells = {name: f"{value:.9g}" for name, value in found.items()}
        self._rows[case.key] = {**case.columns, **cells}
        self._cases[case.key] = {
            "case": dict(case.columns),
            "stamp": case.stamp(),
            **note,
        }
        self._write_at_times()

    def fail(self, case: Case, error: str) -> None:
        """Takes why a case has none."""
        self._rows.pop(case.key, None)
        self._cases[case.key] = {"case": dict(case.columns), "error": error}
        self._write_at_times()

    def write(self, order: Sequence[Case] = ()) -> None:
        """Puts everything on disk, in one step a file.

        Args:
            order: cases that come first.
        """
        keys = [case.key for case in order if case.key in self._rows]
        first = set(keys)
        keys += [key for key in self._rows if key not in first]
        header: dict[str, None] = {}
        for key in keys:
            header |= dict.fromkeys(self._cases[key]["case"])
        for key in keys:
            header |= dict.fromkeys(self._rows[key])
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(header), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[key] for key in keys)
        begun = time.monotonic()
        note = {
            "settings": self._settings,
            "versions": versions(),
            "cases": list(self._cases.values()),
        }
        try:
            if keys or self._path.exists():
                replace(self._path, text.getvalue())
            workdir.write_json(self._note, note)
        except OSError as error:
            raise checks.UsageError(
                f"{self._path} cannot be written ({error}); make room: the same"
                " command goes on from there."
            ) from error
        self._written = time.monotonic()
        self._cost = self._written - begun

    def _write_at_times(self) -> None:
        if time.monotonic() - self._written > _PATIENCE * self._cost:
            self.write()

    def _read(self) -> None:
        before, cases_before = self._read_note()
        if before != self._settings:
            old, new = workdir.flat(before), workdir.flat(self._settings)
            differ = [
                f"{name}: {old.get(name)!r} there, {new.get(name)!r} now"
                for name in sorted(old | new)
                if old.get(name) != new.get(name)
            ]
            raise checks.UsageError(
                f"{self._path} holds features of other settings"
                f" ({'; '.join(differ[:5])}{'; ...' if differ[5:] else ''});"
                " choose another --out."
            )
        self._cases = {json.dumps(one["case"]): one for one in cases_before}
        if not self._path.exists():
            return
        kinds = {tuple(one["case"]) for one in cases_before}
        # Of two that fit, the one with more columns is the row's own.
        for row in csv.DictReader(io.StringIO(self._text(), newline="")):
            for columns in sorted(kinds, key=len, reverse=True):
                named = {name: row.get(name) or "" for name in columns}
                key = json.dumps(named)
                if key in self._cases:
                    if "error" not in self._cases[key]:
                        # An empty cell is a feature that this one lacks.
                        full = {k: v for k, v in row.items() if v}
                        self._rows[key] = {**full, **named}
                    break

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise self._foreign() from None

    def _read_note(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return dict(note["settings"]), list(note["cases"])
        except (OSError, ValueError, KeyError, TypeError):
            raise self._foreign() from None

    def _foreign(self) -> checks.UsageError:
        return checks.UsageError(
            f"{self._path} or {self._note.name} is there, but not from"
            " `jaxedge radiomics`; choose another --out."
        )


def versions() -> dict[str, str]:
    """Of Python and the packages that features come from."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
