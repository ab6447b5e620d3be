"""Who may do what: roles, trust, suspension; only by an admin, and audited.

Nothing here happens by itself: a person is suspended by a person. Nobody
changes their own role, and the last admin stays one.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    ROLES,
    Canteen,
    CanteenManager,
    LoginSession,
    User,
)


def find(session: Session, begins: str, most: int = 50) -> list[User]:
    """Persons whose pseudonym begins so; staff first."""
    asked = sa.select(User).order_by(
        sa.case((User.role == "participant", 1), else_=0), User.pseudonym
    )
    if not begins.isprintable():  # PostgreSQL takes no NUL.
        return []
    if begins:
        asked = asked.where(
            User.folded.startswith(begins.casefold(), autoescape=True)
        )
    return list(session.scalars(asked.limit(most)))


def set_role(
    session: Session,
    actor: User,
    number: int,
    role: str,
    canteens: Collection[int] = (),
) -> User:
    """Gives a role, and to a manager the canteens.

    Whoever is no reviewer any more is trusted no more. All their sessions end,
    so that a page that is open does not go on as before.

    Raises:
        UsageError: for oneself, the last admin, an unknown role or canteen.
    """
    user = _other(session, actor, number)
    checks.choice("role", role, ROLES)
    if user.role == "admin" and role != "admin":
        _not_last_admin(session, user)
    known = set(
        session.scalars(sa.select(Canteen.id).where(Canteen.id.in_(canteens)))
    )
    if known != set(canteens):
        raise Refused("staff_gone")
    session.execute(
        sa.delete(CanteenManager).where(CanteenManager.user_id == user.id)
    )
    if role == "manager":
        for canteen_id in sorted(known):
            session.add(CanteenManager(user_id=user.id, canteen_id=canteen_id))
    before, user.role = user.role, role
    if role == "participant":
        user.trusted = False
    _end_sessions(session, user)
    audit.note(
        session,
        actor,
        "role",
        f"user {user.id}",
        before=before,
        after=role,
        canteens=sorted(known) if role == "manager" else [],
    )
    return user


def set_trusted(
    session: Session, actor: User, number: int, trusted: bool
) -> User:
    """Lets a reviewer's vote decide alone, or no more.

    Raises:
        UsageError: for oneself, and for one who is no reviewer.
    """
    user = _other(session, actor, number)
    if trusted and user.role == "participant":
        raise Refused("trust_reviewer")
    user.trusted = trusted
    audit.note(session, actor, "trusted", f"user {user.id}", trusted=trusted)
    return user


def set_suspended(
    session: Session, actor: User, number: int, suspended: bool
) -> User:
    """Shuts a person out, or lets them in again; nothing of theirs goes.

    Raises:
        UsageError: for oneself and for the last admin.
    """
    user = _other(session, actor, number)
    if suspended and user.role == "admin":
        _not_last_admin(session, user)
    user.suspended = suspended
    if suspended:
        _end_sessions(session, user)
    audit.note(
        session, actor, "suspended", f"user {user.id}", suspended=suspended
    )
    return user


def may_remove(session: Session, actor: User, number: int) -> User:
    """Whom an admin may delete, with all that is theirs: not the last admin.

    Raises:
        UsageError: for oneself, who uses the page of their own data, and for
            the last admin.
    """
    user = _other(session, actor, number)
    if user.role == "admin":
        _not_last_admin(session, user)
    return user


def create(
    session: Session,
    pseudonym: str,
    password_hash: str,
    role: str,
    actor: User | None = None,
) -> User:
    """Adds one of the staff.

    Raises:
        UsageError: for a name that is taken, empty or too long.
    """
    name = " ".join(pseudonym.split())
    if not 1 <= len(name) <= 40 or not name.isprintable():
        raise checks.UsageError(
            f"the name {pseudonym!r} must have 1 to 40 letters."
        )
    if session.scalars(
        sa.select(User).where(User.folded == name.casefold())
    ).first():
        raise checks.UsageError(
            f"the name {name!r} is taken; choose another one."
        )
    checks.choice("role", role, ROLES)
    user = User(pseudonym=name, password_hash=password_hash, role=role)
    session.add(user)
    session.flush()
    audit.note(session, actor, "created", f"user {user.id}", role=role)
    return user


def _other(session: Session, actor: User, number: int) -> User:
    if number == actor.id:
        raise Refused("not_oneself")
    user = session.get(User, number)
    if user is None:
        raise Refused("staff_gone")
    return user


def other_admins(session: Session, user: User) -> bool:
    """Whether another admin may log in; all are held until the commit.

    So two admins cannot remove each other at once.
    """
    admins = session.scalars(
        sa.select(User.id)
        .where(User.role == "admin", User.suspended.is_(False))
        .order_by(User.id)
        .with_for_update()
    ).all()
    return bool(set(admins) - {user.id})


def _not_last_admin(session: Session, user: User) -> None:
    if not other_admins(session, user):
        raise Refused("last_admin")


def _end_sessions(session: Session, user: User) -> None:
    session.execute(
        sa.delete(LoginSession).where(LoginSession.user_id == user.id)
    )


__all__ = [
    "create",
    "find",
    "may_remove",
    "other_admins",
    "set_role",
    "set_suspended",
    "set_trusted",
]
