"""How well a ridge generalises, from one eigendecomposition for all ridges.

Letters: R ridges, N rows, D features, K targets.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn import readout, row_blocks
from jaxedge.learn.readout import matmul
from jaxedge.learn.row_blocks import Rows, State


def gcv(state: State, ridges: ArrayLike, *, bias: str = "none") -> jax.Array:
    """Generalised cross-validation, of the sums alone.

    (1/N) RSS / (1 - tr(H) / N)^2 with H y the fit (Golub, Heath & Wahba,
    Technometrics 21:215 (1979)); N counts the rows of positive weight, and RSS
    is weighted. Without weights it estimates the mean squared error.

    Args:
        state: of `readout`, with at least one row.
        ridges: to compare, at least 0, [R], as in `readout.solve`.
        bias: one of `readout.BIASES`.

    Returns:
        [R, K]; the ridge of all targets is that of the least mean over K. Not
        finite at a ridge of 0 where the moments have no full rank. A residual
        far below the targets' spread drowns in the rounding of the sums.

    Raises:
        UsageError: for no rows, or values out of range.
    """
    ridges = _checked(ridges, bias)
    found, weight = _gcv(state, ridges.astype(state.waiting.x.dtype), bias)
    readout.check_seen(weight)
    return found


def leave_one_out(
    state: State,
    features: ArrayLike,
    targets: ArrayLike,
    ridges: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bias: str = "none",
) -> jax.Array:
    """Errors on rows by readouts that were solved without that row, exactly.

    e_i = r_i / (1 - h_ii), with r the residual and h the leverage
    (device_physics D.9); no readout is solved again.

    Args:
        state: of `readout`, which has seen these rows, among others.
        features: [N, D]; all rows or some at a time.
        targets: [N, K].
        ridges: to compare, at least 0, [R], as in `readout.solve`.
        weights: as in the state, [N]; None takes 1.
        bias: one of `readout.BIASES`.

    Returns:
        [R, N, K]: target minus what the others predict. Not finite where a row
        cannot be spared: at a ridge of 0 without full rank, or where 1 - h_ii
        rounds to 0.

    Raises:
        UsageError: for no rows, wrong shapes, or values out of range.
    """
    ridges = _checked(ridges, bias)
    rows = readout.as_rows(features, targets, weights, *readout.sizes(state))
    readout.check_finite(rows)
    dtype = state.waiting.x.dtype
    rows = Rows(*(a.astype(dtype) for a in rows))
    found, weight = _leave_one_out(state, rows, ridges.astype(dtype), bias)
    readout.check_seen(weight)
    return found


class _Basis(NamedTuple):
    """Totals in the eigenvectors of xx; those of targets as they are."""

    values: jax.Array  # [D]
    vectors: jax.Array  # [D, D]
    mean_x: jax.Array  # [D]
    xy: jax.Array  # [D, K]


class _Fit(NamedTuple):
    """A solution in those eigenvectors.

    The inverse is diag(inverse) - drop * v v^T.
    """

    share: jax.Array  # what `readout.unexplained` says
    matrix: jax.Array  # [D, K]
    left: jax.Array  # [K], mean residual without a bias
    inverse: jax.Array  # [D]
    v: jax.Array  # [D]
    drop: jax.Array  # []


def _checked(ridges: ArrayLike, bias: str) -> jax.Array:
    """The ridges as an array; raises unless [R] and not negative."""
    checks.choice("bias", bias, readout.BIASES)
    ridges = jnp.asarray(ridges)
    if ridges.ndim != 1 or not ridges.size:
        raise checks.UsageError(
            f"ridges have shape {ridges.shape}, but must be some, [R]."
        )
    checks.in_range("ridges", ridges, 0)
    return ridges


def _basis(t: row_blocks.Totals) -> _Basis:
    """Totals in their eigenvectors."""
    values, vectors = jnp.linalg.eigh(t.xx)
    return _Basis(
        # Rounding leaves some of a singular matrix below zero.
        values=jnp.maximum(values, 0),
        vectors=vectors,
        mean_x=matmul(vectors.T, t.mean_x),
        xy=matmul(vectors.T, t.xy),
    )


def _fit(
    t: row_blocks.Totals, basis: _Basis, ridge: jax.Array, bias: str
) -> _Fit:
    """The solution for one ridge, by Sherman-Morrison."""
    share = readout.unexplained(ridge, t.weight, bias)
    pull = share * t.weight
    inverse = 1 / (basis.values + ridge)
    v = inverse * basis.mean_x
    matrix = inverse[:, None] * basis.xy
    drop = pull / (1 + pull * (basis.mean_x @ v))
    apart = t.mean_y - matmul(basis.mean_x, matrix)
    matrix = matrix + drop * jnp.outer(v, apart)
    left = t.mean_y - matmul(basis.mean_x, matrix)
    return _Fit(share, matrix, left, inverse, v, drop)


@functools.partial(jax.jit, static_argnames="bias")
def _gcv(
    state: State, ridges: jax.Array, bias: str
) -> tuple[jax.Array, jax.Array]:
    """`gcv`, and the sum of the rows' weights."""
    t = row_blocks.totals(state)
    basis = _basis(t)

    def score(ridge):
        fit = _fit(t, basis, ridge, bias)
        inner = basis.mean_x @ fit.v
        # Of the fit: the bias, the centred features, and their means.
        trace = (1 - fit.share) + jnp.sum(basis.values * fit.inverse)
        trace -= fit.drop * jnp.sum(basis.values * fit.v**2)
        pull = fit.share * t.weight
        trace += fit.share * pull * inner / (1 + pull * inner)
        explained = 2 * basis.xy - basis.values[:, None] * fit.matrix
        rss = t.yy - jnp.sum(fit.matrix * explained, 0)
        rss += t.weight * (fit.share * fit.left) ** 2
        return jnp.maximum(rss, 0) / t.rows / (1 - trace / t.rows) ** 2

    return jax.lax.map(score, ridges), t.weight


@functools.partial(jax.jit, static_argnames="bias")
def _leave_one_out(
    state: State, rows: Rows, ridges: jax.Array, bias: str
) -> tuple[jax.Array, jax.Array]:
    """`leave_one_out`, and the sum of the rows' weights."""
    t = row_blocks.totals(state)
    basis = _basis(t)
    x, y, w = rows
    x = matmul(x - t.mean_x[None], basis.vectors)
    y = y - t.mean_y[None]

    def errors(ridge):
        fit = _fit(t, basis, ridge, bias)
        residual = y - matmul(x, fit.matrix) + (fit.share * fit.left)[None]
        seen = x + (fit.share * basis.mean_x)[None]
        leverage = (1 - fit.share) / t.weight + matmul(seen**2, fit.inverse)
        leverage -= fit.drop * matmul(seen, fit.v) ** 2
        return residual / (1 - w * leverage)[:, None]

    return jax.lax.map(errors, ridges), t.weight
