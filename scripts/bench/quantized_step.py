"""Times a step of quantization-aware training beside the float step.

    python scripts/bench/quantized_step.py [--config=FILE:ARG ...] [--steps=N]

Of each config the step of its network on learned grids, with and without the
regulariser, and of the same network in full precision; and what a choice of
examples costs beside a pass of both networks over them. Needs the data root.
"""

import argparse
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.recipes import coresets, quantization_aware
from jaxedge.run import job, main

CONFIGS = ("configs/vit_variation.py:lsq", "configs/coreset_qat.py:resnet")
FULL = (
    "--config.quantize.weights=None",
    "--config.quantize.inputs=None",
    "--config.quantize.regulariser=0",
    "--config.coreset.method=all",
    "--config.coreset.fraction=1",
)


def console() -> None:
    """Prints a JSON object a config."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--data_root", default=None)
    given = parser.parse_args()
    for config in given.config or CONFIGS:
        print(json.dumps(measure(config, given.steps, given.data_root)))


def measure(config: str, steps: int, data_root: str | None) -> dict[str, Any]:
    """Seconds of a step, medians of alternating runs."""
    more = ("--config.quantize.regulariser=0.01",)
    runs = {
        "float": _step(config, FULL, data_root),
        "grids": _step(config, ("--config.quantize.regulariser=0",), data_root),
        "regularised": _step(config, more, data_root),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(steps):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    found = {name: statistics.median(row) for name, row in seconds.items()}
    return {
        "config": config,
        "seconds": found,
        "over_float": {
            name: round(value / found["float"], 2)
            for name, value in found.items()
        },
        "choice": _choice(config, data_root),
    }


def _resolve(config: str, flags: Any, data_root: str | None) -> job.Job:
    arguments = (f"--config={config}", *flags, "--workdir=none")
    return job.resolve(main.parse(arguments).config, data_root)


def _step(config: str, flags: Any, data_root: str | None) -> Any:
    """A function that takes one step and waits for it."""
    resolved = _resolve(config, flags, data_root)
    recipe, train = resolved.recipe, resolved.splits["train"]
    batch = next(data.epoch(train, resolved.given.train.batch, resolved.key, 0))
    state = jax.jit(recipe.init)(resolved.key)
    if recipe.begin is not None:
        state = jax.jit(recipe.begin)(state, batch)
    update = jax.jit(recipe.update, donate_argnums=0)
    held = [update(state, batch)[0]]  # Compiles.

    def run() -> None:
        held[0] = jax.block_until_ready(update(held[0], batch)[0])

    run()
    return run


def _choice(config: str, data_root: str | None) -> dict[str, float] | None:
    """Seconds of a choice, and of both networks over the examples."""
    resolved = _resolve(config, (), data_root)
    recipe, source = resolved.recipe, resolved.splits["train"]
    if recipe.subset is None:
        return None
    source = source.rows(np.arange(min(2000, len(source.y))))
    state = jax.jit(recipe.init)(resolved.key)
    variables = jax.jit(recipe.finish)(state)
    model, full = quantization_aware.network(
        resolved.given.model,
        jnp.asarray(source.x[:1]),
        len(source.classes),
        data_root,
    )
    look = coresets.observer(model)
    memory = recipe.subset.init(source)
    times: dict[str, list[float]] = {"choice": [], "both": []}
    for turn in range(4):
        start = time.perf_counter()
        recipe.subset.choose(state, memory, source, turn, resolved.key)
        middle = time.perf_counter()
        look(variables, source)
        look(full, source)
        end = time.perf_counter()
        if turn:  # The first compiles.
            times["choice"].append(middle - start)
            times["both"].append(end - middle)
    found = {name: statistics.median(row) for name, row in times.items()}
    return {**found, "ratio": round(found["choice"] / found["both"], 2)}


if __name__ == "__main__":
    console()
