"""A person's own week, streak, team and data."""

from collections.abc import Callable
import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules, security, tables, words
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import Campaign, Canteen, RewardDraw, User
from jaxedge.foodwise.campaign import actions, choices, people, teams, weeks
from jaxedge.foodwise.web.asking import (
    FORM,
    Here,
    Participant,
    Site,
    page,
    set_cookie,
    to,
)

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]
_DONE = (
    "undone",
    "repaired",
    "saved",
    "password",
    "team_made",
    "team_joined",
    "team_left",
)


@router.get("/me")
def show_me(
    request: Request, here: Here, user: Participant, done: str = ""
) -> Response:
    """Own week, standing, team, settings and data."""
    return _page(request, here, user, done=done if done in _DONE else "")


def _page(
    request: Request,
    here: Site,
    user: User,
    status: int = 200,
    problem: str = "",
    done: str = "",
) -> Response:
    at = tables.now()
    with here.database.read() as session:
        campaign = choices.campaign_for(session, at)
        kept = _rules(campaign)
        shown = _standing(session, user, campaign, at) if campaign else {}
        return page(
            request,
            "me/page.html",
            status,
            problem=problem,
            done=done,
            campaign=campaign,
            least=security.LEAST_LETTERS,
            languages=words.LANGUAGES,
            may_undo=lambda action: actions.may_undo(action, at, kept),
            agreed=people.agreed(session, user),
            **shown,
        )


def _rules(campaign: Campaign | None) -> rules.Rules:
    return rules.read(campaign.rules) if campaign else rules.Rules()


def _standing(
    session: Session, user: User, campaign: Campaign, at: dt.datetime
) -> dict[str, Any]:
    team = teams.of(session, user, campaign)
    week = weeks.week(session, user, campaign, at)
    return {
        "week": week,
        "running": campaign.starts <= week.today <= campaign.ends,
        "ledger": weeks.ledger(session, user.id, campaign.id),
        "canteens": {
            place.id: place for place in session.scalars(sa.select(Canteen))
        },
        "team": team,
        "team_size": teams.size(session, team) if team else 0,
        "board": teams.board(session, campaign),
        "least_shown": teams.LEAST_SHOWN,
        "draws": _draws(session, user, campaign),
        "rules": _rules(campaign),
    }


def _draws(
    session: Session, user: User, campaign: Campaign
) -> list[dict[str, Any]]:
    """Draws, and the person's place among who won; 0 for none."""
    return [
        {
            "seed": draw.seed,
            "at": draw.at,
            "prizes": draw.prizes,
            "tickets": draw.tickets.get(str(user.id), 0),
            "place": draw.winners.index(user.id) + 1
            if user.id in draw.winners
            else 0,
        }
        for draw in session.scalars(
            sa.select(RewardDraw)
            .where(RewardDraw.campaign_id == campaign.id)
            .order_by(RewardDraw.id.desc())
        )
    ]


def _do(
    request: Request,
    here: Site,
    user: User,
    change: Callable[[Session, Campaign], object],
    done: str,
) -> Response:
    """Changes something of the campaign, and says that it is done or why not.

    Only for persons who have agreed to the text as it is now.
    """
    try:
        with here.database.write() as session:
            if not people.agreed(session, user):
                return to("/consent", next="/me")
            campaign = choices.campaign_for(session, tables.now())
            if campaign is None:
                raise Refused("action_campaign")
            change(session, campaign)
    except Refused as refused:
        told = refused.told(request.state.visitor.language)
        return _page(request, here, user, 422, told)
    return to("/me", done=done)


@router.post("/me/repair", dependencies=FORM)
def repair(
    request: Request,
    here: Here,
    user: Participant,
    day: Annotated[dt.date, Form()],
) -> Response:
    """Forgives a missed day."""
    return _do(
        request,
        here,
        user,
        lambda session, campaign: weeks.repair(
            session, user, campaign, day, tables.now()
        ),
        "repaired",
    )


@router.post("/me/team", dependencies=FORM)
def make_team(
    request: Request, here: Here, user: Participant, name: Text = ""
) -> Response:
    """Makes a team."""
    return _do(
        request,
        here,
        user,
        lambda session, campaign: teams.create(session, user, campaign, name),
        "team_made",
    )


@router.post("/me/team/join", dependencies=FORM)
def join_team(
    request: Request, here: Here, user: Participant, code: Text = ""
) -> Response:
    """Enters a team; codes are not to be found by trying."""
    here.guard.allow("team", str(user.id), here.settings.attempts)
    return _do(
        request,
        here,
        user,
        lambda session, campaign: teams.join(session, user, campaign, code),
        "team_joined",
    )


@router.post("/me/team/leave", dependencies=FORM)
def leave_team(request: Request, here: Here, user: Participant) -> Response:
    """Leaves the team."""
    return _do(
        request,
        here,
        user,
        lambda session, campaign: teams.leave(session, user, campaign),
        "team_left",
    )


@router.post("/me/settings", dependencies=FORM)
def settings(
    here: Here,
    user: Participant,
    language: Text = "en",
    leaderboard: Annotated[bool, Form()] = False,
    notifications: Annotated[bool, Form()] = False,
) -> Response:
    """Sets what a person chooses."""
    with here.database.write() as session:
        people.change_settings(
            session, user.id, language, leaderboard, notifications
        )
    return to("/me", done="saved")


@router.post("/me/password", dependencies=FORM)
def password(
    request: Request,
    here: Here,
    user: Participant,
    old: Text = "",
    new: Text = "",
) -> Response:
    """Changes it; every other browser has to log in anew."""
    here.guard.allow("password", str(user.id), here.settings.attempts)
    try:
        if not security.right_password(user, people.sendable(old)):
            raise Refused("password_wrong")
        people.check_password(new, user.pseudonym)
    except Refused as refused:
        told = refused.told(request.state.visitor.language)
        return _page(request, here, user, 422, told)
    made = security.hash_password(people.sendable(new))
    with here.database.write() as session:
        people.change_password(session, user.id, made)
        token = here.guard.start(session, user)
    answer = to("/me", done="password")
    set_cookie(answer, here, security.COOKIE, here.guard.sign(token))
    return answer


@router.get("/me/export")
def export(here: Here, user: Participant) -> Response:
    """All that is kept of a person, as a ZIP."""
    here.guard.allow("export", str(user.id), here.settings.attempts)
    with here.database.read() as session:
        found = session.get(User, user.id)
        if found is None:
            raise HTTPException(404, "404")
        made = people.archive(session, here.settings, found)
    return Response(
        made,
        media_type="application/zip",
        headers={"content-disposition": 'attachment; filename="foodwise.zip"'},
    )


@router.post("/me/withdraw", dependencies=FORM)
def withdraw(
    request: Request, here: Here, user: Participant, sure: Text = ""
) -> Response:
    """Deletes the person, with every row and file."""
    try:
        if sure != "yes":
            raise Refused("withdraw_sure")
        with here.database.write() as session:
            people.withdraw(session, here.settings, user)
    except Refused as refused:
        told = refused.told(request.state.visitor.language)
        return _page(request, here, user, 422, told)
    answer = to("/goodbye")
    answer.delete_cookie(security.COOKIE)
    return answer


@router.get("/goodbye")
def goodbye(request: Request) -> Response:
    """That everything is gone."""
    return page(request, "me/goodbye.html")


__all__ = ["router"]
