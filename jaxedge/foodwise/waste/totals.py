"""Sums of what was thrown away and of what was done, asked of the database.

Grams are whole numbers from the rows to the screen. Diners are counted once a
meal, though each of its rows tells them; a share per diner leaves meals out
whose diners nobody counted.
"""

from collections.abc import Sequence
import datetime as dt
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    Campaign,
    Canteen,
    Equivalent,
    ImportBatch,
    WasteRecord,
)

DIMENSIONS = ("day", "canteen", "meal", "category")
SYNTHETIC = "synthetic"  # Begins the source of rows that nobody weighed.
WEEK = dt.timedelta(days=7)
_DAY = dt.timedelta(days=1)


class Total(NamedTuple):
    """A sum.

    Attributes:
        key: values of the dimensions that were asked for, in their order: a
            date, slug of a canteen, meal, category.
        grams: of all rows.
        counted: of those whose meal has diners.
        diners: of these meals.
        meals: of a canteen and a day, how many were weighed.
    """

    key: tuple[Any, ...]
    grams: int
    counted: int
    diners: int
    meals: int

    @property
    def per_diner(self) -> float | None:
        """Grams a diner; None where nobody was counted."""
        return self.counted / self.diners if self.diners else None


class Span(NamedTuple):
    """Days, both included."""

    first: dt.date
    last: dt.date

    @property
    def days(self) -> int:
        """How many."""
        return (self.last - self.first).days + 1

    @property
    def dates(self) -> list[dt.date]:
        """Each of them."""
        return [self.first + i * _DAY for i in range(self.days)]


def week(first: dt.date) -> Span:
    """The week that begins on a Monday."""
    return Span(first, first + WEEK - _DAY)


def waste(session: Session, span: Span, by: Sequence[str]) -> list[Total]:
    """Sums over a span, by some dimensions, in order.

    Args:
        session: to read by.
        span: of days.
        by: of `DIMENSIONS`, none for one sum.

    Raises:
        UsageError: for an unknown dimension.
    """
    for name in by:
        checks.choice("dimension", name, DIMENSIONS)
    inside = WasteRecord.day.between(*span)
    meals = (
        sa.select(
            WasteRecord.canteen_id,
            WasteRecord.day,
            WasteRecord.meal,
            sa.func.max(WasteRecord.diners).label("diners"),
        )
        .where(inside)
        .group_by(WasteRecord.canteen_id, WasteRecord.day, WasteRecord.meal)
        .subquery()
    )
    rows = (
        sa.select(
            WasteRecord.canteen_id,
            WasteRecord.day,
            WasteRecord.meal,
            *([WasteRecord.category] if "category" in by else []),
            sa.func.sum(WasteRecord.grams).label("grams"),
        )
        .where(inside)
        .group_by(
            WasteRecord.canteen_id,
            WasteRecord.day,
            WasteRecord.meal,
            *([WasteRecord.category] if "category" in by else []),
        )
        .subquery()
    )
    columns = {
        "day": rows.c.day,
        "canteen": Canteen.slug,
        "meal": rows.c.meal,
        **({"category": rows.c.category} if "category" in by else {}),
    }
    keys = [columns[name] for name in by]
    known = meals.c.diners > 0
    asked = (
        sa.select(
            *keys,
            sa.func.sum(rows.c.grams),
            sa.func.sum(sa.case((known, rows.c.grams), else_=0)),
            sa.func.sum(sa.case((known, meals.c.diners), else_=0)),
            sa.func.count(),
        )
        .join(Canteen, Canteen.id == rows.c.canteen_id)
        .join(
            meals,
            sa.and_(
                meals.c.canteen_id == rows.c.canteen_id,
                meals.c.day == rows.c.day,
                meals.c.meal == rows.c.meal,
            ),
        )
        .group_by(*keys)
        .order_by(*keys)
    )
    return [
        Total(tuple(row[:-4]), *(int(value) for value in row[-4:]))
        for row in session.execute(asked)
        if row[-4] is not None
    ]


def by_week(totals: Sequence[Total]) -> list[Total]:
    """Sums by day, first of their keys, as sums by week."""
    found: dict[tuple[Any, ...], Total] = {}
    for total in totals:
        key = (rules.monday(total.key[0]), *total.key[1:])
        old = found.get(key, Total(key, 0, 0, 0, 0))
        added = [a + b for a, b in zip(old[1:], total[1:], strict=True)]
        found[key] = Total(key, *added)
    return [found[key] for key in sorted(found)]


def records(session: Session, span: Span) -> list[tuple[Any, ...]]:
    """All rows of a span: day, canteen, meal, category, grams, diners, source,
    in this order."""
    asked = (
        sa.select(
            WasteRecord.day,
            Canteen.slug,
            WasteRecord.meal,
            WasteRecord.category,
            WasteRecord.grams,
            WasteRecord.diners,
            WasteRecord.source,
        )
        .join(Canteen)
        .where(WasteRecord.day.between(*span))
        .order_by(
            WasteRecord.day,
            Canteen.slug,
            WasteRecord.meal,
            WasteRecord.category,
            WasteRecord.source,
        )
    )
    return [tuple(row) for row in session.execute(asked)]


def weeks(session: Session, today: dt.date) -> list[dt.date]:
    """Mondays of weeks with weigh-ins up to today, the latest first."""
    days = session.scalars(
        sa.select(WasteRecord.day).where(WasteRecord.day <= today).distinct()
    )
    return sorted({rules.monday(day) for day in days}, reverse=True)


def actions_by_day(
    session: Session, span: Span, campaign: int | None = None
) -> dict[dt.date, int]:
    """Actions that count, of each day of the span that has any.

    Args:
        session: to read by.
        span: of days.
        campaign: id; None takes those of all.
    """
    asked = (
        sa.select(Action.day, sa.func.count())
        .where(Action.state == "counted", Action.day.between(*span))
        .group_by(Action.day)
        .order_by(Action.day)
    )
    if campaign is not None:
        asked = asked.where(Action.campaign_id == campaign)
    return {day: int(count) for day, count in session.execute(asked)}


def actions_by_kind(session: Session, campaign: int) -> list[tuple[str, int]]:
    """Kind and how many that count, the most first."""
    count = sa.func.count()
    asked = (
        sa.select(Action.kind, count)
        .where(Action.state == "counted", Action.campaign_id == campaign)
        .group_by(Action.kind)
        .order_by(count.desc(), Action.kind)
    )
    return [(kind, int(number)) for kind, number in session.execute(asked)]


def people(session: Session, campaign: int) -> int:
    """Persons with an action that counts."""
    return int(
        session.scalar(
            sa.select(sa.func.count(sa.distinct(Action.user_id))).where(
                Action.state == "counted", Action.campaign_id == campaign
            )
        )
        or 0
    )


def is_synthetic(session: Session, span: Span) -> bool:
    """Whether any weigh-in of the span was made up."""
    made_up = sa.exists().where(
        WasteRecord.day.between(*span),
        WasteRecord.source.startswith(SYNTHETIC),
    )
    return bool(session.scalar(sa.select(made_up)))


def has_synthetic_actions(session: Session, span: Span) -> bool:
    """Whether any action that counts in the span is of a made-up campaign."""
    made_up = sa.exists().where(
        Action.campaign_id == Campaign.id,
        Action.state == "counted",
        Action.day.between(*span),
        Campaign.synthetic,
    )
    return bool(session.scalar(sa.select(made_up)))


def waste_version(session: Session) -> tuple[Any, ...]:
    """Changes with an import, an act of the staff, and any new row.

    It looks at ends of indices alone, so that asking costs nothing.
    """
    return tuple(
        session.execute(
            sa.select(
                sa.select(sa.func.max(WasteRecord.id)).scalar_subquery(),
                sa.select(sa.func.max(ImportBatch.id)).scalar_subquery(),
                sa.select(sa.func.max(AuditEntry.id)).scalar_subquery(),
                sa.select(sa.func.max(Campaign.id)).scalar_subquery(),
                sa.select(sa.func.max(Canteen.id)).scalar_subquery(),
                sa.select(sa.func.count(Equivalent.id)).scalar_subquery(),
            )
        ).one()
    )


__all__ = [
    "DIMENSIONS",
    "SYNTHETIC",
    "Span",
    "Total",
    "WEEK",
    "actions_by_day",
    "actions_by_kind",
    "by_week",
    "has_synthetic_actions",
    "is_synthetic",
    "people",
    "records",
    "waste",
    "waste_version",
    "week",
    "weeks",
]
