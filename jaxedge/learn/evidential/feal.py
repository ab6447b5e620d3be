"""FEAL's loss for classification (arXiv:2312.02567; feal 4.1).

Letters: B examples, or any number of leading axes; K classes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.evidential import inputs, risks
from jaxedge.learn.evidential.evidence import alpha as alpha_of


def feal_loss(
    logits: ArrayLike,
    onehot: ArrayLike,
    class_share: ArrayLike,
    step: ArrayLike,
    *,
    kl_weight: ArrayLike,
    annealing: ArrayLike,
) -> jax.Array:
    """The mean of `feal_losses` over all examples.

    Args:
        logits: z, [..., K].
        onehot: y, [..., K], in [0, 1].
        class_share: of each class among the labels of the client, [K].
        step: t, at least 0, a scalar; it may be traced.
        kl_weight: lambda, at least 0, a scalar; .01 in the released code.
        annealing: T > 0, a scalar; 10 there.

    Returns:
        [].

    Raises:
        UsageError: for other shapes or ranges.
    """
    losses = feal_losses(
        logits,
        onehot,
        class_share,
        step,
        kl_weight=kl_weight,
        annealing=annealing,
    )
    return jnp.mean(losses)


def feal_losses(
    logits: ArrayLike,
    onehot: ArrayLike,
    class_share: ArrayLike,
    step: ArrayLike,
    *,
    kl_weight: ArrayLike,
    annealing: ArrayLike,
) -> jax.Array:
    """L_ce + lambda (L_kl + L_cor) with alpha = max(z, 0) + 1 (feal 4.1).

    L_ce is `digamma_risk` with the weight 2 - share of a class, L_kl
    `annealed_kl`, and L_cor `correction`.

    Args:
        logits: z, [..., K].
        onehot: y, [..., K], in [0, 1].
        class_share: of each class among the labels of the client, [K].
        step: t, at least 0, a scalar; it may be traced.
        kl_weight: lambda, at least 0, a scalar.
        annealing: T > 0, a scalar.

    Returns:
        [...], one loss an example; may be negative.

    Raises:
        UsageError: for other shapes or ranges.
    """
    logits = inputs.real("logits", logits)
    checks.in_range("class_share", class_share, 0, 1)
    share = inputs.of_classes("class_share", class_share, logits)
    alpha = alpha_of(logits)
    loss = risks.digamma_risk(alpha, onehot, 2 - share)
    extra = regulariser(logits, alpha, onehot, step, annealing)
    return loss + weighted(kl_weight, extra)


def regulariser(
    logits: ArrayLike,
    alpha: ArrayLike,
    onehot: ArrayLike,
    step: ArrayLike,
    annealing: ArrayLike,
) -> jax.Array:
    """L_kl + L_cor, of any evidence (feal 4.1).

    Args:
        logits: z, [..., K].
        alpha: made of them, [..., K].
        onehot: y, [..., K], in [0, 1].
        step: t, at least 0, a scalar.
        annealing: T > 0, a scalar.

    Returns:
        [...].

    Raises:
        UsageError: for other shapes or ranges.
    """
    kept = risks.annealed_kl(alpha, onehot, step, annealing)
    return kept + correction(logits, alpha, onehot)


def correction(
    logits: ArrayLike, alpha: ArrayLike, onehot: ArrayLike
) -> jax.Array:
    """L_cor = -(K / S) sum_c y_c z_c, where S has no gradient (feal 4.1).

    It raises the true class's logit itself, even where its evidence is dead,
    the more the less evidence there is.

    Args:
        logits: z, [..., K].
        alpha: made of them, [..., K].
        onehot: y, [..., K], in [0, 1].

    Returns:
        [...].

    Raises:
        UsageError: for other shapes or ranges.
    """
    logits, alpha = inputs.real("logits", logits), inputs.dirichlet(alpha)
    if logits.shape != alpha.shape:
        raise checks.UsageError(
            f"logits has shape {logits.shape} and alpha {alpha.shape}; both"
            " must be of the same examples and classes."
        )
    y = inputs.labels(onehot, logits)
    total = jax.lax.stop_gradient(jnp.sum(alpha, axis=-1))
    return -logits.shape[-1] / total * jnp.sum(y * logits, axis=-1)


def weighted(kl_weight: ArrayLike, extra: jax.Array) -> jax.Array:
    """lambda times a regulariser; raises UsageError for a negative one."""
    checks.in_range("kl_weight", kl_weight, 0)
    return jnp.asarray(kl_weight, extra.dtype) * extra
