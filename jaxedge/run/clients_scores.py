"""How well a run's clients fare: over labels, or over rounds.

Letters: C clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxedge.data import SPLITS
from jaxedge.run import clients_figures, page, text

Json = Mapping[str, Any]
Rows = Sequence[Json]


class Scored(NamedTuple):
    """Evaluations of the server's network by client.

    Attributes:
        metric: by client.
        where: the split, in a word.
        rows: of the metrics, in their order; at least one.
        labelled: examples of all clients that had a label then, for each row.
        total: examples of all clients.
        own: whose scores are known and count.
        blind: clients without an example in the split.
    """

    metric: str
    where: str
    rows: Rows
    labelled: Sequence[int]
    total: int
    own: Sequence[str]
    blind: Sequence[str]

    def last(self, client: str | None = None) -> float | None:
        """The last score of a client or the mean of all, None if unknown."""
        if client is None:
            return self.rows[-1][self.metric]
        if client not in self.own:
            return None
        return self.rows[-1][f"{self.metric}/{client}"]


def read(
    names: Sequence[str], examples: np.ndarray, rows: Rows, summary: Json
) -> Scored | None:
    """The evaluations of a run, None if there is none by client.

    Those on the test split, where it was watched, else those that selected.

    Args:
        names: of the clients, [C].
        examples: of each client in train, valid and test, [C, 3].
        rows: what `metrics.read` returns.
        summary: of the run.
    """
    keys = sorted({key for row in rows for key in row})
    wanted = [
        (phase, metric)
        for phase in ("test", "valid")
        for metric in keys
        if f"worst_{metric}" in keys
        and any(_has(row, phase, metric) for row in rows)
    ]
    if not wanted:
        return None
    phase, metric = wanted[0]
    kept, labelled, now = [], [], None
    for row in rows:
        if row.get("phase") == "train" and row.get("labelled") is not None:
            now = round(row["labelled"])
        if _has(row, phase, metric) and now is not None:
            kept.append(row)
            labelled.append(now)
    if not kept:
        return None
    train = summary["config"].get("train", {})
    split = phase if phase == "test" else train.get("select_on", phase)
    empty_C = examples[:, SPLITS.index(split)] == 0
    blind = [name for name, empty in zip(names, empty_C, strict=True) if empty]
    own = [n for n in names if f"{metric}/{n}" in kept[-1] and n not in blind]
    where = {"valid": "validation"}.get(split, split)
    total = int(examples[:, 0].sum())
    return Scored(metric, where, kept, labelled, total, own, blind)


def _has(row: Json, phase: str, metric: str) -> bool:
    known = row.get(metric) is not None and "epoch" in row
    return known and row.get("phase") == phase


def picture(scored: Scored | None) -> str:
    """Scores over labels; over rounds, where there is one number of labels."""
    if scored is None:
        return ""
    # The last evaluation with as many labels.
    by_labels = dict(zip(scored.labelled, scored.rows, strict=True))
    over_labels = len(by_labels) > 1
    rows = [*by_labels.values()] if over_labels else scored.rows
    words = text.metric(scored.metric)
    fig = clients_figures.scores(
        [*by_labels] if over_labels else [row["epoch"] for row in rows],
        _lines(scored, rows),
        "Labelled examples of all clients" if over_labels else "Round",
        words,
    )
    where = "labelled examples" if over_labels else "rounds"
    alt = f"The {words} of the clients over {where}"
    return page.picture(fig, alt, _said(scored, over_labels))


def _lines(scored: Scored, rows: Rows) -> dict[str, np.ndarray]:
    def line(name: str) -> np.ndarray:
        return np.array([row.get(name) for row in rows], float)

    own = {name: line(f"{scored.metric}/{name}") for name in scored.own}
    if len(own) == 1:
        return own
    mean = {clients_figures.MEAN: line(scored.metric)}
    if own:
        return mean | own
    return mean | {clients_figures.WORST: line(f"worst_{scored.metric}")}


def _said(scored: Scored, over_labels: bool) -> str:
    count, words = scored.labelled[-1], text.metric(scored.metric)
    when = ", at the last evaluation with as many labels" if over_labels else ""
    said = (
        f"The server's network on the {scored.where} split{when}. With"
        f" {count:,} of {scored.total:,} training examples labelled"
        f" ({text.percent(count / scored.total)}) the {words} is in the end"
        f" {text.percent(scored.last())}"
    )
    found = {name: scored.last(name) for name in scored.own}
    known = {name: value for name, value in found.items() if value is not None}
    worst = scored.rows[-1].get(f"worst_{scored.metric}")
    if len(known) > 1:
        least = min(known, key=known.__getitem__)
        said += (
            f" on average over the clients, and lowest at {least} with"
            f" {text.percent(known[least])}"
        )
    elif not scored.own and worst is not None:
        said += (
            " on average over the clients, and that of the worst"
            f" {text.percent(worst)}"
        )
    return f"{said}.{_without(scored.blind)}"


def _without(names: Sequence[str]) -> str:
    """Who is not drawn."""
    if not names:
        return ""
    who = names[0] if len(names) == 1 else f"{len(names):,} clients"
    verb = "has" if len(names) == 1 else "have"
    return f" {who} {verb} no example in that split."
