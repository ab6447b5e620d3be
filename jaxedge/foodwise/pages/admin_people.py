"""Persons, their roles and data, doubtful actions, and the draw."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import FileResponse
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise import (
    audit,
    draws,
    moderation,
    own_data,
    photos,
    rules,
    security,
    staff,
)
from jaxedge.foodwise.asking import Site, page, site, to
from jaxedge.foodwise.tables import (
    ROLES,
    Campaign,
    Canteen,
    CanteenManager,
    RewardDraw,
    User,
    now,
)

router = APIRouter(include_in_schema=False)
Participant = Annotated[User, Depends(security.at_least("participant"))]
Manager = Annotated[User, Depends(security.at_least("manager"))]
Admin = Annotated[User, Depends(security.at_least("admin"))]
Here = Annotated[Site, Depends(site)]
FORM = [Depends(security.form)]
Text = Annotated[str, Form(max_length=400)]
Box = Annotated[bool, Form()]


@router.get("/admin/people")
def show_people(
    request: Request, user: Admin, here: Here, q: str = ""
) -> Response:
    """Persons whose pseudonym begins so."""
    with here.database.read() as session:
        found = staff.find(session, q[:40])
    return page(request, "admin/people.html", people=found, q=q[:40])


@router.get("/admin/people/{number}")
def show_person(
    request: Request, number: int, user: Admin, here: Here
) -> Response:
    """A person's role, and what may be done."""
    with here.database.read() as session:
        person = session.get(User, number)
        if person is None:
            raise HTTPException(404, "404")
        canteens = session.scalars(
            sa.select(Canteen).order_by(Canteen.name)
        ).all()
        managed = set(
            session.scalars(
                sa.select(CanteenManager.canteen_id).where(
                    CanteenManager.user_id == number
                )
            )
        )
    return page(
        request,
        "admin/person.html",
        person=person,
        canteens=canteens,
        managed=managed,
        roles=ROLES,
    )


@router.post("/admin/people/{number}/role", dependencies=FORM)
def change_role(
    number: int,
    user: Admin,
    here: Here,
    role: Text,
    canteens: Annotated[list[int] | None, Form()] = None,
) -> Response:
    """Another role; a manager's canteens."""
    with here.database.write() as session:
        staff.set_role(session, user, number, role, canteens or ())
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/trusted", dependencies=FORM)
def change_trusted(
    number: int, user: Admin, here: Here, on: Box = False
) -> Response:
    """Whether a vote decides alone."""
    with here.database.write() as session:
        staff.set_trusted(session, user, number, on)
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/suspended", dependencies=FORM)
def change_suspended(
    number: int, user: Admin, here: Here, on: Box = False
) -> Response:
    """Whether a person is shut out."""
    with here.database.write() as session:
        staff.set_suspended(session, user, number, on)
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/export", dependencies=FORM)
def export(number: int, user: Admin, here: Here) -> Response:
    """All that is kept of a person, who asked for it."""
    with here.database.read() as session:
        person = session.get(User, number)
        if person is None:
            raise HTTPException(404, "404")
        found = own_data.archive(session, here.settings, person)
    with here.database.write() as session:
        audit.note(session, user, "exported", f"user {number}")
    name = f"foodwise-user-{number}.zip"
    return Response(
        found,
        media_type="application/zip",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.post("/admin/people/{number}/delete", dependencies=FORM)
def delete(number: int, user: Admin, here: Here, pseudonym: Text) -> Response:
    """Removes a person with all that is theirs, who asked for it."""
    with here.database.write() as session:
        person = staff.may_remove(session, user, number)
        if pseudonym != person.pseudonym:
            raise checks.UsageError("wrong_pseudonym")
        audit.note(session, user, "deleted", f"user {number}")
        own_data.withdraw(session, here.settings, person)
    return to("/admin/people")


@router.get("/admin/moderation")
def show_doubts(request: Request, user: Manager, here: Here) -> Response:
    """Actions that wait for a person, and notes."""
    with here.database.read() as session:
        doubts = moderation.pending(session, user)
    return page(request, "admin/moderation.html", doubts=doubts)


@router.get("/admin/moderation/{number}/photo")
def show_photo(number: int, user: Manager, here: Here) -> Response:
    """The photo of an action that waits, for those who decide about it."""
    with here.database.read() as session:
        for doubt in moderation.pending(session, user):
            if doubt.action.id == number and doubt.photo:
                path = photos.path(here.settings.photos, doubt.photo.file)
                if path.is_file():
                    return FileResponse(path, media_type="image/jpeg")
    raise HTTPException(404, "404")


@router.post("/admin/moderation/{number}", dependencies=FORM)
def decide(number: int, user: Manager, here: Here, choice: Text) -> Response:
    """Lets an action count, or turns it down, or removes its note."""
    with here.database.write() as session:
        moderation.decide(session, user, number, choice, now())
    return to("/admin/moderation")


@router.post("/admin/campaigns/{number}/draw", dependencies=FORM)
def draw(
    number: int,
    user: Admin,
    here: Here,
    prizes: Annotated[int, Form()],
    seed: Text,
) -> Response:
    """Draws who wins, once the campaign is over."""
    with here.database.write() as session:
        campaign = session.get(Campaign, number)
        if campaign is None:
            raise HTTPException(404, "404")
        draws.draw(session, user, campaign, prizes, seed, now())
    return to("/draws")


@router.get("/draws")
def show_draws(request: Request, user: Participant, here: Here) -> Response:
    """Draws with seed and tickets, for all who take part: by number.

    A name is shown of those alone who are on the leaderboard by their choice.
    """
    with here.database.read() as session:
        rows = session.execute(
            sa.select(RewardDraw, Campaign)
            .join(Campaign, Campaign.id == RewardDraw.campaign_id)
            .order_by(RewardDraw.id.desc())
        ).all()
        winners = {who for row in rows for who in row[0].winners}
        named = {
            person.id: person.pseudonym
            for person in session.scalars(
                sa.select(User).where(
                    User.id.in_(winners), User.leaderboard.is_(True)
                )
            )
        }
        ended = []
        if user.role == "admin":
            drawn = {row[1].id for row in rows}
            ended = [
                (campaign, len(draws.tickets(session, campaign)))
                for campaign in session.scalars(sa.select(Campaign))
                if campaign.id not in drawn
                and rules.day_of(now(), rules.read(campaign.rules))
                > campaign.ends
            ]
    return page(
        request,
        "admin/draws.html",
        draws=[(row[0], row[1]) for row in rows],
        named=named,
        ended=ended,
    )


__all__ = ["router"]
