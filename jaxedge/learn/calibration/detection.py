"""Whether a network is unsure where it is wrong, or where data is foreign.

These measures sort all examples at once; `ranking` has areas that add up over
batches. Letters: N examples.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.learn.calibration import inputs


class RiskCoverage(NamedTuple):
    """What is lost if only the surest examples are answered.

    Attributes:
        coverage: share of the examples that are answered, rising to 1, [N].
        risk: their mean loss, [N].
        share: of the example that is answered last, [N]; 0 for padding, which
            comes last.
    """

    coverage: jax.Array
    risk: jax.Array
    share: jax.Array


def risk_coverage(
    confidence: ArrayLike,
    loss: ArrayLike,
    weight: ArrayLike | None = None,
) -> RiskCoverage:
    """The mean loss of the surest examples, of each number of them.

    El-Yaniv & Wiener, JMLR 11:1605 (2010). Of equally sure ones any order is as
    good, so that each has their mean loss: the expectation over orders.

    Args:
        confidence: any real number, the larger the surer, [...].
        loss: of each example, [...], such as 1 where it is wrong.
        weight: at least 0, [...].

    Returns:
        The curve, the surest example first.

    Raises:
        UsageError: for other shapes or ranges.
    """
    confidence, loss, weight = inputs.examples(
        weight,
        confidence=inputs.real("confidence", confidence),
        loss=inputs.real("loss", loss),
    )
    # Padding goes last, where it changes no point of the curve.
    key = jnp.where(weight > 0, -confidence, jnp.inf)
    order, group = _ties(key)
    weight = weight[order]
    n = key.size
    sums = jax.ops.segment_sum(weight * loss[order], group, n)
    whole = jax.ops.segment_sum(weight, group, n)
    shared = (sums / jnp.where(whole > 0, whole, 1))[group]
    answered = jnp.cumsum(weight)
    return RiskCoverage(
        answered / answered[-1],
        jnp.cumsum(weight * shared) / answered,
        weight / answered[-1],
    )


def aurc(
    confidence: ArrayLike,
    loss: ArrayLike,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """The area under `risk_coverage`, the mean risk over all coverages.

    sum_i risk_i w_i / W (Geifman et al., arXiv:1805.08206).

    Args:
        confidence: any real number, the larger the surer, [...].
        loss: of each example, [...], such as 1 where it is wrong.
        weight: at least 0, [...].

    Returns:
        [], between the least and the greatest loss; the lower the better.

    Raises:
        UsageError: for other shapes or ranges.
    """
    curve = risk_coverage(confidence, loss, weight)
    return jnp.sum(curve.risk * curve.share)


def auroc(
    score: ArrayLike,
    positive: ArrayLike,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """The chance that a positive example scores above a negative one.

    Exact; ties count half (Mann-Whitney). To tell data of another kind, or
    mistakes, take an uncertainty as the score and them as positive.

    Args:
        score: any real number, [...].
        positive: bool or 0 and 1, [...].
        weight: at least 0, [...].

    Returns:
        [], in [0, 1]; NaN if there are only positive or only negative examples,
        between which nothing is to tell apart.

    Raises:
        UsageError: for other shapes or ranges.
    """
    score, positive, weight = inputs.examples(
        weight,
        score=inputs.real("score", score),
        positive=inputs.real("positive", positive, 0, 1),
    )
    order, group = _ties(score)

    def by_score(x):
        return jax.ops.segment_sum(x[order], group, score.size)

    hits = by_score(weight * positive)
    alarms = by_score(weight * (1 - positive))
    below = jnp.cumsum(alarms) - alarms / 2
    return jnp.sum(hits / hits.sum() * (below / alarms.sum()))


def _ties(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An order of rising keys, and the number of each one's equal keys."""
    order = jnp.argsort(key)
    rising = key[order]
    new = jnp.concatenate([jnp.zeros(1, bool), rising[1:] != rising[:-1]])
    return order, jnp.cumsum(new)
