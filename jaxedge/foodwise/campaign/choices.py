"""What the form of an action has chosen beforehand, and when meals are."""

import datetime as dt
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    MealPeriod,
    User,
)


def periods_of(session: Session, canteen_id: int) -> list[MealPeriod]:
    """When a canteen serves, the earliest first."""
    return list(
        session.scalars(
            sa.select(MealPeriod)
            .where(MealPeriod.canteen_id == canteen_id)
            .order_by(MealPeriod.opens)
        )
    )


def within(local: dt.time, period: MealPeriod) -> bool:
    """Whether a time of the local clock is in it."""
    if period.opens <= period.closes:
        return period.opens <= local <= period.closes
    return local >= period.opens or local <= period.closes  # Past midnight.


def campaign_for(session: Session, at: dt.datetime) -> Campaign | None:
    """The campaign that runs, else that which ran last, else the next one."""
    for campaign in session.scalars(
        sa.select(Campaign).order_by(Campaign.starts.desc(), Campaign.id.desc())
    ):
        day = rules.day_of(at, rules.read(campaign.rules))
        if campaign.starts <= day <= campaign.ends:
            return campaign
    day = rules.day_of(at, rules.Rules())
    ended = sa.select(Campaign).where(Campaign.ends < day)
    return (
        session.scalars(ended.order_by(Campaign.ends.desc())).first()
        or session.scalars(
            sa.select(Campaign).order_by(Campaign.starts)
        ).first()
    )


def campaign_on(session: Session, day: dt.date) -> Campaign | None:
    """As `campaign_for`, of a day that is told; never one to come."""
    begun = session.scalars(
        sa.select(Campaign)
        .where(Campaign.starts <= day)
        .order_by(Campaign.starts.desc(), Campaign.id.desc())
    ).all()
    for campaign in begun:
        if day <= campaign.ends:
            return campaign
    return max(begun, key=lambda c: (c.ends, c.starts), default=None)


def canteens(session: Session) -> list[Canteen]:
    """Those that are open, by name."""
    return list(
        session.scalars(
            sa.select(Canteen).where(Canteen.open).order_by(Canteen.name)
        )
    )


def last_canteen(session: Session, user: User) -> int | None:
    """Where the person logged last."""
    return session.scalar(
        sa.select(Action.canteen_id)
        .where(Action.user_id == user.id)
        .order_by(Action.at.desc(), Action.id.desc())
        .limit(1)
    )


def likely_meal(
    session: Session,
    canteen_id: int | None,
    at: dt.datetime,
    kept: rules.Rules,
) -> str:
    """The meal that is served, else the one before, to be chosen beforehand."""
    local = at.astimezone(ZoneInfo(kept.zone)).time()
    periods = periods_of(session, canteen_id) if canteen_id is not None else []
    for period in periods:
        if within(local, period):
            return period.meal
    begun = [period.meal for period in periods if period.opens <= local]
    return (begun or ["lunch"])[-1]


__all__ = [
    "campaign_for",
    "campaign_on",
    "canteens",
    "last_canteen",
    "likely_meal",
    "periods_of",
    "within",
]
