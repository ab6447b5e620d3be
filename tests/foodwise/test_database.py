"""Migrations, transactions and what is acknowledged, on both databases."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time

from alembic import command
import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import database, settings
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    Base,
    Campaign,
    Canteen,
    Consent,
    Grade,
    Label,
    Photo,
    PointsEntry,
    ReviewVote,
    User,
)
from jaxedge.foodwise.campaign import (
    actions,
    own_data,
    photos,
    repeats,
    reviews,
    staff,
)
from jaxedge.foodwise.upkeep import restore
from tests.foodwise import scenes
from tests.foodwise.postgres import postgres  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

AT = dt.datetime(2026, 3, 3, 5, 0, tzinfo=dt.UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Of an empty database, of both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return request.getfixturevalue("postgres")()


@pytest.fixture
def opened(url):
    """A database with the tables."""
    database.migrate(url)
    made = database.Database(url)
    yield made
    made.close()


def tables_of(url):
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    return found - {"alembic_version"}


def test_migrations_go_up_and_down_and_have_all(url):
    config = database.configuration(url)
    database.migrate(url)
    assert tables_of(url) == set(Base.metadata.tables)
    command.check(config)  # Raises where models and tables differ.
    command.downgrade(config, "base")
    assert tables_of(url) == set()
    database.migrate(url)
    assert tables_of(url) == set(Base.metadata.tables)


def test_an_unreachable_database_is_named():
    with pytest.raises(checks.UsageError, match="cannot be reached"):
        database.migrate("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(checks.UsageError, match="cannot be opened"):
        database.Database("mysql://")


def test_no_message_tells_the_password(tmp_path):
    """Of the database: messages end in logs."""
    there = "nobody:geheim@127.0.0.1:1/none?password=geheim"
    url = f"postgresql+psycopg://{there}"
    calls = [
        lambda: database.migrate(url),
        lambda: database.Database(f"mysql://{there}"),
        lambda: database.Database("no url at all: geheim"),
        lambda: restore._check_empty(settings.Settings(tmp_path, url)),
    ]
    settings.prepare(settings.Settings(tmp_path))
    for call in calls:
        with pytest.raises(checks.UsageError, match="the database") as told:
            call()
        assert "geheim" not in str(told.value)


def fill(session):
    """A campaign, a canteen, a person with a photo, and three reviewers."""
    session.add(
        Campaign(
            id=1,
            name="c",
            starts=dt.date(2026, 3, 2),
            ends=dt.date(2026, 3, 15),
        )
    )
    session.add(Canteen(id=1, slug="lg1", name="LG1"))
    session.flush()
    users = [
        staff.create(session, name, "x", role)
        for name, role in (
            ("eater", "participant"),
            ("one", "reviewer"),
            ("two", "reviewer"),
            ("three", "reviewer"),
        )
    ]
    action = Action(
        user_id=users[0].id,
        campaign_id=1,
        canteen_id=1,
        day=dt.date(2026, 3, 3),
        meal="lunch",
        kind="clean_plate",
        at=AT,
        state="review",
        reason="unsure",
        once="once",
    )
    photo = Photo(
        user_id=users[0].id,
        action=action,
        sha256="0" * 64,
        phash="0" * 16,
        width=8,
        height=8,
        file=f"{0:032x}.jpg",
        features=[],
        at=AT,
    )
    photo.grade = Grade(model_version="m", alpha=[1, 1, 1], u=1.0, at=AT)
    session.add(photo)
    session.flush()
    return users, photo


def test_votes_at_the_same_time_settle_once(opened):
    with opened.write() as session:
        (_, *reviewers), photo = fill(session)
    together = threading.Barrier(3)
    failed = []

    def vote(reviewer):
        together.wait()
        try:
            with opened.write() as session:
                reviews.vote(session, reviewer, photo.id, 0, AT)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=vote, args=(r,)) for r in reviewers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with opened.read() as session:
        assert session.scalar(sa.select(sa.func.count(ReviewVote.id))) == 3
        assert session.scalars(sa.select(Label.how)).all() == ["votes"]
        points = sa.select(PointsEntry.points).order_by(PointsEntry.id)
        assert session.scalars(points).all() == [10, 5]
        assert session.scalars(sa.select(Action.state)).all() == ["counted"]


def log(opened, name, shot, done=None):
    """An action of a new person with a photo; returns its reason."""
    with opened.write() as session:
        user = session.scalars(
            sa.select(User).where(User.pseudonym == name)
        ).one()
        campaign = session.get_one(Campaign, 1)
        told = actions.Told(1, "lunch", "clean_plate", "form")
        action = actions.log(session, user, campaign, told, AT, shot).action
        if done:
            done()
        return action.reason


def test_a_photo_that_two_send_together_counts_once(opened):
    with opened.write() as session:
        fill(session)
        staff.create(session, "other", "x", "participant")
    with opened.read() as session:
        compared = repeats.compare(session, 1, scenes.seen())
    shot = scenes.shot()._replace(compared=compared)
    first = threading.Event()
    reasons = {}

    def second():
        first.wait()
        reasons["other"] = log(opened, "other", shot)

    thread = threading.Thread(target=second)
    thread.start()

    def done():
        # The other one waits now, or would not see this one.
        first.set()
        time.sleep(0.3)

    reasons["eater"] = log(opened, "eater", shot, done)
    thread.join()
    assert reasons == {"eater": "", "other": "duplicate"}


def test_what_is_being_logged_is_withdrawn_too(opened, tmp_path):
    with opened.write() as session:
        (eater, *_), _ = fill(session)
    folder = settings.prepare(settings.Settings(tmp_path / "instance"))
    kept = scenes.seen()
    shot = scenes.shot()._replace(file=photos.keep(kept, folder.photos))
    logged = threading.Event()

    def withdraw():
        logged.wait()
        with opened.write() as session:
            own_data.withdraw(session, folder, eater)

    thread = threading.Thread(target=withdraw)
    thread.start()

    def done():
        logged.set()
        time.sleep(0.3)

    log(opened, "eater", shot, done)
    thread.join()
    assert list(folder.photos.iterdir()) == []
    with opened.read() as session:
        assert session.scalars(sa.select(Photo)).all() == []


def test_who_goes_takes_all_rows_along(opened):
    with opened.write() as session:
        (person, reviewer, *_), photo = fill(session)
        session.add(Consent(user_id=person.id, version="1"))
        reviews.vote(session, reviewer, photo.id, 0, AT)
    with opened.write() as session:
        session.execute(sa.delete(User).where(User.id == person.id))
        session.execute(sa.delete(User).where(User.id == reviewer.id))
    with opened.read() as session:
        for table in (Consent, Action, Photo, Grade, ReviewVote, PointsEntry):
            assert session.scalars(sa.select(table)).all() == []
        subjects = session.scalars(sa.select(AuditEntry.subject)).all()
        assert f"user {person.id}" in subjects  # A number, and no name.


def test_a_transaction_is_all_or_nothing(opened):
    with pytest.raises(RuntimeError), opened.write() as session:
        session.add(Canteen(slug="a", name="A"))
        session.flush()
        raise RuntimeError
    with opened.read() as session:
        assert session.scalars(sa.select(Canteen)).all() == []


WRITER = """
import sys
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.tables import Canteen
database = Database(sys.argv[1])
for n in range(100_000):
    with database.write() as session:
        session.add(Canteen(slug=f"c{n}", name="x" * 80))
    print(n, flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(tmp_path):
    url = f"sqlite:///{tmp_path}/killed.db"
    database.migrate(url)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
    )
    for line in writer.stdout:
        if int(line) == 40:
            os.kill(writer.pid, signal.SIGKILL)
            break
    # What it said before the signal came counts too.
    last = max([40, *map(int, writer.stdout.read().split())])
    writer.wait()
    assert writer.returncode == -signal.SIGKILL
    opened = database.Database(url)
    with opened.read() as session:
        found = set(session.scalars(sa.select(Canteen.slug)))
        assert session.scalar(sa.text("PRAGMA integrity_check")) == "ok"
    opened.close()
    assert {f"c{n}" for n in range(last + 1)} <= found
    # One more may be written, but not yet acknowledged.
    assert len(found) <= last + 2
