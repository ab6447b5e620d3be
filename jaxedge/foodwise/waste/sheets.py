"""Tables as files: CSV and JSON that people send, and CSV that they take home.

A field that a spreadsheet would run as a formula is written with an apostrophe
before it, which makes it a text.
"""

from collections.abc import Iterable, Sequence
import csv
import io
import json
from typing import Any, NamedTuple

from jaxedge.core import checks

MOST_ROWS = 50_000  # Of a file; our limit.
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a workbook"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Line(NamedTuple):
    """A row of a file.

    Attributes:
        number: 1 for the first row after the head of a CSV file, or the first
            object of a JSON file.
        fields: column -> text, "" where there is nothing.
        extra: fields beyond the last column.
    """

    number: int
    fields: dict[str, str]
    extra: int = 0


def text_of(content: bytes) -> str:
    """UTF-8 with or without a mark at its start.

    Raises:
        UsageError: for another encoding, naming the byte and the remedy.
    """
    for start, name in _BOMS.items():
        if content.startswith(start):
            raise checks.UsageError(
                f"the file is {name}, not a text in UTF-8; save it as"
                ' "CSV UTF-8" and send that.'
            )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise checks.UsageError(
            f"byte {error.start + 1} of the file is not UTF-8; save it as"
            ' "CSV UTF-8" and send that.'
        ) from None
    if "\0" in text:
        raise checks.UsageError(
            "the file has bytes of 0, so it is no text; save it as"
            ' "CSV UTF-8" and send that.'
        )
    return text


def read(
    content: bytes, known: Sequence[str], needed: Iterable[str]
) -> list[Line]:
    """Rows of a CSV file or of a JSON file, told by its first letter.

    Args:
        content: CSV whose head names columns, with commas, semicolons or tabs
            between; or a JSON list of objects, alone or as "records".
        known: columns that there may be.
        needed: columns that a CSV file must have.

    Raises:
        UsageError: for a file that cannot be read as a whole.
    """
    text = text_of(content)
    if not text.strip():
        raise checks.UsageError("the file is empty; send one with rows.")
    if text.lstrip()[0] in "[{":
        return _read_json(text, known)
    return _read_csv(text, known, needed)


def _read_csv(
    text: str, known: Sequence[str], needed: Iterable[str]
) -> list[Line]:
    head = text.lstrip("\r\n").split("\n", 1)[0]
    between = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=between)
    lines: list[Line] = []
    try:
        filled = (row for row in rows if any(map(str.strip, row)))
        columns = [name.strip().lower() for name in next(filled)]
        _check_columns(columns, known, needed)
        for number, row in enumerate(filled, 1):
            _limit(number)
            cells = [cell.strip() for cell in row]
            fields = dict.fromkeys(columns, "") | dict(
                zip(columns, cells, strict=False)
            )
            lines.append(
                Line(number, fields, max(0, len(cells) - len(columns)))
            )
    except csv.Error as error:
        raise checks.UsageError(
            f"line {rows.line_num} of the file is no CSV: {error}; write quotes"
            " and line ends as a spreadsheet does."
        ) from None
    return lines


def _check_columns(
    columns: list[str], known: Sequence[str], needed: Iterable[str]
) -> None:
    for name in columns:
        if name not in known:
            raise checks.unknown("column", name[:40], known)
        if columns.count(name) > 1:
            raise checks.UsageError(
                f"the column {name!r} is there twice; keep one of them."
            )
    for name in needed:
        if name not in columns:
            raise checks.UsageError(
                f"the column {name!r} is missing; the first line must name"
                f" {', '.join(needed)}."
            )


def _read_json(text: str, known: Sequence[str]) -> list[Line]:
    try:
        # Numbers stay the texts that they are, and are read like those of CSV.
        found = json.loads(
            text,
            parse_float=str,
            parse_int=str,
            parse_constant=str,
            object_pairs_hook=_once,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise checks.UsageError(
            f"the file is no JSON: {error}; it must be a list of objects."
        ) from None
    if isinstance(found, dict) and list(found) == ["records"]:
        found = found["records"]
    if not isinstance(found, list):
        raise checks.UsageError(
            'the JSON file must be a list of objects, or {"records": [...]}.'
        )
    lines = []
    for number, row in enumerate(found, 1):
        _limit(number)
        lines.append(Line(number, _json_fields(number, row, known)))
    return lines


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise checks.UsageError(
            "an object of the JSON file names a field twice; keep one of them."
        )
    return made


def _json_fields(number: int, row: Any, known: Sequence[str]) -> dict[str, str]:
    if not isinstance(row, dict):
        raise checks.UsageError(
            f"row {number} of the JSON file is no object; write"
            ' {"canteen": ..., "day": ...}.'
        )
    for name, value in row.items():
        if name not in known:
            raise checks.unknown("field", name[:40], known)
        if not (value is None or isinstance(value, str)):
            raise checks.UsageError(
                f"row {number}: {name!r} must be a text or a number."
            )
    return {name: (row.get(name) or "").strip() for name in known}


def _limit(number: int) -> None:
    if number > MOST_ROWS:
        raise checks.UsageError(
            f"the file has more than {MOST_ROWS} rows; send it in parts."
        )


def write(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV as in RFC 4180, whose texts no spreadsheet runs."""
    out = io.StringIO(newline="")
    made = csv.writer(out)
    made.writerow(columns)
    made.writerows([tame(value) for value in row] for row in rows)
    return out.getvalue()


def tame(value: Any) -> Any:
    """A text that is no formula; None is empty, numbers stay."""
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return "'" + value
    return value


__all__ = ["Line", "MOST_ROWS", "read", "tame", "text_of", "write"]
