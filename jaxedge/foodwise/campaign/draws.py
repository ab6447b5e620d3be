"""The draw of rewards: by active days, with a seed that was fixed before.

Before a campaign ends, the SHA-256 of a secret seed is shown to all who take
part, and the seed itself at the draw: so nobody chose it once they knew the
tickets. Whoever kept the seed could foresee who wins, though, and what they
turn down or let count changes tickets: that is in the audit log.
"""

import datetime as dt
import hashlib
import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit, rules
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import Action, Campaign, RewardDraw, User
from jaxedge.foodwise.campaign import campaigns

MOST_PRIZES = 1000


def tickets(session: Session, campaign: Campaign) -> dict[int, int]:
    """Person -> tickets, by days of the campaign on which an action counts."""
    of_campaign = rules.read(campaign.rules)
    rows = session.execute(
        sa.select(Action.user_id, sa.func.count(Action.day.distinct()))
        .join(User, User.id == Action.user_id)
        .where(
            *_of(campaign, "counted"),
            User.role == "participant",
        )
        .group_by(Action.user_id)
        .order_by(Action.user_id)
    )
    return {who: rules.tickets(days, of_campaign) for who, days in rows}


def _of(campaign: Campaign, state: str) -> list[sa.ColumnElement[bool]]:
    """Its actions in a state; what was logged late is none of its days."""
    return [
        Action.campaign_id == campaign.id,
        Action.state == state,
        Action.day.between(campaign.starts, campaign.ends),
    ]


def is_over(campaign: Campaign, at: dt.datetime) -> bool:
    """Whether its last day has passed, by its own clock."""
    return rules.day_of(at, rules.read(campaign.rules)) > campaign.ends


def commitment(seed: str) -> str:
    """What is told of a seed beforehand: its SHA-256 in hexadecimal."""
    return hashlib.sha256(seed.encode()).hexdigest()


def commit(
    session: Session, actor: User, campaign: Campaign, at: dt.datetime
) -> str:
    """Fixes a new seed of chance, instead of one before, if there was one.

    Args:
        session: that writes.
        actor: an admin, who keeps the seed.
        campaign: must not have ended.
        at: now.

    Returns:
        The seed, which is kept nowhere: the table has its hash.

    Raises:
        UsageError: after the end.
    """
    if is_over(campaign, at):
        raise Refused("commit_late")
    seed = secrets.token_hex(16)
    again = bool(campaign.commitment)
    campaign.commitment, campaign.committed_at = commitment(seed), at
    audit.note(
        session,
        actor,
        "seed_fixed",
        f"campaign {campaign.id}",
        sha256=campaign.commitment,
        again=again,
    )
    return seed


def draw(
    session: Session,
    actor: User,
    campaign: Campaign,
    prizes: int,
    seed: str,
    at: dt.datetime,
) -> RewardDraw:
    """Draws who wins, once a campaign is over; seed and tickets are kept.

    Args:
        session: that writes.
        actor: an admin; the staff has no tickets.
        campaign: must have ended, and nothing of its days wait for people.
        prizes: how many.
        seed: the one that was fixed by `commit`.
        at: now.

    Raises:
        UsageError: before the end, for a seed that was not fixed, while photos
            wait, for a second draw, or where nobody has a ticket.
    """
    if not is_over(campaign, at):
        raise Refused("draw_early")
    asked = sa.select(sa.func.count())
    # Held, so that of two draws at once the second one sees the first.
    session.execute(
        sa.select(Campaign.id)
        .where(Campaign.id == campaign.id)
        .with_for_update()
    )
    if session.scalar(
        asked.select_from(RewardDraw).where(
            RewardDraw.campaign_id == campaign.id
        )
    ):
        raise Refused("draw_twice")
    if session.scalar(
        asked.select_from(Action).where(*_of(campaign, "review"))
    ):
        raise Refused("draw_waiting")
    checks.in_range("prizes", prizes, 1, MOST_PRIZES)
    said = campaigns.text("draw_seed", seed, 80)
    if not campaign.commitment:
        raise Refused("draw_unfixed")
    if commitment(said) != campaign.commitment:
        raise Refused("draw_other_seed")
    held = tickets(session, campaign)
    if not held:
        raise Refused("draw_nobody")
    made = RewardDraw(
        campaign_id=campaign.id,
        seed=said,
        prizes=prizes,
        tickets={str(who): n for who, n in held.items()},
        winners=rules.draw(held, prizes, said),
        at=at,
    )
    session.add(made)
    session.flush()
    audit.note(session, actor, "draw", f"campaign {campaign.id}", prizes=prizes)
    return made


__all__ = ["commit", "commitment", "draw", "is_over", "tickets"]
