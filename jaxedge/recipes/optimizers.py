"""How what is learned moves: the section `optimizer` of a config."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxedge.core import checks
from jaxedge.recipes import ranges


class Optimizer(NamedTuple):
    """Momentum or Adam, with cosine decay by epoch.

    Attributes:
        learning_rate: the largest.
        momentum: of SGD; Adam's memory of the slope, its beta 1.
        weight_decay: added to the slope, of both kinds.
        name: "sgd" or "adam".
        warmup: epochs in which the rate rises in equal steps before it decays.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    name: str = "sgd"
    warmup: int = 0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.in_range(
            "optimizer.learning_rate", self.learning_rate, 0, open_low=True
        )
        checks.in_range("optimizer.momentum", self.momentum, 0, 1)
        checks.in_range("optimizer.weight_decay", self.weight_decay, 0)
        checks.choice("optimizer.name", self.name, _KINDS)
        checks.whole("optimizer.warmup", self.warmup)


_KINDS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda rate, momentum: optax.sgd(rate, momentum or None),
    "adam": lambda rate, momentum: optax.adam(rate, b1=momentum),
}


def make(
    given: Optimizer, epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimiser of a config, in the form of torch's SGD or Adam.

    Weight decay is part of the gradient, also Adam's; the rate follows torch's
    CosineAnnealingLR, stepped once an epoch. With a warm-up the first of its w
    epochs has 1/w of the rate, the last all of it, and the decay fills the
    others (as in allenai/hidden-networks).

    Raises:
        UsageError: for a warm-up that leaves no epoch.
    """
    warmup = given.warmup
    if warmup and warmup >= epochs:
        raise checks.UsageError(
            f"optimizer.warmup is {warmup}, but train.epochs is {epochs};"
            " leave an epoch after the warm-up."
        )

    def rate(step: Any) -> Any:
        epoch = step // steps_per_epoch
        share = (epoch - warmup) / max(epochs - warmup, 1)
        decayed = 0.5 * (1 + jnp.cos(jnp.pi * share))
        rising = (epoch + 1) / max(warmup, 1)
        return given.learning_rate * jnp.where(epoch < warmup, rising, decayed)

    return optax.chain(
        optax.add_decayed_weights(given.weight_decay, ranges.weights_only),
        _KINDS[given.name](rate, given.momentum),
    )
