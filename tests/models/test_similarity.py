"""Likeness of embeddings beside scipy, and the plain definition."""

import numpy as np
import pytest
from scipy import stats

from jaxedge.core.checks import UsageError
from jaxedge.models import similarity

RNG = np.random.default_rng(0)
A = RNG.normal(size=(40, 8))
B = A + 0.4 * RNG.normal(size=A.shape)


def cosines(e):
    return np.array([[u @ v / np.sqrt(u @ u * (v @ v)) for v in e] for u in e])


def test_numbers_are_those_of_their_definitions():
    found = similarity.compare(A, B)
    both = [u @ v / np.sqrt(u @ u * (v @ v)) for u, v in zip(A, B, strict=True)]
    np.testing.assert_allclose(found.cosine, np.mean(both), rtol=1e-12)
    np.testing.assert_allclose(found.cosine_p05, np.percentile(both, 5))
    first, second = cosines(A), cosines(B)
    pairs = [(i, j) for i in range(40) for j in range(i)]
    rank = stats.spearmanr(
        [first[pair] for pair in pairs], [second[pair] for pair in pairs]
    )
    np.testing.assert_allclose(found.spearman, rank.statistic, rtol=1e-12)
    order = []
    for table in (first, second):
        rows = [sorted(range(40), key=lambda j: -row[j]) for row in table]
        # The first is the sentence itself.
        order.append([row[1:11] for row in rows])
    nearest = [u[0] == v[0] for u, v in zip(*order, strict=True)]
    shared = [len({*u} & {*v}) / 10 for u, v in zip(*order, strict=True)]
    np.testing.assert_allclose(found.nearest, np.mean(nearest))
    np.testing.assert_allclose(found.nearest_10, np.mean(shared))
    assert 0 < found.nearest < 1 and 0 < found.nearest_10 < 1


def test_the_same_embeddings_are_wholly_alike():
    np.testing.assert_allclose(similarity.compare(A, A), 1, rtol=1e-12)
    # Lengths are of no matter.
    length = RNG.uniform(0.1, 9, (40, 1))
    np.testing.assert_allclose(
        similarity.compare(A * length, B), similarity.compare(A, B), rtol=1e-9
    )


def test_opposite_embeddings_have_the_same_neighbours():
    found = similarity.compare(A, -A)
    np.testing.assert_allclose(found, (-1, -1, 1, 1, 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("found", "reference", "message"),
    [
        (A[:10], B[:10], r"\(10, 8\) and \(10, 8\) must both be .* above 10"),
        (A, B[:, :3], r"\(40, 8\) and \(40, 3\) must both"),
        (A[0], B[0], "must both be"),
        (np.where(A > 2, np.nan, A), B, "the embeddings holds .* NaN"),
        (A, np.where(A > 2, np.inf, A), "the reference holds"),
        (A * (np.arange(40) != 3)[:, None], B, "row 3 of the embeddings is al"),
        (A, B * (np.arange(40) != 5)[:, None], "row 5 of the reference is all"),
    ],
)
def test_bad_input_is_named(found, reference, message):
    with pytest.raises(UsageError, match=message):
        similarity.compare(found, reference)
