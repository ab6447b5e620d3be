"""Time of the closed-form readout, beside its products and scikit-learn.

    .venv/bin/python scripts/bench/readout.py [--rows=60000] [--features=1024]

All take turns in one process, on the same float32 rows with a common mean.
"bare" is X^T X of all rows at once and one Cholesky solve, not centred. Errors
are those of the centred solution, the largest relative to the largest weight,
against float64. Returns 1 where the readout takes more than 1.3 times the bare
products, or as long as scikit-learn; medians are compared.
"""

import argparse
from collections.abc import Callable
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import Ridge

from jaxedge.learn import readout

LIMIT = 1.3  # times the bare products
RIDGE = 10.0


@jax.jit
def bare(x: jax.Array, y: jax.Array) -> jax.Array:
    """Raw sums and the solution, as two lines of JAX would have them."""
    highest = jax.lax.Precision.HIGHEST
    gram = jnp.matmul(x.T, x, precision=highest)
    rhs = jnp.matmul(x.T, y, precision=highest)
    ridge = RIDGE * jnp.eye(len(gram), dtype=x.dtype)
    return jax.scipy.linalg.solve(gram + ridge, rhs, assume_a="pos")


def ours(x: jax.Array, y: jax.Array, chunk: int) -> jax.Array:
    """The centred readout, `chunk` rows at a time."""
    state = readout.init(x.shape[1], y.shape[1])
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        state = readout.update(state, x[part], y[part])
    return readout.solve(state, RIDGE, bias="free").matrix


def works(x: np.ndarray, y: np.ndarray) -> dict[str, Callable]:
    """Functions that return the weights, [D, K]."""
    xs, ys = jnp.asarray(x), jnp.asarray(y)

    def peer(solver: str) -> np.ndarray:
        return Ridge(RIDGE, solver=solver).fit(x, y).coef_.T

    return {
        "bare": lambda: bare(xs, ys),
        "readout": lambda: ours(xs, ys, len(x)),
        "readout, 1000 rows a time": lambda: ours(xs, ys, 1000),
        "scikit-learn, default": lambda: peer("auto"),
        "scikit-learn, cholesky": lambda: peer("cholesky"),
    }


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The centred solution in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)


def missed(median: dict[str, float]) -> list[str]:
    """The targets that the times, s, do not meet."""
    time_taken = median["readout"]
    found = []
    if time_taken > LIMIT * median["bare"]:
        found.append(f"more than {LIMIT} times the bare products")
    for name, seconds in median.items():
        if name.startswith("scikit") and time_taken >= seconds:
            found.append(f"not faster than {name}")
    return found


def console() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--targets", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    # Conductances of the 40 nm macro, in microsiemens.
    shape = (given.rows, given.features)
    x = rng.normal(34.05538, 5.32269, shape).astype(np.float32)
    y = rng.normal(size=(given.rows, given.targets)).astype(np.float32)
    work, want = works(x, y), exact(x, y)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    error = {}
    for repeat in range(given.repeats + 1):
        for name, f in work.items():
            start = time.perf_counter()
            found = jax.block_until_ready(f())
            if repeat:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
            error[name] = np.abs(found - want).max() / np.abs(want).max()
    median = {n: statistics.median(times) for n, times in seconds.items()}
    table = Table(
        title=f"{given.rows} rows, {given.features} features,"
        f" {given.targets} targets, float32"
    )
    for column in (
        "solution",
        "median, s",
        "min - max",
        "of bare",
        "error",
    ):
        table.add_column(column, justify="right")
    for name, times in seconds.items():
        table.add_row(
            name,
            f"{median[name]:.3f}",
            f"{min(times):.3f} - {max(times):.3f}",
            f"{median[name] / median['bare']:.2f}",
            f"{error[name]:.0e}",
        )
    Console().print(table)
    failures = missed(median)
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(console())
