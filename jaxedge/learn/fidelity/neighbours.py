"""Nearest rows of features: copies, precision and recall.

Letters: N and M rows, F features, R rows of a block, J candidates.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.fidelity import samples

_MORE = 8  # candidates beyond k, which are ordered by exact distances
_SLACK = 16  # units of rounding, of |a|^2 + |b|^2 beside |a - b|^2


class Coverage(NamedTuple):
    """How two sets cover each other; both [] in [0, 1].

    Attributes:
        precision: share of the made rows that lie among the real ones.
        recall: share of the real rows that lie among the made ones.
    """

    precision: jax.Array
    recall: jax.Array


def nearest(
    features_NxF: ArrayLike, bank_MxF: ArrayLike, k: int = 1
) -> tuple[jax.Array, jax.Array]:
    """The k rows of a bank that are nearest to each row, nearest first.

    For a check of memorisation: beside the distances of samples to the rows of
    training lay those of held-out images; samples that are much nearer are
    copies. Candidates are found by |a|^2 + |b|^2 - 2 a . b, and their distances
    then computed from a - b, so that a copy is at 0. A row is missed only if
    more than 8 others are nearer to within the rounding of |a|^2 + |b|^2.

    Args:
        features_NxF: N >= 1.
        bank_MxF: M >= k.
        k: at least 1.

    Returns:
        Euclidean distances [N, k], rising, with a gradient, 0 for a copy; and
        rows of the bank, int32 [N, k], of equal distances the first.

    Raises:
        UsageError: for shapes that do not fit, NaN, or fewer than k rows.
    """
    names = "features_NxF", "bank_MxF"
    checks.whole("k", k, 1)
    a, b = samples.pair(names, (features_NxF, bank_MxF), (1, int(k)))
    return _nearest(a, b, int(k))


def precision_recall(
    real_NxF: ArrayLike, made_MxF: ArrayLike, k: int = 3
) -> Coverage:
    """Precision and recall of a generator (arXiv:1904.06991, eq. 1 and 2).

    A row lies among others if it is in the ball of one of them, which reaches
    to the k-th nearest of the same set, itself left out; what rounding cannot
    tell from the border is inside.

    Args:
        real_NxF: N > k.
        made_MxF: M > k; use N = M, as both numbers depend on it.
        k: at least 1; the paper's is 3.

    Raises:
        UsageError: for shapes that do not fit, NaN, or too few rows.
    """
    names = "real_NxF", "made_MxF"
    checks.whole("k", k, 1)
    least = int(k) + 1
    real, made = samples.pair(names, (real_NxF, made_MxF), (least, least))
    return _precision_recall(real, made, int(k))


@functools.partial(jax.jit, static_argnames="k")
def _nearest(
    a_NxF: jax.Array, b_MxF: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    m, f = b_MxF.shape
    j = min(k + _MORE, m)
    centre = jax.lax.stop_gradient(b_MxF.mean(0, keepdims=True))
    held = jax.lax.stop_gradient(b_MxF) - centre

    def find(a_RxF):
        square = _squares(jax.lax.stop_gradient(a_RxF) - centre, held)
        rows_RxJ = samples.lowest(square, j)
        apart = a_RxF[:, None] - b_MxF[rows_RxJ]
        square, rows = jax.lax.sort(
            (jnp.sum(apart * apart, axis=-1), rows_RxJ), num_keys=2
        )
        return _root(square[:, :k]), rows[:, :k]

    return samples.by_block(find, (a_NxF,), max(m, j * f))


@functools.partial(jax.jit, static_argnames="k")
def _precision_recall(
    real_NxF: jax.Array, made_MxF: jax.Array, k: int
) -> Coverage:
    centre = jnp.concatenate([real_NxF, made_MxF]).mean(0, keepdims=True)
    real, made = real_NxF - centre, made_MxF - centre
    return Coverage(_covered(made, real, k), _covered(real, made, k))


def _covered(a_NxF: jax.Array, b_MxF: jax.Array, k: int) -> jax.Array:
    """The share of rows of a that lie in a ball of b."""
    reach_1xM = _nearest(b_MxF, b_MxF, k + 1)[0][:, k][None]
    slack = _SLACK * jnp.finfo(a_NxF.dtype).eps

    def inside(a_RxF):
        spare = slack * _norms(a_RxF, b_MxF)
        near = _squares(a_RxF, b_MxF) <= reach_1xM**2 + spare
        return jnp.any(near, axis=1)

    found = samples.by_block(inside, (a_NxF,), len(b_MxF))
    return jnp.mean(found, dtype=a_NxF.dtype)


def _norms(a_NxF: jax.Array, b_MxF: jax.Array) -> jax.Array:
    """|a|^2 + |b|^2, [N, M]."""
    a, b = (jnp.sum(x * x, axis=1) for x in (a_NxF, b_MxF))
    return a[:, None] + b[None]


def _squares(a_NxF: jax.Array, b_MxF: jax.Array) -> jax.Array:
    """Squared distances, [N, M], rounded by units of `_norms`."""
    return _norms(a_NxF, b_MxF) - 2 * samples.product(a_NxF, b_MxF)


def _root(square: jax.Array) -> jax.Array:
    """With a gradient of 0 at 0."""
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
