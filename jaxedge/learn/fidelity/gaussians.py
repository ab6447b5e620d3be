"""The Frechet distance of Gaussians, and of features as if they were such.

    d^2 = |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2))

(Dowson & Landau, Journal of Multivariate Analysis 12:450, 1982), of features
of a network the Frechet inception distance (arXiv:1706.08500, eq. 6). With
A = L_a L_a^T and B = L_b L_b^T the trace of the root is the sum of the singular
values of L_a^T L_b: no product of covariances is made and no root taken of what
rounding left of a 0, which would cost half of the digits.

Letters: N and M rows, F features.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.fidelity import samples

# Of the largest entry; as far apart as float32 sums leave what is symmetric.
_ASYMMETRY = 1e-4


def frechet(
    mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike
) -> jax.Array:
    """The squared Frechet distance of two Gaussians.

    A covariance in float32 does not tell variances apart that are less than
    about F 1e-7 of the largest; they count as 0. `fid` has no such limit.

    Args:
        mean_a: [F].
        cov_a: [F, F], symmetric, without negative eigenvalues beyond rounding;
            it may be singular.
        mean_b: [F].
        cov_b: [F, F].

    Returns:
        A scalar of at least 0, rounded by about 1e-6 of the traces. Its first
        derivatives are finite, of singular covariances too.

    Raises:
        UsageError: for shapes that do not fit, NaN, or what is no covariance.
    """
    mean_a, cov_a = _gaussian("a", mean_a, cov_a)
    mean_b, cov_b = _gaussian("b", mean_b, cov_b)
    if mean_a.shape != mean_b.shape:
        raise checks.UsageError(
            f"mean_a has {mean_a.size} features and mean_b {mean_b.size}, but"
            " both must come from the same network."
        )
    found, lowest = _frechet(mean_a, cov_a, mean_b, cov_b)
    rounding = max(_ASYMMETRY, mean_a.size * jnp.finfo(cov_a.dtype).eps)
    for name, low in zip("ab", lowest, strict=True):
        if checks.concrete(low) and low < -rounding:
            raise checks.UsageError(
                f"cov_{name} has an eigenvalue of {float(low):.3g} of the"
                " largest, but no variance is below 0."
            )
    return found


def fid(features_NxF: ArrayLike, features_MxF: ArrayLike) -> jax.Array:
    """The squared Frechet distance of two sets, from rows of features.

    Of their means and covariances, the latter with N - 1 and M - 1 below. It
    falls with the number of rows even for one law, so compare equal numbers.

    Args:
        features_NxF: N >= 2, may be less than F.
        features_MxF: M >= 2.

    Returns:
        A scalar of at least 0, rounded by about 1e-6 of the variances.

    Raises:
        UsageError: for shapes that do not fit, fewer than 2 rows, or NaN.
    """
    names = "features_NxF", "features_MxF"
    return _fid(*samples.pair(names, (features_NxF, features_MxF), (2, 2)))


@jax.jit
def _frechet(
    mean_a: jax.Array, cov_a: jax.Array, mean_b: jax.Array, cov_b: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """The distance, and the lowest eigenvalue by the largest of each."""
    covs = [(cov + cov.T) / 2 for cov in (cov_a, cov_b)]
    fixed = jax.lax.stop_gradient(covs)
    roots, inverses, lowest = zip(*map(_root, fixed), strict=True)
    both = _product(roots[0].T, roots[1])
    left, values, right = jnp.linalg.svd(both, full_matrices=False)
    trace = jnp.sum(values)
    # 2 tr (A B)^(1/2) is the least tr(A T) + tr(B T^-1) of all T > 0, so that
    # its slopes are T and T^-1; those of an eigenvector need not be finite.
    for cov, held, inverse, turn in zip(
        covs, fixed, inverses, (left, right.T), strict=True
    ):
        half = _product(inverse, turn * jnp.sqrt(values)[None])
        trace = trace + jnp.sum(_product(half, half.T) * (cov - held)) / 2
    found = _distance(
        mean_a - mean_b, jnp.trace(covs[0]), jnp.trace(covs[1]), trace
    )
    return found, [*lowest]


def _root(cov_FxF: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """L, L^-T and the lowest eigenvalue by the largest, of L L^T."""
    values, vectors = jnp.linalg.eigh(cov_FxF)
    top = jnp.max(jnp.abs(values))
    kept = values > values.size * jnp.finfo(values.dtype).eps * top
    size = jnp.sqrt(jnp.where(kept, values, 1))
    root = vectors * jnp.where(kept, size, 0)[None]
    inverse = vectors * jnp.where(kept, 1 / size, 0)[None]
    return root, inverse, values[0] / jnp.where(top > 0, top, 1)


@jax.jit
def _fid(a_NxF: jax.Array, b_MxF: jax.Array) -> jax.Array:
    mean_a, factor_a = _moments(a_NxF)
    mean_b, factor_b = _moments(b_MxF)
    values = jnp.linalg.svd(samples.product(factor_a, factor_b),
                            compute_uv=False)  # fmt: skip
    trace_a, trace_b = jnp.sum(factor_a**2), jnp.sum(factor_b**2)
    return _distance(mean_a - mean_b, trace_a, trace_b, jnp.sum(values))


def _moments(x_NxF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean, and some R of at most F rows with R^T R the covariance."""
    n, f = x_NxF.shape
    mean = jnp.mean(x_NxF, axis=0, keepdims=True)
    x = x_NxF - mean
    # The rounding error of a large mean may exceed the spread.
    more = jnp.mean(x, axis=0, keepdims=True)
    x = (x - more) / np.sqrt(n - 1)
    if n > f:
        # Q may stay where it is: the singular values do not change with it to
        # first order, and of constant features it has no derivative.
        q = jax.lax.stop_gradient(jnp.linalg.qr(x)[0])
        x = _product(q.T, x)
    return (mean + more)[0], x


def _distance(
    apart_F: jax.Array, trace_a: jax.Array, trace_b: jax.Array, root: jax.Array
) -> jax.Array:
    square = jnp.sum(apart_F**2) + trace_a + trace_b - 2 * root
    return jnp.maximum(square, 0)  # Rounding may leave it below.


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _gaussian(
    name: str, mean: ArrayLike, cov: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Mean and covariance in one dtype of at least float32, checked."""
    mean_F = samples.rows(f"mean_{name}", mean, 1, ndim=1)
    cov_FxF = samples.rows(f"cov_{name}", cov, 1)
    if cov_FxF.shape != 2 * mean_F.shape:
        raise checks.UsageError(
            f"cov_{name} has shape {cov_FxF.shape}, but the {mean_F.size}"
            f" features of mean_{name} need {2 * mean_F.shape}."
        )
    if checks.concrete(cov_FxF):
        known = np.asarray(cov_FxF)
        apart, size = np.abs(known - known.T).max(), np.abs(known).max()
        if apart > _ASYMMETRY * size:
            raise checks.UsageError(
                f"cov_{name} differs from its transpose by {apart:.3g}, but a"
                " covariance is symmetric."
            )
    dtype = jnp.promote_types(mean_F.dtype, cov_FxF.dtype)
    return mean_F.astype(dtype), cov_FxF.astype(dtype)
