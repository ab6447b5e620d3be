"""Sums of many float32 numbers that keep their digits."""

import jax
import jax.numpy as jnp

_SIDE = 64


def total(terms_KxV: jax.Array) -> jax.Array:
    """The sum of each row, with an error of about one rounding.

    Numbers are added in short sums, 64 at a time, whose errors average out. The
    last 64 are added in pairs with the error of each addition (TwoSum; Knuth,
    The Art of Computer Programming, volume 2).

    Args:
        terms_KxV: float32.

    Returns:
        float32 [K]; with a gradient.
    """
    sums = terms_KxV
    while sums.shape[1] > _SIDE:
        # Else XLA would make one long sum of two short ones.
        sums = jax.lax.optimization_barrier(_shorter(sums))
    sum_KxN = jnp.pad(sums, ((0, 0), (0, _SIDE - sums.shape[1])))
    error_KxN = jnp.zeros_like(sum_KxN)
    while sum_KxN.shape[1] > 1:
        a_KxN, b_KxN = jnp.split(sum_KxN, 2, axis=1)
        sum_KxN = a_KxN + b_KxN
        of_b = sum_KxN - a_KxN
        lost = (a_KxN - (sum_KxN - of_b)) + (b_KxN - of_b)
        error_KxN = sum(jnp.split(error_KxN, 2, axis=1)) + lost
    return (sum_KxN + error_KxN)[:, 0]


def _shorter(terms_KxV: jax.Array) -> jax.Array:
    """Sums of up to 64 terms each."""
    k, n_terms = terms_KxV.shape
    terms = min(_SIDE, -(-n_terms // _SIDE))
    n_sums = -(-n_terms // terms)
    padded = jnp.pad(terms_KxV, ((0, 0), (0, terms * n_sums - n_terms)))
    return padded.reshape(k, terms, n_sums).sum(1)
