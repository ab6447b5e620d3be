"""The staff's pages: who may do what, and what it does."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, security, words
from jaxedge.foodwise.base.tables import (
    ApiToken,
    AuditEntry,
    Campaign,
    Canteen,
    Equivalent,
    MealPeriod,
    ReviewVote,
    User,
    now,
)
from jaxedge.foodwise.campaign import campaigns, choices, codes
from tests.foodwise.browsers import (  # noqa: F401 - with a fixture
    DAY,
    TODAY,
    one,
    staffed_people,
    waits,
)

# Route and form -> the least role that may. 0 stands for the participant's id.
CAMPAIGN = {"name": "new", "starts": "2026-01-01", "ends": "2026-01-02"}
CANTEEN = {"slug": "new", "name": "New"}
SAME = {"name": "e", "factor": "1", "unit": "kg", "source": "s", "year": "2020"}
ROUTES = {
    "/review": (None, "reviewer"),
    "/admin": (None, "manager"),
    "/admin/canteens": (None, "manager"),
    "/admin/moderation": (None, "manager"),
    "/canteens/lg1/code": (None, "manager"),
    "/canteens/lg7/code": (None, "admin"),
    "/draws": (None, "participant"),
    "/admin/campaigns": (None, "admin"),
    "/admin/people": (None, "admin"),
    "/admin/teams": (None, "admin"),
    "/admin/people/0": (None, "admin"),
    "/admin/equivalents": (None, "admin"),
    "/admin/models": (None, "admin"),
    "/admin/audit": (None, "admin"),
    "POST /review/1": ({"vote": "0"}, "reviewer"),
    "POST /admin/canteens/1": (CANTEEN, "manager"),
    "POST /admin/canteens/1/meals": ({}, "manager"),
    "POST /admin/canteens/1/tokens": ({"name": "scale"}, "manager"),
    "POST /admin/moderation/1": ({"choice": "count"}, "manager"),
    "POST /admin/canteens/2": (CANTEEN, "admin"),
    "POST /admin/canteens/2/meals": ({}, "admin"),
    "POST /admin/canteens/2/tokens": ({"name": "scale"}, "admin"),
    "POST /admin/tokens/1/revoke": ({}, "admin"),
    "POST /admin/canteens": (CANTEEN, "admin"),
    "POST /admin/campaigns": (CAMPAIGN, "admin"),
    "POST /admin/campaigns/1": (CAMPAIGN, "admin"),
    "POST /admin/campaigns/2/draw": ({"prizes": "1", "seed": "s"}, "admin"),
    "POST /admin/campaigns/1/seed": ({}, "admin"),
    "POST /admin/canteens/1/screen": ({}, "manager"),
    "POST /admin/canteens/2/screen": ({}, "admin"),
    "POST /admin/teams/1/delete": ({}, "admin"),
    "POST /admin/people/0/password": ({}, "admin"),
    "POST /admin/people/0/role": ({"role": "reviewer"}, "admin"),
    "POST /admin/people/0/trusted": ({"on": "true"}, "admin"),
    "POST /admin/people/0/suspended": ({"on": "true"}, "admin"),
    "POST /admin/people/0/export": ({}, "admin"),
    "POST /admin/people/0/delete": ({"pseudonym": "x"}, "admin"),
    "POST /admin/equivalents": (SAME, "admin"),
    "POST /admin/equivalents/1": (SAME, "admin"),
    "POST /admin/equivalents/1/delete": ({}, "admin"),
    "POST /admin/models/activate": ({"version": "v1"}, "admin"),
    "POST /admin/models/retrain": ({}, "admin"),
    "POST /admin/retention": ({}, "admin"),
    "POST /admin/backup": ({}, "admin"),
}
ROLES = ("participant", "reviewer", "manager", "admin")


def test_nobody_does_what_is_not_theirs(app, client, staffed):
    number = staffed["participant"].user.id
    for route, (fields, least) in ROUTES.items():
        path = route.removeprefix("POST ").replace("/0", f"/{number}")
        post = fields is not None
        for role in ROLES[: ROLES.index(least)]:
            browser = staffed[role]
            answer = browser.post(path, **fields) if post else browser.get(path)
            assert answer.status_code == 403, (role, route)
        # Whoever has not logged in has no form that is theirs.
        answer = client.post(path, data=fields) if post else client.get(path)
        assert answer.status_code == (403 if post else 303), route
        if post:  # Nor does another site, which does not know the code.
            answer = staffed["admin"].client.post(path, data=fields)
            assert answer.status_code == 403, route
            assert words.say("en", "error.stale_form") in answer.text
        else:
            assert staffed[least].get(path).status_code == 200, route
    with app.state.site.database.read() as session:
        # The five that were created, and nothing that was refused.
        assert session.scalars(sa.select(AuditEntry.what)).all() == (
            ["created"] * 4
        )


def paths(routes):
    """Of routes, those of routers within routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from paths(inner.routes)
        yield getattr(route, "path", "")


def test_all_routes_of_the_staff_are_in_the_table(app):
    mine = ("/admin", "/review", "/draws", "/canteens/")
    named = {re.sub(r"/\d+", "/{number}", r.split()[-1]) for r in ROUTES}
    named = {r.replace("lg1", "{slug}").replace("lg7", "{slug}") for r in named}
    photos = {"/review/photo/{number}", "/admin/moderation/{number}/photo"}
    known = set(paths(app.routes))
    known = {path for path in known if path.startswith(mine)}
    assert known - photos == named


def test_every_page_opens_in_both_languages(app, staffed):
    waits(app, staffed["participant"])
    admin = staffed["admin"]
    for language in words.LANGUAGES:
        with app.state.site.database.write() as session:
            session.get_one(User, admin.user.id).language = language
        for route, (fields, _) in ROUTES.items():
            if fields is None:
                number = staffed["participant"].user.id
                answer = admin.get(route.replace("/0", f"/{number}"))
                assert answer.status_code == 200, route
                assert "<script>alert" not in answer.text
                assert " style=" not in answer.text
                assert "<style" not in answer.text


def test_a_reviewer_votes_on_what_is_shown(app, staffed):
    waits(app, staffed["participant"], note="")
    browser = staffed["reviewer"]
    shown = browser.get("/review").text
    assert "the participant" not in shown
    (path,) = re.findall(r'src="(/review/photo/\d+)"', shown)
    answer = browser.get(path)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert staffed["participant"].get(path).status_code == 403
    number = path.rsplit("/", 1)[-1]
    fragment = browser.client.post(
        f"/review/{number}",
        data={"vote": "0"},
        headers={"hx-request": "true", "x-csrf-token": browser.csrf},
    )
    assert words.say("en", "review.none") in fragment.text
    assert "<html" not in fragment.text
    assert one(app, sa.select(ReviewVote.label)) == 0
    assert browser.get(path).status_code == 404
    again = browser.post(f"/review/{number}", vote="0")
    assert again.status_code == 422
    assert words.say("en", "error.vote_gone") in again.text
    for wrong in ("9", "x", ""):
        assert browser.post(f"/review/{number}", vote=wrong).status_code == 422


def test_campaigns_are_made_of_days_and_known_rules(app, staffed):
    admin = staffed["admin"]
    good = {"name": "spring", "starts": "2026-03-01", "ends": "2026-03-14"}
    given = '{"points": 7, "rest_days": [6], "zone": "UTC"}'
    assert admin.post("/admin/campaigns", **good, rules=given).is_redirect
    kept = one(app, sa.select(Campaign).where(Campaign.name == "spring"))
    assert rules.read(kept.rules).points == 7
    path = f"/admin/campaigns/{kept.id}"
    for changed in (
        {"rules": '{"point": 7}'},
        {"rules": '{"points": "7"}'},
        {"rules": '{"points": true}'},
        {"rules": '{"points": 1e400}'},
        {"rules": '{"points": 100000000000000000000}'},
        {"rules": '{"day_starts": 24}'},
        {"rules": '{"zone": "Mars"}'},
        {"rules": '{"zone": "../../etc/passwd"}'},
        {"rules": '{"rest_days": 5}'},
        {"rules": '{"rest_days": ["5"]}'},
        {"rules": "[]"},
        {"rules": "{"},
        {"ends": "2026-02-28"},
        {"starts": "soon"},
        {"name": "now"},
        {"name": " "},
        {"name": "x" * 81},
        {"starts": "0001-01-01"},
        {"ends": "9999-12-31"},
        {"ends": "2201-01-01"},
    ):
        answer = admin.post(path, **{**good, "rules": given, **changed})
        assert answer.status_code == 422, changed
    same = one(app, sa.select(Campaign).where(Campaign.id == kept.id))
    for name in ("name", "starts", "ends", "rules"):
        assert getattr(same, name) == getattr(kept, name)


def test_a_campaigns_days_keep_the_actions_that_count(app, staffed):
    admin = staffed["admin"]
    late = waits(app, staffed["participant"], day=TODAY + 5 * DAY)
    waits(app, staffed["participant"], "counted", day=TODAY + 6 * DAY)
    waits(app, staffed["participant"], day=TODAY)

    def moved(**days):
        return admin.post("/admin/campaigns/1", name="now", **days)

    # Nothing that counts is on a day of the campaign yet.
    assert moved(starts=TODAY + DAY, ends=TODAY + 2 * DAY).is_redirect
    assert moved(starts=TODAY, ends=TODAY + 5 * DAY).is_redirect
    admin.post(f"/admin/moderation/{late}", choice="count")
    answer = moved(starts=TODAY, ends=TODAY + DAY)
    assert words.say("en", "error.days_with_actions") in answer.text
    # As the person reads it.
    with app.state.site.database.write() as session:
        session.get_one(User, admin.user.id).language = "zh-Hant"
    answer = moved(starts=TODAY, ends=TODAY + DAY)
    assert words.say("zh-Hant", "error.days_with_actions") in answer.text


def test_canteens_have_hours_tokens_and_a_code(app, staffed):
    manager = staffed["manager"]
    manager.post("/admin/canteens/1", name="LG 1", needs_code="true")
    canteen = one(app, sa.select(Canteen).where(Canteen.id == 1))
    assert (canteen.name, canteen.open, canteen.needs_code, canteen.slug) == (
        "LG 1", False, True, "lg1",
    )  # fmt: skip
    hours = {"lunch_opens": "11:30", "lunch_closes": "14:00"}
    assert manager.post("/admin/canteens/1/meals", **hours).is_redirect
    for wrong in (
        {"tea_opens": "15:00"},
        {"tea_opens": "x", "tea_closes": "y"},
        {"tea_opens": "15:00", "tea_closes": "15:00"},
    ):
        answer = manager.post("/admin/canteens/1/meals", **wrong)
        assert answer.status_code == 422
    period = one(app, sa.select(MealPeriod))
    assert (period.opens, period.closes) == (dt.time(11, 30), dt.time(14))
    shown = manager.post("/admin/canteens/1/tokens", name="scale").text
    (token,) = re.findall(r"<code>(fw_[\w-]{40,})</code>", shown)
    asked = sa.select(ApiToken).where(ApiToken.name == "scale")
    assert one(app, asked).token_hash == security.hashed(token)
    assert token not in manager.get("/admin/canteens").text
    manager.post(f"/admin/tokens/{one(app, asked).id}/revoke")
    assert one(app, asked).revoked_at is not None
    guard, at = app.state.site.guard, now()
    screen = manager.get("/canteens/lg1/code").text
    (code,) = re.findall(r"<strong>(\w{6})</strong>", screen)
    assert codes.valid(guard, "lg1", code, at, rules.Rules())
    assert "<svg" in screen and 'http-equiv="refresh"' in screen
    fragment = manager.get("/canteens/lg1/code", headers={"hx-request": "true"})
    assert "<html" not in fragment.text and "<svg" in fragment.text


def test_a_meal_may_end_past_midnight(app, staffed):
    night = {"dinner_opens": "22:00", "dinner_closes": "02:00"}
    answer = staffed["manager"].post("/admin/canteens/1/meals", **night)
    assert answer.is_redirect
    period = one(app, sa.select(MealPeriod))
    assert (period.opens, period.closes) == (dt.time(22), dt.time(2))
    for hour, served in ((21, False), (23, True), (1, True), (3, False)):
        assert choices.within(dt.time(hour), period) is served


def test_texts_that_no_database_takes_are_refused(app, staffed):
    admin = staffed["admin"]
    for path, fields in (
        ("/admin/canteens/1", {"name": "n", "name_zh": "一\0"}),
        ("/admin/canteens/1", {"name": "n\0"}),
        ("/admin/equivalents/1", {**SAME, "name_zh": "\0"}),
        ("/admin/campaigns/1/draw", {"prizes": "1", "seed": "\0"}),
        ("/admin/people/0/role", {"role": "\0"}),
    ):
        assert admin.post(path, **fields).status_code == 422, path
    shown = admin.get("/admin/people", params={"q": "the\0"})
    assert shown.status_code == 200 and "the manager" not in shown.text
    assert admin.get("/screen/%00/x").status_code == 404


def test_a_canteens_screen_needs_no_log_in(app, client, staffed):
    manager = staffed["manager"]

    def address():
        text = manager.get("/admin/canteens").text
        (found,) = re.findall(r'href="(/screen/lg1/\w{32})"', text)
        return found

    first = address()
    shown = client.get(first)
    (code,) = re.findall(r"<strong>(\w{6})</strong>", shown.text)
    guard, at = app.state.site.guard, now()
    assert codes.valid(guard, "lg1", code, at, rules.Rules())
    assert client.get(first, headers={"hx-request": "true"}).status_code == 200
    for wrong in (
        first[:-1], first + "0", first.upper(), "/screen/lg1/",
        first.replace("lg1", "lg7"), first.replace("lg1", "lg9"),
    ):  # fmt: skip
        assert client.get(wrong).status_code == 404, wrong
    # It lets nobody see or do anything else.
    assert client.get("/admin").status_code == 303
    manager.post("/admin/canteens/1/screen")
    assert client.get(first).status_code == 404
    assert address() != first and client.get(address()).status_code == 200
    assert manager.post("/admin/canteens/2/screen").status_code == 403


def test_a_screen_keeps_the_rules_of_what_is_logged(app, staffed):
    """Between campaigns those of the last one, not others by default."""
    site, slow = app.state.site, {"qr_seconds": 7200, "zone": "UTC"}
    with site.database.write() as session:
        session.get_one(Campaign, 1).starts = TODAY - 30 * DAY
        session.get_one(Campaign, 1).ends = TODAY - 20 * DAY
        session.get_one(Campaign, 2).rules = slow
    with site.database.read() as session:
        at = now()
        found = choices.campaign_for(session, at)
        assert found is not None and found.id == 2
        assert campaigns.rules_at(session, at) == rules.read(slow)
        # Six o'clock of the next day in Hong Kong.
        evening = dt.datetime.combine(TODAY, dt.time(22), dt.UTC)
        assert campaigns.today(session, evening) == TODAY
    screen = staffed["manager"].get("/canteens/lg1/code").text
    (code,) = re.findall(r"<strong>(\w{6})</strong>", screen)
    assert codes.valid(site.guard, "lg1", code, at, rules.read(slow))


@pytest.mark.parametrize("slug", ["", "A", "a b", "../a", "a--b", "x" * 41])
def test_a_bad_short_name_is_told(app, staffed, slug):
    answer = staffed["admin"].post("/admin/canteens", name="n", slug=slug)
    assert words.say("en", "error.bad_slug") in answer.text


def test_comparisons_need_a_source(app, staffed):
    admin = staffed["admin"]
    for changed in (
        {"source": " "}, {"factor": "0"}, {"factor": "nan"}, {"factor": "inf"},
        {"year": "20"}, {"unit": ""}, {"name": ""},
    ):  # fmt: skip
        answer = admin.post("/admin/equivalents/1", **{**SAME, **changed})
        assert answer.status_code == 422, changed
    admin.post("/admin/equivalents/1", **{**SAME, "factor": "2.54"})
    assert one(app, sa.select(Equivalent.factor)) == 2.54
    admin.post("/admin/equivalents/1/delete")
    answer = admin.post("/admin/equivalents/1/delete")
    assert words.say("en", "error.staff_gone") in answer.text


def test_managers_find_the_weigh_ins(staffed):
    assert 'href="/weigh-ins"' in staffed["manager"].get("/admin").text


def test_untrusted_texts_are_escaped_and_counted(app, staffed):
    waits(app, staffed["participant"], reason="time")
    shown = staffed["manager"].get("/admin/moderation").text
    assert "&lt;script&gt;alert(1)" in shown and "<script>alert" not in shown
    assert "the participant" not in shown
    (path,) = re.findall(r'src="(/admin/moderation/\d+/photo)"', shown)
    assert staffed["manager"].get(path).status_code == 200
    assert staffed["reviewer"].get(path).status_code == 403
