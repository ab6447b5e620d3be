"""Persons, their roles and data, doubtful actions, teams, and the draw."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import audit, security
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    ROLES,
    Campaign,
    Canteen,
    CanteenManager,
    RewardDraw,
    User,
    now,
)
from jaxedge.foodwise.campaign import draws, moderation, own_data, people, staff
from jaxedge.foodwise.web import asking
from jaxedge.foodwise.web.asking import (
    FORM,
    MOST_ID,
    Admin,
    Here,
    Known,
    Manager,
    Number,
    Participant,
    Site,
    page,
    to,
)

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=400)]
Box = Annotated[bool, Form()]
After = Annotated[int, Query(ge=0, le=MOST_ID)]


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
    request: Request, number: Number, user: Admin, here: Here
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
    number: Number,
    user: Admin,
    here: Here,
    role: Text,
    canteens: Annotated[list[Known] | None, Form()] = None,
) -> Response:
    """Another role; a manager's canteens."""
    with here.database.write() as session:
        staff.set_role(session, user, number, role, canteens or ())
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/trusted", dependencies=FORM)
def change_trusted(
    number: Number, user: Admin, here: Here, on: Box = False
) -> Response:
    """Whether a vote decides alone."""
    with here.database.write() as session:
        staff.set_trusted(session, user, number, on)
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/suspended", dependencies=FORM)
def change_suspended(
    number: Number, user: Admin, here: Here, on: Box = False
) -> Response:
    """Whether a person is shut out."""
    with here.database.write() as session:
        staff.set_suspended(session, user, number, on)
    return to(f"/admin/people/{number}")


@router.post("/admin/people/{number}/export", dependencies=FORM)
def export(number: Number, user: Admin, here: Here) -> Response:
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


@router.post("/admin/people/{number}/password", dependencies=FORM)
def reset_password(
    request: Request, number: Number, user: Admin, here: Here
) -> Response:
    """A password that works once; this answer alone shows it."""
    if number == user.id:
        raise Refused("not_oneself")
    made = secrets.token_urlsafe(9)
    hashed = security.hash_password(made)
    with here.database.write() as session:
        person = session.get(User, number)
        if person is None:
            raise HTTPException(404, "404")
        people.reset_password(session, user, person, hashed)
    return page(request, "account/reset.html", person=person, password=made)


@router.post("/admin/people/{number}/delete", dependencies=FORM)
def delete(
    number: Number, user: Admin, here: Here, pseudonym: Text
) -> Response:
    """Removes a person with all that is theirs, who asked for it."""
    with here.database.write() as session:
        person = staff.may_remove(session, user, number)
        if pseudonym != person.pseudonym:
            raise Refused("wrong_pseudonym")
        audit.note(session, user, "deleted", f"user {number}")
        own_data.withdraw(session, here.settings, person)
    return to("/admin/people")


@router.get("/admin/moderation")
def show_doubts(
    request: Request,
    user: Manager,
    here: Here,
    kind: str = moderation.KINDS[0],
    after: After = 0,
) -> Response:
    """Actions that wait for a person, or notes, page by page."""
    with here.database.read() as session:
        doubts = moderation.pending(
            session, user, kind, after, moderation.MOST + 1
        )
        counts = {k: moderation.count(session, user, k)
                  for k in moderation.KINDS}  # fmt: skip
    shown = doubts[: moderation.MOST]
    return page(
        request,
        "admin/moderation.html",
        doubts=shown,
        kind=kind,
        counts=counts,
        after=after,
        more=shown[-1].action.id if len(doubts) > len(shown) else None,
    )


@router.get("/admin/moderation/{number}/photo")
def show_photo(number: Number, user: Manager, here: Here) -> Response:
    """The photo of an action that waits, for those who decide about it."""
    with here.database.read() as session:
        photo = moderation.photo(session, user, number)
    if photo is None:
        raise HTTPException(404, "404")
    return asking.picture(here, photo.file)


@router.post("/admin/moderation/{number}", dependencies=FORM)
def decide(
    number: Number,
    user: Manager,
    here: Here,
    choice: Text,
    kind: Text = moderation.KINDS[0],
    after: Annotated[int, Form(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """Lets an action count, or turns it down, or removes its note."""
    with here.database.write() as session:
        moderation.decide(session, user, number, choice, now())
    return to("/admin/moderation", kind=kind, after=after)


@router.get("/admin/teams")
def show_teams(
    request: Request, user: Admin, here: Here, after: After = 0
) -> Response:
    """Names of teams, page by page."""
    with here.database.read() as session:
        found = moderation.teams(session, after, moderation.MOST + 1)
    shown = found[: moderation.MOST]
    more = shown[-1].team.id if len(found) > len(shown) else None
    return page(request, "admin/teams.html", teams=shown, more=more)


@router.post("/admin/teams/{number}/delete", dependencies=FORM)
def drop_team(number: Number, user: Admin, here: Here) -> Response:
    """Removes a team, for its name."""
    with here.database.write() as session:
        moderation.drop_team(session, user, number)
    return to("/admin/teams")


@router.post("/admin/campaigns/{number}/seed", dependencies=FORM)
def fix_seed(
    request: Request, number: Number, user: Admin, here: Here
) -> Response:
    """Fixes the seed of a draw to come: this answer alone shows it."""
    with here.database.write() as session:
        campaign = _campaign(session, number)
        seed = draws.commit(session, user, campaign, now())
        name = campaign.name
    return _draws(request, user, here, seed, name)


def _campaign(session: Session, number: int) -> Campaign:
    found = session.get(Campaign, number)
    if found is None:
        raise HTTPException(404, "404")
    return found


@router.post("/admin/campaigns/{number}/draw", dependencies=FORM)
def draw(
    number: Number,
    user: Admin,
    here: Here,
    prizes: Annotated[int, Form()],
    seed: Text,
) -> Response:
    """Draws who wins, once the campaign is over."""
    with here.database.write() as session:
        campaign = _campaign(session, number)
        draws.draw(session, user, campaign, prizes, seed, now())
    return to("/draws")


@router.get("/draws")
def show_draws(request: Request, user: Participant, here: Here) -> Response:
    """Draws with seed and tickets, for all who take part: by number.

    A name is shown of those alone who are on the leaderboard by their choice.
    """
    return _draws(request, user, here)


def _draws(
    request: Request, user: User, here: Site, seed: str = "", of: str = ""
) -> Response:
    at = now()
    with here.database.read() as session:
        rows = session.execute(
            sa.select(RewardDraw, Campaign)
            .join(Campaign, Campaign.id == RewardDraw.campaign_id)
            .order_by(RewardDraw.id.desc())
        ).all()
        winners = {who for row in rows for who in row[0].winners}
        seen = {
            person.id: person.pseudonym
            for person in session.scalars(
                sa.select(User).where(
                    User.id.in_(winners), User.leaderboard.is_(True)
                )
            )
        }
        drawn = {row[1].id for row in rows}
        others = [
            campaign
            for campaign in session.scalars(
                sa.select(Campaign).order_by(Campaign.ends.desc())
            )
            if campaign.id not in drawn
        ]
        ended = [one for one in others if draws.is_over(one, at)]
        tickets = {one.id: len(draws.tickets(session, one)) for one in ended}
    return page(
        request,
        "admin/draws.html",
        draws=[(row[0], row[1]) for row in rows],
        seen=seen,
        others=others,
        tickets=tickets,
        seed=seed,
        of=of,
    )


__all__ = ["router"]
