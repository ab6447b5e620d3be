"""Which samples to keep, by their scores.

`select` gives indices, whose number depends on the labels, and so runs on the
host; `quota` and `top` do the same by a mask, under jit and vmap.

Letters: N samples, C classes (or other groups), M samples of the largest.
"""

from typing import Any, NamedTuple

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.coreset import inputs


class Groups(NamedTuple):
    """Samples by their group, in rows of one length.

    Attributes:
        members: indices of samples, rising, then 0; int32 [C, M].
        present: which entries of `members` are samples, bool [C, M].
    """

    members: np.ndarray
    present: np.ndarray


def quota(labels: ArrayLike, fraction: float, classes: int) -> jax.Array:
    """How many samples of each class are kept.

    round(fraction n) for a class of n samples, Python's rounding of a float64,
    half to even, as in the released code. So the sum may miss fraction N, and
    a small class may vanish (qat_acs trap 8): count what was kept.

    Args:
        labels: whole numbers [N] in [0, C).
        fraction: of the samples that is kept, in (0, 1]; a Python number.
        classes: C.

    Returns:
        int32 [C].

    Raises:
        UsageError: for a fraction outside (0, 1], or, where the labels are
            known, a label outside, a class without samples, or a fraction that
            keeps nothing.
    """
    checks.whole("classes", classes, 1)
    labels = inputs.whole("labels", labels, classes=classes)
    kept = _rounded(fraction, np.size(labels))
    if checks.concrete(labels):
        counts = np.bincount(np.asarray(labels), minlength=classes)
        return jnp.asarray(_kept(counts, fraction))
    return jnp.asarray(kept)[jnp.bincount(labels, length=classes)]


def top(scores: ArrayLike, labels: ArrayLike, quota: ArrayLike) -> jax.Array:
    """Marks the highest scores of every class.

    Args:
        scores: real numbers [N]; of equal ones the first sample is kept.
        labels: whole numbers [N] in [0, C).
        quota: how many of each class, of `quota` [C]. A class that is smaller
            is kept whole.

    Returns:
        bool [N].

    Raises:
        UsageError: for shapes that do not agree, a label outside, or NaN.
    """
    inputs.no_nan("scores", scores)
    scores = inputs.real("scores", scores, "N")
    quota = jnp.asarray(inputs.whole("quota", quota))
    labels = inputs.whole("labels", labels, scores.size, quota.size)
    return _top(scores, jnp.asarray(labels), quota)


def select(
    scores: ArrayLike,
    labels: ArrayLike,
    fraction: float,
    class_balanced: bool = True,
) -> np.ndarray:
    """The samples of the highest scores.

    Args:
        scores: real numbers [N]; of equal ones the first sample is kept.
        labels: whole numbers [N]; every class of [0, C) has a sample.
        fraction: of the samples that is kept, in (0, 1].
        class_balanced: whether it is so of each class, rounded as by `quota`;
            else labels do not count.

    Returns:
        Indices, rising. Their number may miss fraction N (see `quota`).

    Raises:
        UsageError: for a fraction outside (0, 1] or that keeps nothing, a
            class without samples, NaN scores, shapes that do not agree, or
            under jit or vmap.
    """
    known("select", scores=scores, labels=labels)
    inputs.no_nan("scores", scores)
    # float64 holds the numbers of every smaller format.
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1:
        raise checks.UsageError(
            f"scores have shape {scores.shape}, but must be [N]."
        )
    labels = np.asarray(inputs.whole("labels", labels, scores.size))
    kept = quotas(labels, fraction, class_balanced)
    split = groups(labels, class_balanced)
    chosen = []
    for row, present, k in zip(*split, kept, strict=True):
        row = row[present]
        chosen.append(row[np.argsort(-scores[row], kind="stable")[:k]])
    return np.sort(np.concatenate(chosen))


def quotas(
    labels: np.ndarray, fraction: float, class_balanced: bool
) -> np.ndarray:
    """`quota` on the host, of the classes or of all samples as one: [C]."""
    return _kept(
        np.bincount(labels if class_balanced else 0 * labels), fraction
    )


def groups(labels: np.ndarray, class_balanced: bool) -> Groups:
    """The samples of each class, or all as one group."""
    labels = labels if class_balanced else 0 * labels
    counts = np.bincount(labels)
    place = np.arange(counts.max())[None]
    present = place < counts[:, None]
    members = np.zeros(present.shape, np.int32)
    members[present] = np.argsort(labels, kind="stable")
    return Groups(members, present)


def known(name: str, **arrays: Any) -> None:
    """Raises for a tracer: how many samples are kept must be known."""
    for array in arrays:
        if isinstance(arrays[array], Tracer):
            raise checks.UsageError(
                f"{array} of {name} is traced, but the number of indices"
                " depends on the numbers; use quota and top under jit or vmap."
            )


def _rounded(fraction: float, most: int) -> np.ndarray:
    """round(fraction n) for n = 0 to `most`: a product in float32 differs."""
    if isinstance(fraction, Tracer):
        raise checks.UsageError(
            "fraction is traced, but must be a Python number; mark it static."
        )
    checks.in_range("fraction", fraction, 0, 1, open_low=True)
    return np.rint(float(fraction) * np.arange(most + 1)).astype(np.int32)


def _kept(counts: np.ndarray, fraction: float) -> np.ndarray:
    kept = _rounded(fraction, counts.max())[counts]
    if not counts.all():
        raise checks.UsageError(
            f"class {int(np.argmin(counts))} of {counts.size} has no sample;"
            " labels must cover 0 to the number of classes - 1."
        )
    if not kept.any():
        raise checks.UsageError(
            f"fraction is {fraction}, which keeps none of {counts.sum()}"
            f" samples in {counts.size} classes of at most {counts.max()}; use"
            " a larger one, or class_balanced=False."
        )
    return kept


@jax.jit
def _top(scores: jax.Array, labels: jax.Array, quota: jax.Array) -> jax.Array:
    order = jnp.lexsort((-scores, labels))  # stable
    counts = jnp.bincount(labels, length=quota.size)
    first = jnp.cumsum(counts) - counts
    of_class = labels[order]
    place = jnp.arange(scores.size) - first[of_class]
    kept = jnp.zeros(scores.shape, bool)
    return kept.at[order].set(place < quota[of_class])
