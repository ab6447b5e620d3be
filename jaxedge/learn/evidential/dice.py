"""Dice losses of segmentations, evidential and plain (feal 4.1).

They compare sums over all pixels of all images of a batch, class by class, so
they are one number a batch. A pixel of weight 0, such as one of a padded image,
is in no sum.

Letters: K classes on the last axis, pixels on all others.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.learn.evidential import inputs
from jaxedge.learn.evidential.dirichlet import others
from jaxedge.learn.evidential.evidence import alpha as alpha_of
from jaxedge.learn.evidential.feal import regulariser, weighted

# FEAL's and that of its baseline; a class that nobody sees costs nothing.
_SMOOTH = 1e-5


def evidential_dice(
    alpha: ArrayLike, onehot: ArrayLike, weight: ArrayLike | None = None
) -> jax.Array:
    """1 - mean_c (2 sum p y + e) / (sum (p^2 + y^2 + p (1 - p) / (S + 1)) + e).

    The soft Dice loss of the expected probabilities with their variance in the
    denominator; e = 1e-5.

    Args:
        alpha: [..., K], positive.
        onehot: y, [..., K], in [0, 1].
        weight: of each pixel, at least 0, [...]; None takes 1.

    Returns:
        [], in [0, 1]; 0 where all weights are 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    alpha = inputs.dirichlet(alpha)
    total = jnp.sum(alpha, axis=-1, keepdims=True)
    p = alpha / total
    variance = p * (others(alpha) / total) / (total + 1)
    return _dice(p, onehot, weight, variance)


def soft_dice(
    logits: ArrayLike, onehot: ArrayLike, weight: ArrayLike | None = None
) -> jax.Array:
    """1 - mean_c (2 sum p y + e) / (sum (p^2 + y^2) + e) of p = softmax(z).

    The baseline without evidence; e = 1e-5.

    Args:
        logits: z, [..., K].
        onehot: y, [..., K], in [0, 1].
        weight: of each pixel, at least 0, [...]; None takes 1.

    Returns:
        [], in [0, 1]; 0 where all weights are 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    p = jax.nn.softmax(inputs.real("logits", logits))
    return _dice(p, onehot, weight, jnp.zeros_like(p))


def feal_dice_loss(
    logits: ArrayLike,
    onehot: ArrayLike,
    step: ArrayLike,
    *,
    kl_weight: ArrayLike,
    annealing: ArrayLike,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """L_dice + lambda (L_kl + L_cor) with alpha = (max(z, 0) + 1)^2.

    L_dice is `evidential_dice`; L_kl and L_cor are weighted means over pixels
    of the terms of `feal_losses`.

    Args:
        logits: z, [..., K].
        onehot: y, [..., K], in [0, 1].
        step: t, at least 0, a scalar; it may be traced.
        kl_weight: lambda, at least 0, a scalar; .001 in the released code.
        annealing: T > 0, a scalar; 10 there.
        weight: of each pixel, at least 0, [...]; None takes 1.

    Returns:
        []; 0 where all weights are 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    logits = inputs.real("logits", logits)
    alpha = alpha_of(logits, "squared")
    weight = inputs.of_examples(weight, logits)
    extra = regulariser(logits, alpha, onehot, step, annealing)
    whole = jnp.sum(weight)
    mean = jnp.sum(weight * extra) / jnp.where(whole > 0, whole, 1)
    return evidential_dice(alpha, onehot, weight) + weighted(kl_weight, mean)


def _dice(
    p: jax.Array,
    onehot: ArrayLike,
    weight: ArrayLike | None,
    variance: jax.Array,
) -> jax.Array:
    y = inputs.labels(onehot, p)
    weight = inputs.of_examples(weight, p)[..., None]
    pixels = tuple(range(p.ndim - 1))
    both = jnp.sum(weight * (p * y), pixels)
    either = jnp.sum(weight * (p * p + y * y + variance), pixels)
    return 1 - jnp.mean((2 * both + _SMOOTH) / (either + _SMOOTH))
