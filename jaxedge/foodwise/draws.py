"""The draw of rewards: by active days, with a seed that all can check."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise import audit, campaigns, rules
from jaxedge.foodwise.tables import Action, Campaign, RewardDraw, User

MOST_PRIZES = 1000


def tickets(session: Session, campaign: Campaign) -> dict[int, int]:
    """Person -> tickets, by days on which an action of theirs counts."""
    of_campaign = rules.read(campaign.rules)
    rows = session.execute(
        sa.select(Action.user_id, sa.func.count(Action.day.distinct()))
        .join(User, User.id == Action.user_id)
        .where(
            Action.campaign_id == campaign.id,
            Action.state == "counted",
            User.role == "participant",
        )
        .group_by(Action.user_id)
        .order_by(Action.user_id)
    )
    return {who: rules.tickets(days, of_campaign) for who, days in rows}


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
        campaign: must have ended, and nothing of it wait for people.
        prizes: how many.
        seed: a text that nobody could choose, such as a published lottery's
            number of a later day.
        at: now.

    Raises:
        UsageError: before the end, while photos wait, for a second draw, or
            where nobody has a ticket.
    """
    if rules.day_of(at, rules.read(campaign.rules)) <= campaign.ends:
        raise checks.UsageError("draw_early")
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
        raise checks.UsageError("draw_twice")
    if session.scalar(
        asked.select_from(Action).where(
            Action.campaign_id == campaign.id, Action.state == "review"
        )
    ):
        raise checks.UsageError("draw_waiting")
    checks.in_range("prizes", prizes, 1, MOST_PRIZES)
    said = campaigns.text("draw_seed", seed, 80)
    held = tickets(session, campaign)
    if not held:
        raise checks.UsageError("draw_nobody")
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


__all__ = ["draw", "tickets"]
