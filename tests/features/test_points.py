"""Farthest points, neighbourhoods and interpolation against loops in float64.

Clouds of whole numbers have exact distances, with many ties.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import distances, points

SHAPES = [(1, 1), (3, 32), (2, 33), (1, 200)]


def clouds(seed, batch, n, kind="real", columns=3):
    rng = np.random.default_rng(seed)
    if kind == "grid":
        return rng.integers(-2, 3, (batch, n, columns)).astype(np.float32)
    return rng.normal(size=(batch, n, columns)).astype(np.float32)


def squared(a, b):
    return ((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).sum(
        -1
    )


def farthest(cloud, n, start):
    """One cloud, point by point."""
    distance, chosen = np.full(len(cloud), 1e10), [start]
    while len(chosen) < n:
        distance = np.minimum(distance, squared(cloud, cloud[chosen[-1]]))
        chosen.append(int(np.argmax(distance)))
    return chosen


def ball(cloud, centroid, radius, n):
    away = squared(cloud, centroid)
    found = [i for i in range(len(cloud)) if away[i] <= radius**2][:n]
    found = found or [int(np.argmin(away))]
    return found + [found[0]] * (n - len(found))


def nearest(cloud, centroid, n):
    away = squared(cloud, centroid)
    return sorted(range(len(cloud)), key=lambda i: (away[i], i))[:n]


# Farthest points.


@pytest.mark.parametrize("batch, n", SHAPES)
@pytest.mark.parametrize("kind", ["real", "grid"])
def test_farthest_points_are_the_loop(batch, n, kind):
    x = clouds(n, batch, n, kind)
    start = np.arange(batch) * 7 % n
    idx = points.farthest_points(x, n, start=start)
    assert idx.shape == (batch, n) and idx.dtype == jnp.int32
    expected = [farthest(c, n, s) for c, s in zip(x, start, strict=True)]
    np.testing.assert_array_equal(idx, expected)


def test_the_first_of_equally_far_points_is_taken():
    # The corners of a square, twice, around its centre.
    corners = [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    x = np.array([[[0, 0], *corners, *corners]], np.float32)
    idx = points.farthest_points(x, 5, start=0)
    # Every corner is as far from the centre, and no other is nearer.
    np.testing.assert_array_equal(idx, [[0, 1, 2, 3, 4]])
    again = points.farthest_points(x[:, ::-1], 5, start=8)
    np.testing.assert_array_equal(again, [[8, 0, 1, 2, 3]])


def test_clouds_of_one_place_repeat_their_first_point():
    idx = points.farthest_points(jnp.ones((1, 4, 3)), 4, start=2)
    np.testing.assert_array_equal(idx, [[2, 0, 0, 0]])


def test_distances_start_at_1e10():
    # From 3e5 both others are beyond 1e5 units, so the first is taken.
    x = np.array([[[0.0], [2e5], [1e6]]], np.float32)
    idx = points.farthest_points(x, 2, start=1)
    assert idx[0, 1] == 0 and farthest(x[0], 2, 1)[1] == 0


def test_one_start_serves_all_clouds_or_each_has_its_own(key):
    x = clouds(0, 4, 40)
    one = points.farthest_points(x, 9, start=3)
    np.testing.assert_array_equal(
        one, points.farthest_points(x, 9, start=jnp.full(4, 3))
    )
    drawn = jax.random.randint(key, (4,), 0, 40)
    idx = points.farthest_points(x, 9, start=drawn)
    np.testing.assert_array_equal(idx[:, 0], drawn)


def test_farthest_points_move_and_grow_with_the_cloud():
    x = clouds(1, 2, 60)
    idx = points.farthest_points(x, 20, start=0)
    # Powers of two round nothing.
    np.testing.assert_array_equal(
        idx, points.farthest_points(4 * x, 20, start=0)
    )
    order = np.random.default_rng(0).permutation(60)
    moved = points.farthest_points(
        x[:, order], 20, start=int(np.argwhere(order == 0)[0, 0])
    )
    np.testing.assert_array_equal(order[np.asarray(moved)], idx)
    # A shorter list is the beginning of a longer one.
    np.testing.assert_array_equal(
        idx[:, :7], points.farthest_points(x, 7, start=0)
    )


# Balls.


@pytest.mark.parametrize("batch, n", SHAPES)
@pytest.mark.parametrize("kind", ["real", "grid"])
@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0])
def test_a_ball_query_is_the_loop(batch, n, kind, radius, k=36):
    x = clouds(n, batch, n, kind)
    centroids = np.concatenate([x[:, :3], clouds(n + 1, batch, 4, kind)], 1)
    idx = points.ball_query(radius, k, x, centroids)
    assert idx.dtype == jnp.int32
    expected = [
        [ball(cloud, c, radius, k) for c in row]
        for cloud, row in zip(x, centroids, strict=True)
    ]
    np.testing.assert_array_equal(idx, expected)


def test_the_edge_belongs_to_the_ball():
    x = np.array([[3.0, 4.0], [3.0, 4.001], [0.0, -5.0]], np.float32)
    idx = points.ball_query(5.0, 3, x, np.zeros((1, 2)))
    np.testing.assert_array_equal(idx, [[0, 2, 0]])


@pytest.mark.parametrize("radius", [1e-6, 1e-3])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1000.0])
def test_a_centroid_is_always_in_its_ball(radius, offset):
    """deplm T12: |a|^2 + |b|^2 - 2ab loses it."""
    x = clouds(2, 2, 500) + np.float32(offset)
    idx = np.asarray(points.ball_query(radius, 4, x, x))
    np.testing.assert_array_equal(points.group(x, idx[..., 0]), x)


def test_an_empty_ball_has_the_nearest_point():
    x = clouds(3, 2, 70)
    centroids = np.concatenate([x[:, :2], x[:, :3] + np.float32(50)], 1)
    idx = np.asarray(points.ball_query(0.5, 5, x, centroids))
    for cloud, row, found in zip(x, centroids, idx, strict=True):
        for c, k in zip(row[2:], found[2:], strict=True):
            assert {*k.tolist()} == {*nearest(cloud, c, 1)}
    full = points.ball_query(0.5, 5, x, centroids[:, :2])
    np.testing.assert_array_equal(idx[:, :2], full)


def test_a_radius_may_be_mapped_over():
    x = clouds(4, 1, 50)[0]
    radii = jnp.array([0.2, 1.0, 3.0])
    mapped = jax.vmap(lambda r: points.ball_query(r, 6, x, x))(radii)
    for r, idx in zip(radii, mapped, strict=True):
        np.testing.assert_array_equal(idx, points.ball_query(r, 6, x, x))
    counts = [len(np.unique(idx)) for idx in mapped]
    assert len({*counts}) == 3


@pytest.mark.parametrize("radius", [1e18, 1e30])
def test_a_huge_ball_holds_the_points_alone(radius):
    """65 points need three words, the last of which is nearly empty."""
    x = clouds(5, 1, 65)
    idx = points.ball_query(jnp.float32(radius), 65, x, x)
    np.testing.assert_array_equal(
        idx, np.broadcast_to(np.arange(65), (1, 65, 65))
    )


# Nearest, group, interpolate.


@pytest.mark.parametrize("batch, n", SHAPES)
@pytest.mark.parametrize("kind", ["real", "grid"])
def test_the_nearest_are_those_of_the_sort(batch, n, kind):
    x, centroids = clouds(n, batch, n, kind), clouds(9, batch, 6, kind)
    # Beyond 128 they are sorted, below they are found one after the other.
    for k in {min(3, n), n}:
        idx, d2 = points.nearest(k, x, centroids)
        expected = [
            [nearest(cloud, c, k) for c in row]
            for cloud, row in zip(x, centroids, strict=True)
        ]
        np.testing.assert_array_equal(idx, expected)
        away = squared(points.group(x, idx), centroids[:, :, None])
        np.testing.assert_allclose(d2, away, rtol=1e-6, atol=1e-12)


def test_blocks_of_centroids_join(monkeypatch):
    x, centroids = clouds(0, 2, 30), clouds(1, 2, 17)
    whole = points.nearest(3, x, centroids)[0]
    monkeypatch.setattr(distances, "_BLOCK", 4 * 2 * 30)
    jax.clear_caches()
    np.testing.assert_array_equal(points.nearest(3, x, centroids)[0], whole)


def test_group_takes_rows():
    x = clouds(6, 2, 9, columns=4)
    idx = np.random.default_rng(0).integers(0, 9, (2, 3, 5))
    for chosen in (idx[:, :, 0], idx):
        taken = points.group(x, chosen)
        expected = np.stack([x[b][chosen[b]] for b in range(2)])
        np.testing.assert_array_equal(taken, expected)
    np.testing.assert_array_equal(points.group(x[0], idx[0]), x[0][idx[0]])
    grad = jax.grad(lambda x: points.group(x, idx).sum())(jnp.asarray(x))
    counts = [np.bincount(i.ravel(), minlength=9) for i in idx]
    np.testing.assert_array_equal(grad[..., 0], counts)


@pytest.mark.parametrize("n", [1, 2, 20])
def test_interpolation_is_the_weighted_mean(n):
    src, dst, feats = clouds(7, 2, n), clouds(8, 2, 11), clouds(9, 2, n)
    found = points.interpolate(dst, src, feats)
    expected = np.zeros((2, 11, 3))
    for b, s in np.ndindex(2, 11):
        idx = nearest(src[b], dst[b, s], 3)
        weight = 1 / (squared(src[b, idx], dst[b, s]) + 1e-8)
        expected[b, s] = weight @ feats[b, idx] / weight.sum()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    if n == 1:
        copied = np.broadcast_to(feats, (2, 11, 3))
        np.testing.assert_array_equal(found, copied)


def test_interpolation_at_a_source_is_its_feature():
    x, feats = clouds(10, 2, 30), clouds(11, 2, 30, columns=6)
    np.testing.assert_allclose(
        points.interpolate(x, x, feats), feats, atol=1e-5
    )
    same = points.interpolate(x + np.float32(9), x, jnp.ones((2, 30, 1)))
    np.testing.assert_allclose(same, 1, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 12])
def test_the_gradient_of_an_interpolation_is_finite(n):
    src = jnp.asarray(clouds(12, 1, n))
    dst = jnp.concatenate([src, src + 1e-6, src + 1.0], 1)
    feats = jnp.asarray(clouds(13, 1, n))

    def value(dst, src, feats):
        return jnp.sum(points.interpolate(dst, src, feats) ** 2)

    grads = jax.grad(value, argnums=(0, 1, 2))(dst, src, feats)
    assert all(np.isfinite(g).all() for g in grads)
    assert np.abs(grads[2]).max() > 0


def test_the_gradient_of_an_interpolation_is_the_slope():
    src, feats = jnp.asarray(clouds(14, 1, 8)), jnp.asarray(clouds(15, 1, 8))
    dst = jnp.asarray(clouds(16, 1, 5))
    along = jnp.asarray(clouds(17, 1, 5))

    def value(dst):
        return jnp.sum(points.interpolate(dst, src, feats))

    h = 1e-2
    slope = (value(dst + h * along) - value(dst - h * along)) / (2 * h)
    exact = jnp.sum(jax.grad(value)(dst) * along)
    np.testing.assert_allclose(slope, exact, rtol=2e-2)


def test_the_gradient_of_squared_distances():
    x, c = jnp.asarray(clouds(18, 1, 9)[0]), jnp.asarray(clouds(19, 1, 2)[0])
    grad = jax.grad(lambda c: points.nearest(2, x, c)[1].sum())(c)
    idx = points.nearest(2, x, c)[0]
    expected = 2 * (c[:, None] - x[idx]).sum(1)
    np.testing.assert_allclose(grad, expected, rtol=1e-5)


# What all operators have in common.

OPERATORS = {
    "farthest": lambda x, c: points.farthest_points(x, 6, start=2),
    "ball": lambda x, c: points.ball_query(0.8, 5, x, c),
    "nearest": lambda x, c: points.nearest(4, x, c),
    "group": lambda x, c: points.group(x, points.ball_query(0.8, 3, x, c)),
    "interpolate": lambda x, c: points.interpolate(c, x, x * x),
}
operators = pytest.mark.parametrize("name", OPERATORS)


def assert_same(one, two):
    """Indices exactly, numbers to rounding."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jnp.integer):
            np.testing.assert_array_equal(a, b)
        else:
            a, b = a.astype(jnp.float32), b.astype(jnp.float32)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@operators
def test_jit_and_vmap_change_nothing(name):
    f = OPERATORS[name]
    x, c = clouds(0, 2, 45, "grid"), clouds(1, 2, 7, "grid") * np.float32(2)

    @jax.jit
    def ways(x, c):
        loop = [f(a, b) for a, b in zip(x, c, strict=True)]
        deep = jax.tree.map(lambda a: a[0], f(x[None], c[None]))
        rows = jax.tree.map(lambda *rows: jnp.stack(rows), *loop)
        return f(x, c), jax.vmap(f)(x, c), rows, deep

    eager = f(x, c)
    for found in ways(x, c):
        assert_same(eager, found)


@operators
def test_new_values_compile_nothing(name, compilations):
    f = OPERATORS[name]
    x, c = (jnp.asarray(clouds(s, 2, n)) for s, n in ((0, 20), (1, 4)))
    f(x, c)
    others = x * 2, c * 2
    with compilations() as names:
        f(*others)
    assert not names


def test_a_new_start_and_radius_compile_nothing(compilations):
    x = jnp.asarray(clouds(0, 2, 20))
    points.farthest_points(x, 3, start=0)
    points.ball_query(0.5, 3, x, x)
    with compilations() as names:
        points.farthest_points(x, 3, start=7)
        points.ball_query(0.25, 3, x, x)
    assert not names


@operators
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_narrow_numbers_are_widened_first(name, dtype):
    x, c = (jnp.asarray(clouds(s, 2, 30, "grid")) for s in (0, 1))
    half = OPERATORS[name]((x / 4).astype(dtype), (c / 4).astype(dtype))
    x, c = ((a / 4).astype(dtype).astype(jnp.float32) for a in (x, c))
    full = OPERATORS[name](x, c)
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(full), strict=True):
        if name in ("group", "interpolate"):
            assert a.dtype == dtype
            b = b.astype(dtype)
        wide = a.astype(jnp.float32), b.astype(jnp.float32)
        np.testing.assert_array_equal(*wide)


@operators
def test_a_gradient_through_an_operator_is_finite(name):
    def value(x, c):
        found = OPERATORS[name](x, c)
        return sum(
            jnp.sum(a.astype(jnp.float32)) for a in jax.tree.leaves(found)
        )

    x, c = (jnp.asarray(clouds(s, 1, n)) for s, n in ((0, 20), (1, 4)))
    grads = jax.jit(jax.grad(value, argnums=(0, 1)))(x, c * 5)
    assert all(np.isfinite(g).all() for g in grads)


def test_traced_nan_gives_indices_in_range():
    x = jnp.full((1, 40, 3), jnp.nan)
    for name in ("farthest", "ball", "nearest"):
        found = jax.tree.leaves(jax.jit(OPERATORS[name])(x, x))[0]
        assert (found >= 0).all() and (found < 40).all()


X = np.zeros((2, 8, 3), np.float32)
BAD = np.full((2, 8, 3), np.nan, np.float32)
MISUSES = {
    "n is 9": lambda: points.farthest_points(X, 9, start=0),
    "n is 0": lambda: points.farthest_points(X, 0, start=0),
    "whole number, got 2.5": lambda: points.farthest_points(X, 2.5, start=0),
    "start is 8": lambda: points.farthest_points(X, 2, start=8),
    "start is -1": lambda: points.farthest_points(X, 2, start=[0, -1]),
    "start must be whole": lambda: points.farthest_points(X, 2, start=0.5),
    "clouds must agree": lambda: points.farthest_points(X, 2, start=[0, 1, 2]),
    "points holds 48 NaN": lambda: points.farthest_points(BAD, 2, start=0),
    r"shape \(3,\)": lambda: points.farthest_points(X[0, 0], 2, start=0),
    "must be an array": lambda: points.farthest_points("abc", 2, start=0),
    "points must be an array": lambda: points.nearest(1, [[1], [2, 3]], X),
    "points holds 1 NaN": lambda: jax.jit(
        lambda r: points.ball_query(r, 2, np.array([[0, np.nan]]), X[0, :, :2])
    )(0.1),
    "is complex": lambda: points.farthest_points(X + 1j, 2, start=0),
    "n is -1": lambda: points.ball_query(0.1, -1, X, X),
    r"radius is 0.0": lambda: points.ball_query(0.0, 2, X, X),
    r"radius is -1": lambda: points.ball_query(-1, 2, X, X),
    "radius is nan": lambda: points.ball_query(np.nan, 2, X, X),
    "radius must be a number": lambda: points.ball_query("a", 2, X, X),
    r"radius has shape \(2,\)": lambda: points.ball_query(np.ones(2), 2, X, X),
    "centroids holds": lambda: points.ball_query(0.1, 2, X, BAD),
    r"points has \(2, 3\) and centroids has \(2, 2\)": lambda: (
        points.ball_query(0.1, 2, X, X[..., :2])
    ),
    r"centroids has \(1, 3\)": lambda: points.nearest(2, X, X[:1]),
    "take all of them": lambda: points.nearest(9, X, X),
    "N >= 1": lambda: points.nearest(1, X[:, :0], X),
    "idx is 8": lambda: points.group(X, np.full((2, 1), 8)),
    "idx is -1": lambda: points.group(X, np.full((2, 1), -1)),
    "whole numbers": lambda: points.group(X, np.zeros((2, 1))),
    "leading axes must agree": lambda: points.group(X, np.zeros((3, 1), int)),
    "feats_src has": lambda: points.interpolate(X, X, X[:, :5]),
    "points_src has": lambda: points.interpolate(X, X[:1], X),
    "feats_src holds": lambda: points.interpolate(X, X, BAD),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
