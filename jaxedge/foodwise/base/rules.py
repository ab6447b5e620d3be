"""The rules of a campaign: days, points, streaks, rewards, votes.

Pure functions of plain values. How the paper's campaign rewarded its members is
unknown; these rules are ours, and each is a field of `Rules`, which a campaign
keeps as JSON.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import datetime as dt
import random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from jaxedge.core import checks

KINDS = ("clean_plate", "asked_less", "shared", "took_home", "own_idea")
MEALS = ("breakfast", "lunch", "tea", "dinner")
CLASSES = ("clean", "some", "lots")
SKIP = -1  # A vote that leaves the photo to others.


@dataclasses.dataclass(frozen=True)
class Rules:
    """What an action is worth, and when; all of it our choice.

    Attributes:
        points: of an action.
        verified: more points for a photo that is graded "clean".
        most_a_day: actions that count on one day.
        most_a_meal: actions that count at one meal.
        undo_minutes: within which an action is taken back.
        repairs: broken days of a streak that a campaign forgives a person.
        repair_days: how old the day may be that is repaired.
        day_starts: hour of the local clock at which a day begins.
        rest_days: weekdays, Monday is 0, that never break a streak.
        most_tickets: in the draw, one for each active day up to this.
        votes: equal votes that decide about a photo.
        against: votes on each of two sides that leave it undecided for good.
        photo_days: how long a photo is kept.
        qr_seconds: how long a canteen's code is valid.
        zone: of the local clock.
    """

    points: int = 10
    verified: int = 5
    most_a_day: int = 3
    most_a_meal: int = 1
    undo_minutes: int = 10
    repairs: int = 2
    repair_days: int = 7
    day_starts: int = 4
    rest_days: tuple[int, ...] = (5, 6)
    most_tickets: int = 10
    votes: int = 3
    against: int = 2
    photo_days: int = 30
    qr_seconds: int = 60
    zone: str = "Asia/Hong_Kong"

    def __post_init__(self) -> None:
        for name in ("points", "verified", "repairs", "repair_days"):
            checks.in_range(f"rules.{name}", getattr(self, name), 0)
        for name in (
            "most_a_day",
            "most_a_meal",
            "undo_minutes",
            "most_tickets",
            "votes",
            "against",
            "photo_days",
            "qr_seconds",
        ):
            checks.in_range(f"rules.{name}", getattr(self, name), 1)
        checks.in_range("rules.day_starts", self.day_starts, 0, 23)
        for day in self.rest_days:
            checks.in_range("rules.rest_days", day, 0, 6)
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise checks.UsageError(
                f"rules.zone is {self.zone!r}, which no time zone is named;"
                " for example Asia/Hong_Kong."
            ) from None


def read(given: Mapping[str, Any]) -> Rules:
    """Rules of a campaign's JSON; raises UsageError for an unknown field."""
    known = [field.name for field in dataclasses.fields(Rules)]
    for name in given:
        if name not in known:
            raise checks.unknown("rule of a campaign", name, known)
    values = dict(given)
    if "rest_days" in values:
        values["rest_days"] = tuple(values["rest_days"])
    return Rules(**values)


def day_of(moment: dt.datetime, rules: Rules) -> dt.date:
    """The campaign's day that a moment belongs to.

    Args:
        moment: with its time zone.
        rules: when a day begins, by the local clock: also on days on which
            clocks change.
    """
    if moment.tzinfo is None:
        raise checks.UsageError(f"the time {moment} has no time zone.")
    local = moment.astimezone(ZoneInfo(rules.zone))
    before = local.hour < rules.day_starts
    return local.date() - dt.timedelta(days=int(before))


def monday(day: dt.date) -> dt.date:
    """First day of its week."""
    return day - dt.timedelta(days=day.weekday())


class Logged(NamedTuple):
    """What rules need to know of an action."""

    day: dt.date
    meal: str


def worth(
    earlier: Iterable[Logged], action: Logged, rules: Rules
) -> tuple[int, str]:
    """Points of an action, and why there are none.

    Args:
        earlier: the person's actions that count.
        action: the new one.
        rules: of the campaign.

    Returns:
        Points, and "" or the rule that was reached, "day" or "meal".
    """
    same = [a for a in earlier if a.day == action.day]
    if len(same) >= rules.most_a_day:
        return 0, "day"
    if sum(a.meal == action.meal for a in same) >= rules.most_a_meal:
        return 0, "meal"
    return rules.points, ""


class Streak(NamedTuple):
    """Days in a row.

    Attributes:
        days: active or repaired days that no missed day parts.
        missed: the latest day that ended a streak, None for none.
        today: whether today is active.
    """

    days: int
    missed: dt.date | None
    today: bool


def streak(
    active: Collection[dt.date],
    repaired: Collection[dt.date],
    today: dt.date,
    start: dt.date,
    rules: Rules,
) -> Streak:
    """How long a person has kept at it.

    Rest days count when they are active and break nothing when they are not;
    today breaks nothing yet.

    Args:
        active: days with at least one action.
        repaired: days that were forgiven.
        today: in the campaign's days.
        start: first day of the campaign.
        rules: of the campaign.
    """
    kept = {*active, *repaired}
    days, day = 0, today
    while day >= start:
        if day in kept:
            days += 1
        elif day != today and day.weekday() not in rules.rest_days:
            return Streak(days, day, today in kept)
        day -= dt.timedelta(days=1)
    return Streak(days, None, today in kept)


def may_repair(
    day: dt.date,
    today: dt.date,
    active: Collection[dt.date],
    repaired: Collection[dt.date],
    rules: Rules,
) -> str:
    """Why a day cannot be repaired, or "".

    Returns:
        "used", "future", "old", "whole" or "".
    """
    if len(repaired) >= rules.repairs:
        return "used"
    if day >= today:
        return "future"
    if (today - day).days > rules.repair_days:
        return "old"
    if day in active or day in repaired or day.weekday() in rules.rest_days:
        return "whole"
    return ""


def tickets(active_days: int, rules: Rules) -> int:
    """Tickets in the draw."""
    return min(rules.most_tickets, active_days)


def draw(
    tickets_by_person: Mapping[int, int], prizes: int, seed: str
) -> list[int]:
    """Who wins: drawn by tickets, a person once, by a seed that is published.

    Args:
        tickets_by_person: none drawn without a ticket.
        prizes: how many are drawn, or all if there are fewer.
        seed: any text. The same seed and tickets draw the same persons, in
            whatever order they are given.

    Returns:
        Persons in the order in which they were drawn.
    """
    checks.in_range("prizes", prizes, 1)
    left = {p: n for p, n in sorted(tickets_by_person.items()) if n > 0}
    chance = random.Random(seed)
    drawn = []
    while left and len(drawn) < prizes:
        (person,) = chance.choices([*left], weights=[*left.values()])
        drawn.append(person)
        del left[person]
    return drawn


class Verdict(NamedTuple):
    """What votes say of a photo.

    Attributes:
        label: index in `CLASSES`, or None.
        how: "trusted", "votes", "split" for never, "" for not yet.
    """

    label: int | None
    how: str


def decide(
    votes: Sequence[int], trusted: Sequence[int], rules: Rules
) -> Verdict:
    """What a photo shows, by votes; the policy of Open Food Facts' Robotoff.

    Args:
        votes: of everybody, indices in `CLASSES` or `SKIP`.
        trusted: those of trusted reviewers among them, the earliest first: one
            decides alone.
        rules: of the campaign.
    """
    said = [vote for vote in trusted if vote != SKIP]
    if said:
        return Verdict(said[0], "trusted")
    counts = sorted(
        ((votes.count(k), k) for k in range(len(CLASSES))), reverse=True
    )
    (most, label), (second, _) = counts[0], counts[1]
    if most >= rules.against and second >= rules.against:
        return Verdict(None, "split")
    if most >= rules.votes:
        return Verdict(label, "votes")
    return Verdict(None, "")


__all__ = [
    "CLASSES",
    "KINDS",
    "Logged",
    "MEALS",
    "Rules",
    "SKIP",
    "Streak",
    "Verdict",
    "day_of",
    "decide",
    "draw",
    "may_repair",
    "monday",
    "read",
    "streak",
    "tickets",
    "worth",
]
