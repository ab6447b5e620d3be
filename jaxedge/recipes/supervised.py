"""Gradient training of a classifier, on ideal or simulated hardware.

What is learned need not be the weights: a `Rule` says how learned parameters
become the network's.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import patches
from jaxedge.hardware import calibration
from jaxedge.learn import distill
from jaxedge.models.layers import SITES
from jaxedge.recipes import ranges, scores
from jaxedge.recipes.recipe import Recipe, Subset, Sums

# (key, batch) -> batch.
Augment = Callable[[jax.Array, Any], Any]
# Collection of scalars that a network sows in training, to be minimised too.
TERMS = "terms"
# By name the weight of such a scalar, of the steps that are done.
Terms = Mapping[str, Callable[[jax.Array], jax.Array]]


class Rule(NamedTuple):
    """How learned parameters become the parameters of a network.

    Attributes:
        init: (key, params) -> (learned, memory) from freshly drawn params.
        view: (learned, memory) -> params, differentiable in `learned`.
        advance: (old, new, memory) -> (memory, sums) after a step.
        review: (memory, metrics) -> memory after an evaluation.
        summary: memory -> scalars of the final state, for the record.
        begin: (learned, memory, run) -> (learned, memory), what the first batch
            tells; `run(params)` is the network on it, in training mode, and
            gives its collections but for the parameters.
        penalty: (learned, memory, progress) -> [], added to the mean loss;
            progress is the share of the steps that are done.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any]]
    view: Callable[[Any, Any], Any]
    advance: Callable[[Any, Any, Any], tuple[Any, Sums]]
    review: Callable[[Any, Any], Any]
    summary: Callable[[Any], dict[str, jax.Array]]
    begin: Callable[..., tuple[Any, Any]] | None = None
    penalty: Callable[..., jax.Array] | None = None


class State(NamedTuple):
    """All that training carries from step to step.

    Attributes:
        step: int32 [].
        key: the run's key; steps draw from its streams.
        learned: pytree that the optimiser moves.
        memory: the rule's own state.
        stats: running statistics of normalisation layers.
        opt: the optimiser's state.
        average: moving average of what is learned; nothing where none is kept.
    """

    step: jax.Array
    key: jax.Array
    learned: Any
    memory: Any
    stats: Any
    opt: optax.OptState
    average: Any = ()


class Loss(NamedTuple):
    """What is minimised, where it is not the cross-entropy of labels.

    Attributes:
        objective: (logits [B, ..., K], batch) -> [], a mean over its labels.
        judge: (logits, batch) -> sums, as `cross_entropy`.
    """

    objective: Callable[[jax.Array, Any], jax.Array]
    judge: Callable[[jax.Array, Any], Sums]


class Placement(NamedTuple):
    """Which hardware the network is trained on.

    Attributes:
        plan: as in `hardware.deploy`; None trains on ideal hardware.
        fresh: a new chip at every step instead of one chip for all.
        aged: every step has a time since programming of its own, uniform in
            log(1 s + t) up to that of the plan, of one design with an age:
            training aware of drift.
        ranges: whether the range of the inputs of each layer is learned too
            (see `recipes.ranges`), from what the first batch asks for. For
            networks into which `calibration.observe` can look.
        chip: key that programs the one chip; None draws it of the run's key.
    """

    plan: Any = None
    fresh: bool = True
    aged: bool = False
    ranges: bool = False
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


def place(
    on: str,
    plan: Any,
    learn_ranges: bool,
    chip: jax.Array | None = None,
) -> Placement:
    """The placement of a config, see `settings.Train`.

    Args:
        on: `train.hardware`.
        plan: the hardware of all layers.
        learn_ranges: `train.input_ranges`.
        chip: as in `Placement`.

    Raises:
        UsageError: for chips of any age where the hardware has none.
    """
    aged = on == "aged_chips"
    fresh = aged or on == "fresh_chips"
    # Of hardware that does not age, chips of any age are fresh.
    aged = aged and hasattr(plan, "seconds")
    if aged and not plan.seconds > 0:
        raise checks.UsageError(
            f"train.hardware is 'aged_chips', but hardware.seconds is"
            f" {plan.seconds}; give the greatest age in seconds."
        )
    plan = None if on == "ideal" else plan
    return Placement(plan, fresh, aged, learn_ranges, chip)


def make(
    model: nn.Module,
    example: jax.Array,
    rule: Rule,
    optimiser: optax.GradientTransformation,
    placement: Placement = _IDEAL,
    start: Any = None,
    *,
    score: scores.Score = scores.SCORES["accuracy"],
    augment: Augment | None = None,
    smoothing: float = 0.0,
    loss: Loss | None = None,
    terms: Terms | None = None,
    steps: int = 0,
    average: float = 0.0,
    dtype: str = "float32",
    subset: Subset | None = None,
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
        score: what an evaluation finds beside loss and accuracy.
        augment: (key, batch) -> batch, what a step makes of its examples; a
            batch with `target` is learned by that instead of the labels.
        smoothing: share of the target that is spread over all classes, of
            examples without `target`.
        loss: what is minimised; None is cross-entropy.
        terms: weights of what else is minimised, means over a batch which the
            network sows into `TERMS` in training.
        steps: of the whole training, for a rule whose penalty changes.
        average: share of what was learned before a step in a moving average
            [0, 1), which is the network in the end; 0 keeps none.
        dtype: of the activations in training.
        subset: which examples are learned.

    Returns:
        A recipe whose batches have `x`, `y` and `weight`, and whose sums are
        loss (by labels, whatever is minimised), accuracy and those of the
        score; where ranges are learned also the share of the inputs that they
        clip, a mean over layers; "objective" where that is another loss,
        "penalty" where the rule has one, and the terms by name, unweighted.
    """
    paths: tuple[str, ...] = ()
    more_terms = terms or {}
    sown = ("batch_stats", TERMS) if terms else ("batch_stats",)
    bare = rule
    judge = cross_entropy if loss is None else loss.judge
    if placement.ranges:
        shapes = start or jax.eval_shape(model.init, jax.random.key(0), example)
        paths = ranges.layers(shapes["params"], placement.plan)
        rule = ranges.add(bare, paths)

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
            # A copy: the loop donates the state, and no buffer twice.
            average=jax.tree.map(jnp.copy, learned) if average else (),
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

    def train(
        state: State,
        params: Any,
        x: jax.Array,
        read: Any,
        mutable: Sequence[str] = ("batch_stats",),
    ) -> Any:
        logits, changed = model.apply(
            {"params": params, "batch_stats": state.stats},
            x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
            train=True,
            key=read,
            mutable=list(mutable),
            rngs={"dropout": stream(state.key, "dropout", state.step)},
        )
        return logits.astype(jnp.float32), changed

    def augmented(state: State, batch: Any) -> Any:
        if augment is None:
            return batch
        return augment(stream(state.key, "augment", state.step), batch)

    def begin(state: State, batch: Any) -> State:
        x = augmented(state, batch).x
        learned, memory = state.learned, state.memory
        if rule.begin is not None:
            learned, memory = rule.begin(
                learned,
                memory,
                lambda params: train(
                    state, params, x, None, ("batch_stats", SITES)
                )[1],
            )
            state = state._replace(learned=learned, memory=memory)
        if paths:
            chip, _ = on_hardware(state, bare.view(learned.own, memory.own))
            start = ranges.find(
                chip, lambda params: train(state, params, x, None), paths
            )
            state = state._replace(memory=memory._replace(start=start))
        if average:
            copied = jax.tree.map(jnp.copy, state.learned)
            state = state._replace(average=copied)
        return state

    def update(state: State, batch: Any) -> tuple[State, Sums]:
        batch = augmented(state, batch)

        def objective(learned: Any) -> tuple[jax.Array, Any]:
            params = rule.view(learned, state.memory)
            params, read = on_hardware(state, params)
            seen = {}
            if paths:
                params, seen = calibration.tap(params, ranges.inside)
            logits, changed = train(state, params, batch.x, read, sown)
            sums = judge(logits, batch)
            value = sums["loss"]
            if loss is not None:
                value = loss.objective(logits, batch) * sums["count"]
                sums |= {"objective": value}
            elif batch.target is not None:
                value = soft_cross_entropy(logits, batch)
                sums |= {"objective": value}
            elif smoothing:
                even = evenness(logits, batch)
                value = (1 - smoothing) * value + smoothing * even
            # A client may have no example in a step.
            value = value / jnp.maximum(sums["count"], 1)
            if rule.penalty is not None:
                progress = state.step / max(steps, 1)
                more = rule.penalty(learned, state.memory, progress)
                sums |= {"penalty": more * sums["count"]}
                value += more
            for name, weight in more_terms.items():
                (term,) = changed[TERMS][name]
                sums |= {name: term * sums["count"]}
                value += weight(state.step) * term
            if paths:
                used = ranges.shares(seen, paths)
                value += ranges.penalty(learned.sizes, used)
                clipped = (1 - used.mean()) * sums["count"]
                sums |= {"clipped": clipped}
            return value, (sums, changed)

        grads, (sums, changed) = jax.grad(objective, has_aux=True)(
            state.learned
        )
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
        if average:
            moved = jax.tree.map(
                lambda a, new: average * a + (1 - average) * new,
                state.average,
                learned,
            )
            state = state._replace(average=moved)
        return state, sums | extra

    def finish(state: State) -> Any:
        learned = state.average if average else state.learned
        params = rule.view(learned, state.memory)
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
        logits = forward(variables, batch.x, key)
        more = score.sums(logits, batch.y, label_weights(batch))
        return judge(logits, batch) | more

    def merge(state: State, learned: Any, stats: Any) -> State:
        memory, _ = rule.advance(state.learned, learned, state.memory)
        return state._replace(learned=learned, memory=memory, stats=stats)

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
        measure=score.measure,
        score=score.name,
        trial=trial if for_one else None,
        begin=begin if rule.begin is not None or paths else None,
        subset=subset,
        merge=merge,
    )


def crops(size: int | None, image: tuple[int, ...]) -> Augment | None:
    """The augmentation of a config's `data.crop`, see `settings.Data`.

    Args:
        size: side of the squares; None is no augmentation.
        image: shape of one input of the data set.

    Raises:
        UsageError: where the inputs are no images of that size.
    """
    if size is None:
        return None
    if len(image) != 3 or min(image[:2]) < size:
        raise checks.UsageError(
            f"data.crop is {size}, but the inputs have shape {image}; only"
            " images [H, W, C] at least as large can be cut."
        )

    def augment(key: jax.Array, batch: Any) -> Any:
        x, y = patches.random_squares(key, batch.x, batch.y, size)
        return batch._replace(x=x, y=y)

    return augment


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


def soft_cross_entropy(logits: jax.Array, batch: Any) -> jax.Array:
    """Cross-entropy with `batch.target`, summed as `cross_entropy`."""
    loss = distill.soft_cross_entropy(logits, batch.target)
    return (loss * label_weights(batch)).sum()


def evenness(logits: jax.Array, batch: Any) -> jax.Array:
    """Cross-entropy with equal shares of all classes, as `cross_entropy`."""
    even = -jax.nn.log_softmax(logits).mean(-1)
    return (even * label_weights(batch)).sum()


def label_weights(batch: Any) -> jax.Array:
    """The weight of every label, [B, ...] float32."""
    rows = batch.weight.reshape(-1, *[1] * (batch.y.ndim - 1))
    return jnp.where(batch.y < 0, 0, rows)
