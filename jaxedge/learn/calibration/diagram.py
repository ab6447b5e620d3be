"""Whether a network is right as often as it is sure.

Letters: N examples, K classes, M bins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.calibration import inputs

BY = ("width", "mass")


class Reliability(NamedTuple):
    """A reliability diagram; a bin without examples is 0 in all but edges.

    Attributes:
        edges: of the bins, rising, [M + 1].
        weight: of the examples in each bin, [M].
        confidence: their mean confidence, [M].
        accuracy: how many of them are right, in [0, 1], [M].
    """

    edges: jax.Array
    weight: jax.Array
    confidence: jax.Array
    accuracy: jax.Array


def top(
    probability: ArrayLike, labels: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """How sure of its class a prediction is, and whether it is right.

    Args:
        probability: [..., K], in [0, 1]; of equal ones the first class wins.
        labels: whole numbers in [0, K), [...].

    Returns:
        The greatest probability and, as 0 or 1, whether it is the label's;
        both [...].

    Raises:
        UsageError: for other shapes or ranges.
    """
    p_NxK, labels_N, _ = inputs.predictions(probability, labels, None)
    right_N = (jnp.argmax(p_NxK, axis=-1) == labels_N).astype(p_NxK.dtype)
    shape = jnp.shape(labels)
    return jnp.max(p_NxK, axis=-1).reshape(shape), right_N.reshape(shape)


def reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    bins: int = 15,
    by: str = "width",
) -> Reliability:
    """Bins examples by their confidence.

    Bin m holds the confidences in (e_{m-1}, e_m], the first one also those at
    its lower end (Guo et al., arXiv:1706.04599, 2). By "width" e_m = m / M. By
    "mass" e_m is the least confidence that m / M of the weight lies at or
    below: bins hold equally many examples but for ties, which share a bin.

    Args:
        confidence: in [0, 1], [...].
        correct: whether it is right, or how much so, in [0, 1], [...].
        weight: at least 0, [...].
        bins: M.
        by: one of `BY`.

    Returns:
        The diagram.

    Raises:
        UsageError: for other shapes, ranges or bins.
    """
    checks.whole("bins", bins, 1)
    checks.choice("by", by, BY)
    confidence, correct, weight = inputs.examples(
        weight,
        confidence=inputs.real("confidence", confidence, 0, 1),
        correct=inputs.real("correct", correct, 0, 1),
    )
    # By numpy: a compiler may multiply by 1 / M instead, and miss an edge.
    edges = jnp.asarray(np.arange(bins + 1) / bins, confidence.dtype)
    if by == "mass":
        inner = _quantiles(confidence, weight, bins)
        edges = jnp.concatenate([edges[:1], inner, edges[-1:]])
    place = jnp.searchsorted(edges[1:-1], confidence, side="left")

    def total(x):
        return jax.ops.segment_sum(x, place, bins)

    whole = total(weight)
    safe = jnp.where(whole > 0, whole, 1)
    return Reliability(
        edges,
        whole,
        total(weight * confidence) / safe,
        total(weight * correct) / safe,
    )


def expected_calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    bins: int = 15,
    by: str = "width",
) -> jax.Array:
    """ECE = sum_m (W_m / W) |accuracy_m - confidence_m| (arXiv:1706.04599, 3).

    Args:
        confidence: in [0, 1], [...]; those of `top`, for instance.
        correct: in [0, 1], [...].
        weight: at least 0, [...].
        bins: M.
        by: "width" or "mass", as in `reliability`.

    Returns:
        [], in [0, 1].

    Raises:
        UsageError: for other shapes, ranges or bins.
    """
    found = reliability(confidence, correct, weight, bins=bins, by=by)
    return inputs.mean(jnp.abs(found.accuracy - found.confidence), found.weight)


def _quantiles(
    confidence: jax.Array, weight: jax.Array, bins: int
) -> jax.Array:
    """The M - 1 edges by mass within."""
    order = jnp.argsort(jnp.where(weight > 0, confidence, jnp.inf))
    below = jnp.cumsum(weight[order])
    # Both times M, so that whole numbers compare as such.
    wanted = jnp.arange(1, bins, dtype=below.dtype) * below[-1]
    place = jnp.searchsorted(below * bins, wanted, side="left")
    return confidence[order][jnp.minimum(place, below.size - 1)]
