"""Logging an action, and taking it back."""

from collections.abc import AsyncIterator
import logging
import secrets
from typing import Annotated

from fastapi import (
    APIRouter,
    Depends,
    Form,
    HTTPException,
    Request,
    Response,
    UploadFile,
)
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules, tables
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import MOST_PHOTO
from jaxedge.foodwise.base.tables import Action, Canteen, Photo, User
from jaxedge.foodwise.campaign import (
    actions,
    choices,
    people,
    photos,
    repeats,
    weeks,
)
from jaxedge.foodwise.grading.predictor import Grade
from jaxedge.foodwise.web.asking import (
    FORM,
    Here,
    Known,
    Number,
    Participant,
    Site,
    page,
    picture,
    site,
    to,
)

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]
_LOG = logging.getLogger(__name__)


@router.get("/log")
def show_log(
    request: Request,
    here: Here,
    user: Participant,
    canteen: str = "",
    code: str = "",
) -> Response:
    """The form; a canteen's picture on the wall leads here with its code."""
    with here.database.read() as session:
        if not people.agreed(session, user):
            query = f"?{request.url.query}" if request.url.query else ""
            return to("/consent", next=f"/log{query}")
        return _form(request, session, user, slug=canteen, code=code[:40])


def _form(
    request: Request,
    session: Session,
    user: User,
    status: int = 200,
    problem: str = "",
    slug: str = "",
    told: actions.Told | None = None,
    code: str = "",
) -> Response:
    at = tables.now()
    campaign = choices.campaign_for(session, at)
    kept = rules.read(campaign.rules) if campaign else rules.Rules()
    places = choices.canteens(session)
    chosen = _chosen(session, user, places, slug, told)
    running = campaign is not None and (
        campaign.starts <= rules.day_of(at, kept) <= campaign.ends
    )
    return page(
        request,
        "actions/log.html",
        status,
        problem=problem,
        campaign=campaign,
        running=running,
        canteens=places,
        chosen=chosen,
        meal=told.meal
        if told
        else choices.likely_meal(session, chosen, at, kept),
        # Anew with every form: what was refused is not what is sent next.
        once=secrets.token_urlsafe(16),
        note=told.note if told else "",
        code=told.code if told else code,
        most_note=actions.MOST_NOTE,
        rules=kept,
    )


def _chosen(
    session: Session,
    user: User,
    places: list[Canteen],
    slug: str,
    told: actions.Told | None,
) -> int | None:
    """The canteen that is chosen beforehand; None for none."""
    wanted = told.canteen_id if told else choices.last_canteen(session, user)
    for place in places:
        if place.slug == slug:
            return place.id
    known = [place.id for place in places]
    if wanted in known:
        return wanted
    return known[0] if len(known) == 1 else None


async def _in_line(request: Request) -> AsyncIterator[None]:
    """Dependency: a photo waits until it may be read."""
    user = request.state.visitor.user
    sent = (await request.form()).get("photo")
    if user is None or not getattr(sent, "filename", ""):
        yield
        return
    async with site(request).guard.photos.enter(user.id):
        yield


@router.post("/log", dependencies=[*FORM, Depends(_in_line, scope="function")])
def log(
    request: Request,
    here: Here,
    user: Participant,
    canteen: Annotated[Known, Form()],
    meal: Text,
    kind: Text,
    once: Text,
    note: Text = "",
    code: Text = "",
    photo: UploadFile | None = None,
) -> Response:
    """Keeps the action and answers how its photo was graded."""
    here.guard.allow("action", str(user.id), 10 * here.settings.attempts)
    told = actions.Told(canteen, meal, kind, once, note, code[:40])
    shot = None
    with here.database.read() as session:
        if not people.agreed(session, user):
            return to("/consent", next="/log")
    try:
        sent = photo is not None and bool(photo.filename)
        actions.check(told, sent)
        if photo is not None and sent:
            shot = _shoot(here, photo.file.read(MOST_PHOTO + 1))
        action_id = _keep(here, user, told, shot)
    except Refused as refused:
        language = request.state.visitor.language
        with here.database.read() as session:
            return _form(
                request,
                session,
                user,
                refused.status,
                refused.told(language),
                told=told,
            )
    with here.database.read() as session:
        return _answer(request, session, user, action_id)


def _shoot(here: Site, data: bytes) -> actions.Shot:
    """Reads, grades, compares and keeps a photo: all that is slow."""
    read = photos.read(data)
    grade = _grade(here, read)
    with here.database.read() as session:
        campaign = choices.campaign_for(session, tables.now())
        compared = (
            repeats.compare(session, campaign.id, read) if campaign else None
        )
    file = photos.keep(read, here.settings.photos)
    return actions.Shot(read, file, grade, compared)


def _grade(here: Site, read: photos.Picture) -> Grade | None:
    if here.predictor is None:
        return None
    try:
        return here.predictor.grade(read.image_HxWx3)
    except Exception:  # Whatever it was, people can grade the photo.
        _LOG.exception("a photo could not be graded")
        return None


def _keep(
    here: Site, user: User, told: actions.Told, shot: actions.Shot | None
) -> int:
    """Writes the action; a photo that nothing tells of goes again."""
    kept = False
    try:
        at = tables.now()
        with here.database.write() as session:
            campaign = choices.campaign_for(session, at)
            if campaign is None:
                raise Refused("action_campaign")
            outcome = actions.log(
                session, user, campaign, told, at, shot, here.guard
            )
            number, new = outcome.action.id, outcome.new
        kept = new
        return number
    finally:
        if shot is not None and not kept:
            photos.remove(here.settings.photos, shot.file)


def _answer(
    request: Request, session: Session, user: User, action_id: int
) -> Response:
    action = session.get_one(Action, action_id)
    campaign = session.get_one(tables.Campaign, action.campaign_id)
    kept = rules.read(campaign.rules)
    photo = action.photo
    week = weeks.week(session, user, campaign, tables.now())
    return page(
        request,
        "actions/done.html",
        action=action,
        canteen=session.get_one(Canteen, action.canteen_id),
        photo=photo if photo and photo.deleted_at is None else None,
        grade=photo.grade if photo else None,
        given=weeks.of_action(session, action.id),
        points=week.points,
        streak=week.streak,
        may_undo=actions.may_undo(action, tables.now(), kept),
        rules=kept,
    )


@router.post("/actions/{number}/undo", dependencies=FORM)
def undo(here: Here, user: Participant, number: Number) -> Response:
    """Takes an own action back, photo and points."""
    here.guard.allow("action", str(user.id), 10 * here.settings.attempts)
    with here.database.write() as session:
        action = actions.undo(session, user, number, tables.now())
        if action is None:
            raise HTTPException(404, "404")
        file = action.photo.file if action.photo else None
    if file is not None:
        photos.remove(here.settings.photos, file)
    return to("/me", done="undone")


@router.get("/photos/{number}")
def show_photo(here: Here, user: Participant, number: Number) -> Response:
    """An own photo; to reviewers, one that waits for people."""
    with here.database.read() as session:
        photo = session.get(Photo, number)
        if photo is None or photo.deleted_at is not None:
            raise HTTPException(404, "404")
        action = session.get_one(Action, photo.action_id)
    reviews = tables.ROLES.index(user.role) >= tables.ROLES.index("reviewer")
    if photo.user_id != user.id and not (reviews and action.state == "review"):
        raise HTTPException(404, "404")
    return picture(here, photo.file)


__all__ = ["router"]
