"""Messages of scales: what strangers and too large ones cost, and when."""

import contextlib
import json
import threading

from fastapi.testclient import TestClient
import pytest

from jaxedge.core import checks
from jaxedge.foodwise.base import words
from jaxedge.foodwise.waste import weigh_ins
from jaxedge.foodwise.web import application
from jaxedge.foodwise.web.pages import weigh_ins as page
from tests.foodwise import weighing
from tests.foodwise.conftest import FakePredictor

PATH = "/api/v1/weigh-ins"
ROW = ("north", "2026-03-09", "lunch", "rice", 41250, 1830)
RECORD = {"day": "2026-03-09", "meal": "lunch", "category": "rice",
          "grams": 41250}  # fmt: skip


@pytest.fixture
def north(app):
    """Slug -> id of the one canteen."""
    return weighing.places(app.state.site.database, "north")


@pytest.fixture
def bearer(app, north):
    return weighing.token(app.state.site.database, north["north"])


@pytest.fixture
def looked(monkeypatch):
    """Threads in which a message was looked into."""
    found = []
    read = page.Message.model_validate_json

    def watched(body):
        found.append(threading.current_thread())
        return read(body)

    monkeypatch.setattr(page.Message, "model_validate_json", watched)
    return found


def test_of_strangers_nothing_is_read(instance, looked):
    """Neither is it without end: their attempts are counted by the head."""
    app = application.create_app(instance._replace(attempts=1), FakePredictor())
    with TestClient(app) as client:
        answers = [
            client.post(PATH, content=b"{} is no message").status_code
            for _ in range(12)
        ]
    assert answers == [401] * 10 + [429] * 2
    assert looked == []


def test_a_message_is_looked_into_beside_the_loop(client, bearer, looked):
    from starlette import concurrency

    loops = []
    run = concurrency.run_in_threadpool

    async def watched(*given):
        loops.append(threading.current_thread())
        return await run(*given)

    page.run_in_threadpool, kept = watched, page.run_in_threadpool
    try:
        answer = client.post(PATH, json={"records": [RECORD]}, headers=bearer)
    finally:
        page.run_in_threadpool = kept
    assert answer.json()["added"] == 1
    assert len(loops) == len(looked) == 1 and loops[0] is not looked[0]


def test_errors_are_told_up_to_a_number(client, bearer, looked):
    body = b'{"records": [' + b"{}," * 4999 + b"{}]}"
    answer = client.post(PATH, content=body, headers=bearer)
    assert answer.status_code == 422
    told = answer.json()["detail"]
    assert len(told) == 50
    assert told[0]["loc"] == ["body", "records", 0, "day"]
    assert set(told[0]) == {"type", "loc", "msg"}  # Nothing is sent back.
    large = json.dumps({"records": [], "source": "x" * (1 << 20)})
    assert len(looked) == 1
    answer = client.post(PATH, content=large, headers=bearer)
    assert answer.status_code == 413 and len(looked) == 1


def test_the_most_records_fit_into_a_message(client, bearer):
    """Whatever numbers they have: they are told apart by day and kind."""
    widest = RECORD | {"grams": 2_000_000, "diners": 20_000, "meal":
                       "breakfast", "category": "preparation"}  # fmt: skip
    body = json.dumps({"records": [widest] * page.MOST_RECORDS}, indent=1)
    assert len(body) < page.MOST_MESSAGE
    answer = client.post(PATH, content=body, headers=bearer)
    assert answer.status_code == 422  # They are all the same record.
    assert answer.json()["problems"][0]["problem"] == words.say(
        "en", "weigh_ins.problem.twice", first=1
    )


def test_messages_are_described(client):
    told = client.get("/api/openapi.json").json()["paths"][PATH]["post"]
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    record = schema["properties"]["records"]["items"]
    assert set(record["properties"]) == {
        "day", "meal", "category", "grams", "diners",
    }  # fmt: skip
    assert record["properties"]["grams"]["maximum"] == 2_000_000
    assert "$ref" not in json.dumps(schema)
    assert told["security"]


@pytest.fixture
def within(app, monkeypatch):
    """Whether a row was read while others waited to write."""
    database, depth, found = app.state.site.database, [], []
    write, read = database.write, weigh_ins.read_line

    @contextlib.contextmanager
    def watched():
        with write() as session:
            depth.append(1)
            yield session
            depth.pop()

    def read_line(*given):
        found.append(bool(depth))
        return read(*given)

    monkeypatch.setattr(database, "write", watched)
    monkeypatch.setattr(weigh_ins, "read_line", read_line)
    return found


def upload(client, code, text):
    return client.post(
        "/weigh-ins",
        data={"csrf": code, "act": "import"},
        files={"file": ("x.csv", text, "text/csv")},
    )


def test_rows_are_read_before_the_database_is_held(
    app, client, north, bearer, within
):
    site = app.state.site
    manager = weighing.staff(site.database, "mo", "manager", north["north"])
    code = weighing.log_in(client, site, manager)
    assert upload(client, code, weighing.file_of(ROW)).status_code == 200
    record = RECORD | {"category": "soup"}
    client.post(PATH, json={"records": [record]}, headers=bearer)
    assert within == [False, False]


def test_a_head_without_rows_is_told(app, client, north):
    site = app.state.site
    manager = weighing.staff(site.database, "mo", "manager", north["north"])
    code = weighing.log_in(client, site, manager)
    answer = upload(client, code, weighing.file_of())
    assert answer.status_code == 422
    assert "has a head but no rows" in answer.text


def test_who_manages_a_canteen_no_more_stores_nothing(app, north):
    database = app.state.site.database
    manager = weighing.staff(database, "mo", "manager")
    sent = weigh_ins.read(weighing.file_of(ROW).encode(), weighing.TODAY, north)
    with database.write() as session:
        with pytest.raises(checks.UsageError, match="not yours to change"):
            weigh_ins.store(session, sent, weigh_ins.Choice(), actor=manager)
