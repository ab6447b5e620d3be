"""Days, points, streaks, draws and votes, against what they are meant to be."""

import datetime as dt
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from jaxedge.core import checks
from jaxedge.foodwise.base import rules

pytestmark = pytest.mark.physics

RULES = rules.Rules()
BERLIN = rules.Rules(zone="Europe/Berlin")
START = dt.date(2026, 3, 2)  # A Monday.
DAYS = st.integers(0, 20).map(lambda n: START + dt.timedelta(days=n))


def utc(day, hour, minute=0):
    return dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)


@pytest.mark.parametrize(
    "day, begins, ends",
    [
        # Berlin is an hour before UTC in winter and two in summer: clocks
        # change on 29 March (a day of 23 hours) and 25 October 2026 (of 25).
        (dt.date(2026, 3, 27), 3, 3),
        (dt.date(2026, 3, 28), 3, 2),
        (dt.date(2026, 3, 29), 2, 2),
        (dt.date(2026, 10, 24), 2, 3),
        (dt.date(2026, 10, 25), 3, 3),
    ],
)
def test_a_day_begins_at_four_whatever_clocks_do(day, begins, ends):
    second = dt.timedelta(seconds=1)
    start = utc(day, begins)
    end = utc(day + dt.timedelta(days=1), ends)
    assert rules.day_of(start, BERLIN) == day
    assert rules.day_of(start - second, BERLIN) == day - dt.timedelta(days=1)
    assert rules.day_of(end - second, BERLIN) == day
    assert rules.day_of(end, BERLIN) == day + dt.timedelta(days=1)


@given(st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2035, 1, 1)))
def test_hong_kong_days_are_four_hours_before_noon_in_utc(moment):
    # UTC+8 without summer time: its 04:00 is 20:00 of the day before.
    shifted = (moment + dt.timedelta(hours=4)).date()
    assert rules.day_of(moment.replace(tzinfo=dt.UTC), RULES) == shifted


@given(
    st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2026, 12, 31)),
    st.integers(0, 5 * 86400),
)
def test_days_never_run_backwards(moment, seconds):
    earlier = moment.replace(tzinfo=dt.UTC)
    later = earlier + dt.timedelta(seconds=seconds)
    assert rules.day_of(earlier, BERLIN) <= rules.day_of(later, BERLIN)


def test_a_time_without_a_zone_is_an_error():
    with pytest.raises(checks.UsageError, match="no time zone"):
        rules.day_of(dt.datetime(2026, 3, 2), RULES)


@given(
    st.lists(st.tuples(DAYS, st.sampled_from(rules.MEALS)), max_size=30),
    st.integers(1, 4),
    st.integers(1, 2),
)
def test_no_day_and_no_meal_gives_more_than_its_limit(acts, day_cap, meal_cap):
    kept = rules.Rules(most_a_day=day_cap, most_a_meal=meal_cap)
    held = []
    for act in itertools.starmap(rules.Logged, acts):
        points, why = rules.worth(held, act, kept)
        assert (points == 0) == bool(why)
        if points:
            held.append(act)
    for day in {act.day for act in held}:
        of_day = [act.meal for act in held if act.day == day]
        assert len(of_day) <= day_cap
        assert max(of_day.count(meal) for meal in of_day) <= meal_cap
        # And none is refused that the limits would let in.
        wanted = [meal for other, meal in acts if other == day]
        possible = sum(
            min(wanted.count(meal), meal_cap) for meal in set(wanted)
        )
        assert len(of_day) == min(possible, day_cap)


def forward(active, repaired, today, start, kept):
    """A streak by walking with the calendar, not against it."""
    days, missed = 0, None
    for n in range((today - start).days + 1):
        day = start + dt.timedelta(days=n)
        if day in active or day in repaired:
            days += 1
        elif day != today and day.weekday() not in kept.rest_days:
            days, missed = 0, day
    return days, missed


@given(st.sets(DAYS), st.sets(DAYS, max_size=2), DAYS)
def test_a_streak_is_the_days_since_the_last_missed_one(active, fixed, today):
    found = rules.streak(active, fixed, today, START, RULES)
    assert found[:2] == forward(active, fixed, today, START, RULES)
    assert found.today == (today in active | fixed)


@given(st.sets(DAYS), DAYS)
def test_rest_days_never_break_a_streak(active, today):
    rest = {day for day in active if day.weekday() in RULES.rest_days}
    found = rules.streak(active, (), today, START, RULES)
    without = rules.streak(active - rest, (), today, START, RULES)
    assert without.missed == found.missed
    since = found.missed or START
    lost = sum(since <= day <= today for day in rest)
    assert without.days == found.days - lost


@given(st.sets(DAYS), DAYS)
def test_repairing_the_missed_day_joins_both_streaks(active, today):
    found = rules.streak(active, (), today, START, RULES)
    if found.missed is None:
        return
    before = rules.streak(active, (), found.missed, START, RULES)
    joined = rules.streak(active, [found.missed], today, START, RULES)
    assert joined.days == before.days + 1 + found.days


@pytest.mark.parametrize(
    "day, repaired, expected",
    [
        (4, (), ""),
        (4, (2, 3), "used"),
        (10, (), "future"),
        (11, (), "future"),
        (2, (), "old"),
        (3, (), ""),
        (5, (), "whole"),  # A Saturday.
        (8, (), "whole"),  # Active.
        (9, (9,), "whole"),
    ],
)
def test_which_days_are_repaired(day, repaired, expected):
    at = [START + dt.timedelta(days=n) for n in range(20)]
    fixed = [at[n] for n in repaired]
    assert rules.may_repair(at[day], at[10], [at[8]], fixed, RULES) == expected


TICKETS = st.dictionaries(st.integers(1, 50), st.integers(0, 10), max_size=12)


@given(TICKETS, st.integers(1, 15), st.text(max_size=8), st.randoms())
def test_a_draw_is_the_same_in_whatever_order(tickets, prizes, seed, chance):
    drawn = rules.draw(tickets, prizes, seed)
    shuffled = list(tickets.items())
    chance.shuffle(shuffled)
    assert rules.draw(dict(shuffled), prizes, seed) == drawn
    assert len(set(drawn)) == len(drawn)
    holders = {who for who, n in tickets.items() if n}
    assert set(drawn) <= holders
    assert len(drawn) == min(prizes, len(holders))


def test_a_draw_is_by_tickets():
    n = 3000
    first = [rules.draw({1: 9, 2: 1}, 1, str(k))[0] for k in range(n)]
    # Binomial with p = 0.9: five standard deviations of the share.
    assert abs(first.count(1) / n - 0.9) < 5 * (0.9 * 0.1 / n) ** 0.5


@given(st.integers(0, 100))
def test_tickets_are_active_days_up_to_ten(days):
    assert rules.tickets(days, RULES) == min(10, days)


@pytest.mark.parametrize(
    "votes, trusted, expected",
    [
        ([], [], (None, "")),
        ([0, 0], [], (None, "")),
        ([0, 0, 0], [], (0, "votes")),
        ([0, 1, 0, 0], [], (0, "votes")),
        ([0, 1, 2], [], (None, "")),
        ([0, 1, 1, 0], [], (None, "split")),
        ([0, 1, 1, 0, 1], [], (None, "split")),
        ([-1, -1, -1], [], (None, "")),
        ([0, 0, 2], [2], (2, "trusted")),
        ([0, 0, 0, 2], [2], (2, "trusted")),
        ([1, 2], [1, 2], (1, "trusted")),
        ([-1, 2], [-1, 2], (2, "trusted")),
        ([0, 0, 0, -1], [-1], (0, "votes")),
    ],
)
def test_what_votes_decide(votes, trusted, expected):
    assert rules.decide(votes, trusted, RULES) == expected


@given(st.lists(st.sampled_from([-1, 0, 1, 2]), max_size=8), st.randoms())
def test_votes_count_the_same_in_whatever_order(votes, chance):
    found = rules.decide(votes, [], RULES)
    mixed = list(votes)
    chance.shuffle(mixed)
    assert rules.decide(mixed, [], RULES) == found


@settings(max_examples=20)
@given(st.permutations(list(rules.CLASSES)))
def test_votes_favour_no_class(order):
    for k, _ in enumerate(order):
        assert rules.decide([k] * 3, [], RULES) == (k, "votes")


@pytest.mark.parametrize(
    "given, said",
    [
        ({"pionts": 3}, "Did you mean 'points'"),
        ({"points": -1}, "rules.points is -1"),
        ({"most_a_day": 0}, "rules.most_a_day is 0"),
        ({"day_starts": 24}, "rules.day_starts is 24"),
        ({"rest_days": [7]}, "rules.rest_days is 7"),
        ({"zone": "Moon/Crater"}, "no time zone is named"),
    ],
)
def test_wrong_rules_are_told(given, said):
    with pytest.raises(checks.UsageError, match=said):
        rules.read(given)


def test_rules_of_a_campaign_are_the_defaults_but_for_what_is_said():
    kept = rules.read({"points": 7, "rest_days": [4]})
    assert kept == rules.Rules(points=7, rest_days=(4,))
