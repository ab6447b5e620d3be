"""What follows when people decide about an action: it counts, or it does not.

Points are only ever added to the ledger: what is taken back is taken back by
rows that are the exact inverse.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import Action, PointsEntry, User


def hold(session: Session, user_id: int | None) -> bool:
    """One at a time for a person: what they have is read, then changed.

    Returns:
        False for nobody, such as one who has withdrawn meanwhile.
    """
    held = session.scalar(
        sa.select(User.id)
        .where(User.id == user_id)
        .with_for_update(key_share=True)
    )
    return held is not None


def count(
    session: Session,
    action: Action,
    of_campaign: rules.Rules,
    at: dt.datetime,
    *,
    verified: bool,
) -> None:
    """Lets an action count: with its points, unless a limit is reached.

    What was taken back by its person stays so. Points that it has already are
    not given twice.

    Args:
        session: that writes.
        action: in any state.
        of_campaign: rules.
        at: now.
        verified: whether its photo showed a clean plate.
    """
    if action.state == "undone":
        return
    standing = {row.reason: row.points for row in _standing(session, action)}
    if not standing:
        worth, action.reason = rules.worth(
            _earlier(session, action),
            rules.Logged(action.day, action.meal),
            of_campaign,
        )
        standing["action"] = worth
        _add(session, action, worth, "action", at)
    elif action.state == "review":
        action.reason = ""
    action.state = "counted"
    if verified and standing.get("action") and "verified" not in standing:
        _add(session, action, of_campaign.verified, "verified", at)


def turn_down(session: Session, action: Action, at: dt.datetime) -> None:
    """Takes back whatever points an action has, row by row."""
    if action.state == "undone":
        return
    for row in _standing(session, action):
        _add(session, action, -row.points, "rejected", at)
    action.state = "rejected"


def _standing(session: Session, action: Action) -> list[PointsEntry]:
    """The action's rows that no other row takes back.

    Whoever takes points back takes all of them: so those after the last such.
    """
    standing: list[PointsEntry] = []
    for row in session.scalars(
        sa.select(PointsEntry)
        .where(PointsEntry.action_id == action.id)
        .order_by(PointsEntry.id)
    ):
        if row.points < 0:
            standing = []
        else:
            standing.append(row)
    return standing


def _earlier(session: Session, action: Action) -> list[rules.Logged]:
    """The person's other actions of that day that hold points."""
    held = (
        sa.select(PointsEntry.action_id)
        .where(PointsEntry.user_id == action.user_id)
        .group_by(PointsEntry.action_id)
        .having(sa.func.sum(PointsEntry.points) > 0)
    )
    rows = session.execute(
        sa.select(Action.day, Action.meal).where(
            Action.user_id == action.user_id,
            Action.campaign_id == action.campaign_id,
            Action.day == action.day,
            Action.id != action.id,
            Action.id.in_(held),
        )
    )
    return [rules.Logged(day, meal) for day, meal in rows]


def _add(
    session: Session, action: Action, points: int, reason: str, at: dt.datetime
) -> None:
    if points:
        session.add(
            PointsEntry(
                user_id=action.user_id,
                campaign_id=action.campaign_id,
                action_id=action.id,
                points=points,
                reason=reason,
                at=at,
            )
        )
        session.flush()


__all__ = ["count", "hold", "turn_down"]
