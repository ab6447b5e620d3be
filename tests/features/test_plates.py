"""Features of plates against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import plates

pytestmark = pytest.mark.usefixtures("compile_quickly")


def photos(shape=(3, 96, 96, 3), seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def by_hand(x):
    """Both maps of one photo [H, W, 3] part by part, not rounded."""
    x = np.asarray(x, np.float64)
    high, low = x.max(-1), x.min(-1)
    saturation = np.zeros_like(high)
    np.divide(high - low, high, out=saturation, where=high > 0)
    luma = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    gradient = np.hypot(*np.gradient(luma))
    rows, columns = x.shape[0] // 8, x.shape[1] // 8
    found = []
    for a, scale in ((saturation, 0.6), (gradient, 0.12)):
        for i in range(8):
            for j in range(8):
                part = a[i * rows : (i + 1) * rows, j * columns :][:, :columns]
                found.append(min(part.mean() / scale, 1))
    return np.array(found)


@pytest.mark.parametrize("shape", [(2, 96, 96, 3), (1, 16, 24, 3), (32, 16, 3)])
@pytest.mark.parametrize("amount", [1.0, 0.1])
def test_maps_are_the_loops(shape, amount):
    x = photos(shape) * amount + (1 - amount) / 2
    got = plates.maps(x, bits=None)
    assert got.shape == (*shape[:-3], 128) and got.dtype == jnp.float32
    expected = [by_hand(one) for one in x.reshape(-1, *shape[-3:])]
    expected = np.reshape(expected, got.shape)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    rounded = plates.maps(x)
    np.testing.assert_allclose(rounded, np.round(got * 15) / 15, atol=1e-6)


def test_a_photo_without_colour_or_edges_has_no_features():
    for level in (0.0, 0.5, 1.0):
        x = np.full((16, 16, 3), level, np.float32)
        # The weights of a colour add up to 1 but for rounding.
        np.testing.assert_allclose(plates.maps(x, bits=None), 0, atol=1e-6)


def test_levels_are_those_of_shares():
    image = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    shares = image.astype(np.float32) / 255
    got = plates.of_pixels(image)
    np.testing.assert_array_equal(got, plates.maps(shares))
    levels = np.asarray(got, np.float64) * 15
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-5)


def test_transformations():
    """jit and vmap give the same, half precision its dtype, slopes numbers."""
    x = photos((2, 16, 16, 3))
    expected = plates.maps(x)
    np.testing.assert_allclose(jax.jit(plates.maps)(x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(plates.maps)(x), expected, atol=1e-6)
    half = plates.maps(jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    # Black, grey, and equal neighbours are where slopes could be none.
    for photo in (x[0], np.zeros((16, 16, 3)), np.full((16, 16, 3), 0.5)):
        slope = jax.grad(lambda a: plates.maps(a).sum())(jnp.float32(photo))
        assert np.isfinite(slope).all()


def test_the_slope_is_that_of_the_unrounded_maps():
    x = 0.5 + 0.05 * photos((16, 16, 3))
    slopes = [
        jax.grad(lambda a, bits=bits: plates.maps(a, bits=bits).sum())(x)
        for bits in (4, None)
    ]
    np.testing.assert_allclose(*slopes, atol=1e-6)
    # Of one pixel, by differences in float64.
    for at in ((3, 4, 0), (0, 0, 1), (9, 15, 2)):
        step = np.zeros_like(x, np.float64)
        step[at] = 1e-6
        rise = by_hand(x + step).sum() - by_hand(x - step).sum()
        np.testing.assert_allclose(slopes[0][at], rise / 2e-6, rtol=1e-3)


def test_turned_features_are_those_of_turned_photos():
    x = photos((16, 16, 3))
    seen = [
        np.rot90(photo, turn) for photo in (x, x[:, ::-1]) for turn in range(4)
    ]
    expected = [plates.maps(photo.copy()) for photo in seen]
    got = plates.turned(plates.maps(x))
    # A turned sum of a part may round to the next level.
    assert got.shape == (8, 128)
    assert np.mean(np.abs(got - np.stack(expected)) > 1e-6) < 0.01
    np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((16, 16, 4), np.float32), r"\(16, 16, 4\).*96 x 96"),
        (np.zeros((20, 16, 3), np.float32), "multiples of 8"),
        (np.zeros((8, 8, 3), np.float32), "at least 16"),
        (np.zeros(3, np.float32), r"H, W, 3"),
        (np.zeros((16, 16, 3), np.uint8), "x / 255"),
        (np.full((16, 16, 3), 255, np.float32), "x is 255"),
        (np.full((16, 16, 3), np.nan, np.float32), "x is nan"),
    ],
)
def test_no_photos(x, message):
    with pytest.raises(UsageError, match=message):
        plates.maps(x)


def test_other_bad_input():
    x = np.zeros((16, 16, 3), np.float32)
    with pytest.raises(UsageError, match="bits is 9"):
        plates.maps(x, bits=9)
    with pytest.raises(UsageError, match="must be uint8"):
        plates.of_pixels(x)
    with pytest.raises(UsageError, match=r"\[..., 128\]"):
        plates.turned(np.zeros((2, 64)))
