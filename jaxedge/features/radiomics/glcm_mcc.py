"""Maximal correlation coefficient of co-occurrence matrices, by products alone.

Letters: A directions, G grey levels.
"""

import jax
import jax.numpy as jnp

# What pyradiomics adds to a denominator, the spacing of float64 at 1.
_EPSILON = 2.0**-52
_SQUARINGS = 16  # power 2^16: at most 3e-6 too little, if two values compete
_FIRST = 0.55  # sum of squared shares after which products with a vector do:
_TURNS = 8  # the second is then 3.7 times as small as the first, or smaller


def maximal_correlation(
    p_AxGxG: jax.Array, row_AxG: jax.Array, column_AxG: jax.Array
) -> jax.Array:
    """Root of the second largest eigenvalue of pyradiomics' matrix.

    Q(i, j) = sum_k p(i, k) p(j, k) / (p_x(i) p_y(k) + epsilon) has the
    eigenvalues of S S^T with S = p / sqrt(p_x p_y + epsilon), up to the square
    of epsilon / (p_x p_y), whether p is symmetric or not. The largest singular
    value of S is 1, of the vectors sqrt(p_x) and sqrt(p_y), which are taken
    away, as p_x p_y from p; the largest that is left is the coefficient.

    Args:
        p_AxGxG: probabilities of pairs; rows of 0 are allowed.
        row_AxG: their sums over the last axis.
        column_AxG: over the axis before.

    Returns:
        [A], 0 of a matrix with one level, and of an empty one.
    """
    both = row_AxG[:, :, None] * column_AxG[:, None]
    # Where both are 0, so is what is divided.
    scale = jnp.sqrt(both + _EPSILON)
    rest_AxGxG = (p_AxGxG - both) / scale
    square_AxGxG = _product(rest_AxGxG, rest_AxGxG.swapaxes(1, 2))
    largest_A = _largest(square_AxGxG)
    return jnp.sqrt(jnp.where(largest_A > 0, largest_A, 0))


def _largest(square_AxGxG: jax.Array) -> jax.Array:
    """Largest eigenvalue of symmetric matrices without a negative one, [A].

    Squared again and again, a matrix of trace 1 tends to the projection on its
    first eigenvector; the trace of the square is the sum of squared shares of
    all. Two that compete until the last both have nearly that value. The vector
    is held fixed in the derivative, which that of the eigenvalue does not need.
    """

    def scaled(x_AxGxG: jax.Array) -> tuple[jax.Array, jax.Array]:
        trace_A = jnp.trace(x_AxGxG, axis1=1, axis2=2)
        safe_A = jnp.where(trace_A > 0, trace_A, 1)
        return x_AxGxG / safe_A[:, None, None], trace_A

    def unfinished(state: tuple) -> jax.Array:
        step, _, trace_A = state
        apart_A = (trace_A > 0) & (trace_A < _FIRST)
        return (step < _SQUARINGS) & apart_A.any()

    def square(state: tuple) -> tuple:
        step, x_AxGxG, _ = state
        return step + 1, *scaled(_product(x_AxGxG, x_AxGxG))

    first_AxGxG, whole_A = scaled(jax.lax.stop_gradient(square_AxGxG))
    started_A = jnp.where(whole_A > 0, _FIRST / 2, 0)
    state = (0, first_AxGxG, started_A)
    _, power_AxGxG, _ = jax.lax.while_loop(unfinished, square, state)
    most_A = jnp.diagonal(power_AxGxG, axis1=1, axis2=2).argmax(1)
    vector_AxG = jnp.take_along_axis(power_AxGxG, most_A[:, None, None], 1)[
        :, 0
    ]

    def turn(_: jax.Array, vector_AxG: jax.Array) -> jax.Array:
        return _unit(_applied(power_AxGxG, vector_AxG))

    vector_AxG = jax.lax.fori_loop(0, _TURNS, turn, _unit(vector_AxG))
    return (_applied(square_AxGxG, vector_AxG) * vector_AxG).sum(1)


def _applied(matrix_AxGxG: jax.Array, vector_AxG: jax.Array) -> jax.Array:
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("aij,aj->ai", matrix_AxGxG, vector_AxG, precision=highest)


def _unit(vector_AxG: jax.Array) -> jax.Array:
    """Vectors of length 1; 0 where they are."""
    squared_A = (vector_AxG**2).sum(1, keepdims=True)
    return vector_AxG / jnp.sqrt(jnp.where(squared_A > 0, squared_A, 1))


def _product(a_AxGxG: jax.Array, b_AxGxG: jax.Array) -> jax.Array:
    return jnp.matmul(a_AxGxG, b_AxGxG, precision=jax.lax.Precision.HIGHEST)
