"""What to annotate at each site, method beside method.

Called by `scripts/reproduce`: clients label a few more examples at every query,
chosen by FEAL (arXiv:2312.02567) and by what it is compared with; all runs of a
seed begin with the same network and the same labels. The scores are those of
the test split in the last round before a query, whichever epoch was best.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from reproduce_tables import only, shown, slug, spread, trained

from jaxedge.run import canvas, job, loop, main

CONFIG = "configs/feal.py"
ALL = "all labelled"
METHODS = (
    "random",
    "entropy",
    "margin",
    "core_set",
    "badge",
    "grad_norm",
    "logo",
    "kafal",
    "evidential",
    "feal",
)
# Of the score with all labels, for which labels are counted.
ENOUGH = 0.95


class Entry(NamedTuple):
    """An experiment.

    Attributes:
        title: of the page.
        variant: of the config.
    """

    title: str
    variant: str


ENTRIES = {
    "feal_cells": Entry(
        "White blood cells of three laboratories (530 cells to learn from), a"
        " CNN of 16 and 32 channels",
        "cells",
    ),
    "feal_heart": Entry(
        "Heart disease at four hospitals (659 patients to learn from), a"
        " network of two hidden layers of 32",
        "heart",
    ),
}


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All methods of an entry; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: of each method.
        rest: further flags of every run; `--only=A,B` keeps these methods.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run with its curve.
    """
    entry = ENTRIES[name]
    words, rest = only(rest)
    wanted = words or [*METHODS, ALL]
    rows = []
    for seed in range(seeds):
        for method in (*METHODS, ALL):
            if method not in wanted:
                continue
            print(f"{name}: seed {seed}, {method}", flush=True)
            place = folder / f"{slug(method)}-{seed}"
            found = _run(entry.variant, method, seed, rest, place, stop)
            rows.append({"seed": seed, "method": method} | found)
    return {"title": entry.title, "runs": rows}


def _run(
    variant: str,
    method: str,
    seed: int,
    rest: Sequence[str],
    folder: Path,
    stop: loop.Stop,
) -> dict[str, Any]:
    """Trains, and reads the curve of the test split."""
    flags = [
        f"--config={CONFIG}:{variant}",
        f"--config.active.method={'all' if method == ALL else method}",
        f"--config.seed={seed}",
        "--config.train.watch=true",
        f"--workdir={folder}",
        *rest,
    ]
    if method == ALL:  # As many rounds as the others have between queries.
        every = main.parse(flags).config.active.every
        flags += [
            f"--config.train.{name}={every}"
            for name in ("epochs", "evaluate_every", "checkpoint_every")
        ]
    options = main.parse(flags)
    resolved = job.resolve(options.config, options.data_root)
    found, _ = trained(resolved, folder, stop)
    config = options.config
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").open()]
    labels = {r["epoch"]: r["labelled"] for r in rows if r["phase"] == "train"}
    every = config.active.every
    curve = [
        {
            "labelled": int(labels[row["epoch"]]),
            "score": row[resolved.recipe.score],
            "worst": row[f"worst_{resolved.recipe.score}"],
            "accuracy": row["accuracy"],
        }
        for row in rows
        if row["phase"] == "test" and row["epoch"] % every == 0
    ]
    return {
        "curve": curve,
        "area": float(np.mean([point["score"] for point in curve])),
        "last": curve[-1]["score"],
        "worst": curve[-1]["worst"],
        "accuracy": curve[-1]["accuracy"],
        "examples": len(resolved.splits["train"].y),
        "seconds": found["seconds"],
    }


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    lines = [
        f"{content['title']}. Balanced accuracy of the test split, %, a mean"
        " over sites: means over seeds and, in brackets, their sd. `area` is"
        " the mean over the queries; differences are to `random` with the same"
        " seed. No epoch is chosen: it is the last before each query.",
        "",
        "| method | seeds | area | above random | its sd | last query | worst"
        " site | accuracy of all examples | training (s) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for method in _methods(runs):
        rows = [row for row in runs if row["method"] == method]
        apart = spread(paired(method, "random", runs) or [None])
        cells = [
            str(len(rows)),
            *(
                shown(spread([row[what] for row in rows]), 100)
                for what in ("area",)
            ),
            f"{100 * apart['mean']:+.2f}" if apart else "-",
            f"{100 * apart['sd']:.2f}" if apart and "sd" in apart else "-",
            *(
                shown(spread([row[what] for row in rows]), 100)
                for what in ("last", "worst", "accuracy")
            ),
            f"{np.mean([row['seconds']['train'] for row in rows]):.0f}",
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, "", *enough(runs), "", f"![{name}]({name}.svg)"]


def paired(
    method: str, base: str, runs: Sequence[Mapping[str, Any]]
) -> list[float]:
    """Differences of areas to the run of the same seed of another method."""
    if method in (base, ALL):
        return []
    other = {r["seed"]: r["area"] for r in runs if r["method"] == base}
    own = [r for r in runs if r["method"] == method and r["seed"] in other]
    return [row["area"] - other[row["seed"]] for row in own]


def enough(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The share of labels from which a mean is near that of all labels."""
    full = [r["last"] for r in runs if r["method"] == ALL]
    if not full:
        return []
    bar, words = ENOUGH * float(np.mean(full)), []
    for method in _methods(runs):
        rows = [r for r in runs if r["method"] == method]
        if method == ALL:
            continue
        curves = zip(*(r["curve"] for r in rows), strict=True)
        means = [
            (points[0]["labelled"], np.mean([p["score"] for p in points]))
            for points in curves
        ]
        reached = [n for n, mean in means if mean >= bar]
        share = reached[0] / rows[0]["examples"] if reached else None
        told = f"{share:.0%}" if share else "not reached"
        words.append(f"{method} {told}")
    return [
        f"Share of the examples that must be labelled for {ENOUGH:.0%} of what"
        f" all labels give ({100 * float(np.mean(full)):.1f} %):"
        f" {', '.join(words)}."
    ]


def _methods(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in runs))


_COLOURS = {"random": canvas.INK, "feal": canvas.VERMILION}


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """Labelled examples against the score, a line a method."""
    runs = content["runs"]
    fig, (ax,) = canvas.figure(7, 4.2)
    others = ["one of the others"]  # Once in the legend.
    for method in _methods(runs):
        rows = [r for r in runs if r["method"] == method]
        if method == ALL:
            mean = 100 * np.mean([r["last"] for r in rows])
            ax.axhline(float(mean), color=canvas.INK, lw=1, ls=":", label=ALL)
            continue
        x = [point["labelled"] for point in rows[0]["curve"]]
        y = [[100 * p["score"] for p in r["curve"]] for r in rows]
        mean, loud = np.mean(y, 0), method in _COLOURS
        colour = _COLOURS.get(method, canvas.SKY)
        ax.plot(
            x, mean, "o-", color=colour, ms=3, lw=1.8 if loud else 0.8,
            label=method if loud else others.pop() if others else None,
        )  # fmt: skip
        if loud and len(rows) > 1:
            sd = np.std(y, 0, ddof=1)
            ax.fill_between(
                x, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0
            )
    ax.set_xlabel("labelled examples of all clients")
    ax.set_ylabel("balanced accuracy, %")
    canvas.legend(ax)
    canvas.save(fig, path)


__all__ = ["ENTRIES", "draw", "page", "reproduce"]
