"""The kernel distance of two sets of features (arXiv:1801.01401).

The squared maximum mean discrepancy of the kernel k(x, y) = (x . y / F + 1)^3,
estimated without bias, so that it may be below 0. What adds f(x) + f(y) to a
kernel changes no estimate. With z the mean of all rows, x = z + u, y = z + v,
p = 1 + z . z / F, a = z . u / F, b = z . v / F, c = u . v / F, s = p + a + b,

    k(x, y) - k(x, z) - k(z, y) + k(z, z)
        = 3 a b (p + s) + c (3 s^2 + 3 s c + c^2),

in which nothing large cancels: float32 suffices.

Letters: N and M rows, F features, R rows of a block, S subsets.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks, keys
from jaxedge.learn.fidelity import samples
from jaxedge.learn.fidelity.samples import Spread

# Defaults of torch-fidelity.
SUBSET, SUBSETS = 1000, 100
_NAMES = "features_NxF", "features_MxF"


def mmd(features_NxF: ArrayLike, features_MxF: ArrayLike) -> jax.Array:
    """The kernel distance of two whole sets.

        sum_{i != j} k(x_i, x_j) / N (N - 1) + sum_{i != j} k(y_i, y_j)
            / M (M - 1) - 2 sum_{i, j} k(x_i, y_j) / N M

    Args:
        features_NxF: N >= 2.
        features_MxF: M >= 2.

    Returns:
        A scalar; 0 in the mean over sets of one law.

    Raises:
        UsageError: for shapes that do not fit, fewer than 2 rows, or NaN.
    """
    pair = samples.pair(_NAMES, (features_NxF, features_MxF), (2, 2))
    return _mmd(*pair)


def kid(
    key: jax.Array,
    features_NxF: ArrayLike,
    features_MxF: ArrayLike,
    *,
    subset: int = SUBSET,
    subsets: int = SUBSETS,
) -> Spread:
    """The kernel distance in the mean over random subsets of both sets.

    Rows of a subset are drawn without replacement. Subsets share rows with
    each other, so that their deviation is no error of the mean.

    Args:
        key: consumed.
        features_NxF: N >= subset.
        features_MxF: M >= subset.
        subset: rows of either set that are drawn, at least 2.
        subsets: S, at least 2.

    Returns:
        Mean and deviation of the S distances.

    Raises:
        UsageError: for shapes that do not fit, too few rows, or NaN.
    """
    keys.check_key(key)
    checks.whole("subset", subset, 2)
    checks.whole("subsets", subsets, 2)
    a, b = samples.pair(_NAMES, (features_NxF, features_MxF), (2, 2))
    if subset > min(len(a), len(b)):
        raise checks.UsageError(
            f"subset is {subset}, but there are {len(a)} and {len(b)} rows;"
            " choose a smaller one, or mmd for whole sets."
        )
    return _kid(key, a, b, int(subset), int(subsets))


@functools.partial(jax.jit, static_argnames=("subset", "subsets"))
def _kid(
    key: jax.Array, a_NxF: jax.Array, b_MxF: jax.Array, subset: int,
    subsets: int,
) -> Spread:  # fmt: skip
    def draw(key):
        parts = zip(jax.random.split(key), (a_NxF, b_MxF), strict=True)
        return _mmd(
            *(x[jax.random.permutation(k, len(x))[:subset]] for k, x in parts)
        )

    return samples.spread(jax.lax.map(draw, jax.random.split(key, subsets)))


@jax.jit
def _mmd(a_NxF: jax.Array, b_MxF: jax.Array) -> jax.Array:
    # The result does not depend on z, so neither does the gradient.
    z = jnp.concatenate([a_NxF, b_MxF]).mean(0, keepdims=True)
    z = jax.lax.stop_gradient(z)
    a, b = a_NxF - z, b_MxF - z
    within = _mean_kernel(a, a, z, True) + _mean_kernel(b, b, z, True)
    return within - 2 * _mean_kernel(a, b, z, False)


def _mean_kernel(
    u_NxF: jax.Array, v_MxF: jax.Array, z_1xF: jax.Array, same: bool
) -> jax.Array:
    """The mean of the kernel over all pairs, or all of unequal rows."""
    n, (m, f) = len(u_NxF), v_MxF.shape
    p = 1 + jnp.sum(z_1xF**2) / f
    b_1xM = samples.product(z_1xF, v_MxF) / f

    def row_means(u_RxF, place_R):
        a_Rx1 = samples.product(u_RxF, z_1xF) / f
        c, ab = samples.product(u_RxF, v_MxF) / f, a_Rx1 * b_1xM
        s = p + (a_Rx1 + b_1xM)
        k = 3 * ab * (p + s) + c * (3 * s * (s + c) + c * c)
        if same:
            k = jnp.where(place_R[:, None] == jnp.arange(m)[None], 0, k)
        return jnp.sum(k, axis=1) / (m - same)

    return jnp.mean(samples.by_block(row_means, (u_NxF, jnp.arange(n)), m))
