"""Subsets that are built one sample at a time.

Every function here takes one group of samples, some of them `free` to be
chosen, and gives the picks in their order, so that a smaller subset is a prefix
of a larger one; of equal gains the first sample is picked. A step costs
O(M D), and no M x M matrix exists. All are safe under jit and vmap; once no
sample is free, sample 0 follows.

Letters: M samples, V validation samples, K classes, D features, n picks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

RATE = 0.1  # of `glister`: that of its training in DeepCore
RIDGE = 1.0  # of `matching_pursuit`, as in DeepCore
# Gains that `facility_location` computes at a time: at first, and again.
_FIRST, _AGAIN = 64, 16


class LastLayer(NamedTuple):
    """Gradients of the loss by the last layer, as outer products.

    That of sample i is error_i inputs_i^T [K, D + 1], which is never formed:
    an inner product of two is that of the errors times that of the inputs.

    Attributes:
        error: softmax - onehot [M, K].
        inputs: features and a 1 for the bias [M, D + 1].
    """

    error: jax.Array
    inputs: jax.Array

    def rows(self, index: jax.Array) -> "LastLayer":
        """Those of some samples, or of one."""
        return LastLayer(self.error[index], self.inputs[index])

    def square(self) -> jax.Array:
        """Squared norms [M]."""
        return jnp.sum(self.error**2, -1) * jnp.sum(self.inputs**2, -1)

    def inner(self, other: "LastLayer") -> jax.Array:
        """Inner products with others [R], or with one: [M, R] or [M]."""
        return _times(self.error, other.error.T) * _times(
            self.inputs, other.inputs.T
        )

    def along(self, slope: jax.Array) -> jax.Array:
        """Inner products with a matrix [K, D + 1]: [M]."""
        return jnp.sum(self.error * _times(self.inputs, slope.T), -1)

    def sum(self, present: jax.Array) -> jax.Array:
        """Their sum over some samples [K, D + 1]."""
        error = jnp.where(present[:, None], self.error, 0)
        return _times(error.T, self.inputs)


def squared_distance(rows: jax.Array, row: jax.Array) -> jax.Array:
    """|a - b|^2 of rows [M, D] to one [D]."""
    return jnp.sum((rows - row[None]) ** 2, axis=-1)


def divergence(rows: jax.Array, row: jax.Array) -> jax.Array:
    """Half of KL(p, q) + KL(q, p), in nats, of log p [M, K] to one log q [K].

    The pairwise contextual diversity (arXiv:2008.05723, of whole images).
    """
    apart = (jnp.exp(rows) - jnp.exp(row)[None]) * (rows - row[None])
    return jnp.sum(apart, axis=-1) / 2


def k_center(
    rows: jax.Array,
    free: jax.Array,
    start: ArrayLike,
    n: int,
    distance: Callable[[jax.Array, jax.Array], jax.Array] = squared_distance,
) -> jax.Array:
    """Each the farthest from those before it (arXiv:1708.00489).

    Args:
        rows: [M, D].
        free: bool [M].
        start: the first pick, a free sample.
        n: picks.
        distance: (rows [M, D], row [D]) -> [M].

    Returns:
        int32 [n].
    """

    def step(state, _):
        near, free, pick = state
        near = jnp.minimum(near, distance(rows, rows[pick]))
        free = free.at[pick].set(False)
        return (near, free, _best(near, free)), pick

    near = jnp.full(free.shape, jnp.inf, rows.dtype)
    begin = near, free, jnp.asarray(start, jnp.int32)
    return jax.lax.scan(step, begin, length=n)[1]


def herding(rows: jax.Array, free: jax.Array, n: int) -> jax.Array:
    """Each brings the mean of the picks nearest to that of all free samples.

    The greedy matching of moments of Welling, ICML 2009, without repetition.
    (DeepCore's code takes the farthest.)

    Args:
        rows: features [M, D].
        free: bool [M].
        n: picks.

    Returns:
        int32 [n].
    """
    counted = jnp.where(free[:, None], rows, 0)
    rows = rows - (jnp.sum(counted, axis=0) / jnp.sum(free))[None]
    square = jnp.sum(rows**2, axis=-1)

    def step(state, _):
        held, free = state
        # |held + row|^2, but for what is the same of all.
        pick = _best(-square - 2 * _times(rows, held), free)
        return (held + rows[pick], free.at[pick].set(False)), pick

    return jax.lax.scan(step, (jnp.zeros_like(rows[0]), free), length=n)[1]


def facility_location(g: LastLayer, free: jax.Array, n: int) -> jax.Array:
    """Each lowers most how far samples are from the nearest pick, in sum.

    CRAIG (Mirzasoleiman et al., ICML 2020): the greedy maximum of
    sum_i max_{j picked} (c - |g_i - g_j|), c any bound on the distances. A gain
    never grows as picks are added, so an old one is a bound and only the
    highest are computed again (Minoux 1978); the picks are those of plain
    greedy. Two samples that only help each other tie, so that rounding decides.

    Args:
        g: gradients of the M samples.
        free: bool [M]; only these are to be near, too.
        n: picks.

    Returns:
        int32 [n].
    """
    square = g.square()
    width = min(_AGAIN, free.size)
    wanted = free

    def distances(index):
        of = g.rows(index)
        apart = square[:, None] + of.square()[None] - 2 * g.inner(of)
        # The root of what rounding leaves of 0 would outweigh a near tie.
        itself = jnp.arange(square.size)[:, None] == index[None]
        return jnp.sqrt(jnp.where(itself, 0, jnp.maximum(apart, 0)))  # [M, R]

    def gains(near, index):
        saved = jnp.maximum(near[:, None] - distances(index), 0)
        return jnp.sum(jnp.where(wanted[:, None], saved, 0), axis=0)

    def step(state, _):
        near, bound, free, stale = state

        def unsettled(state):
            bound, stale = state
            return stale[jnp.argmax(bound)]

        def settle(state):
            bound, stale = state
            _, index = jax.lax.top_k(jnp.where(stale, bound, -jnp.inf), width)
            fresh = jnp.where(stale[index], gains(near, index), bound[index])
            return bound.at[index].set(fresh), stale.at[index].set(False)

        bound, _ = jax.lax.while_loop(unsettled, settle, (bound, stale))
        pick = jnp.argmax(bound).astype(jnp.int32)
        near = jnp.minimum(near, distances(pick[None])[:, 0])
        bound, free = bound.at[pick].set(-jnp.inf), free.at[pick].set(False)
        return (near, bound, free, free), pick

    far = 2 * jnp.sqrt(jnp.max(jnp.where(free, square, 0)))
    near = jnp.full(free.shape, far, square.dtype)
    bound = jax.lax.map(
        lambda i: gains(near, i[None])[0],
        jnp.arange(free.size),
        batch_size=min(_FIRST, free.size),
    )
    begin = near, jnp.where(free, bound, -jnp.inf), free, free & False
    return jax.lax.scan(step, begin, length=n)[1]


def matching_pursuit(
    g: LastLayer, free: jax.Array, n: int, ridge: ArrayLike = RIDGE
) -> jax.Array:
    """Each is most along what the picks leave of the mean gradient.

    GradMatch (arXiv:2103.00123): orthogonal matching pursuit of
    |mean - sum_j w_j g_j|^2 + ridge |w|^2, w solved anew at every pick, here by
    a Cholesky factor that grows by a column of length M. As in DeepCore, picks
    are by the largest inner product, not the largest magnitude.

    Args:
        g: gradients of the M samples.
        free: bool [M]; the mean is over these.
        n: picks.
        ridge: positive, unit of a squared gradient.

    Returns:
        int32 [n].
    """

    def step(state, k):
        factor, left, free = state
        pick = _best(left, free)
        # Of the inner products with the samples, each of which has one axis
        # of length sqrt(ridge) more: what is orthogonal to earlier picks.
        column = g.inner(g.rows(pick)) - _times(factor, factor[pick])
        length = jnp.sqrt(jnp.maximum(column[pick], 0) + ridge)
        column = (column / length).at[pick].set(length)
        left = left - column * (left[pick] / length)
        state = factor.at[:, k].set(column), left, free.at[pick].set(False)
        return state, pick

    left = g.along(g.sum(free)) / jnp.sum(free)
    factor = jnp.zeros((free.size, n), left.dtype)
    return jax.lax.scan(step, (factor, left, free), jnp.arange(n))[1]


class Validation(NamedTuple):
    """What `glister` lowers the loss of.

    Attributes:
        logits: [V, K].
        one_hot: labels [V, K].
        inputs: features and a 1 for the bias [V, D + 1].
        present: which samples count, bool [V].
    """

    logits: jax.Array
    one_hot: jax.Array
    inputs: jax.Array
    present: jax.Array


def glister(
    g: LastLayer,
    valid: Validation,
    free: jax.Array,
    n: int,
    rate: ArrayLike = RATE,
) -> jax.Array:
    """Each is most along the validation gradient after a step by the picks.

    GLISTER (arXiv:2012.10630) with the last layer alone: the logits move by
    -rate times the mean gradient of the picks, as in DeepCore, and the gain of
    a sample is the first-order fall of the validation loss. A step costs K
    times O((M + V) D).

    Args:
        g: gradients of the M samples.
        valid: the validation samples.
        free: bool [M].
        n: picks.
        rate: of the step, at least 0.

    Returns:
        int32 [n].
    """

    def step(state, k):
        moved, free = state
        logits = valid.logits - rate / jnp.maximum(k, 1) * moved
        error = jax.nn.softmax(logits) - valid.one_hot
        slope = LastLayer(error, valid.inputs).sum(valid.present)
        pick = _best(g.along(slope), free)
        of = g.rows(pick)
        moved += jnp.outer(_times(valid.inputs, of.inputs), of.error)
        return (moved, free.at[pick].set(False)), pick

    begin = jnp.zeros_like(valid.logits), free
    return jax.lax.scan(step, begin, jnp.arange(n))[1]


def _best(gain: jax.Array, free: jax.Array) -> jax.Array:
    """The first free sample of the highest gain."""
    return jnp.argmax(jnp.where(free, gain, -jnp.inf)).astype(jnp.int32)


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
