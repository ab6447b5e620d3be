"""How alike two sets of sentence embeddings are.

Letters: N sentences, D entries of an embedding.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks


class Similarity(NamedTuple):
    """Embeddings beside those of a reference.

    Attributes:
        cosine: mean cosine of a sentence's two embeddings.
        cosine_p05: 5th percentile of it.
        nearest: share of sentences with the same nearest other sentence.
        nearest_10: mean share of the 10 nearest that are the same.
        spearman: rank correlation of the cosines of all pairs of sentences.
    """

    cosine: float
    cosine_p05: float
    nearest: float
    nearest_10: float
    spearman: float


def compare(found: Any, reference: Any) -> Similarity:
    """Compares embeddings with a reference.

    Args:
        found: [N, D], N above 10; of any length.
        reference: [N, D].

    Raises:
        UsageError: for other shapes, or embeddings that are not finite or
            have no length.
    """
    a, b = (np.asarray(e, np.float64) for e in (found, reference))
    if a.ndim != 2 or a.shape != b.shape or len(a) < 11:
        raise checks.UsageError(
            f"embeddings {a.shape} and {b.shape} must both be [N, D], N above"
            " 10."
        )
    a, b = _normed("the embeddings", a), _normed("the reference", b)
    cosine = np.sum(a * b, 1)
    pairs = np.triu_indices(len(a), 1)
    tables = [e @ e.T for e in (a, b)]
    # Ranks of the cosines; ties are of no matter among reals.
    ranks = [t[pairs].argsort().argsort() for t in tables]
    nearest = []
    for table in tables:
        np.fill_diagonal(table, -np.inf)
        nearest.append(np.argsort(-table, 1, kind="stable")[:, :10])
    same = [
        len({*u.tolist()} & {*v.tolist()}) / 10
        for u, v in zip(*nearest, strict=True)
    ]
    return Similarity(
        float(cosine.mean()),
        float(np.percentile(cosine, 5)),
        float(np.mean(nearest[0][:, 0] == nearest[1][:, 0])),
        float(np.mean(same)),
        float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
    )


def _normed(name: str, e: np.ndarray) -> np.ndarray:
    """Embeddings at a length of 1."""
    checks.finite(name, e)
    length = np.linalg.norm(e, axis=1, keepdims=True)
    if not length.all():
        raise checks.UsageError(
            f"row {int(length[:, 0].argmin())} of {name} is all zeros, and has"
            " no direction; leave out sentences without a token."
        )
    return e / length
