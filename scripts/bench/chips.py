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
import sys
from typing import Any

import floor
import jax
import jax.numpy as jnp

from jaxedge import core, hardware
from jaxedge.run import chips, job, main, study

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def draws(key: jax.Array, variables: Any, test: study.Frames) -> jax.Array:
    """A cell has two normal levels and one uniform number for its fault; an
    output has one normal noise a vector.
    """
    cells = 2 * sum(w.size for w in weights(variables))
    noises = test.y.size * sum(w.shape[-1] for w in weights(variables))
    active = jnp.ravel(test.x)[0] < jnp.inf
    return floor.draws(key, active, 2 * cells + noises, cells)


def products(key: jax.Array, variables: Any, test: study.Frames) -> jax.Array:
    """The matrix products of one chip."""
    x = test.x.reshape(test.y.size, -1)
    return floor.products(key, x, weights(variables))


def weights(variables: Any) -> list[jax.Array]:
    """The matrices of the network."""
    leaves = jax.tree.leaves(variables["params"], is_leaf=hardware.is_weight)
    return [w.weights for w in leaves]


def setting() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The chip function of the main job and its arguments."""
    config = f"--config={ROOT}/configs/edge_pruning.py:digits"
    options = main.parse([config, "--workdir=unused"])
    resolved = job.resolve(options.config, None)
    state = jax.jit(resolved.recipe.init)(jax.random.key(0))
    variables = resolved.recipe.finish(state)
    test = study.frames(resolved.splits["test"], resolved.chips.batch)
    spec = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), resolved.spec)
    return study.chip_score(resolved.recipe), (variables, test, spec)


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
    work: dict[str, floor.Work] = {
        "random numbers": (draws, args[:2]),
        "matrix products": (products, args[:2]),
        "chips": (ours, args),
    }
    seconds = floor.turns(work, keys, given.repeats)
    title = f"{given.chips} chips, {jax.default_backend()}"
    return floor.show(title, seconds, given.chips, given.target)


if __name__ == "__main__":
    sys.exit(console())
