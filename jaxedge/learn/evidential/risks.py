"""What it costs to give the evidence to the wrong class.

One number an example, in natural units except the squared risk. Labels may be
soft. A recipe adds a risk and a multiple of `annealed_kl`.

Letters: K classes; y labels; S = sum of alpha; p = alpha / S.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.evidential import inputs, special
from jaxedge.learn.evidential.dirichlet import kl_to_uniform, others


def digamma_risk(
    alpha: ArrayLike,
    onehot: ArrayLike,
    class_weight: ArrayLike | None = None,
) -> jax.Array:
    """The Bayes risk of the cross-entropy.

    sum_c w_c y_c (psi(S) - psi(alpha_c)):
    Sensoy, arXiv:1806.01768; FEAL's with w_c = 2 - class share (feal
    4.1).

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].
        class_weight: w, at least 0, [K] or [..., K]; None takes 1.

    Returns:
        [...], at least 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    alpha, weight = _weighted(alpha, onehot, class_weight)
    gap = special.digamma_difference(alpha, others(alpha))
    return jnp.sum(weight * gap, axis=-1)


def likelihood_risk(
    alpha: ArrayLike,
    onehot: ArrayLike,
    class_weight: ArrayLike | None = None,
) -> jax.Array:
    """Type II maximum likelihood, sum_c w_c y_c (ln S - ln alpha_c).

    That is -ln p of the true class (Sensoy, arXiv:1806.01768). Not in FEAL.

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].
        class_weight: w, at least 0, [K] or [..., K]; None takes 1.

    Returns:
        [...], at least 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    alpha, weight = _weighted(alpha, onehot, class_weight)
    gap = jnp.log1p(others(alpha) / alpha)
    return jnp.sum(weight * gap, axis=-1)


def squared_risk(
    alpha: ArrayLike,
    onehot: ArrayLike,
    class_weight: ArrayLike | None = None,
) -> jax.Array:
    """The Bayes risk of the Brier score.

    sum_c w_c ((y_c - p_c)^2 + p_c (1 - p_c) / (S + 1)), the error of the mean
    and the variance (Sensoy, arXiv:1806.01768). Not in FEAL.

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].
        class_weight: w, at least 0, [K] or [..., K], of classes whether true
            or not; None takes 1.

    Returns:
        [...], in [0, 2] without weights.

    Raises:
        UsageError: for other shapes or ranges.
    """
    alpha = inputs.dirichlet(alpha)
    y = inputs.labels(onehot, alpha)
    total = jnp.sum(alpha, axis=-1, keepdims=True)
    p, rest = alpha / total, others(alpha) / total
    # y - p, where 1 - p would have lost the digits of a sure prediction.
    error = y * rest - (1 - y) * p
    risk = error**2 + p * rest / (total + 1)
    if class_weight is not None:
        risk = risk * inputs.of_classes("class_weight", class_weight, alpha)
    return jnp.sum(risk, axis=-1)


RISKS = {
    "digamma": digamma_risk,
    "likelihood": likelihood_risk,
    "squared": squared_risk,
}


def misleading(alpha: ArrayLike, onehot: ArrayLike) -> jax.Array:
    """Parameters without the true class's evidence, (alpha - 1)(1 - y) + 1.

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].

    Returns:
        [..., K].

    Raises:
        UsageError: for other shapes or ranges.
    """
    alpha = inputs.dirichlet(alpha)
    # alpha - (alpha - 1) y: what is not the true class keeps its digits.
    return alpha - (alpha - 1) * inputs.labels(onehot, alpha)


def annealed_kl(
    alpha: ArrayLike,
    onehot: ArrayLike,
    step: ArrayLike,
    annealing: ArrayLike,
) -> jax.Array:
    """min(1, t / T) KL(Dir(misleading) || Dir(1)) (feal 4.1).

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].
        step: t, at least 0, a scalar; FEAL counts rounds, from 0 in each round
            of active learning.
        annealing: T > 0, a scalar.

    Returns:
        [...], at least 0 but for rounding; 0 at step 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    checks.in_range("step", step, 0)
    checks.in_range("annealing", annealing, 0, open_low=True)
    divergence = kl_to_uniform(misleading(alpha, onehot))
    share = jnp.minimum(1, jnp.asarray(step, divergence.dtype) / annealing)
    return share * divergence


def _weighted(
    alpha: ArrayLike, onehot: ArrayLike, class_weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """Parameters, and w y."""
    alpha = inputs.dirichlet(alpha)
    y = inputs.labels(onehot, alpha)
    if class_weight is None:
        return alpha, y
    return alpha, y * inputs.of_classes("class_weight", class_weight, alpha)
