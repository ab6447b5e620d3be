"""Persons: joining, logging in, teams, what they take along, and going."""

import html
import re
import time

from fastapi.testclient import TestClient
import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import security, tables, words
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.campaign import actions, people, teams
from tests.foodwise.participants import (
    PASSWORD,
    campaign,
    code_of,
    join,
    person,
    post,
    rows,
    staff,
)


@pytest.mark.parametrize("name", ["abc", "Anna_7", "x-y", "陳大文", "a" * 20])
def test_pseudonyms_that_may_be(name):
    people.check_pseudonym(name)


@pytest.mark.parametrize(
    "name, key",
    [
        ("ab", "name_letters"),
        ("a" * 21, "name_letters"),
        ("", "name_letters"),
        ("anna b", "name_letters"),
        ("anna\n", "name_letters"),
        ("anna\0", "name_letters"),
        ("аnna", "name_letters"),  # Its first letter is Cyrillic.
        ("<b>x</b>", "name_letters"),
        ("{{7*7}}", "name_letters"),
        ("' OR 1=1", "name_letters"),
        ("admin", "name_staff"),
        ("ADMIN", "name_staff"),
        ("_ad-min_1", "name_staff"),
        ("Reviewers", "name_staff"),
        ("foodwise2026", "name_staff"),
    ],
)
def test_pseudonyms_that_may_not_be(name, key):
    with pytest.raises(Refused) as error:
        people.check_pseudonym(name)
    assert error.value.key == key


def test_a_pseudonym_is_one_persons_in_small_and_large_letters(session):
    people.join(session, "Anna", "hash", CONSENT)
    for name in ("Anna", "anna", "ANNA"):
        with pytest.raises(Refused, match="is taken"):
            people.join(session, name, "hash", CONSENT)
        assert people.find(session, name).pseudonym == "Anna"
    assert people.find(session, "ann") is None


def test_nobody_joins_without_agreeing_to_the_text_as_it_is(base):
    for version in ("", "2019-1"):
        with pytest.raises(Refused, match="agree to it first"):
            with base.write() as session:
                people.join(session, "anna", "hash", version)
    with base.write() as session:
        assert session.scalar(sa.select(sa.func.count(tables.User.id))) == 0
        user = people.join(session, "anna", "hash", CONSENT)
        assert people.agreed(session, user)
        people.agree(session, user, CONSENT)
        assert len(session.scalars(sa.select(tables.Consent)).all()) == 1


def test_a_new_person_is_told_nothing_and_shown_nowhere(session):
    user = people.join(session, "anna", "hash", CONSENT, "zh-Hant")
    assert user.role == "participant" and user.language == "zh-Hant"
    assert not user.leaderboard and not user.notifications
    assert people.join(session, "bob", "hash", CONSENT, "xx").language == "en"


@pytest.mark.parametrize(
    "password, key",
    [
        ("1234567", "password_length"),
        ("x" * 201, "password_length"),
        ("Annabella", "password_name"),
    ],
)
def test_passwords_that_may_not_be(password, key):
    with pytest.raises(Refused) as error:
        people.check_password(password, "annabella")
    assert error.value.key == key


def test_every_refusal_has_its_text_in_both_languages():
    refusal = Refused("team_name", least=2, most=40)
    assert str(refusal) == refusal.told("en")
    assert "2" in refusal.told("zh-Hant") and "40" in refusal.told("zh-Hant")
    for reason in (*actions.DOUBTS, "day", "meal"):
        for language in words.LANGUAGES:
            assert words.say(language, f"reason.{reason}")


# Sessions.


def test_joining_logs_in_and_out_ends_it(app, client):
    answer = join(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/log")
    token = client.cookies[security.COOKIE]
    assert client.get("/me").status_code == 200
    assert post(client, "/logout", "/me").status_code == 303
    assert security.COOKIE not in client.cookies
    client.cookies.set(security.COOKIE, token)  # It was kept by somebody.
    assert client.get("/me").headers["location"].startswith("/login")
    assert rows(app, tables.LoginSession) == []


def test_a_session_cannot_be_fixed_beforehand(app, client):
    join(client)
    known = client.cookies[security.COOKIE]
    visit = "known beforehand"
    with TestClient(app, follow_redirects=False) as victim:
        signed = app.state.site.guard.sign(visit)
        victim.cookies.set(security.VISIT, signed)
        before = victim.get("/login").text
        assert app.state.site.guard.code("csrf", visit) in before
        post(victim, "/login", pseudonym="anna", password=PASSWORD)
        made = victim.cookies[security.COOKIE]
        assert made not in (known, signed)
        # The code that was known beforehand opens no form any more.
        old = app.state.site.guard.code("csrf", visit)
        answer = victim.post("/me/withdraw", data={"csrf": old, "sure": "yes"})
        assert answer.status_code == 403
    # Logging in once more ends the session that was there.
    post(client, "/login", "/me", pseudonym="anna", password=PASSWORD)
    assert client.cookies[security.COOKIE] != known
    assert client.get("/me").status_code == 200
    with TestClient(app, follow_redirects=False) as thief:
        thief.cookies.set(security.COOKIE, known)
        assert thief.get("/me").status_code == 303


def test_cookies_are_no_scripts_matter(client):
    answer = join(client)
    cookie = next(
        value
        for value in answer.headers.get_list("set-cookie")
        if value.startswith(f"{security.COOKIE}=")
    )
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie


def test_wrong_log_ins_are_told_alike(client):
    join(client)
    post(client, "/logout", "/me")
    told = []
    for name in ("anna", "nobody", "x" * 60, "anna\0"):
        answer = post(client, "/login", pseudonym=name, password="wrong wrong")
        assert answer.status_code == 422
        told.append(words.say("en", "error.login_wrong") in answer.text)
    assert all(told)
    answer = post(client, "/login", pseudonym="ANNA", password=PASSWORD)
    assert answer.status_code == 303


def test_half_a_letter_in_a_password_is_no_error(client):
    # UTF-7 can say half of a pair of UTF-16, which UTF-8 cannot.
    code = code_of(client.get("/login"))
    parts = {"csrf": code, "pseudonym": "anna", "password": "+2AA- wrong wrong"}
    body = "".join(
        f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'
        f"{value}\r\n"
        for name, value in parts.items()
    )
    answer = client.post(
        "/login",
        content=f"{body}--x--\r\n".encode(),
        headers={
            "content-type": "multipart/form-data; boundary=x; charset=utf-7"
        },
    )
    assert answer.status_code == 422
    assert people.sendable("\ud800 long enough") == "? long enough"


def test_a_suspended_person_stays_out(app, client):
    join(client)
    with app.state.site.database.write() as session:
        people.find(session, "anna").suspended = True
    assert client.get("/me").status_code == 303
    answer = post(client, "/login", pseudonym="anna", password=PASSWORD)
    assert words.say("en", "error.login_suspended") in answer.text
    answer = post(client, "/login", pseudonym="anna", password="wrong wrong")
    assert words.say("en", "error.login_wrong") in answer.text


def test_an_unknown_name_takes_as_long(app, monkeypatch):
    asked = []
    real = security.HASHER.verify
    monkeypatch.setattr(
        type(security.HASHER),
        "verify",
        lambda self, kept, password: asked.append(kept) or real(kept, password),
    )
    kept = security.hash_password(PASSWORD)
    user = tables.User(pseudonym="anna", password_hash=kept)
    began = time.perf_counter()
    assert security.right_password(user, PASSWORD)
    assert not security.right_password(None, PASSWORD)
    assert time.perf_counter() - began < 5
    # The same work, of the same cost, for somebody and for nobody.
    known, unknown = asked
    assert known.split("$")[:4] == unknown.split("$")[:4]


def test_a_password_of_the_staff_lets_in_once(app, client):
    join(client)
    with TestClient(app, follow_redirects=False) as admin:
        staff(app, admin, "admin")
        page = post(admin, "/admin/people/1/password", "/admin/people/1")
        (made,) = re.findall(r'<code id="password">([^<]+)<', page.text)
        itself = post(admin, "/admin/people/2/password", "/admin/people/1")
        assert itself.status_code == 422
    # Whoever is logged in is not any more, and the old one is worth nothing.
    assert client.get("/me").headers["location"].startswith("/login")
    told = {"pseudonym": "anna", "next": "/me"}
    assert post(client, "/login", password=PASSWORD, **told).status_code == 422
    page = post(client, "/login", password=made, **told)
    assert words.say("en", "renew.lead") in page.text
    assert client.get("/me").status_code == 303
    assert client.get("/renew").headers["location"] == "/login"
    for old, new, key in (
        ("wrong one", "another one", "login_wrong"),
        (made, made, "password_once"),
        (made, "anna", "password_length"),
    ):
        answer = post(client, "/renew", password=old, new=new, **told)
        assert answer.status_code == 422
        text = words.say("en", f"error.{key}", least=8, most=200)
        assert text in html.unescape(answer.text)
    answer = post(client, "/renew", password=made, new="my own one", **told)
    assert answer.headers["location"] == "/me"
    assert client.get("/me").status_code == 200
    for password, status in ((made, 422), ("my own one", 303)):
        with TestClient(app, follow_redirects=False) as other:
            answer = post(other, "/login", password=password, **told)
            assert answer.status_code == status
    (noted,) = [
        e for e in rows(app, tables.AuditEntry) if e.what == "password_reset"
    ]
    assert (noted.actor_id, noted.subject) == (2, "user 1")


def test_only_an_admin_gives_passwords(app, client):
    join(client)
    with TestClient(app, follow_redirects=False) as manager:
        staff(app, manager, "manager")
        answer = post(manager, "/admin/people/1/password", "/me")
        assert answer.status_code == 403
    assert client.get("/me").status_code == 200


def test_a_new_password_ends_all_other_sessions(app, client):
    join(client)
    with TestClient(app, follow_redirects=False) as other:
        post(other, "/login", pseudonym="anna", password=PASSWORD)
        assert other.get("/me").status_code == 200
        data = {"old": "wrong wrong", "new": "quite another"}
        answer = post(client, "/me/password", "/me", **data)
        assert words.say("en", "error.password_wrong") in answer.text
        data = {"old": PASSWORD, "new": "short"}
        assert post(client, "/me/password", "/me", **data).status_code == 422
        data = {"old": PASSWORD, "new": "quite another"}
        assert post(client, "/me/password", "/me", **data).status_code == 303
        assert other.get("/me").status_code == 303
        assert client.get("/me").status_code == 200
        answer = post(other, "/login", pseudonym="anna", password=PASSWORD)
        assert answer.status_code == 422


# Teams.


def team_scene(session, names, spring):
    users = [person(session, name, leaderboard=True) for name in names]
    team = teams.create(session, users[0], spring, f"Team {names[0]}")
    for user in users[1:]:
        teams.join(session, user, spring, team.code.lower())
    return users, team


def give(session, user, spring, points):
    session.add(
        tables.PointsEntry(
            user_id=user.id,
            campaign_id=spring.id,
            points=points,
            reason="action",
        )
    )
    session.flush()


def test_one_team_a_campaign(session):
    spring = campaign(session)
    users, team = team_scene(session, ["anna", "bob"], spring)
    assert teams.size(session, team) == 2
    with pytest.raises(Refused, match="have a team already"):
        teams.create(session, users[1], spring, "Another")
    with pytest.raises(Refused, match="A team of this name exists"):
        teams.create(session, person(session, "carl"), spring, "Team  anna ")
    for code in ("", "NOSUCH", "x\0", "團隊"):
        with pytest.raises(Refused, match="has this code"):
            teams.join(session, person(session, f"d{code}"), spring, code)
    for name in ("", "x", "x" * 41, "a\u202eb"):
        with pytest.raises(Refused, match="2 to 40"):
            teams.create(session, users[0], spring, name)
    teams.leave(session, users[0], spring)
    teams.leave(session, users[0], spring)
    assert teams.of(session, users[0], spring) is None
    assert teams.size(session, team) == 1
    teams.leave(session, users[1], spring)
    assert session.scalars(sa.select(tables.Team)).all() == []


def test_a_code_is_of_one_campaign(session):
    spring = campaign(session)
    _, team = team_scene(session, ["anna"], spring)
    autumn = tables.Campaign(
        name="Autumn", starts=spring.starts, ends=spring.ends
    )
    session.add(autumn)
    session.flush()
    with pytest.raises(Refused, match="has this code"):
        teams.join(session, person(session, "bob"), autumn, team.code)


def test_only_who_chose_it_is_on_the_leaderboard(session):
    spring = campaign(session)
    first, _ = team_scene(session, ["anna", "bob", "carl"], spring)
    second, _ = team_scene(session, ["dora", "emil"], spring)
    for points, user in enumerate([*first, *second], 1):
        give(session, user, spring, 10 * points)
    hidden = person(session, "hidden")
    teams.join(
        session, hidden, spring, teams.of(session, first[0], spring).code
    )
    give(session, hidden, spring, 1000)
    board = teams.board(session, spring)
    assert board.teams == [("Team anna", 3, 20.0)]  # Two are too few.
    assert [row.pseudonym for row in board.persons] == [
        "emil", "dora", "carl", "bob", "anna",
    ]  # fmt: skip
    first[0].leaderboard = False
    second[1].suspended = True
    session.flush()
    board = teams.board(session, spring)
    assert board.teams == []
    assert [row.pseudonym for row in board.persons] == ["dora", "carl", "bob"]
