"""How much one modality tells of another: mutual information, in nats.

    I(X; Y) = H(X) + H(Y) - H(X, Y)

is 0 where nothing is told; divide by log 2 for bits. Three estimates from
samples: of histograms, for single numbers such as the pixels of two images; of
Gaussians, in closed form; and of nearest neighbours, for any law with a
density in a few dimensions.

Letters: N samples, F features of the first and G of the second modality, K
bins, R rows of a block.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.fidelity import samples


def histogram(
    x_N: ArrayLike,
    y_N: ArrayLike,
    *,
    bins: int,
    range: Sequence[Any],
    corrected: bool = True,
) -> jax.Array:
    """Mutual information of two numbers, from their joint histogram.

    The plug-in estimate sum p_xy log(p_xy / p_x p_y) is too large by about
    (m_xy - m_x - m_y + 1) / 2N, with m bins that hold a sample; the correction
    of Miller (1955) and Madow, which adds (m - 1) / 2N to each entropy, takes
    that off. Coarse bins lose information, which no correction brings back.

    Args:
        x_N: N >= 2 numbers in `range`, of any shape.
        y_N: of the same shape, sample by sample.
        bins: K of each, equally wide, at least 2.
        range: (low, high) of both, or one such pair for each.
        corrected: whether the bias is taken off; the result may then be
            negative.

    Returns:
        A scalar, without a gradient. Of traced numbers, those that lie outside
        count in the first or last bin.

    Raises:
        UsageError: for shapes that differ, fewer than 2 samples, NaN, values
            outside the range, or fewer than 2 bins.
    """
    counts = _counts(*_binned(x_N, y_N, bins, range), int(bins))
    return _plug_in(counts, jnp.asarray(corrected))


def normalised(
    x_N: ArrayLike, y_N: ArrayLike, *, bins: int, range: Sequence[Any]
) -> jax.Array:
    """Normalised mutual information, (H(X) + H(Y)) / H(X, Y).

    Studholme et al., Pattern Recognition 32:71 (1999): it depends less on how
    much of two images overlaps. Entropies are those of the histograms, without
    a correction.

    Args:
        x_N: as in `histogram`.
        y_N: likewise.
        bins: likewise.
        range: likewise.

    Returns:
        A scalar in [1, 2]: 1 if neither tells of the other, which includes two
        constants; 2 if each determines the other.

    Raises:
        UsageError: as in `histogram`.
    """
    return _normalised(_counts(*_binned(x_N, y_N, bins, range), int(bins)))


def gaussian(x_NxF: ArrayLike, y_NxG: ArrayLike) -> jax.Array:
    """Mutual information of jointly Gaussian samples.

        log(det S_x det S_y / det S_xy) / 2 = -sum log(1 - r_i^2) / 2

    with the canonical correlations r_i of the samples. Features that others
    determine add nothing. It is too large by about F G / 2N, and for another
    law it is the information of the Gaussian with the same covariances. Both
    modalities may be scaled, shifted and mixed within.

    Args:
        x_NxF: any unit.
        y_NxG: N > F + G.

    Returns:
        A scalar of at least 0. What is determined without noise counts as
        large as rounding tells, 16 nats a dimension in float32 at most, with a
        gradient of 0.

    Raises:
        UsageError: for unequal or too few rows, or NaN.
    """
    x, y = _rows(x_NxF, y_NxG)
    least = x.shape[1] + y.shape[1] + 1
    if len(x) < least:
        raise checks.UsageError(
            f"there are {len(x)} rows of {x.shape[1]} and {y.shape[1]}"
            f" features, but {least} at least are needed: fewer determine each"
            " other."
        )
    return _gaussian(x, y)


def knn(x_NxF: ArrayLike, y_NxG: ArrayLike, k: int = 3) -> jax.Array:
    """Mutual information from the distances of nearest neighbours.

    Kraskov, Stoegbauer & Grassberger, Physical Review E 69:066138 (2004),
    algorithm 1 (eq. 8),

        psi(k) + psi(N) - mean(psi(n_x + 1) + psi(n_y + 1)),

    with n_x and n_y the numbers of samples nearer than the k-th neighbour in
    x alone and in y alone. Distances are those of the coordinate that differs
    most. For laws with a density: rounded values have ties, which it takes for
    information. Where the two are of different units, scale them to unit
    variance. Time grows with N^2 (F + G); memory does not grow so.

    Args:
        x_NxF: N > k samples.
        y_NxG: likewise, sample by sample.
        k: at least 1; more have less variance and more bias.

    Returns:
        A scalar, without a gradient; it may be negative by its error.

    Raises:
        UsageError: for unequal or too few rows, or NaN.
    """
    checks.whole("k", k, 1)
    x, y = _rows(x_NxF, y_NxG, int(k) + 1)
    return _knn(x, y, int(k))


@functools.partial(jax.jit, static_argnames="bins")
def _counts(
    x_N: jax.Array, y_N: jax.Array, range_2x2: jax.Array, bins: int
) -> jax.Array:
    """How many samples there are in each bin of both, int32 [K, K]."""
    places = []
    for value, (low, high) in zip((x_N, y_N), range_2x2, strict=True):
        share = (value - low) / (high - low)
        place = jnp.floor(share * bins).astype(jnp.int32)
        places.append(jnp.clip(place, 0, bins - 1))
    joint = places[0] * bins + places[1]
    # Whole numbers, whose sums no order changes.
    counts = jnp.zeros(bins * bins, jnp.int32).at[joint].add(1)
    return counts.reshape(bins, bins)


@jax.jit
def _plug_in(counts_KxK: jax.Array, corrected: jax.Array) -> jax.Array:
    n = jnp.sum(counts_KxK)
    x, y = (jnp.sum(counts_KxK, axis, keepdims=True) for axis in (1, 0))
    p, p_x, p_y = (counts / n for counts in (counts_KxK, x, y))
    known = counts_KxK > 0
    ratio = jnp.where(known, p / jnp.where(known, p_x * p_y, 1), 1)
    m_x, m_y, m_xy = (jnp.sum(c > 0) for c in (x, y, counts_KxK))
    excess = (m_xy - m_x - m_y + 1) / (2 * n)
    return jnp.sum(p * jnp.log(ratio)) - jnp.where(corrected, excess, 0)


@jax.jit
def _normalised(counts_KxK: jax.Array) -> jax.Array:
    n = jnp.sum(counts_KxK)
    both = (counts_KxK.sum(1), counts_KxK.sum(0), counts_KxK.ravel())
    h_x, h_y, h_xy = (-jnp.sum(jax.scipy.special.xlogy(c / n, c / n))
                      for c in both)  # fmt: skip
    known = h_xy > 0
    ratio = (h_x + h_y) / jnp.where(known, h_xy, 1)
    return jnp.clip(jnp.where(known, ratio, 1), 1, 2)


@jax.jit
def _gaussian(x_NxF: jax.Array, y_NxG: jax.Array) -> jax.Array:
    x, unused_x = _whitened(x_NxF)
    y, unused_y = _whitened(y_NxG)
    among_x = _product(x.T, x) + jnp.diag(unused_x)
    told = jnp.linalg.solve(among_x, _product(x.T, y))
    left = y - _product(x, told)
    return jnp.maximum(
        _log_volume(y, unused_y) - _log_volume(left, unused_y), 0
    )


def _whitened(x_NxF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nearly orthonormal columns that span the centred ones, and 0s.

    Also 1 for each column of 0s, where the rank is less than F, 0 for others.
    Only the span matters, so the mixture has no gradient: it need not have
    one, and a singular vector's is not always finite.
    """
    # From the first row, so that a constant is 0 without a rounding error.
    x = x_NxF - x_NxF[:1]
    for _ in "twice":  # A mean may be rounded by more than the spread.
        x = x - jnp.mean(x, axis=0, keepdims=True)
    held = jax.lax.stop_gradient(x)
    size = jnp.max(jnp.abs(held), axis=0, keepdims=True)
    size = jnp.where(size > 0, size, 1)
    triangle = jnp.linalg.qr(held / size, mode="r")
    values, vectors = jnp.linalg.svd(triangle)[1:]
    kept = values > max(x.shape) * jnp.finfo(x.dtype).eps * values[0]
    scale = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    return _product(x / size, vectors.T * scale[None]), 1 - kept.astype(x.dtype)


def _log_volume(x_NxF: jax.Array, unused_F: jax.Array) -> jax.Array:
    """log sqrt(det X^T X) of the columns that are used."""
    filled = jnp.concatenate([x_NxF, jnp.diag(unused_F)])
    values = jnp.linalg.svd(filled, compute_uv=False)
    return jnp.sum(jnp.log(jnp.maximum(values, jnp.finfo(x_NxF.dtype).eps)))


@functools.partial(jax.jit, static_argnames="k")
def _knn(x_NxF: jax.Array, y_NxG: jax.Array, k: int) -> jax.Array:
    x, y = jax.lax.stop_gradient((x_NxF, y_NxG))
    n, psi = len(x), jax.scipy.special.digamma

    def told(x_RxF, y_RxG, place_R):
        itself = place_R[:, None] == jnp.arange(n)[None]
        apart_x = jnp.where(itself, jnp.inf, _farthest(x_RxF, x))
        apart_y = jnp.where(itself, jnp.inf, _farthest(y_RxG, y))
        apart = jnp.maximum(apart_x, apart_y)
        last = samples.lowest(apart, k)[:, k - 1 :]
        reach = jnp.take_along_axis(apart, last, axis=1)
        counts = ((a < reach).sum(1) for a in (apart_x, apart_y))
        return sum(psi(c.astype(x.dtype) + 1) for c in counts)

    each_N = samples.by_block(told, (x, y, jnp.arange(n)), n)
    known = psi(jnp.asarray([k, n], x.dtype)).sum()
    return known - jnp.mean(each_N)


def _farthest(a_RxF: jax.Array, b_NxF: jax.Array) -> jax.Array:
    """max_f |a - b|, [R, N]; one feature after the other, in vectors."""

    def step(most, column):
        a, b = column
        return jnp.maximum(most, jnp.abs(a[:, None] - b[None])), None

    start = jnp.zeros((len(a_RxF), len(b_NxF)), a_RxF.dtype)
    return jax.lax.scan(step, start, (a_RxF.T, b_NxF.T))[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _rows(
    x: ArrayLike, y: ArrayLike, least: int = 2
) -> tuple[jax.Array, jax.Array]:
    """Both in one dtype of at least float32, or a UsageError."""
    x, y = samples.rows("x_NxF", x, least), samples.rows("y_NxG", y, least)
    if len(x) != len(y):
        raise checks.UsageError(
            f"x_NxF has {len(x)} rows and y_NxG {len(y)}, but every sample has"
            " both."
        )
    dtype = jnp.promote_types(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)


def _binned(
    x: ArrayLike, y: ArrayLike, bins: int, limits: Sequence[Any]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Samples [N] of both and their ranges [2, 2], or a UsageError."""
    checks.whole("bins", bins, 2)
    if jnp.shape(x) != jnp.shape(y):
        raise checks.UsageError(
            f"x_N has shape {jnp.shape(x)} and y_N {jnp.shape(y)}, but every"
            " sample has both."
        )
    x, y = (
        samples.rows(name, jnp.ravel(jnp.asarray(value)), ndim=1)
        for name, value in (("x_N", x), ("y_N", y))
    )
    ends = jnp.asarray(limits, x.dtype)
    if ends.shape not in ((2,), (2, 2)):
        raise checks.UsageError(
            f"range has shape {ends.shape}, but must be (low, high), or one"
            " such pair for each modality."
        )
    ends = jnp.broadcast_to(ends, (2, 2))
    if checks.concrete(ends):
        checks.in_range("range", ends)
        known = zip(("x_N", "y_N"), (x, y), np.asarray(ends), strict=True)
        for name, value, (low, high) in known:
            checks.ordered("the low end of range", low, "the high end", high)
            checks.in_range(name, value, low, high)
    return x, y, ends
