"""What chooses the best epoch and judges a chip: one row a metric."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.learn import ranking
from jaxedge.recipes.recipe import Sums, ratios

# Of the sums, those that are histograms.
_RANKED = "ranked"


class Score(NamedTuple):
    """A metric, and what an evaluation has to add up for it.

    Attributes:
        name: of the metric among those of `measure`.
        sums: (logits [B, ..., K], y [B, ...], weight [B, ...]) -> what is
            added up beside loss and accuracy.
        measure: sums -> metrics, as in `Recipe`.
        classes: K that it is defined for; None for any.
    """

    name: str
    sums: Callable[[jax.Array, jax.Array, jax.Array], Sums]
    measure: Callable[[Sums], dict[str, jax.Array]]
    classes: int | None = None


def _ranked(logits: jax.Array, y: jax.Array, weight: jax.Array) -> Sums:
    """Histograms of how much surer a network is of class 1 than of 0."""
    surer = logits[..., 1] - logits[..., 0]
    return {_RANKED: ranking.histograms(surer, y == 1, weight)}  # type: ignore


def _areas(sums: Sums) -> dict[str, jax.Array]:
    rest = {name: value for name, value in sums.items() if name != _RANKED}
    return ratios(rest) | ranking.areas(sums[_RANKED])  # type: ignore


def _perplexity(sums: Sums) -> dict[str, jax.Array]:
    found = ratios(sums)
    return found | {"perplexity": jnp.exp(found["loss"])}


# Of language models: the share of the next tokens that are told right.
NEXT_TOKEN = Score("accuracy", lambda logits, y, weight: {}, _perplexity)
SCORES = {
    "accuracy": Score("accuracy", lambda logits, y, weight: {}, ratios),
    **{
        name: Score(name, _ranked, _areas, 2)
        for name in ("roc_auc", "pr_auc", "average_precision", "dice")
    },
}


def get(name: str, classes: int) -> Score:
    """The metric of a config's `train.score`.

    Args:
        name: of SCORES.
        classes: of the data set.

    Raises:
        UsageError: for an unknown name, or one that is not defined for so many
            classes.
    """
    checks.choice("train.score", name, SCORES)
    score = SCORES[name]
    if score.classes not in (None, classes):
        raise checks.UsageError(
            f"train.score is {name!r}, but that is defined for"
            f" {score.classes} classes and the data set has {classes}; take"
            " 'accuracy'."
        )
    return score
