"""Samples that are spread over the pool, by their gradients or features.

The gradients of the last layer are outer products, `LastLayer`, and are never
formed. All are safe under jit and vmap.

Letters: N samples, M labelled samples, K classes, D features, n picks, Q
clusters.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.learn.coreset import greedy
from jaxedge.learn.coreset.greedy import LastLayer

TURNS = 100  # of k-means at most
_BLOCK = 128  # samples that are compared with all others at a time


def gradients(logits: jax.Array, features: jax.Array) -> LastLayer:
    """(softmax - onehot(argmax)) h^T of every sample (BADGE, arXiv:1906.03671).

    Weights alone, as in the authors' code; all scaled by one number, so that
    no square leaves the range of the format.

    Args:
        logits: [N, K].
        features: h, what the last layer is fed [N, D].
    """
    one_hot = jax.nn.one_hot(
        jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=logits.dtype
    )
    error = jax.nn.softmax(logits) - one_hot
    return LastLayer(error / _largest(error), features / _largest(features))


def _squared_distances(
    g: LastLayer, length: jax.Array, pick: jax.Array
) -> jax.Array:
    """Of gradients to that of one sample [N], exactly 0 to a copy of it.

    a h^T - b k^T is (a - b) k^T + a (h - k)^T, whose two parts are small where
    the whole is. Only one sum over D is taken, as that is all of the time.

    Args:
        g: gradients of the N samples.
        length: |h|^2 [N].
        pick: the one sample.
    """
    of = g.rows(pick)
    away = g.error - of.error[None]
    apart = greedy.squared_distance(g.inputs, of.inputs)
    along = length - length[pick] - apart  # 2 k (h - k)
    far = jnp.sum(g.error**2, -1) * apart + jnp.sum(away**2, -1) * length[pick]
    return jnp.maximum(far + jnp.sum(g.error * away, -1) * along, 0)


class Picks(NamedTuple):
    """Samples in the order of their picks.

    Attributes:
        index: int32 [n].
        new: whether a pick differs from all before it, bool [n].
    """

    index: jax.Array
    new: jax.Array


def plus_plus(g: LastLayer, start: jax.Array, noise: jax.Array) -> Picks:
    """Each drawn by its squared distance from the nearest of those before it.

    The seeding of k-means++ (Arthur and Vassilvitskii, SODA 2007). Once all
    that are left equal a pick, the first of them follows.

    Args:
        g: gradients of the N samples.
        start: the first pick.
        noise: uniform random numbers in [0, 1), one a pick; the first is not
            used [n].
    """

    def step(state, noise):
        near, free, pick = state
        new = near[pick] > 0
        far = _squared_distances(g, length, pick)
        near, free = jnp.minimum(near, far), free.at[pick].set(False)
        following = _drawn(jnp.where(free, near, 0), free, noise)
        return (near, free, following), Picks(pick, new)

    length = jnp.sum(g.inputs**2, axis=-1)
    near = jnp.full(length.shape, jnp.inf, length.dtype)
    begin = near, jnp.ones(near.shape, bool), jnp.asarray(start, jnp.int32)
    return jax.lax.scan(step, begin, jnp.roll(noise, -1))[1]


@jax.jit
def badge(logits: jax.Array, features: jax.Array, noise: jax.Array) -> Picks:
    """`plus_plus` of `gradients` from the longest (arXiv:1906.03671).

    Args:
        logits: [N, K].
        features: [N, D].
        noise: uniform random numbers [n].
    """
    g = gradients(logits, features)
    return plus_plus(g, jnp.argmax(g.square()), noise)


@functools.partial(jax.jit, static_argnames="n")
def core_set(features: jax.Array, labelled: jax.Array, n: int) -> jax.Array:
    """Each the farthest from the labelled samples and those before it.

    The greedy k-centre of arXiv:1708.00489, begun from what is labelled.

    Args:
        features: [N, D].
        labelled: features of labelled samples [M, D].
        n: picks.

    Returns:
        int32 [n].
    """
    scale = jnp.maximum(_largest(features), _largest(labelled))
    features, labelled = features / scale, labelled / scale
    near = _nearest(features, labelled)

    def distance(rows, row):
        return jnp.minimum(near, greedy.squared_distance(rows, row))

    free = jnp.ones(near.shape, bool)
    return greedy.k_center(features, free, jnp.argmax(near), n, distance)


class Clusters(NamedTuple):
    """The state of k-means.

    Attributes:
        centres: means of gradients [Q, K, D].
        labels: the nearest centre of every sample, int32 [N].
        moved: whether a label changed, bool [].
        turns: int32 [].
    """

    centres: jax.Array
    labels: jax.Array
    moved: jax.Array
    turns: jax.Array


@jax.jit
def clusters(
    logits: jax.Array, features: jax.Array, noise: jax.Array
) -> jax.Array:
    """The clusters of `gradients` by k-means, seeded by `plus_plus`.

    Lloyd's turns until no label changes, `TURNS` at most. A turn takes
    O(N Q K D). Copies of a seed make no cluster of their own; one that loses
    all its samples keeps its centre.

    Args:
        logits: [N, K].
        features: [N, D].
        noise: uniform random numbers in [0, 1), the first of which draws the
            first seed [Q].

    Returns:
        Labels in [0, Q), int32 [N].
    """
    g = gradients(logits, features)
    size = len(g.error)
    start = jnp.minimum((noise[0] * size).astype(jnp.int32), size - 1)
    seeds, new = plus_plus(g, start, noise)
    of = g.rows(seeds)
    centres = of.error[:, :, None] * of.inputs[:, None, :]

    def turn(state):
        centres = _centres(g, state.labels, state.centres)
        labels = _labels(g, centres, new)
        moved = jnp.any(labels != state.labels)
        return Clusters(centres, labels, moved, state.turns + 1)

    labels, true = _labels(g, centres, new), jnp.asarray(True)
    begin = Clusters(centres, labels, true, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(
        lambda state: state.moved & (state.turns < TURNS), turn, begin
    ).labels


def _labels(g: LastLayer, centres: jax.Array, new: jax.Array) -> jax.Array:
    """The nearest centre of every sample, the first of equally near ones."""
    square = jnp.where(new, jnp.sum(centres**2, axis=(1, 2)), jnp.inf)

    def one(rows):
        along = jnp.sum(_times(centres, rows.inputs) * rows.error[None], -1)
        return jnp.argmin(square - 2 * along).astype(jnp.int32)

    return jax.lax.map(one, g, batch_size=min(_BLOCK, len(g.error)))


def _centres(g: LastLayer, labels: jax.Array, old: jax.Array) -> jax.Array:
    def add(total, sample):
        label, of = sample
        row = of.error[:, None] * of.inputs[None]
        return total.at[label].add(row), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(old), (labels, g))
    counts = jnp.bincount(labels, length=len(old))[:, None, None]
    return jnp.where(counts > 0, total / jnp.maximum(counts, 1), old)


def _nearest(rows: jax.Array, others: jax.Array) -> jax.Array:
    """The squared distance of every row to the nearest of the others [N]."""
    middle = jnp.mean(others, axis=0, keepdims=True)
    centred = others - middle
    square = jnp.sum(centred**2, axis=-1)

    def one(row):
        # Which one is by products, in which near distances cancel; how far it
        # is, is not.
        along = _times(centred, row - middle[0])
        which = jnp.argmin(square - 2 * along)
        return jnp.sum((row - others[which]) ** 2)

    return jax.lax.map(one, rows, batch_size=min(_BLOCK, len(rows)))


def _drawn(weight: jax.Array, free: jax.Array, noise: jax.Array) -> jax.Array:
    """A free sample with a probability by weight; the first if all are 0."""
    some = weight > 0
    below = jnp.cumsum(weight)
    # Sums in another order may round, so weights of 0 are left out by name.
    reached = some & (below > noise * below[-1])
    last = weight.size - 1 - jnp.argmax(some[::-1])
    pick = jnp.where(jnp.any(reached), jnp.argmax(reached), last)
    return jnp.where(jnp.any(some), pick, jnp.argmax(free)).astype(jnp.int32)


def _largest(rows: jax.Array) -> jax.Array:
    """The largest magnitude, 1 if all are 0; []."""
    most = jnp.max(jnp.abs(rows))
    return jnp.where(most > 0, most, 1)


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
