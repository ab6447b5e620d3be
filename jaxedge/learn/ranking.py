"""Areas under the curves of a detector, from histograms that add up.

A detector gives a score, the larger the surer; where to draw the line is left
open. Its curves need the order of all scores of a data set, which two
histograms, of the positive and of the negative examples, keep but for ties
within a bin. Histograms of batches, chips or devices are added.

Letters: N examples (pixels, for instance), S bins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks

BINS = 4096


class Histograms(NamedTuple):
    """How many examples have which score; add them leaf by leaf.

    Counts are float32, and exact up to 2^24 examples a bin.

    Attributes:
        positive: of the positive examples, [S], scores rising.
        negative: of the others, [S].
    """

    positive: jax.Array
    negative: jax.Array


def histograms(
    score: jax.Array,
    positive: jax.Array,
    weight: jax.Array,
    bins: int = BINS,
) -> Histograms:
    """Counts examples by their score.

    The bins part s / (1 + |s|) evenly, so they are finest at 0 and reach to
    infinity, whatever the scale of the scores: their width is
    (1 + |s|)^2 2 / S. (A sigmoid would put all that it saturates for, such as
    most of a clear background, into its last bin.)

    Args:
        score: any shape, any real number; 0 is where a detector decides.
        positive: bool, same shape.
        weight: same shape, 0 for examples that do not count, otherwise 1.
        bins: S, even, so that 0 lies between two bins.

    Returns:
        The histograms.

    Raises:
        UsageError: for an odd number of bins.
    """
    checks.whole("bins", bins, 2)
    if bins % 2:
        raise checks.UsageError(
            f"bins is {bins}, but must be even, so that 0 parts two of them."
        )
    score = score.astype(jnp.float32)
    share = (score / (1 + jnp.abs(score)) + 1) / 2
    # A score near infinity rounds to the upper end of the last bin.
    place = jnp.clip((share * bins).astype(jnp.int32), 0, bins - 1).ravel()
    count = weight.astype(jnp.float32)
    empty = jnp.zeros(bins, jnp.float32)
    return Histograms(
        empty.at[place].add(jnp.where(positive, count, 0).ravel()),
        empty.at[place].add(jnp.where(positive, 0, count).ravel()),
    )


def areas(found: Histograms) -> dict[str, jax.Array]:
    """What the curves enclose, and what the line at score 0 gives.

    Every threshold between two bins is a point of the curves. Recall is the
    share of the positives above it, precision the share of positives among all
    above it, 1 where there are none. Ties count half in "roc_auc", so that it
    is off by at most half the chance that a positive and a negative example
    share a bin.

    Args:
        found: histograms.

    Returns:
        Numbers in [0, 1], NaN without any positive or negative example:
        "roc_auc" is the chance that a positive example scores above a negative
        one; "pr_auc" the trapezoid under precision over recall, as in the
        released code of arXiv:2311.07164 (edge_pruning 6), and
        "average_precision" the steps under the same points; "sensitivity",
        "specificity" and "dice" at score 0.
    """
    # From the surest down.
    positive, negative = (h[::-1] / h.sum() for h in found)
    hits, alarms = (jnp.cumsum(h[::-1]) for h in found)
    recall, false = hits / hits[-1], alarms / alarms[-1]
    precision = jnp.where(
        hits + alarms > 0, hits / jnp.maximum(hits + alarms, 1), 1
    )
    half = hits.size // 2 - 1
    hit, alarm = hits[half], alarms[half]
    return {
        "roc_auc": _trapezoid(recall, negative, 0),
        "pr_auc": _trapezoid(precision, positive, 1),
        "average_precision": jnp.sum(precision * positive),
        "sensitivity": recall[half],
        "specificity": 1 - false[half],
        "dice": 2 * hit / (hits[-1] + hit + alarm),
    }


def _trapezoid(y: jax.Array, width: jax.Array, first: float) -> jax.Array:
    """The area under points y, `width` apart, the first one from `first`."""
    before = jnp.concatenate([jnp.full(1, first, y.dtype), y[:-1]])
    return jnp.sum((y + before) / 2 * width)
