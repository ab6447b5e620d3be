"""Whether a photo was sent before, by whomever.

Comparing with all photos of a campaign takes a while: it is done before the
transaction that keeps the photo, which then looks at what came since.
"""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base.tables import Action, Photo
from jaxedge.foodwise.campaign.photos import Picture, among

_LOCK = 0x466F6F64  # Tells our locks of PostgreSQL from others.


class Compared(NamedTuple):
    """What a photo was compared with before the transaction that keeps it.

    Attributes:
        campaign_id: whose photos.
        last: up to this number, in which photos come.
        known: whether it was among them.
    """

    campaign_id: int
    last: int
    known: bool


def compare(
    session: Session, campaign_id: int, picture: Picture, after: int = 0
) -> Compared:
    """Whether a photo is known, of whomever; what was undone is forgotten.

    Its file is looked for in all campaigns, what looks like it in one.

    Args:
        session: that reads.
        campaign_id: of the campaign.
        picture: as it was read.
        after: number of a photo: up to it, their looks have been compared.
    """
    kept = (
        sa.select(Photo.id, Photo.phash)
        .join(Action, Action.id == Photo.action_id)
        .where(Action.state != "undone")
    )
    rows = session.execute(
        kept.where(
            Action.campaign_id == campaign_id, Photo.id > after
        ).order_by(Photo.id)
    ).all()
    same = session.execute(
        kept.where(Photo.sha256 == picture.sha256).limit(1)
    ).first()
    alike = among(picture.phash, (row.phash for row in rows))
    last = rows[-1].id if rows else after
    return Compared(campaign_id, last, same is not None or bool(alike))


def known(
    session: Session,
    campaign_id: int,
    picture: Picture,
    before: Compared | None = None,
) -> bool:
    """Whether the photo is known by now."""
    if before is None or before.campaign_id != campaign_id:
        before = Compared(campaign_id, 0, False)
    return before.known or (
        compare(session, campaign_id, picture, before.last).known
    )


def hold(session: Session, campaign_id: int) -> None:
    """One photo of a campaign at a time, until it is kept.

    Of two that are sent together the second one sees the first; and they come
    in the order of their numbers, so that none is added before one that was
    compared. (SQLite has one writer anyway.)
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            sa.select(sa.func.pg_advisory_xact_lock(_LOCK, campaign_id))
        )


__all__ = ["Compared", "compare", "hold", "known"]
