"""What needs a person's judgement beside photos: doubtful actions, notes, and
names of teams.
"""

import datetime as dt
from typing import NamedTuple, TypeVarTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit, rules
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    Grade,
    Label,
    Membership,
    Photo,
    Team,
    User,
)
from jaxedge.foodwise.campaign import campaigns, verdicts

CHOICES = ("count", "turn_down", "hide_note", "seen")
KINDS = ("waiting", "notes")
MOST = 25  # Of a page.
_Row = TypeVarTuple("_Row")


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


def pending(
    session: Session,
    user: User,
    kind: str = "waiting",
    after: int = 0,
    most: int = MOST,
) -> list[Doubt]:
    """Actions of a user's canteens, those that were logged first first.

    Args:
        session: of the database.
        user: a manager, for the canteens that are theirs, or an admin.
        kind: of `KINDS`: those that wait, or those that count and have a note
            that nobody has read.
        after: id of the last one of the page before; 0 for the first page.
        most: how many.
    """
    checks.choice("kind", kind, KINDS)
    asked = (
        _theirs(sa.select(Action, Canteen, Photo), session, user, kind)
        .join(Canteen, Canteen.id == Action.canteen_id)
        .outerjoin(
            Photo,
            sa.and_(Photo.action_id == Action.id, Photo.deleted_at.is_(None)),
        )
        .where(Action.id > after)
        .order_by(Action.id)
        .limit(most)
    )
    return [Doubt(*row) for row in session.execute(asked)]


def count(session: Session, user: User, kind: str) -> int:
    """How many there are of a kind, on all pages."""
    asked = sa.select(sa.func.count()).select_from(Action)
    return session.scalar(_theirs(asked, session, user, kind)) or 0


def photo(session: Session, user: User, number: int) -> Photo | None:
    """The photo of an action that waits, for those who decide about it."""
    asked = (
        _theirs(sa.select(Photo), session, user, "waiting")
        .join(Action, Action.id == Photo.action_id)
        .where(Action.id == number, Photo.deleted_at.is_(None))
    )
    return session.scalars(asked).one_or_none()


def _theirs(
    asked: sa.Select[*_Row], session: Session, user: User, kind: str
) -> sa.Select[*_Row]:
    ours = [canteen.id for canteen in campaigns.managed(session, user)]
    asked = asked.where(Action.canteen_id.in_(ours), Action.user_id != user.id)
    if kind == "waiting":
        return asked.where(Action.state == "review")
    return asked.where(
        Action.state == "counted",
        Action.note != "",
        Action.note_seen.is_(False),
    )


def decide(
    session: Session, user: User, number: int, choice: str, at: dt.datetime
) -> Action:
    """Lets an action count, turns it down, or removes or passes its note.

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
        raise Refused("staff_gone")
    action.note_seen = True  # It is shown with every choice.
    if choice == "seen":
        return action
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


class Named(NamedTuple):
    """A team, of which the staff sees the name alone.

    Attributes:
        team: with its name.
        campaign: of it.
        persons: how many are in it.
    """

    team: Team
    campaign: Campaign
    persons: int


def teams(session: Session, after: int = 0, most: int = MOST) -> list[Named]:
    """Teams, those that were made first first; `after` as in `pending`."""
    rows = session.execute(
        sa.select(Team, Campaign, sa.func.count(Membership.user_id))
        .join(Campaign, Campaign.id == Team.campaign_id)
        .outerjoin(Membership, Membership.team_id == Team.id)
        .where(Team.id > after)
        .group_by(Team.id, Campaign.id)
        .order_by(Team.id)
        .limit(most)
    )
    return [Named(*row) for row in rows]


def drop_team(session: Session, actor: User, number: int) -> None:
    """Removes a team; its persons are in none, and lose no point.

    Raises:
        UsageError: for a team that is not there.
    """
    found = session.get(Team, number)
    if found is None:
        raise Refused("staff_gone")
    session.execute(sa.delete(Team).where(Team.id == number))
    audit.note(session, actor, "team_removed", f"team {number}")


__all__ = [
    "CHOICES",
    "Doubt",
    "KINDS",
    "MOST",
    "Named",
    "count",
    "decide",
    "drop_team",
    "pending",
    "photo",
    "teams",
]
