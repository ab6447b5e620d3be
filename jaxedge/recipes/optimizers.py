"""How what is learned moves: the section `optimizer` of a config."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxedge.core import checks
from jaxedge.recipes import ranges


class Optimizer(NamedTuple):
    """Momentum or Adam, with cosine decay.

    Attributes:
        learning_rate: the largest.
        momentum: of SGD; Adam's memory of the slope, its beta 1.
        weight_decay: added to the slope; of "adamw" times the rate, taken off
            the weights themselves, and off no vector.
        name: "sgd", "adam" or "adamw".
        warmup: epochs in which the rate rises in equal steps before it decays.
        every: when the rate changes, "epoch" or "step".
        decay: how it falls: "cosine" to 0, "linear" to 0, "drop", to a tenth
            at half of the time, or not, "constant".
        average: share of before in a moving average of what is learned, taken
            at every step, [0, 1); 0 keeps none.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    name: str = "sgd"
    warmup: int = 0
    every: str = "epoch"
    decay: str = "cosine"
    average: float = 0.0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.in_range(
            "optimizer.learning_rate", self.learning_rate, 0, open_low=True
        )
        checks.in_range("optimizer.momentum", self.momentum, 0, 1)
        checks.in_range("optimizer.weight_decay", self.weight_decay, 0)
        checks.choice("optimizer.name", self.name, (*_KINDS, "adamw"))
        checks.choice("optimizer.every", self.every, ("epoch", "step"))
        checks.choice("optimizer.decay", self.decay, tuple(_DECAYS))
        checks.whole("optimizer.warmup", self.warmup)
        checks.in_range("optimizer.average", self.average, 0, 0.99999)


# The share of the time that is over -> the share of the rate that is left.
_DECAYS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda share: 0.5 * (1 + jnp.cos(jnp.pi * share)),
    "linear": lambda share: 1 - share,
    "drop": lambda share: jnp.where(share < 0.5, 1, 0.1),
    "constant": lambda share: jnp.ones_like(share),
}
_KINDS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda rate, momentum: optax.sgd(rate, momentum or None),
    "adam": lambda rate, momentum: optax.adam(rate, b1=momentum),
}


def make(
    given: Optimizer,
    epochs: int,
    steps_per_epoch: int,
    rates: Callable[[Any], Any] | None = None,
    free: bool = False,
) -> optax.GradientTransformation:
    """The optimiser of a config, in the form of torch's SGD, Adam or AdamW.

    Weight decay is part of the gradient, also Adam's, but for AdamW's; the rate
    follows torch's CosineAnnealingLR, stepped once an epoch (or step). With a
    warm-up the first of its w epochs (or of their steps) has 1/w of the rate,
    the last all of it, and the decay fills the others (as in
    allenai/hidden-networks).

    Args:
        given: the section.
        epochs: of the training.
        steps_per_epoch: of it.
        rates: learned -> a pytree of numbers of its structure, each leaf's rate
            over that of the section; None is 1 for all.
        free: whether the rate is an entry of the state that somebody else sets
            (`set_rate`), not a function of the step.

    Raises:
        UsageError: for a warm-up that leaves no epoch.
    """
    if free:
        make_free = optax.inject_hyperparams(
            lambda rate: _chain(given, rate, rates)
        )
        return make_free(rate=given.learning_rate)
    by_step = given.every == "step"
    unit = steps_per_epoch if by_step else 1
    of_time = schedule(given, epochs, unit)

    def rate(step: Any) -> Any:
        return of_time(step if by_step else step // steps_per_epoch)

    return _chain(given, rate, rates)


def schedule(
    given: Optimizer, epochs: int, unit: int = 1
) -> Callable[[Any], Any]:
    """The rate as a function of time.

    Args:
        given: the section.
        epochs: of the training.
        unit: of time, how many an epoch has.

    Raises:
        UsageError: for a warm-up that leaves no epoch.
    """
    warmup = given.warmup
    if warmup and warmup >= epochs:
        raise checks.UsageError(
            f"optimizer.warmup is {warmup}, but train.epochs is {epochs};"
            " leave an epoch after the warm-up."
        )
    total, rise = epochs * unit, warmup * unit

    def rate(now: Any) -> Any:
        share = (now - rise) / max(total - rise, 1)
        rising = (now + 1) / max(rise, 1)
        factor = jnp.where(now < rise, rising, _DECAYS[given.decay](share))
        return given.learning_rate * factor

    return rate


def set_rate(opt: Any, rate: jax.Array) -> Any:
    """The state of a `free` optimiser with another rate."""
    rates = {**opt.hyperparams, "rate": rate}
    return opt._replace(hyperparams=rates)


def _chain(
    given: Optimizer, rate: Any, rates: Callable[[Any], Any] | None
) -> optax.GradientTransformation:
    parts: list[optax.GradientTransformation]
    if given.name == "adamw":
        parts = [
            optax.adamw(
                rate,
                b1=given.momentum,
                weight_decay=given.weight_decay,
                mask=_matrices,
            )
        ]
    else:
        parts = [
            optax.add_decayed_weights(given.weight_decay, ranges.weights_only),
            _KINDS[given.name](rate, given.momentum),
        ]
    if rates is not None:
        parts.append(_scaled(rates))
    return parts[0] if len(parts) == 1 else optax.chain(*parts)


def _scaled(
    rates: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """Multiplies every update by a number of its own."""
    return optax.stateless(
        lambda updates, learned: jax.tree.map(
            jnp.multiply, updates, rates(updates)
        )
    )


def _matrices(learned: Any) -> Any:
    """A mask for weight decay, without scales, biases and sizes of ranges."""
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, learned)
