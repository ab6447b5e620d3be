"""What benchmarks of chips share: the floor, turns in one process, a table."""

from collections.abc import Callable, Mapping, Sequence
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from jaxedge.hardware import sampling
from jaxedge.run import chips

# A function of a key and further arguments, and those arguments.
Work = tuple[Callable[..., Any], tuple[Any, ...]]


def draws(
    key: jax.Array, active: jax.Array, normals: int, uniforms: int
) -> jax.Array:
    """Random numbers as cheaply as we can, in memory and read once.

    Each goes through a product, because XLA would not compute a number that
    nothing reads. `active` is true, but not for the compiler to know.
    """
    k_normal, k_uniform = jax.random.split(key)
    law, shape = sampling.to_normal, (_padded(normals),)
    drawn = sampling.draw_if(active, law, k_normal, shape, jnp.float32)
    total = _read(drawn)
    if uniforms:
        total += _read(sampling.uniform(k_uniform, (_padded(uniforms),)))
    return total


def stock_draws(key: jax.Array, normals: int) -> jax.Array:
    """The same with `jax.random.normal`, for comparison."""
    return _read(jax.random.normal(key, (_padded(normals),)))


def products(
    key: jax.Array, x: jax.Array, matrices: Sequence[jax.Array]
) -> jax.Array:
    """The products of one chip: the signal and its noise power.

    The next layer reads both: XLA drops a product that nothing reads, in spite
    of a barrier.
    """
    x = x + jax.random.uniform(key)  # A chip's products cannot be shared.
    for w in matrices:
        x = jnp.maximum(x @ w, jnp.square(x) @ w)
    return x.sum()


def turns(
    work: Mapping[str, Work], keys: jax.Array, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each work, which take turns; the first turn compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, (f, arguments) in work.items():
            start = time.perf_counter()
            jax.block_until_ready(chips.chip_map(f, keys, args=arguments))
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(
    title: str, seconds: Mapping[str, list[float]], chips: int, target: float
) -> int:
    """Prints the table; 1 if chips cost more than `target` times the floor.

    The floor is the sum of the rows "random numbers" and "matrix products";
    "chips" is what is measured against it. Medians are compared.
    """
    rows = {name: statistics.median(s) for name, s in seconds.items()}
    floor = rows["random numbers"] + rows["matrix products"]
    ratio = rows["chips"] / floor
    table = Table(title=title)
    for column in ("work", "seconds", "ms a chip", "min - max"):
        table.add_column(column, justify="right")
    for name, value in {**rows, "floor": floor}.items():
        span = seconds.get(name)
        table.add_row(
            name,
            f"{value:.2f}",
            f"{1e3 * value / chips:.3f}",
            f"{min(span):.2f} - {max(span):.2f}" if span else "",
        )
    Console().print(table)
    print(f"chips / floor: {ratio:.2f} (target {target})")
    return int(ratio > target)


def _padded(n: int) -> int:
    """The next multiple of the row that `_read` multiplies."""
    return -(-n // 64) * 64


def _read(numbers: jax.Array) -> jax.Array:
    return (numbers.reshape(-1, 64) @ jnp.ones(64)).sum()
