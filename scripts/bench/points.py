"""Farthest points, ball query and interpolation: ours, and torch's.

    .venv/bin/python scripts/bench/points.py --peer_python=PATH
        [--clouds=32] [--points=2048] [--repeats=5]

PATH is a Python that has torch; no path measures ours alone. The work is the
first set abstraction of the segmentation network of arXiv:2312.09262 (512
centroids, 32 neighbours) at radius .2, and the interpolation of 128 features
back. Clouds lie on ellipsoids, normalised. The sides take turns, each a process
of its own; torch has one thread or all, whichever is faster. The first call of
each, which compiles ours, is not counted.

The run fails unless both find the same: where an index differs, the distances
that decide must be equal to within the rounding of float32.
"""

import argparse
from collections.abc import Callable
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np
from peers import side
from rich.console import Console
from rich.table import Table

from jaxedge.features import points

TASK: dict[str, Any] = {"centroids": 512, "radius": 0.2, "neighbours": 32}
FEATURES = 128
# Of |a|^2 + |b|^2 - 2ab within the unit ball: some units in the last place of
# 4, the largest squared distance.
ROUNDING = 4e-6


def clouds(given: argparse.Namespace) -> dict[str, np.ndarray]:
    """x [B, N, 3], centroids c [B, S, 3], and their features f [B, S, C]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(given.clouds, given.points, 3))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    x *= rng.uniform(0.3, 1, size=(given.clouds, 1, 3))
    x = np.asarray(points.normalise(x.astype(np.float32)))
    idx = points.farthest_points(x, TASK["centroids"], start=0)
    c = np.asarray(points.group(x, idx))
    f = rng.normal(size=(*c.shape[:2], FEATURES)).astype(np.float32)
    return {"x": x, "c": c, "f": f}


def works(arrays: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    """Our side, on arrays that lie on the device."""
    x, c, f = (jax.device_put(arrays[k]) for k in "xcf")
    radius, n = TASK["radius"], TASK["neighbours"]
    return {
        "farthest": lambda: points.farthest_points(
            x, TASK["centroids"], start=0
        ),
        "ball": lambda: points.ball_query(radius, n, x, c),
        "interpolate": lambda: points.interpolate(x, c, f),
    }


def measured(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds of each repeat, and what was found."""
    found = jax.block_until_ready(work())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return seconds, np.asarray(found)


def wrong_centroids(x: np.ndarray, one: np.ndarray, two: np.ndarray) -> int:
    """Clouds whose first differing choice is no tie in float64."""
    wrong = 0
    for cloud, a, b in zip(x.astype(np.float64), one, two, strict=True):
        differ = np.flatnonzero(a != b)
        if not differ.size:
            continue
        at = differ[0]
        rivals, chosen = cloud[[a[at], b[at]]], cloud[a[:at]]
        away = ((rivals[:, None] - chosen) ** 2).sum(-1).min(-1)
        wrong += int(abs(away[0] - away[1]) > ROUNDING)
    return wrong


def wrong_balls(
    arrays: dict[str, np.ndarray], one: np.ndarray, two: np.ndarray
) -> int:
    """Balls that differ though no point is on the edge, in float64."""
    wrong = 0
    for cloud, row in np.argwhere((one != two).any(-1)):
        x = arrays["x"][cloud].astype(np.float64)
        away = ((x - arrays["c"][cloud, row]) ** 2).sum(-1)
        wrong += int(np.abs(away - TASK["radius"] ** 2).min() > ROUNDING)
    return wrong


def disagreements(
    arrays: dict[str, np.ndarray], mine: dict[str, Any], theirs: dict[str, Any]
) -> dict[str, int]:
    """How much of what the two sides found rounding does not explain."""
    apart = np.abs(mine["interpolate"] - theirs["interpolate"]).max(-1)
    # torch's squared distances are off by ROUNDING, and d^2 is 0 for the
    # centroids themselves, so that only the others can agree.
    d2 = points.nearest(1, arrays["c"], arrays["x"])[1][..., 0]
    clear = np.asarray(d2) > 1e3 * ROUNDING
    return {
        "farthest": wrong_centroids(
            arrays["x"], mine["farthest"], theirs["farthest"]
        ),
        "ball": wrong_balls(arrays, mine["ball"], theirs["ball"]),
        "interpolate": int((apart[clear] > 1e-2).sum()),
    }


def show(seconds: dict[str, dict[str, list[float]]]) -> None:
    """Prints the medians of both sides."""
    table = Table(title="seconds")
    for column in ("work", "jaxedge", "min - max", "torch", "min - max", "x"):
        table.add_column(column, justify="right")
    for name, row in seconds.items():
        cells, medians = [], []
        for times in row.values():
            medians.append(statistics.median(times))
            span = f"{min(times):.4f} - {max(times):.4f}"
            cells += [f"{medians[-1]:.4f}", span]
        ratio = f"{medians[1] / medians[0]:.0f}" if len(medians) > 1 else ""
        table.add_row(name, *(cells + [""] * 2)[:4], ratio)
    Console().print(table)


def console() -> int:
    """Measures, checks and prints; 1 if the two sides do not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_python", default="")
    parser.add_argument("--clouds", type=int, default=32)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    arrays = clouds(given)
    seconds: dict[str, dict[str, list[float]]] = {}
    mine: dict[str, Any] = {}
    for name, work in works(arrays).items():
        times, mine[name] = measured(work, given.repeats)
        seconds[name] = {"jaxedge": times}
    wrong: dict[str, int] = {}
    if given.peer_python:
        task = {**TASK, "repeats": given.repeats}
        theirs = side(given.peer_python, "peer_points.py", task, arrays)
        for name, row in seconds.items():
            row["torch"] = [float(s) for s in theirs[f"seconds/{name}"]]
        wrong = disagreements(arrays, mine, theirs)
        same = {
            k: f"{(mine[k] == theirs[k]).mean():.6f}" for k in list(mine)[:2]
        }
        print(f"torch {theirs['version']}, one thread or all")
        print(f"equal indices: {same}; not explained by rounding: {wrong}")
    both = [seconds["farthest"], seconds["ball"]]
    seconds["farthest + ball"] = {
        who: [
            sum(pair) for pair in zip(*(row[who] for row in both), strict=True)
        ]
        for who in both[0]
    }
    show(seconds)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(console())
