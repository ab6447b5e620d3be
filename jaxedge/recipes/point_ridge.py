"""The readout of a point-set machine in closed form, in one pass of the data.

Noise that the readout must bear enters by the second moments (`learn.readout`):
by features as they were read, or by the variance that reads or chips add.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core.keys import stream
from jaxedge.learn import readout, readout_scores, row_blocks
from jaxedge.recipes import point_machine
from jaxedge.recipes.point_machine import Machine
from jaxedge.recipes.recipe import Recipe, Sums

# Ridges to choose from, two a decade.
GRID = np.logspace(-4, 1, 11, dtype=np.float32)


class Gathered(NamedTuple):
    """What is known of the rows so far.

    Attributes:
        sums: of the readout.
        spread: variance of every feature that the rows do not have and that
            the readout must bear, summed over them by weight, [F].
    """

    sums: readout.State
    spread: jax.Array


class State(NamedTuple):
    """What a pass carries.

    Attributes:
        step: int32 [].
        key: the run's key.
        params: of the network; the readout's are not looked at.
        stats: of the normalisation layers.
        gathered: of the readout.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    stats: Any
    gathered: Gathered


def make(machine: Machine, learn: Any, plan: Any, example: jax.Array) -> Recipe:
    """The recipe.

    Args:
        machine: the encoder.
        learn: `deplm.Learn`.
        plan: hardware that a readout for any chip is to bear.
        example: [1, ...] inputs, for shapes.
    """

    def empty() -> Gathered:
        sums = readout.init(machine.width, machine.classes)
        return Gathered(sums, jnp.zeros(machine.width))

    def gather(
        gathered: Gathered, params: Any, stats: Any, batch: Any, key: Any
    ) -> Gathered:
        """One more batch, as a chip reads it; ideal hardware has no key."""
        targets, weights = machine.targets(batch)
        few = learn.reads if key is not None else 1
        reads = [
            machine.encode(params, stats, batch.x, _read(key, i, few))
            for i in range(few)
        ]
        # A mean of n reads has 1/n of the variance v of one. The rest, (1 -
        # 1/n) v, is what the mean square of n deviations from it estimates.
        stack = jnp.stack(reads)
        features, rest = jnp.mean(stack, 0), jnp.var(stack, 0)
        return _add(gathered, features, targets, weights, rest)

    def gather_any(state: State, batch: Any) -> Gathered:
        """One more batch, and what a chip of its own makes of it."""
        params, stats, gathered = state.params, state.stats, state.gathered
        targets, weights = machine.targets(batch)
        features = machine.encode(params, stats, batch.x)
        chip_key = stream(state.key, "training chip", state.step)
        chip = hardware.deploy(chip_key, params, plan)
        read = stream(state.key, "training read", state.step)
        apart = machine.encode(chip, stats, batch.x, read) - features
        return _add(gathered, features, targets, weights, jnp.square(apart))

    def solved(params: Any, stats: Any, gathered: Gathered) -> Any:
        sums, spread = gathered
        known = row_blocks.totals(sums)
        moment = jnp.trace(known.xx) / machine.width
        ridge = learn.ridge
        if ridge is None:
            grid = jnp.asarray(GRID)
            errors = readout_scores.gcv(sums, moment * grid, bias=learn.bias)
            ridge = grid[jnp.argmin(jnp.mean(errors, 1))]
        found = readout.solve(
            sums,
            ridge * moment,
            bias=learn.bias,
            noise=spread / jnp.maximum(known.weight, 1),
        )
        head = {"kernel": found.matrix, "bias": found.bias}
        return {"params": params | {"readout": head}, "batch_stats": stats}

    def init(key: jax.Array) -> State:
        drawn = machine.network.init(stream(key, "params"), example)
        params, stats = drawn["params"], drawn["batch_stats"]
        return State(jnp.int32(0), key, params, stats, empty())

    def update(state: State, batch: Any) -> tuple[State, Sums]:
        params, stats, step = state.params, state.stats, state.step

        def learned() -> Gathered:
            if learn.serve == "any":
                return gather_any(state, batch)
            return gather(state.gathered, params, stats, batch, None)

        first = step < learn.calibrate
        new = state._replace(
            step=step + 1,
            stats=jax.lax.cond(
                first,
                lambda: machine.calibrated(params, stats, step, batch.x, None),
                lambda: stats,
            ),
            gathered=jax.lax.cond(first, lambda: state.gathered, learned),
        )
        return new, {"count": batch.weight.sum()}

    def finish(state: State) -> Any:
        return solved(state.params, state.stats, state.gathered)

    def adapt(variables: Any, lessons: Any, key: Any) -> Any:
        params, first = variables["params"], learn.calibrate
        stats, rest = point_machine.calibrate(
            machine, variables, lessons, key, first
        )

        def step(gathered: Gathered, frame: Any) -> tuple[Gathered, None]:
            i, batch = frame
            read = None if key is None else stream(key, "read", i)
            return gather(gathered, params, stats, batch, read), None

        frames = (first + jnp.arange(len(rest.y)), rest)
        gathered, _ = jax.lax.scan(step, empty(), frames)
        return solved(params, stats, gathered)

    own = learn.serve == "own"
    return Recipe(
        init,
        update,
        finish,
        evaluate=machine.scores,
        review=lambda state, metrics: state,
        forward=machine.apply,
        summary=lambda state: {},
        adapt=adapt if own else None,
        lessons=learn.chip_examples if own else 0,
    )


def _read(key: Any, i: int, few: int) -> Any:
    """The key of one of a few reads."""
    return key if key is None or few == 1 else stream(key, "again", i)


def _add(
    gathered: Gathered,
    features: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    spread: jax.Array,
) -> Gathered:
    """Rows, and the variance [R, F] that they do not have."""
    sums = readout.update(gathered.sums, features, targets, weights)
    more = jnp.sum(weights[:, None] * spread, 0)
    return Gathered(sums, gathered.spread + more)
