"""Two more ways to the weights of `readout`: dual, and recursive.

Letters: N rows, D features, K targets.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn import readout
from jaxedge.learn.readout import Weights, matmul
from jaxedge.learn.row_blocks import Rows


def dual(
    features: ArrayLike,
    targets: ArrayLike,
    ridge: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bias: str = "none",
) -> Weights:
    """The weights from a system of N equations, for fewer rows than features.

    M = H^T (H H^T + ridge)^-1 Y (device_physics D.9), with rows times the root
    of their weight. H is centred for bias "free" alone, so that a large common
    mean costs digits for the others.

    Args:
        features: [N, D].
        targets: [N, K].
        ridge: penalty, above 0, [].
        weights: of the rows, [N], at least 0; None takes 1.
        bias: one of `readout.BIASES`.

    Returns:
        Weights, in the dtype of the rows but at least float32.

    Raises:
        UsageError: for wrong shapes or values, as in `readout.solve`.
    """
    checks.choice("bias", bias, readout.BIASES)
    _check_ridge(ridge)
    rows = readout.as_rows(features, targets, weights)
    readout.check_finite(rows)
    dtype = jnp.promote_types(jnp.result_type(rows.x, rows.y), jnp.float32)
    rows = Rows(*(a.astype(dtype) for a in rows))
    readout.check_seen(rows.w.sum())
    return _dual(rows, jnp.asarray(ridge, dtype), bias)


class Recursion(NamedTuple):
    """A readout that is solved after every chunk.

    Attributes:
        matrix: weights, [D, K].
        inverse: (H^T W H + ridge)^-1 of the rows so far, [D, D].
    """

    matrix: jax.Array
    inverse: jax.Array


def start(
    d: int,
    k: int,
    ridge: ArrayLike,
    *,
    dtype: jax.typing.DTypeLike | None = None,
) -> Recursion:
    """The recursion before any row.

    Args:
        d: number of features, at least 1.
        k: number of targets, at least 1.
        ridge: penalty, above 0, [].
        dtype: float32 or float64; None takes JAX's default float.

    Raises:
        UsageError: for values out of range.
    """
    checks.whole("d", d, 1)
    checks.whole("k", k, 1)
    _check_ridge(ridge)
    dtype = jnp.zeros((), dtype or float).dtype
    inverse = jnp.eye(d, dtype=dtype) / jnp.asarray(ridge, dtype)
    return Recursion(jnp.zeros((d, k), dtype), inverse)


def step(
    recursion: Recursion,
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    forget: ArrayLike = 1.0,
) -> Recursion:
    """Solves again with more rows, at the cost of a system of N equations.

    beta_t = beta_t-1 + K_t^-1 H^T W (Y - H beta_t-1), K_t = forget K_t-1 +
    H^T W H (OS-ELM; device_physics D.9), with K^-1 by Woodbury's identity. The
    matrix is that of `readout.solve` with bias "none"; a constant feature
    makes a penalised bias. Rounding adds up over the steps, as it does not in
    `readout.update`: use that where the weights are wanted at the end only.

    Args:
        recursion: from `start` or `step`.
        features: [N, D].
        targets: [N, K].
        weights: of the rows, [N], at least 0; None takes 1.
        forget: by which all earlier rows, and the ridge, are multiplied
            before these are added, in (0, 1], [].

    Raises:
        UsageError: for wrong shapes or values.
    """
    rows = readout.as_rows(features, targets, weights, *recursion.matrix.shape)
    readout.check_finite(rows)
    checks.in_range("forget", forget, 0, 1, open_low=True)
    return _step(recursion, rows, jnp.asarray(forget, recursion.matrix.dtype))


def _check_ridge(ridge: ArrayLike) -> None:
    """Raises unless the ridge is one number above 0."""
    checks.in_range("ridge", ridge, 0, open_low=True)
    if jnp.ndim(ridge):
        raise checks.UsageError(
            f"ridge has shape {jnp.shape(ridge)}, but must be one number."
        )


@functools.partial(jax.jit, static_argnames="bias")
def _dual(rows: Rows, ridge: jax.Array, bias: str) -> Weights:
    """`dual`, for rows of one dtype."""
    x, y, w = rows
    d = x.shape[1]
    mean_x, mean_y = jnp.zeros_like(x[:1]), jnp.zeros_like(y[:1])
    share = (w / w.sum())[None]
    if bias == "free":
        mean_x, mean_y = matmul(share, x), matmul(share, y)
        # The rounding error of a large mean may exceed the spread.
        x = x - mean_x
        more = matmul(share, x)
        x, y, mean_x = x - more, y - mean_y, mean_x + more
    elif bias == "penalised":
        x = jnp.pad(x, ((0, 0), (0, 1)), constant_values=1)
    root = jnp.sqrt(w)[:, None]
    h = root * x
    ridges = jnp.broadcast_to(ridge, len(w))
    solved = readout.factored_solve(matmul(h, h.T), ridges, root * y)
    matrix = matmul(h.T, solved)
    if bias == "penalised":
        return Weights(matrix[:d], matrix[d])
    return Weights(matrix, (mean_y - matmul(mean_x, matrix))[0])


@jax.jit
def _step(recursion: Recursion, rows: Rows, forget: jax.Array) -> Recursion:
    """`step`, for checked rows."""
    x, y, w = (a.astype(recursion.matrix.dtype) for a in rows)
    root = jnp.sqrt(w)[:, None]
    h = root * x
    inverse = recursion.inverse / forget
    side = matmul(inverse, h.T)
    inner = matmul(h, side)
    ones = jnp.ones(len(w), inner.dtype)
    gain = readout.factored_solve(inner, ones, side.T).T
    error = root * y - matmul(h, recursion.matrix)
    inverse = inverse - matmul(gain, side.T)
    return Recursion(
        recursion.matrix + matmul(gain, error), (inverse + inverse.T) / 2
    )
