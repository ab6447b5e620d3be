"""Mutual information beside numpy, scikit-learn and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from jaxedge.core import UsageError
from jaxedge.learn import information

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
RHO = 0.8
TRUE = -np.log(1 - RHO**2) / 2


def related(n, rho=RHO, seed=0):
    """Two numbers with a correlation, [n, 1] each, in float32."""
    x, e = np.random.default_rng(seed).normal(size=(2, n, 1))
    return np.float32(x), np.float32(rho * x + np.sqrt(1 - rho**2) * e)


X, Y = related(3000)


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log(p)).sum()


def by_numpy(x, y, bins, ends, corrected):
    """Entropies of histograms, each with the correction of its own."""
    counts = np.histogram2d(x.ravel(), y.ravel(), bins, ends)[0]
    parts = counts.sum(1), counts.sum(0), counts

    def h(c):
        return entropy(c) + corrected * ((c > 0).sum() - 1) / (2 * counts.sum())

    return h(parts[0]) + h(parts[1]) - h(parts[2])


# Histograms.


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(
    "bins, ends", [(16, ((-5, 5), (-5, 5))), (7, ((-6.1, 4.9), (-5, 8)))]
)
def test_the_histogram_is_that_of_numpy(bins, ends, corrected):
    found = information.histogram(
        X, Y, bins=bins, range=ends, corrected=corrected
    )
    assert found.shape == () and found.dtype == jnp.float32
    want = by_numpy(X, Y, bins, ends, corrected)
    np.testing.assert_allclose(found, want, atol=2e-6)


def test_tables_with_a_known_information():
    x = np.arange(64) % 8
    told = functools.partial(
        information.histogram, bins=8, range=(0, 7), corrected=False
    )
    # Each number once with every other, and each only with its own.
    np.testing.assert_allclose(told(x, np.arange(64) // 8), 0, atol=1e-7)
    np.testing.assert_allclose(told(x, 7 - x), np.log(8), rtol=1e-6)
    assert told(x, 0 * x) == 0
    ratio = functools.partial(information.normalised, bins=8, range=(0, 7))
    np.testing.assert_allclose(ratio(x, np.arange(64) // 8), 1, rtol=1e-6)
    np.testing.assert_allclose(ratio(x, (3 * x + 1) % 8), 2, rtol=1e-6)
    assert ratio(0 * x, 0 * x) == 1 == ratio(x, 0 * x)


def test_the_correction_takes_the_bias_off(key):
    """Two independent numbers of 4 values, n = 100, in the mean of 400.

    2 n I has the law of chi^2 with 9 degrees: a mean of .045 and a deviation
    of sqrt(18) / 200, of the mean of 400 thus .00106. What the correction
    leaves is (sum 1 / p_xy - sum 1 / p_x - sum 1 / p_y + 1) / 12 n^2 = .0019.
    """
    x, y = jax.random.randint(key, (2, 400, 100), 0, 4)

    @jax.jit
    @jax.vmap
    def both(x, y):
        told = functools.partial(
            information.histogram, x, y, bins=4, range=(0, 3)
        )
        return told(corrected=False), told()

    plain, corrected = (np.mean(v) for v in both(x, y))
    assert abs(plain - 0.045) < 4 * 0.00106 + 0.0025
    assert abs(corrected) < 4 * 0.00106 + 0.0025


def test_normalised_is_that_of_numpy():
    found = information.normalised(X, Y, bins=12, range=(-5, 5))
    counts = np.histogram2d(X[:, 0], Y[:, 0], 12, [(-5, 5)] * 2)[0]
    parts = counts.sum(1), counts.sum(0), counts
    h_x, h_y, h_xy = map(entropy, parts)
    np.testing.assert_allclose(found, (h_x + h_y) / h_xy, rtol=1e-5)


def test_traced_values_outside_count_in_the_end_bins():
    def told(x, low):
        ends = ((low, 4.0), (-5.0, 5.0))
        return information.histogram(x, Y, bins=6, range=ends)

    want = told(np.clip(X, -1, 4), -1.0)
    np.testing.assert_allclose(jax.jit(told)(X, -1.0), want, rtol=1e-5)


# Gaussians.


def by_determinants(x, y):
    x, y = np.float64(x), np.float64(y)
    log_det = lambda a: np.linalg.slogdet(np.cov(a.T).reshape(2 * a.shape[1:]))  # noqa: E731
    both = np.concatenate([x, y], 1)
    return (log_det(x)[1] + log_det(y)[1] - log_det(both)[1]) / 2


def several(n=80):
    x = RNG.normal(size=(n, 4)) * 10 ** np.linspace(-3, 3, 4) + 2000
    y = RNG.normal(size=(n, 3))
    y[:, 0] += (x[:, 0] - 2000) * 2000
    y[:, 1] -= (x[:, 3] - 2000) / 500
    return np.float32(x), np.float32(y)


def test_gaussian_information_of_a_known_correlation():
    """The deviation is rho / sqrt(n) and the bias 1 / 2n, n = 3000."""
    found = information.gaussian(X, Y)
    assert found.shape == () and found.dtype == jnp.float32
    assert abs(found - TRUE) < 4 * RHO / np.sqrt(3000) + 1 / 6000
    np.testing.assert_allclose(found, by_determinants(X, Y), atol=2e-6)


def test_gaussian_information_is_that_of_determinants():
    x, y = several()
    want = by_determinants(x, y)
    assert want > 0.5
    found = information.gaussian(x, y)
    np.testing.assert_allclose(found, want, rtol=1e-4)
    np.testing.assert_allclose(information.gaussian(y, x), found, rtol=1e-4)
    # Mixed within, with features that the others determine.
    more = np.concatenate([y, y[:, :1] - y[:, 1:2], 0 * y[:, :1] + 7], 1)
    found = information.gaussian(x, more)
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_gaussian_information_of_nearly_the_same():
    """1 - rho^2 of 1e-8 is no number beside 1 in float32."""
    x = np.float32(RNG.normal(size=(200, 2)))
    y = np.float32(x @ [[1, 2], [3, -1.0]] + 1e-4 * RNG.normal(size=(200, 2)))
    want = by_determinants(x, y)
    assert want > 16
    np.testing.assert_allclose(information.gaussian(x, y), want, rtol=1e-3)
    # Without noise at all, and of constants.
    told, slope = jax.value_and_grad(information.gaussian)(x, 2 * x)
    assert 2 * 12 < told < 2 * 16 and np.isfinite(slope).all()
    told, slope = jax.value_and_grad(information.gaussian)(x, 0 * x)
    assert told == 0 and np.isfinite(slope).all()


def test_the_slope_of_gaussian_information():
    x, y = several()
    slopes = jax.grad(information.gaussian, (0, 1))(x, y)
    steps = [RNG.normal(size=a.shape) * a.std(0) for a in (x, y)]
    found = sum(
        (np.float64(s) * t).sum() for s, t in zip(slopes, steps, strict=True)
    )
    ends = [
        by_determinants(x + s * steps[0], y + s * steps[1])
        for s in (1e-5, -1e-5)
    ]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-5, rtol=1e-3)


# Neighbours.


def by_counting(x, y, k):
    """Equation 8, sample by sample."""
    x, y, n = np.float64(x), np.float64(y), len(x)
    total = 0.0
    for i in range(n):
        apart = [np.abs(a - a[i]).max(1) for a in (x, y)]
        others = np.arange(n) != i
        reach = np.sort(np.maximum(*apart)[others])[k - 1]
        total += sum(digamma((a[others] < reach).sum() + 1) for a in apart)
    return digamma(k) + digamma(n) - total / n


@pytest.mark.parametrize("k", [1, 3, 7])
def test_knn_is_that_of_scikit_learn(k):
    """Which scales to unit variance and takes 0 for what is below."""
    x, y = (a / a.std() for a in related(900))
    want = mutual_info_regression(x, y[:, 0], n_neighbors=k, random_state=0)
    np.testing.assert_allclose(information.knn(x, y, k), want, atol=1e-4)


@pytest.mark.parametrize("k", [2, 5])
def test_knn_of_several_features(k, monkeypatch):
    monkeypatch.setattr(information.samples, "_BLOCK", 1000)
    x = np.float32(RNG.normal(size=(150, 3)))
    y = np.float32(x[:, :2] + 0.5 * RNG.normal(size=(150, 2)))
    found = information.knn(x, y, k)
    np.testing.assert_allclose(found, by_counting(x, y, k), atol=1e-5)
    np.testing.assert_allclose(information.knn(y, x, k), found, atol=1e-5)


def test_knn_of_known_laws():
    """The mean of 30 sets of n = 200: 4 of its errors, as they are found."""
    for rho in (0.0, RHO):
        x, y = (a.reshape(30, 200, 1) for a in related(6000, rho, seed=1))
        found = np.asarray(jax.jit(jax.vmap(information.knn))(x, y))
        error = found.std(ddof=1) / np.sqrt(30)
        assert error < 0.02
        # The bias at n = 200 is of the order of k / n = .015.
        assert abs(found.mean() + np.log(1 - rho**2) / 2) < 4 * error + 0.015


# Transformations and errors.


ESTIMATES = {
    "histogram": functools.partial(
        information.histogram, bins=6, range=(-6, 6)
    ),
    "normalised": functools.partial(
        information.normalised, bins=6, range=(-6, 6)
    ),
    "gaussian": information.gaussian,
    "knn": information.knn,
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_transformations(name, compilations):
    estimate = ESTIMATES[name]
    x, y = X[:120].reshape(2, 60, 1), Y[:120].reshape(2, 60, 1)

    @jax.jit
    def each(x, y):
        slope = jax.grad(lambda a: jnp.sum(jax.vmap(estimate)(a, y)))(x)
        return jax.vmap(estimate)(x, y), slope

    found, slope = each(x, y)
    for i in range(2):
        alone = estimate(x[i], y[i])
        np.testing.assert_allclose(found[i], alone, rtol=1e-4, atol=1e-6)
    assert np.isfinite(slope).all() and slope.any() == (name == "gaussian")
    with compilations() as names:
        each(y, x)
        estimate(y[0], x[1])
    assert not names
    half = jnp.asarray(x[0], jnp.bfloat16)
    assert estimate(half, half).dtype == jnp.float32


NAN = np.where(np.arange(len(X))[:, None] == 9, np.nan, X)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda f: f(X, Y, bins=1, range=(-9, 9)), "bins is 1"),
        (lambda f: f(X, Y, bins=8, range=(9, -9)), "the low end of range is 9"),
        (lambda f: f(X, Y, bins=8, range=(0, np.inf)), "range is inf"),
        (lambda f: f(X, Y, bins=8, range=(1, 2, 3)), r"range has shape \(3,\)"),
        (lambda f: f(X, Y, bins=8, range=(-1, 9)), "x_N is -"),
        (lambda f: f(X, Y, bins=8, range=((-9, 9), (0, 9))), "y_N is -"),
        (lambda f: f(X, Y[:9], bins=8, range=(-9, 9)), r"y_N \(9, 1\)"),
        (lambda f: f(X[:1], Y[:1], bins=8, range=(-9, 9)), "x_N has 1 rows"),
        (lambda f: f(NAN, Y, bins=8, range=(-9, 9)), "x_N holds 1 NaN"),
        (lambda f: information.gaussian(X, Y[:9]), "y_NxG 9, but"),
        (lambda f: information.gaussian(X[:2], Y[:2]), "but 3 at least"),
        (lambda f: information.gaussian(NAN, Y), "x_NxF holds 1 NaN"),
        (lambda f: information.gaussian(X[:, 0], Y), "x_NxF has shape"),
        (lambda f: information.knn(X[:3], Y[:3]), "has 3 rows, but 4"),
        (lambda f: information.knn(X, Y, 0), "k is 0"),
        (lambda f: information.knn(X, NAN), "y_NxG holds 1 NaN"),
    ],
)
@pytest.mark.parametrize(
    "f", [information.histogram, information.normalised], ids=["h", "n"]
)
def test_what_is_wrong_is_named(f, wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong(f)
