"""64 chips of a 784-512-256-10 network on 1,000 vectors, beside the floor.

    .venv/bin/python scripts/bench/mlp.py [--chips=64] [--repeats=5]
    .venv/bin/python scripts/bench/mlp.py --chips=10000 --memory  # Peak, once.

Cells are programmed with an error, products are read with noise: the work that
`analogue_simulators` measures in other simulators. The floor draws one normal
a cell and one an output, and multiplies matrices of the same shapes.
"""

import argparse
import resource
import sys
from typing import Any

import floor
import jax
import jax.numpy as jnp

from jaxedge import core, hardware
from jaxedge.hardware import crossbar, devices
from jaxedge.run import chips

WIDTHS = (784, 512, 256, 10)
VECTORS = 1000


def outputs(key: jax.Array, params: Any, x: jax.Array, spec: Any) -> jax.Array:
    """The sum of a chip's outputs, so that results cost no memory."""
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    for name in sorted(chip):
        read = core.stream(key, f"read {name}")
        x = jax.nn.relu(hardware.dot(x, chip[name], key=read))
    return x.sum()


def draws(key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    return floor.draws(key, x[0, 0] < 2, numbers(params, x), 0)


def stock_draws(key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    return floor.stock_draws(key, numbers(params, x))


def numbers(params: Any, x: jax.Array) -> int:
    """One normal a cell of a pair, one an output and vector."""
    cells = 2 * sum(w.size for w in params.values())
    return cells + len(x) * sum(WIDTHS[1:])


def products(key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    """The matrix products of one chip."""
    return floor.products(key, x, [params[name] for name in sorted(params)])


def console() -> int:
    """Measures and prints the table; 1 if the ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=1.3)
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    chips.spread_over_cores()
    key = jax.random.key(0)
    params = {
        f"layer {i}": jax.random.normal(core.stream(key, f"w{i}"), shape)
        / jnp.sqrt(shape[0])
        for i, shape in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False))
    }
    x = jax.random.uniform(core.stream(key, "x"), (VECTORS, WIDTHS[0]))
    device = devices.get("ideal", program_noise=0.03, read_noise=0.02)
    work: dict[str, floor.Work] = {
        "random numbers": (draws, (params, x)),
        "jax.random.normal": (stock_draws, (params, x)),
        "matrix products": (products, (params, x)),
        "chips": (outputs, (params, x, crossbar.Spec(device))),
    }
    keys = core.chip_keys(key, given.chips)
    if given.memory:
        f, arguments = work["chips"]
        jax.block_until_ready(chips.chip_map(f, keys, args=arguments))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{given.chips} chips: at most {peak:.2f} GiB resident")
        return 0
    seconds = floor.turns(work, keys, given.repeats)
    title = f"{given.chips} chips of {VECTORS} vectors"
    return floor.show(title, seconds, given.chips, given.target)


if __name__ == "__main__":
    sys.exit(console())
