"""Which examples an epoch learns from: the section `coreset` of a config.

Adaptive coreset selection (arXiv:2306.07215) and what it is compared with, all
by `learn.coreset.choose`.

Letters: N examples, K classes, D features, P choices of a training, S examples
of a part.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.hardware import calibration
from jaxedge.learn import coreset
from jaxedge.recipes import supervised
from jaxedge.recipes.recipe import Subset

ALL = "all"
_BATCH = 500


class Coreset(NamedTuple):
    """The section.

    Attributes:
        method: "all" for every example, or a name of `learn.coreset.METHODS`.
        fraction: of the examples that an epoch sees.
        every: epochs after which they are chosen anew; 0 chooses once.
        schedule: of "adaptive", a name of `learn.coreset.SCHEDULES`.
        balanced: whether the fraction is that of every class.
    """

    method: str = ALL
    fraction: float = 1.0
    every: int = 10
    schedule: str = "paper"
    balanced: bool = True

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        known = (ALL, *coreset.METHODS)
        checks.choice("coreset.method", self.method, known)
        checks.in_range("coreset.fraction", self.fraction, 0, 1, open_low=True)
        checks.whole("coreset.every", self.every)
        checks.choice("coreset.schedule", self.schedule, coreset.SCHEDULES)
        if self.method == ALL and self.fraction != 1:
            raise checks.UsageError(
                f"coreset.fraction is {self.fraction}, but coreset.method is"
                " 'all'; name the method that chooses."
            )


class Seen(NamedTuple):
    """What a network makes of the examples of a source.

    Attributes:
        logits: [N, K].
        features: what the last layer is fed, [N, D].
    """

    logits: np.ndarray
    features: np.ndarray


def count(given: Coreset, source: data.Source) -> int:
    """Examples of an epoch, S; raises UsageError if there are none."""
    if given.method == ALL:
        return len(source.y)
    if source.y.ndim != 1:
        raise checks.UsageError(
            f"coreset.method is {given.method!r}, but {source.name} has a label"
            " a position; coresets are of labelled examples."
        )
    # Scores do not change how many are kept.
    none = np.zeros(len(source.y), np.float32)
    part = coreset.select(none, source.y, given.fraction, given.balanced)
    return len(part)


def make(
    given: Coreset,
    model: nn.Module,
    start: Any,
    rule: supervised.Rule,
    splits: Mapping[str, data.Source] | None,
    epochs: int,
) -> Subset | None:
    """How a recipe chooses its examples; None where it takes all.

    Every choice runs the network, as it is now, over all examples as they are,
    without augmentation; the network in full precision that it began with runs
    over them once.

    Args:
        given: the section.
        model: the network.
        start: its variables in full precision; None if it began with none.
        rule: what is learned.
        splits: "train", and "valid" for methods that ask for it.
        epochs: of the training.

    Raises:
        UsageError: for a method that asks for a network in full precision where
            there is none.
    """
    if given.method == ALL or splits is None:
        return None
    needs = coreset.METHODS[given.method].needs
    if "logits_fp" in needs and start is None:
        raise checks.UsageError(
            f"coreset.method {given.method!r} compares with the network in full"
            " precision, but model.start is None; give the run that trained it."
        )
    train, valid = splits["train"], splits["valid"]
    size = count(given, train)
    every = given.every or max(epochs, 1)
    past = math.ceil(max(epochs, 1) / every) if "correct_T" in needs else 0
    look = observer(model.apply)
    kept: dict[str, Any] = {}

    def init(source: data.Source) -> dict[str, np.ndarray]:
        memory = {
            "rows": np.zeros(size, np.int32),
            "read": np.zeros((), np.int32),
        }
        if past:
            memory["right"] = np.zeros((past, len(source.y)), bool)
        return memory

    def choose(
        state: Any, memory: Any, source: data.Source, epoch: int, key: jax.Array
    ) -> dict[str, np.ndarray]:
        memory = {name: np.asarray(a).copy() for name, a in memory.items()}
        turn = epoch // every
        evidence = coreset.Evidence(labels=source.y)
        if needs:
            now = {
                "params": rule.view(state.learned, state.memory),
                "batch_stats": state.stats,
            }
            seen = look(now, source)
            evidence = evidence._replace(
                logits_q=seen.logits,
                features=seen.features,
                logits_T=seen.logits[None],
            )
        if "logits_fp" in needs:
            if "full" not in kept:
                kept["full"] = look(start, source).logits
            evidence = evidence._replace(logits_fp=kept["full"])
        if past:
            memory["right"][turn] = seen.logits.argmax(1) == source.y
            evidence = evidence._replace(correct_T=memory["right"][: turn + 1])
        if "valid_labels" in needs:
            checked = look(now, valid)
            evidence = evidence._replace(
                valid_labels=valid.y,
                valid_logits=checked.logits,
                valid_features=checked.features,
            )
        rows = coreset.choose(
            given.method,
            evidence,
            given.fraction,
            key=key,
            class_balanced=given.balanced,
            progress=epoch / epochs,
            schedule=given.schedule,
        )
        memory["rows"] = rows.astype(np.int32)
        once = len(source.y) * ("logits_fp" in needs)
        again = len(source.y) * bool(needs) + len(valid.y) * (
            "valid_labels" in needs
        )
        memory["read"] = np.asarray(once + again * (turn + 1), np.int32)
        return memory

    return Subset(size, every, init, choose)


def observer(
    apply: Callable[..., Any],
    pool: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> Any:
    """A function (variables, source) -> `Seen` that compiles once a network.

    Args:
        apply: (variables, x) -> logits.
        pool: what is kept of the features, [B, ...].
    """

    def forward(variables: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        tapped, calls = calibration.tap(
            variables["params"],
            lambda leaf, x: x,
            lambda path, leaf: _is_w(leaf),
        )
        logits = apply({**variables, "params": tapped}, x)
        last = pool(next(reversed(calls.values()))[-1])
        return logits, last.reshape(x.shape[0], -1)

    run = jax.jit(forward)

    def look(variables: Any, source: data.Source) -> Seen:
        variables = {
            name: variables[name]
            for name in ("params", "batch_stats")
            if name in variables
        }
        parts = []
        for batch in data.in_order(source, min(_BATCH, len(source.y))):
            found = jax.device_get(run(variables, jnp.asarray(batch.x)))
            parts.append([a[batch.weight > 0] for a in found])
        return Seen(*(np.concatenate(a) for a in zip(*parts, strict=True)))

    return look


def _is_w(leaf: Any) -> bool:
    """Whether a leaf multiplies: a matrix, a kernel or hardware."""
    return getattr(leaf, "ndim", 0) in (2, 4)
