"""Geometry of point sets: sampling, neighbourhoods, interpolation.

The operators of PointNet++ (arXiv:1706.02413), as arXiv:2312.09262 uses them
(deplm 3). Letters: B clouds, or any number of leading axes, of N points with D
coordinates; S centroids, n neighbours, C features. A distance is the sum of
(a - b)^2 in at least float32, so that a point is at 0 from itself; |a|^2 +
|b|^2 - 2ab rounds that away (deplm T12). Two distances that are equal on paper,
as on a grid of pixels, may differ by rounding, and not the same way on every
device. Indices have no gradient.

How sets are made and changed is in `point_sets`, `events` and `augment`, whose
names are here too.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features import bits, distances, shapes
from jaxedge.features.augment import normalise as normalise
from jaxedge.features.augment import random_dropout as random_dropout
from jaxedge.features.augment import random_scale as random_scale
from jaxedge.features.augment import random_shift as random_shift
from jaxedge.features.events import SHORT as SHORT
from jaxedge.features.events import Events as Events
from jaxedge.features.events import from_events as from_events
from jaxedge.features.point_sets import MODES as MODES
from jaxedge.features.point_sets import from_cloud as from_cloud
from jaxedge.features.point_sets import from_image as from_image
from jaxedge.features.point_sets import from_mesh as from_mesh

_FARTHEST = 1e10  # The squared distance before any point is chosen (deplm 3).
_NEIGHBOURS, _EPSILON = 3, 1e-8  # of feature propagation (deplm 3)


def farthest_points(
    points: ArrayLike, n: int, *, start: ArrayLike
) -> jax.Array:
    """Indices of n points, each the farthest from those before it.

    The distance of a point is that to the nearest chosen one, and starts at
    1e10 squared units; of equal distances the first point is taken. Once every
    place is chosen, point 0 follows.

    Args:
        points: [..., N, D], finite, any unit.
        n: how many, 1 to N; a Python number.
        start: index of the first point, 0 to N - 1, one for all clouds or one
            a cloud [...]. The paper starts at random: draw it from a key, as
            `jax.random.randint(key, (B,), 0, N)`.

    Returns:
        int32 [..., n], the first of which is `start`.

    Raises:
        UsageError: for fewer points than n, a start that is none of them, NaN
            coordinates, or wrong shapes.
    """
    points = shapes.rows("points", points)
    checks.whole("n", n, 1)
    shapes.at_most(int(n), points.shape[-2], "take all of them")
    first = _start(start, points.shape)
    return _farthest(jax.lax.stop_gradient(points), first, int(n))


def ball_query(
    radius: ArrayLike, n: int, points: ArrayLike, centroids: ArrayLike
) -> jax.Array:
    """The first n points within a radius of each centroid.

    Those with d^2 <= radius^2 in the order of their index. Where there are
    fewer, the first found fills up; where there are none, which only a centroid
    that is no point can meet, the nearest point does.

    Args:
        radius: a positive number, unit of the points.
        n: how many, at least 1; a Python number, and may exceed N.
        points: [..., N, D], finite.
        centroids: [..., S, D], finite, same leading axes.

    Returns:
        int32 [..., S, n], each in [0, N).

    Raises:
        UsageError: for n below 1, a radius that is not a positive number, NaN
            coordinates, or shapes that do not agree.
    """
    points, centroids = _pair(points, centroids)
    checks.whole("n", n, 1)
    checks.in_range("radius", radius, 0, open_low=True)
    if jnp.ndim(radius):
        raise checks.UsageError(
            f"radius has shape {jnp.shape(radius)}, but must be one number;"
            " jax.vmap maps over several."
        )
    # In double precision for a Python number.
    squared = jnp.asarray(radius * radius, points.dtype)
    given = jax.lax.stop_gradient((squared, points, centroids))
    return _ball(*given, int(n))


def nearest(
    n: int, points: ArrayLike, centroids: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """The n nearest points of each centroid, nearest first.

    Args:
        n: how many, 1 to N; a Python number.
        points: [..., N, D], finite, any unit.
        centroids: [..., S, D], finite, same leading axes.

    Returns:
        Indices, int32 [..., S, n], of equal distances the lowest first; and
        squared distances [..., S, n], at least float32, differentiable.

    Raises:
        UsageError: for fewer points than n, NaN coordinates, or shapes that do
            not agree.
    """
    points, centroids = _pair(points, centroids)
    checks.whole("n", n, 1)
    shapes.at_most(int(n), points.shape[-2], "take all of them")
    return _nearest(points, centroids, int(n))


def group(values: ArrayLike, idx: ArrayLike) -> jax.Array:
    """The rows of `values` at some indices.

    Args:
        values: [..., N, C], such as points or features.
        idx: whole numbers [..., *K], same leading axes: [..., n] of
            `farthest_points` or [..., S, n] of `ball_query`, in [0, N).

    Returns:
        [..., *K, C], dtype of `values`; NaN where a traced index lies outside.

    Raises:
        UsageError: for an index outside [0, N) or that is no whole number, or
            leading axes that do not agree.
    """
    values, idx = jnp.asarray(values), jnp.asarray(idx)
    if values.ndim < 2 or not jnp.issubdtype(idx.dtype, jnp.integer):
        raise checks.UsageError(
            f"values has shape {values.shape} and idx dtype {idx.dtype}, but"
            " must be [..., N, C] and whole numbers."
        )
    lead = values.shape[:-2]
    shapes.same("leading axes", values=lead, idx=idx.shape[: len(lead)])
    checks.in_range("idx", idx, 0, values.shape[-2] - 1)
    return _group(values, idx)


def interpolate(
    points_dst: ArrayLike, points_src: ArrayLike, feats_src: ArrayLike
) -> jax.Array:
    """Features at other points, from those of the three nearest.

    sum_k w_k f_k / sum_k w_k with w_k = 1 / (d_k^2 + 1e-8) (deplm 3, feature
    propagation). Two sources are both used; a single one is copied.

    Args:
        points_dst: [..., S, D], finite, any unit; that of 1e-8 is its square.
        points_src: [..., N, D], finite, same leading axes.
        feats_src: [..., N, C].

    Returns:
        [..., S, C], dtype of `feats_src`. The gradient reaches the points and
        is finite where they coincide.

    Raises:
        UsageError: for NaN, or shapes that do not agree.
    """
    src, dst = _pair(points_src, points_dst, "points_src", "points_dst")
    feats = jnp.asarray(feats_src)
    wide = shapes.rows("feats_src", feats)
    shapes.same(
        "all axes but the last", points_src=src.shape[:-1],
        feats_src=feats.shape[:-1],
    )  # fmt: skip
    return mix(wide, *_shares(dst, src)).astype(feats.dtype)


def shares(
    points_dst: ArrayLike, points_src: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """What `interpolate` mixes, for many features of the same points.

    Args:
        points_dst: as in `interpolate`.
        points_src: likewise.

    Returns:
        Indices of the nearest sources, int32 [..., S, k] with k the lesser of
        3 and N; and their shares, at least float32 [..., S, k], of sum 1.

    Raises:
        UsageError: for NaN, or shapes that do not agree.
    """
    src, dst = _pair(points_src, points_dst, "points_src", "points_dst")
    return _shares(dst, src)


@jax.jit
def mix(feats: jax.Array, idx: jax.Array, shares: jax.Array) -> jax.Array:
    """Features [..., N, C] in the shares of `shares`, as [..., S, C]."""
    total = jnp.zeros((), feats.dtype)
    for k in range(idx.shape[-1]):
        total = total + shares[..., k, None] * _group(feats, idx[..., k])
    return total.astype(feats.dtype)


def _pair(
    points: Any, centroids: Any, name: str = "points", other: str = "centroids"
) -> tuple[jax.Array, jax.Array]:
    """Both as checked arrays of one dtype."""
    points = shapes.rows(name, points)
    centroids = shapes.rows(other, centroids)
    kept = [(*a.shape[:-2], a.shape[-1]) for a in (points, centroids)]
    shapes.same(
        "all axes but that of the points", **{name: kept[0], other: kept[1]}
    )
    dtype = jnp.promote_types(points.dtype, centroids.dtype)
    return points.astype(dtype), centroids.astype(dtype)


def _start(start: Any, shape: tuple[int, ...]) -> jax.Array:
    """`start` as int32, one a cloud."""
    start = start if isinstance(start, jax.Array) else np.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise checks.UsageError(f"start must be whole numbers, got {start!r}.")
    checks.in_range("start", start, 0, shape[-2] - 1)
    first = jnp.asarray(start, jnp.int32)
    if first.ndim:
        shapes.same("clouds", points=shape[:-2], start=first.shape)
    return jnp.broadcast_to(first, shape[:-2])


@functools.partial(jax.jit, static_argnames="n")
def _farthest(points: jax.Array, start: jax.Array, n: int) -> jax.Array:
    def nearer(distance, chosen):
        centre = _group(points, chosen[..., None])
        return jnp.minimum(
            distance, distances.squared(points, centre)[..., 0, :]
        )

    # What a step compares comes from memory, where it was rounded once.
    def step(distance, _):
        farthest = jnp.max(distance, axis=-1, keepdims=True)
        chosen = distances.first(distance == farthest)
        return nearer(distance, chosen), chosen

    distance = jnp.full(points.shape[:-1], _FARTHEST, points.dtype)
    _, found = jax.lax.scan(step, nearer(distance, start), length=n - 1)
    return jnp.concatenate([start[..., None], jnp.moveaxis(found, 0, -1)], -1)


@functools.partial(jax.jit, static_argnames="n")
def _ball(
    squared: jax.Array, points: jax.Array, centroids: jax.Array, n: int
) -> jax.Array:
    words = _inside(squared, points, centroids)
    idx, found = bits.first(words, n)

    def fill(state):
        empty, idx = state
        # What does not depend on the state is computed before the loop.
        lost = jnp.where(empty, centroids, 0)
        filled = jnp.where(empty, distances.search(points, lost, 1), idx)
        return jnp.zeros_like(empty), filled

    # No turn where no ball is empty; vmap would take both branches of a cond.
    empty = found == 0
    return jax.lax.while_loop(lambda s: jnp.any(s[0]), fill, (empty, idx))[1]


def _inside(
    squared: jax.Array, points: jax.Array, centroids: jax.Array
) -> jax.Array:
    """Which points lie in each ball, as bits: uint32 [..., S, N / 32].

    Packed as the distances are computed: the [..., S, N] of them never exist.
    """
    missing = [(0, 0)] * points.ndim
    missing[-2] = (0, -points.shape[-2] % bits.WORD)
    # In no ball, not even one whose squared radius is infinite in float32.
    points = jnp.pad(points, missing, constant_values=jnp.nan)
    return bits.pack(distances.squared(points, centroids) <= squared)


@functools.partial(jax.jit, static_argnames="n")
def _nearest(
    points: jax.Array, centroids: jax.Array, n: int
) -> tuple[jax.Array, jax.Array]:
    fixed = jax.lax.stop_gradient((points, centroids))
    idx = distances.search(*fixed, n)
    apart = _group(points, idx) - centroids[..., None, :]
    return idx, jnp.sum(apart * apart, axis=-1)


@jax.jit
def _group(values: jax.Array, idx: jax.Array) -> jax.Array:
    lead = values.ndim - 2
    flat = idx.reshape(*idx.shape[:lead], -1, 1)
    taken = jnp.take_along_axis(values, flat, axis=-2, mode="fill")
    return taken.reshape(*idx.shape, values.shape[-1])


@jax.jit
def _shares(dst: jax.Array, src: jax.Array) -> tuple[jax.Array, jax.Array]:
    idx, squared = _nearest(src, dst, min(_NEIGHBOURS, src.shape[-2]))
    if idx.shape[-1] == 1:  # A quotient of equals is rounded on some devices.
        return idx, jnp.ones_like(squared)
    weight = 1 / (squared + _EPSILON)
    return idx, weight / jnp.sum(weight, axis=-1, keepdims=True)
