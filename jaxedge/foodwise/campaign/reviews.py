"""The review queue: people say what the network could not, and it learns.

Whoever looks at a photo sees neither whose it is, nor what the network or
others said of it. The rules of votes are those of `rules.decide`.

Letters: N photos, K classes, F features.
"""

from collections.abc import Iterable, Iterator
import datetime as dt
import json
from typing import NamedTuple, TypeVarTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    Grade,
    Label,
    Photo,
    ReviewVote,
    User,
)
from jaxedge.foodwise.campaign import verdicts

# Of the most uncertain photos so many are told apart by their looks: of few
# numbers, as each is a program of its own.
SIZES = (64, 16, 4)
WINDOW = SIZES[0]
# Why an action waits that no look at its plate can settle.
_NOT_OF_PLATES = ("campaign", "closed", "time", "code", "duplicate")
_FEATURES = 128
_Row = TypeVarTuple("_Row")
CHOICES = (*range(len(rules.CLASSES)), rules.SKIP)


def queue(session: Session, user: User, most: int = WINDOW) -> list[Photo]:
    """Photos for a reviewer, the one that teaches most first.

    Their actions wait for people, and nobody of `moderation` has decided about
    them; neither their own nor one on which they have voted.

    Args:
        session: of the database.
        user: the reviewer.
        most: of the most uncertain photos; 64, 16 or 4 of them are ordered by
            uncertainty and diversity, and the others follow.
    """
    uncertainty = sa.func.coalesce(Grade.u, 1.0)
    found = session.execute(
        _waiting(sa.select(Photo, Grade), user)
        .order_by(uncertainty.desc(), Photo.id)
        .limit(most)
    ).all()
    # One without features cannot be told from others: after those that can.
    full = [row for row in found if row[0].features and row[1] is not None]
    rest = [row[0] for row in found if not row[0].features or row[1] is None]
    size = next((n for n in SIZES if n <= len(full)), 0)
    if not size:
        return [photo for photo, _ in full] + rest
    alphas_NxK = np.asarray([g.alpha for _, g in full[:size]], np.float32)
    features_NxF = np.asarray([p.features for p, _ in full[:size]], np.float32)
    first = [full[n][0] for n in order(alphas_NxK, features_NxF)]
    return [*first, *(photo for photo, _ in full[size:]), *rest]


def left(session: Session, user: User) -> int:
    """How many photos wait for this reviewer."""
    asked = _waiting(sa.select(sa.func.count()).select_from(Photo), user)
    return session.scalar(asked) or 0


def order(alphas_NxK: np.ndarray, features_NxF: np.ndarray) -> list[int]:
    """Places of photos, by calibrated uncertainty with diversity."""
    from jaxedge.foodwise.grading import ordering  # Loads JAX.

    return [int(n) for n in ordering.order_review(alphas_NxK, features_NxF)]


def warm_up() -> None:
    """Compiles what orders the queue, so that no reviewer waits for it."""
    for size in SIZES:
        features_NxF = np.eye(size, _FEATURES, dtype=np.float32)
        order(np.ones((size, len(rules.CLASSES)), np.float32), features_NxF)


def may_see(session: Session, user: User, photo_id: int) -> Photo | None:
    """The photo, if it waits for this reviewer."""
    asked = _waiting(sa.select(Photo), user).where(Photo.id == photo_id)
    return session.scalars(asked).one_or_none()


def vote(
    session: Session, reviewer: User, photo_id: int, label: int, at: dt.datetime
) -> rules.Verdict:
    """Keeps what a reviewer says, and settles the action if that decides.

    A clean plate that people see as clean counts and is verified; one on which
    they see left-overs is turned down. A photo of any other action never turns
    it down, and a photo about which people disagree for good is no reason to:
    both count, without being verified. What is in doubt for its time, its place
    or a photo seen before goes on waiting for `moderation`.

    Args:
        session: that writes.
        reviewer: who says so.
        photo_id: of a photo of `queue`.
        label: index in `rules.CLASSES`, or `rules.SKIP`.
        at: now.

    Raises:
        UsageError: for a photo that does not wait for this reviewer.
    """
    if label not in CHOICES:
        raise checks.UsageError("bad_vote")
    owner = session.scalar(sa.select(Photo.user_id).where(Photo.id == photo_id))
    verdicts.hold(session, owner)
    photo = may_see(session, reviewer, photo_id)
    if photo is None:
        raise checks.UsageError("vote_gone")
    session.add(
        ReviewVote(photo_id=photo.id, user_id=reviewer.id, label=label, at=at)
    )
    session.flush()
    action = session.get_one(Action, photo.action_id)
    campaign = session.get_one(Campaign, action.campaign_id)
    of_campaign = rules.read(campaign.rules)
    verdict = rules.decide(*_votes(session, photo.id), of_campaign)
    if verdict.how:
        session.add(
            Label(
                photo_id=photo.id, label=verdict.label, how=verdict.how, at=at
            )
        )
        _settle(session, action, verdict.label, of_campaign, at)
    return verdict


def _settle(
    session: Session,
    action: Action,
    label: int | None,
    of_campaign: rules.Rules,
    at: dt.datetime,
) -> None:
    if action.kind == "clean_plate" and label:
        verdicts.turn_down(session, action, at)
    elif action.reason not in _NOT_OF_PLATES:
        verdicts.count(session, action, of_campaign, at, verified=label == 0)


def _votes(session: Session, photo_id: int) -> tuple[list[int], list[int]]:
    """All of a photo, and those of trusted reviewers, the earliest first."""
    rows = session.execute(
        sa.select(ReviewVote.label, User.trusted)
        .join(User, User.id == ReviewVote.user_id)
        .where(ReviewVote.photo_id == photo_id)
        .order_by(ReviewVote.at, ReviewVote.id)
    ).all()
    return [row[0] for row in rows], [row[0] for row in rows if row[1]]


def _waiting(asked: sa.Select[*_Row], user: User) -> sa.Select[*_Row]:
    """Of photos: those that wait for a reviewer."""
    voted = sa.exists().where(
        ReviewVote.photo_id == Photo.id, ReviewVote.user_id == user.id
    )
    return (
        asked.join(Action, Action.id == Photo.action_id)
        .outerjoin(Grade, Grade.photo_id == Photo.id)
        .outerjoin(Label, Label.photo_id == Photo.id)
        .where(
            Action.state == "review",
            Label.photo_id.is_(None),
            Photo.deleted_at.is_(None),
            Photo.user_id != user.id,
            ~voted,
        )
    )


class Agreement(NamedTuple):
    """How far reviewers say the same.

    Attributes:
        photos: on which two or more of them did not skip.
        votes: on those.
        observed: share of pairs of votes on a photo that are equal; None
            without a photo.
        kappa: that share, corrected for chance: 1 for always, 0 for no more
            than by chance. None where chance alone explains all.
    """

    photos: int
    votes: int
    observed: float | None
    kappa: float | None


def agreement(votes_by_photo: Iterable[list[int]]) -> Agreement:
    """Fleiss' kappa, for numbers of votes that differ between photos.

    With n_k of n votes on a photo for class k, the observed agreement is the
    mean over photos of sum_k n_k (n_k - 1) / (n (n - 1)), and that of chance
    sum_k p_k^2 with p_k the share of class k among all votes (Fleiss 1971,
    equations 3 to 6, where all n are equal).
    """
    rows = [
        [votes.count(k) for k in range(len(rules.CLASSES))]
        for votes in votes_by_photo
    ]
    counts_NxK = np.asarray([row for row in rows if sum(row) >= 2], float)
    if not len(counts_NxK):
        return Agreement(0, 0, None, None)
    n_N = counts_NxK.sum(1)
    pairs_N = (counts_NxK * (counts_NxK - 1)).sum(1)
    observed = float((pairs_N / (n_N * (n_N - 1))).mean())
    share_K = counts_NxK.sum(0) / n_N.sum()
    chance = float((share_K**2).sum())
    kappa = None if chance == 1 else (observed - chance) / (1 - chance)
    return Agreement(len(n_N), int(n_N.sum()), observed, kappa)


def agreement_of(session: Session) -> Agreement:
    """Of all reviewers on all photos."""
    by_photo: dict[int, list[int]] = {}
    for photo_id, label in session.execute(
        sa.select(ReviewVote.photo_id, ReviewVote.label)
    ):
        by_photo.setdefault(photo_id, []).append(label)
    return agreement(by_photo.values())


def export(session: Session) -> Iterator[str]:
    """Labelled photos as JSON lines: features, label, canteen; no person."""
    rows = session.execute(
        sa.select(Photo, Label, Canteen.slug, Grade)
        .join(Label, Label.photo_id == Photo.id)
        .join(Action, Action.id == Photo.action_id)
        .join(Canteen, Canteen.id == Action.canteen_id)
        .outerjoin(Grade, Grade.photo_id == Photo.id)
        .where(Label.label.is_not(None))
        .order_by(Photo.id)
    )
    for photo, label, slug, grade in rows:
        assert label.label is not None  # As asked for.
        yield json.dumps(
            {
                "photo": photo.id,
                "canteen": slug,
                "label": label.label,
                "class": rules.CLASSES[label.label],
                "how": label.how,
                "model": grade.model_version if grade else None,
                "alpha": grade.alpha if grade else None,
                "features": photo.features,
            },
            sort_keys=True,
        )


__all__ = [
    "Agreement",
    "CHOICES",
    "agreement",
    "agreement_of",
    "export",
    "left",
    "may_see",
    "order",
    "queue",
    "vote",
    "warm_up",
]
