"""Two generators and their critics, taught in turns: pure functions of a state.

The order of arXiv:2308.14066 in its released code (sequential_gan 4): the
critics at every step; at every third, a turn of the first generator and one of
the reconstruction, then twice a turn of the second generator and one of what it
makes of reconstructions (`gan_turns`). Every loss has an Adam of its own, so
that how much a loss weighs is its rate, not a factor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxedge.core.keys import stream
from jaxedge.hardware import convolution
from jaxedge.recipes.gan_turns import GIVEN as GIVEN
from jaxedge.recipes.gan_turns import JOINT as JOINT
from jaxedge.recipes.gan_turns import MAKERS as MAKERS
from jaxedge.recipes.gan_turns import PAIRS as PAIRS
from jaxedge.recipes.gan_turns import SCHEDULES as SCHEDULES
from jaxedge.recipes.gan_turns import Batch as Batch
from jaxedge.recipes.gan_turns import Plan as Plan
from jaxedge.recipes.gan_turns import Turn as Turn
from jaxedge.recipes.gan_turns import encoded as encoded
from jaxedge.recipes.gan_turns import energy_score as energy_score
from jaxedge.recipes.gan_turns import latents as latents
from jaxedge.recipes.gan_turns import part as part
from jaxedge.recipes.gan_turns import turns as turns
from jaxedge.recipes.recipe import Sums


class State(NamedTuple):
    """All that training carries from step to step.

    Attributes:
        step: int32 [].
        key: the run's key; steps draw from its streams.
        params: of all networks.
        moments: of Adam, by turn.
        average: of what makes images; nothing where none is kept.
        sound: params, moments and average to go back to; nothing where none are
            kept.
        factor: of all rates, [].
        broken: how often it went back, int32 [].
        last: step of the last time, from 0, int32 [], -1 before.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    moments: Any
    average: Any
    sound: Any
    factor: jax.Array
    broken: jax.Array
    last: jax.Array


def init(plan: Plan, key: jax.Array, example: jax.Array) -> State:
    """The state before the first step.

    Args:
        plan: how the networks are taught.
        key: the run's.
        example: images of the first modality, [1, H, W, C], for shapes; latent
            vectors where there is no encoder.
    """
    params = plan.model.init(stream(key, "params"), example)["params"]
    params = {name: params[name] for name in sorted(params)}
    adam = optax.scale_by_adam(plan.b1, plan.b2)
    moments = {
        name: adam.init(part(params, turn.nets))
        for name, turn in turns(plan).items()
    }
    # Copies: the loop donates the state, and no buffer twice.
    copied = lambda tree: jax.tree.map(jnp.copy, tree)  # noqa: E731
    average = copied(part(params, MAKERS)) if plan.average else ()
    return State(
        step=jnp.int32(0),
        key=key,
        params=params,
        moments=moments,
        average=average,
        sound=copied((params, moments, average)) if plan.rollbacks else (),
        factor=jnp.float32(1),
        broken=jnp.int32(0),
        last=jnp.int32(-1),
    )


def makers(state: State) -> dict[str, Any]:
    """The parameters of what makes images, averaged where an average is kept.

    Returns:
        Of `MAKERS`; without the critics.
    """
    return state.average or part(state.params, MAKERS)


def update(plan: Plan, state: State, batch: Batch) -> tuple[State, Sums]:
    """One step: all turns that are due.

    Returns:
        The new state, and sums over the examples: what turns tell, "loss", by
        pairs where there are such turns and else how far critics hold real and
        made images apart, and "rollbacks/total".
    """
    known = turns(plan)

    def take(name: str, held: Any, again: int = 0) -> tuple[Any, Any]:
        params, moments = held
        turn = known[name]
        key = stream(state.key, f"{name}/{again}", state.step)

        def loss(own: Any) -> Any:
            return turn.loss({**params, **own}, batch, key, state.step)

        own = part(params, turn.nets)
        (value, told), slope = jax.value_and_grad(loss, has_aux=True)(own)
        adam = optax.scale_by_adam(plan.b1, plan.b2)
        moves, moment = adam.update(slope, moments[name])
        rate = plan.rate * turn.rate * state.factor
        own = jax.tree.map(lambda w, move: w - rate * move, own, moves)
        held = {**params, **own}, {**moments, name: moment}
        return held, {**told, f"{name}/value": value}

    def generators(held: Any) -> tuple[Any, Any]:
        told: dict[str, jax.Array] = {}
        for name in ("first_generator", "first_pairs"):
            if name in known:
                held, more = take(name, held)
                told |= more
        for again in range(plan.repeats):
            for name in ("second_generator", "joint_generator", "second_pairs"):
                if name in known:
                    held, more = take(name, held, again)
                    told |= more
        # A mean over all steps, of which these are one in `every`.
        return held, {k: plan.every * v for k, v in told.items()}

    held, told = (state.params, state.moments), {}
    # Inside `cond` the gradient of a convolution is slow on a CPU.
    with convolution.by_patches(jax.default_backend() == "cpu"):
        if plan.schedule == "supervised":
            for name in known:
                held, more = take(name, held)
                told |= more
        else:
            for name in ("first_critic", "second_critic", "joint_critic"):
                if name in known:
                    held, more = take(name, held)
                    told |= more
            held, more = _now_and_then(plan, state.step, generators, held)
            told |= more
    state, back = _kept(plan, state, held, told)
    return state, _sums(plan, batch, told, back)


def _now_and_then(
    plan: Plan, step: jax.Array, generators: Any, held: Any
) -> tuple[Any, Any]:
    """The turn of the generators, if it is due."""
    if plan.every == 1:
        return generators(held)
    shapes = jax.eval_shape(generators, held)[1]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    due = step % plan.every == 0
    return jax.lax.cond(due, generators, lambda held: (held, zeros), held)


def _kept(
    plan: Plan, state: State, held: Any, told: Mapping[str, jax.Array]
) -> tuple[State, jax.Array]:
    """The state after a step, or that of before if it is no number."""
    average = state.average
    if plan.average:
        average = jax.tree.map(
            lambda old, new: plan.average * old + (1 - plan.average) * new,
            average,
            part(held[0], MAKERS),
        )
    back = jnp.bool_(False)
    if plan.rollbacks:
        # Moments too: what Adam takes for infinite never moves again.
        sizes = [jnp.sum(leaf) for leaf in jax.tree.leaves(held)]
        total = sum(sizes, start=jnp.zeros(())) + sum(told.values())
        back = ~jnp.isfinite(total) & (state.broken < plan.rollbacks)
        pick = lambda old, new: jnp.where(back, old, new)  # noqa: E731
        *held, average = jax.tree.map(pick, state.sound, (*held, average))
    params, moments = held
    state = state._replace(
        step=state.step + 1,
        params=params,
        moments=moments,
        average=average,
        factor=jnp.where(back, state.factor / 2, state.factor),
        broken=state.broken + back,
        last=jnp.where(back, state.step, state.last),
    )
    return state, back


def _sums(
    plan: Plan, batch: Batch, told: Mapping[str, jax.Array], back: jax.Array
) -> Sums:
    count = jnp.float32(len(batch.pair))
    kept = {k: v for k, v in told.items() if not k.endswith("/value")}
    names = ("first_l1", "second_l1")
    if plan.schedule == "unsupervised":
        names = ("first_gap", "second_gap")
    # A step that was taken back adds nothing.
    kept["loss"] = sum((kept[n] for n in names if n in kept), jnp.zeros(()))
    shown = {k: jnp.where(back, 0, v) * count for k, v in kept.items()}
    return {
        "count": count,
        **shown,
        "rollbacks/total": back.astype(jnp.float32),
    }


def review(plan: Plan, state: State) -> State:
    """The state, which is now one to go back to, if all of it is a number."""
    if not plan.rollbacks:
        return state
    now = (state.params, state.moments, state.average)
    sizes = [jnp.sum(leaf) for leaf in jax.tree.leaves(now)]
    whole = jnp.isfinite(sum(sizes, start=jnp.zeros(())))
    return state._replace(
        sound=jax.tree.map(
            lambda old, new: jnp.where(whole, new, old), state.sound, now
        )
    )


__all__ = [
    "GIVEN",
    "JOINT",
    "MAKERS",
    "PAIRS",
    "SCHEDULES",
    "Batch",
    "Plan",
    "State",
    "Turn",
    "encoded",
    "energy_score",
    "init",
    "latents",
    "makers",
    "part",
    "review",
    "turns",
    "update",
]
