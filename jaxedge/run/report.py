"""The report of a run: one HTML file that needs nothing else to be read.

It is built from the files of a workdir. `summary.json` must be there; a part
whose files are missing says what to run instead of showing a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import (
    cells,
    clients_page,
    exhibit_page,
    figures,
    informed_page,
    macros,
    metrics,
    page,
    reliability_page,
    results,
    study_page,
    synthesis_page,
    text,
    variation_page,
)

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
# What a mask search counts.
_COUNTS = {"sets", "resets", "initial_resets", "flips_per_weight"}


def write(workdir: str | Path) -> Path:
    """Writes `report.html` of a run into its workdir and returns its path.

    Reads `summary.json`, and as far as they exist `metrics.jsonl`,
    `study.npz`, `pictures.npz` and the further studies in `studies/`. An older
    report is replaced at once.

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
    metrics.replace(
        path, page.document(f"jaxedge: {workdir.resolve().name}", body)
    )
    return path


def _body(workdir: Path, summary: Json) -> str:
    study = results.Archive(workdir / "study.npz")
    pictures = results.Archive(workdir / "pictures.npz")
    path = workdir / "metrics.jsonl"
    rows = metrics.read(path) if path.is_file() else []
    return "".join(
        (
            f"<header><h1>{page.escape(workdir.resolve().name)}</h1>",
            "<p>A network on simulated edge hardware: how it learned, and how"
            " its chips will behave.</p></header>",
            _headline(summary),
            page.section("Training", _training(rows, summary)),
            clients_page.section(pictures, rows, summary),
            informed_page.section(pictures, summary),
            synthesis_page.section(pictures, summary),
            variation_page.section(pictures, rows, summary),
            page.section("Chips", study_page.chips(summary, study)),
            page.section("Stress", study_page.stressed(study, summary)),
            study_page.others(workdir / "studies", summary),
            exhibit_page.section(pictures, summary["score"]),
            reliability_page.section(pictures, summary),
            page.section("Mask", _mask(pictures)),
            macros.section(summary, pictures)
            or cells.section(summary.get("numbers") or {})
            or page.section("One chip's cells", _maps(pictures)),
            page.section("Energy", _energy(summary)),
            page.section("Run", _run(summary)),
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


# Sections.


def _headline(summary: Json) -> str:
    score = summary["score"]
    value = text.percent(summary["metrics"][f"test_{score}"])
    cards = [(f"Test {text.metric(score)}", value, "")]
    chips = summary.get("chips")
    if chips and chips.get("alike"):
        reached = text.percent(chips["score_mean"])
        cards.append(("On its chips", reached, "all of them alike"))
    elif chips:
        cards += [
            (
                f"Mean over {chips['n']:,} chips",
                text.percent(chips["score_mean"]),
                f"± {text.percent(chips['score_std'])}",
            ),
            (
                "Yield",
                text.percent(chips["yield"]),
                f"reach {text.percent(chips['threshold'])}",
            ),
            (
                "19 of 20 chips reach",
                text.percent(chips["score_p05"]),
                f"worst {text.percent(chips['score_min'])}",
            ),
        ]
        if (own := chips.get("trained_chip")) is not None:
            # Beside the others it is one of them.
            cards.append(("The chip it was trained for", text.percent(own), ""))
    if energy := summary.get("energy"):
        cards.append(
            (
                "Energy for one input",
                text.joules(energy["joules_hardware"]),
                f"{text.joules(energy['joules_gpu'])} on a GPU",
            )
        )
    return page.cards(cards)


def _training(rows: Sequence[Json], summary: Json) -> str:
    if summary["config"].get("train", {}).get("epochs") == 0:
        return f"<p>{page.escape(text.UNTRAINED)}</p>"
    score = summary["score"]
    if not any(row.keys() & {"loss", score} for row in rows):
        return page.missing("No metrics", "jaxedge run")
    return page.picture(
        figures.learning_curve(rows, score),
        f"Learning curve: loss, {text.metric(score)} and mask flips",
        text.learned(rows, score),
    )


def _mask(pictures: Arrays) -> str:
    if not {"sparsity_names", "sparsity_kept"} <= pictures.keys():
        return page.missing("No mask was stored", "jaxedge chips")
    names = [str(name) for name in pictures["sparsity_names"]]
    if not names:
        return f"<p>{page.escape(text.UNMASKED)}</p>"
    kept = pictures["sparsity_kept"]
    return page.picture(
        figures.sparsity(names, kept.tolist()),
        "Share of weights that the mask keeps, by layer",
        text.kept(names, kept),
    )


def _maps(pictures: Arrays) -> str:
    names = [key for key in pictures if key.startswith("conductance/")]
    if not names:
        return page.missing("No conductances were stored", "jaxedge chips")
    maps = [_map(name, pictures[name]) for name in names[:_MAPS]]
    rest = len(names) - len(maps)
    note = f"<p>{rest} more layers are not shown.</p>" if rest > 0 else ""
    return page.columns(*maps) + note


def _map(key: str, g_IxO: np.ndarray) -> str:
    layer = key.removeprefix("conductance/")
    return page.picture(
        figures.conductance_map(g_IxO, layer),
        f"Map of the conductances of {layer}",
        text.conducting(g_IxO, figures.MAP_SIDE),
    )


def _energy(summary: Json) -> str:
    energy = summary.get("energy")
    if not energy or not energy["layers"]:
        return page.missing("No energy was counted", "jaxedge chips")
    layers = energy["layers"]
    return (
        page.picture(
            figures.energy(layers),
            "Energy of each layer by part",
            text.spent(layers),
        )
        + _ledger(layers)
        + page.columns(
            page.pairs("Compared", _compared(energy)),
            page.pairs("Assumptions", _assumptions(energy["assumptions"])),
        )
        + _programming(summary["metrics"], energy)
    )


def _ledger(layers: Sequence[Json]) -> str:
    """The energy table, all joules in the unit that suits the total."""
    parts = figures.energy_parts(layers)
    joules = [part for part, _, _ in parts] + ["joules"]
    sums = {
        name: sum(layer[name] for layer in layers)
        for name in ("cells", "tiles", "conversions", *joules)
    }
    factor, letter = text.prefix(sums["joules"])

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
            text.percent(layer["utilisation"]),
            f"{layer['vectors']:,}",
        )
        for layer in layers
    ]
    head = ["Layer", "Inputs × outputs", "Cells", "Tiles", "Utilisation"]
    head += ["Vectors", "Conversions"]
    head += [f"{label} ({letter}J)" for _, label, _ in parts]
    head += [f"Total ({letter}J)"]
    total = line(sums, "All", "", "", "")
    return page.table("Energy for one input", head, rows, total)


def _compared(energy: Json) -> list[tuple[str, str]]:
    gain = energy["gain"]
    return [
        ("This hardware, all of it", text.joules(energy["joules_hardware"])),
        ("of it digital", text.joules(energy["joules_digital"])),
        ("The same work on a GPU", text.joules(energy["joules_gpu"])),
        ("Reduction", text.percent(energy["reduction"])),
        ("Gain", "–" if gain is None else f"{gain:.3g} times"),
    ]


def _assumptions(assumptions: Json) -> list[tuple[str, str]]:
    """One line an assumption; a nested one shows its parts in order."""
    return [(name, text.flat(value)) for name, value in assumptions.items()]


def _programming(counts: Json, energy: Json) -> str:
    """What switching cells took; nothing for a run that searched no mask."""
    if not _COUNTS <= counts.keys():
        return ""
    sentences = [text.programmed(counts)]
    if "joules_programming" in energy:
        sentences.append(text.priced(energy["joules_programming"]))
    return page.paragraph("Programming", *sentences)


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
        (name, text.flat(value)) for name, value in summary["metrics"].items()
    ]
    return (
        page.columns(page.pairs("Time", seconds), page.pairs("Metrics", scores))
        + page.details("Config", f"<pre>{page.escape(config)}</pre>")
        + page.details("Versions", page.pairs("", versions))
    )
