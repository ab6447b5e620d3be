"""Wasserstein distances against scipy, assignments and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from jaxedge.core import UsageError
from jaxedge.learn import wasserstein

pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture
def double():
    """JAX with float64, for one test."""
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Distances on a line.


def sets(n, m, seed=0):
    """Numbers with ties, and weights of which some are 0."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(0.5, 2, m)
    x[: n // 2] = x[0]
    y[: m // 3] = x[0]
    u, v = rng.uniform(0, 3, n), rng.uniform(0, 3, m)
    u[1::4] = v[1::3] = 0
    return x, y, u, v


@pytest.mark.parametrize("n, m", [(40, 40), (17, 40), (9, 1)])
def test_exact_1d_is_that_of_scipy(n, m, double):
    x, y, u, v = sets(n, m)
    one_side = (u, None) if n > m else (None, v)
    for of_x, of_y in [(None, None), (u, v if n > 9 else None), one_side]:
        found = wasserstein.exact_1d(x, y, x_weights=of_x, y_weights=of_y)
        expected = stats.wasserstein_distance(x, y, of_x, of_y)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def assigned(x, y, p):
    """The best of all assignments of one set to another as large."""
    cost = abs(x[:, None] - y[None]) ** p
    return cost[optimize.linear_sum_assignment(cost)].mean() ** (1 / p)


@pytest.mark.parametrize("p", [1, 1.5, 2, 5])
def test_exact_1d_is_the_best_assignment(p):
    x, y, _, _ = sets(8, 12)
    u, v = np.arange(8) % 3, 1 + np.arange(12) % 2
    # Sets as large: each sample several times.
    equal = x, np.resize(y, 8)
    many = x.repeat(3), y.repeat(2)
    weighted = x.repeat(u * 18), y.repeat(v * 7)
    for found, expected in [
        (wasserstein.exact_1d(*equal, p=p), assigned(*equal, p)),
        (wasserstein.exact_1d(x, y, p=p), assigned(*many, p)),
        (
            wasserstein.exact_1d(x, y, p=p, x_weights=u, y_weights=v),
            assigned(*weighted, p),
        ),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_shift_is_as_far_as_it_goes_at_any_scale():
    x = draw(50)
    for scale in (1e-12, 1.0, 1e12):
        for other in (x + 3, np.concatenate([x, x]) + 3):
            found = wasserstein.exact_1d(scale * x, scale * other, p=9)
            np.testing.assert_allclose(found, 3 * scale, rtol=1e-5)
    assert wasserstein.exact_1d([0, 1, 3], [5, 6, 8]) == 5
    assert wasserstein.exact_1d(x, x[::-1], p=2) == 0


def test_single_precision_is_enough_for_many_samples():
    x, y, u, v = sets(3000, 5000)
    given = {"x_weights": u, "y_weights": v}
    np.testing.assert_allclose(
        wasserstein.exact_1d(x, y, **given),
        stats.wasserstein_distance(x, y, u, v),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        wasserstein.exact_1d(x, y), stats.wasserstein_distance(x, y), rtol=1e-5
    )


def test_distances_have_gradients(double):
    x, y, u, v = sets(6, 9)
    x = x + np.arange(6)  # No ties, which have no derivative.

    def distance(x, u, p):
        return wasserstein.exact_1d(x, y, p=p, x_weights=u, y_weights=v)

    both = jax.jit(jax.grad(distance, (0, 1)))
    for p in (1.0, 2.0):
        by_x, by_u = both(x, u, p)
        for found, i in ((by_x, 0), (by_u, 1)):
            step = np.zeros((2, 6))
            for place in (0, 2, 4):
                step[:] = 0
                step[i, place] = 1e-6
                up, down = (
                    powered(x + s * step[0], y, u + s * step[1], v, p)
                    for s in (1, -1)
                )
                expected = (up - down) / 2e-6
                np.testing.assert_allclose(found[place], expected, atol=1e-7)
    # Equal sets: nothing to gain, and no NaN.
    same = jax.grad(lambda x: wasserstein.exact_1d(x, y, p=2.0))(y)
    np.testing.assert_array_equal(same, 0)


def powered(x, y, u, v, p):
    """W_p by an integral over all levels between jumps, in float64."""
    x, u, y, v = x[x.argsort()], u[x.argsort()], y[y.argsort()], v[y.argsort()]
    ends_x, ends_y = u.cumsum() / u.sum(), v.cumsum() / v.sum()
    ends = np.sort(np.concatenate([[0], ends_x, ends_y]))
    middle, wide = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    i = np.minimum(np.searchsorted(ends_x, middle), len(x) - 1)
    j = np.minimum(np.searchsorted(ends_y, middle), len(y) - 1)
    return (wide * abs(x[i] - y[j]) ** p).sum() ** (1 / p)


def test_distances_under_transformations(compilations):
    x, y = draw(3, 6), draw(3, 9, seed=1)
    one = functools.partial(wasserstein.exact_1d, p=2.0)
    mapped = jax.jit(jax.vmap(one))(x, y)
    loop = [one(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(mapped, loop, rtol=1e-5)
    with compilations() as names:
        wasserstein.exact_1d(y[0][:6], x[0][:6].repeat(2)[:9], p=1)
    assert not names


# Distances over random lines.


def test_one_dimension_is_a_line(key):
    x, y = draw(20), draw(30, seed=1)
    for p in (1, 2):
        found = wasserstein.sliced(
            key, x[:, None], y[:, None], projections=9, p=p
        )
        expected = wasserstein.exact_1d(x, y, p=p)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_the_power_of_a_sliced_distance_is_unbiased(p, key):
    """Two points d apart are |t d| apart along a direction of first part t."""
    f, few, n = 6, 3, 5000
    x, y = np.zeros((1, f)), np.full((1, f), 2.0)
    d = 2 * np.sqrt(f)
    one = functools.partial(wasserstein.sliced, x_NxF=x, y_MxF=y, p=p)
    of = jax.jit(jax.vmap(functools.partial(one, projections=few)))
    found = np.float64(of(jax.random.split(key, n)))
    second = 1 / f  # E t^2; E |t| by the beta law of t^2.
    first = special.gamma(f / 2) / special.gamma((f + 1) / 2) / np.sqrt(np.pi)
    mean = d**p * (second if p == 2 else first)
    limit = 5 * (found**p).std() / np.sqrt(n)
    assert abs((found**p).mean() - mean) < limit < 0.05 * mean
    # The root alone is too low.
    if p == 2:
        assert found.mean() < np.sqrt(mean) - 5 * found.std() / np.sqrt(n)
    # Many directions at once: a standard error falls with their number.
    many = one(key, projections=few * n)
    assert abs(many**p - mean) < limit


def test_a_sliced_distance_is_the_mean_of_those_along_lines(key):
    """Against distances of scipy on the directions that the key draws."""
    x, y = draw(11, 3), draw(16, 3, seed=1) + 1
    along = np.float64(jax.random.normal(key, (5, 3)))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    expected = np.mean(
        [stats.wasserstein_distance(x @ t, y @ t) for t in along]
    )
    given = {"projections": 5, "p": 1}
    found = wasserstein.sliced(key, x, y, **given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found, wasserstein.sliced(key, x, y, **given))
    assert found != wasserstein.sliced(jax.random.key(1), x, y, **given)
    assert wasserstein.sliced(key, x, x[::-1]) < 1e-6


def test_sliced_gradients_are_finite_and_shrink_the_distance(key):
    x, y = draw(11, 3), draw(11, 3, seed=1)
    both = jax.jit(
        jax.value_and_grad(functools.partial(wasserstein.sliced, key))
    )
    before, slope = both(x, y)
    after, _ = both(x - np.float32(0.1) * slope, y)
    assert after < before
    value, slope = both(x, x)
    assert value == 0 and np.all(slope == 0)


# Input.

ONES, LINE = np.ones((5, 7)), np.ones(4)


def far(*given, key=None, **more):
    key = jax.random.key(0) if key is None else key
    return wasserstein.sliced(key, *given, **more)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda w: w.exact_1d(ONES, LINE), r"x_N .*must be \[N\]"),
        (lambda w: w.exact_1d(LINE, LINE[:0]), "y_M has shape"),
        (lambda w: w.exact_1d(LINE, LINE * np.nan), "y_M holds 4 NaN"),
        (lambda w: w.exact_1d(LINE, 1j * LINE), "real numbers"),
        (lambda w: w.exact_1d(LINE, LINE, p=0.5), "p is 0.5"),
        (
            lambda w: w.exact_1d(LINE, LINE, x_weights=LINE[:2]),
            "x_weights has shape",
        ),
        (lambda w: w.exact_1d(LINE, LINE, y_weights=-LINE), "y_weights is -1"),
        (lambda w: w.exact_1d(LINE, LINE, y_weights=0 * LINE), "are all 0"),
        (lambda w: far(ONES, ONES[:, :3]), "7 features and y_MxF 3"),
        (lambda w: far(ONES, LINE), r"must be \[M, F\]"),
        (lambda w: far(ONES, ONES, projections=0), "projections is 0"),
        (lambda w: far(ONES, ONES, p=0), "p is 0"),
        (lambda w: far(ONES, ONES, key=3), "jax.random.key"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call(wasserstein)


def test_known_weights_are_checked_under_jit():
    weights = np.zeros(4)
    with pytest.raises(UsageError, match="x_weights are all 0"):
        jax.jit(lambda x: wasserstein.exact_1d(x, x, x_weights=weights))(LINE)
