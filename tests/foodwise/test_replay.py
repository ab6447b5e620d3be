"""The made-up campaign: its size, its rules, and that a seed repeats it."""

from collections import Counter, defaultdict
import datetime as dt

import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import rules, security
from jaxedge.foodwise.base.database import Database, migrate
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    Campaign,
    Canteen,
    Consent,
    Equivalent,
    Grade,
    Membership,
    Photo,
    PointsEntry,
    User,
    WasteRecord,
)
from jaxedge.foodwise.upkeep import demo, replay
from jaxedge.foodwise.waste import stories
from tests.foodwise import weighing
from tests.foodwise.postgres import postgres  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

RULES = rules.Rules()


@pytest.fixture
def database(instance):
    made = Database(instance.url)
    yield made
    made.close()


def count(session, table):
    return session.scalar(sa.select(sa.func.count()).select_from(table))


def test_the_campaign_has_its_size_and_keeps_the_rules(database, instance):
    found = replay.load(database, instance, 0, weighing.TODAY, pictures=4)
    # The issue asks for a minute; on a busy core this takes a tenth of it.
    assert found.seconds < 60
    assert found.starts == dt.date(2026, 2, 23)
    assert (found.people, found.pictures) == (220, 4)
    assert len(list(instance.photos.iterdir())) == 4
    with database.read() as session:
        assert count(session, Canteen) == 9
        people = session.scalars(
            sa.select(User.id).where(User.role == "participant")
        ).all()
        assert len(people) == count(session, Consent) == 220
        first, second = session.scalars(
            sa.select(Campaign).order_by(Campaign.starts)
        )
        assert first.synthetic and second.synthetic
        assert (first.ends - first.starts).days == 13
        assert second.starts <= weighing.TODAY <= second.ends
        assert count(session, Membership) > 100
        assert count(session, Equivalent) == 6
        assert count(session, WasteRecord) == found.records
        sources = session.scalars(sa.select(WasteRecord.source).distinct())
        assert list(sources) == ["synthetic"]
        assert session.scalars(sa.select(AuditEntry.what)).all() == ["replay"]
        check_actions(session, found.actions)
        check_mass(session, found.starts)
        for name, _ in replay.STAFF:
            user = session.scalar(sa.select(User).where(User.pseudonym == name))
            assert security.right_password(user, found.log_ins[name])
            assert not security.right_password(user, "demo")


def check_actions(session, counted):
    actions = session.scalars(sa.select(Action)).all()
    states = Counter(action.state for action in actions)
    assert states["counted"] == counted >= 800
    assert states["review"] == 4 and states["undone"] > 0
    photos = {p.action_id: p for p in session.scalars(sa.select(Photo))}
    assert count(session, Grade) == len(photos)
    points = defaultdict(list)
    for row in session.scalars(sa.select(PointsEntry).order_by(PointsEntry.id)):
        points[row.action_id].append((row.reason, row.points))
    by_day = defaultdict(list)
    for action in actions:
        assert (action.kind == "clean_plate") == (action.id in photos)
        assert rules.day_of(action.at, RULES) == action.day
        reasons = points[action.id]
        if action.state == "review":
            assert not reasons
        elif action.state == "undone":
            assert reasons == [("action", 10), ("undo", -10)]
        else:
            assert reasons[0] == ("action", 10)
            assert reasons[1:] in ([], [("verified", 5)])
        if action.state != "undone":
            by_day[action.user_id, action.day].append(action.meal)
    for meals in by_day.values():
        assert len(meals) <= RULES.most_a_day
        assert len(set(meals)) == len(meals)


def check_mass(session, starts):
    """Weekdays before the campaign weigh about 2.5 t: n = 20 of them, each
    with a noise of 2.5 % and more, so their mean is known to 1 %."""
    days = session.execute(
        sa.select(WasteRecord.day, sa.func.sum(WasteRecord.grams))
        .where(WasteRecord.day < starts)
        .group_by(WasteRecord.day)
    ).all()
    assert len(days) == 28
    working = [int(g) for day, g in days if day.weekday() < 5]
    assert sum(working) / len(working) == pytest.approx(2.5e6, rel=0.04)


def test_a_seed_repeats_it_and_twice_is_refused(database, instance, tmp_path):
    def rows(session):
        asked = (
            sa.select(Action.day, Action.meal, Action.kind, Action.state),
            sa.select(User.pseudonym, User.language, User.leaderboard),
            sa.select(WasteRecord.day, WasteRecord.grams, WasteRecord.diners),
        )
        return [sorted(map(repr, session.execute(a))) for a in asked]

    empty = (instance.folder / "foodwise.db").read_bytes()
    replay.load(database, instance, 3, weighing.TODAY, pictures=0)
    again = instance._replace(folder=tmp_path / "again")
    again.photos.mkdir(parents=True)
    (again.folder / "foodwise.db").write_bytes(empty)
    other = Database(again.url)
    found = replay.load(other, again, 3, weighing.TODAY, pictures=0)
    with database.read() as one, other.read() as two:
        assert rows(one) == rows(two)
    with pytest.raises(checks.UsageError, match="here already; load it into"):
        replay.load(other, again, 4, weighing.TODAY)
    with other.read() as session:
        assert count(session, WasteRecord) == found.records
    assert not list(again.photos.iterdir())
    other.close()


def test_the_effect_is_as_it_says():
    starts = dt.date(2026, 3, 9)
    at = [demo.effect(starts + dt.timedelta(days=i), starts) for i in
          (-1, 0, 13, 14)]  # fmt: skip
    assert at == pytest.approx([0, -0.06, -0.099, -0.4 * 0.099])


def test_both_databases_tell_the_same_story(
    database,
    instance,
    postgres,  # noqa: F811
):
    """Loaded, summed and replaced on PostgreSQL as on SQLite."""
    replay.load(database, instance, 1, weighing.TODAY, pictures=0)
    url = postgres()
    migrate(url)
    other = Database(url)
    try:
        replay.load(other, instance, 1, weighing.TODAY, pictures=0)
        told = [
            stories.story(each, None, weighing.TODAY, "en")
            for each in (database, other)
        ]
        for name in stories.NAMES:
            first, second = (stories.csv(story, name) for story in told)
            assert first == second
        with other.read() as session:
            ids = {c.slug: c.id for c in session.scalars(sa.select(Canteen))}
        row = ("demo-banyan", "2026-03-20", "lunch", "rice", 500, 10)
        text = weighing.file_of(row)
        assert weighing.take(other, text, ids).added == 1
        assert weighing.take(other, text, ids).same == 1
        text = weighing.file_of((*row[:4], 400, 12))
        assert weighing.take(other, text, ids).bad == 1
        assert weighing.take(other, text, ids, replace=True).replaced == 1
    finally:
        other.close()
