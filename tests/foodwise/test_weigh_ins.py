"""Weigh-ins: what is taken, what is not, and that it is taken once."""

import codecs
import concurrent.futures
import csv
import io
import json

import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import words
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.tables import ApiToken, AuditEntry, ImportBatch, now
from jaxedge.foodwise.base.tables import WasteRecord as Waste
from jaxedge.foodwise.campaign import campaigns
from jaxedge.foodwise.waste import sheets, weigh_ins, weigh_rows
from tests.foodwise import weighing

ROW = ("north", "2026-03-09", "lunch", "rice", 41250, 1830)
OTHER = ("north", "2026-03-09", "lunch", "soup", 900, 1830)


@pytest.fixture
def database(instance):
    made = Database(instance.url)
    yield made
    made.close()


@pytest.fixture
def allowed(database):
    return weighing.places(database, "north", "south")


def stored(database):
    with database.read() as session:
        return [
            (r.day.isoformat(), r.meal, r.category, r.grams, r.diners, r.source)
            for r in session.scalars(sa.select(Waste).order_by(Waste.id))
        ]


def count(database, table):
    with database.read() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table))


def said(report):
    return [(p.row, p.field, p.what) for p in report.problems]


def test_a_file_is_stored_once(database, allowed):
    text = weighing.file_of(ROW, OTHER)
    first = weighing.take(database, text, allowed)
    assert (first.stored, first.added, first.bad) == (True, 2, 0)
    assert stored(database) == [
        ("2026-03-09", "lunch", "rice", 41250, 1830, "upload"),
        ("2026-03-09", "lunch", "soup", 900, 1830, "upload"),
    ]
    again = weighing.take(database, text, allowed)
    assert (again.stored, again.added, again.same) == (False, 0, 2)
    assert len(stored(database)) == 2
    assert count(database, ImportBatch) == count(database, AuditEntry) == 1


def test_a_dry_run_changes_nothing(database, allowed):
    report = weighing.take(database, weighing.file_of(ROW), allowed, dry=True)
    assert (report.added, report.stored) == (1, False)
    assert not stored(database) and not count(database, ImportBatch)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_spreadsheets_are_read(database, allowed, mark, between, end):
    text = (
        "Canteen,Day,Meal,Category,KG\nnorth,2026-03-09,lunch,rice,41.250\n\n"
    )
    text = text.replace(",", between).replace("\n", end)
    weighing.take(database, mark + text.encode(), allowed)
    assert stored(database) == [
        ("2026-03-09", "lunch", "rice", 41250, None, "upload")
    ]


@pytest.mark.parametrize("wrap", [False, True])
def test_json_is_read(database, allowed, wrap):
    rows = [
        {
            "canteen": "south",
            "day": "2026-03-09",
            "meal": "tea",
            "category": "bread",
            "kg": 1.5,
            "diners": 12,
            "source": "scale 2",
        }
    ]
    text = json.dumps({"records": rows} if wrap else rows)
    weighing.take(database, text, allowed)
    assert stored(database) == [
        ("2026-03-09", "tea", "bread", 1500, 12, "scale 2")
    ]


def replaced(**fields):
    names = ("canteen", "day", "meal", "category", "grams", "diners")
    row = dict(zip(names, ROW, strict=True)) | {"kg": "", "source": ""}
    return row | fields


@pytest.mark.parametrize(
    "fields, field, what",
    [
        ({"canteen": "east"}, "canteen", "unknown"),
        ({"canteen": ""}, "canteen", "missing"),
        ({"meal": "brunch"}, "meal", "unknown"),
        ({"category": "=1+1"}, "category", "unknown"),
        ({"day": "2026-03-21"}, "day", "future"),
        ({"day": "1999-12-31"}, "day", "past"),
        ({"day": "2026-02-30"}, "day", "no_day"),
        ({"day": "20260309"}, "day", "no_day"),
        ({"day": "9/3/2026"}, "day", "no_day"),
        ({"day": ""}, "day", "missing"),
        ({"grams": "-1"}, "grams", "negative"),
        ({"grams": "nan"}, "grams", "no_number"),
        ({"grams": "inf"}, "grams", "no_number"),
        ({"grams": "1e3"}, "grams", "no_number"),
        ({"grams": "1,000"}, "grams", "no_number"),
        ({"grams": "٣"}, "grams", "no_number"),
        ({"grams": "9" * 400}, "grams", "no_number"),
        ({"grams": "0.5"}, "grams", "finer"),
        ({"grams": "2000001"}, "grams", "too_much"),
        ({"grams": ""}, "grams", "no_mass"),
        ({"grams": "", "kg": "1.2345"}, "kg", "finer"),
        ({"grams": "", "kg": "2000.001"}, "kg", "too_much"),
        ({"grams": "1", "kg": "1"}, "kg", "both"),
        ({"diners": "-3"}, "diners", "negative"),
        ({"diners": "2.5"}, "diners", "whole"),
        ({"diners": "20001"}, "diners", "too_much"),
        ({"source": "<script>"}, "source", "source"),
    ],
)
def test_what_is_wrong_is_named(database, allowed, fields, field, what):
    row = replaced(**fields)
    text = sheets.write(list(row), [list(row.values())])
    # A formula is tamed on its way out, so it is put back as it was.
    report = weighing.take(database, text.replace("'", ""), allowed)
    assert said(report) == [(1, field, what)]
    assert not stored(database) and not report.stored
    (problem,) = report.problems
    assert len(problem.value) <= 60
    for language in words.LANGUAGES:
        for part in ("problem", "remedy"):
            key = f"weigh_ins.{part}.{what}"
            assert words.say(language, key, **problem.detail)


def test_a_wrong_row_stops_all_or_is_left_out(database, allowed):
    wrong = ("north", "2026-03-09", "lunch", "fish", -5, 1830)
    text = weighing.file_of(ROW, wrong, OTHER)
    assert not weighing.take(database, text, allowed).stored
    assert not stored(database)
    report = weighing.take(database, text, allowed, skip=True)
    assert (report.added, report.bad, said(report)) == (
        2,
        1,
        [(2, "grams", "negative")],
    )
    assert len(stored(database)) == 2
    with database.read() as session:
        (batch,) = session.scalars(sa.select(ImportBatch))
    assert batch.bad == 1 and batch.report[0]["what"] == "negative"


def test_rows_of_a_file_that_disagree_are_named(database, allowed):
    more = ("north", "2026-03-09", "lunch", "fish", 5, 1831)
    report = weighing.take(database, weighing.file_of(ROW, ROW, more), allowed)
    assert said(report) == [
        (2, "category", "twice"),
        (3, "diners", "two_counts"),
    ]


def test_stored_rows_change_only_when_asked(database, allowed):
    weighing.take(database, weighing.file_of(ROW, OTHER), allowed)
    grams = weighing.file_of((*ROW[:4], 40000, 1830))
    report = weighing.take(database, grams, allowed)
    assert said(report) == [(1, "grams", "stored")]
    assert report.problems[0].detail == {"known": "41,250"}
    assert stored(database)[0][3] == 41250
    report = weighing.take(database, grams, allowed, replace=True)
    assert (report.stored, report.replaced) == (True, 1)
    assert stored(database)[0][3] == 40000
    # Diners are those of the meal: all its rows change.
    diners = weighing.file_of((*OTHER[:5], 1900))
    report = weighing.take(database, diners, allowed)
    assert said(report) == [(1, "diners", "stored_diners")]
    weighing.take(database, diners, allowed, replace=True)
    assert [row[4] for row in stored(database)] == [1900, 1900]


def test_diners_that_come_later_are_learned(database, allowed):
    weighing.take(database, weighing.file_of((*ROW[:5], "")), allowed)
    report = weighing.take(database, weighing.file_of(ROW), allowed)
    assert (report.stored, report.replaced) == (True, 1)
    assert stored(database)[0][4] == 1830
    again = weighing.take(database, weighing.file_of((*ROW[:5], "")), allowed)
    assert again.same == 1 and stored(database)[0][4] == 1830


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf  \n", "empty"),
        ("canteen\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04", "workbook"),
        (b"canteen,\xe9\n", "byte 9 of the file is not UTF-8"),
        (b"canteen\0,day", "bytes of 0"),
        (b"canteen,day,meal,category\n", "no rows"),
        (b"canteen,day,meal,grams\n", "'category' is missing"),
        (b"canteen,day,meal,categry,grams\n", "Did you mean 'category'"),
        (b"canteen,day,meal,category,day\n", "there twice"),
        (b'canteen,day,meal,category\n"' + b"x" * 140_000, "no CSV"),
        (b"[", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "row 1 of the JSON file is no object"),
        (b'{"a": 1}', "list of objects"),
        (b'[{"grams": 1, "grams": 2}]', "twice"),
        (b'[{"grams": [1]}]', "a text or a number"),
        (b'[{"mass": 1}]', "unknown field 'mass'"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    database, allowed, content, message
):
    with pytest.raises(checks.UsageError, match=message):
        weighing.take(database, content, allowed)
    assert not count(database, ImportBatch)


def test_a_file_of_too_many_rows_ends(database, allowed, monkeypatch):
    monkeypatch.setattr(sheets, "MOST_ROWS", 2)
    rows = [(*ROW[:3], name, 1, "") for name in ("rice", "soup", "fish")]
    with pytest.raises(checks.UsageError, match="more than 2 rows"):
        weighing.take(database, weighing.file_of(*rows), allowed)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", " ="])
def test_no_file_of_ours_runs_a_formula(begin):
    text = sheets.write(["name", "n"], [[begin + "1+1", -5], ['a"b,c', None]])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [
        ["name", "n"],
        ["'" + begin + "1+1", "-5"],
        ['a"b,c', ""],
    ]


def test_a_manager_weighs_for_own_canteens(database, allowed):
    user = weighing.staff(database, "mina", "manager", allowed["south"])
    with database.read() as session:
        places = campaigns.managed(session, user)
    own = {place.slug: place.id for place in places}
    assert own == {"south": allowed["south"]}
    report = weighing.take(database, weighing.file_of(ROW), own)
    assert said(report) == [(1, "canteen", "unknown")]
    assert report.problems[0].detail == {"known": "south"}


@pytest.fixture
def site(app):
    return app.state.site


def upload(client, code, text, **fields):
    return client.post(
        "/weigh-ins",
        data={"csrf": code, **fields},
        files={"file": ("x.csv", text, "text/csv")},
    )


def test_the_page_takes_files_of_managers_alone(client, site):
    allowed = weighing.places(site.database, "north", "south")
    text = weighing.file_of(ROW)
    assert client.get("/weigh-ins").headers["location"].startswith("/login")
    guest = weighing.staff(site.database, "pat", "reviewer")
    code = weighing.log_in(client, site, guest)
    assert client.get("/weigh-ins").status_code == 403
    assert upload(client, code, text, act="import").status_code == 403
    manager = weighing.staff(site.database, "mo", "manager", allowed["north"])
    code = weighing.log_in(client, site, manager)
    assert "north" in client.get("/weigh-ins").text
    assert upload(client, "wrong", text, act="import").status_code == 403
    checked = upload(client, code, text)
    assert checked.status_code == 200 and not stored(site.database)
    assert upload(client, code, text, act="import").status_code == 200
    assert len(stored(site.database)) == 1
    with site.database.read() as session:
        (entry,) = session.scalars(sa.select(AuditEntry))
    assert (entry.actor_id, entry.what) == (manager.id, "import")
    foreign = weighing.file_of(("south", *ROW[1:]))
    answer = upload(client, code, foreign, act="import")
    assert answer.status_code == 422 and len(stored(site.database)) == 1
    assert "south" in answer.text
    # What was sent is shown as text, in both languages.
    bad = weighing.file_of(("<b>x</b>", *ROW[1:]))
    answer = upload(client, code, bad, act="import")
    assert "&lt;b&gt;x&lt;/b&gt;" in answer.text
    large = b"x" * 8_000_001
    assert upload(client, code, large, act="import").status_code == 413
    # Another manager sees no import of this canteen.
    other = weighing.staff(site.database, "su", "manager", allowed["south"])
    with site.database.read() as session:
        assert len(weigh_ins.history(session, manager)) == 1
        assert not weigh_ins.history(session, other)


RECORD = {
    "day": "2026-03-09",
    "meal": "lunch",
    "category": "rice",
    "grams": 41250,
    "diners": 1830,
}


def test_a_scale_sends_its_canteen_alone(client, site, monkeypatch):
    from jaxedge.foodwise.web.pages import weigh_ins as page

    monkeypatch.setattr(page, "today", lambda session: weighing.TODAY)
    allowed = weighing.places(site.database, "north", "south")
    bearer = weighing.token(site.database, allowed["south"])

    def send(*records, **more):
        headers = more.pop("headers", bearer)
        body = {"records": [*records], **more}
        return client.post("/api/v1/weigh-ins", json=body, headers=headers)

    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = send(RECORD, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert send(RECORD, RECORD | {"category": "soup"}).json() == {
        "stored": True,
        "added": 2,
        "same": 0,
        "replaced": 0,
        "problems": [],
    }
    with site.database.read() as session:
        places = set(session.scalars(sa.select(Waste.canteen_id)))
    assert places == {allowed["south"]}
    assert send(RECORD).json()["same"] == 1
    other = send(RECORD | {"grams": 1})
    assert other.status_code == 409
    assert other.json()["problems"][0]["problem"].startswith("41,250 g")
    assert send(RECORD | {"grams": 1}, replace=True).json()["replaced"] == 1
    for wrong in (
        {"canteen": "north"},
        {"grams": -1},
        {"grams": 10**12},
        {"meal": "brunch"},
        {"category": "stones"},
        {"day": "2026-03-21"},
    ):
        assert send(RECORD | wrong).status_code == 422
    assert send().status_code == 422
    with site.database.write() as session:
        session.execute(sa.update(ApiToken).values(revoked_at=now()))
    assert send(RECORD).status_code == 401
    assert count(site.database, Waste) == 2


def test_the_same_message_at_the_same_time_is_stored_once(client, site):
    allowed = weighing.places(site.database, "north")
    bearer = weighing.token(site.database, allowed["north"])
    body = {"records": [RECORD]}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.post(
                    "/api/v1/weigh-ins", json=body, headers=bearer
                ),
                range(8),
            )
        )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["added"] for answer in answers) == 1
    assert len(stored(site.database)) == 1


def test_every_category_has_a_name():
    for language in words.LANGUAGES:
        for name in weigh_rows.CATEGORIES:
            assert words.say(language, f"dashboard.category.{name}")
