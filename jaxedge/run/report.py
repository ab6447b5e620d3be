"""The report of a run: one HTML file that needs nothing else to be read.

It is built from the files of a workdir. `summary.json` must be there; a part
whose files are missing says what to run instead of showing a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import html
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
import zipfile

import numpy as np

from jaxedge.core import checks
from jaxedge.run import figures, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

# Pictures of arrays: the first layers stand for the others.
_MAPS = 6
# The parts of a summary, and whether a run may lack them.
_PARTS = {
    "config": False,
    "metrics": False,
    "chips": True,
    "energy": True,
    "seconds": False,
    "versions": False,
}
# Below this a cell counts as not formed, in siemens.
_OFF = 1e-6


def write(workdir: str | Path) -> Path:
    """Writes `report.html` of a run into its workdir and returns its path.

    Reads `summary.json`, and as far as they exist `metrics.jsonl`,
    `study.npz` and `pictures.npz`. An older report is replaced at once.

    Args:
        workdir: the folder that the run wrote into.

    Raises:
        UsageError: if the summary is missing or lacks a number, if a file
            cannot be read, or if the study is not the summary's.
    """
    workdir = Path(workdir)
    summary = _summary(workdir / "summary.json")
    try:
        body = _body(workdir, summary)
    except KeyError as error:
        raise checks.UsageError(
            f"{str(workdir / 'summary.json')!r} lacks the entry"
            f" {error.args[0]!r}; repeat `jaxedge run` with this workdir."
        ) from error
    path = workdir / "report.html"
    metrics.replace(path, _page(f"jaxedge: {workdir.resolve().name}", body))
    return path


def _body(workdir: Path, summary: Json) -> str:
    study = _arrays(workdir / "study.npz")
    pictures = _arrays(workdir / "pictures.npz")
    return "".join(
        (
            f"<header><h1>{_text(workdir.resolve().name)}</h1>",
            "<p>A network on simulated edge hardware: how it learned, and how"
            " its chips will behave.</p></header>",
            _headline(summary),
            _section("Training", _training(workdir / "metrics.jsonl")),
            _section("Chips", _chips(summary, study)),
            _section(
                "Stress",
                _columns(
                    _stress(study, "read_noise", "read noise"),
                    _stress(study, "fault", "stuck cells"),
                ),
            ),
            _section("Mask", _mask(pictures)),
            _section("One chip's cells", _maps(pictures)),
            _section("Energy", _energy(summary)),
            _section("Run", _run(summary)),
        )
    )


# Reading.


def _summary(path: Path) -> Json:
    remedy = "repeat `jaxedge run` with this workdir, it continues the run."
    if not path.is_file():
        raise checks.UsageError(f"no file {str(path)!r}; {remedy}")
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise checks.UsageError(
            f"{str(path)!r} is not JSON ({error}); {remedy}"
        ) from error
    if not isinstance(summary, dict):
        raise checks.UsageError(
            f"{str(path)!r} holds no JSON object but {summary!r}; {remedy}"
        )
    parts = {name: summary.get(name) for name in _PARTS}
    for name, part in parts.items():
        if not (isinstance(part, dict) or (part is None and _PARTS[name])):
            raise checks.UsageError(
                f"{name} in {str(path)!r} is {part!r}, not an object; {remedy}"
            )
    return summary


def _arrays(path: Path) -> Arrays:
    """The arrays of an npz file, none if there is no such file."""
    if not path.is_file():
        return {}
    try:
        # Opened here: numpy leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise checks.UsageError(
            f"{str(path)!r} cannot be read ({error}); delete it and repeat"
            " `jaxedge chips` with this workdir."
        ) from error


# Sections.


def _headline(summary: Json) -> str:
    scores = summary["metrics"]
    cards = [("Test accuracy", _percent(scores["test_accuracy"]), "")]
    if chips := summary.get("chips"):
        cards += [
            (
                f"Mean over {chips['n']:,} chips",
                _percent(chips["accuracy_mean"]),
                f"± {_percent(chips['accuracy_std'])}",
            ),
            (
                "Yield",
                _percent(chips["yield"]),
                f"reach {_percent(chips['threshold'])}",
            ),
            (
                "19 of 20 chips reach",
                _percent(chips["accuracy_p05"]),
                f"worst {_percent(chips['accuracy_min'])}",
            ),
        ]
    if energy := summary.get("energy"):
        cards.append(
            (
                "Energy for one input",
                _joules(energy["joules_hardware"]),
                f"{_joules(energy['joules_gpu'])} on a GPU",
            )
        )
    return (
        '<dl class="cards">'
        + "".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(value)}"
            f"<small>{_text(note)}</small></dd></div>"
            for name, value, note in cards
        )
        + "</dl>"
    )


def _training(path: Path) -> str:
    rows = metrics.read(path) if path.is_file() else []
    if not any(row.keys() & {"loss", "accuracy"} for row in rows):
        return _missing("No metrics", "jaxedge run")
    return _picture(
        figures.learning_curve(rows),
        "Learning curve: loss, accuracy and mask flips over training",
        _learned(rows),
    )


def _learned(rows: figures.Rows) -> str:
    scored = [
        row
        for row in rows
        if row.get("phase") == "valid" and row.get("accuracy") is not None
    ]
    if not scored:
        return f"Training wrote {len(rows):,} rows and was never validated."
    best = max(scored, key=lambda row: row["accuracy"])
    return (
        f"Validation accuracy ends at {_percent(scored[-1]['accuracy'])} after"
        f" {scored[-1]['step']:,} steps and was best at step"
        f" {best['step']:,} with {_percent(best['accuracy'])}."
    )


def _chips(summary: Json, study: Arrays) -> str:
    chips = summary.get("chips")
    if not chips or "accuracy" not in study:
        return _missing("No chips were studied", "jaxedge chips")
    accuracy_C, threshold = study["accuracy"], chips["threshold"]
    n, share = accuracy_C.size, figures.chip_yield(accuracy_C, threshold)
    if n != chips["n"] or abs(share - chips["yield"]) > 0.5 / n:
        raise checks.UsageError(
            f"study.npz has {n} chips and a yield of {share:.4f}, summary.json"
            f" {chips['n']} and {chips['yield']}; repeat `jaxedge chips` with"
            " this workdir, so that both come from one study."
        )
    return _picture(
        figures.accuracy_histogram(accuracy_C, threshold),
        f"Histogram of the accuracy of {n:,} chips with the yield shaded",
        f"{int((accuracy_C >= threshold).sum()):,} of {n:,} chips"
        f" ({_percent(share)}) reach the threshold of {_percent(threshold)};"
        f" the mean is {_percent(accuracy_C.mean(dtype=float))}, the worst chip"
        f" has {_percent(accuracy_C.min())}.",
    )


def _stress(study: Arrays, key: str, what: str) -> str:
    levels, accuracy = f"{key}_levels", f"{key}_accuracy"
    if levels not in study or accuracy not in study:
        return _missing(f"No study of {what}", "jaxedge chips")
    unit = {
        "read_noise": "Read noise, relative standard deviation (%)",
        "fault": "Stuck cells (% of all cells)",
    }[key]
    stressed = study[levels][study[levels] > 0]
    figure = figures.accuracy_against(
        100 * study[levels],
        study[accuracy],
        unit,
        log=stressed.size > 0 and stressed.max() > 10 * stressed.min(),
    )
    order = np.argsort(study[levels])
    level_L, accuracy_LxC = study[levels][order], study[accuracy][order]
    mean_L = accuracy_LxC.mean(1)
    return _picture(
        figure,
        f"Accuracy of chips against {what}",
        f"Mean accuracy goes from {_percent(mean_L[0])} at"
        f" {100 * level_L[0]:g}\u00a0% {what} to {_percent(mean_L[-1])} at"
        f" {100 * level_L[-1]:g}\u00a0%, over {accuracy_LxC.shape[1]:,} chips"
        " a level.",
    )


def _mask(pictures: Arrays) -> str:
    if not {"sparsity_names", "sparsity_kept"} <= pictures.keys():
        return _missing("No mask was stored", "jaxedge chips")
    names = [str(name) for name in pictures["sparsity_names"]]
    kept = pictures["sparsity_kept"]
    figure = figures.sparsity(names, kept.tolist())
    least, most = int(np.argmin(kept)), int(np.argmax(kept))
    caption = (
        f"The mask keeps the fewest weights in {names[least]}"
        f" ({_percent(kept[least])}) and the most in {names[most]}"
        f" ({_percent(kept[most])})."
    )
    if _percent(kept[least]) == _percent(kept[most]):
        caption = f"The mask keeps {_percent(kept[0])} of every layer."
    return _picture(
        figure,
        "Share of weights that the mask keeps, by layer",
        caption,
    )


def _maps(pictures: Arrays) -> str:
    names = [key for key in pictures if key.startswith("conductance/")]
    if not names:
        return _missing("No conductances were stored", "jaxedge chips")
    maps = [_map(name, pictures[name]) for name in names[:_MAPS]]
    rest = len(names) - len(maps)
    note = f"<p>{rest} more layers are not shown.</p>" if rest > 0 else ""
    return _columns(*maps) + note


def _map(key: str, g_IxO: np.ndarray) -> str:
    layer = key.removeprefix("conductance/")
    figure = figures.conductance_map(g_IxO, layer)
    rows, columns = g_IxO.shape
    cropped = max(rows, columns) > figures.MAP_SIDE
    return _picture(
        figure,
        f"Map of the conductances of {layer}",
        f"Of {rows:,} × {columns:,} cells"
        f"{f' (lines up to {figures.MAP_SIDE} shown)' if cropped else ''}"
        f" {_percent((g_IxO < _OFF).mean())} conduct less than 1\u00a0µS; the"
        f" mean is {1e6 * g_IxO.mean():.1f}\u00a0µS.",
    )


def _energy(summary: Json) -> str:
    energy = summary.get("energy")
    if not energy or not energy["layers"]:
        return _missing("No energy was counted", "jaxedge chips")
    layers = energy["layers"]
    adc = sum(layer["joules_adc"] for layer in layers)
    total = sum(layer["joules"] for layer in layers)
    most = max(layers, key=lambda layer: layer["joules"])
    return (
        _picture(
            figures.energy(layers),
            "Energy of each layer by part",
            f"One input costs {_joules(total)}, of which the ADCs take"
            f" {_percent(_ratio(adc, total))} and {most['name']}"
            f" {_percent(_ratio(most['joules'], total))}.",
        )
        + _ledger(layers)
        + _columns(
            _pairs("Compared", _compared(energy)),
            _pairs("Assumptions", _assumptions(energy["assumptions"])),
        )
    )


def _ledger(layers: Sequence[Json]) -> str:
    """The energy table, all joules in the unit that suits the total."""
    parts = figures.energy_parts(layers)
    joules = [part for part, _, _ in parts] + ["joules"]
    sums = {
        name: sum(layer[name] for layer in layers)
        for name in ("cells", "tiles", "conversions", *joules)
    }
    factor, letter = figures.prefix(sums["joules"])

    def line(row: Json, name: str, size: str, use: str, vectors: str):
        counts = [f"{row[key]:,}" for key in ("cells", "tiles")]
        energies = [f"{factor * row[part]:.3g}" for part in joules]
        conversions = f"{row['conversions']:,}"
        return [name, size, *counts, use, vectors, conversions, *energies]

    rows = [
        line(
            layer,
            layer["name"],
            f"{layer['rows']:,} × {layer['cols']:,}",
            _percent(layer["utilisation"]),
            f"{layer['vectors']:,}",
        )
        for layer in layers
    ]
    head = ["Layer", "Inputs × outputs", "Cells", "Tiles", "Utilisation"]
    head += ["Vectors", "Conversions"]
    head += [f"{label} ({letter}J)" for _, label, _ in parts]
    head += [f"Total ({letter}J)"]
    total = line(sums, "All", "", "", "")
    return _table("Energy for one input", head, rows, total)


def _compared(energy: Json) -> list[tuple[str, str]]:
    gain = energy["gain"]
    return [
        ("This hardware, all of it", _joules(energy["joules_hardware"])),
        ("of it digital", _joules(energy["joules_digital"])),
        ("The same work on a GPU", _joules(energy["joules_gpu"])),
        ("Reduction", _percent(energy["reduction"])),
        ("Gain", "–" if gain is None else f"{gain:.3g} times"),
    ]


def _assumptions(assumptions: Json) -> list[tuple[str, str]]:
    """One line an assumption; a nested one shows its parts in order."""
    return [(name, _flat(value)) for name, value in assumptions.items()]


def _flat(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, Mapping):
        return ", ".join(
            _flat(part) if name == "value" else f"{name}: {_flat(part)}"
            for name, part in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run(summary: Json) -> str:
    seconds = [
        (stage, f"{value:,.1f} s")
        for stage, value in summary["seconds"].items()
    ]
    versions = list(summary["versions"].items())
    config = json.dumps(
        summary["config"], indent=2, ensure_ascii=False, default=str
    )
    scores = [
        (name, _flat(value)) for name, value in summary["metrics"].items()
    ]
    return (
        _columns(_pairs("Time", seconds), _pairs("Metrics", scores))
        + "<details><summary>Config</summary>"
        + f"<pre>{_text(config)}</pre></details>"
        + "<details><summary>Versions</summary>"
        + f"{_pairs('', versions)}</details>"
    )


# Numbers as text.


def _percent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.1f}\u00a0%"


def _joules(joules: float | None) -> str:
    if joules is None or not math.isfinite(joules):
        return "–"
    factor, letter = figures.prefix(joules)
    return f"{factor * joules:.3g}\u00a0{letter}J"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


# Pieces of HTML; every text goes through `_text`.


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _columns(*parts: str) -> str:
    return f'<div class="columns">{"".join(parts)}</div>'


def _missing(what: str, command: str) -> str:
    return (
        f'<p class="missing">{_text(what)} yet: run'
        f" <code>{_text(command)}</code> with this workdir.</p>"
    )


def _picture(figure: Figure, alt: str, caption: str) -> str:
    uri = figures.to_svg_or_png(figure)
    return (
        f'<figure><img src="{uri}" alt="{_text(alt)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    total: Sequence[str],
) -> str:
    def line(cells: Sequence[str]) -> str:
        first, *others = (_text(cell) for cell in cells)
        data = "".join(f"<td>{cell}</td>" for cell in others)
        return f'<tr><th scope="row">{first}</th>{data}</tr>'

    titles = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    return (
        f'<div class="wide"><table><caption>{_text(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead>"
        f"<tbody>{''.join(line(row) for row in rows)}</tbody>"
        f"<tfoot>{line(total)}</tfoot></table></div>"
    )


def _pairs(title: str, pairs: Sequence[tuple[str, object]]) -> str:
    """A two-column table; marks what is unknown or only a default."""

    def mark(value: object) -> str:
        text = str(value)
        doubtful = "unknown" in text or "default" in text
        return ' class="doubtful"' if doubtful else ""

    caption = f"<caption>{_text(title)}</caption>" if title else ""
    lines = "".join(
        f'<tr><th scope="row">{_text(name)}</th>'
        f"<td{mark(value)}>{_text(value)}</td></tr>"
        for name, value in pairs
    )
    return (
        f'<div class="wide"><table class="pairs">{caption}'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --page: #f6f8f9; --card: #fff;
  --ink: #1c2833; --muted: #5b6873; --line: #d7dde2; --mark: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --page: #12181d;
  --card: #1b242b; --ink: #e6ebef; --muted: #9fabb5; --line: #33404a;
  --mark: #fdba74; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .8rem; font-size: 1.25rem; }
header p, figcaption, dt, small, caption { color: var(--muted); }
header p { margin: .2rem 0 1.5rem; }
.cards, .columns { display: grid; gap: 1rem; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.columns { grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); align-items: start; }
.cards > div, figure, .wide, .missing, details { background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
.cards > div { padding: .8rem 1rem; }
dt { font-size: .85rem; }
dd { margin: 0; font-size: 1.6rem; font-weight: 650; }
small { display: block; font-size: .8rem; font-weight: 400; }
figure { margin: 0; padding: 1rem; min-width: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: .3rem; }
figcaption { margin-top: .7rem; font-size: .9rem; }
.wide { margin-top: 1rem; padding: .6rem 1rem; overflow-x: auto; }
.columns > .wide { min-width: 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; font-weight: 600; }
th, td { padding: .35rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; padding-left: 0; font-weight: 500; }
thead th { font-weight: 600; white-space: normal; vertical-align: bottom; }
tfoot th, tfoot td { border-bottom: 0; font-weight: 650; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
.pairs tr:last-child > * { border-bottom: 0; }
.doubtful { color: var(--mark); }
.missing { padding: 1rem; margin: 0; border-style: dashed; }
details { margin-top: 1rem; padding: .7rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
details .wide { border: 0; padding: 0; }
pre { overflow-x: auto; font-size: .85rem; }
@media print { section, figure { break-inside: avoid; } }
"""
