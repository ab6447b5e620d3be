"""Weigh-ins as rows of a file, and all that can be wrong with one.

All limits are ours: they catch a wrong unit, not a bad day.
"""

from collections.abc import Iterable, Sequence
import datetime as dt
from decimal import Decimal
import re
from typing import Any, NamedTuple

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.waste import sheets

CATEGORIES = (
    "rice",
    "noodles",
    "bread",
    "meat",
    "fish",
    "vegetables",
    "fruit",
    "soup",
    "mixed",
    "preparation",
    "other",
)
COLUMNS = (
    "canteen",
    "day",
    "meal",
    "category",
    "grams",
    "kg",
    "diners",
    "source",
)
NEEDED = ("canteen", "day", "meal", "category")
SOURCE = "upload"  # Of a row that names none.
MOST_GRAMS = 2_000_000  # Of a row.
MOST_DINERS = 20_000  # At a meal of a canteen.
FIRST_DAY = dt.date(2000, 1, 1)
_SHOWN = 60  # Letters of a wrong value.
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)
_SOURCE = re.compile(r"[a-z0-9][a-z0-9 ._-]{0,39}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Problem(NamedTuple):
    """What is wrong with a field.

    Attributes:
        row: number of the row.
        field: name of the column.
        value: what it holds, shortened.
        what: a word; "weigh_ins.problem.WHAT" tells it, and
            "weigh_ins.remedy.WHAT" what to do.
        detail: fields of these texts.
    """

    row: int
    field: str
    value: str
    what: str
    detail: dict[str, Any]

    @property
    def conflict(self) -> bool:
        """Whether asking to replace mends it."""
        return self.what in ("stored", "stored_diners")


class WeighIn(NamedTuple):
    """A row that can be read.

    Attributes:
        row: its number in the file.
        canteen: id.
        day: of the meal.
        meal: of `rules.MEALS`.
        category: of `CATEGORIES`.
        grams: at least 0.
        diners: who ate there at that meal, None for unknown.
        source: who weighed.
    """

    row: int
    canteen: int
    day: dt.date
    meal: str
    category: str
    grams: int
    diners: int | None
    source: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What there is once."""
        return self.canteen, self.day, self.meal, self.category, self.source

    @property
    def sitting(self) -> tuple[Any, ...]:
        """The meal, whose diners are the same for all its rows."""
        return self.canteen, self.day, self.meal


def read_line(
    line: sheets.Line, today: dt.date, allowed: dict[str, int]
) -> WeighIn | list[Problem]:
    """A row as values, or all that is wrong with it."""
    problems: list[Problem] = []

    def wrong(field: str, what: str, **detail: Any) -> None:
        value = line.fields.get(field, "")[:_SHOWN]
        problems.append(Problem(line.number, field, value, what, detail))

    def one_of(field: str, options: Iterable[str]) -> str:
        value = line.fields.get(field, "")
        if not value:
            wrong(field, "missing")
        elif value not in options:
            wrong(field, "unknown", known=", ".join(options))
        return value

    if line.extra:
        wrong("", "extra", n=line.extra)
    canteen = one_of("canteen", allowed)
    meal = one_of("meal", rules.MEALS)
    category = one_of("category", CATEGORIES)
    day = _day(line.fields.get("day", ""), today, wrong)
    grams = _grams(line.fields, wrong)
    diners = _whole("diners", line.fields.get("diners", ""), MOST_DINERS, wrong)
    source = line.fields.get("source") or SOURCE
    if not _SOURCE.fullmatch(source):
        wrong("source", "source")
    if problems or day is None or grams is None:
        return problems
    return WeighIn(
        line.number, allowed[canteen], day, meal, category, grams, diners,
        source,
    )  # fmt: skip


def _day(value: str, today: dt.date, wrong: Any) -> dt.date | None:
    if not value:
        return wrong("day", "missing")
    try:
        if not _DAY.fullmatch(value):
            raise ValueError
        day = dt.date.fromisoformat(value)
    except ValueError:
        return wrong("day", "no_day")
    if day > today:
        return wrong("day", "future", today=today.isoformat())
    if day < FIRST_DAY:
        return wrong("day", "past", first=FIRST_DAY.isoformat())
    return day


def _grams(fields: dict[str, str], wrong: Any) -> int | None:
    grams, kilos = fields.get("grams", ""), fields.get("kg", "")
    if grams and kilos:
        return wrong("kg", "both")
    if grams or not kilos:
        if not grams:
            return wrong("grams", "no_mass")
        return _whole("grams", grams, MOST_GRAMS, wrong)
    return _whole("kg", kilos, MOST_GRAMS, wrong, 1000)


def _whole(
    field: str, value: str, most: int, wrong: Any, times: int = 1
) -> int | None:
    """A number, times so many, as a whole one from 0 to `most`."""
    if not value:
        return None
    if not _NUMBER.fullmatch(value):
        return wrong(field, "no_number")
    number = Decimal(value) * times
    if number.is_signed() and number:
        return wrong(field, "negative")
    if number != int(number):
        return wrong(field, "finer" if field != "diners" else "whole")
    if number > most:
        return wrong(field, "too_much", most=f"{most // times:,}")
    return int(number)


def at_odds(rows: Sequence[WeighIn]) -> list[Problem]:
    """Rows of one file that say something twice, or two things."""
    seen: dict[tuple[Any, ...], int] = {}
    diners: dict[tuple[Any, ...], tuple[int, int]] = {}
    problems = []
    for row in rows:
        first = seen.setdefault(row.key, row.row)
        if first != row.row:
            problems.append(
                Problem(row.row, "category", row.category, "twice",
                        {"first": first})
            )  # fmt: skip
        if row.diners is None:
            continue
        said, first = diners.setdefault(row.sitting, (row.diners, row.row))
        if said != row.diners:
            problems.append(
                Problem(row.row, "diners", str(row.diners), "two_counts",
                        {"first": first, "said": said})
            )  # fmt: skip
    return problems


__all__ = [
    "CATEGORIES",
    "COLUMNS",
    "FIRST_DAY",
    "MOST_DINERS",
    "MOST_GRAMS",
    "NEEDED",
    "Problem",
    "SOURCE",
    "WeighIn",
    "at_odds",
    "read_line",
]
