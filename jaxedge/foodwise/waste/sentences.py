"""What the numbers say: a sentence a panel, made of the data alone.

No sentence tells a cause. What is not known is said to be unknown, and what was
not weighed is never taken for zero.
"""

from collections.abc import Callable, Sequence
import datetime as dt
import math

from jaxedge.foodwise.waste.series import Estimate, Interval, NoEstimate
from jaxedge.foodwise.waste.totals import Total

Say = Callable[..., str]


def number(value: float | int | None, digits: int = 0) -> str:
    """With commas between thousands; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}".replace("-", "−")


def mass(grams: float) -> str:
    """In the unit that reads best."""
    if abs(grams) >= 999_500:
        return f"{grams / 1e6:,.2f}\u00a0t"
    if abs(grams) >= 999.5:
        return f"{grams / 1e3:,.1f}\u00a0kg"
    return f"{grams:,.0f}\u00a0g"


def short(value: float) -> str:
    """Three digits that count."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return number(round(value, digits), max(digits, 0))


def date(day: dt.date, say: Say) -> str:
    """Such as 9 March 2026."""
    return say(
        "dashboard.date",
        day=day.day,
        month=say(f"dashboard.month.{day.month}"),
        number=day.month,
        year=day.year,
    )


def weekday(day: dt.date, say: Say) -> str:
    """Its name."""
    return say(f"weekday.{day.weekday()}")


def percent(part: float, whole: float) -> str:
    """A share; a dash of nothing."""
    return number(100 * part / whole, 1) if whole else "–"


def _join(say: Say, parts: Sequence[str]) -> str:
    return say("dashboard.between").join(part for part in parts if part)


def how_much(
    say: Say, now: Total | None, before: Total | None, monday: dt.date
) -> str:
    """Mass of the week, a diner's share, and how it was a week before."""
    week = date(monday, say)
    if now is None:
        return say("dashboard.say.nothing", week=week)
    parts = [
        say("dashboard.say.how_much", week=week, mass=mass(now.grams)),
    ]
    rate = now.per_diner
    if rate is None:
        parts.append(say("dashboard.say.no_diners"))
    elif before is None or not before.per_diner:
        parts.append(say("dashboard.say.rate", rate=number(rate, 1)))
    else:
        change = 100 * (rate / before.per_diner - 1)
        way = "same" if abs(change) < 0.05 else "less" if change < 0 else "more"
        parts.append(
            say(
                f"dashboard.say.rate_{way}",
                rate=number(rate, 1),
                change=number(abs(change), 1),
            )
        )
    return _join(say, parts)


def missing(say: Say, lacking: int, possible: int) -> str:
    """How many days of canteens nobody weighed; "" for none."""
    if not lacking:
        return ""
    return say("dashboard.say.missing", n=lacking, of=possible)


def where(
    say: Say,
    rates: Sequence[tuple[str, Interval]],
    silent: Sequence[str],
) -> str:
    """Canteens with the most and the least a diner.

    Args:
        say: tells texts.
        rates: name of a canteen and its grams a diner, the most first.
        silent: names of those that sent nothing this week.
    """
    parts = []
    if not rates:
        parts.append(say("dashboard.say.where_unknown"))
    elif len(rates) == 1:
        parts.append(
            say(
                "dashboard.say.where_one",
                name=rates[0][0],
                rate=number(rates[0][1].value, 1),
            )
        )
    else:
        (most, high), (least, low) = rates[0], rates[-1]
        parts.append(
            say(
                "dashboard.say.where",
                most=most,
                high=number(high.value, 1),
                least=least,
                low=number(low.value, 1),
            )
        )
        # A NaN is no proof of a difference either.
        if not high.low > low.high:
            parts.append(say("dashboard.say.where_overlap"))
    if silent:
        names = say("dashboard.comma").join(silent)
        parts.append(say("dashboard.say.where_silent", names=names))
    return _join(say, parts)


def when(say: Say, cells: Sequence[Total], empty: int) -> str:
    """The heaviest meal; of sums by day and meal."""
    if not cells:
        return say("dashboard.say.no_data")
    top = max(cells, key=lambda cell: cell.grams)
    whole = sum(cell.grams for cell in cells)
    day, meal = top.key
    parts = [
        say(
            "dashboard.say.when",
            meal=say(f"meal.{meal}"),
            weekday=weekday(day, say),
            mass=mass(top.grams),
            share=percent(top.grams, whole),
        )
    ]
    if empty:
        parts.append(say("dashboard.say.when_empty", n=empty))
    return _join(say, parts)


def what(say: Say, kinds: Sequence[tuple[str, int]]) -> str:
    """The category that weighs most; (category, grams), the most first."""
    whole = sum(grams for _, grams in kinds)
    if not whole:
        return say("dashboard.say.no_data")
    (top, grams), *others = kinds
    told = say(
        "dashboard.say.what",
        name=say(f"dashboard.category.{top}"),
        share=percent(grams, whole),
        mass=mass(grams),
    )
    if not others:
        return told
    second = say(
        "dashboard.say.what_next",
        name=say(f"dashboard.category.{others[0][0]}"),
        share=percent(others[0][1], whole),
    )
    unsorted = dict(kinds).get("mixed", 0)
    third = (
        say("dashboard.say.what_mixed", share=percent(unsorted, whole))
        if unsorted
        else ""
    )
    return _join(say, [told, second, third])


def means(say: Say, grams: int, first: tuple[float, str, str] | None) -> str:
    """What the week's mass compares to: value, unit and name."""
    if not grams:
        return say("dashboard.say.no_data")
    if first is None:
        return say("dashboard.say.no_equivalents")
    value, unit, name = first
    return say(
        "dashboard.say.means",
        mass=mass(grams),
        value=short(value),
        unit=unit,
        name=name,
    )


def did(say: Say, actions: int, found: Estimate | NoEstimate | None) -> str:
    """Actions of the campaign, and what changed while it ran."""
    if found is None:
        return say("dashboard.say.no_campaign")
    logged = say("dashboard.say.actions", n=number(actions))
    if isinstance(found, NoEstimate):
        reason = say(
            f"dashboard.say.no_estimate_{found.reason}",
            before=found.before,
            during=found.during,
            least=found.least,
        )
        return _join(say, [logged, reason])
    mean = found.mean
    fields = {
        "value": number(abs(mean.value), 1),
        "low": number(mean.low, 1),
        "high": number(mean.high, 1),
    }
    if mean.low <= 0 <= mean.high:
        told = say("dashboard.say.estimate_none", **fields)
    else:
        way = "less" if mean.value < 0 else "more"
        told = say(f"dashboard.say.estimate_{way}", **fields)
    return _join(say, [logged, told, say("dashboard.say.no_cause")])


def turn(say: Say, name: str | None, people: int, over: bool) -> str:
    """How many take part, and an invitation."""
    if name is None:
        return say("dashboard.say.turn_none")
    key = "dashboard.say.turn_over" if over else "dashboard.say.turn"
    return say(key, name=name, n=number(people))


__all__ = [
    "date",
    "did",
    "how_much",
    "mass",
    "means",
    "missing",
    "number",
    "percent",
    "short",
    "turn",
    "weekday",
    "what",
    "when",
    "where",
]
