"""A layer on in-SRAM macros: exact, fast, its floor, and torch.

    .venv/bin/python scripts/bench/sram.py --peer_python=PATH
        [--vectors=1024] [--inputs=576] [--outputs=64] [--repeats=5]

PATH is a Python that has torch; no path measures ours alone. The layer has
inputs and weights of 4 bits on arrays of 64 rows, with all errors at their
defaults; weights are programmed once. The floor of the exact path is the
drawing of its four numbers a conversion (two lines' pulses, their noise, all
decisions) and its four products, of the fast path one number and one product.
Sides take turns.

The run fails where the fast path is not 5 times as fast as the exact one, or
has another error by more than 2 %; and, beside torch, where the exact path is
not 3 times as fast, or the errors of both sides differ by more than 5 %.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peers import side
from rich.console import Console
from rich.table import Table

from jaxedge.hardware import sampling, sram
from jaxedge.hardware.noise import tile_matmul

CHIPS = 32  # over which errors are compared
FAST, TORCH = 5.0, 3.0


@jax.jit
def _program(key: jax.Array, w: jax.Array, config: sram.Config) -> Any:
    return sram.columns.draw(key, w, config)


def works(x: jax.Array, columns: Any, config: sram.Config) -> dict[str, Any]:
    """What is timed: functions of a key."""

    def path(name: str) -> Any:
        def run(key: jax.Array, x: jax.Array, columns: Any) -> jax.Array:
            return sram.read(
                x, columns, config, key, path=name, product=tile_matmul
            ).code

        return jax.jit(run)

    def floor(draws: int, products: int) -> Any:
        def run(key: jax.Array, x: jax.Array, columns: Any) -> jax.Array:
            w = columns.plus
            y = tile_matmul(x, w)
            for i in range(1, products):
                y += tile_matmul(x + i, w)

            def draw(total: jax.Array, i: jax.Array) -> Any:
                one = jax.random.fold_in(key, i)
                return total + sampling.normal(one, y.shape), None

            return jax.lax.scan(draw, y, jnp.arange(draws))[0]

        return jax.jit(run)

    found = {
        "exact": path("exact"),
        "its floor": floor(4, 4),
        "fast": path("fast"),
        "floor of fast": floor(1, 1),
    }
    return {
        name: (lambda key, f=f: f(key, x, columns)) for name, f in found.items()
    }


def error(x: jax.Array, w: jax.Array, config: sram.Config, path: str) -> float:
    """Root mean square over chips, units of x w."""
    want = tile_matmul(x, w)

    @jax.jit
    def one(key: jax.Array) -> jax.Array:
        chip, read = jax.random.split(key)
        columns = sram.columns.draw(chip, w, config)
        code = sram.read(
            x, columns, config, read, path=path, product=tile_matmul
        ).code
        return jnp.mean((sram.decode(code, w, config) - want) ** 2)

    keys = jax.random.split(jax.random.key(1), CHIPS)
    return float(np.sqrt(np.mean([one(key) for key in keys])))


def console() -> int:
    """Measures and prints; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_python", default="")
    parser.add_argument("--vectors", type=int, default=1024)
    parser.add_argument("--inputs", type=int, default=576)
    parser.add_argument("--outputs", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    config = sram.Config()
    rng = np.random.default_rng(0)
    tiles = -(-given.inputs // config.rows)
    shape = (given.vectors, tiles, config.rows)
    x = rng.integers(0, 16, shape).astype(np.float32)
    shape = (tiles, config.rows, given.outputs)
    w = rng.integers(-7, 8, shape).astype(np.float32)
    xs, ws = jnp.asarray(x), jnp.asarray(w)
    columns = _program(jax.random.key(0), ws, config)
    work = works(xs, columns, config)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(given.repeats + 1):
        for name, f in work.items():
            key = jax.random.fold_in(jax.random.key(2), repeat)
            start = time.perf_counter()
            f(key).block_until_ready()
            if repeat:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
    errors = {
        name: error(xs[:64], ws, config, name) for name in ("exact", "fast")
    }
    if given.peer_python:
        numbers = {
            name: float(value)
            for name, value in dataclasses.asdict(config).items()
            if name.startswith("sigma")
        }
        task = {
            **numbers,
            "fold": int(np.asarray(config.fold)),
            "lsb": int(np.asarray(config.lsb_units)),
            "steps": config.steps,
            "repeats": given.repeats,
            "chips": CHIPS,
        }
        theirs = side(given.peer_python, "peer_sram.py", task, {"x": x, "w": w})
        print(f"torch {theirs['version']}")
        seconds["torch"] = [float(s) for s in theirs["seconds"]]
        errors["torch"] = float(theirs["error"])
    return report(given, seconds, errors)


def report(
    given: argparse.Namespace,
    seconds: dict[str, list[float]],
    errors: dict[str, float],
) -> int:
    """Prints the table; 1 if a target is missed."""
    median = {name: statistics.median(s) for name, s in seconds.items()}
    conversions = given.vectors * -(-given.inputs // 64) * given.outputs
    table = Table(title=f"{conversions:,} conversions of 64 rows")
    for column in ("path", "seconds", "min - max", "ns each", "error"):
        table.add_column(column, justify="right")
    for name, times in seconds.items():
        table.add_row(
            name,
            f"{median[name]:.4f}",
            f"{min(times):.4f} - {max(times):.4f}",
            f"{1e9 * median[name] / conversions:.0f}",
            f"{errors[name]:.2f}" if name in errors else "",
        )
    Console().print(table)
    gain = median["exact"] / median["fast"]
    off = errors["fast"] / errors["exact"] - 1
    print(f"fast: {gain:.1f} times as fast, error {off:+.1%}")
    print(f"exact: {median['exact'] / median['its floor']:.2f} of its floor")
    missed = gain < FAST or abs(off) > 0.02
    if "torch" in median:
        gain = median["torch"] / median["exact"]
        off = errors["torch"] / errors["exact"] - 1
        print(f"exact beside torch: {gain:.1f} times, its error {off:+.1%}")
        missed |= gain < TORCH or abs(off) > 0.05
    return int(missed)


if __name__ == "__main__":
    sys.exit(console())
