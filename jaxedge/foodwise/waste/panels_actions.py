"""Panels of what people did, and of what changed meanwhile."""

from collections.abc import Sequence
import datetime as dt
from typing import Any, NamedTuple

from jaxedge.foodwise.base.tables import Campaign
from jaxedge.foodwise.waste import charts, sentences, series, totals
from jaxedge.foodwise.waste.panels import Asked, Column, Panel
from jaxedge.foodwise.waste.totals import Span, Total

BASELINE = 8 * totals.WEEK  # Before a campaign, that its line rests on.
AFTER = totals.WEEK  # After a campaign, still shown.
_DAY = dt.timedelta(days=1)


class Change(NamedTuple):
    """What was weighed around a campaign.

    Attributes:
        campaign: which.
        span: days that are shown.
        days: sums of those that were weighed.
        found: what changed with its start.
    """

    campaign: Campaign
    span: Span
    days: dict[dt.date, Total]
    found: series.Estimate | series.NoEstimate


def changed(asked: Asked, campaign: Campaign | None) -> Change | None:
    """Sums of the days around a campaign, and what changed with it."""
    if campaign is None:
        return None
    span = Span(
        campaign.starts - BASELINE, min(campaign.ends + AFTER, asked.today)
    )
    days = {
        total.key[0]: total
        for total in totals.waste(asked.session, span, ("day",))
    }
    known = [day for day in days.values() if day.per_diner is not None]
    found = series.interrupted(
        [day.key[0] for day in known],
        [day.per_diner or 0.0 for day in known],
        campaign.starts,
        campaign.ends,
    )
    return Change(campaign, span, days, found)


def did(asked: Asked, change: Change | None) -> Panel:
    """Actions by day beside what was thrown away."""
    columns = (
        Column("day", "day"),
        Column("campaign", "yes"),
        Column("grams", "grams"),
        Column("diners", "count"),
        Column("per_diner", "rate"),
        Column("actions", "count"),
        Column("fit", "rate"),
        Column("without", "rate"),
        Column("low", "rate"),
        Column("high", "rate"),
    )
    if change is None:
        told = sentences.did(asked.say, 0, None)
        return Panel("actions", told, columns, [], [])
    campaign, span, days, found = change
    done = totals.actions_by_day(asked.session, span, campaign.id)
    fitted = (
        {point.day: point for point in found.points}
        if isinstance(found, series.Estimate)
        else {}
    )
    rows = []
    for day in sorted({*days, *done}):
        total, point = days.get(day), fitted.get(day)
        rows.append(
            (
                day,
                campaign.starts <= day <= campaign.ends,
                total.grams if total else None,
                (total.diners or None) if total else None,
                total.per_diner if total else None,
                done.get(day, 0),
                *((point.fit, *point.without) if point else (None,) * 4),
            )
        )
    told = sentences.did(asked.say, sum(done.values()), found)
    return Panel("actions", told, columns, rows, _daily(asked, rows, campaign))


def _daily(
    asked: Asked, rows: Sequence[tuple[Any, ...]], campaign: Campaign
) -> list[dict[str, Any]]:
    if not rows:
        return []
    marks = [
        {
            "day": day.isoformat(),
            "noon": f"{day.isoformat()}T12:00:00Z",
            "until": (day + _DAY).isoformat(),
            "label": sentences.date(day, asked.say),
            "grams": grams,
            "per_diner": rate,
            "shown": sentences.number(rate, 1) + " g",
            "actions": actions,
            "fit": fit,
            "without": without,
            "low": low,
            "high": high,
        }
        for day, _, grams, _, rate, actions, fit, without, low, high in rows
    ]
    band = {
        "starts": campaign.starts.isoformat(),
        "until": (min(campaign.ends, rows[-1][0]) + _DAY).isoformat(),
        "name": asked.say("dashboard.chart.campaign"),
    }
    return [
        charts.daily_rate(marks, band, asked.say),
        charts.daily_actions(marks, band, asked.say),
    ]


def turn(asked: Asked, change: Change | None) -> Panel:
    """Who takes part, by what they do."""
    columns = (Column("action", "action"), Column("number", "count"))
    if change is None:
        told = sentences.turn(asked.say, None, 0, True)
        return Panel("your-turn", told, columns, [], [])
    campaign = change.campaign
    rows = totals.actions_by_kind(asked.session, campaign.id)
    marks = [
        {
            "label": asked.say(f"kind.{kind}"),
            "value": count,
            "low": None,
            "high": None,
            "shown": sentences.number(count),
        }
        for kind, count in rows
    ]
    spec = charts.bars(
        marks,
        asked.say,
        axis=asked.say("dashboard.axis.actions"),
        description=asked.say("dashboard.chart.kinds"),
        interval=False,
    )
    told = sentences.turn(
        asked.say,
        campaign.name,
        totals.people(asked.session, campaign.id),
        campaign.ends < asked.today,
    )
    return Panel("your-turn", told, columns, [*rows], [spec] if rows else [])


__all__ = ["AFTER", "BASELINE", "Change", "changed", "did", "turn"]
