"""What the canteens throw away, told as a story."""

import datetime as dt
from functools import cache
import io
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel
import segno
from sqlalchemy.orm import Session
from starlette.requests import Request

from jaxedge.core import checks
from jaxedge.foodwise.base.tables import now
from jaxedge.foodwise.campaign import campaigns
from jaxedge.foodwise.waste import sheets, stories, totals
from jaxedge.foodwise.web import asking
from jaxedge.foodwise.web.asking import Here, Site

router = APIRouter()
Dimension = Literal["day", "canteen", "meal", "category"]
MOST_DAYS = 400  # Of an answer; our limit.
SCREEN_S = 300  # After which a big screen is loaded anew.
_COLUMNS = (
    "day",
    "canteen",
    "meal",
    "category",
    "grams",
    "diners",
    "source",
)


class Waste(BaseModel):
    """A sum of weigh-ins; what was not asked for is null."""

    day: dt.date | None = None
    canteen: str | None = None
    meal: str | None = None
    category: str | None = None
    grams: int
    counted_grams: int
    diners: int
    meals: int


class WasteAnswer(BaseModel):
    """Sums over days, both of them included."""

    since: dt.date
    until: dt.date
    synthetic: bool
    rows: list[Waste]


class DailyActions(BaseModel):
    """Actions that counted on a day."""

    day: dt.date
    actions: int


class ActionsAnswer(BaseModel):
    """Days without actions are left out."""

    since: dt.date
    until: dt.date
    synthetic: bool
    rows: list[DailyActions]


def today(session: Session) -> dt.date:
    """By the campaign's clock."""
    return campaigns.today(session, now())


def _week(text: str) -> dt.date | None:
    if not text:
        return None
    try:
        day = dt.date.fromisoformat(text)
        return day if 2000 <= day.year <= 2200 else _unknown()
    except ValueError:
        return _unknown()


def _unknown() -> None:
    raise HTTPException(422, "week")


def _story(state: Site, request: Request, week: str) -> stories.Story:
    language, wanted = request.state.visitor.language, _week(week)
    with state.database.read() as session:
        day = today(session)
    return stories.story(state.database, wanted, day, language)


@router.get("/", include_in_schema=False)
def dashboard(
    request: Request, state: Here, week: str = "", view: str = ""
) -> Response:
    """The story of a week, on a phone or on a big screen."""
    told = _story(state, request, week)
    return asking.page(
        request,
        "dashboard/index.html",
        story=told,
        screen=view == "screen",
        seconds=SCREEN_S,
        shown=stories.shown,
        join=state.settings.address.rstrip("/") + "/join",
    )


@router.get("/data/{name}.csv", include_in_schema=False)
def data(request: Request, state: Here, name: str, week: str = "") -> Response:
    """The rows of a panel, or all weigh-ins of the week."""
    if name not in (*stories.NAMES, "weigh-ins"):
        raise HTTPException(404)
    told = _story(state, request, week)
    if name == "weigh-ins":
        with state.database.read() as session:
            rows = totals.records(session, told.week)
        text = sheets.write(_COLUMNS, rows)
    else:
        text = stories.csv(told, name)
    mark = "synthetic-" if told.synthetic else ""
    file = f"foodwise-{mark}{name}-{told.week.first}.csv"
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{file}"'},
    )


@router.get("/qr/join.svg", include_in_schema=False)
def code(state: Here) -> Response:
    """The address to join at, for a phone's camera."""
    picture = _code(state.settings.address.rstrip("/") + "/join")
    return Response(picture, media_type="image/svg+xml")


@cache
def _code(address: str) -> bytes:
    out = io.BytesIO()
    segno.make_qr(address, error="m").save(
        out, kind="svg", scale=8, border=4, light="#ffffff", title=address
    )
    return out.getvalue()


def _span(since: dt.date, until: dt.date) -> totals.Span:
    if until < since:
        raise checks.UsageError(
            f"until is {until}, before since, {since}; swap them."
        )
    if (until - since).days >= MOST_DAYS:
        raise checks.UsageError(
            f"{since} to {until} is more than {MOST_DAYS} days; ask in parts."
        )
    return totals.Span(since, until)


@router.get("/api/v1/waste", tags=["data"], responses={422: {}})
def waste(
    state: Here,
    since: dt.date,
    until: dt.date,
    by: Annotated[list[Dimension], Query(max_length=4)] = ["day"],  # noqa: B006
) -> WasteAnswer:
    """What was thrown away, by day, canteen, meal or category."""
    span = _span(since, until)
    names = list(dict.fromkeys(by))
    with state.database.read() as session:
        found = totals.waste(session, span, names)
        synthetic = totals.is_synthetic(session, span)
    rows = [
        Waste(
            **dict(zip(names, total.key, strict=True)),
            grams=total.grams,
            counted_grams=total.counted,
            diners=total.diners,
            meals=total.meals,
        )
        for total in found
    ]
    return WasteAnswer(since=since, until=until, synthetic=synthetic, rows=rows)


@router.get("/api/v1/actions/daily", tags=["data"], responses={422: {}})
def daily_actions(state: Here, since: dt.date, until: dt.date) -> ActionsAnswer:
    """How many actions counted each day, of all campaigns."""
    span = _span(since, until)
    with state.database.read() as session:
        found = totals.actions_by_day(session, span)
        synthetic = totals.has_synthetic_actions(session, span)
    rows = [DailyActions(day=day, actions=n) for day, n in found.items()]
    return ActionsAnswer(
        since=since, until=until, synthetic=synthetic, rows=rows
    )


__all__ = ["router"]
