"""Panels of what was weighed, of one week.

A panel's table, its CSV file and its charts are made of the same rows.
"""

from collections.abc import Callable, Sequence
import datetime as dt
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import Equivalent
from jaxedge.foodwise.waste import charts, sentences, series, totals
from jaxedge.foodwise.waste.totals import Span, Total

WEEKS = 8  # Shown up to the chosen one; our choice.
USUAL = 4  # Weeks before it that a cell of "when" is compared to.
_DAY = dt.timedelta(days=1)


class Column(NamedTuple):
    """Of a table: its name in the file, and what it holds."""

    name: str
    kind: str  # day, canteen, meal, category, action, grams, count, rate, text


class Panel(NamedTuple):
    """A part of the story.

    Attributes:
        name: of `NAMES`.
        sentence: made of the data.
        columns: of the table and the file.
        rows: a value a column; grams are whole numbers, rates are of floats.
        specs: charts.
        small: whether they are many small ones.
    """

    name: str
    sentence: str
    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    specs: list[dict[str, Any]]
    small: bool = False

    @property
    def key(self) -> str:
        """In the texts."""
        return self.name.replace("-", "_")


class Asked(NamedTuple):
    """What all panels are made with."""

    session: Session
    week: Span
    today: dt.date
    say: Callable[..., str]
    language: str
    names: dict[str, str]


def _label(monday: dt.date) -> str:
    return f"{monday.day}/{monday.month}"


def _rates(days: Sequence[Total]) -> series.Interval | None:
    """Grams a diner over days whose diners are known."""
    known = [day for day in days if day.diners]
    if not known:
        return None
    return series.ratio(
        [day.counted for day in known], [day.diners for day in known]
    )


def _known(found: series.Interval | None) -> tuple[Any, Any, Any]:
    """Value and ends; None for what is unknown."""
    if found is None:
        return None, None, None
    return tuple(None if end != end else end for end in found)  # type: ignore[return-value]


def amounts(asked: Asked) -> list[Panel]:
    """How much, and where: by week, of all and of each canteen."""
    span = Span(asked.week.first - (WEEKS - 1) * totals.WEEK, asked.week.last)
    by_day = totals.waste(asked.session, span, ("day",))
    by_place = totals.waste(asked.session, span, ("day", "canteen"))
    return [_how_much(asked, by_day), _where(asked, by_place)]


def _weekly(days: Sequence[Total]) -> list[tuple[Any, ...]]:
    """Monday, days weighed, grams, diners, per diner, low, high."""
    return [
        (
            total.key[0],
            sum(rules.monday(d.key[0]) == total.key[0] for d in days),
            total.grams,
            total.diners or None,
            *_known(
                _rates(
                    [d for d in days if rules.monday(d.key[0]) == total.key[0]]
                )
            ),
        )
        for total in totals.by_week([d._replace(key=(d.key[0],)) for d in days])
    ]


def _marks(asked: Asked, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [
        {
            "label": _label(monday),
            "grams": grams,
            "tonnes": grams / 1e6,
            "per_diner": rate,
            "low": low,
            "high": high,
            "shown": sentences.mass(grams),
            "now": monday == asked.week.first,
        }
        for monday, _, grams, _, rate, low, high in rows
    ]


def _shown_rate(marks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        mark | {"shown": sentences.number(mark["per_diner"], 1) + " g"}
        for mark in marks
    ]


def _axis(rows: Sequence[tuple[Any, ...]]) -> tuple[float, float]:
    """Ends of an axis of rates; a wide interval does not flatten the others."""
    found = [0.0, 1.0]
    known = [row[-3:] for row in rows if row[-3] is not None]
    if known:
        lows = [rate if low is None else low for rate, low, _ in known]
        highs = [min(high or rate, 2 * rate) for rate, _, high in known]
        found = [min(lows), max(highs)]
    return found[0], max(found[1], found[0] + 1)


_WEEKLY = (
    Column("week", "day"),
    Column("days", "count"),
    Column("grams", "grams"),
    Column("diners", "count"),
    Column("per_diner", "rate"),
    Column("low", "rate"),
    Column("high", "rate"),
)


def _how_much(asked: Asked, days: Sequence[Total]) -> Panel:
    rows = _weekly(days)
    sums = {total.key[0]: total for total in totals.by_week(days)}
    first = asked.week.first
    marks = _marks(asked, rows)
    specs = [
        charts.weekly_mass(marks, asked.say),
        charts.weekly_rate(_shown_rate(marks), asked.say, ends=_axis(rows)),
    ]
    told = sentences.how_much(
        asked.say, sums.get(first), sums.get(first - totals.WEEK), first
    )
    return Panel("how-much", told, _WEEKLY, rows, specs if rows else [])


def _where(asked: Asked, days: Sequence[Total]) -> Panel:
    rows: list[tuple[Any, ...]] = []
    specs, rates, silent = [], [], []
    by_place = {
        slug: _weekly([d for d in days if d.key[1] == slug])
        for slug in asked.names
    }
    shared = _axis([row for weekly in by_place.values() for row in weekly])
    for slug, weekly in by_place.items():
        if not weekly:
            continue
        rows += [(slug, *row) for row in weekly]
        name = asked.names[slug]
        specs.append(
            charts.weekly_rate(
                _shown_rate(_marks(asked, weekly)),
                asked.say,
                ends=shared,
                title=name,
                height=110,
            )
        )
        this = [row for row in weekly if row[0] == asked.week.first]
        if not this:
            silent.append(name)
        elif this[0][4] is not None:
            ends = [float("nan") if v is None else v for v in this[0][4:]]
            rates.append((name, series.Interval(*ends)))
    rates.sort(key=lambda pair: -pair[1].value)
    told = sentences.where(asked.say, rates, silent)
    columns = (Column("canteen", "canteen"), *_WEEKLY)
    return Panel("where", told, columns, rows, specs, small=True)


def when(asked: Asked) -> Panel:
    """Day by meal."""
    before = Span(
        asked.week.first - USUAL * totals.WEEK, asked.week.first - _DAY
    )
    usual: dict[tuple[int, str], list[int]] = {}
    for old in totals.waste(asked.session, before, ("day", "meal")):
        day, meal = old.key
        usual.setdefault((day.weekday(), meal), []).append(old.grams)
    cells = sorted(
        totals.waste(asked.session, asked.week, ("day", "meal")),
        key=lambda cell: (cell.key[0], rules.MEALS.index(cell.key[1])),
    )
    names = [asked.say(f"dashboard.weekday_short.{i}") for i in range(7)]
    rows, marks = [], []
    for cell in cells:
        day, meal = cell.key
        others = usual.get((day.weekday(), meal))
        ends = (min(others), max(others)) if others else (None, None)
        rows.append((day, meal, cell.grams, cell.diners or None, *ends))
        marks.append(
            {
                "weekday": asked.say(
                    f"dashboard.weekday_short.{day.weekday()}"
                ),
                "meal_name": asked.say(f"meal.{meal}"),
                "grams": cell.grams,
                "kilos": cell.grams / 1e3,
                "shown": sentences.mass(cell.grams),
            }
        )
    meals = [m for m in rules.MEALS if any(c.key[1] == m for c in cells)]
    until = min(asked.week.last, asked.today)
    possible = len(meals) * ((until - asked.week.first).days + 1)
    spec = charts.heat(
        marks, names, [asked.say(f"meal.{m}") for m in meals], asked.say
    )
    columns = (
        Column("day", "day"),
        Column("meal", "meal"),
        Column("grams", "grams"),
        Column("diners", "count"),
        Column("usual_low", "grams"),
        Column("usual_high", "grams"),
    )
    told = sentences.when(asked.say, cells, max(possible - len(cells), 0))
    return Panel("when", told, columns, rows, [spec] if rows else [])


def kinds(asked: Asked) -> list[Panel]:
    """What was thrown away, and what its mass compares to."""
    span = Span(asked.week.first - USUAL * totals.WEEK, asked.week.last)
    found = totals.waste(asked.session, span, ("day", "category"))
    days = sorted({total.key[0] for total in found})
    each: dict[str, dict[dt.date, int]] = {}
    for total in found:
        day, category = total.key
        each.setdefault(category, {})[day] = total.grams
    # A category that is not there on a day that was weighed is none of it.
    bands = {
        name: _week_of(asked, days, [by_day.get(day, 0) for day in days])
        for name, by_day in each.items()
    }
    rows, marks = [], []
    whole = sum(round(band.value) for band in bands.values())
    order = sorted(bands, key=lambda name: (-bands[name].value, name))
    shown = [name for name in order if bands[name].value]
    for name in shown:
        grams, low, high = _known(bands[name])
        rows.append(
            (
                name,
                round(grams),
                100 * grams / whole,
                None if low is None else round(low),
                None if high is None else round(high),
            )
        )
        marks.append(
            {
                "label": asked.say(f"dashboard.category.{name}"),
                "grams": round(grams),
                "value": grams / 1e3,
                "low": None if low is None else low / 1e3,
                "high": None if high is None else high / 1e3,
                "shown": sentences.mass(grams),
            }
        )
    spec = charts.bars(
        marks,
        asked.say,
        axis=asked.say("dashboard.axis.kilos"),
        description=asked.say("dashboard.chart.what"),
    )
    columns = (
        Column("category", "category"),
        Column("grams", "grams"),
        Column("percent", "rate"),
        Column("low", "grams"),
        Column("high", "grams"),
    )
    told = sentences.what(asked.say, [(row[0], row[1]) for row in rows])
    panel = Panel("what", told, columns, rows, [spec] if rows else [])
    sums = [sum(e.get(day, 0) for e in each.values()) for day in days]
    return [panel, _meaning(asked, _week_of(asked, days, sums))]


def _week_of(
    asked: Asked, days: Sequence[dt.date], grams: Sequence[int]
) -> series.Interval:
    """Sum of the chosen week, by days of it and of the weeks before."""
    return series.week_total(
        [day.weekday() for day in days],
        grams,
        [day >= asked.week.first for day in days],
    )


def _meaning(asked: Asked, week: series.Interval) -> Panel:
    zh = asked.language == "zh-Hant"
    rows = [
        (
            (row.name_zh if zh else "") or row.name,
            *_known(series.Interval(*(end / 1e3 * row.factor for end in week))),
            row.unit,
            row.source,
            row.year or None,
        )
        for row in asked.session.scalars(
            sa.select(Equivalent).order_by(Equivalent.id)
        )
    ]
    columns = (
        Column("comparison", "text"),
        Column("value", "short"),
        Column("low", "short"),
        Column("high", "short"),
        Column("unit", "text"),
        Column("source", "text"),
        Column("year", "year"),
    )
    first = (rows[0][1], rows[0][4], rows[0][0]) if rows else None
    told = sentences.means(asked.say, round(week.value), first)
    return Panel("meaning", told, columns, rows, [])


__all__ = [
    "Asked",
    "Column",
    "Panel",
    "WEEKS",
    "amounts",
    "kinds",
    "when",
]
