"""What canteens weigh: files of their managers, and tokens of their scales."""

import datetime as dt
import threading
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, File, Form, HTTPException, UploadFile
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from jaxedge.foodwise.base import security, words
from jaxedge.foodwise.base.tables import ApiToken, Canteen, User, now
from jaxedge.foodwise.campaign import campaigns
from jaxedge.foodwise.waste import sheets, weigh_ins, weigh_rows
from jaxedge.foodwise.web import asking
from jaxedge.foodwise.web.asking import FORM, Here, Manager, Site

router = APIRouter()
_BEARER = HTTPBearer(auto_error=False, description="of a canteen")
MOST_FILE = 8_000_000  # Bytes; our limit.
MOST_RECORDS = 5_000  # Of a message.
MOST_MESSAGE = 1 << 20  # Bytes: so many records take half of it.
_MOST_ERRORS = 50  # That are told of one message.
_TIMES = 10  # So many more messages a minute than log-ins.
# Reading a large file takes a core for a while.
_READING = threading.Semaphore(2)


class Record(BaseModel):
    """One category of food at one meal."""

    model_config = ConfigDict(extra="forbid")

    day: dt.date
    meal: Literal["breakfast", "lunch", "tea", "dinner"]
    category: str = Field(max_length=40, examples=["rice"])
    grams: int = Field(ge=0, le=weigh_rows.MOST_GRAMS)
    diners: int | None = Field(None, ge=0, le=weigh_rows.MOST_DINERS)


class Message(BaseModel):
    """What a scale or a camera sends; the canteen is that of its token."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        "scale", pattern=r"^[a-z0-9][a-z0-9 ._-]{0,39}$", max_length=40
    )
    replace: bool = Field(False, description="lets it change stored values")
    records: list[Record] = Field(min_length=1, max_length=MOST_RECORDS)


class Wrong(BaseModel):
    """What is wrong with a record, and what to do."""

    row: int
    field: str
    value: str
    problem: str
    remedy: str


class Answer(BaseModel):
    """What a message changed; sent again, it changes nothing."""

    stored: bool
    added: int
    same: int
    replaced: int
    problems: list[Wrong]


def today(session: Session) -> dt.date:
    """By the campaign's clock."""
    return campaigns.today(session, now())


@router.get("/weigh-ins", include_in_schema=False)
def show(request: Request, state: Here, user: Manager) -> Response:
    """The form, and what was sent before."""
    return _page(request, state, user, None, weigh_ins.Choice())


@router.post("/weigh-ins", include_in_schema=False, dependencies=FORM)
def upload(
    request: Request,
    state: Here,
    user: Manager,
    file: Annotated[UploadFile, File()],
    act: Annotated[str, Form()] = "check",
    skip_bad: Annotated[bool, Form()] = False,
    replace: Annotated[bool, Form()] = False,
) -> Response:
    """Checks a file, or stores it."""
    state.guard.allow("weigh-ins", user.pseudonym, state.settings.attempts)
    choice = weigh_ins.Choice(act != "import", skip_bad, replace)
    content = file.file.read(MOST_FILE + 1)
    if len(content) > MOST_FILE:
        raise HTTPException(413, "weigh_ins_large")
    with state.database.read() as session:
        places = campaigns.managed(session, user)
        day = today(session)
    with _READING:
        allowed = {place.slug: place.id for place in places}
        sent = weigh_ins.read(content, day, allowed)
        opened = state.database.read() if choice.dry else state.database.write()
        with opened as session:
            report = weigh_ins.store(session, sent, choice, actor=user)
    return _page(request, state, user, report, choice)


def _page(
    request: Request,
    state: Site,
    user: User,
    report: weigh_ins.Report | None,
    choice: weigh_ins.Choice,
) -> Response:
    with state.database.read() as session:
        places = campaigns.managed(session, user)
        history = weigh_ins.history(session, user)
    refused = report is not None and report.bad and not report.stored
    language = request.state.visitor.language
    told = [
        _told(language, problem)
        for problem in (report.problems if report else ())
    ]
    return asking.page(
        request,
        "weigh_ins/index.html",
        422 if refused and not choice.dry and not choice.skip_bad else 200,
        report=report,
        problems=told,
        choice=choice,
        places=sorted(
            (place.slug, asking.named(language, place)) for place in places
        ),
        history=history,
        categories=weigh_rows.CATEGORIES,
        columns=weigh_rows.COLUMNS,
    )


def _told(language: str, problem: weigh_rows.Problem) -> Wrong:
    what, detail = problem.what, problem.detail
    return Wrong(
        row=problem.row,
        field=problem.field,
        value=problem.value,
        problem=words.say(language, f"weigh_ins.problem.{what}", **detail),
        remedy=words.say(language, f"weigh_ins.remedy.{what}", **detail),
    )


def _canteen(session: Session, token: str) -> tuple[int, Canteen] | None:
    found = session.execute(
        sa.select(ApiToken.id, Canteen)
        .join(Canteen, Canteen.id == ApiToken.canteen_id)
        .where(
            ApiToken.token_hash == security.hashed(token),
            ApiToken.revoked_at.is_(None),
        )
    ).one_or_none()
    return (found[0], found[1]) if found else None


class _Sent(NamedTuple):
    """A message that was not looked into yet, and whose it is."""

    body: bytes
    token: str
    number: int
    canteen: Canteen


async def _sent(
    request: Request,
    state: Here,
    bearer: Annotated[
        HTTPAuthorizationCredentials | None, Depends(_BEARER)
    ] = None,
) -> _Sent | None:
    """Dependency: a message of a known token; None for a stranger's.

    Whose it is is told by its head: of anybody else, nothing is read.
    """
    most = _TIMES * state.settings.attempts
    state.guard.allow("api", security.address(request), most)
    token = bearer.credentials if bearer else ""
    found = await run_in_threadpool(_known, state, token)
    if found is None:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_MESSAGE:
            raise HTTPException(413, "the message is larger than 1 MiB")
    return _Sent(bytes(body), token, *found)


def _known(state: Site, token: str) -> tuple[int, Canteen] | None:
    with state.database.read() as session:
        return _canteen(session, token)


def _schema() -> dict[str, Any]:
    """Of a message, in one piece."""
    made = Message.model_json_schema()
    made["properties"]["records"]["items"] = made.pop("$defs")["Record"]
    return made


@router.post(
    "/api/v1/weigh-ins",
    tags=["weigh-ins"],
    response_model=Answer,
    responses={
        401: {"description": "no such token"},
        409: {"model": Answer, "description": "stored values differ"},
        413: {"description": "larger than 1 MiB"},
        422: {"description": "a record is wrong; nothing was stored"},
        429: {"description": "too many messages"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema()}},
        }
    },
)
def send(state: Here, sent: Annotated[_Sent | None, Depends(_sent)]) -> Any:
    """Stores all records of a message, or none."""
    if sent is None:
        return _stranger()
    try:
        message = Message.model_validate_json(sent.body)
    except ValidationError as error:
        return _wrong(error)
    canteen = sent.canteen
    with state.database.read() as session:
        day = today(session)
    lines = _lines(message, canteen.slug)
    found = weigh_ins.read_lines(lines, day, {canteen.slug: canteen.id})
    choice = weigh_ins.Choice(replace=message.replace)
    with state.database.write() as session:
        # It may have been revoked since.
        if _canteen(session, sent.token) is None:
            return _stranger()
        report = weigh_ins.store(
            session, found, choice, name=f"token {sent.number}"
        )
    answer = Answer(
        stored=report.stored,
        added=report.added if report.stored else 0,
        same=report.same,
        replaced=report.replaced if report.stored else 0,
        problems=[_told("en", problem) for problem in report.problems],
    )
    if report.bad:
        only = all(problem.conflict for problem in report.problems)
        body = answer.model_dump(mode="json")
        return JSONResponse(body, 409 if only else 422)
    return answer


def _wrong(error: ValidationError) -> JSONResponse:
    """The first things that are wrong; what was sent is not sent back."""
    found = error.errors(
        include_url=False, include_context=False, include_input=False
    )
    told = [e | {"loc": ("body", *e["loc"])} for e in found[:_MOST_ERRORS]]
    return JSONResponse({"detail": told}, 422)


def _stranger() -> JSONResponse:
    return JSONResponse(
        {"detail": "unknown or revoked token"},
        401,
        {"www-authenticate": "Bearer"},
    )


def _lines(message: Message, slug: str) -> list[sheets.Line]:
    return [
        sheets.Line(
            number,
            {
                "canteen": slug,
                "day": record.day.isoformat(),
                "meal": record.meal,
                "category": record.category,
                "grams": str(record.grams),
                "diners": "" if record.diners is None else str(record.diners),
                "source": message.source,
            },
        )
        for number, record in enumerate(message.records, 1)
    ]


__all__ = ["router"]
