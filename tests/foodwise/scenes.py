"""A campaign with a canteen and a person, in the database, at a set time."""

import datetime as dt
from functools import cache

import sqlalchemy as sa

from jaxedge.foodwise.base import tables
from jaxedge.foodwise.campaign import actions, photos, weeks
from tests.foodwise.participants import (
    campaign,
    canteen,
    encoded,
    graded,
    person,
    picture,
)

MONDAY = dt.date(2026, 3, 2)
NOON = dt.datetime(2026, 3, 2, 4, tzinfo=dt.UTC)  # 12:00 in Hong Kong.
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
HOURS = [
    ("lunch", dt.time(11, 30), dt.time(14, 30)),
    ("dinner", dt.time(22), dt.time(2)),
]


@cache
def seen(seed=0):
    """A photo that was read."""
    return photos.read(encoded(picture(seed=seed)))


def shot(decision=0, quality="", seed=0):
    """One that is graded; its file is not looked for."""
    return actions.Shot(
        seen(seed), f"{seed:032x}.jpg", graded(decision, quality)
    )


class Scene:
    """A campaign of two weeks, a canteen, a person."""

    def __init__(self, session, hours=(), place=None, **rules):
        self.session = session
        self.campaign = campaign(session, MONDAY, MONDAY + 13 * DAY, **rules)
        self.canteen = canteen(session, hours=hours, **(place or {}))
        self.user = person(session)
        self.sent = 0

    def log(self, meal="lunch", kind="shared", at=NOON, shot=None, **more):
        self.sent += 1
        user = more.pop("user", self.user)
        guard = more.pop("guard", None)
        told = {"once": f"form {self.sent}", "canteen_id": self.canteen.id}
        told = actions.Told(meal=meal, kind=kind, **(told | more))
        return actions.log(
            self.session, user, self.campaign, told, at, shot, guard
        )

    def undo(self, action, at=NOON):
        return actions.undo(self.session, self.user, action.id, at)

    def points(self):
        return weeks.points(self.session, self.user.id, self.campaign.id)

    def rows(self):
        return [
            (row.points, row.reason)
            for row in self.session.scalars(
                sa.select(tables.PointsEntry).order_by(tables.PointsEntry.id)
            )
        ]
