"""Time of the diversity relaxation, beside the rule as it is told.

    .venv/bin/python scripts/bench/relax.py [--pool=10000] [--budget=500]

Both take turns on one core, on the same float32 features. "plain" normalises
the pool anew for every sample that it visits and sorts its cosines, as code
that follows the rule line by line would. Pools differ in how much there is to
skip: "apart" has normal features, where no two are similar; "rectified" the
positive part of correlated ones, as after a relu; "clustered" groups of 20
similar samples; "one cone" features whose mean is so large that all are
similar. Seconds are those of the processor, so that other programs count less.
Returns 1 where a median is above the target, or the choices differ in more
than one sample of a hundred, which rounding of near ties may do.
"""

import argparse
from collections.abc import Callable
import statistics
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from jaxedge.learn import active

TARGET = 0.2  # s on one core
NEIGHBOURS, THRESHOLD = 5, 0.85


def plain(scores: np.ndarray, features: np.ndarray, budget: int) -> list[int]:
    """One sample at a time, all of the pool for each."""
    chosen, skipped = [], []
    for i in np.argsort(-scores, kind="stable"):
        if len(chosen) == budget:
            break
        norm = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / norm
        alike = unit @ unit[i]
        alike[i] = -np.inf
        near = np.argsort(-alike, kind="stable")[:NEIGHBOURS]
        near = near[alike[near] > THRESHOLD]
        full = len(near) == NEIGHBOURS
        taken = full and np.isin(near, chosen).any()
        (skipped if taken else chosen).append(int(i))
    return chosen + skipped[: budget - len(chosen)]


def pools(size: int, features: int) -> dict[str, np.ndarray]:
    """Features [N, D] by the name of the pool."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    groups = normal(-(-size // 20), features)
    low = normal(size, 4) @ normal(4, features) / 2
    return {
        "apart": normal(size, features),
        "rectified": np.maximum(low + normal(size, features) / 4, 0),
        "clustered": groups[rng.integers(0, len(groups), size)]
        + normal(size, features) / 4,
        "one cone": 4 + normal(size, features),
    }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what was returned."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def console() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=1008)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    table = Table(
        title=f"{given.budget} of {given.pool} samples, {given.features}"
        " features, float32, one core"
    )
    names = ("pool", "relax, s", "min - max", "plain, s", "times", "same picks")
    for column in names:
        table.add_column(column, justify="right")
    failed = False
    scores = np.random.default_rng(1).random(given.pool)
    for name, h in pools(given.pool, given.features).items():
        with threadpool_limits(1):
            slow, want = timed(lambda h=h: plain(scores, h, given.budget))
            turns = [
                timed(lambda h=h: active.relax(scores, h, given.budget))
                for _ in range(given.repeats)
            ]
        seconds = [t for t, _ in turns]
        same = len(set(want) & set(turns[0][1].tolist())) / given.budget
        median = statistics.median(seconds)
        failed |= median > TARGET or same < 0.99
        table.add_row(
            name,
            f"{median:.3f}",
            f"{min(seconds):.3f} - {max(seconds):.3f}",
            f"{slow:.1f}",
            f"{slow / median:.0f}",
            f"{same:.1%}",
        )
    Console().print(table)
    print(f"target: {TARGET} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(console())
