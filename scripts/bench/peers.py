"""Our chips beside those of AIHWKit: the same work, on the same cores.

    .venv/bin/python scripts/bench/peers.py --peer_python=PATH [--check]
        [--chips=64] [--repeats=5] [--out=FILE.json]

PATH is a Python that has aihwkit and torch; no path measures ours alone.
aihwkit 1.2 is published as source and needs cmake 4.2, pybind11, scikit-build
and the headers of OpenBLAS; torch 2.13 for CPU fits. Each side runs as a
process of its own, one after the other, and medians are compared. The network
has widths 784-512-256-10; its cells are written with a Gaussian error of 3 % of
the range, cut off at 0, and every product is read with output-referred noise of
2 % of the range a weight (of the conductance for our PCM).
Per-device read noise is measured beside a numpy restatement of what CrossSim
does, a draw for every device and vector, with the fastest normal numbers of
numpy and with those that CrossSim 3.2 calls: CrossSim itself is no package and
not measured.

The run fails if the outputs of both sides, over 256 chips, do not have the same
mean and standard deviation within 5 standard errors. `--check` also compares
the cells of three presets with aihwkit's own noise models, as they are read
some time after programming.
"""

import argparse
import json
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxedge.hardware import devices

WIDTHS = (784, 512, 256, 10)
VECTORS = 1000
TILE, TILE_VECTORS = 512, 256
LAW = {"program_noise": 0.03, "read_noise": 0.02}
AGREE = 256  # chips whose outputs are compared
STANDARD_ERRORS = 5.0
# What a side does; `bound` is the largest output that a converter of aihwkit
# holds, in its units of largest input times largest weight.
_PLAIN = {
    "forward": 1, "read": 1, "bits": 0, "pcm": 0,
    "torch": 0, "tile": 0, "bound": 40.0,
}  # fmt: skip
WORKS: dict[str, dict[str, Any]] = {
    "chips": _PLAIN,
    "chips, 8-bit ADC and DAC": {**_PLAIN, "bits": 8},
    "chips of PCM, with its drift": {**_PLAIN, "pcm": 1},
    "chips without read noise": {**_PLAIN, "read": 0},
    "programming only": {**_PLAIN, "forward": 0},
    "256 vectors on 512 x 512": {**_PLAIN, "tile": 1},
}
TORCH = "without read noise, torch tiles"
# A draw for every device and vector in numpy, by its kind of normal numbers.
SAMPLED = {
    "256 vectors, a draw a device (numpy)": "fastest",
    "256 vectors, a draw a device (numpy, CrossSim's generator)": "crosssim",
}
_HOUR, _DAY = 3600.0, 24 * 3600.0
# Preset: overrides of ours, seconds since programming at which both have a law.
PRESETS: dict[str, tuple[dict[str, float], tuple[float, ...]]] = {
    "pcm_nandakumar2019": ({}, (25.0, _HOUR, _DAY, 365 * _DAY)),
    "rram_wan2022": ({"read_noise": 0.0}, (1.0, _DAY, 2 * _DAY)),
    "rram_cmo_hfox_falcone": ({}, (0.0, 25.0, _HOUR, _DAY, 365 * _DAY)),
}
CELLS = 100_000


def apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """How far two samples differ, in standard errors.

    Args:
        a: [n, K], independent rows.
        b: [m, K].

    Returns:
        The largest difference of the K means, and of the K variances.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        return float(np.max(np.abs(a.mean(0) - b.mean(0)) / error))

    squares = [(z - z.mean(0)) ** 2 for z in (a, b)]
    return distance(a, b), distance(*squares)


def agreement(
    one: dict[str, np.ndarray], two: dict[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """How far the two sides are apart, for outputs and cells."""
    rows = {}
    for name in one:
        if name == "outputs":
            rows[name] = apart(one[name], two[name])
        elif name.startswith("cells/"):
            preset, age = name.split("/")[1:]
            seconds = PRESETS[preset][1][int(age)]
            rows[f"{preset} at {seconds:g} s"] = apart(one[name].T, two[name].T)
    return rows


def side(
    python: str, script: str, task: dict[str, Any], arrays: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Runs one side in a process of its own.

    Raises:
        SystemExit: with the command, if the side fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, wanted = Path(folder, "task.npz"), Path(folder, "result.npz")
        np.savez(given, task=json.dumps(task), **arrays)
        command = [python, str(Path(__file__).with_name(script))]
        run = subprocess.run([*command, str(given), str(wanted)], check=False)
        if run.returncode:
            raise SystemExit(
                f"{' '.join(command)} ended with {run.returncode}."
            )
        with np.load(wanted) as result:
            return dict(result)


def task(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both sides do, and the arrays that they do it with."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        f"w{i}": rng.normal(size=shape, scale=shape[0] ** -0.5)
        for i, shape in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False))
    }
    arrays["x"] = rng.random((VECTORS, WIDTHS[0]))
    arrays["tile"] = rng.normal(size=(TILE, TILE), scale=TILE**-0.5)
    arrays["tile_x"] = rng.random((TILE_VECTORS, TILE))
    names = PRESETS if given.check else {}
    for name in names:
        device = devices.get(name)
        low, high = float(device.g_min), float(device.g_max)
        share = np.array([0.25, 0.5, 0.75, 0.9])
        arrays[f"targets/{name}"] = (low + share * (high - low)) * 1e6
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    told = {
        "layers": len(WIDTHS) - 1,
        "works": WORKS,
        "law": LAW,
        "chips": given.chips,
        "repeats": given.repeats,
        "agree": AGREE,
        "half_width": 0.0,
        "presets": {name: PRESETS[name][1] for name in names},
        "cells": CELLS,
        "seed": 0,
        "sampled": SAMPLED,
        "overrides": {name: PRESETS[name][0] for name in names},
    }
    return told, arrays


def show(rows: dict[str, dict[str, list[float]]]) -> None:
    """Prints the medians of both sides."""
    table = Table(title="seconds")
    for column in ("work", "jaxedge", "min - max", "peer", "min - max", "x"):
        table.add_column(column, justify="right")
    for name, found in rows.items():
        cells = []
        for who in ("jaxedge", "peer"):
            span = found.get(who)
            cells += (
                [f"{statistics.median(span):.4f}",
                 f"{min(span):.4f} - {max(span):.4f}"] if span else ["", ""]
            )  # fmt: skip
        ratio = ""
        if len(found) == 2:
            medians = {k: statistics.median(v) for k, v in found.items()}
            ratio = f"{medians['peer'] / medians['jaxedge']:.1f}"
        table.add_row(name, *cells, ratio)
    Console().print(table)


def compared(
    mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each work on each side."""

    def seconds(result: dict[str, np.ndarray], name: str) -> list[float]:
        return [float(s) for s in result.get(f"seconds/{name}", ())]

    rows = {name: {"jaxedge": seconds(mine, name)} for name in WORKS}
    for name, row in rows.items():
        if theirs:
            row["peer"] = seconds(theirs, name)
    exact = seconds(mine, "256 vectors on 512 x 512")
    for name in SAMPLED:
        rows[name] = {"jaxedge": exact, "peer": seconds(mine, name)}
    if theirs:
        again = seconds(mine, "chips without read noise")
        rows[TORCH] = {"jaxedge": again, "peer": seconds(theirs, TORCH)}
    return rows


def console() -> int:
    """Measures, checks and prints; 1 if the two sides do not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_python", default="")
    parser.add_argument("--chips", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    told, arrays = task(given)
    mine = side(sys.executable, "peer_jaxedge.py", told, arrays)
    theirs: dict[str, np.ndarray] = {}
    if given.peer_python:
        torch = {**_PLAIN, "read": 0, "torch": 1}
        works = {**WORKS, TORCH: torch}
        peer = {**told, "works": works, "seed": 1}
        theirs = side(given.peer_python, "peer_aihwkit.py", peer, arrays)
    rows = compared(mine, theirs)
    show(rows)
    gaps = agreement(mine, theirs) if theirs else {}
    for name, (mean, variance) in gaps.items():
        print(f"{name}: means {mean:.1f}, variances {variance:.1f} s.e. apart")
    if given.out:
        given.out.write_text(
            json.dumps({"seconds": rows, "apart": gaps}, indent=1)
        )
    worst = max((max(pair) for pair in gaps.values()), default=0.0)
    return int(worst > STANDARD_ERRORS)


if __name__ == "__main__":
    sys.exit(console())
