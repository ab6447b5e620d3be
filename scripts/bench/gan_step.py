"""A training step of the sequential GAN beside what its losses cost by nature.

    .venv/bin/python scripts/bench/gan_step.py [--size=small] [--repeats=5]

A step is critics and generators, the mean over the three in which generators
have one turn. Its floor is the sum of the losses and slopes of its turns, each
compiled by itself, without optimisers. Images are drawn; `small` is the network
of `configs/sequential_gan.py`, 16 x 16, and `published` the paper's, 64 x 64.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from jaxedge.core.keys import stream
from jaxedge.recipes import adversarial, sequential_gan

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs import sequential_gan as configs  # noqa: E402

VARIANTS = {"small": "joint", "published": "published"}


def planned(size: str) -> adversarial.Plan:
    """How the networks of a size are taught."""
    given = sequential_gan.parse(configs.get_config(VARIANTS[size]))
    side = given.data.side
    return adversarial.Plan(
        model=sequential_gan.network(given, (side, side), 2),
        schedule=given.gan.schedule,
        rate=given.optimizer.learning_rate,
        b1=given.optimizer.b1,
        b2=given.optimizer.b2,
        compat=given.gan.compat,
        every=given.gan.every,
        repeats=given.gan.repeats,
        average=given.optimizer.average,
        rollbacks=given.gan.rollbacks,
    )


def drawn(plan: adversarial.Plan, count: int) -> adversarial.Batch:
    """Images of all kinds."""
    shape = (count, *plan.model.sides, 2)
    x = jnp.tanh(jax.random.normal(jax.random.key(1), shape))
    y = jnp.zeros((count, 0))
    return adversarial.Batch(x, y, x[..., :1], y, x[..., 1:], y)


def bare(plan: adversarial.Plan, batch: Any, start: Any) -> dict[str, Any]:
    """Of each turn its loss and slope, and how often it comes in `every`."""
    key, step = jax.random.key(2), jnp.int32(0)

    def one(turn: adversarial.Turn) -> Callable[[], Any]:
        @jax.jit
        def run(params: Any) -> Any:
            own = adversarial.part(params, turn.nets)
            return jax.value_and_grad(
                lambda own: turn.loss({**params, **own}, batch, key, step)[0]
            )(own)

        return lambda: run(start.params)

    times = {
        name: plan.every
        if name.endswith("_critic")
        else plan.repeats
        if name.startswith(("second", "joint"))
        else 1
        for name in adversarial.turns(plan)
    }
    return {
        name: (one(turn), times[name])
        for name, turn in adversarial.turns(plan).items()
    }


def stepping(plan: adversarial.Plan, batch: Any, state: Any) -> Any:
    """A function that takes `every` steps."""
    update = jax.jit(
        lambda state, batch: adversarial.update(plan, state, batch),
        donate_argnums=0,
    )
    held = [state]

    def run() -> Any:
        for _ in range(plan.every):
            held[0], sums = update(held[0], batch)
        return held[0].step, sums

    return run


def turns(
    work: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, float]:
    """The least seconds of each work; they take turns, and first compile."""
    least = dict.fromkeys(work, float("inf"))
    for repeat in range(repeats + 1):
        for name, run in work.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if repeat:
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def console() -> int:
    """Measures and prints the table; 1 if the ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=VARIANTS, default="small")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=1.3)
    given = parser.parse_args()
    plan = planned(given.size)
    batch = drawn(plan, given.batch)
    key = stream(jax.random.key(0), "init")
    # Two: a step gives its state away.
    begin = jax.jit(lambda: adversarial.init(plan, key, batch.first[:1]))
    parts = bare(plan, batch, begin())
    work = {name: run for name, (run, _) in parts.items()}
    seconds = turns(
        {**work, "step": stepping(plan, batch, begin())}, given.repeats
    )
    rows = {
        name: seconds[name] * times / plan.every
        for name, (_, times) in parts.items()
    }
    floor, step = sum(rows.values()), seconds["step"] / plan.every
    table = Table(title=f"{given.size}, batches of {given.batch}")
    for column in ("what", "ms a step"):
        table.add_column(column, justify="right")
    for name, value in (*rows.items(), ("sum", floor), ("whole step", step)):
        table.add_row(name, f"{1e3 * value:.1f}")
    Console().print(table)
    ratio = step / floor
    print(f"a whole step is {ratio:.2f} of the sum, target {given.target}")
    return int(ratio > given.target)


if __name__ == "__main__":
    sys.exit(console())
