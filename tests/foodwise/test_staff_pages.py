"""The staff's pages: persons, draws, networks, upkeep and the audit log."""

import datetime as dt
import hashlib
import io
import json
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import rules, words
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    Campaign,
    Label,
    ModelVersion,
    Photo,
    PointsEntry,
    RewardDraw,
    User,
    now,
)
from jaxedge.foodwise.campaign import campaigns, draws, staff
from jaxedge.foodwise.upkeep import versions
from tests.foodwise.browsers import (  # noqa: F401 - with a fixture
    DAY,
    SEED,
    TODAY,
    one,
    person,
    staffed_people,
    waits,
)


def test_roles_change_by_another_admin_alone(app, staffed):
    admin, other = staffed["admin"], staffed["participant"]
    path = f"/admin/people/{admin.user.id}"
    for act, fields in (
        ("role", {"role": "participant"}),
        ("trusted", {"on": "true"}),
        ("suspended", {"on": "true"}),
        ("delete", {"pseudonym": "the admin"}),
    ):
        answer = admin.post(f"{path}/{act}", **fields)
        assert answer.status_code == 422
        assert words.say("en", "error.not_oneself") in answer.text
    there = f"/admin/people/{other.user.id}"
    assert admin.post(f"{there}/trusted", on="true").status_code == 422
    assert admin.post(f"{there}/role", role="king").status_code == 422
    assert admin.post(f"{there}/role", role="manager", canteens=9).is_error
    admin.post(f"{there}/role", role="manager", canteens=["1", "2"])
    with app.state.site.database.read() as session:
        found = campaigns.managed(session, session.get_one(User, other.user.id))
        assert [canteen.id for canteen in found] == [1, 2]
    assert other.get("/admin").status_code == 303  # Logged out by that.
    admin.post(f"{there}/trusted", on="true")
    admin.post(f"{there}/role", role="participant")
    user = one(app, sa.select(User).where(User.id == other.user.id))
    assert (user.role, user.trusted) == ("participant", False)


def test_the_last_admin_stays(app, staffed):
    with app.state.site.database.write() as session:
        first = session.get_one(User, staffed["admin"].user.id)
        second = staff.create(session, "second", "x", "admin")
        staff.set_suspended(session, first, second.id, True)
        # One who is suspended does not count.
        for act in (
            lambda: staff.set_role(session, second, first.id, "reviewer"),
            lambda: staff.set_suspended(session, second, first.id, True),
            lambda: staff.may_remove(session, second, first.id),
        ):
            with pytest.raises(checks.UsageError, match="last admin"):
                act()
        staff.set_suspended(session, first, second.id, False)
        staff.set_role(session, second, first.id, "reviewer")


def test_who_is_suspended_is_out_and_loses_nothing(app, staffed):
    admin, other = staffed["admin"], staffed["participant"]
    action = waits(app, other)
    there = f"/admin/people/{other.user.id}/suspended"
    admin.post(there, on="true")
    assert other.get("/draws").status_code == 303
    assert one(app, sa.select(Action.id)) == action
    admin.post(there, on="false")
    assert not one(
        app, sa.select(User).where(User.id == other.user.id)
    ).suspended


def test_a_draw_is_once_after_the_end_and_can_be_checked(app, staffed):
    admin = staffed["admin"]
    path, form = "/admin/campaigns/2/draw", {"prizes": "2", "seed": SEED}
    early = admin.post("/admin/campaigns/1/draw", **form)
    assert words.say("en", "error.draw_early") in early.text
    nobody = admin.post(path, **form)
    assert words.say("en", "error.draw_nobody") in nobody.text
    past = {"campaign_id": 2, "state": "counted"}
    people = [person(app, f"p{n}") for n in range(4)]
    for n, browser in enumerate(people):
        for day in range(n + 1):
            waits(app, browser, day=TODAY - (2 + day) * DAY, **past)
        waits(app, browser, day=TODAY - 2 * DAY, meal="tea", **past)
    waits(app, staffed["reviewer"], day=TODAY - 2 * DAY, **past)
    # What was logged late is in nobody's way, and no ticket.
    waits(app, people[0], day=TODAY + DAY, **past)
    waits(app, people[0], campaign_id=2, day=TODAY)
    late = waits(app, people[0], campaign_id=2, day=TODAY - 3 * DAY)
    waiting = admin.post(path, **form)
    assert words.say("en", "error.draw_waiting") in waiting.text
    admin.post(f"/admin/moderation/{late}", choice="turn_down")
    for wrong in (
        {"prizes": "0"}, {"prizes": "9999"}, {"seed": " "}, {"seed": "chosen"},
    ):  # fmt: skip
        assert admin.post(path, **{**form, **wrong}).status_code == 422
    assert admin.post(path, **form).headers["location"] == "/draws"
    twice = admin.post(path, **form)
    assert words.say("en", "error.draw_twice") in twice.text
    kept = one(app, sa.select(RewardDraw))
    # Days, not actions; the staff has none.
    assert kept.tickets == {str(b.user.id): n + 1 for n, b in enumerate(people)}
    again = rules.draw(
        {int(k): v for k, v in kept.tickets.items()}, 2, kept.seed
    )
    assert kept.winners == again
    shown = people[1].get("/draws").text
    assert SEED in shown and not re.search(r"\(p\d\)", shown)
    assert hashlib.sha256(kept.seed.encode()).hexdigest() in shown
    with app.state.site.database.read() as session:
        campaign = session.get_one(Campaign, 2)
        limited = campaign.rules | {"most_tickets": 2}
        campaign.rules = limited
        assert [*draws.tickets(session, campaign).values()] == [1, 2, 2, 2]


def test_a_seed_is_fixed_before_the_end_and_shown_once(app, staffed):
    admin, other = staffed["admin"], staffed["participant"]
    path = "/admin/campaigns/1/seed"
    assert other.post(path).status_code == 403
    shown = admin.post(path).text
    (first,) = re.findall(r'<code id="seed">(\w{32})</code>', shown)
    shown = admin.post(path).text
    (seed,) = re.findall(r'<code id="seed">(\w{32})</code>', shown)
    told = hashlib.sha256(seed.encode()).hexdigest()
    seen = other.get("/draws").text
    assert told in seen and seed not in seen
    assert hashlib.sha256(first.encode()).hexdigest() not in seen
    assert seed not in admin.get("/draws").text + admin.get("/admin/audit").text
    # Every change of it is in the audit.
    with app.state.site.database.write() as session:
        asked = sa.select(AuditEntry.detail).where(
            AuditEntry.what == "seed_fixed"
        )
        details = session.scalars(asked).all()
        assert [d["again"] for d in details] == [False, True]
        assert details[1]["sha256"] == told
        session.get_one(Campaign, 1).ends = TODAY - DAY
        session.get_one(Campaign, 1).starts = TODAY - DAY
        session.get_one(Campaign, 2).commitment = ""
    waits(app, other, "counted", day=TODAY - DAY)
    waits(app, other, "counted", day=TODAY - DAY, campaign_id=2)
    late = admin.post(path)
    assert words.say("en", "error.commit_late") in late.text
    form = {"prizes": "1", "seed": first}
    wrong = admin.post("/admin/campaigns/1/draw", **form)
    assert words.say("en", "error.draw_other_seed") in wrong.text
    never = admin.post("/admin/campaigns/2/draw", **form)
    assert words.say("en", "error.draw_unfixed") in never.text
    form["seed"] = seed
    assert admin.post("/admin/campaigns/1/draw", **form).is_redirect


def test_models_are_activated_and_rolled_back(app, staffed, monkeypatch):
    admin = staffed["admin"]
    missing = admin.post("/admin/models/activate", version="v1")
    assert words.say("en", "error.model_gone") in missing.text
    assert app.state.site.predictor.version == "fake"
    for wrong in ("..", "../v1", "v2", ""):
        answer = admin.post("/admin/models/activate", version=wrong)
        assert answer.status_code == 422

    class Loaded:
        version = "v1"

    monkeypatch.setattr(versions, "load", lambda settings, version: Loaded())
    assert admin.post("/admin/models/activate", version="v1").is_redirect
    assert app.state.site.predictor.version == "v1"
    assert one(app, sa.select(ModelVersion.active)) is True
    few = admin.post("/admin/models/retrain")
    assert words.say("en", "error.few_labels") in few.text


def test_a_network_is_warm_before_it_grades(instance, monkeypatch):
    warm = []
    grader = types.SimpleNamespace(warm_up=lambda: warm.append("compiled"))
    fake = types.SimpleNamespace(Grader=lambda folder: grader)
    monkeypatch.setitem(sys.modules, "jaxedge.foodwise.grading.grader", fake)
    monkeypatch.setattr("jaxedge.foodwise.grading.grader", fake, raising=False)
    (instance.models / "v1").mkdir()
    assert versions.load(instance, "v1") is grader
    assert warm == ["compiled"]


def test_retraining_is_noted_whether_it_works_or_not(app, staffed, monkeypatch):
    given = []

    def retrain(folder, features_NxF, labels_N, canteens):
        given.append((features_NxF, labels_N, canteens))
        if len(given) == 2:
            raise RuntimeError("no memory")
        return types.SimpleNamespace(version="v2", metrics={"acc": 0.9})

    fake = types.SimpleNamespace(retrain=retrain)
    monkeypatch.setitem(sys.modules, "jaxedge.foodwise.grading.grader", fake)
    monkeypatch.setattr("jaxedge.foodwise.grading.grader", fake, raising=False)
    database = app.state.site.database
    for n in range(versions.LEAST_LABELS):
        waits(app, staffed["participant"], canteen_id=1 + n % 2)
    with database.write() as session:
        for n, photo in enumerate(session.scalars(sa.select(Photo))):
            photo.features = [n / 10] * 128
            session.add(Label(photo_id=photo.id, label=n % 3, how="votes"))
    # Neither one that was taken back nor one that no network saw counts.
    for state in ("undone", "counted"):
        waits(app, staffed["participant"], state)
    with database.write() as session:
        *_, undone, unseen = session.scalars(sa.select(Photo)).all()
        undone.features = [0.5] * 128
        for photo in (undone, unseen):
            session.add(Label(photo_id=photo.id, label=0, how="votes"))
    with database.read() as session:
        assert versions.labels(session) == versions.LEAST_LABELS == 10
    for _ in range(2):
        staffed["admin"].post("/admin/models/retrain")
    features_NxF, labels_N, canteens = given[0]
    np.testing.assert_allclose(features_NxF[:, 5], np.arange(10) / 10, 1e-6)
    assert labels_N.tolist() == [n % 3 for n in range(10)]
    assert canteens == ["lg1", "lg7"] * 5
    asked = sa.select(ModelVersion).where(ModelVersion.version == "v2")
    assert one(app, asked).active is False
    text = staffed["admin"].get("/admin/audit").text
    assert "retrained" in text and "no memory" in text


def test_a_persons_data_is_given_and_deleted(app, staffed):
    admin, other = staffed["admin"], staffed["participant"]
    waits(app, other)
    there = f"/admin/people/{other.user.id}"
    answer = admin.post(f"{there}/export")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        told = json.loads(found.read("data.json"))
        assert len(found.namelist()) == 2
    assert told["action"][0]["note"] == "<script>alert(1)</script>"
    wrong = admin.post(f"{there}/delete", pseudonym="the reviewer")
    assert words.say("en", "error.wrong_pseudonym") in wrong.text
    admin.post(f"{there}/delete", pseudonym="the participant")
    with app.state.site.database.read() as session:
        assert session.get(User, other.user.id) is None
        for table in (Action, Photo, PointsEntry):
            assert session.scalars(sa.select(table)).all() == []
        what = session.scalars(sa.select(AuditEntry.what)).all()
        assert {"exported", "deleted"} <= set(what)
    assert [*app.state.site.settings.photos.iterdir()] == []


def test_upkeep_deletes_old_photos_and_writes_backups(app, staffed):
    admin = staffed["admin"]
    waits(app, staffed["participant"])
    with app.state.site.database.write() as session:
        photo = session.scalars(sa.select(Photo)).one()
        photo.at = now() - dt.timedelta(days=31)
    answer = admin.post("/admin/retention")
    assert answer.headers["location"] == "/admin?done=retention&n=1"
    assert [*app.state.site.settings.photos.iterdir()] == []
    answer = admin.post("/admin/backup")
    (path,) = app.state.site.settings.backups.iterdir()
    assert path.name in answer.headers["location"]
    assert path.name in admin.get("/admin").text


def test_the_audit_log_has_pages(app, staffed):
    admin = staffed["admin"]
    with app.state.site.database.write() as session:
        session.add_all(AuditEntry(what=f"w{n}") for n in range(120))
    seen, path = [], "/admin/audit"
    while path:
        text = admin.get(path).text
        seen += re.findall(r"<code>(w\d+)</code>", text)
        older = re.findall(r'href="(/admin/audit\?before=\d+)"', text)
        path = older[0] if older else None
    assert seen == [f"w{n}" for n in reversed(range(120))]
    for wrong in ("0", "-1", "99999999999999999999", "x"):
        answer = admin.get(f"/admin/audit?before={wrong}")
        assert answer.status_code in (404, 422)
