"""What every page needs: the instance, templates, where to go next."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
import urllib.parse

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
import jinja2

from jaxedge.foodwise import rules, security, words
from jaxedge.foodwise.database import Database
from jaxedge.foodwise.predictor import Predictor
from jaxedge.foodwise.settings import Settings

_HERE = Path(__file__).parent


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
    """Dependency: the instance."""
    return request.app.state.site


def page(
    request: Request, template: str, status: int = 200, /, **values: Any
) -> Response:
    """A page in the language of whoever asks.

    Args:
        request: has the visitor.
        template: a file of templates/.
        status: of HTTP.
        **values: names that the template sees, beside `t` (key and fields to
            text), `user`, `csrf`, `language` and `path`.
    """
    asking: security.Visitor = request.state.visitor
    text = (
        site(request)
        .pages.get_template(template)
        .render(
            t=partial(words.say, asking.language),
            user=asking.user,
            csrf=asking.csrf,
            language=asking.language,
            path=request.url.path,
            **values,
        )
    )
    return Response(text, status, media_type="text/html")


def to(path: str, **query: Any) -> RedirectResponse:
    """Sends the browser to another of our pages, by GET."""
    if query:
        path += "?" + urllib.parse.urlencode(query)
    return RedirectResponse(path, 303)


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


__all__ = ["Site", "own_path", "page", "set_cookie", "site", "templates", "to"]
