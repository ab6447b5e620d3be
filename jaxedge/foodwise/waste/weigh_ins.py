"""Weigh-ins stored: what a canteen threw away at a meal.

A row is new, the same as a stored one, in conflict with it, or wrong. By
default a file with a wrong or conflicting row changes nothing. Several sources
of one canteen are added up, so each has to weigh something of its own.
"""

from collections.abc import Collection, Sequence
import datetime as dt
import hashlib
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    Canteen,
    ImportBatch,
    User,
    WasteRecord,
)
from jaxedge.foodwise.campaign import campaigns
from jaxedge.foodwise.waste import sheets
from jaxedge.foodwise.waste.weigh_rows import (
    COLUMNS,
    NEEDED,
    SOURCE,
    Problem,
    WeighIn,
    at_odds,
    read_line,
)

MOST_TOLD = 200  # Problems in a report.


class Report(NamedTuple):
    """What a file would do, or did.

    Attributes:
        rows: of the file.
        added: new ones.
        same: those that are stored already.
        replaced: stored ones that changed.
        bad: rows with a problem.
        problems: at most `MOST_TOLD`.
        stored: whether anything was written.
        batch: id of the import, None where nothing changed.
    """

    rows: int
    added: int
    same: int
    replaced: int
    bad: int
    problems: tuple[Problem, ...]
    stored: bool = False
    batch: int | None = None


class Choice(NamedTuple):
    """How a file is taken.

    Attributes:
        dry: only says what would happen.
        skip_bad: leaves wrong rows out instead of changing nothing.
        replace: lets rows change stored ones.
    """

    dry: bool = False
    skip_bad: bool = False
    replace: bool = False


class Sent(NamedTuple):
    """Rows of a file before anything is asked of the database.

    Attributes:
        rows: how many there are.
        good: those that can be read.
        problems: of the others, and of those that disagree with one another.
        digest: SHA-256 of all.
    """

    rows: int
    good: list[WeighIn]
    problems: list[Problem]
    digest: str


def read(content: bytes, today: dt.date, allowed: dict[str, int]) -> Sent:
    """Reads a file, which takes a while.

    Args:
        content: CSV or JSON, see `sheets.read`.
        today: in the campaign's days.
        allowed: slug -> id of canteens that the rows may name.

    Raises:
        UsageError: for a file that cannot be read at all.
    """
    lines = sheets.read(content, COLUMNS, NEEDED)
    if not lines:
        raise checks.UsageError("the file has a head but no rows; add some.")
    return read_lines(lines, today, allowed)


def read_lines(
    lines: Sequence[sheets.Line], today: dt.date, allowed: dict[str, int]
) -> Sent:
    """As `read`, of rows that are no texts of a file any more."""
    found = [read_line(line, today, allowed) for line in lines]
    good = [row for row in found if isinstance(row, WeighIn)]
    problems = [p for row in found if isinstance(row, list) for p in row]
    return Sent(len(lines), good, problems + at_odds(good), _digest(lines))


def store(
    session: Session,
    sent: Sent,
    choice: Choice,
    *,
    actor: User | None = None,
    name: str = SOURCE,
) -> Report:
    """Stores what was read, or says why not.

    Args:
        session: to write by, unless `choice.dry`.
        sent: by `read`.
        choice: how.
        actor: who sends it; None for a scale.
        name: of the import.

    Returns:
        The report; `stored` tells whether anything was written.

    Raises:
        UsageError: where a canteen is the actor's no more.
    """
    canteens = {row.canteen for row in sent.good}
    if not choice.dry:
        _lock(session, canteens)
    if actor is not None:
        ours = {place.id for place in campaigns.managed(session, actor)}
        if not canteens <= ours:
            raise Refused("staff_gone")
    problems = list(sent.problems)
    wrong = {problem.row for problem in problems}
    plan = _compare(session, [r for r in sent.good if r.row not in wrong])
    if not choice.replace:
        problems += plan.conflicts
        wrong |= {problem.row for problem in plan.conflicts}
    new = [row for row in plan.new if row.row not in wrong]
    changed = [pair for pair in plan.changed if pair[1].row not in wrong]
    recounted = plan.recounted if choice.replace else {}
    problems.sort(key=lambda p: p.row)
    report = Report(
        sent.rows,
        len(new),
        sum(row.row not in wrong for row in plan.same),
        len(changed),
        len(wrong),
        tuple(problems[:MOST_TOLD]),
    )
    refused = bool(wrong) and not choice.skip_bad
    if choice.dry or refused or not (new or changed):
        return report
    batch = _write(
        session, new, changed, recounted, report, _Label(name, sent.digest)
    )
    audit.note(
        session,
        actor,
        "import",
        f"import {batch}",
        added=report.added,
        replaced=report.replaced,
        bad=report.bad,
        source=name[:80],
    )
    return report._replace(stored=True, batch=batch)


class _Plan(NamedTuple):
    """What the stored rows say of the new ones; ids are of stored ones."""

    new: list[WeighIn]
    same: list[WeighIn]
    changed: list[tuple[int, WeighIn]]
    recounted: dict[tuple[Any, ...], int]
    conflicts: list[Problem]


def _compare(session: Session, rows: Sequence[WeighIn]) -> _Plan:
    plan = _Plan([], [], [], {}, [])
    known, ate = _stored(session, rows) if rows else ({}, {})
    for row in rows:
        key, grams = known.get(row.key, (0, None))
        diners = ate.get(row.sitting)
        other = None not in (row.diners, diners) and row.diners != diners
        if other:
            plan.conflicts.append(
                Problem(row.row, "diners", str(row.diners), "stored_diners",
                        {"known": f"{diners:,}"})
            )  # fmt: skip
            plan.recounted[row.sitting] = row.diners or 0
        if grams is None:
            plan.new.append(row)
        elif grams != row.grams:
            plan.conflicts.append(
                Problem(row.row, "grams", str(row.grams), "stored",
                        {"known": f"{grams:,}"})
            )  # fmt: skip
            plan.changed.append((key, row))
        elif other or (diners is None and row.diners is not None):
            plan.changed.append((key, row))
        else:
            plan.same.append(row)
    return plan


def _stored(
    session: Session, rows: Sequence[WeighIn]
) -> tuple[dict[Any, tuple[int, int]], dict[Any, int]]:
    """Key -> id and grams, and sitting -> diners, around these rows."""
    found = session.execute(
        sa.select(
            WasteRecord.canteen_id,
            WasteRecord.day,
            WasteRecord.meal,
            WasteRecord.category,
            WasteRecord.source,
            WasteRecord.id,
            WasteRecord.grams,
            WasteRecord.diners,
        ).where(
            WasteRecord.canteen_id.in_({row.canteen for row in rows}),
            WasteRecord.day.between(
                min(row.day for row in rows), max(row.day for row in rows)
            ),
        )
    )
    known, ate = {}, {}
    for *key, number, grams, diners in found:
        known[tuple(key)] = number, grams
        if diners is not None:
            ate[tuple(key[:3])] = diners
    return known, ate


def _lock(session: Session, canteens: Collection[int]) -> None:
    """Another writer of these canteens waits; SQLite has one writer anyway."""
    session.execute(
        sa.select(Canteen.id)
        .where(Canteen.id.in_(canteens))
        .order_by(Canteen.id)
        .with_for_update()
    ).all()


class _Label(NamedTuple):
    name: str
    digest: str


def _digest(lines: Sequence[sheets.Line]) -> str:
    said = repr([sorted(line.fields.items()) for line in lines])
    return hashlib.sha256(said.encode()).hexdigest()


def _write(
    session: Session,
    new: Sequence[WeighIn],
    changed: Sequence[tuple[int, WeighIn]],
    recounted: dict[tuple[Any, ...], int],
    report: Report,
    label: _Label,
) -> int:
    batch = ImportBatch(
        sha256=label.digest,
        source=label.name[:80],
        added=report.added,
        same=report.same,
        bad=report.bad,
        report=[problem._asdict() for problem in report.problems],
    )
    session.add(batch)
    session.flush()
    if new:
        session.execute(
            sa.insert(WasteRecord),
            [
                dict(
                    zip(
                        ("canteen_id", "day", "meal", "category", "source"),
                        row.key,
                        strict=True,
                    ),
                    grams=row.grams,
                    diners=row.diners,
                    batch_id=batch.id,
                )
                for row in new
            ],
        )
    if changed:
        session.execute(
            sa.update(WasteRecord),
            [
                {
                    "id": key,
                    "grams": row.grams,
                    "diners": row.diners,
                    "batch_id": batch.id,
                }
                if row.diners is not None
                else {"id": key, "grams": row.grams, "batch_id": batch.id}
                for key, row in changed
            ],
        )
    for (canteen, day, meal), diners in recounted.items():
        session.execute(
            sa.update(WasteRecord)
            .where(
                WasteRecord.canteen_id == canteen,
                WasteRecord.day == day,
                WasteRecord.meal == meal,
            )
            .values(diners=diners)
        )
    return batch.id


def history(session: Session, user: User, most: int = 20) -> list[ImportBatch]:
    """The latest imports, of a manager those of their canteens."""
    asked = sa.select(ImportBatch).order_by(ImportBatch.id.desc()).limit(most)
    if user.role != "admin":
        own = [place.id for place in campaigns.managed(session, user)]
        asked = asked.where(
            ImportBatch.id.in_(
                sa.select(WasteRecord.batch_id).where(
                    WasteRecord.canteen_id.in_(own)
                )
            )
        )
    return list(session.scalars(asked))


__all__ = ["Choice", "Report", "Sent", "history", "read", "read_lines", "store"]
