"""Measures of complexity against closed forms and against float64.

`EXPECTED` computes every measure anew, with numpy, scipy and scikit-learn.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial import distance
from sklearn.decomposition import PCA

from jaxedge.features import complexity

NAMES = complexity.names()
ON_DEVICE = [n for n in NAMES if not complexity.MEASURES[n].on_host]
N, H, W = 40, 12, 10


def sets():
    """Images of several kinds, [40, 12, 10] float32."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(N, H, W))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2)) + 0.3
    rare = np.where(rng.uniform(size=(N, H, W)) < 0.003, noise, 0)
    few = rng.normal(size=(N, 3)) @ rng.normal(size=(3, H * W))
    return {
        "noise": noise,
        "smooth": 1e4 * smooth,
        "rare": rare,  # The robust range is a single value.
        "few": few.reshape(N, H, W),
        "levels": np.floor(4 * rng.uniform(size=(N, H, W))),
    }


SETS = {kind: x.astype(np.float32) for kind, x in sets().items()}


# Every measure in float64.


def scaled(x):
    x = np.asarray(x, np.float64)
    low, high = np.percentile(x, [1, 99])
    if high <= low:
        low, high = x.min(), x.max()
    return np.clip((x - low) / (high - low), 0, 1)


def entropy(x):
    count, _ = np.histogram(scaled(x), bins=256, range=(0, 1))
    return stats.entropy(count, base=2)


def prediction_entropy(x):
    level = np.minimum(np.floor(scaled(x) * 256), 255).astype(int)
    a, b, c = level[:, 1:, :-1], level[:, :-1, 1:], level[:, :-1, :-1]
    error = level[:, 1:, 1:] - np.median([a, b, a + b - c], axis=0)
    return stats.entropy(np.unique(error, return_counts=True)[1], base=2)


def gradient(x):
    x = scaled(x)
    dy, dx = np.diff(x, axis=1)[:, :, :-1], np.diff(x, axis=2)[:, :-1]
    return np.hypot(dx, dy).mean()


def spatial_information(x):
    edge = [
        np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1))[1:-1, 1:-1]
        for one in scaled(x)
    ]
    return np.mean([one.std() for one in edge])


def power(x):
    x = np.asarray(x, np.float64)
    found = np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2
    found[:, 0, 0] = 0
    return found.mean(0)


def spectral_entropy(x):
    return stats.entropy(power(x).ravel(), base=2) / np.log2(H * W - 1)


def high_frequency(x):
    y, x_ = np.meshgrid(np.fft.fftfreq(H), np.fft.fftfreq(W), indexing="ij")
    found = power(x)
    return found[np.hypot(y, x_) > 0.25].sum() / found.sum()


def zlib_bits(x):
    level = np.minimum(np.floor(scaled(x) * 256), 255).astype(np.uint8)
    # Less two bytes of header and four of checksum.
    size = [len(zlib.compress(one.tobytes(), 9)) - 6 for one in level]
    return 8 * sum(size) / level.size


def variances(x):
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    return PCA().fit(flat).explained_variance_ratio_


def k95(x):
    return 1 + np.sum(np.cumsum(variances(x)) < 0.95)


def participation(x):
    return 1 / np.sum(variances(x) ** 2)


def residual(x):
    return variances(x)[16:].sum()


def dimension(x, k):
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    # Images that equal another are no neighbours of it.
    near = [np.sort(row[row > 0])[:k] for row in distance.cdist(flat, flat)]
    ratios = [np.log(row[-1] / row[:-1]) for row in near if len(row) == k]
    mean, most = np.mean(ratios), flat.shape[1]
    return 1 / mean if mean * most > 1 else most


EXPECTED = {
    "entropy": entropy,
    "prediction_entropy": prediction_entropy,
    "gradient": gradient,
    "spatial_information": spatial_information,
    "spectral_entropy": spectral_entropy,
    "high_frequency": high_frequency,
    "zlib": zlib_bits,
    "pca_k95": k95,
    "pca_participation": participation,
    "pca_residual": residual,
    "two_nn": lambda x: dimension(x, 2),
    "levina_bickel": lambda x: dimension(x, 10),
}


def test_every_measure_has_another_computation():
    assert set(EXPECTED) == set(NAMES)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_measure_is_what_float64_makes_it(name, kind):
    found = complexity.measure(SETS[kind], name)
    assert isinstance(found, float)
    # A value that rounding puts into the next bin moves p by 1 / 4800.
    loose = 2e-3 if "entropy" in name and "spec" not in name else 2e-5
    expected = EXPECTED[name](SETS[kind])
    np.testing.assert_allclose(found, expected, rtol=loose, atol=2e-6)


# Closed forms.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_set_has_no_complexity(name, value):
    found = complexity.measure(np.full((N, H, W), value, np.uint8), name)
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = len(stream.compress(bytes(H * W)) + stream.flush())
    expected = 8 * stored / (H * W) if name == "zlib" else 0
    assert found == pytest.approx(expected, abs=0)


def test_images_of_one_level_each_differ_in_one_direction():
    x = np.broadcast_to(np.arange(N)[:, None, None], (N, H, W))
    for name in ("gradient", "spectral_entropy", "high_frequency"):
        assert complexity.measure(x, name) == 0
    assert complexity.measure(x, "spatial_information") == 0
    assert complexity.measure(x, "pca_k95") == 1
    assert complexity.measure(x, "pca_participation") == pytest.approx(1)
    # Forty levels, each as often.
    assert complexity.measure(x, "entropy") == pytest.approx(np.log2(N))


def test_equal_images_span_nothing():
    x = np.repeat(SETS["noise"][:1], N, axis=0)
    for name in NAMES:
        found = complexity.measure(x, name)
        of_set = complexity.MEASURES[name].of_set
        assert found == 0 if of_set else found > 0.1


def test_a_checkerboard():
    board = np.indices((H, W)).sum(0) % 2
    x = np.stack([board, 1 - board] * (N // 2))
    expected = {
        "entropy": 1,
        # The neighbours are equal, and the pixel is not: 255 or -255.
        "prediction_entropy": 1,
        "gradient": np.sqrt(2),  # One along either axis.
        "spatial_information": 0,  # Its differences are over two pixels.
        "spectral_entropy": 0,  # A single wave,
        "high_frequency": 1,  # the shortest there is.
    }
    for name, value in expected.items():
        found = complexity.measure(x, name)
        assert found == pytest.approx(value, rel=2e-6, abs=1e-6)


def test_a_ramp_has_the_gradient_of_its_slope():
    y, x = np.mgrid[:9, :9]
    ramp = (3 * x + 4 * y)[None]
    # On the robust range, 1 % of the values from either end.
    low, high = np.percentile(ramp, [1, 99])
    inner = ((ramp > low) & (ramp < high))[0, 1:-1, 1:-1]
    assert inner.all()
    found = complexity.measure(ramp, "gradient")
    # Only what touches the two clipped corners is less than 5 / range.
    whole = 5 / (high - low)
    assert whole * 62 / 64 < found < whole


def test_uniform_noise():
    x = np.random.default_rng(1).uniform(size=(N, H, W))
    pixels = H * W
    # The two ends hold 1 % more; a bin's number varies: (L - 1) / 2n nats.
    p = np.full(256, 0.98 / 256)
    p[[0, -1]] += 0.01
    expected = stats.entropy(p, base=2) - 255 / (2 * N * pixels * np.log(2))
    # Of n = 4800 values the sd is about sqrt(255 / 2) / n nats, 0.0034 bits,
    # and that of the share at the ends is as small.
    found = complexity.measure(x, "entropy")
    assert found == pytest.approx(expected, abs=0.015)
    # Bytes that cannot be compressed, stored with 5 bytes of deflate.
    assert 7.5 < complexity.measure(x, "zlib") <= 8 * (pixels + 5) / pixels
    # Every frequency has the mean power of N exponential numbers, of relative
    # variance 1 / N, which takes half of that from the entropy in nats.
    lost = 1 / (2 * N * np.log(2)) / np.log2(pixels - 1)
    found = complexity.measure(x, "spectral_entropy")
    assert found == pytest.approx(1 - lost, abs=lost)
    y, x_ = np.meshgrid(np.fft.fftfreq(H), np.fft.fftfreq(W))
    share = (np.hypot(y, x_) > 0.25).sum() / (pixels - 1)
    found = complexity.measure(x, "high_frequency")
    # sd: sqrt(s (1 - s) / n) with n = 40 x 59 powers that differ, 0.0086.
    assert found == pytest.approx(share, abs=0.04)
    # n = N - 1 degrees of freedom of F equal variances: F n / (F + n) in the
    # limit; that of (sum l)^2 alone has a relative sd of sqrt(8 / (F n)), 0.04.
    expected = pixels * (N - 1) / (pixels + N - 1)
    found = complexity.measure(x, "pca_participation")
    assert found == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_images_on_k_equal_directions(k):
    # An orthonormal basis in both signs: k equal variances, mean 0.
    basis = np.linalg.qr(np.random.default_rng(k).normal(size=(120, 120)))[0]
    x = np.concatenate([basis[:k], -basis[:k]]).reshape(2 * k, H, W)
    x = np.tile(x, (N // (2 * k), 1, 1)) + 5
    measure = complexity.measure
    assert measure(x, "pca_k95") == np.ceil(0.95 * k)
    assert measure(x, "pca_participation") == pytest.approx(k, rel=1e-5)
    lost = max(0, k - 16) / k
    assert measure(x, "pca_residual") == pytest.approx(lost, abs=1e-5)


@pytest.mark.parametrize("name, k", [("two_nn", 2), ("levina_bickel", 10)])
def test_points_on_a_torus_have_its_dimension(name, k):
    # Two angles, uniform on a surface without an edge, turned in 20 pixels.
    n, d = 500, 2
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, (n, d))
    flat = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0][:4]
    found = complexity.measure((flat @ turn).reshape(n, 5, 4), name)
    # N (K - 1) exponential numbers; not all are independent, as neighbours are
    # shared. A chord is shorter than its arc, by up to 3 % at 10 neighbours.
    assert found == pytest.approx(d, rel=4 / np.sqrt(n) + 0.03 * (k > 2))


@pytest.mark.parametrize("name", ["two_nn", "levina_bickel"])
def test_points_at_equal_distances_span_all_they_can(name):
    x = np.eye(12).reshape(12, 4, 3)
    assert complexity.measure(x, name) == 4 * 3


@pytest.mark.parametrize("name", ["two_nn", "levina_bickel"])
def test_repeated_images_are_no_neighbours(name):
    x = SETS["few"][np.r_[np.arange(N - 3), 0, 0, 3]]
    found = complexity.measure(x, name)
    assert found == pytest.approx(EXPECTED[name](x), rel=1e-5)


# Invariances.


@pytest.mark.parametrize("name", NAMES)
def test_scale_offset_and_type_do_not_matter(name):
    x = SETS["smooth"][:, :, ::-1] / 1e4
    levels = np.floor(60 * stats.zscore(x, axis=None)).clip(-127, 127)
    expected = complexity.measure(levels.astype(np.int8), name)
    for other in (
        levels.astype(np.float16),
        jnp.asarray(levels, jnp.bfloat16),
        (levels + 128).astype(np.uint8),
        levels.astype(np.int64) + 2**40,  # float32 has no such steps
        1e-3 * levels.astype(np.float64) + 1e5,
        1e36 * levels.astype(np.float32),
        levels.astype(np.float64) * 1e300,
    ):
        found = complexity.measure(other, name)
        # A level on the edge of a bin may be rounded to either side of it.
        loose = {"entropy": 1e-3, "prediction_entropy": 1e-2, "zlib": 0.02}
        loose = loose.get(name, 2e-5)
        np.testing.assert_allclose(found, expected, rtol=loose)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_does_not_matter(name):
    x = SETS["smooth"]
    expected = complexity.measure(x, name)
    found = complexity.measure(x[::-1], name)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_a_fixed_permutation_of_pixels_changes():
    x = SETS["smooth"]
    mixed = np.random.default_rng(4).permutation(H * W)
    y = x.reshape(N, -1)[:, mixed].reshape(N, H, W)
    for name in NAMES:
        before, after = (complexity.measure(z, name) for z in (x, y))
        if name == "entropy" or complexity.MEASURES[name].of_set:
            assert after == pytest.approx(before, rel=1e-5)
        elif name != "zlib":
            assert after > 1.2 * before


@pytest.mark.parametrize("name", NAMES)
def test_channels(name):
    x = SETS["smooth"]
    one = complexity.measure(x[..., None], name)
    assert one == complexity.measure(x, name)
    if name != "zlib":  # Which finds the second channel in the first.
        twice = complexity.measure(np.stack([x, x], -1), name)
        # Twice every variance and squared distance.
        assert twice == pytest.approx(one, rel=2e-5, abs=1e-6)


def test_an_outlier_does_not_set_the_scale():
    x = SETS["smooth"].copy()
    kinds = ("entropy", "prediction_entropy", "gradient")
    before = {n: complexity.measure(x, n) for n in kinds}
    x[0, 0, 0] = 1e9
    for name, value in before.items():
        assert complexity.measure(x, name) == pytest.approx(value, rel=0.02)


# As functions of JAX.


@pytest.mark.parametrize("name", ON_DEVICE)
def test_vmap_and_jit_are_the_loop(name, compilations):
    x = np.stack([SETS["noise"], SETS["smooth"]])
    function = jax.jit(jax.vmap(complexity.function(name)))
    found = function(x)
    assert found.dtype == jnp.float32
    expected = [complexity.measure(one, name) for one in x]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    with compilations() as compiled:
        function(x[::-1])
        complexity.measure(x[0] + 1, name)
    assert not compiled


def test_gradients_are_finite():
    smooth = ("gradient", "spatial_information", "spectral_entropy",
              "high_frequency", "pca_participation", "two_nn")  # fmt: skip

    def total(x):
        return sum(complexity.function(name)(x) for name in smooth)

    slope = jax.jit(jax.grad(total))
    flat = np.zeros((4, 5, 5), np.float32)
    half = flat.copy()
    half[:2, :2] = np.random.default_rng(5).normal(size=(2, 2, 5))
    for x in (flat, half):
        assert np.isfinite(slope(x)).all()
    assert np.abs(slope(half)).max() > 0
