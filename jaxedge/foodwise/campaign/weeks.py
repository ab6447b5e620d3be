"""What a person has done so far: days, points, streak, repairs, tickets."""

import datetime as dt
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from jaxedge.foodwise.base import audit, rules
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Photo,
    PointsEntry,
    StreakRepair,
    User,
)
from jaxedge.foodwise.campaign.actions import hold


class Day(NamedTuple):
    """One day of a week.

    Attributes:
        day: its date.
        kind: "active", "repaired", "rest", "missed", "open" (today, or to
            come) or "outside" the campaign.
        actions: of the person, the earliest first; undone ones too.
    """

    day: dt.date
    kind: str
    actions: list[Action]


class Week(NamedTuple):
    """A person's week, and where they stand.

    Attributes:
        days: seven, from Monday.
        today: in the campaign's days.
        points: of the campaign.
        streak: by `rules.streak`; what waits for people counts until then.
        active_days: on which an action counts.
        tickets: in the draw.
        repairs_left: how many days may still be forgiven.
        repairable: the missed day that may be; None for none.
    """

    days: list[Day]
    today: dt.date
    points: int
    streak: rules.Streak
    active_days: int
    tickets: int
    repairs_left: int
    repairable: dt.date | None


def week(
    session: Session, user: User, campaign: Campaign, at: dt.datetime
) -> Week:
    """The week of a moment.

    Args:
        session: of the database.
        user: whose.
        campaign: whose points and days.
        at: the moment.
    """
    kept = rules.read(campaign.rules)
    today = rules.day_of(at, kept)
    active = active_days(session, user.id, campaign.id, "counted", "review")
    counted = active_days(session, user.id, campaign.id)
    repaired = repaired_days(session, user.id, campaign.id)
    # After its end a campaign's streaks stay as they were.
    streak = rules.streak(
        active, repaired, min(today, campaign.ends), campaign.starts, kept
    )
    missed = streak.missed
    if missed and rules.may_repair(missed, today, active, repaired, kept):
        missed = None
    monday = rules.monday(today)
    by_day = _actions(session, user.id, campaign.id, monday)
    days = [monday + dt.timedelta(days=n) for n in range(7)]
    return Week(
        [
            Day(
                day,
                _kind(day, today, campaign, active, repaired, kept),
                by_day.get(day, []),
            )
            for day in days
        ],
        today,
        points(session, user.id, campaign.id),
        streak,
        len(counted),
        rules.tickets(len(counted), kept),
        max(0, kept.repairs - len(repaired)),
        missed,
    )


def _kind(
    day: dt.date,
    today: dt.date,
    campaign: Campaign,
    active: set[dt.date],
    repaired: set[dt.date],
    kept: rules.Rules,
) -> str:
    if not campaign.starts <= day <= campaign.ends:
        return "outside"
    if day in active:
        return "active"
    if day in repaired:
        return "repaired"
    if day.weekday() in kept.rest_days:
        return "rest"
    return "missed" if day < today else "open"


def _actions(
    session: Session, user_id: int, campaign_id: int, monday: dt.date
) -> dict[dt.date, list[Action]]:
    found: dict[dt.date, list[Action]] = {}
    for action in session.scalars(
        sa.select(Action)
        .where(
            Action.user_id == user_id,
            Action.campaign_id == campaign_id,
            Action.day.between(monday, monday + dt.timedelta(days=6)),
        )
        .options(joinedload(Action.photo).joinedload(Photo.grade))
        .order_by(Action.at, Action.id)
    ):
        found.setdefault(action.day, []).append(action)
    return found


def active_days(
    session: Session, user_id: int, campaign_id: int, *states: str
) -> set[dt.date]:
    """Days with an action in one of the states; without any, that counts."""
    return set(
        session.scalars(
            sa.select(Action.day).where(
                Action.user_id == user_id,
                Action.campaign_id == campaign_id,
                Action.state.in_(states or ("counted",)),
            )
        )
    )


def repaired_days(
    session: Session, user_id: int, campaign_id: int
) -> set[dt.date]:
    """Days that were forgiven."""
    return set(
        session.scalars(
            sa.select(StreakRepair.day).where(
                StreakRepair.user_id == user_id,
                StreakRepair.campaign_id == campaign_id,
            )
        )
    )


def points(session: Session, user_id: int, campaign_id: int) -> int:
    """The sum of a person's ledger."""
    return (
        session.scalar(
            sa.select(sa.func.sum(PointsEntry.points)).where(
                PointsEntry.user_id == user_id,
                PointsEntry.campaign_id == campaign_id,
            )
        )
        or 0
    )


def of_action(session: Session, action_id: int) -> int:
    """Points that an action has at the moment."""
    return (
        session.scalar(
            sa.select(sa.func.sum(PointsEntry.points)).where(
                PointsEntry.action_id == action_id
            )
        )
        or 0
    )


def ledger(
    session: Session, user_id: int, campaign_id: int, most: int = 100
) -> list[tuple[PointsEntry, Action | None]]:
    """Rows of a person's points with their actions, the latest first."""
    rows = session.execute(
        sa.select(PointsEntry, Action)
        .outerjoin(Action, Action.id == PointsEntry.action_id)
        .where(
            PointsEntry.user_id == user_id,
            PointsEntry.campaign_id == campaign_id,
        )
        .order_by(PointsEntry.id.desc())
        .limit(most)
    )
    return [(entry, action) for entry, action in rows]


def repair(
    session: Session,
    user: User,
    campaign: Campaign,
    day: dt.date,
    at: dt.datetime,
) -> None:
    """Forgives a missed day; the audit keeps that it was.

    Raises:
        Refused: by `rules.may_repair`, and for a day outside the campaign.
    """
    hold(session, user.id)
    kept = rules.read(campaign.rules)
    if not campaign.starts <= day <= campaign.ends:
        raise Refused("repair_outside")
    reason = rules.may_repair(
        day,
        rules.day_of(at, kept),
        active_days(session, user.id, campaign.id, "counted", "review"),
        repaired_days(session, user.id, campaign.id),
        kept,
    )
    if reason:
        raise Refused(f"repair_{reason}")
    session.add(
        StreakRepair(user_id=user.id, campaign_id=campaign.id, day=day, at=at)
    )
    audit.note(
        session, user, "repair", f"campaign {campaign.id}", day=day.isoformat()
    )
    session.flush()


__all__ = [
    "Day",
    "Week",
    "active_days",
    "ledger",
    "of_action",
    "points",
    "repair",
    "repaired_days",
    "week",
]
