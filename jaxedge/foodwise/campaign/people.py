"""Persons: joining under a pseudonym, agreeing, logging in, settings."""

import re

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import audit, security, words
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.base.tables import Consent, LoginSession, User
from jaxedge.foodwise.campaign.own_data import archive, export, withdraw

# Latin letters and Chinese characters: of more scripts, some look the same.
_PSEUDONYM = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fff]{3,20}")
# Nobody should take a person for the staff.
_STAFF = (
    "admin",
    "administrator",
    "foodwise",
    "manager",
    "moderator",
    "official",
    "reviewer",
    "root",
    "staff",
    "support",
    "system",
)
MOST_LETTERS = 200  # Of a password.


def check_pseudonym(name: str) -> None:
    """Raises Refused unless it is one that a person may have."""
    if not _PSEUDONYM.fullmatch(name):
        raise Refused("name_letters")
    bare = re.sub(r"[0-9_\-]", "", name.casefold())
    if bare.removesuffix("s") in _STAFF:
        raise Refused("name_staff")


def check_password(password: str, name: str = "") -> None:
    """Raises Refused for one that is too short, too long, or the pseudonym."""
    if not security.LEAST_LETTERS <= len(password) <= MOST_LETTERS:
        raise Refused(
            "password_length", least=security.LEAST_LETTERS, most=MOST_LETTERS
        )
    if password.casefold() == name.casefold():
        raise Refused("password_name")


def sendable(password: str) -> str:
    """As text that can be hashed, whatever a form brought."""
    return password.encode("utf-8", "replace").decode()


def find(session: Session, name: str) -> User | None:
    """Who has the pseudonym, in small or large letters."""
    return session.scalars(
        sa.select(User).where(User.folded == name.casefold())
    ).one_or_none()


def join(
    session: Session,
    name: str,
    password_hash: str,
    consent: str,
    language: str = "en",
) -> User:
    """A new participant, who has agreed.

    Args:
        session: that writes.
        name: the pseudonym.
        password_hash: of `security.hash_password`, made before.
        consent: version of the text that was agreed to.
        language: of the pages.

    Raises:
        Refused: for a pseudonym that is taken or may not be, or without
            agreeing to the text as it is now.
    """
    check_pseudonym(name)
    user = User(
        pseudonym=name,
        password_hash=password_hash,
        role="participant",
        language=_language(language),
    )
    try:
        with session.begin_nested():
            session.add(user)
    except exc.IntegrityError:
        raise Refused("name_taken_by") from None
    agree(session, user, consent)
    return user


def agree(session: Session, user: User, consent: str) -> None:
    """Keeps that a person agrees; raises Refused for another version."""
    if consent != CONSENT:
        raise Refused("consent_needed")
    if not agreed(session, user):
        session.add(Consent(user_id=user.id, version=consent))
        session.flush()


def agreed(session: Session, user: User) -> bool:
    """Whether it was to the text as it is now."""
    return (
        session.scalar(
            sa.select(Consent.id)
            .where(Consent.user_id == user.id, Consent.version == CONSENT)
            .limit(1)
        )
        is not None
    )


def change_password(session: Session, user_id: int, password_hash: str) -> None:
    """Sets one that is theirs, and ends every log-in that there is."""
    _set_password(session, user_id, password_hash, once=False)


def reset_password(
    session: Session, actor: User | None, user: User, password_hash: str
) -> None:
    """Sets one that the staff made, which lets in once to choose another.

    All log-ins end, as after every change.

    Args:
        session: that writes.
        actor: an admin; None for the command line.
        user: who lost theirs.
        password_hash: of `security.hash_password`, made before.
    """
    _set_password(session, user.id, password_hash, once=True)
    audit.note(session, actor, "password_reset", f"user {user.id}")


def _set_password(
    session: Session, user_id: int, password_hash: str, *, once: bool
) -> None:
    session.execute(
        sa.update(User)
        .where(User.id == user_id)
        .values(password_hash=password_hash, password_once=once)
    )
    session.execute(
        sa.delete(LoginSession).where(LoginSession.user_id == user_id)
    )


def change_settings(
    session: Session,
    user_id: int,
    language: str,
    leaderboard: bool,
    notifications: bool,
) -> None:
    """Sets what a person chooses."""
    session.execute(
        sa.update(User)
        .where(User.id == user_id)
        .values(
            language=_language(language),
            leaderboard=leaderboard,
            notifications=notifications,
        )
    )


def change_language(session: Session, user_id: int, language: str) -> None:
    """Of a person's pages."""
    session.execute(
        sa.update(User)
        .where(User.id == user_id)
        .values(language=_language(language))
    )


def _language(asked: str) -> str:
    return asked if asked in words.LANGUAGES else words.LANGUAGES[0]


__all__ = [
    "MOST_LETTERS",
    "agree",
    "agreed",
    "archive",
    "change_language",
    "change_password",
    "change_settings",
    "check_password",
    "check_pseudonym",
    "export",
    "find",
    "join",
    "reset_password",
    "sendable",
    "withdraw",
]
