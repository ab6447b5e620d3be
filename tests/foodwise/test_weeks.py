"""Weeks, streaks and their repair, and what a form has chosen beforehand."""

import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, tables
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.campaign import choices, weeks
from tests.foodwise.participants import campaign
from tests.foodwise.scenes import DAY, HOURS, MONDAY, NOON, Scene, shot


def test_a_week_shows_days_streak_and_tickets(session):
    scene = Scene(session)
    for n in (0, 1, 3):  # Monday, Tuesday, Thursday.
        scene.log(at=NOON + n * DAY)
    scene.log("tea", kind="clean_plate", shot=shot(None), at=NOON + 7 * DAY)
    friday = weeks.week(session, scene.user, scene.campaign, NOON + 4 * DAY)
    assert [day.kind for day in friday.days] == [
        "active", "active", "missed", "active", "open", "rest", "rest",
    ]  # fmt: skip
    assert [len(day.actions) for day in friday.days] == [1, 1, 0, 1, 0, 0, 0]
    assert friday.streak == (1, MONDAY + 2 * DAY, False)
    assert (friday.points, friday.tickets) == (30, 3)
    assert friday.repairable == MONDAY + 2 * DAY
    assert friday.repairs_left == 2
    # What waits for people counts for the streak, and not for the draw.
    monday = weeks.week(session, scene.user, scene.campaign, NOON + 7 * DAY)
    assert monday.streak.today and monday.tickets == 3
    assert monday.days[0].kind == "active"


def test_a_repaired_day_joins_the_streak_and_is_audited(session):
    scene = Scene(session)
    for n in (0, 1, 3):
        scene.log(at=NOON + n * DAY)
    wednesday, at = MONDAY + 2 * DAY, NOON + 4 * DAY
    weeks.repair(session, scene.user, scene.campaign, wednesday, at)
    week = weeks.week(session, scene.user, scene.campaign, at)
    assert week.streak == (4, None, False)
    assert week.days[2].kind == "repaired"
    assert (week.repairs_left, week.repairable) == (1, None)
    assert week.tickets == 3  # A repaired day is none of the draw.
    (entry,) = session.scalars(sa.select(tables.AuditEntry)).all()
    assert (entry.what, entry.actor_id) == ("repair", scene.user.id)
    assert entry.detail == {"day": "2026-03-04"}
    with pytest.raises(Refused, match="breaks no streak"):
        weeks.repair(session, scene.user, scene.campaign, wednesday, at)


@pytest.mark.parametrize(
    "day, now, key",
    [
        (-1, 3, "repair_outside"),
        (14, 20, "repair_outside"),
        (3, 3, "repair_future"),
        (0, 8, "repair_old"),
        (5, 7, "repair_whole"),
    ],
)
def test_not_every_day_is_repaired(session, day, now, key):
    scene = Scene(session)
    with pytest.raises(Refused) as error:
        weeks.repair(
            session,
            scene.user,
            scene.campaign,
            MONDAY + day * DAY,
            NOON + now * DAY,
        )
    assert error.value.key == key


def test_repairs_are_used_up(session):
    scene = Scene(session, repairs=1)
    at = NOON + 4 * DAY
    weeks.repair(session, scene.user, scene.campaign, MONDAY, at)
    with pytest.raises(Refused, match="used all repairs"):
        weeks.repair(session, scene.user, scene.campaign, MONDAY + DAY, at)


def test_after_its_end_a_campaigns_streak_stays(session):
    scene = Scene(session)
    for n in range(10, 14):
        scene.log(at=NOON + n * DAY)
    week = weeks.week(session, scene.user, scene.campaign, NOON + 30 * DAY)
    assert week.streak.days == 4
    assert {day.kind for day in week.days} == {"outside"}


def test_which_campaign_a_moment_belongs_to(session):
    first = campaign(session, MONDAY, MONDAY + 13 * DAY)
    later = tables.Campaign(
        name="Autumn", starts=MONDAY + 60 * DAY, ends=MONDAY + 70 * DAY
    )
    session.add(later)
    session.flush()
    for day, wanted in ((-9, first), (3, first), (40, first), (65, later)):
        assert choices.campaign_for(session, NOON + day * DAY) is wanted


def test_what_is_chosen_beforehand(session):
    scene = Scene(session, hours=HOURS)
    assert choices.last_canteen(session, scene.user) is None
    scene.log()
    assert choices.last_canteen(session, scene.user) == scene.canteen.id

    def likely(hour):
        at = NOON.replace(hour=hour)
        return choices.likely_meal(session, scene.canteen.id, at, rules.Rules())

    assert [likely(hour) for hour in (4, 8, 15)] == ["lunch", "lunch", "dinner"]
    assert choices.likely_meal(session, None, NOON, rules.Rules()) == "lunch"
