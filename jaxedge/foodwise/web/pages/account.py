"""Joining, logging in and out, language, consent."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import security, words
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.base.tables import User
from jaxedge.foodwise.campaign import people
from jaxedge.foodwise.web.asking import (
    FORM,
    Here,
    Participant,
    Site,
    own_path,
    page,
    set_cookie,
    to,
)

router = APIRouter(include_in_schema=False)
Asking = Annotated[security.Visitor, Depends(security.visitor)]
Text = Annotated[str, Form()]
_START = "/log"
# A whole campus may have one address: so many more than of one name there.
_TIMES = 10


@router.get("/join")
def show_join(request: Request, asking: Asking, next: str = "") -> Response:
    """The form by which a person joins."""
    if asking.user:
        return to(_after(next))
    return _join(request, next=next)


def _join(
    request: Request, status: int = 200, problem: str = "", **values: str
) -> Response:
    told = {"pseudonym": "", "next": ""} | values
    return page(
        request,
        "account/join.html",
        status,
        problem=problem,
        consent=CONSENT,
        least=security.LEAST_LETTERS,
        **told,
    )


@router.post("/join", dependencies=FORM)
def join(
    request: Request,
    here: Here,
    asking: Asking,
    pseudonym: Text = "",
    password: Text = "",
    consent: Text = "",
    next: Text = "",
) -> Response:
    """Joins and logs in."""
    most = _TIMES * here.settings.attempts
    here.guard.allow("join", security.address(request), most)
    name = pseudonym.strip()
    try:
        people.check_pseudonym(name)
        people.check_password(password, name)
        if consent != CONSENT:
            raise Refused("consent_needed")
        made = security.hash_password(people.sendable(password))
        with here.database.write() as session:
            user = people.join(session, name, made, consent, asking.language)
            token = _start(here, session, user, asking)
    except Refused as refused:
        told = refused.told(asking.language)
        return _join(request, 422, told, pseudonym=name[:40], next=next)
    return _logged_in(here, token, to(_after(next)))


@router.get("/login")
def show_login(request: Request, asking: Asking, next: str = "") -> Response:
    """The form by which a person logs in."""
    if asking.user:
        return to(_after(next))
    return _login(request, next=next)


@router.post("/login", dependencies=FORM)
def login(
    request: Request,
    here: Here,
    asking: Asking,
    pseudonym: Text = "",
    password: Text = "",
    next: Text = "",
) -> Response:
    """Logs in: with a new token, whatever cookie came along."""
    name = pseudonym.strip()[:40]
    try:
        user = _known(request, here, name, password)
    except Refused as refused:
        told = refused.told(asking.language)
        return _login(request, 422, told, name, next)
    if user.password_once:
        return _renew(request, name=name, next=next)
    with here.database.write() as session:
        token = _start(here, session, user, asking)
        agreed = people.agreed(session, user)
    after = to(_after(next)) if agreed else to("/consent", next=_after(next))
    return _logged_in(here, token, after)


def _login(
    request: Request,
    status: int = 200,
    problem: str = "",
    name: str = "",
    next: str = "",
) -> Response:
    return page(
        request,
        "account/login.html",
        status,
        problem=problem,
        pseudonym=name,
        next=next,
    )


def _known(request: Request, here: Site, name: str, password: str) -> User:
    """Whose name and password they are; counts how often it is tried.

    By the name at an address, so that nobody is shut out by others who try
    theirs; and by either alone, so that no password is found from many.
    """
    most, there = here.settings.attempts, security.address(request)
    said = name.casefold()
    here.guard.allow("login", there, _TIMES * most)
    here.guard.allow("login_name_there", f"{said}\0{there}", most)
    here.guard.allow("login_name", said, _TIMES * most)
    with here.database.read() as session:
        user = people.find(session, name) if name.isprintable() else None
    if not security.right_password(user, people.sendable(password)):
        raise Refused("login_wrong")
    assert user is not None  # As its password is right.
    if user.suspended:
        raise Refused("login_suspended")
    return user


def _renew(
    request: Request,
    status: int = 200,
    problem: str = "",
    name: str = "",
    next: str = "",
) -> Response:
    return page(
        request,
        "account/renew.html",
        status,
        problem=problem,
        pseudonym=name,
        least=security.LEAST_LETTERS,
        next=next,
    )


@router.get("/renew")
def show_renew() -> Response:
    """Nothing to be seen before a password of the staff was told."""
    return to("/login")


@router.post("/renew", dependencies=FORM)
def renew(
    request: Request,
    here: Here,
    asking: Asking,
    pseudonym: Text = "",
    password: Text = "",
    new: Text = "",
    next: Text = "",
) -> Response:
    """Takes a password of the staff, once, for another; and logs in."""
    name = pseudonym.strip()[:40]
    try:
        user = _known(request, here, name, password)
        people.check_password(new, name)
        if new == password:
            raise Refused("password_once")
        made = security.hash_password(people.sendable(new))
        with here.database.write() as session:
            people.change_password(session, user.id, made)
            token = _start(here, session, user, asking)
    except Refused as refused:
        told = refused.told(asking.language)
        return _renew(request, 422, told, name, next)
    return _logged_in(here, token, to(_after(next)))


def _after(asked: str) -> str:
    path = own_path(asked)
    return _START if path == "/" else path


def _start(
    here: Site, session: Session, user: User, asking: security.Visitor
) -> str:
    """A new session; the one that the browser had ends."""
    if asking.token:
        here.guard.end(session, asking.token)
    return here.guard.start(session, user)


def _logged_in(here: Site, token: str, answer: Response) -> Response:
    set_cookie(answer, here, security.COOKIE, here.guard.sign(token))
    # What forms were signed by before is worth nothing any more.
    answer.delete_cookie(security.VISIT)
    return answer


@router.post("/logout", dependencies=FORM)
def logout(here: Here, asking: Asking) -> Response:
    """Ends the session here, and not just in the browser."""
    if asking.token:
        with here.database.write() as session:
            here.guard.end(session, asking.token)
    answer = to("/")
    answer.delete_cookie(security.COOKIE)
    return answer


@router.post("/language", dependencies=FORM)
def language(
    here: Here, asking: Asking, language: Text = "", next: Text = "/"
) -> Response:
    """Of the pages: for this browser, and for the person."""
    asked = language if language in words.LANGUAGES else asking.language
    if asking.user:
        with here.database.write() as session:
            people.change_language(session, asking.user.id, asked)
    answer = to(own_path(next))
    set_cookie(answer, here, "language", asked)
    return answer


@router.get("/consent")
def show_consent(
    request: Request, here: Here, asking: Asking, next: str = ""
) -> Response:
    """What a person agrees to, for everybody to read."""
    agreed = False
    if asking.user:
        with here.database.read() as session:
            agreed = people.agreed(session, asking.user)
    return page(
        request,
        "account/consent.html",
        consent=CONSENT,
        agreed=agreed,
        next=_after(next),
    )


@router.post("/consent", dependencies=FORM)
def consent(
    here: Here, user: Participant, consent: Text = "", next: Text = ""
) -> Response:
    """Agrees to the text as it is now."""
    with here.database.write() as session:
        people.agree(session, user, consent)
    return to(_after(next))


__all__ = ["router"]
