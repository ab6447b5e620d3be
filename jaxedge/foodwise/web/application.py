"""The application: pages, limits and headers around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
import contextlib
import logging
from pathlib import Path
import secrets

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxedge.core import checks
from jaxedge.foodwise.base import identity, security, words
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import MOST_BODY, Settings, prepare
from jaxedge.foodwise.base.tables import now
from jaxedge.foodwise.campaign import photos
from jaxedge.foodwise.grading.predictor import Predictor
from jaxedge.foodwise.upkeep import backup
from jaxedge.foodwise.web.asking import (
    Site,
    asked_path,
    page,
    set_cookie,
    templates,
    to,
)
from jaxedge.foodwise.web.pages import (
    account,
    actions,
    admin,
    dashboard,
    me,
    review,
    weigh_ins,
)

_HERE = Path(__file__).parent
_LOG = logging.getLogger(__name__)
_HOUR_S = 3600
_MOST_ERRORS = 50  # That are told of one request.
_PAGES = (account, actions, admin, dashboard, me, review, weigh_ins)
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self';"
        " img-src 'self' data: blob:; connect-src 'self'; font-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " manifest-src 'self'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
}


def create_app(
    settings: Settings,
    predictor: Predictor | None = None,
    database: Database | None = None,
) -> FastAPI:
    """The application of an instance, whose tables must be there.

    Args:
        settings: of the instance.
        predictor: grades photos.
        database: None opens that of the settings.

    Raises:
        UsageError: for a folder of another instance than the database.
    """
    settings = prepare(settings)
    opened = database or Database(settings.url)
    try:
        identity.bind(settings, opened)
    except BaseException:
        if database is None:
            opened.close()
        raise

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # The first wrong name would else wait longer than the others.
        await run_in_threadpool(security.warm_up)
        sweeping = asyncio.create_task(_sweep(settings, opened))
        yield
        sweeping.cancel()
        if database is None:
            opened.close()

    app = FastAPI(
        title="FoodWise",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=life,
    )
    guard = security.Guard(settings, opened)
    app.state.site = Site(settings, opened, guard, predictor, templates())
    app.mount("/static", StaticFiles(directory=_HERE / "static"), "static")
    for group in _PAGES:
        app.include_router(group.router)
    app.add_middleware(_LimitBody)
    app.middleware("http")(_around)  # The last one is around all others.
    app.add_exception_handler(security.NeedsLogin, _to_login)
    app.add_exception_handler(AnyHTTPException, _told)
    app.add_exception_handler(checks.UsageError, _usage)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    return app


async def _sweep(settings: Settings, database: Database) -> None:
    """Removes what has had its time, at the start and every hour."""
    steps: dict[str, Callable[[], object]] = {
        "old photos": lambda: photos.expire(database, settings, now()),
        "old backups": lambda: backup.sweep(settings, now()),
        # Of who withdrew while somebody was reading.
        "traces in the log": database.forget,
    }
    while True:
        for what, step in steps.items():
            try:
                await run_in_threadpool(step)
            except Exception:  # A full disk or a lost database: soon again.
                _LOG.exception("%s could not be removed", what)
        await asyncio.sleep(_HOUR_S)


async def _around(
    request: Request, call: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Finds who asks, and puts headers on the answer."""
    plain = request.url.path.startswith("/static/")
    state = request.app.state.site
    new = ""
    if not plain:
        # Asks the database: off the loop.
        found = await run_in_threadpool(
            security.find_visitor, request, words.LANGUAGES
        )
        if not found.csrf and not request.url.path.startswith("/api/"):
            new = secrets.token_urlsafe(16)
            found = found._replace(csrf=state.guard.code("csrf", new))
        request.state.visitor = found
    answer = await call(request)
    for name, value in HEADERS.items():
        answer.headers[name] = value
    if plain:
        answer.headers["cache-control"] = "public, max-age=3600"
    else:
        answer.headers.setdefault("cache-control", "no-store")
    if new:
        set_cookie(answer, state, security.VISIT, state.guard.sign(new))
    return answer


class _LimitBody:
    """Ends requests of more bytes than any page takes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > MOST_BODY:
            await Response("too large", 413)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BODY:
                raise HTTPException(413, "too_large")
            return message

        await self._app(scope, counted, send)


async def _to_login(request: Request, error: Exception) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": "log in first"}, 401)
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    return to("/login", next=asked_path(request))


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return _problem(request, error.status_code, str(error.detail))


async def _usage(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        return _problem(request, 422, str(error))
    asking = getattr(request.state, "visitor", None)
    told = error.told(asking.language if asking else words.LANGUAGES[0])
    return _problem(request, error.status, told, told)


async def _broken(request: Request, error: Exception) -> Response:
    """An error of ours, which the log tells and the answer does not."""
    return Response(
        "Something broke here; try again later.",
        500,
        {**HEADERS, "cache-control": "no-store"},
        media_type="text/plain",
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if request.url.path.startswith("/api/"):
        # What was sent is not sent back: it may be anything.
        kept = ("type", "loc", "msg")
        told = [{k: e[k] for k in kept} for e in error.errors()[:_MOST_ERRORS]]
        return JSONResponse({"detail": told}, 422)
    return _problem(request, 422, "bad_form")


def _problem(
    request: Request, status: int, what: str, told: str = ""
) -> Response:
    """One line that says what was wrong: a key of the texts, or a sentence.

    Where both could be, `told` is a sentence for sure.
    """
    if request.url.path.startswith("/api/") or not hasattr(
        request.state, "visitor"
    ):
        return JSONResponse({"detail": what}, status)
    language = request.state.visitor.language
    known = words.texts(language)
    by_key = known.get(f"error.{what}") or known.get(f"error.{status}")
    message = told or by_key or what
    return page(request, "problem.html", status, message=message)


__all__ = ["HEADERS", "create_app"]
