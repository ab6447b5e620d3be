"""What a report shows of clients: scores, labels, what they chose, drift.

Letters: C clients, K classes, E examples shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import clients_figures, clients_scores, figures, page, text

Json = Mapping[str, Any]
Rows = Sequence[Json]
Arrays = Mapping[str, np.ndarray]

# Tables with more clients than this are folded away.
_OPEN = 12
# Columns of classes in a table; rarer ones are counted together.
_COLUMNS = 10
_PLACE = "clients/"
_ALWAYS = ("names", "examples", "labelled", "query", "chosen")
_COUNTED = ("classes", "positions", "labels", "picked")
_SHOWN = ("shown", "shown_client", "shown_label", "shown_score")
# Arrays with one row a client.
_BY_CLIENT = ("examples", "labelled", "query", "chosen", "labels", "picked")


def section(pictures: Arrays, rows: Rows, summary: Json) -> str:
    """Whatever can be shown of clients, as one section; else nothing.

    Args:
        pictures: with the arrays of `clients.collect`, or some of them.
        rows: what `metrics.read` returns.
        summary: of the run.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    wanted = [*_ALWAYS, *_COUNTED, *_SHOWN]
    found = {
        name: pictures[_PLACE + name]
        for name in wanted
        if _PLACE + name in pictures
    }
    if not set(_ALWAYS) <= found.keys():
        return ""
    _check(found)
    names = [str(name) for name in found["names"]]
    scored = clients_scores.read(names, found["examples"], rows, summary)
    content = (
        clients_scores.picture(scored)
        + (_sheets(found, summary) or _picked(found))
        + _rounds(found, rows)
        + _labelled(found, scored)
    )
    return page.section("Clients", content)


def _check(found: Arrays) -> None:
    """Raises unless the arrays are those of the same clients and examples."""
    shapes = {name: array.shape for name, array in found.items()}
    clients = {shapes[k][:1] for k in ("names", *_BY_CLIENT) if k in found}
    shown = {shapes[name][:1] for name in _SHOWN if name in found}
    if len(clients) > 1 or len(shown) > 1:
        raise checks.UsageError(
            f"the arrays {_PLACE}... of pictures.npz have the shapes {shapes},"
            " which do not fit; delete it and repeat `jaxedge chips` with this"
            " workdir."
        )


# What was chosen.


def _sheets(found: Arrays, summary: Json) -> str:
    """A contact sheet a client, of images that it chose last."""
    if not set(_SHOWN) <= found.keys():
        return ""
    client_E = found["shown_client"]
    shown = np.unique(client_E)
    method = summary["config"].get("active", {}).get("method", "the method")
    more = int((found["chosen"] > 0).sum()) - len(shown)
    return "".join(_sheet(found, int(c), method) for c in shown) + _left(more)


def _sheet(found: Arrays, client: int, method: str) -> str:
    rows = np.flatnonzero(found["shown_client"] == client)
    score_E = found["shown_score"][rows]
    name = str(found["names"][client])
    words = zip(found["shown_label"][rows], _numbers(score_E), strict=True)
    under = ["\n".join(_under(found, *pair)) for pair in words]
    count, query = int(found["chosen"][client]), int(found["query"][client])
    part = "the" if len(rows) == count else f"{len(rows):,} of the"
    said = f"{name}: {part} {_number(count, 'example')}"
    said += (
        f" that it had annotated in query {query:,}"
        if query
        else " that it began with, drawn at random"
    )
    if np.isfinite(score_E).any():
        said += (
            ", the most uncertain first; the number under each is its"
            f" uncertainty as {method} computed it"
        )
    elif query:
        said += f"; {method} computed no uncertainty of single examples"
    return page.picture(
        clients_figures.sheet(found["shown"][rows], under),
        f"Contact sheet of examples that {name} had annotated",
        f"{said}.",
    )


def _under(found: Arrays, label: int, score: str) -> list[str]:
    """The lines under an image."""
    words = [score] if score else []
    if label < 0:
        return words
    known = "classes" in found
    name = str(found["classes"][label]) if known else f"class {label}"
    return [clients_figures.short(name), *words]


def _numbers(score_E: np.ndarray) -> list[str]:
    """Uncertainties with digits that tell them apart; nothing for NaN."""
    score_E = np.asarray(score_E, float)
    sound = score_E[np.isfinite(score_E)]
    digits = 3
    if sound.size and np.ptp(sound) > 0:
        ratio = np.abs(sound).max() / np.ptp(sound)
        # Of float32 there are no more than 7.
        digits = int(np.clip(2 + np.ceil(np.log10(ratio)), 3, 7))
    return [
        f"{s:#.{digits}g}".rstrip(".") if np.isfinite(s) else ""
        for s in score_E
    ]


def _picked(found: Arrays) -> str:
    """A line a client, of what it chose last."""
    chosen = np.flatnonzero(found["chosen"])
    if not len(chosen):
        return ""
    head, cells_C = ["Client", "Query", "Examples"], [[] for _ in chosen]
    caption = "Annotated last by each client"
    if set(_COUNTED) <= found.keys():
        more, (*cells_C, _) = _by_class(found, "picked", chosen)
        head += more
        caption += _unit(found)
    lines = [
        [
            str(found["names"][c]),
            f"{found['query'][c]:,}" if found["query"][c] else "start",
            f"{found['chosen'][c]:,}",
            *cells,
        ]
        for c, cells in zip(chosen, cells_C, strict=True)
    ]
    return _folded(page.table(caption, head, lines), caption, len(chosen))


# Rounds.


def _rounds(found: Arrays, rows: Rows) -> str:
    rows = [
        row
        for row in rows
        if row.get("phase") == "train"
        and {"epoch", "drift", "clients", "rejected"} <= row.keys()
    ]
    if not rows:
        return ""
    total = len(found["names"])
    rows = [_round(row, total) for row in rows]
    names = {"absent": "took no part", "rejected": "rejected"}
    counts = {
        words: figures.series(rows, "train", "epoch", name)
        for name, words in names.items()
        if any(row[name] for row in rows)
    }
    drift = figures.series(rows, "train", "epoch", "drift")
    alt = "Drift of the clients over rounds"
    return page.picture(
        clients_figures.rounds(drift, counts),
        f"{alt}, and clients that are missing" if counts else alt,
        _rounds_said(rows, total),
    )


def _round(row: Json, total: int) -> dict[str, Any]:
    """A row with the number of absent clients; without any no drift."""
    absent = total - (row["clients"] or 0) - (row["rejected"] or 0)
    drift = row["drift"] if row["clients"] else None
    return {**row, "absent": absent, "drift": drift}


def _rounds_said(rows: Rows, total: int) -> str:
    last = rows[-1]["drift"]
    said = (
        "Drift is the Euclidean distance of a client's learned parameters from"
        " those that the server had sent it, on average over the clients whose"
        " reply was used"
    )
    said += "." if last is None else f": {last:.3g} in the last round."
    missing = np.array([row["absent"] for row in rows])
    rejected = int(sum(row["rejected"] or 0 for row in rows))
    if not missing.any():
        said += f" {_number(total, 'client')} took part in every round."
    else:
        said += (
            f" In {int((missing > 0).sum()):,} of"
            f" {_number(len(rows), 'round')} there were clients that took no"
            f" part: on average over all rounds {missing.mean():.3g} of"
            f" {total:,}."
        )
    if rejected:
        were = "reply was" if rejected == 1 else "replies were"
        said += f" {rejected:,} {were} rejected for not being finite."
    return said


# What is labelled.


def _labelled(found: Arrays, scored: clients_scores.Scored | None) -> str:
    """A line a client: how much of it is labelled, and how well it fares."""
    names = [*(str(name) for name in found["names"]), "All"]
    held, labelled = (
        np.append(a, a.sum())
        for a in (found["examples"][:, 0], found["labelled"])
    )
    columns = [
        [f"{count:,}" for count in held],
        [f"{count:,}" for count in labelled],
        [text.percent(share) for share in labelled / np.maximum(held, 1)],
    ]
    head = ["Client", "Examples", "Labelled", "Share"]
    if scored is not None and scored.own:
        head.append(f"{text.metric_title(scored.metric)}, {scored.where}")
        columns.append([text.percent(scored.last(name)) for name in names[:-1]])
        columns[-1].append(text.percent(scored.last()))
    caption, cells = "Labelled in the end", [[] for _ in names]
    if set(_COUNTED) <= found.keys():
        more, cells = _by_class(found, "labels", np.arange(len(names) - 1))
        head += more
        caption += _unit(found)
    lines = [
        [*line, *more]
        for *line, more in zip(names, *columns, cells, strict=True)
    ]
    total = lines.pop()
    table = page.table(caption, head, lines, total if len(lines) > 1 else ())
    return _folded(table, caption, len(lines))


def _by_class(
    found: Arrays, name: str, clients: np.ndarray
) -> tuple[list[str], list[list[str]]]:
    """Titles, and the cells of each client and of all of them together."""
    counts = found[name][clients]
    order = np.argsort(-found["labels"].sum(0), kind="stable")
    common, rare = np.sort(order[:_COLUMNS]), order[_COLUMNS:]
    titles = [str(found["classes"][k]) for k in common]
    columns = counts[:, common]
    if len(rare):
        titles.append("Other classes")
        columns = np.column_stack([columns, counts[:, rare].sum(1)])
    return titles, [
        _cells(row, bool(found["positions"]))
        for row in (*columns, columns.sum(0))
    ]


def _cells(counts: np.ndarray, shares: bool) -> list[str]:
    """Counts of classes, or their shares."""
    if not shares:
        return [f"{count:,}" for count in counts]
    return [text.percent(c / counts.sum() if c else 0.0) for c in counts]


def _unit(found: Arrays) -> str:
    if found["positions"]:
        return "; by class, the share of the labelled positions"
    return "; by class, the number of examples"


def _folded(table: str, title: str, clients: int) -> str:
    if clients <= _OPEN:
        return table
    return page.details(f"{title.split(';')[0]}: {clients:,} clients", table)


def _left(more: int) -> str:
    if more <= 0:
        return ""
    verb = "client is" if more == 1 else "clients are"
    return f"<p>{more:,} more {verb} not shown.</p>"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
