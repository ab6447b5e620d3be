"""Browsers of persons of every role, for tests of what they may do."""

import datetime as dt

from fastapi.testclient import TestClient
import numpy as np
from PIL import Image
import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, security
from jaxedge.foodwise.base.tables import (
    Action,
    ApiToken,
    Campaign,
    Canteen,
    CanteenManager,
    Equivalent,
    Grade,
    ModelVersion,
    Photo,
    now,
)
from jaxedge.foodwise.campaign import draws, staff

TODAY = rules.day_of(now(), rules.Rules())
DAY = dt.timedelta(days=1)
SEED = "lottery 7"  # Of the past campaign's draw.


class Browser:
    """A logged-in person: forms carry their code.

    Attributes:
        user: who it is.
        client: what asks; the code has to be sent by hand.
        csrf: the code.
    """

    def __init__(self, app, user):
        site = app.state.site
        with site.database.write() as session:
            token = site.guard.start(session, user)
        self.user = user
        self.client = TestClient(app, follow_redirects=False)
        self.client.cookies.set(security.COOKIE, site.guard.sign(token))
        self.csrf = site.guard.code("csrf", token)

    def get(self, path, **asked):
        """The answer to a link."""
        return self.client.get(path, **asked)

    def post(self, path, **fields):
        """The answer to a form."""
        return self.client.post(path, data={"csrf": self.csrf, **fields})


def person(app, name, role="participant"):
    """A person of a role, who has just logged in."""
    with app.state.site.database.write() as session:
        user = staff.create(session, name, "x", role)
    return Browser(app, user)


@pytest.fixture(name="staffed")
def staffed_people(app):
    """Role -> browser, with two canteens of which the manager has the first."""
    with app.state.site.database.write() as session:
        session.add_all(
            [
                Canteen(id=1, slug="lg1", name="LG1", name_zh="一號"),
                Canteen(id=2, slug="lg7", name="LG7"),
                Campaign(
                    id=1, name="now", starts=TODAY - DAY, ends=TODAY + DAY
                ),
                Campaign(
                    id=2,
                    name="past",
                    starts=TODAY - 9 * DAY,
                    ends=TODAY - DAY,
                    commitment=draws.commitment(SEED),
                    committed_at=now(),
                ),
                Equivalent(
                    id=1, name="e", factor=2.5, unit="kg", source="s", year=2020
                ),
                ModelVersion(version="v1", metrics={"acc": 0.934}),
            ]
        )
        session.flush()
        session.add(ApiToken(id=1, name="t", token_hash="h", canteen_id=2))
    made = {
        role: person(app, f"the {role}", role)
        for role in ("participant", "reviewer", "manager", "admin")
    }
    with app.state.site.database.write() as session:
        session.add(
            CanteenManager(user_id=made["manager"].user.id, canteen_id=1)
        )
    return made


def waits(app, browser, state="review", **changed):
    """An action of a person that waits, with a photo; returns its id."""
    site = app.state.site
    with site.database.write() as session:
        values = {
            "campaign_id": 1,
            "canteen_id": 1,
            "day": TODAY,
            "meal": "lunch",
            "kind": "clean_plate",
            "note": "<script>alert(1)</script>",
            "reason": "unsure",
        } | changed
        action = Action(
            user_id=browser.user.id,
            state=state,
            once=str(session.scalar(sa.func.count(Action.id))),
            **values,
        )
        number = session.scalar(sa.func.count(Photo.id)) or 0
        photo = Photo(
            user_id=browser.user.id, action=action, sha256="0" * 64,
            phash="0" * 16, width=64, height=64, file=f"{number:032x}.jpg",
        )  # fmt: skip
        photo.grade = Grade(model_version="m", alpha=[1, 1, 1], u=1.0)
        session.add(photo)
        session.flush()
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(
            site.settings.photos / photo.file
        )
        return action.id


def one(app, asked):
    with app.state.site.database.read() as session:
        return session.scalars(asked).one()
