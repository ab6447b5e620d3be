"""Sets of points as bits: bit b of word w is point 32 w + b.

On CPU a sort of the indices takes a hundred times as long.
"""

import functools

import jax
import jax.numpy as jnp

WORD = 32  # bits


def pack(marked: jax.Array) -> jax.Array:
    """Words uint32 [..., W] of marks [..., 32 W]."""
    marked = marked.reshape(*marked.shape[:-1], -1, WORD)
    bit = jax.lax.broadcasted_iota(jnp.uint32, marked.shape, marked.ndim - 1)
    return jnp.sum(
        jnp.where(marked, jnp.uint32(1) << bit, jnp.uint32(0)),
        axis=-1,
        dtype=jnp.uint32,
    )


def first(words: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Places of the first n set bits, and how many there are, [..., S, 1].

    Places beyond the last set bit repeat the first.
    """
    count = jax.lax.population_count(words).astype(jnp.int32)
    upto = jnp.cumsum(count, axis=-1)
    found = upto[..., -1:]
    rank = jax.lax.broadcasted_iota(
        jnp.int32, (*words.shape[:-1], n), words.ndim - 1
    )
    rank = jnp.where(rank < found, rank, 0)
    word = _upto(upto, rank)
    take = functools.partial(jnp.take_along_axis, indices=word, axis=-1)
    rest = rank - (take(upto) - take(count))
    return word * WORD + _bit(take(words), rest), found


def _upto(ascending: jax.Array, rank: jax.Array) -> jax.Array:
    """How many entries are at most `rank`, less one if all are: bisection."""
    last = ascending.shape[-1] - 1

    # Unrolled, XLA would compute a count anew for each of its uses.
    def step(i, count):
        trial = count + (1 << (last.bit_length() - 1 - i))
        place = jnp.minimum(trial - 1, last)
        below = jnp.take_along_axis(ascending, place, axis=-1) <= rank
        return jnp.where((trial <= last) & below, trial, count)

    count = jnp.zeros(rank.shape, jnp.int32)
    return jax.lax.fori_loop(0, last.bit_length(), step, count)


def _bit(word: jax.Array, rank: jax.Array) -> jax.Array:
    """Place of the set bit of a word that has `rank` set bits below it."""
    place = jnp.zeros(word.shape, jnp.int32)
    for width in (16, 8, 4, 2, 1):
        low = word & jnp.uint32(2**width - 1)
        count = jax.lax.population_count(low).astype(jnp.int32)
        above = rank >= count
        rank = jnp.where(above, rank - count, rank)
        word = jnp.where(above, word >> width, low)
        place = jnp.where(above, place + width, place)
    return place
