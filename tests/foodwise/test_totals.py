"""Sums: what the screen shows is what SQL says is what the files hold."""

import csv
import datetime as dt
import io
import re

import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.tables import Campaign, Canteen, WasteRecord
from jaxedge.foodwise.campaign import choices
from jaxedge.foodwise.upkeep import replay
from jaxedge.foodwise.waste import stories, totals
from tests.foodwise import weighing

MONDAY = dt.date(2026, 3, 9)


@pytest.fixture
def database(instance):
    made = Database(instance.url)
    yield made
    made.close()


def put(database, allowed, *rows):
    text = weighing.file_of(*rows)
    assert weighing.take(database, text, allowed).stored


@pytest.fixture
def small(database):
    """Two canteens, of which one counted its diners."""
    allowed = weighing.places(database, "north", "south")
    put(
        database,
        allowed,
        ("north", "2026-03-09", "lunch", "rice", 1000, 20),
        ("north", "2026-03-09", "lunch", "soup", 500, 20),
        ("north", "2026-03-10", "dinner", "rice", 300, 10),
        ("south", "2026-03-09", "lunch", "rice", 7000, ""),
        ("south", "2026-03-17", "tea", "bread", 0, 5),
    )
    return database


def test_diners_are_counted_once_a_meal(small):
    span = totals.Span(MONDAY, MONDAY + dt.timedelta(days=8))
    with small.read() as session:
        (whole,) = totals.waste(session, span, ())
        days = totals.waste(session, span, ("day",))
        places = totals.waste(session, span, ("canteen", "meal"))
        kinds = totals.waste(session, span, ("category",))
    assert whole == totals.Total((), 8800, 1800, 35, 4)
    assert days == [
        ((MONDAY,), 8500, 1500, 20, 2),
        ((dt.date(2026, 3, 10),), 300, 300, 10, 1),
        ((dt.date(2026, 3, 17),), 0, 0, 5, 1),
    ]
    assert places == [
        (("north", "dinner"), 300, 300, 10, 1),
        (("north", "lunch"), 1500, 1500, 20, 1),
        (("south", "lunch"), 7000, 0, 0, 1),
        (("south", "tea"), 0, 0, 5, 1),
    ]
    assert [(total.key, total.grams) for total in kinds] == [
        (("bread",), 0),
        (("rice",), 8300),
        (("soup",), 500),
    ]
    assert days[0].per_diner == 75
    assert places[2].per_diner is None
    assert totals.by_week(days) == [
        ((MONDAY,), 8800, 1800, 30, 3),
        ((MONDAY + totals.WEEK,), 0, 0, 5, 1),
    ]


def test_days_outside_are_left_out(small):
    with small.read() as session:
        day = totals.Span(MONDAY, MONDAY)
        assert totals.waste(session, day, ())[0].grams == 8500
        none = totals.Span(MONDAY - totals.WEEK, MONDAY - totals.WEEK)
        assert totals.waste(session, none, ()) == []
        assert totals.weeks(session, MONDAY) == [MONDAY]
        with pytest.raises(checks.UsageError, match="unknown dimension"):
            totals.waste(session, day, ("person",))


def test_the_latest_campaign_that_had_begun(small):
    with small.write() as session:
        for name, start in (("one", 2), ("two", 9), ("three", 16)):
            day = dt.date(2026, 3, start)
            session.add(
                Campaign(name=name, starts=day, ends=day, synthetic=False)
            )
    with small.read() as session:
        found = choices.campaign_on(session, dt.date(2026, 3, 15))
        assert found is not None and found.name == "two"
        assert choices.campaign_on(session, dt.date(2026, 3, 1)) is None
        # As an action would find it, if there is one at all.
        for day in range(2, 20):
            noon = dt.datetime(2026, 3, day, 4, tzinfo=dt.UTC)
            found = choices.campaign_on(session, dt.date(2026, 3, day))
            assert found is choices.campaign_for(session, noon)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, _migrated):
    """The made-up campaign, without pictures, once for all tests here."""
    from jaxedge.foodwise.base import settings

    made = settings.Settings(tmp_path_factory.mktemp("replay"))
    settings.prepare(made)
    (made.folder / "foodwise.db").write_bytes(_migrated)
    database = Database(made.url)
    replay.load(database, made, 0, weighing.TODAY, pictures=0)
    yield database
    database.close()


def grams_of(text):
    """Whole grams out of kilograms as the page shows them."""
    assert re.fullmatch(r"[\d,]+\.\d{3}", text)
    return int(text.replace(",", "").replace(".", ""))


def rows_of(story, name):
    text = stories.csv(story, name)
    return list(csv.DictReader(io.StringIO(text, newline="")))


QUERIES = {
    "how-much": "SELECT SUM(grams) FROM waste_record WHERE day BETWEEN"
    " :first AND :last GROUP BY"
    " CAST((julianday(day) - julianday(:first)) / 7 AS INTEGER)",
    "when": "SELECT SUM(grams) FROM waste_record WHERE day BETWEEN :monday"
    " AND :last GROUP BY day, meal",
    "what": "SELECT SUM(grams) FROM waste_record WHERE day BETWEEN :monday"
    " AND :last GROUP BY category",
}


@pytest.mark.parametrize("name", [*QUERIES, "where", "actions"])
def test_screen_and_file_and_sql_agree_to_the_gram(replayed, name):
    """The sums of SQL are made by plain statements, beside `totals`."""
    story = stories.story(replayed, None, weighing.TODAY, "en")
    panel = story.panels[name]
    file = [int(r["grams"]) for r in rows_of(story, name) if r["grams"]]
    place = [column.name for column in panel.columns].index("grams")
    cells = [row[place] for row in story.told[name].cells]
    assert [grams_of(text) for text in cells if text != "–"] == file
    first = story.week.first - 7 * totals.WEEK
    with replayed.read() as session:
        if name in QUERIES:
            asked = sa.text(QUERIES[name])
            fields = {
                "first": first.isoformat(),
                "monday": story.week.first.isoformat(),
                "last": story.week.last.isoformat(),
            }
            used = {k: v for k, v in fields.items() if f":{k}" in asked.text}
            sums = session.execute(asked, used).scalars().all()
        else:
            sums = by_hand(session, name, first, story.week.last)
    assert sorted(sums) == sorted(file)


def by_hand(session, name, first, last):
    """All rows, added in Python."""
    found = {}
    for slug, day, grams in session.execute(
        sa.select(Canteen.slug, WasteRecord.day, WasteRecord.grams).join(
            Canteen
        )
    ):
        monday = day - dt.timedelta(days=day.weekday())
        key = (slug, monday) if name == "where" else day
        if first <= day <= last:
            found[key] = found.get(key, 0) + grams
    return list(found.values())


def test_the_marks_of_a_chart_are_its_rows(replayed):
    story = stories.story(replayed, None, weighing.TODAY, "en")
    for name, panel in story.panels.items():
        marks = [len(spec["data"]["values"]) for spec in panel.specs]
        if panel.small:
            assert sum(marks) == len(panel.rows)
        else:
            assert all(count == len(panel.rows) for count in marks), name
        if "grams" in [column.name for column in panel.columns]:
            place = [c.name for c in panel.columns].index("grams")
            drawn = [
                row["grams"]
                for spec in (panel.specs if panel.small else panel.specs[:1])
                for row in spec["data"]["values"]
            ]
            assert drawn == [row[place] for row in panel.rows]


def test_a_new_row_is_seen_at_once(small):
    told = stories.story(small, MONDAY, weighing.TODAY, "en")
    assert "8.8" in told.panels["how-much"].sentence
    assert (
        stories.story(small, MONDAY, weighing.TODAY, "en").panels["how-much"]
        is told.panels["how-much"]
    )
    with small.read() as session:
        asked = sa.select(Canteen.slug, Canteen.id)
        ids = {slug: number for slug, number in session.execute(asked)}
    put(small, ids, ("north", "2026-03-11", "lunch", "rice", 200, 4))
    told = stories.story(small, MONDAY, weighing.TODAY, "en")
    assert told.panels["how-much"].rows[0][2] == 9000
