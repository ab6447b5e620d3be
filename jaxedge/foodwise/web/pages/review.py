"""Photos that the network was unsure of, one at a time."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import User, now
from jaxedge.foodwise.campaign import reviews
from jaxedge.foodwise.web import asking
from jaxedge.foodwise.web.asking import (
    FORM,
    Here,
    Number,
    Reviewer,
    Site,
    page,
    to,
)

router = APIRouter(include_in_schema=False)


@router.get("/review")
def show(request: Request, user: Reviewer, here: Here) -> Response:
    """The photo that teaches most, and what may be said of it."""
    return _next(request, user, here)


def _next(request: Request, user: User, here: Site) -> Response:
    with here.database.read() as session:
        waiting = reviews.queue(session, user)
        left = reviews.left(session, user)
        agreed = reviews.agreement_of(session)
    fragment = bool(request.headers.get("hx-request"))
    return page(
        request,
        "review/one.html" if fragment else "review/page.html",
        photo=waiting[0] if waiting else None,
        left=left,
        agreed=agreed,
        skip=rules.SKIP,
    )


@router.get("/review/photo/{number}")
def picture(number: Number, user: Reviewer, here: Here) -> Response:
    """A photo, for those alone for whom it waits."""
    with here.database.read() as session:
        photo = reviews.may_see(session, user, number)
    if photo is None:
        raise HTTPException(404, "404")
    return asking.picture(here, photo.file)


@router.post("/review/{number}", dependencies=FORM)
def say(
    request: Request,
    number: Number,
    vote: Annotated[int, Form()],
    user: Reviewer,
    here: Here,
) -> Response:
    """A vote; the next photo follows."""
    with here.database.write() as session:
        reviews.vote(session, user, number, vote, now())
    if request.headers.get("hx-request"):
        return _next(request, user, here)
    return to("/review")


__all__ = ["router"]
