"""Every route against every role, and what an attacker would send.

All routes are listed from the application: a new one is in here by itself.
Sessions that are fixed, passwords that are tried and codes of teams are in
`test_people`, hostile photos one by one in `test_photos`, the staff's rights in
`test_admin_pages`.
"""

import datetime as dt
import io
import json
import re
import struct
import zlib

from fastapi.testclient import TestClient
import hypothesis
from PIL import Image
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, security, tables
from jaxedge.foodwise.campaign import codes
from jaxedge.foodwise.web import application
from tests.foodwise import participants as made
from tests.foodwise import weighing
from tests.foodwise.browsers import (
    TODAY,
    staffed_people,  # noqa: F401 - a fixture
    waits,
)
from tests.foodwise.conftest import FakePredictor

# What anybody may see, and send with the code of a form.
PUBLIC = {
    "/", "/consent", "/data/{name}.csv", "/goodbye", "/join", "/login",
    "/qr/join.svg", "/api/openapi.json", "/api/v1/waste",
    "/api/v1/actions/daily", "/screen/{slug}/{key}",
}  # fmt: skip
OPEN_FORMS = {"/join", "/language", "/login", "/logout", "/renew"}
NUMBERS = ("1", "0", "-1", str(2**63), "9" * 400, "1.5", "x", "%00", "%F0%9F")
WORDS = ("lg1", "weigh-ins", "what", "%00", "..", "%2e%2e%2fsecret", "'--")
EVIL = "</script><script>alert(1)</script>{{7*7}}${7*7}' OR 1=1 --"
VISITOR = "visitor"  # Who has not logged in.
ROLES = ("participant", "reviewer", "manager", "admin")
SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much]
EXAMPLES = 25  # Of each operation.
GPS, MAKE = 0x8825, 0x010F


def routes(app):
    """(method, path) of all of them, by the application itself."""

    def found(group):
        for route in group:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                yield from found(inner.routes)
            elif hasattr(route, "methods"):
                yield from ((m, route.path) for m in route.methods)

    return sorted(set(found(app.routes)))


def filled(path):
    """The path with each of some values in its place."""
    if "{" not in path:
        return [path]
    values = NUMBERS if "{number}" in path else WORDS
    return [re.sub(r"\{\w+\}", value, path) for value in values]


def led_to_log_in(answer):
    there = answer.headers.get("location", "")
    return answer.status_code == 303 and there.startswith("/login")


def test_all_routes_are_seen_and_are_of_two_kinds(app):
    seen = routes(app)
    assert len(seen) > 60
    assert {method for method, _ in seen} == {"GET", "HEAD", "POST"}
    assert PUBLIC | OPEN_FORMS <= {path for _, path in seen}
    api = [path for method, path in seen if path.startswith("/api/v1/")]
    documented = app.openapi()["paths"]
    assert sorted(documented) == sorted(api)


@pytest.fixture
def everybody(app, client, staffed):  # noqa: F811
    """Role -> (client, code of forms)."""
    waits(app, staffed["participant"])
    page = client.get("/login")
    found = {VISITOR: (client, made.code_of(page))}
    for role in ROLES:
        found[role] = (staffed[role].client, staffed[role].csrf)
    return found


def test_no_get_breaks_and_strangers_are_led_to_log_in(app, everybody):
    dots = re.compile("[.]{2}|%2e")
    for method, path in routes(app):
        if method != "GET":
            continue
        for role, (client, _) in everybody.items():
            for asked in filled(path):
                answer = client.get(asked)
                assert answer.status_code < 500, (role, asked)
                for name, value in application.HEADERS.items():
                    assert answer.headers[name] == value, (asked, name)
                if role == VISITOR and path not in PUBLIC:
                    assert led_to_log_in(answer) or (
                        answer.status_code == 404 and dots.search(asked)
                    ), asked


@pytest.mark.slow
def test_no_post_breaks_whatever_it_is_sent(app, everybody):
    """With a right code, wrong fields, and numbers that nothing has."""
    odd = {
        name: EVIL
        for name in ("name", "slug", "rules", "note", "choice", "seed", "kind")
    }
    odd |= {"starts": "9999-99-99", "day": "0000-00-00", "file": "x"}
    huge = {"role": "manager", "meal": "lunch", "kind": "shared", "once": "x"}
    for name in ("canteen", "canteens", "prizes", "year", "vote", "factor"):
        huge[name] = str(2**63)
    sent = ({}, odd, odd | huge)
    for method, path in routes(app):
        if method != "POST" or path.startswith("/api/"):
            continue
        for role, (client, code) in everybody.items():
            if path in ("/logout", "/me/withdraw", "/me/password"):
                continue
            asked = filled(path)
            for target in asked if role == "admin" else asked[:1]:
                for fields in sent if role == "admin" else sent[:1]:
                    if target in ("/admin/models/retrain", "/admin/backup"):
                        continue
                    answer = client.post(target, data={"csrf": code} | fields)
                    known = (role, target, answer.status_code)
                    assert answer.status_code < 500, known
                    assert EVIL not in answer.text, known
                    assert ">49<" not in answer.text, known


def test_no_form_is_taken_without_its_code(app, everybody):
    """Nor with that of another person, nor by a program's header alone."""
    admin, code = everybody["admin"]
    other = everybody["participant"][1]
    for method, path in routes(app):
        if method != "POST":
            continue
        target = filled(path)[0]
        if path.startswith("/api/"):
            body = {"records": [{"day": str(TODAY), "meal": "lunch",
                                 "category": "rice", "grams": 1}]}  # fmt: skip
            for headers in ({}, {"x-csrf-token": code}):
                answer = admin.post(target, json=body, headers=headers)
                assert answer.status_code in (401, 403), path
            continue
        for wrong in ({}, {"csrf": ""}, {"csrf": other}, {"csrf": code + "0"}):
            assert admin.post(target, data=wrong).status_code == 403, path
        for headers in ({"x-csrf-token": other}, {"hx-request": "true"}):
            answer = admin.post(target, data={}, headers=headers)
            assert answer.status_code == 403, path
        answer = admin.post(target, json={"csrf": code})
        assert answer.status_code == 403, path
    with app.state.site.database.read() as session:
        noted = session.scalars(sa.select(tables.AuditEntry.what)).all()
        assert noted == ["created"] * 4
        assert session.get_one(tables.Action, 1).state == "review"


def test_strangers_send_only_what_is_open_to_them(app, everybody):
    client, code = everybody[VISITOR]
    for method, path in routes(app):
        if method != "POST" or path in OPEN_FORMS or path.startswith("/api/"):
            continue
        answer = client.post(filled(path)[0], data={"csrf": code})
        assert led_to_log_in(answer), path


def test_what_breaks_or_is_too_large_has_the_headers_too(app):
    app.get("/broken")(lambda: 1 / 0)
    with TestClient(app, raise_server_exceptions=False) as client:
        broken = client.get("/broken")
        large = client.post("/login", content=b"x" * 12_000_001)
    assert (broken.status_code, large.status_code) == (500, 413)
    assert "division" not in broken.text
    for answer in (broken, large):
        for name, value in application.HEADERS.items():
            assert answer.headers[name] == value


PATHS = [
    "/static/../application.py",
    "/static/%2e%2e/application.py",
    "/static/..%2fweb.py",
    "/static/..%5cweb.py",
    "/static//etc/passwd",
    "/static/vendor/..%2f..%2f..%2fsettings.py",
    "/photos/../secret",
    "/photos/..%2fsecret",
    "/photos/%2e%2e%2f%2e%2e%2ffoodwise.db",
    "/review/photo/..%2f..%2fsecret",
    "/admin/moderation/..%2fsecret/photo",
    "/data/..%2f..%2fsecret.csv",
    "/data/../secret.csv",
    "/data/weigh-ins.csv/../../secret",
    "/canteens/..%2f..%2fsecret/code",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_its_folder(app, everybody, path):
    client, _ = everybody["admin"]
    secret = app.state.site.settings.secret()
    answer = client.get(path)
    assert answer.status_code in (404, 405, 422)
    for held in (secret, "SQLite format", "root:", "import "):
        assert held not in answer.text


def _png(width, height, rows):
    """A PNG that says it has so many pixels, and has a few rows of them."""

    def chunk(kind, data):
        body = kind + data
        return (
            struct.pack(">I", len(data))
            + body
            + struct.pack(">I", zlib.crc32(body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(rows * (1 + 3 * width)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def anna(app, client):
    """A participant who has joined, at canteen 1 of a campaign."""
    made.set_up(app)
    made.join(client)
    return client


def test_bombs_are_told_and_cost_little(app, anna):
    for data, key in (
        (_png(30_000, 30_000, 20), "pixels"),
        (_png(100_000, 400, 2), "shape"),
        (_png(2**31 - 1, 1, 0), "pixels"),
    ):
        answer = made.log(anna, 1, "clean_plate", data)
        assert answer.status_code == 422, key
        assert "alert" in answer.text
    code = made.code_of(anna.get("/log"))
    # More fields than any form has, nested data, and a lie of its length.
    many = "&".join(f"f{n}=1" for n in range(5000))
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = anna.post("/log", content=f"csrf={code}&{many}", headers=kind)
    assert answer.status_code == 400
    parts = "".join(
        f'--b\r\ncontent-disposition: form-data; name="f{n}"\r\n\r\n1\r\n'
        for n in range(2000)
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = anna.post("/log", content=f"{parts}--b--\r\n", headers=kind)
    assert answer.status_code == 400
    kind = {"content-type": "multipart/form-data"}
    assert anna.post("/log", content=b"x", headers=kind).status_code == 400
    assert made.rows(app, tables.Action) == [] and made.files(app) == []


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"records":' * 50_000,
        b'{"records": [{"grams": ' + b"9" * 5000 + b"}]}",
        b'{"records": [{"grams": 1e999, "diners": NaN}]}',
        b'{"records": [' + b"{}," * 6000 + b"{}]}",
        b"\xff\xfe{}",
        b"",
        json.dumps({"source": "x" * 10**6, "records": []}).encode(),
    ],
    ids=["deep", "objects", "digits", "endless", "many", "bytes", "none",
         "long"],
)  # fmt: skip
def test_a_program_may_send_anything(app, client, body):
    allowed = weighing.places(app.state.site.database, "north")
    bearer = weighing.token(app.state.site.database, allowed["north"])
    kind = {"content-type": "application/json"}
    answer = client.post(
        "/api/v1/weigh-ins", content=body, headers=bearer | kind
    )
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 2_000_000
    assert made.rows(app, tables.WasteRecord) == []


def test_a_photo_loses_where_it_was_taken_on_all_ways(app, anna):
    secret = b"SECRET-PLACE"
    exif = Image.Exif()
    exif[MAKE] = secret.decode()
    exif.get_ifd(GPS)[29] = secret.decode()
    options = {"exif": exif, "comment": secret}
    data = made.photo(made.CLEAN, **options)
    assert data.count(secret) >= 3  # It is there to be lost.
    answer = made.log(anna, 1, "clean_plate", data)
    (path,) = re.findall(r"/photos/\d+", answer.text)
    shown = anna.get(path).content
    (file,) = made.files(app)
    kept = (app.state.site.settings.photos / file).read_bytes()
    taken = anna.get("/me/export").content
    database = (app.state.site.settings.folder / "foodwise.db").read_bytes()
    for held in (shown, kept, taken, database):
        assert secret not in held
    opened = Image.open(io.BytesIO(shown))
    assert not opened.getexif() and set(opened.info) <= {
        "jfif", "jfif_version", "jfif_unit", "jfif_density",
    }  # fmt: skip


def test_a_canteens_code_is_no_good_a_second_time(app, client):
    place = made.set_up(app)
    site = app.state.site
    with site.database.write() as session:
        session.get_one(tables.Canteen, place).needs_code = True
    made.join(client)
    kept = rules.Rules()
    code = codes.current(site.guard, "lg1", tables.now(), kept)
    old = tables.now() - dt.timedelta(seconds=3 * kept.qr_seconds)
    late = codes.current(site.guard, "lg1", old, kept)
    other = codes.current(site.guard, "lg7", tables.now(), kept)
    said = [
        made.log(client, place, code=told, meal=meal).text
        for told, meal in (
            (code, "breakfast"), (code, "lunch"), (late, "tea"),
            (other, "dinner"), ("", "dinner"), (EVIL[:40], "dinner"),
        )
    ]  # fmt: skip
    states = [action.state for action in made.rows(app, tables.Action)]
    assert states == ["counted"] + ["review"] * 5
    assert all(EVIL[:40] not in text for text in said)
    points = [entry.points for entry in made.rows(app, tables.PointsEntry)]
    assert points == [10]


def test_names_and_searches_are_shown_as_text(app, everybody):
    """Where the staff's pages, the charts and a search repeat them."""
    site = app.state.site
    with site.database.write() as session:
        session.get_one(tables.Canteen, 1).name = EVIL[:80]
        session.add_all(
            tables.WasteRecord(
                canteen_id=1, day=TODAY - dt.timedelta(days=n), meal="lunch",
                category="rice", grams=1000, diners=9, source="test",
            )
            for n in range(9)
        )  # fmt: skip
    admin, code = everybody["admin"]
    for path in ("/", "/?view=screen", "/admin/canteens", "/canteens/lg1/code",
                 "/log", f"/admin/people?q={EVIL}", f"/join?next={EVIL}",
                 f"/login?next={EVIL}", f"/me?done={EVIL}"):  # fmt: skip
        answer = admin.get(path)
        assert answer.status_code < 400, path
        assert "<script>alert" not in answer.text, path
        assert ">49<" not in answer.text and "$49" not in answer.text, path
    # A search for what SQL or LIKE would take for everybody finds nobody.
    for text in ("%", "_", "' OR '1'='1", "\\"):
        page = admin.get("/admin/people", params={"q": text}).text
        assert "the participant" not in page, text
    stranger, code = everybody[VISITOR]
    for name in ("' OR '1'='1", "the admin' --", EVIL):
        answer = stranger.post(
            "/login", data={"csrf": code, "pseudonym": name, "password": "x"}
        )
        assert answer.status_code == 422
        assert security.COOKIE not in answer.cookies
        assert "<script>alert" not in answer.text


@pytest.fixture(scope="module")
def program(tmp_path_factory, _migrated):
    """The application for programs, and the token of a canteen."""
    from jaxedge.foodwise.base import settings

    folder = tmp_path_factory.mktemp("program")
    settings.prepare(settings.Settings(folder))
    (folder / "foodwise.db").write_bytes(_migrated)
    app = application.create_app(
        settings.Settings(folder, attempts=10_000), FakePredictor()
    )
    database = app.state.site.database
    bearer = weighing.token(database, weighing.places(database, "lg1")["lg1"])
    yield app, bearer
    database.close()


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/api/v1/waste"),
        ("GET", "/api/v1/actions/daily"),
        ("POST", "/api/v1/weigh-ins"),
    ],
)
def test_answers_are_as_they_are_described(program, method, path):
    app, bearer = program
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)

    @hypothesis.given(case=schema[path][method].as_strategy())
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=SLOW,
    )
    def answers(case):
        # That two days are in order is nothing that a schema can say.
        case.call_and_validate(
            headers=bearer, excluded_checks=[positive_data_acceptance]
        )

    answers()
