"""The dashboard's story: seven panels of one week, in order."""

from collections.abc import Callable
import datetime as dt
from functools import partial
import threading
import time
from typing import Any, NamedTuple
import weakref

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base import rules, words
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import Canteen
from jaxedge.foodwise.campaign import choices
from jaxedge.foodwise.waste import (
    panels,
    panels_actions,
    sentences,
    sheets,
    totals,
)
from jaxedge.foodwise.waste.panels import Asked, Panel
from jaxedge.foodwise.waste.totals import Span

NAMES = (
    "how-much",
    "where",
    "when",
    "what",
    "meaning",
    "actions",
    "your-turn",
)
_MOST_KEPT = 256  # More than two years in two languages.
_SECONDS = 600.0


class NoWeek(Refused):
    """A week of which nothing is known."""

    status = 404


class Told(NamedTuple):
    """A panel as the page shows it.

    Attributes:
        cells: texts of the table, row by row.
        charts: description, caption or "", and specification as JSON that is
            safe within a page.
    """

    cells: list[list[str]]
    charts: list[tuple[str, str, Markup]]


class Story(NamedTuple):
    """All of it.

    Attributes:
        panels: by name, in order.
        told: the same as texts.
        week: that it is about.
        weeks: Mondays to choose from, the latest first.
        synthetic: whether anything in it was made up.
        missing: a sentence on what nobody weighed, or "".
        names: slug -> name of a canteen.
        empty: whether there is no weigh-in at all.
    """

    panels: dict[str, Panel]
    told: dict[str, Told]
    week: Span
    weeks: list[dt.date]
    synthetic: bool
    missing: str
    names: dict[str, str]
    empty: bool


class _Waste(NamedTuple):
    """What does not change with an action that somebody logs."""

    story: Story
    change: panels_actions.Change | None


class _Edition(NamedTuple):
    """Stories of the same data.

    Attributes:
        version: of the data.
        weeks: Mondays to choose from, the latest first.
        waste: by Monday and language.
    """

    version: Any
    weeks: list[dt.date]
    waste: dict[tuple[dt.date, str], _Waste]


class _Kept:
    """The edition of a database; one story is made at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.edition = _Edition(None, [], {})


_KEPT: "weakref.WeakKeyDictionary[Database, _Kept]" = (
    weakref.WeakKeyDictionary()
)
_LOCK = threading.Lock()


def story(
    database: Database, wanted: dt.date | None, today: dt.date, language: str
) -> Story:
    """Of a week; what was weighed is summed once for the same data.

    Args:
        database: to ask.
        wanted: any day of the week; None takes the latest that was weighed.
        today: after which nothing is shown.
        language: of its texts.

    Raises:
        NoWeek: for one in which nothing was weighed, but for this week.
    """
    with _LOCK:
        kept = _KEPT.setdefault(database, _Kept())
    with database.read() as session:
        # Whoever changes rows by hand, beside the application, is seen soon.
        soon = int(time.monotonic() / _SECONDS)
        version = (today, soon, totals.waste_version(session))
        edition = kept.edition
        if edition.version != version:
            edition = _Edition(version, totals.weeks(session, today), {})
            kept.edition = edition
        weeks = edition.weeks
        first = rules.monday(wanted or (weeks[0] if weeks else today))
        if first not in (rules.monday(today), *weeks):
            raise NoWeek("week_unknown")
        key = (first, language)
        waste = edition.waste.get(key)
        if waste is None:
            with kept.lock:
                waste = edition.waste.get(key)
                if waste is None:
                    while len(edition.waste) >= _MOST_KEPT:
                        del edition.waste[next(iter(edition.waste))]
                    waste = _weighed(session, *key, today, weeks)
                    edition.waste[key] = waste
        return _with_actions(session, waste, today, language)


def _weighed(
    session: Session,
    first: dt.date,
    language: str,
    today: dt.date,
    weeks: list[dt.date],
) -> _Waste:
    asked = Asked(
        session,
        totals.week(first),
        today,
        partial(words.say, language),
        language,
        _names(session, language),
    )
    campaign = choices.campaign_on(session, min(asked.week.last, today))
    found = [*panels.amounts(asked), panels.when(asked), *panels.kinds(asked)]
    change = panels_actions.changed(asked, campaign)
    spans = [Span(first - (panels.WEEKS - 1) * totals.WEEK, asked.week.last)]
    spans += [change.span] if change else []
    made_up = any(totals.is_synthetic(session, span) for span in spans)
    made = Story(
        {panel.name: panel for panel in found},
        {panel.name: _tell(asked, panel) for panel in found},
        asked.week,
        weeks,
        made_up or bool(campaign and campaign.synthetic),
        _missing(asked) if weeks else "",
        asked.names,
        not weeks,
    )
    return _Waste(made, change)


def _with_actions(
    session: Session, waste: _Waste, today: dt.date, language: str
) -> Story:
    asked = Asked(
        session,
        waste.story.week,
        today,
        partial(words.say, language),
        language,
        waste.story.names,
    )
    more = [
        panels_actions.did(asked, waste.change),
        panels_actions.turn(asked, waste.change),
    ]
    old = waste.story
    return old._replace(
        panels=old.panels | {panel.name: panel for panel in more},
        told=old.told | {panel.name: _tell(asked, panel) for panel in more},
    )


def _tell(asked: Asked, panel: Panel) -> Told:
    """Once for all who look: a page has thousands of cells."""
    kinds = [column.kind for column in panel.columns]
    return Told(
        [
            [
                shown(value, kind, asked.say, asked.names)
                for value, kind in zip(row, kinds, strict=True)
            ]
            for row in panel.rows
        ],
        [
            (
                str(spec["description"]),
                str(spec.get("usermeta", {}).get("caption", "")),
                htmlsafe_json_dumps(spec),
            )
            for spec in panel.specs
        ],
    )


def _names(session: Session, language: str) -> dict[str, str]:
    return {
        slug: (zh if language == "zh-Hant" else "") or name
        for slug, name, zh in session.execute(
            sa.select(Canteen.slug, Canteen.name, Canteen.name_zh).order_by(
                Canteen.slug
            )
        )
    }


def _missing(asked: Asked) -> str:
    until = min(asked.week.last, asked.today)
    weighed = totals.waste(asked.session, asked.week, ("day", "canteen"))
    serving = set(
        asked.session.scalars(sa.select(Canteen.slug).where(Canteen.open))
    ) | {total.key[1] for total in weighed}
    possible = len(serving) * ((until - asked.week.first).days + 1)
    return sentences.missing(asked.say, possible - len(weighed), possible)


def csv(story_: Story, name: str) -> str:
    """The file of a panel; its last column tells whether the data are real."""
    panel = story_.panels[name]
    kind = "synthetic" if story_.synthetic else "measured"
    return sheets.write(
        [*(column.name for column in panel.columns), "data"],
        [[*map(_plain, row), kind] for row in panel.rows],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        # Six digits that count; it stays a number, which is no formula.
        short = float(f"{value:.6g}")
        return int(short) if short.is_integer() else short
    return value.isoformat() if isinstance(value, dt.date) else value


def shown(
    value: Any, kind: str, say: Callable[..., str], names: dict[str, str]
) -> str:
    """A cell as the page shows it; grams as kilograms, to the gram."""
    if value is None:
        return "–"
    if kind == "day":
        return sentences.date(value, say)
    if kind == "canteen":
        return names.get(value) or str(value)
    if kind in ("meal", "action", "category"):
        prefix = {"meal": "meal", "action": "kind"}.get(
            kind, "dashboard.category"
        )
        return say(f"{prefix}.{value}")
    if kind == "grams":
        return f"{value / 1000:,.3f}"
    if kind == "yes":
        return say("dashboard.yes") if value else say("dashboard.no")
    if kind == "rate":
        return sentences.number(value, 1)
    if kind == "short":
        return sentences.short(value)
    if kind == "count":
        return sentences.number(value)
    return str(value)


__all__ = ["NAMES", "NoWeek", "Story", "Told", "csv", "shown", "story"]
