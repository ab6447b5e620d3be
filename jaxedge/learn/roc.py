"""ROC curves of few examples, and how far they can be trusted.

A detector gives a score, the larger the surer. Scores of positive and of
negative examples are given apart, so that every size is known when a program
is compiled. `ranking` has areas of large sets, in sums over batches.

Letters: P positive, Q negative examples, C detectors of the same examples,
T points of a curve, D draws.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks

CONFIDENCE = 0.95
DRAWS = 2000
# Draws that are computed at once: memory stays bounded.
_BLOCK = 100


class Curve(NamedTuple):
    """Points of an ROC curve, from (0, 0) to (1, 1); some may repeat.

    Attributes:
        false: share of the negative examples above a threshold, rising, [T].
        true: share of the positive ones, [T].
    """

    false: jax.Array
    true: jax.Array


class Areas(NamedTuple):
    """Areas under ROC curves of the same examples.

    Attributes:
        area_C: in [0, 1].
        covariance_CxC: of their estimates.
    """

    area_C: jax.Array
    covariance_CxC: jax.Array


class Interval(NamedTuple):
    """An estimate and its interval, of any shape."""

    value: jax.Array
    low: jax.Array
    high: jax.Array


def curve(positive_P: ArrayLike, negative_Q: ArrayLike) -> Curve:
    """The ROC curve, with T = P + Q + 2 points.

    A threshold at every score; examples of one score are passed together, so
    that the line between two points is their mean over orders.

    Args:
        positive_P: finite scores of P >= 1 examples.
        negative_Q: finite scores of Q >= 1 examples.

    Raises:
        UsageError: for other shapes, or scores that are not finite.
    """
    positive, negative = _scores(positive_P, negative_Q, 1, 1)
    limits = _limits(positive, negative)
    alarms, hits = _above(negative, limits), _above(positive, limits)
    return Curve(alarms / negative.size, hits / positive.size)


def areas(positive_CxP: ArrayLike, negative_CxQ: ArrayLike) -> Areas:
    """Areas under the ROC curves of detectors, and how sure these are.

    DeLong et al., Biometrics 44:837 (1988). With psi(x, y) = 1, 1/2 or 0 for a
    positive score x above, at or below a negative one y, the components of a
    detector are V_i = mean_j psi(x_i, y_j) and W_j = mean_i psi(x_i, y_j); the
    area is their mean, and the covariance of two areas

        cov_i(V, V') / P + cov_j(W, W') / Q,

    with P - 1 and Q - 1 below. Components come from sorted scores, not from
    all pairs (Sun & Xu, IEEE Signal Processing Letters 21:1389, 2014). They
    know of no error where a detector makes none: an area of 0 or 1 has a
    variance of 0.

    Args:
        positive_CxP: finite scores of P >= 2 examples by each detector.
        negative_CxQ: likewise of Q >= 2 others.

    Raises:
        UsageError: for other shapes, or scores that are not finite.
    """
    positive, negative = _scores(positive_CxP, negative_CxQ, 2, 2)
    below = jax.vmap(_share_below)
    over_CxP = below(positive, negative)
    over_CxQ = 1 - below(negative, positive)
    return Areas(
        over_CxP.mean(1),
        _covariance(over_CxP) + _covariance(over_CxQ),
    )


def interval(
    value: ArrayLike, variance: ArrayLike, confidence: ArrayLike = CONFIDENCE
) -> Interval:
    """The normal interval of an estimate.

    Args:
        value: of any shape, such as `Areas.area_C`.
        variance: at least 0, of the same shape.
        confidence: that the interval holds the true value, in [0, 1).

    Returns:
        value -+ z sqrt(variance), not cut to what values are possible.

    Raises:
        UsageError: for numbers out of range.
    """
    checks.in_range("variance", variance, 0)
    checks.in_range("confidence", confidence, 0, 1)
    z = jax.scipy.special.ndtri((1 + jnp.asarray(confidence)) / 2)
    value, reach = jnp.asarray(value), z * jnp.sqrt(jnp.asarray(variance))
    return Interval(value, value - reach, value + reach)


def band(
    key: jax.Array,
    positive_P: ArrayLike,
    negative_Q: ArrayLike,
    alarms_T: ArrayLike,
    *,
    draws: int = DRAWS,
    confidence: ArrayLike = CONFIDENCE,
) -> Interval:
    """How many positive examples are found, and a band around, by bootstrap.

    Positive and negative examples are drawn anew with replacement, each kind
    among its own; the ends are percentiles over the draws, of each point by
    itself (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter
    13). So the band holds a point of the true curve with the stated
    confidence, not the whole curve; where a detector makes no error it has no
    width, as no draw makes one.

    Args:
        key: consumed.
        positive_P: finite scores of P >= 1 examples.
        negative_Q: finite scores of Q >= 1 examples.
        alarms_T: false alarms out of Q that are allowed, whole numbers in
            [0, Q].
        draws: D.
        confidence: in [0, 1].

    Returns:
        Shares of the positive examples, [T] each in [0, 1]: the most that are
        above a threshold with so many alarms at most, between thresholds on
        the line that joins them.

    Raises:
        UsageError: for other shapes, or numbers out of range.
    """
    positive, negative = _scores(positive_P, negative_Q, 1, 1)
    checks.in_range("alarms_T", alarms_T, 0, negative.size)
    checks.in_range("confidence", confidence, 0, 1)
    checks.whole("draws", draws, 1)
    alarms, tail = jnp.asarray(alarms_T), (1 - jnp.asarray(confidence)) / 2
    return _band(key, positive, negative, alarms, tail, draws)


@functools.partial(jax.jit, static_argnums=5)
def _band(
    key: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    alarms: jax.Array,
    tail: jax.Array,
    draws: int,
) -> Interval:
    limits = _limits(positive, negative)

    def found(positive: jax.Array, negative: jax.Array) -> jax.Array:
        above = _above(negative, limits), _above(positive, limits)
        # Whole numbers: a point that is asked for is met exactly.
        return jnp.interp(alarms.astype(limits.dtype), *above) / positive.size

    def draw(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        return found(
            *(
                scores[jax.random.randint(k, scores.shape, 0, scores.size)]
                for k, scores in zip(keys, (positive, negative), strict=True)
            )
        )

    drawn_DxT = jax.lax.map(
        draw, jax.random.split(key, draws), batch_size=min(_BLOCK, draws)
    )
    low, high = jnp.quantile(drawn_DxT, jnp.stack([tail, 1 - tail]), axis=0)
    return Interval(found(positive, negative), low, high)


def _share_below(x_N: jax.Array, other_M: jax.Array) -> jax.Array:
    """Share of the others that are below each score, [N]; ties count half."""
    rising = jnp.sort(other_M)
    ends = (jnp.searchsorted(rising, x_N, side=s) for s in ("left", "right"))
    return sum(ends, start=jnp.zeros((), x_N.dtype)) / (2 * other_M.size)


def _covariance(over_CxN: jax.Array) -> jax.Array:
    """Of means over N, from components, [C, C]."""
    off = over_CxN - over_CxN.mean(1, keepdims=True)
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    product = jnp.matmul(off, off.T, precision=jax.lax.Precision.HIGHEST)
    n = over_CxN.shape[1]
    return product / (n * (n - 1))


def _limits(positive_P: jax.Array, negative_Q: jax.Array) -> jax.Array:
    """Falling thresholds, above all scores first and below all last."""
    known = jnp.sort(jnp.concatenate([positive_P, negative_Q]), descending=True)
    return jnp.concatenate(
        [
            jnp.full(1, jnp.inf, known.dtype),
            known,
            -jnp.full_like(known[:1], jnp.inf),
        ]
    )


def _above(scores_N: jax.Array, limits_T: jax.Array) -> jax.Array:
    """How many scores reach each threshold, [T], as numbers of its dtype."""
    below = jnp.searchsorted(jnp.sort(scores_N), limits_T, side="left")
    return (scores_N.size - below).astype(limits_T.dtype)


def _scores(
    positive: ArrayLike, negative: ArrayLike, ndim: int, least: int
) -> tuple[jax.Array, jax.Array]:
    """Both in one dtype of at least float32, or a UsageError."""
    given = {"positive": positive, "negative": negative}
    arrays = {name: jnp.asarray(value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.ndim != ndim or array.size == 0 or array.shape[-1] < least:
            raise checks.UsageError(
                f"{name} scores have shape {array.shape}, but must have"
                f" {ndim} axes and {least} examples at least."
            )
        if jnp.iscomplexobj(array):
            raise checks.UsageError(f"{name} scores are complex.")
        checks.finite(f"{name} scores", given[name])
    first, second = arrays.values()
    if first.shape[:-1] != second.shape[:-1]:
        raise checks.UsageError(
            f"positive scores have shape {first.shape} and negative ones"
            f" {second.shape}, but must be of the same detectors."
        )
    dtype = jnp.promote_types(first.dtype, second.dtype)
    dtype = jnp.promote_types(dtype, jnp.float32)
    return first.astype(dtype), second.astype(dtype)
