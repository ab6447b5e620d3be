"""Scores of predicted probabilities and of predicted classes.

Letters: N examples, K classes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.calibration import inputs


def brier(
    probability: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """The mean of sum_c (p_c - y_c)^2 (Brier 1950).

    Args:
        probability: [..., K], in [0, 1].
        labels: whole numbers in [0, K), [...].
        weight: at least 0, [...].

    Returns:
        [], in [0, 2]: for two classes twice the score of one of them alone.

    Raises:
        UsageError: for other shapes or ranges.
    """
    p_NxK, labels, weight = inputs.predictions(probability, labels, weight)
    error_NxK = p_NxK - jax.nn.one_hot(labels, p_NxK.shape[1])
    return inputs.mean(jnp.sum(error_NxK**2, axis=1), weight)


def negative_log_likelihood(
    probability: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """The mean of -ln p of the label.

    Args:
        probability: [..., K], in [0, 1].
        labels: whole numbers in [0, K), [...].
        weight: at least 0, [...].

    Returns:
        [], at least 0; infinite if a label that counts has probability 0.

    Raises:
        UsageError: for other shapes or ranges.
    """
    p_NxK, labels, weight = inputs.predictions(probability, labels, weight)
    chosen = jnp.take_along_axis(p_NxK, labels[:, None], axis=1)[:, 0]
    # 0 times infinity of a padded row is no number.
    return inputs.mean(-jnp.log(jnp.where(weight > 0, chosen, 1)), weight)


def confusion(
    labels: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """How often a class, by row, is taken for another, by column.

    Args:
        labels: whole numbers in [0, K), [...]; an example of traced ones
            outside, which cannot be checked, does not count.
        predicted: likewise.
        classes: K.
        weight: at least 0, [...].

    Returns:
        [K, K]; those of batches, chips or clients add up.

    Raises:
        UsageError: for other shapes or ranges.
    """
    checks.whole("classes", classes, 1)
    labels, predicted, weight = inputs.examples(
        weight,
        labels=inputs.class_numbers("labels", labels, classes),
        predicted=inputs.class_numbers("predicted", predicted, classes),
    )
    # A negative index would count from the end.
    known = (labels >= 0) & (predicted >= 0)
    known &= (labels < classes) & (predicted < classes)
    place = jnp.where(known, labels * classes + predicted, 0)
    count = jnp.where(known, weight, 0)
    return jax.ops.segment_sum(count, place, classes**2).reshape(
        classes, classes
    )


def balanced_accuracy(counts: ArrayLike) -> jax.Array:
    """The mean over classes of the share of their examples that is right.

    Args:
        counts: of `confusion`, [K, K].

    Returns:
        [], in [0, 1]; classes without examples are left out, and it is NaN if
        all are.

    Raises:
        UsageError: for another shape or negative counts.
    """
    counts = inputs.real("counts", counts, 0)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise checks.UsageError(
            f"counts has shape {counts.shape}, but must be [K, K], as"
            " calibration.confusion gives it."
        )
    whole = counts.sum(1)
    recall = jnp.diagonal(counts) / jnp.where(whole > 0, whole, 1)
    return inputs.mean(recall, (whole > 0).astype(counts.dtype))
