"""Learning from a teacher's distribution over the classes.

A loss is one number an example; the caller averages. Numbers are at least
float32, whatever the logits are.

Letters: B examples, or any number of leading axes, K classes, k of which are
stored.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks


def soft_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, temperature: ArrayLike = 1.0
) -> jax.Array:
    """-sum_j p_j log softmax(z / T)_j (vvtq 4.2, qat_acs 4.3).

    The gradient by z is (softmax(z / T) - p) / T.

    Args:
        logits: z, [B, K]; -inf for a class that cannot be.
        target: p, [B, K], at least 0 and of sum 1.
        temperature: T > 0, a scalar.

    Returns:
        [B], natural units; a class of p = 0 adds nothing.

    Raises:
        UsageError: for shapes that differ or a temperature of 0 or less.
    """
    logits, target = _pair(logits, target, "target")
    _check_temperature(temperature)
    log_BxK = jax.nn.log_softmax(logits / temperature)
    # 0 times -inf is no number, and neither is its gradient.
    log_BxK = jnp.where(target == 0, 0, log_BxK)
    return -jnp.sum(target * log_BxK, axis=-1)


def distill(
    logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    squared: bool = True,
) -> jax.Array:
    """The soft cross-entropy towards a teacher (Hinton, arXiv:1503.02531, 2).

    T^2 CE(softmax(z_teacher / T), softmax(z / T)). Its least value is not 0
    but T^2 times the entropy of the teacher.

    Args:
        logits: of the student, [B, K].
        teacher_logits: [B, K]; no gradient reaches them.
        temperature: T > 0 of both, a scalar.
        squared: whether the factor T^2 is there, which keeps the size of the
            gradient when T changes.

    Returns:
        [B], natural units.

    Raises:
        UsageError: for shapes that differ or a temperature of 0 or less.
    """
    logits, teacher = _pair(logits, teacher_logits, "teacher_logits")
    _check_temperature(temperature)
    target = jax.nn.softmax(jax.lax.stop_gradient(teacher) / temperature)
    loss_B = soft_cross_entropy(logits, target, temperature=temperature)
    return loss_B * temperature**2 if squared else loss_B


def mixed(
    logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """alpha CE(label) + (1 - alpha) distill(teacher).

    Args:
        logits: of the student, [B, K]; the label sees them at temperature 1.
        teacher_logits: [B, K].
        labels: [B], integers in [0, K).
        alpha: share of the label, in [0, 1], a scalar.
        temperature: T > 0 of `distill`, which has its factor T^2.

    Returns:
        [B], natural units.

    Raises:
        UsageError: for another shape or range.
    """
    checks.in_range("alpha (the share of the labels)", alpha, 0, 1)
    soft_B = distill(logits, teacher_logits, temperature=temperature)
    target = hard(labels, jnp.shape(logits)[-1])
    hard_B = soft_cross_entropy(logits, target)
    return soft_B + alpha * (hard_B - soft_B)


def hard(
    labels: ArrayLike, classes: int, smoothing: ArrayLike = 0.0
) -> jax.Array:
    """Labels as distributions: (1 - s) onehot + s / K.

    Args:
        labels: [B], integers in [0, K); under jit one outside is not seen, and
            its row is s / K throughout.
        classes: K.
        smoothing: s, in [0, 1], a scalar.

    Returns:
        [B, K] float32.

    Raises:
        UsageError: for labels that are no integers or out of range, or s.
    """
    checks.whole("classes", classes, 1)
    checks.in_range("smoothing", smoothing, 0, 1)
    labels = _integers("labels", labels, classes)
    onehot_BxK = jax.nn.one_hot(labels, classes)
    return onehot_BxK + smoothing * (1 / classes - onehot_BxK)


def compress(p: ArrayLike, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest probabilities of each example, from which `recover` starts.

    Args:
        p: [B, K], at least 0 and of sum 1.
        k: how many stay, in [1, K].

    Returns:
        Their classes, [B, k] int32, and the probabilities, [B, k], falling; of
        equal ones the lower class comes first.

    Raises:
        UsageError: for a k out of range.
    """
    p = _real("p", p)
    _check_k(k, p.shape[-1])
    value_Bxk, index_Bxk = jax.lax.top_k(p, k)
    return index_Bxk, value_Bxk


def recover(index: ArrayLike, value: ArrayLike, classes: int) -> jax.Array:
    """The distribution of stored probabilities; the rest is spread evenly.

    The value on its class, (1 - sum of values) / (K - k) on every other: the
    "marginal smoothing" of FKD (vvtq 2). Values whose rounding, as to float16,
    takes their sum above 1 leave 0 for the others.

    Args:
        index: [B, k], integers in [0, K), all different in a row.
        value: [B, k], in [0, 1], of sum at most 1.
        classes: K >= k.

    Returns:
        [B, K], at least float32; the inverse of `compress` for a distribution
        that is even beyond its k largest.

    Raises:
        UsageError: for shapes that differ, or numbers out of range.
    """
    checks.whole("classes", classes, 1)
    checks.in_range("value", value, 0, 1)
    value = _real("value", value)
    index = _integers("index", index, classes)
    if index.shape != value.shape:
        raise checks.UsageError(
            f"index has shape {index.shape} and value {value.shape}; give one"
            " value a class."
        )
    k = value.shape[-1]
    _check_k(k, classes)
    rest = jnp.maximum(1 - jnp.sum(value, axis=-1, keepdims=True), 0)
    p = jnp.broadcast_to(
        rest / max(classes - k, 1), (*value.shape[:-1], classes)
    )
    return jnp.put_along_axis(p, index, value, axis=-1, inplace=False)


def _pair(
    logits: ArrayLike, other: ArrayLike, name: str
) -> tuple[jax.Array, jax.Array]:
    logits, other = _real("logits", logits), _real(name, other)
    if logits.shape != other.shape:
        raise checks.UsageError(
            f"logits has shape {logits.shape} and {name} {other.shape}; both"
            " must be [B, K] of the same examples and classes."
        )
    return logits, other


def _real(name: str, array: ArrayLike) -> jax.Array:
    """At least float32: 8 bits cannot tell probabilities near 1 apart."""
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating) or not array.ndim:
        raise checks.UsageError(
            f"{name} is {array.dtype} of shape {array.shape}, but must be"
            " floating point with the classes on its last axis."
        )
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _integers(name: str, array: ArrayLike, classes: int) -> jax.Array:
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise checks.UsageError(
            f"{name} is {array.dtype}, but must be integers, one a class; cast"
            " it."
        )
    checks.in_range(name, array, 0, classes - 1)
    return array


def _check_temperature(temperature: ArrayLike) -> None:
    checks.in_range("temperature", temperature, 0, open_low=True)
    if jnp.ndim(temperature):
        raise checks.UsageError(
            f"temperature has shape {jnp.shape(temperature)}, but must be a"
            " scalar; map over several with jax.vmap."
        )


def _check_k(k: int, classes: int) -> None:
    checks.whole("k", k, 1)
    if k > classes:
        raise checks.UsageError(
            f"k is {k}, but there are {classes} classes; store at most those."
        )
