"""Rows gathered into blocks of a fixed size before they are summed.

The sums of a block are those of the same rows in the same program, wherever a
chunk ended, so that rounding does not depend on the chunks either.

Letters: N rows, B rows of a block, D features, K targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.learn import moments
from jaxedge.learn.moments import Moments, Totals


class Rows(NamedTuple):
    """Rows of features x [B, D], targets y [B, K] and weights w [B]."""

    x: jax.Array
    y: jax.Array
    w: jax.Array


class State(NamedTuple):
    """What is known of the rows so far.

    Attributes:
        sums: moments of all full blocks.
        waiting: the rows after the last full block; weight 0 where unused.
        fill: how many wait, int32 [].
    """

    sums: Moments
    waiting: Rows
    fill: jax.Array


def empty(d: int, k: int, block: int, dtype: jax.typing.DTypeLike) -> State:
    """The state before any row."""
    shapes = ((block, d), (block, k), (block,))
    waiting = Rows(*(jnp.zeros(shape, dtype) for shape in shapes))
    return State(moments.empty(d, k, dtype), waiting, jnp.zeros((), jnp.int32))


def totals(state: State) -> Totals:
    """Moments of all rows, with those that wait."""
    waiting = moments.of_rows(*state.waiting)
    return moments.totals(moments.join(state.sums, waiting))


@jax.jit
def push(state: State, rows: Rows) -> tuple[State, jax.Array]:
    """Adds [N] rows; also says whether all sums are finite, bool []."""
    block, n = len(state.waiting.w), len(rows.w)
    rows = Rows(*(a.astype(state.waiting.w.dtype) for a in rows))
    full = n // block

    def part(start):
        return jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, start, block), rows
        )

    if full:
        state = _push_some(state, part(0), block)

        def add(sums, i):
            # Blocks end where they would have, had the rows come one by one.
            found = moments.of_rows(*part(i * block - state.fill))
            return moments.join(sums, found), None

        if full > 1:
            sums, _ = jax.lax.scan(add, state.sums, jnp.arange(1, full))
            _, left = _place(state, part((full - 1) * block))
            state = State(sums, _first(left, state.fill), state.fill)
    if n % block:
        rest = Rows(*(a[full * block :] for a in rows))
        state = _push_some(state, _padded(rest, block), n % block)
    # The squares are the first to overflow; whatever is bad in a row is bad in
    # its mean.
    squares = tuple(stripe.hi.diagonal() for stripe in state.sums.second)
    watched = (state.sums._replace(second=squares), state.waiting)
    leaves = jax.tree.leaves(watched)
    return state, jnp.stack([jnp.isfinite(a).all() for a in leaves]).all()


@jax.jit
def merge(a: State, b: State) -> State:
    """`a` with the sums of `b`, and then with the rows that wait in `b`."""
    state = a._replace(sums=moments.join(a.sums, b.sums))
    block, n = len(a.waiting.w), len(b.waiting.w)
    parts = -(-n // block)
    rows = _padded(b.waiting, parts * block)
    rows = jax.tree.map(lambda v: v.reshape((parts, block) + v.shape[1:]), rows)

    def add(state, part):
        i, rows = part
        count = jnp.clip(b.fill - i * block, 0, block)
        return _push_some(state, rows, count), None

    return jax.lax.scan(add, state, (jnp.arange(parts), rows))[0]


def _push_some(state: State, rows: Rows, count: ArrayLike) -> State:
    """Adds the first `count` of a block's rows."""
    block = len(rows.w)
    filled, rolled = _place(state, _first(rows, count))
    total = state.fill + count
    done = total >= block
    sums = jax.lax.cond(
        done,
        lambda: moments.join(state.sums, moments.of_rows(*filled)),
        lambda: state.sums,
    )
    fill = jnp.where(done, total - block, total).astype(jnp.int32)
    left = jax.tree.map(lambda r, f: jnp.where(done, r, f), rolled, filled)
    return State(sums, _first(left, fill), fill)


def _place(state: State, rows: Rows) -> tuple[Rows, Rows]:
    """A block's rows behind those that wait; and those that had no room.

    The latter are the first, as many as the others left no room for.
    """
    rolled = jax.tree.map(lambda a: jnp.roll(a, state.fill, 0), rows)
    taken = jnp.arange(len(rows.w)) < state.fill

    def behind(old, new):
        mask = taken.reshape(taken.shape + (1,) * (old.ndim - 1))
        return jnp.where(jnp.broadcast_to(mask, old.shape), old, new)

    return jax.tree.map(behind, state.waiting, rolled), rolled


def _first(rows: Rows, count: ArrayLike) -> Rows:
    """The rows, with weight 0 on all after the first `count`."""
    used = jnp.arange(len(rows.w)) < count
    return rows._replace(w=jnp.where(used, rows.w, 0))


def _padded(rows: Rows, block: int) -> Rows:
    """Up to `block` rows, with zeros after them."""
    short = block - len(rows.w)
    return Rows(
        *(jnp.pad(a, ((0, short),) + ((0, 0),) * (a.ndim - 1)) for a in rows)
    )
