"""All ways to choose which samples to annotate, under one name each.

chosen = choose("entropy", Evidence(logits_global=logits), 500, key)

A method takes the highest of a score (`active.scores`), or spreads its picks
over the pool (`active.spread`, `active.relaxation`). What differs from the
papers is told there.

Letters: N samples of the pool, K classes, D features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.learn import coreset
from jaxedge.learn.active import inputs, relaxation, scores, spread
from jaxedge.learn.active.evidence import Evidence, checked

MODELS = ("global", "local")


class Task(NamedTuple):
    """What is asked of a method, beside the evidence.

    Attributes:
        size: N.
        budget: samples to take, at least 1.
        key: a typed key.
        model: one of `MODELS`, for a method that asks one.
        neighbours: as of `relaxation.relax`.
        threshold: likewise.
        fill: likewise.
    """

    size: int
    budget: int
    key: jax.Array
    model: str
    neighbours: int
    threshold: float
    fill: str


class Method(NamedTuple):
    """A way to choose.

    Attributes:
        needs: fields of `Evidence`; "logits" and "alpha" stand for those of
            the model that is asked.
        pick: (evidence, task) -> indices [budget], the first pick first.
    """

    needs: tuple[str, ...]
    pick: Callable[[Any, Task], Any]


def choose(
    method: str,
    evidence: Evidence,
    budget: int,
    key: jax.Array,
    *,
    model: str = "global",
    neighbours: int = 5,
    threshold: float = 0.85,
    fill: str = "best",
) -> np.ndarray:
    """The samples that a method would have annotated.

    Runs on the host; one key, one choice. Of equal scores the first sample is
    taken.

    Args:
        method: a key of `METHODS`.
        evidence: what the method needs, all finite.
        budget: samples to take, at most N.
        key: a typed key: of "random", of the draws of "badge", and of the
            seeds of the clusters of "logo".
        model: one of `MODELS`: which is asked by a method of one model. All
            but "logo", "kafal" and "feal", which ask both, "bald" and
            "core_set" are.
        neighbours: for "feal", as of `relaxation.relax`.
        threshold: likewise.
        fill: likewise.

    Returns:
        Indices [budget], no one twice, the first pick first.

    Raises:
        UsageError: for an unknown method or model, missing evidence, an empty
            pool, shapes that do not agree, NaN, a budget outside [0, N], or
            settings that `relaxation.relax` does not take.
    """
    if method not in METHODS:
        raise checks.unknown("query method", method, METHODS, len(METHODS))
    checks.choice("model", model, MODELS)
    relaxation.check_settings(neighbours, threshold, fill)
    check_key(key)
    needs = tuple(
        f"{name}_{model}" if name in ("logits", "alpha") else name
        for name in METHODS[method].needs
    )
    evidence, size = checked(method, evidence, needs)
    inputs.affordable(budget, size)
    if not budget:
        return np.zeros(0, np.int64)
    key = stream(key, "active")
    task = Task(size, budget, key, model, neighbours, threshold, fill)
    return np.asarray(METHODS[method].pick(evidence, task), np.int64)


def _highest(values: ArrayLike, budget: int) -> np.ndarray:
    return np.argsort(-np.asarray(values), kind="stable")[:budget]


def _by_score(
    needs: tuple[str, ...], score: Callable[[Any, Task], ArrayLike]
) -> Method:
    """A method that takes the highest of a score [N]."""
    return Method(needs, lambda e, task: _highest(score(e, task), task.budget))


def _logits(evidence: Any, task: Task) -> jax.Array:
    return getattr(evidence, f"logits_{task.model}")


def _uncertainty(kind: str) -> Method:
    return _by_score(
        ("logits",),
        lambda e, task: coreset.uncertainty_score(_logits(e, task), kind),
    )


def _noise(task: Task, n: int) -> jax.Array:
    return jax.random.uniform(task.key, (n,))


def _badge(evidence: Any, task: Task) -> jax.Array:
    noise = _noise(task, task.budget)
    return spread.badge(_logits(evidence, task), evidence.features, noise).index


def _logo(evidence: Any, task: Task) -> np.ndarray:
    """The most uncertain of each cluster, then of those that are left.

    LoGo (Kim et al., CVPR 2023), but for what is left where clusters are fewer
    than the budget: the authors' code takes the next of each cluster.
    """
    labels = spread.clusters(
        evidence.logits_local, evidence.features, _noise(task, task.budget)
    )
    entropy = coreset.uncertainty_score(evidence.logits_global, "entropy")
    order = _highest(entropy, task.size)
    _, first = np.unique(np.asarray(labels)[order], return_index=True)
    first = np.sort(first)
    rest = np.delete(order, first)
    return np.concatenate([order[first], rest])[: task.budget]


def _feal(evidence: Any, task: Task) -> np.ndarray:
    return relaxation.relax(
        scores.calibrated_evidential(
            evidence.alpha_global, evidence.alpha_local
        ),
        evidence.features,
        task.budget,
        neighbours=task.neighbours,
        threshold=task.threshold,
        fill=task.fill,
    )


METHODS: dict[str, Method] = {
    "random": _by_score((), lambda e, task: _noise(task, task.size)),
    "entropy": _uncertainty("entropy"),
    "least_confidence": _uncertainty("least_confidence"),
    "margin": _uncertainty("margin"),
    # arXiv:1112.5745
    "bald": _by_score(
        ("logits_T",), lambda e, task: scores.bald_score(e.logits_T)
    ),
    # arXiv:1708.00489
    "core_set": Method(
        ("features", "labelled_features"),
        lambda e, task: spread.core_set(
            e.features, e.labelled_features, task.budget
        ),
    ),
    # arXiv:1906.03671
    "badge": Method(("logits", "features"), _badge),
    "grad_norm": _by_score(
        ("logits", "features"),
        lambda e, task: scores.grad_norm_score(_logits(e, task), e.features),
    ),
    "logo": Method(("logits_local", "logits_global", "features"), _logo),
    # arXiv:2211.13579
    "kafal": _by_score(
        ("logits_local", "logits_global", "class_share"),
        lambda e, task: scores.kafal_score(
            e.logits_local, e.logits_global, e.class_share
        ),
    ),
    "evidential": _by_score(
        ("alpha",),
        lambda e, task: scores.total_uncertainty_score(
            getattr(e, f"alpha_{task.model}")
        ),
    ),
    # arXiv:2312.02567
    "feal": Method(("alpha_global", "alpha_local", "features"), _feal),
}
