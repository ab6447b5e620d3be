"""What a chip costs beside the floor: its random numbers and its products.

    .venv/bin/python scripts/bench/chips.py [--chips=1000] [--repeats=5]

The network and the hardware are those of configs/edge_pruning.py:digits. The
floor draws as many normals and uniforms as the physics needs and multiplies
matrices of the same shapes, under the same map. Ours and the floor take turns
in one process; medians are compared.
"""

import argparse
from collections.abc import Callable
import pathlib
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from jaxedge import core, hardware
from jaxedge.run import chips, job, main, study

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def draws(key: jax.Array, variables: Any, test: study.Frames) -> jax.Array:
    """The random numbers of one chip, as cheaply as JAX draws them.

    A cell has two normal levels and one uniform number for its fault; an
    output has one normal noise a vector. Each goes through a product, because
    XLA would not compute a number that nothing reads.
    """
    k_normal, k_uniform = jax.random.split(key)
    cells = 2 * sum(w.size for w in weights(variables))
    noises = test.y.size * sum(w.shape[-1] for w in weights(variables))
    normals = jax.random.normal(k_normal, (padded(2 * cells + noises),))
    uniforms = jax.random.uniform(k_uniform, (padded(cells),))
    return read(normals) + read(uniforms)


def padded(n: int) -> int:
    """The next multiple of the row that `read` multiplies."""
    return -(-n // 64) * 64


def read(numbers: jax.Array) -> jax.Array:
    """Puts numbers in memory and reads them once."""
    return (numbers.reshape(-1, 64) @ jnp.ones(64)).sum()


def products(key: jax.Array, variables: Any, test: study.Frames) -> jax.Array:
    """The matrix products of one chip: the signal and its noise power."""
    x = test.x.reshape(test.y.size, -1)
    x += jax.random.uniform(key)  # A chip's products cannot be shared.
    for w in weights(variables):
        x = jax.lax.optimization_barrier((x @ w, jnp.square(x) @ w))[0]
    return x.sum()


def weights(variables: Any) -> list[jax.Array]:
    """The matrices of the network."""
    leaves = jax.tree.leaves(variables["params"], is_leaf=hardware.is_weight)
    return [w.weights for w in leaves]


def setting() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The chip function of the main job and its arguments."""
    config = f"--config={ROOT}/configs/edge_pruning.py:digits"
    options = main.parse([config, "--workdir=unused"])
    resolved = job.resolve(options.config, None)
    state = resolved.recipe.init(jax.random.key(0))
    variables = resolved.recipe.finish(state)
    test = study.frames(resolved.splits["test"], resolved.chips.batch)
    spec = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), resolved.spec)
    return study.chip_accuracy(resolved.recipe), (variables, test, spec)


def console() -> int:
    """Measures and prints the table; 1 if the ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=1.5)
    given = parser.parse_args()
    chips.spread_over_cores()
    keys = core.chip_keys(jax.random.key(1), given.chips)
    ours, args = setting()
    work = {
        "random numbers": (draws, args[:2]),
        "matrix products": (products, args[:2]),
        "chips": (ours, args),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(given.repeats + 1):
        for name, (f, arguments) in work.items():
            start = time.perf_counter()
            jax.block_until_ready(chips.chip_map(f, keys, args=arguments))
            if repeat:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    floor = median["random numbers"] + median["matrix products"]
    ratio = median["chips"] / floor
    table = Table(title=f"{given.chips} chips, {jax.default_backend()}")
    for column in ("work", "seconds", "ms a chip", "min - max"):
        table.add_column(column, justify="right")
    rows = {**median, "floor": floor}
    for name, value in rows.items():
        span = seconds.get(name)
        table.add_row(
            name,
            f"{value:.2f}",
            f"{1e3 * value / given.chips:.3f}",
            f"{min(span):.2f} - {max(span):.2f}" if span else "",
        )
    Console().print(table)
    print(f"chips / floor: {ratio:.2f} (target {given.target})")
    return int(ratio > given.target)


if __name__ == "__main__":
    sys.exit(console())
