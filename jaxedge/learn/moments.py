"""Weighted means and centred second moments of a stream of rows.

Sums are kept as pairs, a float and what its rounding lost, so that a million
blocks lose no more digits than one. Blocks are centred at their own mean and
joined by the update of Chan, Golub & LeVeque (1979), so that a common mean,
however large, costs none either.

Letters: B rows of a block, D features, K targets, Z = D + K.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Fewer features than that at a time only slow a product down.
_STRIPE = 128
_STRIPES = 4


class Pair(NamedTuple):
    """An unevaluated sum hi + lo of arrays of one shape, |lo| << |hi|."""

    hi: jax.Array
    lo: jax.Array

    def value(self) -> jax.Array:
        """The sum, rounded."""
        return self.hi + self.lo

    def plus(self, other: "Pair") -> "Pair":
        """The sum with another pair, of the same shape."""
        total = self.hi + other.hi
        # Knuth's two-sum: what the line above rounded away, exactly.
        part = total - self.hi
        lost = (self.hi - (total - part)) + (other.hi - part)
        return Pair(total, self.lo + other.lo + lost)


class Moments(NamedTuple):
    """Sums over weighted rows z = (x, y) of D features and K targets.

    Attributes:
        rows: number of rows whose weight is not zero, [].
        weight: sum w, [].
        mean: sum w z / sum w, [Z].
        second: sum w (x - mean)(z - mean)^T, [D, Z], in stripes: some rows of
            it, each from its block on the diagonal on, [S, Z - start].
        yy: sum w (y - mean)^2, [K].
    """

    rows: Pair
    weight: Pair
    mean: Pair
    second: tuple[Pair, ...]
    yy: Pair


class Totals(NamedTuple):
    """`Moments` as plain arrays, those of features and targets apart.

    Attributes:
        rows: number of rows whose weight is not zero, [].
        weight: sum w, [].
        mean_x: [D].
        mean_y: [K].
        xx: sum w (x - mean)(x - mean)^T, [D, D].
        xy: sum w (x - mean)(y - mean)^T, [D, K].
        yy: sum w (y - mean)^2, [K].
    """

    rows: jax.Array
    weight: jax.Array
    mean_x: jax.Array
    mean_y: jax.Array
    xx: jax.Array
    xy: jax.Array
    yy: jax.Array


def empty(d: int, k: int, dtype: jax.typing.DTypeLike) -> Moments:
    """Moments of no rows."""

    def zeros(*shape):
        # Two arrays, as one that is given away twice cannot be donated.
        return Pair(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    second = (zeros(p.stop - p.start, d + k - p.start) for p in _stripes(d))
    return Moments(zeros(), zeros(), zeros(d + k), tuple(second), zeros(k))


def of_rows(x: jax.Array, y: jax.Array, w: jax.Array) -> Moments:
    """Moments of one block: x [B, D], y [B, K], w [B], of one dtype."""
    d = x.shape[1]
    weight = w.sum()
    share = w / jnp.where(weight > 0, weight, 1)
    # One array, as X^T Y alone would take as long as a quarter of X^T X.
    z = jnp.concatenate([x, y], 1)
    mean = _product(share[:, None], z)
    z = z - mean
    # The rounding error of a large mean may exceed the spread.
    more = _product(share[:, None], z)
    z = z - more
    weighted = w[:, None] * z
    second = (_product(weighted[:, p], z[:, p.start :]) for p in _stripes(d))
    return Moments(
        rows=_single((w > 0).sum(dtype=w.dtype)),
        weight=_single(weight),
        mean=Pair(mean[0], more[0]),
        second=tuple(map(_single, second)),
        yy=_single((weighted * z)[:, d:].sum(0)),
    )


def join(a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both; associative up to rounding."""
    d = len(a.mean.hi) - len(a.yy.hi)
    total = a.weight.value() + b.weight.value()
    share = b.weight.value() / jnp.where(total > 0, total, 1)
    # Exact in hi where the means are within a factor of two of each other.
    step = (b.mean.hi - a.mean.hi) + (b.mean.lo - a.mean.lo)
    pull = a.weight.value() * share * step
    second = (
        of_a.plus(of_b).plus(_single(jnp.outer(pull[p], step[p.start :])))
        for p, of_a, of_b in zip(_stripes(d), a.second, b.second, strict=True)
    )
    return Moments(
        rows=a.rows.plus(b.rows),
        weight=a.weight.plus(b.weight),
        mean=a.mean.plus(_single(share * step)),
        second=tuple(second),
        yy=a.yy.plus(b.yy).plus(_single((pull * step)[d:])),
    )


def totals(moments: Moments) -> Totals:
    """The pairs added up, and the whole of xx."""
    d = len(moments.mean.hi) - len(moments.yy.hi)
    stripes = [
        jnp.pad(stripe.value(), ((0, 0), (part.start, 0)))
        for part, stripe in zip(_stripes(d), moments.second, strict=True)
    ]
    xx, xy = jnp.split(jnp.concatenate(stripes), [d], 1)
    mean_x, mean_y = jnp.split(moments.mean.value(), [d])
    return Totals(
        rows=moments.rows.value(),
        weight=moments.weight.value(),
        mean_x=mean_x,
        mean_y=mean_y,
        xx=jnp.triu(xx) + jnp.triu(xx, 1).T,
        xy=xy,
        yy=moments.yy.value(),
    )


def _single(value: jax.Array) -> Pair:
    """A number as a pair."""
    return Pair(value, jnp.zeros_like(value))


def _stripes(d: int) -> list[slice]:
    """Rows of a symmetric matrix [d, d] that are multiplied at a time.

    Four stripes need 10/16 of the multiplications of all.
    """
    step = max(_STRIPE, -(-d // _STRIPES))
    return [slice(i, min(i + step, d)) for i in range(0, d, step)]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b for [B, I] and [B, O]."""
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jax.lax.dot_general(
        a, b, (((0,), (0,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
