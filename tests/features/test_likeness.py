"""Likeness of images against scipy's windows and numpy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxedge.core import UsageError
from jaxedge.features import likeness

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, H, W, C = 3, 29, 24, 2
MEASURES = {
    "mae": likeness.mae,
    "psnr": functools.partial(likeness.psnr, span=2.0),
    "ssim": functools.partial(likeness.ssim, span=2.0),
    "ms_ssim": functools.partial(
        likeness.ms_ssim, span=2.0, weights=(0.3, 0.7), window=7
    ),
}


def pictures(shape=(B, H, W, C), noise=0.2):
    """Smooth images in [-1, 1], the others like them, less so one by one."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2, 0))
    x = np.tanh(4 * smooth)
    more = noise * np.arange(1, shape[0] + 1).reshape(-1, 1, 1, 1)
    y = np.clip(x + more * rng.normal(size=shape), -1, 1)
    return x.astype(np.float32), y.astype(np.float32)


X, Y = pictures()


def by_scipy(x, y, span=2.0, window=11, sigma=1.5, k1=0.01, k2=0.03):
    """Maps of both factors of one channel, by filters over padded images."""
    x, y = np.float64(x), np.float64(y)
    i = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(i**2) / (2 * sigma**2))
    weights /= weights.sum()
    low, high = window // 2, window - 1 - window // 2

    def blur(a):
        for axis in (0, 1):
            a = ndimage.correlate1d(a, weights, axis)
        return a[low : len(a) - high, low : a.shape[1] - high]

    mx, my = blur(x), blur(y)
    sxy = blur(x * y) - mx * my
    sx, sy = blur(x * x) - mx**2, blur(y * y) - my**2
    c1, c2 = (k1 * span) ** 2, (k2 * span) ** 2
    level = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return level, (2 * sxy + c2) / (sx + sy + c2)


def ssim_by_scipy(x, y, **how):
    maps = [
        [np.prod(by_scipy(a[..., c], b[..., c], **how), 0) for c in range(C)]
        for a, b in zip(x, y, strict=True)
    ]
    return np.mean(maps, axis=(1, 2, 3))


def ms_ssim_by_scipy(x, y, weights, **how):
    """Each channel alone; 2 x 2 means by a filter and every second of it."""

    def halved(a):
        a = ndimage.uniform_filter(np.float64(a), 2, origin=-1)
        return a[: len(a) // 2 * 2 : 2, : a.shape[1] // 2 * 2 : 2]

    def one(a, b):
        product = 1.0
        for scale, weight in enumerate(weights):
            level, contrast = by_scipy(a, b, **how)
            if scale == len(weights) - 1:
                contrast = contrast * level
            product *= max(contrast.mean(), 0) ** weight
            a, b = halved(a), halved(b)
        return product

    return np.array(
        [
            np.mean([one(a[..., c], b[..., c]) for c in range(a.shape[-1])])
            for a, b in zip(x, y, strict=True)
        ]
    )


def test_error_and_decibels():
    apart = np.float64(X) - np.float64(Y)
    want = np.abs(apart).mean((1, 2, 3))
    np.testing.assert_allclose(likeness.mae(X, Y), want, rtol=1e-5)
    want = 10 * np.log10(4 / (apart**2).mean((1, 2, 3)))
    np.testing.assert_allclose(likeness.psnr(X, Y, span=2), want, rtol=1e-5)
    # Levels apart by one tenth of the span: 20 dB, however wide that is.
    for span in (1e-25, 255.0, 1e30):
        y = jnp.full((1, 2, 2, 1), span / 10)
        found = likeness.psnr(y, jnp.zeros_like(y), span=span)
        np.testing.assert_allclose(found, [20], rtol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"span": 1.0},
        {"window": 7},
        {"window": 8, "sigma": 2.5},
        {"window": 24, "sigma": 0.8, "k1": 0.1, "k2": 0.2},
    ],
)
def test_ssim_is_that_of_scipy(how):
    found = likeness.ssim(X, Y, **{"span": 2.0, **how})
    want = ssim_by_scipy(X, Y, **how)
    assert found.shape == (B,) and found.dtype == jnp.float32
    # Less alike one after the other, so that the order of a batch shows.
    assert want[0] > want[1] > want[2]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_ssim_does_not_lose_small_contrast_on_a_high_level():
    """As of tomographs: air at -1000, and little contrast around 1000.

    x^2 - mean^2 would lose 1e6 * 2^-24 = .06 of variances of 4e-3.
    """
    x, y = (1000 + 0.1 * a for a in (X, Y))
    want = ssim_by_scipy(x, y, span=0.2)
    found = likeness.ssim(x, y, span=0.2)
    # One pixel is rounded by 2^-15, of deviations of about .06 beside C1 = 0.
    np.testing.assert_allclose(found, want, atol=1e-3)


@pytest.mark.parametrize(
    "weights, size",
    [
        (likeness.WEIGHTS, (1, 176, 179, 1)),
        (likeness.WEIGHTS[:3], (2, 47, 44, 2)),
        ((1.0,), (B, H, W, C)),
    ],
)
def test_ms_ssim_is_that_of_scipy(weights, size):
    x, y = pictures(size)
    found = likeness.ms_ssim(x, y, span=2.0, weights=weights)
    want = ms_ssim_by_scipy(x, y, weights)
    assert found.shape == (len(x),) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, want, atol=1e-5)
    if len(weights) == 1 and size[-1] == C:
        once = likeness.ssim(x, y, span=2.0)
        np.testing.assert_allclose(found, once, atol=1e-6)


def test_contrast_below_0_counts_as_0():
    """An image and its negative: covariances are below 0 at every scale."""

    def value(x):
        return MEASURES["ms_ssim"](x, -X).sum()

    found, slope = jax.value_and_grad(value)(X)
    assert found == 0 and not slope.any()
    # One of two scales is enough, whatever the other one is.
    pixel = np.indices((16, 16)).sum(0) % 2 - 0.5
    smooth = np.linspace(-1, 1, 16)[None] * np.ones((16, 1))
    x, y = (
        np.float32(smooth + s * pixel)[None, ..., None] for s in (0.9, -0.9)
    )
    measure = MEASURES["ms_ssim"]
    assert ms_ssim_by_scipy(x, y, (0.3, 0.7), window=7) == 0
    assert measure(x, y) == 0
    halves = (a.reshape(1, 8, 2, 8, 2, 1).mean((2, 4)) for a in (x, y))
    coarse = likeness.ssim(*halves, span=2.0, window=7)
    np.testing.assert_allclose(coarse, [1], atol=1e-5)


def test_equal_images():
    flat = jnp.full((1, H, W, 1), 0.3)
    for x in (X, flat, flat * 0):
        assert (MEASURES["mae"](x, x) == 0).all()
        assert (MEASURES["psnr"](x, x) == jnp.inf).all()
        assert (MEASURES["ssim"](x, x) == 1).all()
        assert (MEASURES["ms_ssim"](x, x) == 1).all()


@pytest.mark.parametrize("name", MEASURES)
def test_transformations(name, compilations):
    measure = MEASURES[name]

    @jax.jit
    def all_of_it(x, y):
        each = jax.vmap(lambda a, b: measure(a[None], b[None])[0])(x, y)
        slopes = jax.grad(lambda a: measure(a, y).sum())(x)
        same = jax.grad(lambda a: measure(a, x).sum())(x)
        return measure(x, y), each, slopes, same

    whole, each, slopes, same = all_of_it(X, Y)
    np.testing.assert_allclose(whole, measure(X, Y), rtol=1e-5)
    np.testing.assert_allclose(each, whole, rtol=1e-5)
    assert np.isfinite(slopes).all() and slopes.any()
    assert np.isfinite(same).all() and np.abs(same).max() < 1e-5
    # Along the slope the measure changes by its square, in float64.
    if name == "ssim":
        step = 1e-4 * np.float64(slopes) / np.linalg.norm(slopes)
        ends = [ssim_by_scipy(X + s * step, Y).sum() for s in (1, -1)]
        along = np.linalg.norm(np.float64(slopes))
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-4, along, rtol=1e-3)
    with compilations() as names:
        all_of_it(Y, X)
    assert not names


def test_numbers_may_be_traced_and_do_not_compile_anew(compilations):
    def both(sigma, span):
        return likeness.ssim(X, Y, span=span, sigma=sigma)

    both(1.5, 2.0)
    with compilations() as names:
        found = both(1.2, 1.0)
    assert not names
    np.testing.assert_allclose(
        found, ssim_by_scipy(X, Y, sigma=1.2, span=1.0), atol=1e-5
    )
    traced = jax.jit(both)(1.2, 1.0)
    np.testing.assert_allclose(traced, found, atol=1e-6)


def test_narrow_types():
    """Computed in float32, of what bfloat16 left of the images."""
    x, y = (jnp.asarray(a, jnp.bfloat16) for a in (X, Y))
    wide = (np.float32(x), np.float32(y))
    for measure in MEASURES.values():
        found = measure(x, y)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, measure(*wide), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: likeness.mae(X[0], Y[0]), r"x has shape \(29, 24, 2\)"),
        (lambda: likeness.mae(X, Y[:2]), "x has .* and y has"),
        (lambda: likeness.mae(X, Y[..., :1]), "x has .* and y has"),
        (lambda: likeness.mae(X[:0], Y[:0]), "x has shape"),
        (lambda: likeness.mae(X, Y > 0), "y is bool"),
        (lambda: likeness.mae(X, np.int32(Y)), "y is int32, .* x / 255"),
        (lambda: likeness.psnr(X, Y * np.nan, span=2), "y holds .* NaN"),
        (lambda: likeness.mae([[[[np.inf]]]], [[[[1.0]]]]), "x holds 1 NaN or"),
        (lambda: likeness.psnr(X, Y, span=0), "span is 0"),
        (lambda: likeness.psnr(X, Y, span=-2.0), "span is -2.0"),
        (lambda: likeness.ssim(X, Y, span=np.ones(2)), r"span has shape \(2,"),
        (lambda: likeness.ssim(X, Y, span=np.nan), "span is nan"),
        (lambda: likeness.ssim(X, Y, span=2, window=25), "24 pixels are too"),
        (lambda: likeness.ssim(X, Y, span=2, window=1), "window is 1"),
        (lambda: likeness.ssim(X, Y, span=2, window=7.0), "window must be"),
        (lambda: likeness.ssim(X, Y, span=2, sigma=0.0), "sigma is 0"),
        (lambda: likeness.ssim(X, Y, span=2, k2=0.0), "k2 is 0"),
        (lambda: likeness.ms_ssim(X, Y, span=2), "5 scales.* 176 x 176"),
        (lambda: likeness.ms_ssim(X, Y, span=2, weights=()), "weights has"),
        (lambda: likeness.ms_ssim(X, Y, span=2, weights=[0.0]), "weights is"),
    ],
)
def test_what_is_wrong_is_named(wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong()
