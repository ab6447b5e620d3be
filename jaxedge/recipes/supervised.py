"""Gradient training of a classifier, on ideal or simulated hardware.

What is learned need not be the weights: a `Rule` says how learned parameters
become the network's.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.recipes.recipe import Recipe, Sums


class Rule(NamedTuple):
    """How learned parameters become the parameters of a network.

    Attributes:
        init: (key, params) -> (learned, memory) from freshly drawn params.
        view: (learned, memory) -> params, differentiable in `learned`.
        advance: (old, new, memory) -> (memory, sums) after a step.
        review: (memory, metrics) -> memory after an evaluation.
        summary: memory -> scalars of the final state, for the record.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any]]
    view: Callable[[Any, Any], Any]
    advance: Callable[[Any, Any, Any], tuple[Any, Sums]]
    review: Callable[[Any, Any], Any]
    summary: Callable[[Any], dict[str, jax.Array]]


class State(NamedTuple):
    """All that training carries from step to step.

    Attributes:
        step: int32 [].
        key: the run's key; steps draw from its streams.
        learned: pytree that the optimiser moves.
        memory: the rule's own state.
        stats: running statistics of normalisation layers.
        opt: the optimiser's state.
    """

    step: jax.Array
    key: jax.Array
    learned: Any
    memory: Any
    stats: Any
    opt: optax.OptState


class Placement(NamedTuple):
    """Which hardware the network is trained on.

    Attributes:
        plan: as in `hardware.deploy`; None trains on ideal hardware.
        fresh: a new chip at every step instead of one chip for all.
        aged: every step has a time since programming of its own, uniform in
            log(1 s + t) up to that of the plan, a `crossbar.Spec`: training
            aware of drift.
        chip: key that programs the one chip; None draws it of the run's key.
    """

    plan: Any = None
    fresh: bool = True
    aged: bool = False
    chip: jax.Array | None = None


def weights_rule() -> Rule:
    """The plain rule: the learned parameters are the weights."""
    return Rule(
        init=lambda key, params: (params, ()),
        view=lambda learned, memory: learned,
        advance=lambda old, new, memory: (memory, {}),
        review=lambda memory, metrics: memory,
        summary=lambda memory: {},
    )


_IDEAL = Placement()


def place(on: str, plan: Any, chip: jax.Array | None = None) -> Placement:
    """The placement of a config's `train.hardware`, see `settings.Train`.

    Args:
        on: `train.hardware`.
        plan: the hardware.
        chip: as in `Placement`.

    Raises:
        UsageError: for chips of any age where the hardware has none.
    """
    aged = on == "aged_chips"
    if aged and not plan.seconds > 0:
        raise checks.UsageError(
            f"train.hardware is 'aged_chips', but hardware.seconds is"
            f" {plan.seconds}; give the greatest age in seconds."
        )
    fresh = aged or on == "fresh_chips"
    return Placement(None if on == "ideal" else plan, fresh, aged, chip)


def make(
    model: nn.Module,
    example: jax.Array,
    rule: Rule,
    optimiser: optax.GradientTransformation,
    placement: Placement = _IDEAL,
    start: Any = None,
    smoothing: float = 0.0,
) -> Recipe:
    """A recipe that minimises cross-entropy by gradients.

    Args:
        model: classifier called as (x, train=, key=).
        example: [1, ...] inputs, for shapes.
        rule: what is learned.
        optimiser: an optax transformation.
        placement: hardware in the training loop.
        start: variables to begin with, "params" and "batch_stats"; None draws
            them.
        smoothing: share of the target that is spread over all classes; the
            loss that is told is without.

    Returns:
        A recipe whose batches have `x`, `y` and `weight`, and whose sums are
        loss and accuracy.
    """

    def init(key: jax.Array) -> State:
        variables = start or model.init(stream(key, "params"), example)
        variables = jax.tree.map(jnp.asarray, variables)
        learned, memory = rule.init(stream(key, "rule"), variables["params"])
        return State(
            step=jnp.int32(0),
            key=key,
            learned=learned,
            memory=memory,
            stats=variables.get("batch_stats", {}),
            opt=optimiser.init(learned),
        )

    def one_chip(state: State) -> jax.Array:
        if placement.chip is not None:
            return placement.chip
        return stream(state.key, "training chip")

    def on_hardware(state: State, params: Any) -> tuple[Any, Any]:
        if placement.plan is None:
            return params, None
        chip = one_chip(state)
        if placement.fresh:
            chip = stream(state.key, "training chip", state.step)
        read = stream(state.key, "training read", state.step)
        plan = placement.plan
        if placement.aged:
            share = jax.random.uniform(stream(state.key, "age", state.step))
            seconds = jnp.expm1(share * jnp.log1p(plan.seconds))
            plan = dataclasses.replace(plan, seconds=seconds)
        return hardware.deploy(chip, params, plan), read

    def update(state: State, batch: Any) -> tuple[State, Sums]:
        def loss(learned: Any) -> tuple[jax.Array, Any]:
            params = rule.view(learned, state.memory)
            params, read = on_hardware(state, params)
            logits, changed = model.apply(
                {"params": params, "batch_stats": state.stats},
                batch.x,
                train=True,
                key=read,
                mutable=["batch_stats"],
            )
            sums = cross_entropy(logits, batch)
            target = sums["loss"]
            if smoothing:
                even = evenness(logits, batch)
                target = (1 - smoothing) * target + smoothing * even
            return target / sums["count"], (sums, changed)

        grads, (sums, changed) = jax.grad(loss, has_aux=True)(state.learned)
        delta, opt = optimiser.update(grads, state.opt, state.learned)
        learned = optax.apply_updates(state.learned, delta)
        memory, extra = rule.advance(state.learned, learned, state.memory)
        state = state._replace(
            step=state.step + 1,
            learned=learned,
            memory=memory,
            stats=changed.get("batch_stats", {}),
            opt=opt,
        )
        return state, sums | extra

    def finish(state: State) -> Any:
        params = rule.view(state.learned, state.memory)
        return {"params": params, "batch_stats": state.stats}

    def trial(state: State) -> Any:
        variables = finish(state)
        chip = hardware.deploy(
            one_chip(state), variables["params"], placement.plan
        )
        return {**variables, "params": chip}

    def forward(
        variables: Any, x: jax.Array, key: jax.Array | None = None, **apply
    ) -> Any:
        return model.apply(variables, x, key=key, **apply)

    def evaluate(
        variables: Any, batch: Any, key: jax.Array | None = None
    ) -> Sums:
        return cross_entropy(forward(variables, batch.x, key), batch)

    def review(state: State, metrics: Any) -> State:
        return state._replace(memory=rule.review(state.memory, metrics))

    def summary(state: State) -> dict[str, jax.Array]:
        return rule.summary(state.memory)

    for_one = placement.plan is not None and not placement.fresh
    return Recipe(
        init,
        update,
        finish,
        evaluate,
        review,
        forward,
        summary,
        trial=trial if for_one else None,
    )


def cross_entropy(logits: jax.Array, batch: Any) -> Sums:
    """Loss and accuracy of a batch, summed over its labels.

    Args:
        logits: [B, ..., K].
        batch: `y`, [B, ...], of which negative labels count nowhere, and
            `weight`, [B], 0 for padded rows.
    """
    weight = label_weights(batch)
    known = jnp.maximum(batch.y, 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, known)
    right = (logits.argmax(-1) == batch.y).astype(logits.dtype)
    return {
        "count": weight.sum(),
        "loss": (loss * weight).sum(),
        "accuracy": (right * weight).sum(),
    }


def evenness(logits: jax.Array, batch: Any) -> jax.Array:
    """Cross-entropy with equal shares of all classes, as `cross_entropy`."""
    even = -jax.nn.log_softmax(logits).mean(-1)
    return (even * label_weights(batch)).sum()


def label_weights(batch: Any) -> jax.Array:
    """The weight of every label, [B, ...] float32."""
    rows = batch.weight.reshape(-1, *[1] * (batch.y.ndim - 1))
    return jnp.where(batch.y < 0, 0, rows)
