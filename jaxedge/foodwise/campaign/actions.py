"""Logging what a person did, and taking it back.

Nothing that a person logs is refused for being suspicious: what is outside the
campaign's days or the canteen's hours, without the canteen's code, or a photo
that was seen before, waits for people. Points are rows of the ledger alone.
"""

import datetime as dt
from typing import NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules, security
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    Grade,
    Photo,
    PointsEntry,
    User,
)
from jaxedge.foodwise.campaign import choices, codes, photos, repeats, verdicts
from jaxedge.foodwise.grading.predictor import Grade as Graded

MOST_NOTE = 200
# Why an action waits for people; each has a text.
DOUBTS = (
    "campaign",
    "closed",
    "time",
    "code",
    "duplicate",
    "quality",
    "not_graded",
    "unsure",
    "left",
)


class Told(NamedTuple):
    """What the form said.

    Attributes:
        canteen_id: where.
        meal: of `rules.MEALS`.
        kind: of `rules.KINDS`.
        once: made with the form, any text: sent again it is the same action.
        note: of the person, or "".
        code: that the canteen showed, or "".
    """

    canteen_id: int
    meal: str
    kind: str
    once: str
    note: str = ""
    code: str = ""


class Shot(NamedTuple):
    """A photo that is in its file already.

    Attributes:
        picture: as it was read.
        file: name of `photos.keep`.
        grade: of the network; None if there is none.
        compared: of `repeats.compare`; None compares it in the transaction.
    """

    picture: photos.Picture
    file: str
    grade: Graded | None
    compared: repeats.Compared | None = None


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        action: as it is kept.
        new: False for a form that was sent before: then a photo that came
            with it belongs to nobody.
    """

    action: Action
    new: bool


def check(told: Told, photo: bool) -> None:
    """Raises Refused for a form that no page of ours makes.

    Args:
        told: what the form said.
        photo: whether a photo came with it.
    """
    if (
        told.meal not in rules.MEALS
        or told.kind not in rules.KINDS
        or not 1 <= len(told.once) <= 100
    ):
        raise Refused("action_form")
    if told.kind == "clean_plate" and not photo:
        raise Refused("action_photo")
    if len(told.note) > MOST_NOTE:
        raise Refused("action_note", most=MOST_NOTE)


def log(
    session: Session,
    user: User,
    campaign: Campaign,
    told: Told,
    at: dt.datetime,
    shot: Shot | None = None,
    guard: security.Guard | None = None,
) -> Outcome:
    """Keeps an action: it counts, or waits for people, and says why.

    Args:
        session: that writes.
        user: who did it.
        campaign: that it belongs to.
        told: what the form said.
        at: when it was sent.
        shot: a photo; None without.
        guard: knows canteens' codes; without it no code is right.

    Raises:
        Refused: for what no page of ours sends, and for a clean plate without
            a photo.
    """
    check(told, shot is not None)
    hold(session, user.id)
    once = security.hashed(f"{user.id}\0{_plain(told.once)}")
    asked = sa.select(Action).where(Action.once == once)
    found = session.scalars(asked).one_or_none()
    if found is not None:
        return Outcome(found, False)
    canteen = session.get(Canteen, told.canteen_id)
    if canteen is None:
        raise Refused("action_canteen")
    if shot is not None:
        repeats.hold(session, campaign.id)
    of_campaign = rules.read(campaign.rules)
    action = Action(
        user_id=user.id,
        campaign_id=campaign.id,
        canteen_id=canteen.id,
        day=rules.day_of(at, of_campaign),
        meal=told.meal,
        kind=told.kind,
        note=_plain(told.note),
        at=at,
        state="review",
        once=once,
    )
    action.reason = (
        _place_doubt(session, action, campaign, canteen)
        or _no_code(session, action, canteen, told.code, guard, of_campaign)
        or _photo_doubt(session, action, shot)
    )
    try:
        with session.begin_nested():
            session.add(action)
    except exc.IntegrityError:  # The same form, at the same time.
        return Outcome(session.scalars(asked).one(), False)
    if shot is not None:
        _add_photo(session, action, shot)
    if not action.reason:
        graded = shot.grade if shot else None
        clean = graded is not None and graded.decision == 0
        verdicts.count(session, action, of_campaign, at, verified=clean)
    return Outcome(action, True)


def hold(session: Session, user_id: int) -> None:
    """One at a time for a person: what they have logged is read, then added."""
    if not verdicts.hold(session, user_id):  # Withdrawn meanwhile.
        raise Refused("person_gone")


def _plain(text: str) -> str:
    """Without letters that no database or page can show."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(kept.split())


def _place_doubt(
    session: Session, action: Action, campaign: Campaign, canteen: Canteen
) -> str:
    """Why the day, the canteen or the hour is doubtful, or ""."""
    if not campaign.starts <= action.day <= campaign.ends:
        return "campaign"
    if not canteen.open:
        return "closed"
    served = _served(session, canteen, action, rules.read(campaign.rules))
    return "" if served else "time"


def _photo_doubt(session: Session, action: Action, shot: Shot | None) -> str:
    """Why people should look at the photo, or ""."""
    if shot is None:
        return ""
    if repeats.known(session, action.campaign_id, shot.picture, shot.compared):
        return "duplicate"
    if shot.grade is None:
        return "not_graded"
    if shot.grade.quality:
        return "quality"
    if shot.grade.decision is None:
        return "unsure"
    clean = shot.grade.decision == 0 or action.kind != "clean_plate"
    return "" if clean else "left"


def _served(
    session: Session, canteen: Canteen, action: Action, kept: rules.Rules
) -> bool:
    """Whether the meal was served then; where no hours are set, it was."""
    periods = choices.periods_of(session, canteen.id)
    local = action.at.astimezone(ZoneInfo(kept.zone)).time()
    return not periods or any(
        period.meal == action.meal and choices.within(local, period)
        for period in periods
    )


def _no_code(
    session: Session,
    action: Action,
    canteen: Canteen,
    code: str,
    guard: security.Guard | None,
    kept: rules.Rules,
) -> str:
    """ "code" where the canteen's code is missing, old or used already."""
    if not canteen.needs_code:
        return ""
    said = _plain(code).upper()
    if guard is None or not codes.valid(
        guard, canteen.slug, said, action.at, kept
    ):
        return "code"
    used = security.hashed(f"{canteen.slug}\0{said}")
    if session.scalar(
        sa.select(Action.id).where(
            Action.user_id == action.user_id, Action.code_hash == used
        )
    ):
        return "code"
    action.code_hash = used
    return ""


def _add_photo(session: Session, action: Action, shot: Shot) -> None:
    picture, graded = shot.picture, shot.grade
    photo = Photo(
        user_id=action.user_id,
        action=action,
        sha256=picture.sha256,
        phash=picture.phash,
        width=picture.width,
        height=picture.height,
        file=shot.file,
        features=list(graded.features) if graded else [],
        at=action.at,
    )
    if graded is not None:
        photo.grade = Grade(
            model_version=graded.version,
            device_draw=graded.chip,
            alpha=list(graded.alpha),
            u=graded.uncertainty,
            decision=graded.decision,
            quality=graded.quality,
            at=action.at,
        )
    session.add(photo)
    session.flush()


def undo(
    session: Session, user: User, action_id: int, at: dt.datetime
) -> Action | None:
    """Takes an own action back, with points that are the exact inverse.

    The caller removes the file of its photo once this is committed. Undoing
    twice is undoing once.

    Returns:
        The action; None where it is not theirs.

    Raises:
        Refused: after `rules.undo_minutes`, or once people turned it down.
    """
    hold(session, user.id)
    action = session.get(Action, action_id)
    if action is None or action.user_id != user.id:
        return None
    if action.state == "undone":
        return action
    campaign = session.get_one(Campaign, action.campaign_id)
    minutes = rules.read(campaign.rules).undo_minutes
    if at - action.at > dt.timedelta(minutes=minutes):
        raise Refused("undo_late", minutes=minutes)
    if action.state == "rejected":
        raise Refused("undo_decided")
    for row in session.scalars(
        sa.select(PointsEntry).where(PointsEntry.action_id == action.id)
    ).all():
        session.add(
            PointsEntry(
                user_id=user.id,
                campaign_id=row.campaign_id,
                action_id=action.id,
                points=-row.points,
                reason="undo",
                at=at,
            )
        )
    action.state, action.code_hash = "undone", None
    if action.photo is not None:
        action.photo.deleted_at = at
    session.flush()
    return action


def may_undo(action: Action, at: dt.datetime, kept: rules.Rules) -> bool:
    """Whether `undo` would still do it."""
    young = at - action.at <= dt.timedelta(minutes=kept.undo_minutes)
    return young and action.state in ("counted", "review")


__all__ = [
    "DOUBTS",
    "MOST_NOTE",
    "Outcome",
    "Shot",
    "Told",
    "check",
    "log",
    "may_undo",
    "undo",
]
