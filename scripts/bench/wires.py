"""Currents of an array with resistive wires: ours, and badcrossbar's.

    .venv/bin/python scripts/bench/wires.py [--size=256] [--vectors=100]
    .venv/bin/python scripts/bench/wires.py --drop   # the closed form's errors

All take turns in one process, on the same cells (the 40 nm macro, half of them
formed) and voltages; badcrossbar is measured where it is installed. Errors are
the largest, relative to the largest current, against the exact solution.
"""

import argparse
from collections.abc import Callable
import logging
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxedge.hardware import ir_drop, wires


def works(g: np.ndarray, v: np.ndarray, ohm: float) -> dict[str, Callable]:
    """Functions that return the currents [B, C]."""
    ohms: dict[str, Any] = {"r_word": ohm, "r_bit": ohm}
    known = wires.transfer(g, **ohms)
    cells = jnp.asarray(g)
    found: dict[str, Callable] = {
        "exact": lambda: wires.solve(g, v, **ohms),
        "iterative": lambda: np.asarray(wires.iterate(g, v, **ohms).current),
        "known transfer": lambda: v @ known,
        "closed form": lambda: (
            v @ np.asarray(ir_drop.approximate(cells, **ohms))
        ),
    }
    try:
        import badcrossbar  # type: ignore[import-not-found]
    except ImportError:
        return found

    def peer() -> np.ndarray:
        solution = badcrossbar.compute(v.T, 1 / g, ohm)
        return np.asarray(solution.currents.output)

    return found | {"badcrossbar": peer}


def cells_of(size: int, seed: int = 0) -> tuple[np.ndarray, Any]:
    """Conductances of the 40 nm macro, S, and the generator that drew them."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    formed = rng.random(shape) < 0.5
    g = np.where(formed, rng.normal(34.05538, 5.32269, shape), 0.1) * 1e-6
    return g, rng


def drops() -> Table:
    """How far ideal wires and the closed form are from the exact currents."""
    table = Table(title="error, relative to the spread of the exact currents")
    for column in ("cells", "ohm", "ideal wires", "closed form", "trimmed"):
        table.add_column(column, justify="right")
    for size in (64, 128, 256):
        g, other = cells_of(size)[0], cells_of(size, seed=1)[0]
        for ohm in (0.5, 1.0, 2.0):
            ohms = {"r_word": ohm, "r_bit": ohm}
            trims = ir_drop.calibrate([other], **ohms)
            errors = [
                ir_drop.error(g, trims=t, **ohms)
                for t in (ir_drop.Trims(0, 0), ir_drop.Trims(), trims)
            ]
            shown = [f"{error:.4f}" for error in errors]
            table.add_row(f"{size} x {size}", f"{ohm:g}", *shown)
    return table


def console() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--vectors", type=int, default=100)
    parser.add_argument("--ohm", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--drop", action="store_true")
    given = parser.parse_args()
    if given.drop:
        Console().print(drops())
        return 0
    g, rng = cells_of(given.size)
    v = 0.2 * (rng.random((given.vectors, given.size)) < 0.5)
    logging.disable(logging.INFO)
    work = works(g, v, given.ohm)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    error = {}
    exact = wires.solve(g, v, r_word=given.ohm, r_bit=given.ohm)
    for repeat in range(given.repeats + 1):
        for name, f in work.items():
            start = time.perf_counter()
            current = jax.block_until_ready(f())
            if repeat:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
            error[name] = np.abs(current - exact).max() / np.abs(exact).max()
    table = Table(
        title=f"{given.size} x {given.size} cells, {given.vectors} vectors,"
        f" {given.ohm} ohm a segment"
    )
    for column in ("solution", "seconds", "min - max", "error"):
        table.add_column(column, justify="right")
    for name, times in seconds.items():
        table.add_row(
            name,
            f"{statistics.median(times):.4f}",
            f"{min(times):.4f} - {max(times):.4f}",
            f"{error[name]:.0e}",
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(console())
