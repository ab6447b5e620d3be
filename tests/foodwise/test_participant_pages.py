"""Participants' pages as a browser without scripts sees them."""

import concurrent.futures
import datetime as dt
import html
import re

from fastapi.testclient import TestClient
import pytest

from jaxedge.foodwise.base import rooms, tables, words
from jaxedge.foodwise.base.settings import CONSENT, MOST_PHOTO
from jaxedge.foodwise.campaign import people, photos, weeks
from jaxedge.foodwise.web import application
from tests.foodwise.conftest import FakePredictor
from tests.foodwise.participants import (
    CLEAN,
    DARK,
    GREY,
    PASSWORD,
    code_of,
    encoded,
    files,
    join,
    log,
    once_of,
    photo,
    picture,
    post,
    rows,
    set_up,
    staff,
)

EVIL = '<script>alert(1)</script>{{7*7}}\'); DROP TABLE "user";--'


def say(key, **values):
    """A text as the page has it."""
    return html.escape(words.say("en", key, **values), quote=False)


def shown(answer, key, **values):
    return words.say("en", key, **values) in html.unescape(answer.text)


@pytest.fixture
def place(app):
    """A campaign that runs today, and its canteen."""
    return set_up(app)


@pytest.fixture
def anna(client, place):
    """A browser in which anna is logged in."""
    assert join(client).status_code == 303
    return client


@pytest.fixture
def other(app, anna):
    """Another browser, in which berta is."""
    with TestClient(app, follow_redirects=False) as made:
        join(made, "berta")
        yield made


def points(app, name="anna"):
    with app.state.site.database.read() as session:
        return weeks.points(session, people.find(session, name).id, 1)


def test_from_joining_to_undoing_without_scripts(app, client, place):
    page = client.get("/join")
    assert shown(page, "consent.photos") and shown(page, "consent.faces")
    assert shown(page, "consent.withdraw")
    assert client.get("/log").headers["location"] == "/login?next=%2Flog"
    answer = join(client)
    assert answer.headers["location"] == "/log"
    page = client.get("/log")
    assert page.status_code == 200
    assert (
        "<select" in page.text and 'enctype="multipart/form-data"' in page.text
    )
    answer = log(client, place, "clean_plate", photo())
    assert answer.status_code == 200
    assert shown(answer, "done.graded") and shown(answer, "class.0")
    assert shown(answer, "done.points", points=15)
    assert points(app) == 15
    (path,) = re.findall(r"/photos/\d+", answer.text)
    assert client.get(path).headers["content-type"] == "image/jpeg"
    (action,) = re.findall(r"/actions/\d+/undo", answer.text)
    answer = post(client, action, "/me")
    assert answer.headers["location"] == "/me?done=undone"
    page = client.get(answer.headers["location"])
    assert shown(page, "me.done.undone") and shown(page, "state.undone")
    assert points(app) == 0 and files(app) == []
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "shade, key, state, given",
    [
        (CLEAN, "class.0", "counted", 15),
        (GREY, "class.none", "review", 0),
        (DARK, "class.2", "review", 0),
    ],
)
def test_the_grade_is_in_the_answer(app, anna, place, shade, key, state, given):
    answer = log(anna, place, "clean_plate", photo(shade))
    assert f"<strong>{say(key)}</strong>" in answer.text
    assert shown(answer, "done.review") == (state == "review")
    (action,) = rows(app, tables.Action)
    assert action.state == state and points(app) == given


def test_the_same_photo_again_is_sent_to_review(app, anna, other, place):
    log(anna, place, "clean_plate", photo())
    for browser, data in (
        (anna, photo()),
        (other, photo()),
        (other, encoded(picture(), "PNG")),
    ):
        answer = log(browser, place, "clean_plate", data, meal="tea")
        assert shown(answer, "reason.duplicate")
    assert points(app) == 15 and points(app, "berta") == 0


def test_three_taps_what_is_known_is_chosen(app, anna, place):
    with app.state.site.database.write() as session:
        session.add(tables.Canteen(slug="other", name="Other"))
    page = anna.get("/log").text
    assert f'<option value="{place}" selected' not in page
    log(anna, place)
    page = anna.get("/log").text
    assert f'<option value="{place}" selected' in page
    assert page.count(" checked>") == 1
    assert page.count('<button name="kind"') == 5
    # A picture on a canteen's wall leads to the form with its code.
    page = anna.get("/log?canteen=other&code=ABC123").text
    assert '<option value="2" selected>' in page and 'value="ABC123"' in page


def test_a_browser_that_is_led_to_log_in_comes_back(client, place):
    join(client)
    post(client, "/logout", "/me")
    asked = client.get("/log").headers["location"]
    page = client.get(asked)
    assert 'name="next" value="/log"' in page.text
    data = {"pseudonym": "anna", "password": PASSWORD}
    answer = post(client, "/login", next="/me", **data)
    assert answer.headers["location"] == "/me"
    for evil in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = post(client, "/login", "/me", next=evil, **data)
        assert answer.headers["location"] == "/log"


FORMS = [
    ("/join", {"pseudonym": "x", "password": "y"}),
    ("/login", {"pseudonym": "x", "password": "y"}),
    ("/logout", {}),
    ("/language", {"language": "en"}),
    ("/consent", {"consent": CONSENT}),
    ("/log", {"canteen": 1, "meal": "lunch", "kind": "shared", "once": "x"}),
    ("/actions/1/undo", {}),
    ("/me/repair", {"day": "2026-03-02"}),
    ("/me/team", {"name": "Team"}),
    ("/me/team/join", {"code": "ABC"}),
    ("/me/team/leave", {}),
    ("/me/settings", {}),
    ("/me/password", {"old": "x", "new": "y"}),
    ("/me/withdraw", {"sure": "yes"}),
]


def test_no_form_works_without_its_code(app, anna):
    for path, data in FORMS:
        for code in ({}, {"csrf": ""}, {"csrf": "0" * 64}):
            answer = anna.post(path, data=data | code)
            assert answer.status_code == 403, path
            assert shown(answer, "error.stale_form")
    assert len(rows(app, tables.User)) == 1
    assert rows(app, tables.Action) == []


def test_nothing_of_persons_is_done_for_strangers(client, place):
    code = code_of(client.get("/login"))
    for path, data in FORMS[4:]:
        answer = client.post(path, data={"csrf": code} | data)
        assert answer.headers["location"].startswith("/login"), path
    for path in ("/me", "/log", "/me/export", "/photos/1"):
        assert client.get(path).headers["location"].startswith("/login")


def test_nobody_else_undoes_or_sees_it(app, anna, other, place):
    log(anna, place, "clean_plate", photo(GREY))
    (action,) = rows(app, tables.Action)
    (kept,) = rows(app, tables.Photo)
    assert anna.get(f"/photos/{kept.id}").status_code == 200
    assert other.get(f"/photos/{kept.id}").status_code == 404
    answer = post(other, f"/actions/{action.id}/undo", "/me")
    assert answer.status_code == 404
    assert rows(app, tables.Action)[0].state == "review"
    for number in (0, -1, 2**31, 10**30, "x", "../../foodwise.db"):
        assert anna.get(f"/photos/{number}").status_code in (404, 422)
        path = f"/actions/{number}/undo"
        assert post(anna, path, "/me").status_code in (404, 422)


def test_a_reviewer_sees_what_waits_and_nothing_else(app, anna, place):
    log(anna, place, "clean_plate", photo(GREY))
    log(anna, place, "clean_plate", photo(CLEAN, 1), meal="tea")
    waits, counts = rows(app, tables.Photo)
    with TestClient(app, follow_redirects=False) as reviewer:
        staff(app, reviewer, "reviewer")
        assert reviewer.get(f"/photos/{waits.id}").status_code == 200
        assert reviewer.get(f"/photos/{counts.id}").status_code == 404


def test_a_photo_that_is_gone_is_not_found(app, anna, place):
    log(anna, place, "clean_plate", photo())
    (kept,) = rows(app, tables.Photo)
    photos.remove(app.state.site.settings.photos, kept.file)
    assert anna.get(f"/photos/{kept.id}").status_code == 404
    assert anna.get("/me").status_code == 200


def test_a_name_of_a_file_is_never_a_path(app, anna, place):
    page = anna.get("/log")
    answer = anna.post(
        "/log",
        data={
            "csrf": code_of(page),
            "once": once_of(page),
            "canteen": place,
            "meal": "lunch",
            "kind": "clean_plate",
        },
        files={"photo": ("../../../secret", photo(), "text/html")},
    )
    assert answer.status_code == 200
    (kept,) = rows(app, tables.Photo)
    assert re.fullmatch(r"[0-9a-f]{32}\.jpg", kept.file)
    assert files(app) == [kept.file]
    folder = app.state.site.settings.folder
    assert len((folder / "secret").read_text("ascii")) >= 32


def test_a_bad_photo_is_told_and_nothing_is_kept(app, anna, place):
    for data, key, values in (
        (b"<?php evil(); ?>", "photo_type", {}),
        (photo()[:2000], "photo_broken", {}),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "photo_type", {}),
        (b"x" * (MOST_PHOTO + 1), "photo_large", {"most": 10}),
    ):
        answer = log(anna, place, "clean_plate", data)
        assert answer.status_code == 422
        assert shown(answer, f"error.{key}", **values)
        # The form is there again, with what was chosen.
        assert f'<option value="{place}" selected' in answer.text
    assert rows(app, tables.Action) == [] and files(app) == []


def test_a_bad_form_is_told(app, anna, place):
    for form, key in (
        ({"kind": "clean_plate"}, "action_photo"),
        ({"kind": "nothing"}, "action_form"),
        ({"meal": "<b>"}, "action_form"),
        ({"canteen": "99"}, "action_canteen"),
        ({"canteen": "9" * 40}, "bad_form"),
        ({"canteen": "0"}, "bad_form"),
        ({"canteen": "lg1"}, "bad_form"),
        ({"once": ""}, "bad_form"),
    ):
        answer = log(anna, place, **form)
        assert answer.status_code == 422
        assert shown(answer, f"error.{key}"), form
    answer = log(anna, place, note="x" * 201)
    assert shown(answer, "error.action_note", most=200)
    assert rows(app, tables.Action) == []


def test_the_same_form_sent_twice_is_one_action(app, anna, place):
    page = anna.get("/log")
    form = {
        "csrf": code_of(page),
        "once": once_of(page),
        "canteen": place,
        "meal": "lunch",
        "kind": "clean_plate",
    }

    def send(_):
        sent = {"photo": ("plate.jpg", photo(), "image/jpeg")}
        return anna.post("/log", data=form, files=sent)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert all(shown(a, "done.points", points=15) for a in answers)
    assert len(rows(app, tables.Action)) == 1
    (kept,) = rows(app, tables.Photo)
    assert files(app) == [kept.file]
    assert points(app) == 15


def test_different_forms_at_once_keep_the_limits(app, anna, place):
    meals = ("breakfast", "lunch", "tea", "dinner") * 2
    pages = [anna.get("/log") for _ in meals]

    def send(n):
        form = {
            "csrf": code_of(pages[n]),
            "once": once_of(pages[n]),
            "canteen": place,
            "meal": meals[n],
            "kind": "shared",
        }
        return anna.post("/log", data=form).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(8))) == [200] * 8
    assert len(rows(app, tables.Action)) == 8 and points(app) == 30


def test_untrusted_text_is_shown_and_does_nothing(app, anna, place):
    log(anna, place, "own_idea", note=EVIL)
    post(anna, "/me/team", "/me", name=EVIL[:40])
    page = anna.get("/me").text
    assert "<script>alert" not in page
    assert html.escape(EVIL)[:40] in page.replace("&#34;", "&quot;")
    assert "{{7*7}}" in page and ">49<" not in page
    answer = post(anna, "/logout", "/me")
    for path in ("/join", "/login"):
        answer = post(
            anna, path, pseudonym=EVIL, password=PASSWORD, consent=CONSENT
        )
        assert answer.status_code == 422
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert" in answer.text
    assert "<script>alert" not in anna.get("/login", params={"next": EVIL}).text
    assert len(rows(app, tables.User)) == 1


def test_a_network_that_fails_loses_no_action(instance):
    class Broken(FakePredictor):
        def grade(self, image_HxWx3):
            raise RuntimeError("no chip")

    for predictor in (None, Broken()):
        app = application.create_app(instance, predictor)
        with TestClient(app, follow_redirects=False) as client:
            if not rows(app, tables.Campaign):
                set_up(app)
            join(client, f"anna{predictor is None}")
            seed = int(predictor is None)
            answer = log(client, 1, "clean_plate", photo(seed=seed))
            assert shown(answer, "done.review")
            assert shown(answer, "reason.not_graded")
            assert rows(app, tables.Action)[-1].reason == "not_graded"


def test_a_photo_whose_action_fails_is_not_left(app, anna, place, monkeypatch):
    def fail(*given):
        raise RuntimeError("the database is gone")

    from jaxedge.foodwise.campaign import actions

    monkeypatch.setattr(actions, "log", fail)
    with pytest.raises(RuntimeError, match="gone"):
        log(anna, place, "clean_plate", photo())
    assert files(app) == []


def test_a_new_text_is_agreed_to_before_the_next_action(app, anna, place):
    with app.state.site.database.write() as session:
        session.query(tables.Consent).update({"version": "2019-1"})
    assert anna.get("/log").headers["location"] == "/consent?next=%2Flog"
    page = anna.get("/me")
    form = {
        "csrf": code_of(page),
        "once": "x",
        "canteen": place,
        "meal": "lunch",
        "kind": "shared",
    }
    answer = anna.post("/log", data=form)
    assert answer.headers["location"].startswith("/consent")
    answer = post(anna, "/me/team", "/me", name="A team")
    assert answer.headers["location"].startswith("/consent")
    assert rows(app, tables.Action) == rows(app, tables.Team) == []
    assert shown(anna.get("/consent"), "consent.new")
    assert post(anna, "/consent", "/consent", consent="old").status_code == 422
    answer = post(anna, "/consent", "/consent", consent=CONSENT, next="/me")
    assert answer.headers["location"] == "/me"
    assert log(anna, place).status_code == 200
    assert shown(anna.get("/consent"), "consent.agreed")


def test_settings_are_off_until_they_are_chosen(app, anna, place):
    page = anna.get("/me").text
    assert 'name="leaderboard" value="true" checked' not in page
    assert 'name="notifications" value="true" checked' not in page
    assert not shown(anna.get("/me"), "me.reminder")
    post(
        anna,
        "/me/settings",
        "/me",
        language="zh-Hant",
        leaderboard="true",
        notifications="true",
    )
    page = anna.get("/me").text
    assert '<html lang="zh-Hant">' in page
    assert words.say("zh-Hant", "me.reminder") in page
    assert 'name="leaderboard" value="true" checked' in page
    post(anna, "/me/settings", "/me", language="en")
    (user,) = rows(app, tables.User)
    assert not user.leaderboard and not user.notifications


def test_the_language_is_one_tap_for_anybody(client, place):
    answer = post(client, "/language", language="zh-Hant", next="/join")
    assert answer.headers["location"] == "/join"
    assert words.say("zh-Hant", "join.title") in client.get("/join").text
    join(client)
    assert '<html lang="zh-Hant">' in client.get("/log").text
    answer = post(client, "/language", "/me", language="en", next="//evil.test")
    assert answer.headers["location"] == "/"
    assert '<html lang="en">' in client.get("/log").text
    post(client, "/language", "/me", language="../../etc")
    assert '<html lang="en">' in client.get("/log").text


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_page_has_all_its_texts(app, anna, place, language):
    post(anna, "/me/settings", "/me", language=language, leaderboard="true")
    log(anna, place, "clean_plate", photo(DARK), note="a note")
    log(anna, place, "clean_plate", photo(CLEAN, 2), meal="tea")
    post(anna, "/me/team", "/me", name="Team")
    with app.state.site.database.write() as session:
        user = people.find(session, "anna")
        session.add(
            tables.RewardDraw(
                campaign_id=1,
                seed="4711",
                prizes=2,
                tickets={str(user.id): 3},
                winners=[99, user.id],
            )
        )
    for path in ("/log", "/me", "/consent", "/goodbye"):
        page = anna.get(path)
        assert page.status_code == 200
        assert f'<html lang="{language}">' in page.text
    page = anna.get("/me").text
    assert words.say(language, "draws.won", place=2) in html.unescape(page)
    assert "4711" in page
    post(anna, "/logout", "/me")
    for path in ("/join", "/login", "/consent"):
        assert anna.get(path).status_code == 200


def test_pages_without_a_campaign_say_so(app, client):
    join(client)
    for path in ("/log", "/me"):
        assert shown(client.get(path), "log.no_campaign")
    answer = post(
        client,
        "/log",
        "/me",
        canteen=1,
        meal="lunch",
        kind="shared",
        once="x",
    )
    assert shown(answer, "error.action_campaign")
    answer = post(client, "/me/team", "/me", name="Team")
    assert answer.status_code == 422


def test_a_missed_day_is_repaired_by_the_page(app, anna, place):
    with app.state.site.database.write() as session:
        user = people.find(session, "anna")
        spring = session.get(tables.Campaign, 1)
        # No rest days, and nothing yet: yesterday is missed.
        spring.rules = {"rest_days": []}
        assert user is not None
    page = anna.get("/me").text
    (day,) = re.findall(r'name="day" value="([0-9-]+)"', page)
    for _ in range(2):
        answer = post(anna, "/me/repair", "/me", day=day)
    assert shown(answer, "error.repair_whole")
    assert len(rows(app, tables.StreakRepair)) == 1
    assert [entry.what for entry in rows(app, tables.AuditEntry)] == ["repair"]
    far = (dt.date.fromisoformat(day) - dt.timedelta(days=90)).isoformat()
    answer = post(anna, "/me/repair", "/me", day=far)
    assert shown(answer, "error.repair_outside")
    answer = post(anna, "/me/repair", "/me", day="yesterday")
    assert shown(answer, "error.bad_form")


def test_a_team_is_joined_by_its_code(app, anna, other):
    post(anna, "/me/team", "/me", name="The <i>Plates</i>")
    page = anna.get("/me").text
    assert "The &lt;i&gt;Plates&lt;/i&gt;" in page
    (code,) = re.findall(r'<strong class="code">([A-Z0-9]+)<', page)
    assert code not in other.get("/me").text
    post(other, "/me/team/join", "/me", code=code.lower())
    assert code in other.get("/me").text
    assert len(rows(app, tables.Membership)) == 2
    # Leaving is for oneself alone.
    post(other, "/me/team/leave", "/me", user_id=1, team_id=1)
    (left,) = rows(app, tables.Membership)
    assert left.user_id == 1


def test_too_many_actions_have_to_wait(instance):
    app = application.create_app(instance._replace(attempts=1), FakePredictor())
    place = set_up(app)
    with TestClient(app, follow_redirects=False) as client:
        join(client)
        tries = [log(client, place).status_code for _ in range(12)]
    assert tries == [200] * 10 + [429] * 2


def test_who_sends_too_many_photos_at_once_is_told(app, anna, place):
    room = app.state.site.guard.photos = rooms.Room(each=0)
    answer = log(anna, place, "clean_plate", photo())
    assert answer.status_code == 503
    assert shown(answer, "error.photo_busy")
    # Without a photo nobody waits.
    assert log(anna, place).status_code == 200
    room._each = 1
    for _ in range(2):  # Whoever is done makes room, also after an error.
        assert log(anna, place, "clean_plate", b"x").status_code == 422
    assert log(anna, place, "clean_plate", photo()).status_code == 200


def test_nobody_is_reminded_outside_of_the_campaign(app, anna, place):
    post(anna, "/me/settings", "/me", language="en", notifications="true")
    assert shown(anna.get("/me"), "me.reminder")
    with app.state.site.database.write() as session:
        spring = session.get(tables.Campaign, 1)
        spring.ends = spring.starts
    assert not shown(anna.get("/me"), "me.reminder")
    log(anna, place)
    assert not shown(anna.get("/me"), "me.reminder")


def test_ledger_of_the_page_is_that_of_the_tables(app, anna, place):
    log(anna, place, "clean_plate", photo())
    (action,) = rows(app, tables.Action)
    post(anna, f"/actions/{action.id}/undo", "/me")
    page = anna.get("/me").text
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    found = [int(text) for text in re.findall(r">([+-]\d+)<", table)]
    kept = [row.points for row in rows(app, tables.PointsEntry)]
    assert found == kept[::-1]
    assert sorted(kept) == [-10, -5, 5, 10]
