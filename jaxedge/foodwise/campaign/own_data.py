"""All that is kept of a person: given to them, and deleted for good."""

from collections.abc import Callable
import contextlib
import datetime as dt
import io
import json
import logging
from typing import Any
import zipfile

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import audit
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    CanteenManager,
    Consent,
    Grade,
    Label,
    LoginSession,
    Membership,
    Photo,
    PointsEntry,
    ReviewVote,
    RewardDraw,
    StreakRepair,
    Team,
    User,
)
from jaxedge.foodwise.campaign import photos, staff, teams, verdicts

_LOG = logging.getLogger(__name__)
# What lets others in is not told, not even to its owner.
_SECRET = ("password_hash", "token_hash", "code_hash", "once", "file")
# Table -> its rows of a person.
_OWN: dict[Any, Callable[[int], sa.ColumnElement[bool]]] = {
    User: lambda number: User.id == number,
    Consent: lambda number: Consent.user_id == number,
    LoginSession: lambda number: LoginSession.user_id == number,
    CanteenManager: lambda number: CanteenManager.user_id == number,
    Membership: lambda number: Membership.user_id == number,
    Team: lambda number: Team.id.in_(
        sa.select(Membership.team_id).where(Membership.user_id == number)
    ),
    Action: lambda number: Action.user_id == number,
    Photo: lambda number: Photo.user_id == number,
    Grade: lambda number: Grade.photo_id.in_(_photos(number)),
    Label: lambda number: Label.photo_id.in_(_photos(number)),
    PointsEntry: lambda number: PointsEntry.user_id == number,
    StreakRepair: lambda number: StreakRepair.user_id == number,
    ReviewVote: lambda number: ReviewVote.user_id == number,
    AuditEntry: lambda number: AuditEntry.actor_id == number,
}


def _photos(number: int) -> sa.Select[Any]:
    return sa.select(Photo.id).where(Photo.user_id == number)


def export(session: Session, user: User) -> dict[str, list[dict[str, Any]]]:
    """Table -> the person's rows as JSON has them.

    Without what lets others in, such as the hash of the password.
    """
    found = {
        table.__tablename__: [
            _told(row)
            for row in session.scalars(sa.select(table).where(own(user.id)))
        ]
        for table, own in _OWN.items()
    }
    found[RewardDraw.__tablename__] = [
        {
            "campaign_id": draw.campaign_id,
            "tickets": draw.tickets[str(user.id)],
            "won": user.id in draw.winners,
            "at": draw.at.isoformat(),
        }
        for draw in session.scalars(sa.select(RewardDraw))
        if str(user.id) in draw.tickets
    ]
    return found


def _told(row: Any) -> dict[str, Any]:
    names = [column.key for column in sa.inspect(type(row)).column_attrs]
    told = {name: getattr(row, name) for name in names if name not in _SECRET}
    return {
        name: value.isoformat() if isinstance(value, dt.date) else value
        for name, value in told.items()
    }


def archive(session: Session, settings: Settings, user: User) -> bytes:
    """A ZIP of data.json, which is `export`, and photos/NUMBER.jpg."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        told = export(session, user)
        made.writestr(
            "data.json", json.dumps(told, ensure_ascii=False, indent=1)
        )
        for number, name in session.execute(
            sa.select(Photo.id, Photo.file).where(
                Photo.user_id == user.id, Photo.deleted_at.is_(None)
            )
        ):
            # It may expire while this is made.
            with contextlib.suppress(FileNotFoundError):
                found = photos.path(settings.photos, name).read_bytes()
                made.writestr(f"photos/{number}.jpg", found)
    return out.getvalue()


def withdraw(session: Session, settings: Settings, user: User) -> None:
    """Deletes every row and file of a person; the audit says so, no name.

    Draws and audits keep the person's number, which is given to nobody again,
    so that whoever doubts a draw can draw anew. Files go before the rows are
    committed: whatever is killed in between, nothing is left that no row tells
    of.

    SQLite overwrites what it deletes; its log is emptied after the commit, or
    by the next sweep where somebody reads it for long. PostgreSQL keeps deleted
    rows in its files until it vacuums them, and in its archived log, if there
    is one, as long as that is kept.

    Args:
        session: that writes, of `Database`.
        settings: of the instance.
        user: who withdraws.

    Raises:
        Refused: for the last admin, and where they have gone already.
    """
    if user.role == "admin" and not staff.other_admins(session, user):
        raise Refused("erase_admin")
    # Held before anything is read: what is just being logged goes, too.
    if not verdicts.hold(session, user.id):
        raise Refused("person_gone")
    event.listen(session, "after_commit", _forget, once=True)
    files = session.scalars(
        sa.select(Photo.file).where(Photo.user_id == user.id)
    ).all()
    joined = session.scalars(
        sa.select(Membership.team_id).where(Membership.user_id == user.id)
    ).all()
    session.execute(sa.delete(User).where(User.id == user.id))
    teams.drop_empty(session, joined)
    audit.note(session, None, "withdraw", photos=len(files))
    session.flush()
    photos.remove(settings.photos, *files)


def _forget(session: Session) -> None:
    database: Database = session.info["database"]
    if not database.forget():
        _LOG.warning("what was deleted is overwritten by the next sweep")


__all__ = ["archive", "export", "withdraw"]
