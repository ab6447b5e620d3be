"""How much the label of a sample would tell, from what networks say of it.

Beside the uncertainties of `coreset.uncertainty_score`. A higher score is
queried first. All are at least float32 and have finite gradients. Those of
logits take softmax(logits) as the prediction; of an evidential network log
alpha are such logits.

Letters: N samples, K classes, D features, T networks or stochastic passes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn import coreset
from jaxedge.learn.active import inputs
from jaxedge.learn.coreset.inputs import real, same
from jaxedge.learn.evidential import differential_entropy, expected_entropy

# Differential entropies whose spread is less than so many units of rounding of
# the largest are equal: compiled code need not round all samples alike.
_ROUNDING = 4


def calibrated_evidential(
    alpha_global: ArrayLike, alpha_local: ArrayLike
) -> jax.Array:
    """w (U_ale of the global + U_ale of the local model), FEAL's score.

    U_ale is the expected entropy in nats, and w the differential entropy of
    the global model brought to [0, 1] by its least and largest value over the
    pool (arXiv:2312.02567; feal 4.3). Where all are equal, which leaves 0 / 0
    there, w is 1: nothing is calibrated.

    Args:
        alpha_global: Dirichlet parameters, positive [N, K].
        alpha_local: likewise, of the client's model [N, K].

    Returns:
        [N], at least 0.

    Raises:
        UsageError: for shapes that do not agree, or what is not positive.
    """
    alpha_global = _dirichlet("alpha_global", alpha_global)
    alpha_local = _dirichlet("alpha_local", alpha_local)
    same(
        "shapes",
        alpha_global=alpha_global.shape,
        alpha_local=alpha_local.shape,
    )
    return _calibrated(alpha_global, alpha_local)


def total_uncertainty_score(alpha: ArrayLike) -> jax.Array:
    """The entropy of the expected prediction alpha / S, of one model.

    Its expected entropy and its mutual information in sum, in nats.

    Args:
        alpha: Dirichlet parameters, positive [N, K].

    Returns:
        [N] in [0, log K].

    Raises:
        UsageError: for another rank, or what is not positive.
    """
    log_alpha = jnp.log(_dirichlet("alpha", alpha))
    return coreset.uncertainty_score(log_alpha, "entropy")


def bald_score(logits_T: ArrayLike) -> jax.Array:
    """How far stochastic passes disagree (BALD, arXiv:1112.5745).

    The mutual information H(mean_t p_t) - mean_t H(p_t) in nats, computed as
    mean_t KL(p_t | mean p), which does not cancel.

    Args:
        logits_T: of several networks, or of one under dropout [T, N, K].

    Returns:
        [N] in [0, log T], but for rounding.

    Raises:
        UsageError: for another rank.
    """
    return _bald(real("logits_T", logits_T, "TNK"))


def kafal_score(
    logits_local: ArrayLike, logits_global: ArrayLike, class_share: ArrayLike
) -> jax.Array:
    """How far client and server disagree on what the client knows.

    Half of KL(p, q) + KL(q, p) in nats of the two predictions, each weighted
    by the client's class shares, p_c ~ share_c exp(logit_c): the
    knowledge-specialised divergence of KAFAL (arXiv:2211.13579, by the
    authors' code). A class that the client never saw counts for nothing.

    Args:
        logits_local: of the client [N, K].
        logits_global: of the server [N, K].
        class_share: shares or counts of the client's labelled set, at least 0,
            one of them positive [K].

    Returns:
        [N], at least 0.

    Raises:
        UsageError: for shapes that do not agree, or other shares than these.
    """
    local = real("logits_local", logits_local, "NK")
    global_ = real("logits_global", logits_global, "NK")
    same("shapes", logits_local=local.shape, logits_global=global_.shape)
    share = inputs.shares("class_share", class_share, local.shape[1])
    return _specialised(local, global_, share)


def grad_norm_score(logits: ArrayLike, features: ArrayLike) -> jax.Array:
    """The expected norm of the last layer's gradient.

    sum_y p_y |p - onehot(y)| |[h, 1]|, weights and bias: expected gradient
    length (Settles et al., NIPS 2007) with the labels that the model expects.
    (The norm of the expected gradient would be 0.) Takes K times O(N K).

    Args:
        logits: [N, K].
        features: h, what the last layer is fed [N, D].

    Returns:
        [N], at least 0.

    Raises:
        UsageError: for shapes that do not agree.
    """
    logits = real("logits", logits, "NK")
    features = real("features", features, "ND")
    same("samples", logits=logits.shape[0], features=features.shape[0])
    return _expected_norm(logits, features)


def _dirichlet(name: str, alpha: ArrayLike) -> jax.Array:
    alpha = real(name, alpha, "NK")
    checks.in_range(name, alpha, 0, np.inf, open_low=True)
    return alpha


@jax.jit
def _calibrated(alpha_global: jax.Array, alpha_local: jax.Array) -> jax.Array:
    epistemic = differential_entropy(alpha_global)
    low, high = jnp.min(epistemic), jnp.max(epistemic)
    eps = jnp.finfo(epistemic.dtype).eps
    largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    spread = high - low
    apart = spread > _ROUNDING * eps * largest
    weight = (epistemic - low) / jnp.where(apart, spread, 1)
    aleatoric = expected_entropy(alpha_global) + expected_entropy(alpha_local)
    return jnp.where(apart, weight, 1) * aleatoric


@jax.jit
def _bald(logits_T: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits_T)
    mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(log_p))
    apart = jnp.sum(jnp.exp(log_p) * (log_p - mean[None]), axis=-1)
    return jnp.mean(apart, axis=0)


@jax.jit
def _specialised(
    local: jax.Array, global_: jax.Array, share: jax.Array
) -> jax.Array:
    seen = (share > 0)[None]
    log_share = jnp.log(jnp.where(share > 0, share, 1)).astype(local.dtype)

    def log_p(logits):
        weighted = jnp.where(seen, logits + log_share[None], -jnp.inf)
        return jnp.where(seen, jax.nn.log_softmax(weighted), 0)

    p, q = log_p(local), log_p(global_)
    # Classes never seen have log p = log q = 0 here, and drop out.
    return jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1) / 2


@jax.jit
def _expected_norm(logits: jax.Array, features: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits)

    def one(total, y):
        labels = jnp.full(logits.shape[0], y)
        norm = coreset.grand_score(logits, features, labels)
        return total + p[:, y] * norm, None

    begin = jnp.zeros_like(logits[:, 0])
    return jax.lax.scan(one, begin, jnp.arange(logits.shape[1]))[0]
