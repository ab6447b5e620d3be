"""Headers, errors, sessions and forms around every page."""

import asyncio
import html
from pathlib import Path
import re
import threading
import urllib.parse

from fastapi import Depends
from fastapi.testclient import TestClient
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.foodwise.base import security, words
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Busy, Refused
from jaxedge.foodwise.web import application, asking


def test_every_answer_has_the_headers(client):
    for path in ("/static/style.css", "/no-such-page"):
        answer = client.get(path)
        for name, value in application.HEADERS.items():
            assert answer.headers[name] == value


def test_an_unknown_page_says_so(client):
    answer = client.get("/no-such-page")
    assert answer.status_code == 404
    assert words.say("en", "error.404") in answer.text
    answer = client.get("/no-such-page", headers={"accept-language": "zh-HK"})
    assert words.say("zh-Hant", "error.404") in answer.text


def test_a_form_needs_its_code(app, client):
    app.post("/change", dependencies=[Depends(security.form)])(lambda: "done")
    answer = client.post("/change", data={})
    assert answer.status_code == 403
    assert words.say("en", "error.stale_form") in answer.text
    client.get("/no-such-page")  # Sets the cookie that the code belongs to.
    guard = app.state.site.guard
    token = guard.read(client.cookies[security.VISIT])
    code = guard.code("csrf", token)
    assert client.post("/change", data={"csrf": code}).text == '"done"'
    wrong = guard.code("csrf", token + "x")
    assert client.post("/change", data={"csrf": wrong}).status_code == 403


def test_too_large_a_request_ends(client):
    answer = client.post("/login", content=b"x" * 12_000_001)
    assert answer.status_code == 413
    pieces = (b"x" * 1_000_000 for _ in range(13))
    assert client.post("/login", content=pieces).status_code in (403, 413)


def test_attempts_are_counted_by_the_minute(app):
    guard = app.state.site.guard
    for _ in range(3):
        guard.allow("login", "here", 3)
    with pytest.raises(Exception, match="too_many"):
        guard.allow("login", "here", 3)
    guard.allow("login", "there", 3)


@pytest.mark.parametrize(
    "given, path",
    [
        ("/me", "/me"),
        ("/me?week=2", "/me?week=2"),
        ("//evil.example/x", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/x\r\nset-cookie: a=b", "/"),
        ("", "/"),
    ],
)
def test_only_own_paths_are_gone_to(given, path):
    assert asking.own_path(given) == path


def test_languages_have_the_same_texts():
    first, *others = (words.texts(name) for name in words.LANGUAGES)
    for other in others:
        assert first.keys() == other.keys()


def test_a_database_in_memory_is_refused():
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(UsageError, match="name a file"):
            Database(url)


def test_old_photos_go_at_the_start(app, monkeypatch):
    swept = threading.Event()
    monkeypatch.setattr(
        application.photos, "expire", lambda *given: swept.set()
    )
    with TestClient(app):
        assert swept.wait(10)


def test_the_sweep_goes_on_every_hour_whatever_fails(app, monkeypatch, caplog):
    done, slept = [], []

    def fail(*given):
        done.append("photos")
        raise OSError("the disk is gone")

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(application.photos, "expire", fail)
    monkeypatch.setattr(
        application.backup, "sweep", lambda *g: done.append("backups")
    )
    site = app.state.site
    monkeypatch.setattr(site.database, "forget", lambda: done.append("log"))
    monkeypatch.setattr(application.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(application._sweep(site.settings, site.database))
    assert done == ["photos", "backups", "log"] * 2
    assert slept == [3600, 3600]
    assert "old photos could not be removed" in caplog.text


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_what_is_refused_is_told_in_ones_language(app, client, language):
    def refuse():
        raise Refused("team_name", least=2, most=40)

    def busy():
        raise Busy("photo_busy")

    app.get("/refused")(refuse)
    app.get("/busy")(busy)
    header = {"accept-language": language}
    answer = client.get("/refused", headers=header)
    assert answer.status_code == 422
    said = words.say(language, "error.team_name", least=2, most=40)
    assert said in answer.text
    answer = client.get("/busy", headers=header)
    assert answer.status_code == 503
    assert words.say(language, "error.photo_busy") in answer.text


def test_who_is_led_to_log_in_keeps_what_was_asked_for(client):
    asked = "/log?canteen=lg1&code=ABC123"
    there = client.get(asked).headers["location"]
    page = client.get(there)
    kept = urllib.parse.quote(asked, safe="/")
    assert f'href="/join?next={kept}"' in page.text
    hidden = f'name="next" value="{html.escape(asked)}"'
    assert hidden in page.text
    page = client.get(f"/join?next={urllib.parse.quote(asked)}")
    assert f'href="/login?next={kept}"' in page.text
    assert hidden in page.text
    # The other language, too, is the same page.
    back = re.findall('name="next" value="([^"]+)"', page.text)[0]
    assert html.unescape(back).startswith("/join?next=")
    assert client.get("/login").text.count("?next=") == 0


def test_packages_import_from_below():
    floors = ("base", "grading", "campaign", "waste", "upkeep", "web")
    top = Path(words.__file__).parents[1]
    wrong = []
    for place, name in enumerate(floors):
        for path in (top / name).rglob("*.py"):
            text = path.read_text("utf-8")
            found = re.findall(r"from jaxedge\.foodwise\.(\w+)", text)
            wrong += [f"{path}: {f}" for f in found if f in floors[place + 1 :]]
    assert wrong == []
