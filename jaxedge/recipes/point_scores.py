"""How well sets of points are told apart, or their points (deplm 6).

Letters: B sets of P points, K categories, C classes: of sets, or parts of them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.recipes import supervised
from jaxedge.recipes.recipe import Sums, ratios

# Sums by class or category, which no mean over examples divides.
_RIGHT, _SEEN = "class_right", "class_seen"
_OVERLAP, _SETS = "category_iou", "category_sets"


def of_sets(logits: jax.Array, batch: Any) -> Sums:
    """Loss, accuracy, and right answers by class.

    Args:
        logits: [B, C].
        batch: `y` and `weight`, [B].
    """
    sums = supervised.cross_entropy(logits, batch)
    return sums | _by_class(logits, batch)


def of_points(
    logits: jax.Array, batch: Any, allowed: jax.Array, category: jax.Array
) -> Sums:
    """Loss, accuracy, right answers by class, and overlap by category.

    The answer at a point is the part with the largest score among those of the
    set's category. The overlap of a set is the mean over the parts of its
    category of intersection / union, which is 1 for a part that is in neither
    the labels nor the answers.

    Args:
        logits: [B, P, C].
        batch: `y`, [B, P], of which negative labels count nowhere, and
            `weight`, [B]; a set without any label counts nowhere.
        allowed: parts of each category, bool [K, C].
        category: of each set, [B].
    """
    mine = allowed[category]
    within = jnp.where(mine[:, None], logits, -jnp.inf)
    sums = supervised.cross_entropy(logits, batch)
    sums |= _by_class(within, batch)
    sums["accuracy"] = sums[_RIGHT].sum()
    classes = logits.shape[-1]
    known = (batch.y >= 0)[..., None]
    said = jax.nn.one_hot(within.argmax(-1), classes) * known
    true = jax.nn.one_hot(batch.y, classes)  # Zeros for a negative label.
    both = jnp.sum(said * true, 1)
    either = jnp.sum(jnp.maximum(said, true), 1)
    overlap = jnp.where(either > 0, both / jnp.maximum(either, 1), 1)
    mean = jnp.sum(overlap * mine, -1) / jnp.sum(mine, -1)
    weight = jnp.where(known.any((1, 2)), batch.weight, 0)
    of = jax.nn.one_hot(category, len(allowed)) * weight[:, None]
    return sums | {_OVERLAP: (mean[:, None] * of).sum(0), _SETS: of.sum(0)}


def measure(sums: Sums) -> dict[str, jax.Array]:
    """Metrics of either sums.

    Returns:
        "loss"; "accuracy" over examples or points; "class_accuracy", the mean
        over classes of theirs; of points "class_iou" and "instance_iou", the
        means over categories and over sets of the overlap. What no example has
        is left out of a mean over it.
    """
    plain = {k: sums[k] for k in ("count", "loss", "accuracy")}
    found = ratios(plain)
    found["class_accuracy"] = _mean_ratio(sums[_RIGHT], sums[_SEEN])
    if _OVERLAP in sums:
        found["class_iou"] = _mean_ratio(sums[_OVERLAP], sums[_SETS])
        found["instance_iou"] = sums[_OVERLAP].sum() / sums[_SETS].sum()
    return found


def _by_class(logits: jax.Array, batch: Any) -> Sums:
    """Right answers and labels of each class, [C] each."""
    classes = logits.shape[-1]
    weight = supervised.label_weights(batch)
    right = weight * (logits.argmax(-1) == batch.y)
    # A negative label has no column.
    of = jax.nn.one_hot(batch.y, classes)
    # No matrix product, whose inputs an accelerator may round.
    over = tuple(range(batch.y.ndim))
    right, seen = (jnp.sum(a[..., None] * of, over) for a in (right, weight))
    return {_RIGHT: right, _SEEN: seen}


def _mean_ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """The mean of part / whole where there is any."""
    seen = whole > 0
    return jnp.sum(part / jnp.where(seen, whole, 1)) / jnp.sum(seen)
