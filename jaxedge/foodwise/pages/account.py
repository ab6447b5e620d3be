"""Joining, logging in and out, language, consent."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy.orm import Session

from jaxedge.foodwise import people, security, words
from jaxedge.foodwise.asking import Site, own_path, page, set_cookie, site, to
from jaxedge.foodwise.refusals import Refused
from jaxedge.foodwise.settings import CONSENT
from jaxedge.foodwise.tables import User

router = APIRouter(include_in_schema=False)
FORM = [Depends(security.form)]
Here = Annotated[Site, Depends(site)]
Asking = Annotated[security.Visitor, Depends(security.visitor)]
Person = Annotated[User, Depends(security.at_least("participant"))]
Text = Annotated[str, Form()]
_START = "/log"


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
    here.guard.allow("join", security.address(request), here.settings.attempts)
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
    return page(
        request, "account/login.html", problem="", pseudonym="", next=next
    )


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
    most = here.settings.attempts
    here.guard.allow("login", security.address(request), most)
    here.guard.allow("login_name", name.casefold(), most)
    with here.database.read() as session:
        user = people.find(session, name) if name.isprintable() else None
    right = security.right_password(user, people.sendable(password))
    if not right or user is None or user.suspended:
        key = "login_suspended" if right else "login_wrong"
        told = Refused(key).told(asking.language)
        return page(
            request,
            "account/login.html",
            422,
            problem=told,
            pseudonym=name,
            next=next,
        )
    with here.database.write() as session:
        token = _start(here, session, user, asking)
        agreed = people.agreed(session, user)
    after = to(_after(next)) if agreed else to("/consent", next=_after(next))
    return _logged_in(here, token, after)


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
    here: Here, user: Person, consent: Text = "", next: Text = ""
) -> Response:
    """Agrees to the text as it is now."""
    with here.database.write() as session:
        people.agree(session, user, consent)
    return to(_after(next))


__all__ = ["router"]
