"""All ways to choose a subset, under one name each.

chosen = choose("k_center_greedy", Evidence(labels, features=h), 0.1, key=key)

Scores (`coreset.scores`) keep the highest; a greedy method (`coreset.greedy`)
scores a sample by how early it is picked in its class. What differs from the
papers is told there. Weights that some papers give to the samples are not part
of a choice.

Letters: N samples, K classes, D features, V validation samples, G groups
(classes, or all samples as one) of at most M samples.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.learn.coreset import greedy, scores, selection
from jaxedge.learn.coreset.evidence import Evidence, checked
from jaxedge.learn.coreset.greedy import LastLayer, Validation


class Task(NamedTuple):
    """What is asked of a method, beside the evidence.

    Attributes:
        noise: uniform random numbers [N].
        classes: how many.
        class_balanced: whether every class keeps its share.
        groups: the samples of each group.
        picks: how many samples the largest share has.
        progress: of the training, in [0, 1].
        schedule: a key of `scores.SCHEDULES`.
    """

    noise: jax.Array
    classes: int
    class_balanced: bool
    groups: selection.Groups
    picks: int
    progress: ArrayLike
    schedule: str


class Method(NamedTuple):
    """A way to choose.

    Attributes:
        needs: fields of `Evidence`, beside labels.
        score: (evidence, task) -> [N], of which the highest are kept.
    """

    needs: tuple[str, ...]
    score: Callable[[Any, Task], jax.Array]


def choose(
    method: str,
    evidence: Evidence,
    fraction: float,
    *,
    key: jax.Array,
    class_balanced: bool = True,
    progress: ArrayLike = 0.0,
    schedule: str = "paper",
) -> np.ndarray:
    """The samples that a method keeps.

    Runs on the host, as `selection.select` does; one key, one choice. A greedy
    method takes time and memory as if every class were as large as the largest.

    Args:
        method: a key of `METHODS`.
        evidence: labels, and what the method needs, all finite.
        fraction: of the samples that is kept, in (0, 1].
        key: a typed key: of "random", and of the first pick of
            "k_center_greedy" and "contextual_diversity".
        class_balanced: whether `fraction` is kept of each class, as by
            `selection.quota`, and a greedy method runs on each class by itself.
        progress: t / E in [0, 1], for "adaptive".
        schedule: a key of `scores.SCHEDULES`, for "adaptive".

    Returns:
        Indices, rising.

    Raises:
        UsageError: for an unknown method or schedule, missing evidence, shapes
            that do not agree, NaN, or what `selection.select` forbids.
    """
    if method not in METHODS:
        raise checks.unknown("coreset method", method, METHODS, len(METHODS))
    checks.choice("schedule", schedule, scores.SCHEDULES)
    checks.in_range("progress", progress, 0, 1)
    check_key(key)
    evidence = checked(method, evidence, METHODS[method].needs)
    labels = np.asarray(evidence.labels)
    kept = selection.quotas(labels, fraction, class_balanced)
    task = Task(
        noise=jax.random.uniform(stream(key, "coreset"), labels.shape),
        classes=int(labels.max()) + 1,
        class_balanced=class_balanced,
        groups=selection.groups(labels, class_balanced),
        picks=int(kept.max()),
        progress=progress,
        schedule=schedule,
    )
    score = METHODS[method].score(evidence, task)
    return selection.select(score, labels, fraction, class_balanced)


# What a greedy method does with one group: (what it needs of the group, free
# [M], picks) -> picks.
_Walk = Callable[[Any, jax.Array, int], jax.Array]


def _by_walk(
    needs: tuple[str, ...], walk: _Walk, rows: Callable[[Any, Task], Any]
) -> Method:
    """A greedy method, of which `rows` gives arrays [G, ...] to walk on."""

    def score(evidence: Any, task: Task) -> jax.Array:
        found = rows(evidence, task)
        return _walked(walk, found, task.groups, task.noise.size, task.picks)

    return Method(needs, score)


@functools.partial(jax.jit, static_argnames=("walk", "size", "picks"))
def _walked(
    walk: _Walk, rows: Any, groups: selection.Groups, size: int, picks: int
) -> jax.Array:
    """Scores by rank: the first of a group has the most, none 0; int32 [N]."""
    order = jax.vmap(lambda r, free: walk(r, free, picks))(rows, groups.present)
    index = jnp.take_along_axis(jnp.asarray(groups.members), order, axis=1)
    rank = jnp.broadcast_to(jnp.arange(picks, 0, -1), index.shape)
    # A small group that ran out repeats a pick, which keeps its first rank.
    return jnp.zeros(size, jnp.int32).at[index].max(rank)


def _grouped(arrays: Any, groups: selection.Groups) -> Any:
    """Arrays [N, ...] as [G, M, ...]."""
    return jax.tree.map(lambda a: a[groups.members], arrays)


def _features(evidence: Any, task: Task) -> Any:
    return _grouped(evidence.features, task.groups)


def _features_and_noise(evidence: Any, task: Task) -> Any:
    return _grouped((evidence.features, task.noise), task.groups)


def _log_p_and_noise(evidence: Any, task: Task) -> Any:
    log_p = jax.nn.log_softmax(evidence.logits_q)
    return _grouped((log_p, task.noise), task.groups)


def _gradients(evidence: Any, task: Task) -> LastLayer:
    error = scores.error(evidence.logits_q, jnp.asarray(evidence.labels))
    found = LastLayer(error, _with_one(evidence.features))
    return _grouped(found, task.groups)


def _gradients_and_validation(
    evidence: Any, task: Task
) -> tuple[LastLayer, Validation]:
    """Validation samples are those of the class, as in DeepCore."""
    labels = np.asarray(evidence.valid_labels)
    counts = np.bincount(labels, minlength=task.classes)[: task.classes]
    if task.class_balanced and not counts.all():
        raise checks.UsageError(
            f"class {int(np.argmin(counts))} has no sample in valid_labels;"
            " add one, or choose with class_balanced=False."
        )
    groups = selection.groups(labels, task.class_balanced)
    # Validation samples of a class that has no other are of no use.
    groups = selection.Groups(*(a[: len(task.groups.members)] for a in groups))
    logits = evidence.valid_logits
    one_hot = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    rows = logits, one_hot, _with_one(evidence.valid_features)
    logits, one_hot, features = _grouped(rows, groups)
    present = jnp.asarray(groups.present)
    valid = Validation(logits, one_hot, features, present)
    return _gradients(evidence, task), valid


def _with_one(features: jax.Array) -> jax.Array:
    """The inputs of a last layer with a bias [N, D + 1]."""
    one = jnp.ones((features.shape[0], 1), features.dtype)
    return jnp.concatenate([features, one], axis=1)


def _k_center(rows: Any, free: jax.Array, n: int) -> jax.Array:
    return greedy.k_center(rows[0], free, _drawn(rows[1], free), n)


def _diversity(rows: Any, free: jax.Array, n: int) -> jax.Array:
    start = _drawn(rows[1], free)
    return greedy.k_center(rows[0], free, start, n, greedy.divergence)


def _drawn(noise: jax.Array, free: jax.Array) -> jax.Array:
    """A free sample, each as likely as the others."""
    return jnp.argmax(jnp.where(free, noise, -1))


def _glister(rows: Any, free: jax.Array, n: int) -> jax.Array:
    gradients, valid = rows
    return greedy.glister(gradients, valid, free, n)


def _adaptive(evidence: Any, task: Task) -> jax.Array:
    return scores.adaptive_score(
        scores.error_vector_score(evidence.logits_q, evidence.labels),
        scores.disagreement_score(evidence.logits_q, evidence.logits_fp),
        task.progress,
        task.schedule,
    )


def _grand(evidence: Any, task: Task) -> jax.Array:
    del task
    return scores.grand_score(
        evidence.logits_q, evidence.features, evidence.labels
    )


def _moderate(evidence: Any, task: Task) -> jax.Array:
    return scores.moderate_score(
        evidence.features, evidence.labels, task.classes, task.class_balanced
    )


def _uncertainty(kind: str) -> Method:
    return Method(
        ("logits_q",),
        lambda e, task: scores.uncertainty_score(e.logits_q, kind),
    )


_LAST = ("logits_q", "features")
_VALID = ("valid_labels", "valid_logits", "valid_features")
METHODS: dict[str, Method] = {
    "random": Method((), lambda e, task: task.noise),
    # arXiv:2306.07215
    "adaptive": Method(("logits_q", "logits_fp"), _adaptive),
    "el2n": Method(
        ("logits_T",), lambda e, task: scores.el2n_score(e.logits_T, e.labels)
    ),
    "grand": Method(_LAST, _grand),
    "forgetting": Method(
        ("correct_T",), lambda e, task: scores.forgetting_score(e.correct_T)
    ),
    "uncertainty": _uncertainty("least_confidence"),
    "uncertainty_entropy": _uncertainty("entropy"),
    "uncertainty_margin": _uncertainty("margin"),
    "moderate": Method(("features",), _moderate),
    "k_center_greedy": _by_walk(("features",), _k_center, _features_and_noise),
    "contextual_diversity": _by_walk(
        ("logits_q",), _diversity, _log_p_and_noise
    ),
    "herding": _by_walk(("features",), greedy.herding, _features),
    "craig": _by_walk(_LAST, greedy.facility_location, _gradients),
    "grad_match": _by_walk(_LAST, greedy.matching_pursuit, _gradients),
    "glister": _by_walk((*_LAST, *_VALID), _glister, _gradients_and_validation),
}
