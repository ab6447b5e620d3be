"""What every page needs: the instance, templates, where to go next."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple
import urllib.parse

from fastapi import Depends, HTTPException, Request, Response
from fastapi import Path as PathPart
from fastapi.responses import RedirectResponse
import jinja2
from pydantic import Field

from jaxedge.foodwise.base import rules, security, words
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import Canteen, User
from jaxedge.foodwise.campaign import photos
from jaxedge.foodwise.grading.predictor import Predictor

_HERE = Path(__file__).parent
MOST_ID = 2**31 - 1  # Of the databases' whole numbers.
# A part of a path, and a field of a form: of a row that there may be.
Number = Annotated[int, PathPart(ge=1, le=MOST_ID)]
Known = Annotated[int, Field(ge=1, le=MOST_ID)]


class Site(NamedTuple):
    """What every page needs.

    Attributes:
        settings: of the instance.
        database: its tables.
        guard: signs and counts.
        predictor: grades photos; None sends all of them to people.
        pages: the templates.
    """

    settings: Settings
    database: Database
    guard: security.Guard
    predictor: Predictor | None
    pages: jinja2.Environment


def templates() -> jinja2.Environment:
    """Reads templates/; an unknown name in one is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"KINDS": rules.KINDS, "MEALS": rules.MEALS}
    return made


def site(request: Request) -> Site:
    """The instance."""
    return request.app.state.site


async def _here(request: Request) -> Site:
    return site(request)  # Not a plain `def`: that would take a thread.


Here = Annotated[Site, Depends(_here)]
Participant = Annotated[User, Depends(security.at_least("participant"))]
Reviewer = Annotated[User, Depends(security.at_least("reviewer"))]
Manager = Annotated[User, Depends(security.at_least("manager"))]
Admin = Annotated[User, Depends(security.at_least("admin"))]
FORM = [Depends(security.form)]  # Of all that changes something.


def page(
    request: Request, template: str, status: int = 200, /, **values: Any
) -> Response:
    """A page in the language of whoever asks.

    Args:
        request: has the visitor.
        template: a file of templates/.
        status: of HTTP.
        **values: names that the template sees, beside `t` (key and fields to
            text), `named` (a canteen's name), `user`, `csrf`, `language`,
            `path` and `back` (the path with what was asked of it).
    """
    asking: security.Visitor = request.state.visitor
    got = request.method == "GET"
    back = asked_path(request) if got else request.url.path
    text = (
        site(request)
        .pages.get_template(template)
        .render(
            t=partial(words.say, asking.language),
            named=partial(named, asking.language),
            user=asking.user,
            csrf=asking.csrf,
            language=asking.language,
            path=request.url.path,
            back=back,
            **values,
        )
    )
    return Response(text, status, media_type="text/html")


def named(language: str, canteen: Canteen) -> str:
    """A canteen's name in a language, as far as it has one."""
    return (canteen.name_zh if language == "zh-Hant" else "") or canteen.name


def picture(here: Site, file: str) -> Response:
    """A photo; status 404 once its file has gone."""
    try:
        found = photos.path(here.settings.photos, file).read_bytes()
    except FileNotFoundError:  # It expired just now.
        raise HTTPException(404, "404") from None
    return Response(found, media_type="image/jpeg")


def to(path: str, **query: Any) -> RedirectResponse:
    """Sends the browser to another of our pages, by GET."""
    if query:
        path += "?" + urllib.parse.urlencode(query)
    return RedirectResponse(path, 303)


def asked_path(request: Request) -> str:
    """What was asked for, to come back to; the start where it was a form."""
    if request.method != "GET":
        return "/"
    query = f"?{request.url.query}" if request.url.query else ""
    return request.url.path + query


def own_path(given: str) -> str:
    """A path of ours to go on to, whatever was asked for."""
    whole = urllib.parse.urlsplit(given)
    ours = (
        given.startswith("/")
        and not given.startswith(("//", "/\\"))
        and not (whole.scheme or whole.netloc)
        and given.isprintable()
    )
    return given if ours else "/"


def set_cookie(answer: Response, state: Site, name: str, value: str) -> None:
    """A cookie that no script reads and no other site sends."""
    answer.set_cookie(
        name,
        value,
        max_age=security.DAYS * 86400,
        httponly=True,
        samesite="lax",
        secure=state.settings.secure,
    )


__all__ = [
    "Admin",
    "FORM",
    "Here",
    "Known",
    "MOST_ID",
    "Manager",
    "Number",
    "Participant",
    "Reviewer",
    "Site",
    "asked_path",
    "named",
    "own_path",
    "page",
    "picture",
    "set_cookie",
    "site",
    "templates",
    "to",
]
