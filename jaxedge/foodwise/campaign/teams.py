"""Teams of a campaign, and who has how many points.

Only persons who chose to be seen are: their points make their team's mean, and
a team is shown once three of them are in it, so that a mean tells nobody.
"""

from collections.abc import Collection
import secrets
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.security import LETTERS
from jaxedge.foodwise.base.tables import (
    Campaign,
    Membership,
    PointsEntry,
    Team,
    User,
)

LEAST_NAME, MOST_NAME = 2, 40
LEAST_SHOWN = 3  # Persons of a team.
_CODE = 8  # Letters of `security.LETTERS`: 31^8 codes.


class TeamRow(NamedTuple):
    """A team on the leaderboard."""

    name: str
    persons: int
    mean: float


class PersonRow(NamedTuple):
    """A person on the leaderboard."""

    pseudonym: str
    points: int


class Board(NamedTuple):
    """The leaderboard: teams first, the most points first."""

    teams: list[TeamRow]
    persons: list[PersonRow]


def of(session: Session, user: User, campaign: Campaign) -> Team | None:
    """A person's team."""
    return session.scalars(
        sa.select(Team)
        .join(Membership, Membership.team_id == Team.id)
        .where(
            Membership.user_id == user.id,
            Membership.campaign_id == campaign.id,
        )
    ).one_or_none()


def size(session: Session, team: Team) -> int:
    """How many persons are in it."""
    counted = sa.select(sa.func.count()).where(Membership.team_id == team.id)
    return session.scalar(counted) or 0


def create(session: Session, user: User, campaign: Campaign, name: str) -> Team:
    """A new team with its first person.

    Raises:
        Refused: for a bad or a taken name, or a person who has a team.
    """
    said = " ".join(name.split())
    if not LEAST_NAME <= len(said) <= MOST_NAME or not said.isprintable():
        raise Refused("team_name", least=LEAST_NAME, most=MOST_NAME)
    if of(session, user, campaign) is not None:
        raise Refused("team_already")
    code = "".join(secrets.choice(LETTERS) for _ in range(_CODE))
    team = Team(campaign_id=campaign.id, name=said, code=code)
    try:
        with session.begin_nested():
            session.add(team)
    except exc.IntegrityError:
        raise Refused("team_taken") from None
    _enter(session, user, team)
    return team


def join(session: Session, user: User, campaign: Campaign, code: str) -> Team:
    """Enters a team by its code.

    Raises:
        Refused: for a code that no team of the campaign has, or a person who
            has a team.
    """
    said = code.strip().upper()
    if not (said.isalnum() and said.isascii()):  # PostgreSQL takes no NUL.
        raise Refused("team_code")
    team = session.scalars(
        sa.select(Team).where(
            Team.campaign_id == campaign.id, Team.code == said
        )
    ).one_or_none()
    if team is None:
        raise Refused("team_code")
    _enter(session, user, team)
    return team


def _enter(session: Session, user: User, team: Team) -> None:
    try:
        with session.begin_nested():
            session.add(
                Membership(
                    user_id=user.id,
                    campaign_id=team.campaign_id,
                    team_id=team.id,
                )
            )
    except exc.IntegrityError:
        raise Refused("team_already") from None


def leave(session: Session, user: User, campaign: Campaign) -> None:
    """Leaves the team of a campaign, if there is one."""
    team = of(session, user, campaign)
    if team is not None:
        session.execute(
            sa.delete(Membership).where(
                Membership.user_id == user.id, Membership.team_id == team.id
            )
        )
        drop_empty(session, [team.id])


def drop_empty(session: Session, numbers: Collection[int]) -> None:
    """Deletes those that nobody is in: persons chose their names."""
    filled = sa.select(Membership.team_id)
    session.execute(
        sa.delete(Team).where(Team.id.in_(numbers), Team.id.not_in(filled))
    )


def board(session: Session, campaign: Campaign, most: int = 20) -> Board:
    """The leaderboard of those who chose to be on it.

    Args:
        session: of the database.
        campaign: whose points.
        most: teams, and persons, that are shown.
    """
    points = (
        sa.select(
            PointsEntry.user_id, sa.func.sum(PointsEntry.points).label("sum")
        )
        .where(PointsEntry.campaign_id == campaign.id)
        .group_by(PointsEntry.user_id)
        .subquery()
    )
    rows = session.execute(
        sa.select(User.pseudonym, points.c.sum, Team.name)
        .outerjoin(points, points.c.user_id == User.id)
        .outerjoin(
            Membership,
            sa.and_(
                Membership.user_id == User.id,
                Membership.campaign_id == campaign.id,
            ),
        )
        .outerjoin(Team, Team.id == Membership.team_id)
        .where(User.leaderboard, ~User.suspended, User.role == "participant")
        .order_by(User.folded)
    )
    by_team: dict[str, list[int]] = {}
    persons = []
    for pseudonym, total, team in rows:
        if total is not None:
            persons.append(PersonRow(pseudonym, total))
        if team is not None:
            by_team.setdefault(team, []).append(total or 0)
    shown = [
        TeamRow(name, len(sums), sum(sums) / len(sums))
        for name, sums in by_team.items()
        if len(sums) >= LEAST_SHOWN
    ]
    return Board(
        sorted(shown, key=lambda row: (-row.mean, row.name))[:most],
        sorted(persons, key=lambda row: -row.points)[:most],
    )


__all__ = [
    "Board",
    "LEAST_SHOWN",
    "PersonRow",
    "TeamRow",
    "board",
    "create",
    "drop_empty",
    "join",
    "leave",
    "of",
    "size",
]
