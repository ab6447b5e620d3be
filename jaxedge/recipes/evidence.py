"""Evidence for classes instead of probabilities: the section `evidence`.

The network's logits make a Dirichlet distribution over the probabilities of the
classes (`learn.evidential`), and what is minimised is FEAL's loss
(arXiv:2312.02567), or another risk under such a distribution.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxedge.core import checks
from jaxedge.learn import evidential
from jaxedge.recipes import supervised
from jaxedge.recipes.recipe import Sums

NONE = "none"
# Means over all positions of a batch together.
_DICE = ("evidential_dice", "soft_dice")
LOSSES = (NONE, *evidential.RISKS, *_DICE)


class Evidence(NamedTuple):
    """The section.

    Attributes:
        loss: "none" for the cross-entropy of softmax; a risk of
            `evidential.RISKS`; "evidential_dice" for labels by position, or
            "soft_dice", which is without evidence.
        activation: that makes evidence of logits, of `evidential.EVIDENCE`.
        kl_weight: of what pulls misleading evidence to none and keeps dead
            evidence alive.
        annealing: rounds in which the former rises to its weight.
        correct: whether dead evidence is kept alive by FEAL's correction.
        balance: whether a class weighs the more the fewer examples of it the
            client has, 2 less its share.
    """

    loss: str = NONE
    activation: str = "relu"
    kl_weight: float = 0.01
    annealing: float = 10.0
    correct: bool = True
    balance: bool = True

    @property
    def evidential(self) -> bool:
        """Whether logits are evidence, not logarithms of probabilities."""
        return self.loss not in (NONE, "soft_dice")

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("evidence.loss", self.loss, LOSSES)
        checks.choice(
            "evidence.activation", self.activation, evidential.EVIDENCE
        )
        checks.in_range("evidence.kl_weight", self.kl_weight, 0)
        checks.in_range("evidence.annealing", self.annealing, 0, open_low=True)


def check(given: Evidence, inner: Any) -> None:
    """Raises UsageError for what has no meaning beside such a loss.

    Args:
        given: the section.
        inner: settings of what learns.
    """
    augment = getattr(inner, "augment", None)
    distill = getattr(inner, "distill", None)
    mixes = augment is not None and (
        augment.mixup or augment.cutmix or augment.smoothing
    )
    teaches = distill is not None and distill.teacher is not None
    smooths = getattr(getattr(inner, "learn", None), "label_smoothing", 0)
    if mixes or teaches or smooths:
        raise checks.UsageError(
            f"evidence.loss is {given.loss!r}, which is of labels, but the"
            " config mixes or smooths them or has a teacher; leave these out,"
            " or use evidence.loss='none'."
        )


def make(given: Evidence) -> supervised.Loss | None:
    """What a recipe minimises; None is cross-entropy.

    Batches tell in `aux` the "share" of each class among the client's labels,
    [K], and the "age", rounds since the network began, [].
    """
    if given.loss == NONE:
        return None

    def alpha(logits: jax.Array) -> jax.Array:
        return evidential.alpha(logits, given.activation)

    def onehot(logits: jax.Array, batch: Any) -> jax.Array:
        return jax.nn.one_hot(batch.y, logits.shape[-1])

    def extra(logits: jax.Array, y: jax.Array, age: jax.Array) -> jax.Array:
        known = alpha(logits)
        more = evidential.annealed_kl(known, y, age, given.annealing)
        if given.correct:
            more += evidential.correction(logits, known, y)
        return given.kl_weight * more

    def objective(logits: jax.Array, batch: Any) -> jax.Array:
        weight = supervised.label_weights(batch)
        y = onehot(logits, batch)
        if given.loss == "soft_dice":
            return evidential.soft_dice(logits, y, weight)
        more = extra(logits, y, batch.aux["age"])

        def mean(each: jax.Array) -> jax.Array:
            return (weight * each).sum() / jnp.maximum(weight.sum(), 1)

        if given.loss == "evidential_dice":
            whole = evidential.evidential_dice(alpha(logits), y, weight)
            return whole + mean(more)
        share = batch.aux["share"] if given.balance else None
        by_class = None if share is None else 2 - share
        risk = evidential.RISKS[given.loss](alpha(logits), y, by_class)
        return mean(risk + more)

    def judge(logits: jax.Array, batch: Any) -> Sums:
        if not given.evidential:
            return supervised.cross_entropy(logits, batch)
        # Of the expected probabilities; evidence of nothing leaves their
        # order to the logits themselves.
        known = jnp.log(evidential.probability(alpha(logits)))
        loss = optax.softmax_cross_entropy_with_integer_labels(
            known, jnp.maximum(batch.y, 0)
        )
        sums = supervised.cross_entropy(logits, batch)
        weight = supervised.label_weights(batch)
        return {**sums, "loss": (loss * weight).sum()}

    return supervised.Loss(objective, judge)
