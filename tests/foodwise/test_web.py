"""Headers, errors, sessions and forms around every page."""

import threading

from fastapi import Depends
from fastapi.testclient import TestClient
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.foodwise import asking, security, web, words
from jaxedge.foodwise.database import Database


def test_every_answer_has_the_headers(client):
    for path in ("/static/style.css", "/no-such-page"):
        answer = client.get(path)
        for name, value in web.HEADERS.items():
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
    monkeypatch.setattr(web.photos, "expire", lambda *given: swept.set())
    with TestClient(app):
        assert swept.wait(10)
