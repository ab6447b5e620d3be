"""What needs a person's judgement beside photos: doubtful actions, notes."""

import datetime as dt
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise import audit, campaigns, rules, verdicts
from jaxedge.foodwise.tables import (
    Action,
    Campaign,
    Canteen,
    Grade,
    Label,
    Photo,
    User,
)

CHOICES = ("count", "turn_down", "hide_note")


class Doubt(NamedTuple):
    """An action that a person looks at; whose it is is not shown.

    Attributes:
        action: with its note and why it waits.
        canteen: where it was.
        photo: of it, if there is one and it is still kept.
    """

    action: Action
    canteen: Canteen
    photo: Photo | None


def pending(session: Session, user: User, most: int = 50) -> list[Doubt]:
    """Actions that wait, and notes that anybody wrote, of a user's canteens.

    Args:
        session: of the database.
        user: a manager, for the canteens that are theirs, or an admin.
        most: the latest of them.
    """
    ours = [canteen.id for canteen in campaigns.managed(session, user)]
    rows = session.execute(
        sa.select(Action, Canteen, Photo)
        .join(Canteen, Canteen.id == Action.canteen_id)
        .outerjoin(
            Photo,
            sa.and_(Photo.action_id == Action.id, Photo.deleted_at.is_(None)),
        )
        .where(
            Action.canteen_id.in_(ours),
            Action.user_id != user.id,
            sa.or_(
                Action.state == "review",
                sa.and_(Action.state == "counted", Action.note != ""),
            ),
        )
        .order_by(
            sa.case((Action.state == "review", 0), else_=1), Action.id.desc()
        )
        .limit(most)
    )
    return [Doubt(*row) for row in rows]


def decide(
    session: Session, user: User, number: int, choice: str, at: dt.datetime
) -> Action:
    """Lets an action count, turns it down, or removes its note.

    Args:
        session: that writes.
        user: a manager of its canteen, or an admin; not its person.
        number: of the action.
        choice: one of `CHOICES`.
        at: now.

    Raises:
        UsageError: for what is not theirs to decide.
    """
    checks.choice("choice", choice, CHOICES)
    # Held: a vote may settle it, or its person take it back, at the same time.
    verdicts.hold(
        session,
        session.scalar(sa.select(Action.user_id).where(Action.id == number)),
    )
    action = session.get(Action, number)
    ours = {canteen.id for canteen in campaigns.managed(session, user)}
    if (
        action is None
        or action.canteen_id not in ours
        or action.user_id == user.id
        or action.state == "undone"
    ):
        raise checks.UsageError("staff_gone")
    if choice == "hide_note":
        action.note = ""
    elif choice == "turn_down":
        verdicts.turn_down(session, action, at)
    else:
        campaign = session.get_one(Campaign, action.campaign_id)
        verdicts.count(
            session,
            action,
            rules.read(campaign.rules),
            at,
            verified=_clean(session, action),
        )
    audit.note(session, user, f"action_{choice}", f"action {action.id}")
    return action


def _clean(session: Session, action: Action) -> bool:
    """Whether people or the network have seen a clean plate on its photo."""
    row = session.execute(
        sa.select(Label.label, Label.photo_id, Grade.decision)
        .select_from(Photo)
        .outerjoin(Label, Label.photo_id == Photo.id)
        .outerjoin(Grade, Grade.photo_id == Photo.id)
        .where(Photo.action_id == action.id)
    ).one_or_none()
    if row is None:
        return False
    return (row[2] if row[1] is None else row[0]) == 0


__all__ = ["CHOICES", "Doubt", "decide", "pending"]
