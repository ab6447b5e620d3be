"""Normalising and augmenting clouds: laws, statistics, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import points

AUGMENTS = {
    "scale": points.random_scale,
    "shift": points.random_shift,
    "dropout": points.random_dropout,
}
augments = pytest.mark.parametrize("name", AUGMENTS)
CLOUDS = 2000  # Numbers drawn, from which tolerances are derived.


def clouds(batch, n=12, columns=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, n, columns)).astype(np.float32)


def is_uniform(numbers, low, high):
    """Within the range, and the distribution function within 5 deviations."""
    assert numbers.min() >= low and numbers.max() <= high
    place = np.sort((numbers.ravel() - low) / (high - low))
    even = (np.arange(place.size) + 0.5) / place.size
    # Kolmogorov: the largest gap is below 2.7 / sqrt(n) but for 1e-6.
    return np.abs(place - even).max() < 2.7 / np.sqrt(place.size)


def test_a_normalised_cloud_fills_the_unit_ball():
    x = clouds(5, columns=3) * 7 + np.float32(30)
    found = np.asarray(points.normalise(x), np.float64)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-5)
    radius = np.linalg.norm(found, axis=-1).max(1)
    np.testing.assert_allclose(radius, 1, rtol=1e-5)
    wide = x.astype(np.float64)
    wide -= wide.mean(1, keepdims=True)
    wide /= np.linalg.norm(wide, axis=-1).max(1)[:, None, None]
    np.testing.assert_allclose(found, wide, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(points.normalise)(x), found, atol=1e-6)


def test_a_cloud_of_one_place_is_normalised_to_zeros():
    x = jnp.full((4, 3), 2.5)
    np.testing.assert_array_equal(points.normalise(x), 0)
    slope = jax.grad(lambda x: points.normalise(x)[0, 0])(x)
    assert np.isfinite(slope).all()


def test_a_cloud_has_one_scale(key):
    x = clouds(CLOUDS)
    found = np.asarray(points.random_scale(key, x))
    factor = found[:, 0, :1] / x[:, 0, :1]
    expected = x.copy()
    expected[..., :3] *= factor[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found[..., 3:], x[..., 3:])
    assert is_uniform(factor, 0.8 - 1e-5, 1.25 + 1e-5)


def test_a_cloud_has_one_shift(key):
    x = clouds(CLOUDS)
    moved = np.asarray(points.random_shift(key, x)) - x
    np.testing.assert_array_equal(moved[..., 3:], 0)
    np.testing.assert_allclose(moved, moved[:, :1] + 0 * moved, atol=1e-6)
    step = moved[:, 0, :3]
    for axis in range(3):
        assert is_uniform(step[:, axis], -0.1 - 1e-6, 0.1 + 1e-6)
    # The axes are drawn apart.
    assert np.abs(np.corrcoef(step.T) - np.eye(3)).max() < 5 / CLOUDS**0.5


def test_dropped_rows_become_the_first(key):
    x = clouds(CLOUDS, n=64)
    found = np.asarray(points.random_dropout(key, x))
    kept = (found == x).all(-1)
    first = (found == x[:, :1]).all(-1)
    assert (kept | first).all() and kept[:, 0].all()
    share = 1 - kept[:, 1:].mean(1)
    # Mean of U(0, .875); its variance, and that of 63 draws each.
    deviation = np.sqrt((0.875**2 / 12 + 0.25 / 63) / CLOUDS)
    assert abs(share.mean() - 0.4375) < 5 * deviation
    assert share.var() == pytest.approx(
        0.875**2 / 12 + (0.4375 - 0.875**2 / 3) / 63, rel=0.15
    )


def test_the_numbers_of_an_augmentation_are_arguments(key, compilations):
    x = jnp.asarray(clouds(3))
    scale = jax.jit(points.random_scale)
    shift = jax.jit(points.random_shift)
    drop = jax.jit(points.random_dropout)
    scale(key, x, 0.5, 2.0), shift(key, x, 0.3), drop(key, x, 0.5)
    with compilations() as names:
        scale(key, x, 0.25, 3.0), shift(key, x, 0.0), drop(key, x, 0.0)
    assert not names
    np.testing.assert_array_equal(shift(key, x, 0.0), x)
    np.testing.assert_array_equal(drop(key, x, 0.0), x)
    # All but the first row go where every chance is near one.
    many = drop(key, jnp.asarray(clouds(50)), 1.0)
    assert np.unique(np.asarray(many)[..., 0]).size < 50 * 12 * 0.7


def test_columns_say_what_is_the_point(key):
    x = clouds(2, columns=4)
    for f in (points.random_scale, points.random_shift):
        found = np.asarray(f(key, x, columns=2))
        np.testing.assert_array_equal(found[..., 2:], x[..., 2:])
        assert (found[..., :2] != x[..., :2]).all()


@augments
def test_augmentations_are_jitted_mapped_and_repeatable(name, key):
    f, x = AUGMENTS[name], jnp.asarray(clouds(4))
    found = f(key, x)
    assert found.shape == x.shape and found.dtype == x.dtype
    np.testing.assert_array_equal(f(key, x), found)
    np.testing.assert_allclose(jax.jit(f)(key, x), found, rtol=1e-6, atol=1e-7)
    keys = jax.random.split(key, 4)
    loop = [f(k, c) for k, c in zip(keys, x, strict=True)]
    np.testing.assert_allclose(jax.vmap(f)(keys, x), loop, rtol=1e-6, atol=1e-7)
    assert np.any(f(keys[0], x) != found)
    slope = jax.grad(lambda x: f(key, x).sum())(x)
    assert np.isfinite(slope).all() and np.any(slope)
    half = f(key, x.astype(jnp.bfloat16))
    np.testing.assert_allclose(half, found, rtol=1e-2, atol=2e-2)


X, KEY = clouds(2), jax.random.key(0)
MISUSES = {
    "low is 0.9 and high is 0.9": lambda: points.random_scale(KEY, X, 0.9, 0.9),
    r"low is 0, but must lie in \(0": lambda: points.random_scale(KEY, X, 0),
    "columns is 0": lambda: points.random_scale(KEY, X, columns=0),
    "with C >= 7": lambda: points.random_shift(KEY, X, columns=7),
    "reach is -0.1": lambda: points.random_shift(KEY, X, -0.1),
    "most is 1.5": lambda: points.random_dropout(KEY, X, 1.5),
    "points holds": lambda: points.random_dropout(KEY, X * np.nan),
    r"points has shape \(6,\)": lambda: points.normalise(X[0, 0]),
    "key must come from": lambda: points.random_scale(X, X),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
