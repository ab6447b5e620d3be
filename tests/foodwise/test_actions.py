"""Actions, their points, taking them back, and streaks, in the database."""

import datetime as dt
import types

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, tables
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.campaign import actions, photos, repeats, weeks
from tests.foodwise.participants import (
    encoded,
    graded,
    person,
    picture,
)
from tests.foodwise.scenes import (
    DAY,
    HOURS,
    MINUTE,
    MONDAY,
    NOON,
    Scene,
    seen,
    shot,
)


def test_an_action_counts_and_gives_points(session):
    scene = Scene(session)
    action, new = scene.log()
    assert new and (action.state, action.reason) == ("counted", "")
    assert action.day == MONDAY
    assert scene.rows() == [(10, "action")]


def test_a_clean_plate_gives_more(session):
    scene = Scene(session)
    action = scene.log(kind="clean_plate", shot=shot()).action
    assert action.state == "counted"
    assert scene.rows() == [(10, "action"), (5, "verified")]
    photo = action.photo
    assert (photo.width, photo.height) == (320, 240)
    assert photo.grade.decision == 0 and photo.grade.model_version == "told"
    assert photo.features == [0.5] * 128


@pytest.mark.parametrize(
    "photo, kind, reason",
    [
        (shot(None), "clean_plate", "unsure"),
        (shot(0, "dark"), "clean_plate", "quality"),
        (shot(1), "clean_plate", "left"),
        (shot(2), "clean_plate", "left"),
        (shot()._replace(grade=None), "clean_plate", "not_graded"),
        (shot(None), "shared", "unsure"),
    ],
)
def test_what_the_network_cannot_say_goes_to_people(
    session, photo, kind, reason
):
    scene = Scene(session)
    action = scene.log(kind=kind, shot=photo).action
    assert (action.state, action.reason) == ("review", reason)
    assert scene.rows() == []


@pytest.mark.parametrize("left", [1, 2])
def test_left_overs_turn_no_other_action_down(session, left):
    scene = Scene(session)
    assert scene.log(kind="shared", shot=shot(left)).action.state == "counted"


def test_outside_the_campaigns_days_people_look(session):
    scene = Scene(session)
    for at in (NOON - DAY, NOON + 14 * DAY):
        action = scene.log(at=at).action
        assert (action.state, action.reason) == ("review", "campaign")
    # Its last day ends at four in the morning of the next one.
    late = NOON + 13 * DAY + dt.timedelta(hours=15, minutes=59)
    assert scene.log(at=late, meal="dinner").action.state == "counted"


@pytest.mark.parametrize(
    "meal, hour, minute, state",
    [
        ("lunch", 3, 30, "counted"),  # 11:30 in Hong Kong.
        ("lunch", 3, 29, "review"),
        ("lunch", 6, 30, "counted"),
        ("lunch", 6, 31, "review"),
        ("dinner", 6, 0, "review"),
        ("dinner", 14, 0, "counted"),
        ("dinner", 17, 59, "counted"),  # 01:59, still of Monday.
        ("dinner", 18, 1, "review"),
        ("tea", 6, 0, "review"),
    ],
)
def test_outside_the_meals_hours_people_look(
    session, meal, hour, minute, state
):
    scene = Scene(session, hours=HOURS)
    at = NOON.replace(hour=hour, minute=minute)
    action = scene.log(meal=meal, at=at).action
    assert action.state == state
    assert action.reason == ("time" if state == "review" else "")
    assert action.day == MONDAY


def test_in_a_closed_canteen_people_look(session):
    scene = Scene(session, place={"open": False})
    assert scene.log().action.reason == "closed"


def test_limits_give_no_points_but_keep_the_action(session):
    scene = Scene(session)
    assert scene.log("breakfast").action.reason == ""
    again = scene.log("breakfast", kind="clean_plate", shot=shot()).action
    assert (again.state, again.reason) == ("counted", "meal")
    scene.log("lunch"), scene.log("tea")
    assert scene.log("dinner").action.reason == "day"
    assert scene.points() == 30
    assert scene.log("dinner", at=NOON + DAY).action.reason == ""


def test_undoing_frees_the_place(session):
    scene = Scene(session)
    first = scene.log("breakfast").action
    scene.log("lunch"), scene.log("tea")
    assert scene.log("dinner").action.reason == "day"
    scene.undo(first)
    assert scene.points() == 20
    assert scene.log("breakfast").action.reason == ""
    assert scene.points() == 30
    assert scene.log("dinner").action.reason == "day"


def test_undoing_is_the_exact_inverse(session):
    scene = Scene(session)
    action = scene.log(kind="clean_plate", shot=shot()).action
    assert scene.undo(action, NOON + 10 * MINUTE) is action
    assert action.state == "undone"
    assert action.photo.deleted_at == NOON + 10 * MINUTE
    assert sorted(scene.rows()[2:]) == [(-10, "undo"), (-5, "undo")]
    before = scene.rows()
    scene.undo(action, NOON + 10 * MINUTE)
    assert scene.rows() == before


def test_undoing_has_its_time_and_its_owner(session):
    scene = Scene(session)
    action = scene.log().action
    with pytest.raises(Refused, match="within 10 minutes"):
        scene.undo(action, NOON + 10 * MINUTE + dt.timedelta(seconds=1))
    other = person(session, "berta")
    assert actions.undo(session, other, action.id, NOON) is None
    assert actions.undo(session, other, action.id + 7, NOON) is None
    action.state = "rejected"
    with pytest.raises(Refused, match="decided"):
        scene.undo(action)
    assert scene.points() == 10


def test_a_photo_is_worth_something_once(session):
    scene = Scene(session)
    scene.log(kind="clean_plate", shot=shot())
    other = person(session, "berta")
    for user in (scene.user, other):
        action = scene.log("tea", "clean_plate", shot=shot(), user=user).action
        assert (action.state, action.reason) == ("review", "duplicate")
    # Another file of it is the same photo.
    smaller = photos.read(encoded(picture(), "PNG"))
    assert smaller.sha256 != seen().sha256
    sent = actions.Shot(smaller, "f" * 32 + ".jpg", graded())
    assert scene.log("tea", "clean_plate", shot=sent).action.reason == (
        "duplicate"
    )
    action = scene.log("tea", "clean_plate", shot=shot(seed=1)).action
    assert action.state == "counted"


def test_a_photo_that_was_undone_may_be_sent_again(session):
    scene = Scene(session)
    scene.undo(scene.log(kind="clean_plate", shot=shot()).action)
    again = actions.Shot(seen(), "a" * 32 + ".jpg", graded())
    assert scene.log(kind="clean_plate", shot=again).action.state == "counted"
    assert scene.points() == 15


def test_only_what_came_since_is_compared_in_the_transaction(
    session, monkeypatch
):
    scene = Scene(session)
    for seed in range(3):
        scene.log(kind="clean_plate", shot=shot(seed=seed))
    compared = repeats.compare(session, scene.campaign.id, seen(4))
    assert not compared.known
    looked = []
    real = repeats.among

    def among(one, others):
        looked.append(list(others))
        return real(one, looked[-1])

    monkeypatch.setattr(repeats, "among", among)
    scene.log(kind="clean_plate", shot=shot(seed=4))
    assert len(looked.pop()) == 3
    sent = shot(seed=4)._replace(compared=compared)
    assert scene.log(kind="clean_plate", shot=sent).action.reason == "duplicate"
    assert looked == [[seen(4).phash]]
    # Of another campaign all are looked at.
    elsewhere = compared._replace(campaign_id=99)
    sent = shot(seed=1)._replace(compared=elsewhere)
    assert scene.log(kind="clean_plate", shot=sent).action.reason == "duplicate"


def test_another_campaigns_photo_is_known_by_its_file(session):
    scene = Scene(session)
    scene.log(kind="clean_plate", shot=shot())
    scene.campaign = tables.Campaign(
        name="Autumn", starts=MONDAY, ends=MONDAY, rules={}
    )
    session.add(scene.campaign)
    session.flush()
    alike = photos.read(encoded(picture(), "PNG"))
    sent = actions.Shot(alike, "f" * 32 + ".jpg", graded())
    assert scene.log(kind="clean_plate", shot=sent).action.reason == ""
    again = scene.log("tea", "clean_plate", shot=shot())
    assert again.action.reason == "duplicate"


def test_the_same_form_is_one_action(session):
    scene = Scene(session)
    first = scene.log(once="form x")
    again = scene.log(once="form x", kind="took_home", meal="tea")
    assert again.action is first.action and not again.new
    assert scene.rows() == [(10, "action")]
    # Of another person it is another action.
    other = scene.log(once="form x", user=person(session, "berta"))
    assert other.new and other.action.user_id != scene.user.id


def test_the_same_form_at_the_same_time_is_one_action(session, monkeypatch):
    scene = Scene(session)
    first = scene.log(once="form x").action
    real = session.scalars

    def late(asked):
        # As if the other one had not been there yet.
        if "action.once" in str(asked) and not late.called:
            late.called = True
            return types.SimpleNamespace(one_or_none=lambda: None)
        return real(asked)

    late.called = False
    monkeypatch.setattr(session, "scalars", late)
    again = scene.log(once="form x")
    assert late.called
    assert again.action is first and not again.new
    assert scene.rows() == [(10, "action")]


@pytest.mark.parametrize(
    "told, key",
    [
        ({"meal": "supper"}, "action_form"),
        ({"kind": "clean"}, "action_form"),
        ({"once": ""}, "action_form"),
        ({"once": "x" * 101}, "action_form"),
        ({"kind": "clean_plate"}, "action_photo"),
        ({"note": "x" * 201}, "action_note"),
        ({"canteen_id": 999}, "action_canteen"),
    ],
)
def test_what_no_form_of_ours_sends_is_refused(session, told, key):
    scene = Scene(session)
    with pytest.raises(Refused) as error:
        scene.log(**told)
    assert error.value.key == key
    assert session.scalar(sa.select(sa.func.count(tables.Action.id))) == 0


def test_a_person_who_has_gone_logs_nothing(session):
    scene = Scene(session)
    session.execute(sa.delete(tables.User))
    with pytest.raises(Refused, match="no longer exists"):
        scene.log()


def test_a_note_is_kept_as_text_that_can_be_shown(session):
    note = "  rice\0 <script>\r\n\ud800\u202e  '); DROP TABLE action;-- "
    action = Scene(session).log(note=note).action
    assert action.note == "rice <script> '); DROP TABLE action;--"


@pytest.fixture
def codes(monkeypatch):
    """Codes that are right if they are of the minute."""
    monkeypatch.setattr(
        actions.codes,
        "valid",
        lambda guard, slug, code, at, rules: (
            code == f"{slug}{at.minute}".upper()
        ),
    )


def test_a_canteens_code_is_needed_and_used_once(session, codes):
    scene = Scene(session, place={"needs_code": True})
    for code in ("", "LG159", "nonsense\0"):
        action = scene.log(code=code, guard=object()).action
        assert (action.state, action.reason) == ("review", "code")
    assert scene.log(code="LG10").action.reason == "code"  # Without a guard.
    first = scene.log(code=" lg10 ", guard=object()).action
    assert (first.state, first.reason) == ("counted", "")
    again = scene.log("tea", code="LG10", guard=object()).action
    assert (again.state, again.reason) == ("review", "code")
    # Another person stands in the same queue.
    other = person(session, "berta")
    action = scene.log(code="LG10", guard=object(), user=other).action
    assert action.state == "counted"
    # The next code is another one, and undoing gives the code back.
    action = scene.log("tea", code="LG11", guard=object(), at=NOON + MINUTE)
    assert action.action.state == "counted"
    scene.undo(first)
    assert scene.log(code="LG10", guard=object()).action.state == "counted"


def test_the_real_codes_are_asked(session, app):
    from jaxedge.foodwise.campaign import codes

    scene = Scene(session, place={"needs_code": True})
    guard = app.state.site.guard
    code = codes.current(guard, "lg1", NOON, rules.Rules())
    assert scene.log(code=code, guard=guard).action.state == "counted"
    late = scene.log("tea", code=code, guard=guard, at=NOON + 3 * MINUTE)
    assert late.action.reason == "code"


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["shared", "clean_plate", "undo"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=14,
)


# Nothing that an example writes is committed.
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts=ACTS)
def test_points_are_the_ledger_and_never_below_zero(base, acts):
    # What counts now, as (day, meal, points): no database but a list.
    held, logged = {}, []
    with base.read() as session:
        scene = Scene(session)
        for n, (kind, meal, day) in enumerate(acts):
            at = NOON + day * DAY
            if kind == "undo":
                if logged:
                    action = logged[(meal * 7 + day) % len(logged)]
                    scene.undo(action, action.at)
                    held.pop(action.id, None)
            else:
                photo = shot(seed=n) if kind == "clean_plate" else None
                name = rules.MEALS[meal]
                action = scene.log(name, kind, at, photo).action
                logged.append(action)
                of_day = [m for d, m, _ in held.values() if d == day]
                if len(of_day) < 3 and meal not in of_day:
                    worth = 15 if photo else 10
                    held[action.id] = (day, meal, worth)
            assert scene.points() == sum(row[2] for row in held.values())
            assert scene.points() == sum(points for points, _ in scene.rows())
        for action in logged:
            expected = held[action.id][2] if action.id in held else 0
            assert weeks.of_action(session, action.id) == expected
