"""The page of a comparison: which runs, how they differ, which are best.

Letters: N runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxedge.run import compare_figures, compare_runs, page, text
from jaxedge.run.compare_runs import Entry

# Fields in the table of runs, and pictures of fields; the rest is told below.
_FIELDS = 8
_CHIPS = ("chip_mean", "chip_std", "chip_p05", "chip_p95", "yield")
_SPREAD = "± is the standard deviation over seeds."


def document(title: str, entries: Sequence[Entry]) -> str:
    """The whole page.

    Args:
        title: of the page.
        entries: runs, of any kind, at least one.
    """
    kinds = compare_runs.kinds(entries)
    return page.document(
        f"jaxedge: {title}",
        "".join(
            (
                f"<header><h1>{page.escape(title)}</h1><p>"
                f"{page.escape(_count(len(entries), 'run'))} of networks on"
                " simulated edge hardware, side by side.</p></header>",
                page.cards(_cards(entries)),
                _unlike(kinds),
                *(
                    _kind(list(runs), *kind, alone=len(kinds) == 1)
                    for kind, runs in kinds.items()
                ),
                _left(entries),
                _differing(entries, len(kinds) == 1),
            )
        ),
    )


def _cards(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    done = [entry for entry in entries if entry.done]
    cards = [("Finished", f"{len(done):,} of {len(entries):,}", "runs")]
    if len(compare_runs.kinds(entries)) != 1:
        return cards
    score = compare_runs.numbers(done[0])["score"]
    for name, title, most, write in (
        ("test", f"Best test {text.metric(score)}", True, text.percent),
        ("chip_mean", "Best mean over chips", True, text.percent),
        ("yield", "Highest yield", True, text.percent),
        ("joules", "Least energy for one input", False, text.joules),
    ):
        value_N = compare_runs.column(done, name)
        if np.isnan(value_N).all():
            continue
        best = int(np.nanargmax(value_N) if most else np.nanargmin(value_N))
        cards.append((title, write(value_N[best]), done[best].name))
    return cards


def _unlike(kinds: dict[tuple[str, str], list[Entry]]) -> str:
    """Says that runs are not comparable, where they are not."""
    if len(kinds) <= 1:
        return ""
    told = "; ".join(
        f"{_title(*kind)} ({_count(len(runs), 'run')})"
        for kind, runs in kinds.items()
    )
    return page.section(
        "Not comparable",
        '<p class="missing"><span class="doubtful">'
        + page.escape(
            f"These runs are of {len(kinds)} kinds, by data set and score:"
            f" {told}. Numbers of one kind say nothing beside those of another,"
            " so each has tables and pictures of its own."
        )
        + "</span></p>",
    )


def _title(data: str, score: str) -> str:
    return f"{data} by {text.metric(score)}"


def _kind(runs: list[Entry], data: str, score: str, alone: bool) -> str:
    """All that is said of comparable runs."""
    prefix = "" if alone else f"{_title(data, score)}: "
    fields = compare_runs.differing(runs)
    told = compare_runs.cautions(runs)
    care = page.paragraph("Read with care", *told) if told else ""
    sections = [
        (f"{prefix}runs", care + _table(runs, fields) + _groups(runs)),
        (f"{prefix}trade-offs", _fronts(runs, score)),
        (f"{prefix}learning", _curves(runs, score)),
        (f"{prefix}fields", _fields(runs, fields, score)),
    ]
    return "".join(
        page.section(_upper(title), content)
        for title, content in sections
        if content
    )


def _table(runs: Sequence[Entry], fields: Sequence[str]) -> str:
    shown = list(fields[:_FIELDS])
    head = ["Run", *shown, "Valid", "Test", "Chips", "Mean", "Sd"]
    head += ["5 %", "95 %", "Yield", "Energy", "Latency", "Time"]
    lines = []
    for number, entry in enumerate(runs, 1):
        has = compare_runs.numbers(entry)
        chips = "–" if has["chips"] is None else f"{has['chips']:,}"
        lines.append(
            [
                f"{number}. {entry.name}",
                *(_value(entry, field) for field in shown),
                text.percent(has["valid"]),
                text.percent(has["test"]),
                chips,
                *(text.percent(has[name]) for name in _CHIPS),
                text.joules(has["joules"]),
                _seconds(has["latency_seconds"]),
                "–" if has["seconds"] is None else f"{has['seconds']:,.0f} s",
            ]
        )
    more = len(fields) - len(shown)
    note = (
        f"<p>{_count(more, 'more field')} of their configs differ; see the end"
        " of the page.</p>"
        if more
        else ""
    )
    return page.table("Runs, and the fields that differ", head, lines) + note


def _groups(runs: Sequence[Entry]) -> str:
    """Means over seeds; nothing where no setting has two."""
    groups = compare_runs.over_seeds(runs)
    if all(len(group.entries) == 1 for group in groups):
        return ""
    shown = list(groups[0].fields)[:_FIELDS]
    lines = []
    for group in groups:
        values = [_value(group.entries[0], field) for field in shown]
        columns = [
            _spread(compare_runs.column(group.entries, name))
            for name in ("test", "chip_mean", "yield")
        ]
        first, *others = values or ["all"]
        lines.append([first, *others, str(len(group.entries)), *columns])
    head = [*(shown or ["Setting"]), "Seeds", "Test", "Mean over chips"]
    caption = f"Settings, means over seeds. {_SPREAD}"
    return page.table(caption, [*head, "Yield"], lines)


def _fronts(runs: Sequence[Entry], score: str) -> str:
    """Pareto pictures, of those numbers that two runs have."""
    labels = [str(number) for number in range(1, len(runs) + 1)]
    test_N, chip_N, yield_N, joules_N, latency_N = (
        compare_runs.column(runs, name)
        for name in ("test", "chip_mean", "yield", "joules", "latency_seconds")
    )
    on_chips = f"Mean {text.metric(score)} over chips (%)"
    ideal = f"Test {text.metric(score)} on ideal hardware (%)"
    pictures = []
    for name, x_N, y_N, ylabel in (
        ("energy", joules_N, chip_N, on_chips),
        ("latency", latency_N, chip_N, on_chips),
        ("yield", yield_N, test_N, ideal),
    ):
        if (~np.isnan(x_N + y_N)).sum() < 2:
            continue
        more = name == "yield"
        if more:
            x_N, xlabel = 100 * x_N, "Yield (%)"
        else:
            factor, letter = text.prefix(float(np.nanmax(x_N)))
            x_N = factor * x_N
            unit = f"{letter}{'J' if name == 'energy' else 's'}"
            xlabel = f"{_upper(name)} of one input ({unit})"
        pictures.append(
            page.picture(
                compare_figures.front(
                    x_N, 100 * y_N, labels, (xlabel, ylabel), more
                ),
                f"Runs by {name} and {text.metric(score)}; dominated ones grey",
                f"{_upper(name)}: a number is that of the run in the table;"
                " grey runs are no better in either than another, and worse in"
                " one.",
            )
        )
    return page.columns(*pictures) if pictures else ""


def _curves(runs: Sequence[Entry], score: str) -> str:
    names = [f"{n}. {_short(entry)}" for n, entry in enumerate(runs, 1)]
    figure = compare_figures.curves([run.rows for run in runs], names, score)
    if figure is None:
        return ""
    return page.picture(
        figure,
        f"Learning curves: loss and {text.metric(score)} of all runs",
        "A line is a run.",
    )


def _fields(runs: Sequence[Entry], fields: Sequence[str], score: str) -> str:
    """A picture a field; none where too many differ to say what each does."""
    fields = [
        field
        for field in fields
        if field != "seed" and all(field in run.fields for run in runs)
    ]
    if len(fields) > _FIELDS:
        return ""
    chip_N = compare_runs.column(runs, "chip_mean")
    studied = not np.isnan(chip_N).any()
    y_N = chip_N if studied else compare_runs.column(runs, "test")
    where = "over chips" if studied else "on the test split"
    ylabel = f"{text.metric_title(score)} {where} (%)"
    pictures = []
    for field in fields:
        values = [run.fields[field] for run in runs]
        pictures.append(
            page.picture(
                compare_figures.field(values, 100 * y_N, field, ylabel),
                f"{text.metric_title(score)} against {field}",
                f"{field}: every run, and the mean at each value, whatever else"
                " differs.",
            )
        )
    return page.columns(*pictures) if pictures else ""


def _left(entries: Sequence[Entry]) -> str:
    """Runs without numbers, and why."""
    left = [entry for entry in entries if not entry.done]
    if not left:
        return ""
    lines = [[entry.name, entry.state, entry.note or "–"] for entry in left]
    return page.section(
        "Not finished",
        page.table(
            "They are in no picture. `jaxedge run`, or `jaxedge sweep`, goes on"
            " with them.",
            ["Run", "State", "What there is to say"],
            lines,
        ),
    )


def _differing(entries: Sequence[Entry], alike: bool) -> str:
    """Every field that differs among all runs, if no table has told it."""
    known = [entry for entry in entries if entry.fields]
    fields = compare_runs.differing(known)
    if not fields:
        told = "The configs of these runs are the same."
        return page.section("Configs", f"<p>{told}</p>")
    if alike and len(fields) <= _FIELDS:
        return ""
    lines = [
        [field, *(_value(entry, field) for entry in known)] for field in fields
    ]
    head = ["Field", *(entry.name for entry in known)]
    table = page.table("The other fields are the same", head, lines)
    title = f"The {_count(len(fields), 'field')} in which they differ"
    return page.section("Configs", page.details(title, table))


def _value(entry: Entry, field: str) -> str:
    value = entry.fields.get(field, compare_runs.ABSENT)
    return "none" if value is None else text.flat(value)


def _spread(value_N: np.ndarray) -> str:
    """A mean and, of several, the standard deviation."""
    known = value_N[~np.isnan(value_N)]
    if not known.size:
        return "–"
    mean = text.percent(float(known.mean()))
    if known.size == 1:
        return mean
    return f"{mean} ± {100 * known.std(ddof=1):.1f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    factor, letter = text.prefix(value)
    return f"{factor * value:.3g} {letter}s"


def _short(entry: Entry) -> str:
    """The end of a name that fits a legend."""
    return entry.name if len(entry.name) <= 36 else f"{entry.name[:35]}…"


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
