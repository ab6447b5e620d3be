"""What staff decide about: actions that wait, notes, names of teams."""

import re

import sqlalchemy as sa

from jaxedge.foodwise.base import words
from jaxedge.foodwise.base.tables import Action, AuditEntry, Membership, Team
from tests.foodwise.browsers import (  # noqa: F401 - with a fixture
    staffed_people,
    waits,
)


def pages_of(browser, path):
    """Actions that are listed, on all pages."""
    found = []
    while path:
        text = browser.get(path).text
        found += map(int, re.findall(r'action="/admin/moderation/(\d+)"', text))
        more = re.findall(
            r'href="(/admin/moderation\?kind=\w+&amp;after=\d+)"', text
        )
        path = more[0].replace("&amp;", "&") if more else None
    return found


def test_what_waits_and_what_is_to_be_read_has_pages(app, staffed):
    manager, other = staffed["manager"], staffed["participant"]
    waiting = [waits(app, other, reason="time") for _ in range(53)]
    notes = [waits(app, other, "counted") for _ in range(3)]
    waits(app, other, "counted", note="")
    waits(app, other, canteen_id=2)
    assert pages_of(manager, "/admin/moderation") == waiting
    assert pages_of(manager, "/admin/moderation?kind=notes") == notes
    told = words.say("en", "admin.actions_wait", n=53, notes=3)
    assert told in manager.get("/admin").text
    path = f"/admin/moderation/{waiting[-1]}/photo"  # Of the last page.
    assert manager.get(path).headers["content-type"] == "image/jpeg"
    for number in (notes[0], waiting[-1] + 5, 2**31 - 1):
        path = f"/admin/moderation/{number}/photo"
        assert manager.get(path).status_code == 404
    answer = manager.post(
        f"/admin/moderation/{notes[0]}", choice="seen", kind="notes", after=0
    )
    assert answer.headers["location"] == "/admin/moderation?kind=notes&after=0"
    # A note is read with the action that it is of.
    manager.post(f"/admin/moderation/{waiting[0]}", choice="count")
    assert pages_of(manager, "/admin/moderation") == waiting[1:]
    assert pages_of(manager, "/admin/moderation?kind=notes") == notes[1:]
    for wrong in ("kind=all", "after=-1", f"after={2**31}", "after=x"):
        assert manager.get(f"/admin/moderation?{wrong}").status_code == 422


def test_a_team_is_removed_for_its_name(app, staffed):
    admin, site = staffed["admin"], app.state.site
    number = staffed["participant"].user.id
    with site.database.write() as session:
        session.add_all(
            Team(campaign_id=1, name=f"<b>{n}</b>", code=f"C{n}")
            for n in range(30)
        )
        session.flush()
        session.add(Membership(user_id=number, campaign_id=1, team_id=1))
    action = waits(app, staffed["participant"], "counted")
    shown = admin.get("/admin/teams").text
    assert "&lt;b&gt;0&lt;/b&gt;" in shown and "<b>0" not in shown
    assert "&lt;b&gt;29" in admin.get("/admin/teams?after=25").text
    admin.post("/admin/teams/1/delete")
    with site.database.read() as session:
        assert session.get(Team, 1) is None
        assert session.scalars(sa.select(Membership)).all() == []
        assert session.get_one(Action, action).state == "counted"
        asked = sa.select(AuditEntry.subject).where(
            AuditEntry.what == "team_removed"
        )
        assert session.scalars(asked).all() == ["team 1"]
    again = admin.post("/admin/teams/1/delete")
    assert words.say("en", "error.staff_gone") in again.text
