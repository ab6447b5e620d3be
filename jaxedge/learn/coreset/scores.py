"""How much a sample is worth to training, from what networks say of it.

The two scores of arXiv:2306.07215 and their mix (qat_acs 4.1), and those of the
methods that it is compared with. A higher score is kept first. All are at least
float32 and have finite gradients.

Letters: N samples, K classes, D features, T networks or epochs.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.coreset import inputs

# The weight of the error vector score at progress t / E.
SCHEDULES: dict[str, Callable[[jax.Array], jax.Array]] = {
    # cos(pi t / 2E), of the paper.
    "paper": lambda t: jnp.cos(jnp.pi / 2 * t),
    # The cosine of the released code: half at half time, not .707.
    "released": lambda t: (1 + jnp.cos(jnp.pi * t)) / 2,
    "linear": lambda t: 1 - t,
    "quadratic": lambda t: 1 - t**2,
    "sqrt": lambda t: 1 - jnp.sqrt(t),
    "fixed": lambda t: jnp.full_like(t, 0.5),
    # One score alone; the flags of the released code are swapped (trap 1).
    "evs": jnp.ones_like,
    "ds": jnp.zeros_like,
}
UNCERTAINTIES = ("least_confidence", "entropy", "margin")


def error_vector_score(logits_q: ArrayLike, labels: ArrayLike) -> jax.Array:
    """EVS = |softmax(f_q(x)) - onehot(y)|_2 (qat_acs 4.1).

    Args:
        logits_q: of the quantised network, in evaluation mode [N, K].
        labels: whole numbers [N] in [0, K); of traced ones, which cannot be
            checked, one outside counts as no class.

    Returns:
        [N] in [0, sqrt(2)].

    Raises:
        UsageError: for shapes that do not agree, or a label outside.
    """
    logits = inputs.real("logits_q", logits_q, "NK")
    labels = inputs.whole("labels", labels, *logits.shape)
    return _error_norm(logits, jnp.asarray(labels))


def disagreement_score(logits_q: ArrayLike, logits_fp: ArrayLike) -> jax.Array:
    """DS = |softmax(f_q(x)) - softmax(f_fp(x))|_2 (qat_acs 4.1).

    Args:
        logits_q: of the quantised network, in evaluation mode [N, K].
        logits_fp: of the same network in full precision [N, K].

    Returns:
        [N] in [0, sqrt(2)].

    Raises:
        UsageError: for shapes that do not agree.
    """
    logits_q = inputs.real("logits_q", logits_q, "NK")
    logits_fp = inputs.real("logits_fp", logits_fp, "NK")
    inputs.same("shapes", logits_q=logits_q.shape, logits_fp=logits_fp.shape)
    return _disagreement(logits_q, logits_fp)


def adaptive_score(
    evs: ArrayLike,
    ds: ArrayLike,
    progress: ArrayLike,
    schedule: str = "paper",
) -> jax.Array:
    """b EVS + (1 - b) DS, with b a function of the progress (qat_acs 4.1).

    Args:
        evs: error vector scores [N].
        ds: disagreement scores [N].
        progress: t / E, the share of the training that is over, in [0, 1].
        schedule: a key of `SCHEDULES`. "paper" takes b = cos(pi t / 2E);
            "released", (1 + cos(pi t / E)) / 2, is that of the code which made
            the published curves (trap 2).

    Returns:
        [N].

    Raises:
        UsageError: for an unknown schedule, a progress outside [0, 1] or that
            is no single number, or shapes that do not agree.
    """
    evs, ds = inputs.real("evs", evs, "N"), inputs.real("ds", ds, "N")
    inputs.same("samples", evs=evs.size, ds=ds.size)
    checks.choice("schedule", schedule, SCHEDULES)
    checks.in_range("progress", progress, 0, 1)
    if jnp.ndim(progress):
        raise checks.UsageError(
            f"progress has shape {jnp.shape(progress)}, but must be one"
            " number; jax.vmap maps over several."
        )
    share = SCHEDULES[schedule](jnp.asarray(progress, evs.dtype))
    return share * evs + (1 - share) * ds


def el2n_score(logits_T: ArrayLike, labels: ArrayLike) -> jax.Array:
    """The mean error vector score of some networks (arXiv:2107.07075).

    Args:
        logits_T: of networks early in training, or of one at several epochs
            [T, N, K].
        labels: whole numbers [N] in [0, K).

    Returns:
        [N] in [0, sqrt(2)].

    Raises:
        UsageError: for shapes that do not agree, or a label outside.
    """
    logits_TxNxK = inputs.real("logits_T", logits_T, "TNK")
    labels = inputs.whole("labels", labels, *logits_TxNxK.shape[1:])
    return _mean_error_norm(logits_TxNxK, jnp.asarray(labels))


def grand_score(
    logits: ArrayLike, features: ArrayLike, labels: ArrayLike
) -> jax.Array:
    """The norm of the last layer's gradient (GraNd, arXiv:2107.07075).

    |p - y| |[h, 1]|, exact for the weights and bias of that layer, since their
    gradient is the outer product of the two. The paper takes the gradient of
    all layers, in the mean over networks.

    Args:
        logits: [N, K].
        features: h, what the last layer is fed [N, D].
        labels: whole numbers [N] in [0, K).

    Returns:
        [N], at least 0.

    Raises:
        UsageError: for shapes that do not agree, or a label outside.
    """
    features = inputs.real("features", features, "ND")
    error = error_vector_score(logits, labels)
    inputs.same("samples", logits=error.size, features=features.shape[0])
    return error * jnp.sqrt(1 + jnp.sum(features**2, axis=-1))


def forgetting_score(correct_T: ArrayLike) -> jax.Array:
    """How often a sample turned from right to wrong (arXiv:1812.05159).

    Args:
        correct_T: whether it was classified rightly at every epoch, bool
            [T, N].

    Returns:
        Counts [N], float32; infinite for a sample that was never right.

    Raises:
        UsageError: for what is not bool, or another rank.
    """
    correct = inputs.true_or_false("correct_T", correct_T, "TN")
    events = jnp.sum(correct[:-1] & ~correct[1:], axis=0, dtype=jnp.float32)
    return jnp.where(jnp.any(correct, axis=0), events, jnp.inf)


def uncertainty_score(
    logits: ArrayLike, kind: str = "least_confidence"
) -> jax.Array:
    """How unsure a network is.

    Args:
        logits: [N, K], K at least 2.
        kind: one of `UNCERTAINTIES`: 1 - max p; -sum p log p, in nats; or
            minus the margin between the two largest p.

    Returns:
        [N].

    Raises:
        UsageError: for an unknown kind, or fewer than two classes.
    """
    logits = inputs.real("logits", logits, "NK")
    checks.choice("kind of uncertainty", kind, UNCERTAINTIES)
    checks.whole("the number of classes", logits.shape[1], 2)
    return _uncertainty(logits, kind)


def moderate_score(
    features: ArrayLike,
    labels: ArrayLike,
    classes: int,
    class_balanced: bool = True,
) -> jax.Array:
    """How near a sample is to the median distance from its class's centre.

    -| d - median d |, with d the distance of the features to their mean over
    the class (Xia et al., ICLR 2023). The released code of arXiv:2306.07215
    keeps instead the samples farthest from the class's median feature.

    Args:
        features: [N, D].
        labels: whole numbers [N]; every class of [0, C) has a sample.
        classes: C.
        class_balanced: whether the median is that of the class, else of all.

    Returns:
        [N], at most 0.

    Raises:
        UsageError: for shapes that do not agree, or a label outside.
    """
    features = inputs.real("features", features, "ND")
    checks.whole("classes", classes, 1)
    labels = inputs.whole("labels", labels, features.shape[0], classes)
    return _moderate(features, jnp.asarray(labels), classes, class_balanced)


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """softmax - onehot, the loss's gradient by the logits [..., N, K]."""
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jax.nn.softmax(logits) - one_hot


def _norm(x: jax.Array) -> jax.Array:
    """|x| over the last axis, with a gradient of 0 at 0."""
    square = jnp.sum(x * x, axis=-1)
    known = square > 0
    return jnp.where(known, jnp.sqrt(jnp.where(known, square, 1)), 0)


@jax.jit
def _error_norm(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return _norm(error(logits, labels))


@jax.jit
def _mean_error_norm(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # One network at a time, so that only one set of probabilities exists.
    each = jax.lax.map(lambda x: _norm(error(x, labels)), logits)
    return jnp.mean(each, axis=0)


@jax.jit
def _disagreement(logits_q: jax.Array, logits_fp: jax.Array) -> jax.Array:
    return _norm(jax.nn.softmax(logits_q) - jax.nn.softmax(logits_fp))


@functools.partial(jax.jit, static_argnames="kind")
def _uncertainty(logits: jax.Array, kind: str) -> jax.Array:
    p = jax.nn.softmax(logits)
    if kind == "entropy":
        # Not log p, which is -inf where p rounds to 0.
        return -jnp.sum(p * jax.nn.log_softmax(logits), axis=-1)
    first, second = jnp.moveaxis(jax.lax.top_k(p, 2)[0], -1, 0)
    return second - first if kind == "margin" else 1 - first


@functools.partial(jax.jit, static_argnames=("classes", "class_balanced"))
def _moderate(
    features: jax.Array, labels: jax.Array, classes: int, class_balanced: bool
) -> jax.Array:
    def centre(c):
        # A mask, as sums by scattering differ from run to run on a GPU.
        of_class = (labels == c)[:, None]
        total = jnp.sum(jnp.where(of_class, features, 0), axis=0)
        return total / jnp.sum(of_class)

    centres = jax.lax.map(centre, jnp.arange(classes))
    distance = _norm(features - centres[labels])
    groups = labels if class_balanced else jnp.zeros_like(labels)
    counts = jnp.bincount(groups, length=classes)
    first = jnp.cumsum(counts) - counts
    ordered = distance[jnp.lexsort((distance, groups))]
    # The two in the middle, which are one for an odd count.
    middle = first + (counts - 1) // 2, first + counts // 2
    low, high = (jnp.take(ordered, m, mode="clip") for m in middle)
    median = (low + high) / 2
    return -jnp.abs(distance - median[groups])
