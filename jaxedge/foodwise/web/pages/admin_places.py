"""Campaigns, canteens, their hours, tokens and codes, comparisons."""

import dataclasses
import datetime as dt
import json
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from pydantic import BaseModel
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    ApiToken,
    Campaign,
    Canteen,
    Equivalent,
    MealPeriod,
    User,
    now,
)
from jaxedge.foodwise.campaign import campaigns, codes
from jaxedge.foodwise.web.asking import (
    FORM,
    Admin,
    Here,
    Manager,
    Number,
    Site,
    named,
    page,
    to,
)

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=400)]


@router.get("/admin/campaigns")
def show_campaigns(request: Request, user: Admin, here: Here) -> Response:
    """All campaigns, and a form for one more."""
    with here.database.read() as session:
        found = session.scalars(
            sa.select(Campaign).order_by(Campaign.starts.desc())
        ).all()
    return page(
        request,
        "admin/campaigns.html",
        campaigns=found,
        defaults=json.dumps(dataclasses.asdict(rules.Rules())),
    )


class CampaignFields(BaseModel):
    """The form of a campaign."""

    name: str
    starts: dt.date
    ends: dt.date
    rules: str = "{}"

    def form(self) -> campaigns.CampaignForm:
        """As the domain has it."""
        return campaigns.CampaignForm(
            self.name, self.starts, self.ends, self.rules
        )


@router.post("/admin/campaigns", dependencies=FORM)
def add_campaign(
    user: Admin, here: Here, given: Annotated[CampaignFields, Form()]
) -> Response:
    """A new campaign."""
    with here.database.write() as session:
        campaigns.save_campaign(session, user, given.form(), None)
    return to("/admin/campaigns")


@router.post("/admin/campaigns/{number}", dependencies=FORM)
def change_campaign(
    number: Number,
    user: Admin,
    here: Here,
    given: Annotated[CampaignFields, Form()],
) -> Response:
    """Other days or rules."""
    with here.database.write() as session:
        campaigns.save_campaign(session, user, given.form(), number)
    return to("/admin/campaigns")


def _own(session: Session, user: User, number: int) -> Canteen:
    """A canteen that the user manages; another one is not theirs to see."""
    for canteen in campaigns.managed(session, user):
        if canteen.id == number:
            return canteen
    raise HTTPException(403, "not_yours")


@router.get("/admin/canteens")
def show_canteens(request: Request, user: Manager, here: Here) -> Response:
    """The canteens that the user manages."""
    return _canteens(request, user, here)


def _canteens(
    request: Request, user: User, here: Site, token: str = ""
) -> Response:
    with here.database.read() as session:
        found = campaigns.managed(session, user)
        ours = [canteen.id for canteen in found]
        hours = {
            (period.canteen_id, period.meal): period
            for period in session.scalars(sa.select(MealPeriod))
        }
        tokens = session.scalars(
            sa.select(ApiToken)
            .where(ApiToken.canteen_id.in_(ours))
            .order_by(ApiToken.id)
        ).all()
    return page(
        request,
        "admin/canteens.html",
        canteens=found,
        hours=hours,
        screens={
            canteen.id: f"/screen/{canteen.slug}/"
            + campaigns.screen_key(here.guard, canteen)
            for canteen in found
        },
        tokens=tokens,
        token=token,
    )


class CanteenFields(BaseModel):
    """The form of a canteen; a box that is not ticked is not sent."""

    slug: str = ""
    name: str
    name_zh: str = ""
    open: bool = False
    needs_code: bool = False

    def form(self) -> campaigns.CanteenForm:
        """As the domain has it."""
        return campaigns.CanteenForm(
            self.slug, self.name, self.name_zh, self.open, self.needs_code
        )


@router.post("/admin/canteens", dependencies=FORM)
def add_canteen(
    user: Admin, here: Here, given: Annotated[CanteenFields, Form()]
) -> Response:
    """A new canteen."""
    with here.database.write() as session:
        campaigns.save_canteen(session, user, given.form(), None)
    return to("/admin/canteens")


@router.post("/admin/canteens/{number}", dependencies=FORM)
def change_canteen(
    number: Number,
    user: Manager,
    here: Here,
    given: Annotated[CanteenFields, Form()],
) -> Response:
    """Another name, shut or open, with or without the code."""
    with here.database.write() as session:
        _own(session, user, number)
        campaigns.save_canteen(session, user, given.form(), number)
    return to("/admin/canteens")


class HoursFields(BaseModel):
    """When each meal opens and closes; both empty for none."""

    breakfast_opens: str = ""
    breakfast_closes: str = ""
    lunch_opens: str = ""
    lunch_closes: str = ""
    tea_opens: str = ""
    tea_closes: str = ""
    dinner_opens: str = ""
    dinner_closes: str = ""


@router.post("/admin/canteens/{number}/meals", dependencies=FORM)
def change_meals(
    number: Number,
    user: Manager,
    here: Here,
    given: Annotated[HoursFields, Form()],
) -> Response:
    """When the canteen serves its meals."""
    hours = {
        meal: _times(
            getattr(given, f"{meal}_opens"), getattr(given, f"{meal}_closes")
        )
        for meal in rules.MEALS
    }
    with here.database.write() as session:
        campaigns.save_meals(session, user, _own(session, user, number), hours)
    return to("/admin/canteens")


def _times(opens: str, closes: str) -> tuple[dt.time, dt.time] | None:
    if not opens and not closes:
        return None
    try:
        # A clock on the wall has no zone.
        return tuple(
            dt.time.fromisoformat(text).replace(tzinfo=None)
            for text in (opens, closes)
        )  # pyright: ignore[reportReturnType]
    except ValueError:
        raise Refused("bad_hours") from None


@router.post("/admin/canteens/{number}/tokens", dependencies=FORM)
def add_token(
    request: Request, number: Number, user: Manager, here: Here, name: Text
) -> Response:
    """A token for a scale or a camera: this answer alone shows it."""
    with here.database.write() as session:
        canteen = _own(session, user, number)
        token = campaigns.make_token(session, user, canteen, name)
    return _canteens(request, user, here, token)


@router.post("/admin/tokens/{number}/revoke", dependencies=FORM)
def revoke_token(number: Number, user: Manager, here: Here) -> Response:
    """Ends a token."""
    with here.database.write() as session:
        token = session.get(ApiToken, number)
        if token is None:
            raise HTTPException(403, "not_yours")
        _own(session, user, token.canteen_id)
        campaigns.revoke_token(session, user, token)
    return to("/admin/canteens")


@router.post("/admin/canteens/{number}/screen", dependencies=FORM)
def change_screen(number: Number, user: Manager, here: Here) -> Response:
    """Another address of the canteen's screen."""
    with here.database.write() as session:
        canteen = _own(session, user, number)
        campaigns.change_screen(session, user, canteen)
    return to("/admin/canteens")


@router.get("/canteens/{slug}/code")
def show_code(
    request: Request, slug: str, user: Manager, here: Here
) -> Response:
    """The code for the canteen's screen, which is asked for anew by itself."""
    with here.database.read() as session:
        found = {c.slug: c for c in campaigns.managed(session, user)}
        if slug not in found:
            raise HTTPException(403, "not_yours")
        return _code(request, here, session, found[slug])


@router.get("/screen/{slug}/{key}")
def show_screen(request: Request, slug: str, key: str, here: Here) -> Response:
    """The same for a screen on which nobody has logged in, by its address."""
    with here.database.read() as session:
        canteen = campaigns.screen_of(session, here.guard, slug, key)
        if canteen is None:
            raise HTTPException(404, "404")
        return _code(request, here, session, canteen)


def _code(
    request: Request, here: Site, session: Session, canteen: Canteen
) -> Response:
    at = now()
    of_campaign = campaigns.rules_at(session, at)
    code = codes.current(here.guard, canteen.slug, at, of_campaign)
    link = codes.link(here.settings.address, canteen.slug, code)
    name = named(request.state.visitor.language, canteen)
    fragment = bool(request.headers.get("hx-request"))
    return page(
        request,
        "admin/code_now.html" if fragment else "admin/code.html",
        canteen=canteen,
        code=code,
        picture=codes.picture(link, name),
        # A moment later, so that it is the next one that is shown.
        seconds=int(codes.seconds_left(at, of_campaign)) + 1,
    )


@router.get("/admin/equivalents")
def show_equivalents(request: Request, user: Admin, here: Here) -> Response:
    """What a kilogram compares to."""
    with here.database.read() as session:
        found = session.scalars(
            sa.select(Equivalent).order_by(Equivalent.id)
        ).all()
    return page(request, "admin/equivalents.html", equivalents=found)


class EquivalentFields(BaseModel):
    """The form of a comparison."""

    name: str
    name_zh: str = ""
    factor: float
    unit: str
    source: str
    year: int

    def form(self) -> campaigns.EquivalentForm:
        """As the domain has it."""
        return campaigns.EquivalentForm(
            self.name,
            self.name_zh,
            self.factor,
            self.unit,
            self.source,
            self.year,
        )


@router.post("/admin/equivalents", dependencies=FORM)
def add_equivalent(
    user: Admin, here: Here, given: Annotated[EquivalentFields, Form()]
) -> Response:
    """A new comparison."""
    with here.database.write() as session:
        campaigns.save_equivalent(session, user, given.form(), None)
    return to("/admin/equivalents")


@router.post("/admin/equivalents/{number}", dependencies=FORM)
def change_equivalent(
    number: Number,
    user: Admin,
    here: Here,
    given: Annotated[EquivalentFields, Form()],
) -> Response:
    """Another factor, or another source."""
    with here.database.write() as session:
        campaigns.save_equivalent(session, user, given.form(), number)
    return to("/admin/equivalents")


@router.post("/admin/equivalents/{number}/delete", dependencies=FORM)
def drop_equivalent(number: Number, user: Admin, here: Here) -> Response:
    """Removes a comparison."""
    with here.database.write() as session:
        campaigns.drop_equivalent(session, user, number)
    return to("/admin/equivalents")


__all__ = ["router"]
