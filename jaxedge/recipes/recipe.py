"""What every learning system looks like to the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

# Sums over examples, added up over batches and divided once at the end.
Sums = dict[str, jax.Array]


def ratios(sums: Sums) -> dict[str, jax.Array]:
    """Divides sums by their count.

    Every entry but "count" is divided; an entry named "<name>/total" is kept
    as it is, under its own name.
    """
    count = sums["count"]
    return {
        name.removesuffix("/total"): value
        if name.endswith("/total")
        else value / count
        for name, value in sums.items()
        if name != "count"
    }


class Subset(NamedTuple):
    """Training on a part of the examples, which is chosen anew now and then.

    Attributes:
        rows: examples of an epoch, at most.
        every: epochs after which they are chosen anew; the first choice comes
            before the first epoch.
        init: source -> memory, a dict of arrays, with "rows", [rows] int32 or
            [N] bool, and "read", how many examples networks have run on to
            choose.
        choose: (state, memory, source, epoch, key) -> memory, on the host.
    """

    rows: int
    every: int
    init: Callable[[Any], Any]
    choose: Callable[..., Any]


class Rounds(NamedTuple):
    """Epochs that are no passes over batches of rows: rounds of clients.

    Attributes:
        steps: of an epoch.
        size: leading axis of what devices share.
        batches: (source, key, epoch, chosen) -> iterator over `steps` batches;
            chosen is the "rows" of a `Subset`'s memory, None where all are
            seen.
    """

    steps: int
    size: int
    batches: Callable[..., Any]


class Recipe(NamedTuple):
    """A learning system as pure functions over a state.

    Attributes:
        init: key -> state.
        update: (state, batch) -> (state, sums). One batch of learning; the
            sums are those that `ratios` divides.
        finish: state -> variables, the flax collections of the network that
            is put on a chip ("params" and what else it needs).
        evaluate: (variables, batch, key) -> sums with "count". `key` is the
            read key, None for a read without noise; padded rows weigh 0.
        review: (state, metrics) -> state, after every evaluation, for rules
            that react to it.
        forward: (variables, x, key, **apply) -> outputs; further arguments,
            such as `mutable`, are those of flax's `apply`.
        summary: state -> scalars of the final state, such as programming
            counts, for the record.
        adapt: (variables, lessons, key) -> variables, what a chip learns for
            itself once it is programmed, from batches stacked along a first
            axis, read with streams of the key; None learns nothing there.
        lessons: training examples that `adapt` is given.
        measure: sums -> metrics, scalars by name; `ratios`, unless a metric
            is no mean over examples.
        score: the metric that chooses the best epoch and judges chips; the
            larger the better, in [0, 1].
        prepare: x -> pytree that `evaluate` and `adapt` take in its place, with
            its leading axis: what does not depend on a chip, found out once a
            study; None has nothing of that kind.
        learns: names of the layers that learn; None for all.
        begin: (state, batch) -> state, once before the first step, with the
            first batch of the first epoch over all examples: what is found
            from data. None finds nothing there.
        subset: which examples an epoch sees; None is all.
        rounds: how an epoch comes, where it is no pass over batches of rows.
        merge: (state, learned, stats) -> state, which goes on from what others
            have learned; None where a recipe cannot.
        trial: state -> variables by which the best epoch is chosen, where they
            are not those of `finish`: a network for one chip, on that chip.
        probability: outputs of `forward` with classes on the last axis -> the
            probability of each; None is softmax.
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, Any], tuple[Any, Sums]]
    finish: Callable[[Any], Any]
    evaluate: Callable[..., Sums]
    review: Callable[[Any, Any], Any]
    forward: Callable[..., Any]
    summary: Callable[[Any], dict[str, jax.Array]]
    adapt: Callable[..., Any] | None = None
    lessons: int = 0
    measure: Callable[[Sums], dict[str, jax.Array]] = ratios
    score: str = "accuracy"
    prepare: Callable[[Any], Any] | None = None
    learns: tuple[str, ...] | None = None
    trial: Callable[[Any], Any] | None = None
    begin: Callable[[Any, Any], Any] | None = None
    subset: Subset | None = None
    rounds: Rounds | None = None
    merge: Callable[[Any, Any, Any], Any] | None = None
    probability: Callable[[jax.Array], jax.Array] | None = None


def mean(
    sums: Sums, measure: Callable[[Sums], Any] = ratios
) -> dict[str, float]:
    """Metrics of sums, as numbers of the host."""
    return {k: float(v) for k, v in jax.device_get(measure(sums)).items()}


def add(a: Sums, b: Sums) -> Sums:
    """Adds two sets of sums."""
    return jax.tree.map(lambda x, y: x + y, a, b)
