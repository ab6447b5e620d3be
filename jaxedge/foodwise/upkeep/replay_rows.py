"""Rows of the made-up campaign: places, people, actions, points, weigh-ins."""

import datetime as dt
import hashlib
import secrets
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import rules, security
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    CanteenManager,
    Consent,
    Grade,
    ImportBatch,
    MealPeriod,
    Membership,
    Photo,
    PointsEntry,
    Team,
    User,
    WasteRecord,
)
from jaxedge.foodwise.campaign import draws
from jaxedge.foodwise.upkeep import demo

NAME, NEXT = "Clean plates (demo)", "Clean plates, second round (demo)"
TEAMS = (
    "Sparrows",
    "Kingfishers",
    "Egrets",
    "Bulbuls",
    "Mynas",
    "Swifts",
    "Herons",
    "Magpies",
    "Kites",
    "Terns",
)
STAFF = (
    ("demo-admin", "admin"),
    ("demo-manager", "manager"),
    ("demo-reviewer", "reviewer"),
    ("demo-001", "participant"),
)
WAITING = 12  # Photos in review.
SIDE = 384  # Pixels of a picture.
SEED = "demo"  # Of the draw, which is no secret here.
_DAY = dt.timedelta(days=1)
_KINDS = (0.34, 0.28, 0.14, 0.16, 0.08)  # How often each of rules.KINDS.
# A picture, its file's name and its features.
Kept = tuple[Any, str, list[float]]


class Loader:
    """Writes the rows; one method a part, in order.

    Attributes:
        counted: actions that count, once they are logged.
    """

    def __init__(
        self, session: Session, rng: np.random.Generator, starts: dt.date
    ) -> None:
        self._session, self._rng, self._starts = session, rng, starts
        self._rules = rules.Rules()
        self._zone = ZoneInfo(self._rules.zone)
        self._canteens: list[int] = []
        self._people: list[int] = []
        self.counted = 0
        first = Campaign(
            name=NAME,
            starts=starts,
            ends=starts + (demo.DAYS - 1) * _DAY,
            synthetic=True,
            commitment=draws.commitment(SEED),
            committed_at=self._moment(starts, dt.time(12)),
        )
        again = starts + (demo.DAYS + 7 * demo.AFTER) * _DAY
        second = Campaign(
            name=NEXT, starts=again, ends=again + 27 * _DAY, synthetic=True
        )
        session.add_all([first, second])
        session.flush()
        self._campaign = first.id

    def places(self) -> None:
        """Canteens and their hours."""
        made = [
            Canteen(slug=p.slug, name=p.name, name_zh=p.name_zh)
            for p in demo.PLACES
        ]
        self._session.add_all(made)
        self._session.flush()
        self._canteens = [canteen.id for canteen in made]
        self._session.add_all(
            MealPeriod(
                canteen_id=number,
                meal=meal,
                opens=demo.HOURS[meal][0],
                closes=demo.HOURS[meal][1],
            )
            for number, place in zip(self._canteens, demo.PLACES, strict=True)
            for meal in place.meals
        )

    def people(self, hashes: dict[str, str], nobody: str) -> None:
        """Participants with consent and teams, and staff."""
        rng = self._rng
        before = self._moment(self._starts - _DAY, dt.time(12))
        users = [
            User(
                pseudonym=f"demo-{i:03d}",
                password_hash=hashes.get(f"demo-{i:03d}", nobody),
                language="zh-Hant" if rng.random() < 0.4 else "en",
                leaderboard=bool(rng.random() < 0.5),
                created_at=before,
            )
            for i in range(1, demo.PEOPLE + 1)
        ]
        staff = [
            User(
                pseudonym=name,
                password_hash=hashes[name],
                role=role,
                trusted=role == "reviewer",
                created_at=before,
            )
            for name, role in STAFF
            if role != "participant"
        ]
        teams = [
            Team(
                campaign_id=self._campaign,
                name=name,
                code=secrets.token_hex(4).upper(),
            )
            for name in TEAMS
        ]
        self._session.add_all([*users, *staff, *teams])
        self._session.flush()
        self._people = [user.id for user in users]
        self._session.add_all(
            Consent(user_id=user.id, version=CONSENT, given_at=before)
            for user in users
        )
        self._session.add_all(
            Membership(
                user_id=user.id,
                campaign_id=self._campaign,
                team_id=teams[int(rng.integers(len(teams)))].id,
                joined_at=before,
            )
            for user in users
            if rng.random() < 0.8
        )
        manager = next(user for user in staff if user.role == "manager")
        self._session.add_all(
            CanteenManager(user_id=manager.id, canteen_id=number)
            for number in self._canteens[:3]
        )

    def _moment(self, day: dt.date, clock: dt.time) -> dt.datetime:
        return dt.datetime.combine(day, clock, self._zone)

    def log(self, pictures: list[Kept]) -> None:
        """Actions and their points, at most those that the rules allow."""
        # Some take part every day, most now and then.
        often_P = self._rng.beta(1.2, 2.2, len(self._people))
        plan: list[tuple[dt.datetime, int, int, str]] = []
        for i in range(demo.DAYS):
            day = self._starts + i * _DAY
            for person, often in zip(self._people, often_P, strict=True):
                if self._rng.random() < often * (
                    0.5 if day.weekday() > 4 else 1
                ):
                    plan += self._meals_of(person, day)
        plan.sort()
        actions = [self._action(n, *row) for n, row in enumerate(plan)]
        clean = [a for a in actions if a["kind"] == "clean_plate"]
        places = self._rng.permutation(len(clean))[: len(pictures)]
        with_file = dict(zip(places.tolist(), pictures, strict=True))
        waiting = set(places[:WAITING].tolist())
        shots: list[dict[str, Any]] = []
        for n, action in enumerate(clean):
            waits = n in waiting
            if waits:
                action |= {"state": "review", "reason": "unsure"}
            shots.append(self._shot(action, with_file.get(n), waits))
        self._session.execute(sa.insert(Action), actions)
        found = self._session.execute(
            sa.select(Action.once, Action.id).where(
                Action.campaign_id == self._campaign
            )
        )
        numbers = {once: number for once, number in found}
        self._keep_photos(shots, numbers)
        self._give_points(actions, shots, numbers)
        self.counted = sum(a["state"] == "counted" for a in actions)
        if self.counted < demo.LEAST_ACTIONS:  # Far below what seeds draw.
            raise checks.UsageError(
                f"the seed makes {self.counted} actions, fewer than"
                f" {demo.LEAST_ACTIONS}; choose another."
            )

    def _meals_of(
        self, person: int, day: dt.date
    ) -> list[tuple[dt.datetime, int, int, str]]:
        """One action at one or two meals of a day."""
        rng = self._rng
        count = 1 + int(rng.random() < 0.25)
        found = []
        for meal in rng.permutation(["lunch", "dinner", "breakfast"])[:count]:
            serving = [
                index
                for index, place in enumerate(demo.PLACES)
                if meal in place.meals and (place.sundays or day.weekday() != 6)
            ]
            shares = np.array([demo.PLACES[i].share for i in serving])
            place = int(rng.choice(serving, p=shares / shares.sum()))
            opens, closes = demo.HOURS[str(meal)]
            first, last = (60 * t.hour + t.minute for t in (opens, closes))
            minute = int(rng.integers(first + 5, last - 5))
            clock = dt.time(minute // 60, minute % 60, int(rng.integers(60)))
            found.append((self._moment(day, clock), person, place, str(meal)))
        return found

    def _action(
        self, n: int, at: dt.datetime, person: int, place: int, meal: str
    ) -> dict[str, Any]:
        kind = rules.KINDS[int(self._rng.choice(len(_KINDS), p=_KINDS))]
        undone = kind != "clean_plate" and self._rng.random() < 0.02
        return {
            "user_id": person,
            "campaign_id": self._campaign,
            "canteen_id": self._canteens[place],
            "day": rules.day_of(at, self._rules),
            "meal": meal,
            "kind": kind,
            "note": "",
            "at": at,
            "state": "undone" if undone else "counted",
            "reason": "",
            "once": security.hashed(f"replay {self._campaign} {n}"),
        }

    def _shot(
        self, action: dict[str, Any], kept: Kept | None, waits: bool
    ) -> dict[str, Any]:
        """A photo and its made-up grade; most files have gone already."""
        rng = self._rng
        # Of some that count people were surer than the network.
        level = None if waits or rng.random() < 0.15 else 0
        alpha = np.array([1.2, 1.1, 1.0]) + rng.random(3)
        if level is not None:
            alpha[level] += rng.uniform(8, 30)
        picture = kept[0] if kept else None
        return {
            "once": action["once"],
            "clean": level == 0,
            "photo": {
                "user_id": action["user_id"],
                "sha256": picture.sha256 if picture else rng.bytes(32).hex(),
                "phash": picture.phash if picture else rng.bytes(32).hex(),
                "width": SIDE,
                "height": SIDE,
                "file": kept[1] if kept else rng.bytes(16).hex() + ".jpg",
                "features": kept[2] if kept else [],
                "at": action["at"],
                "deleted_at": None if kept else action["at"] + _DAY,
            },
            "grade": {
                "model_version": demo.SOURCE,
                "device_draw": 0,
                "alpha": [round(float(a), 4) for a in alpha],
                "u": round(float(3 / alpha.sum()), 6),
                "decision": level,
                "quality": "",
                "at": action["at"],
            },
        }

    def _keep_photos(
        self, shots: list[dict[str, Any]], numbers: dict[str, int]
    ) -> None:
        self._session.execute(
            sa.insert(Photo),
            [s["photo"] | {"action_id": numbers[s["once"]]} for s in shots],
        )
        rows = self._session.execute(
            sa.select(Photo.action_id, Photo.id).where(
                Photo.action_id.in_(numbers[s["once"]] for s in shots)
            )
        )
        ids = {action: photo for action, photo in rows}
        self._session.execute(
            sa.insert(Grade),
            [s["grade"] | {"photo_id": ids[numbers[s["once"]]]} for s in shots],
        )

    def _give_points(
        self,
        actions: list[dict[str, Any]],
        shots: list[dict[str, Any]],
        numbers: dict[str, int],
    ) -> None:
        clean = {shot["once"] for shot in shots if shot["clean"]}
        earlier: dict[int, list[rules.Logged]] = {}
        rows = []

        def add(action: dict[str, Any], points: int, why: str) -> None:
            late = dt.timedelta(minutes=3 * (why == "undo"))
            rows.append(
                {
                    "user_id": action["user_id"],
                    "campaign_id": self._campaign,
                    "action_id": numbers[action["once"]],
                    "points": points,
                    "reason": why,
                    "at": action["at"] + late,
                }
            )

        for action in actions:
            if action["state"] == "review":
                continue
            logged = rules.Logged(action["day"], action["meal"])
            own = earlier.setdefault(action["user_id"], [])
            worth, why = rules.worth(own, logged, self._rules)
            assert worth and not why  # The plan keeps to the rules.
            add(action, worth, "action")
            if action["state"] == "undone":
                add(action, -worth, "undo")
                continue
            own.append(logged)
            if action["once"] in clean:
                add(action, self._rules.verified, "verified")
        self._session.execute(sa.insert(PointsEntry), rows)

    def weigh(self, meals: list[demo.Meal], seed: int) -> tuple[int, int]:
        """Weigh-ins; returns how many and their grams."""
        rows = [
            {
                "canteen_id": self._canteens[meal.place],
                "day": meal.day,
                "meal": meal.meal,
                "category": category,
                "grams": grams,
                "diners": meal.diners,
                "source": demo.SOURCE,
            }
            for meal in meals
            for category, grams in zip(demo.CATEGORIES, meal.grams, strict=True)
        ]
        batch = ImportBatch(
            sha256=hashlib.sha256(f"replay {seed}".encode()).hexdigest(),
            source=demo.SOURCE,
            added=len(rows),
            same=0,
            bad=0,
            report=[],
        )
        self._session.add(batch)
        self._session.flush()
        for row in rows:
            row["batch_id"] = batch.id
        self._session.execute(sa.insert(WasteRecord), rows)
        return len(rows), sum(row["grams"] for row in rows)


__all__ = ["Kept", "Loader", "NAME", "NEXT", "SIDE", "STAFF"]
