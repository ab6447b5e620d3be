"""Differential pairs: scale, signal to noise, pruning (device_physics D.2-4).

Keys are fixed; Z standard errors would fail one in two million of other keys.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware as hw
from jaxedge.hardware.crossbar import Spec

MICRO, Z = 1e-6, 5.0
MEAN, STD = 34.05538, 5.32269  # uS
SPARSITIES = [0.0, 0.25, 0.5, 0.75, 0.9]
SHAPE = (400, 300)

program = jax.jit(hw.program)


def pairs(leaf):
    """Conductances G+ and G- in uS, float64."""
    return np.asarray(leaf.conductance(), np.float64) / MICRO


def as_formed(key, sparsity, std=1.0):
    """A random array; unformed cells have no conductance, as in D.2."""
    device = hw.devices.get(
        "rram_40nm_random", formed=1 - sparsity, pristine=0.0, read_noise=0.1
    )
    w = std * jax.random.normal(key, SHAPE)
    return w, program(key, w, Spec(device))


def assert_close(actual, expected):
    """Equal up to 1e-5 of the largest entry."""
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def within(sample, expected):
    """Whether a mean is `expected` up to Z of its standard errors."""
    error = Z * sample.std() / np.sqrt(sample.size)
    return abs(sample.mean() - expected) <= error


@pytest.mark.parametrize("s", SPARSITIES)
def test_the_second_moment_of_a_pair(key, s):
    positive, negative = pairs(as_formed(key, s)[1])
    power = 2 * s * (1 - s) * (MEAN**2 + STD**2) + 2 * (1 - s) ** 2 * STD**2
    assert within((positive - negative) ** 2, power)
    assert within(positive - negative, 0)


@pytest.mark.parametrize("std", [0.1, 3.0])
@pytest.mark.parametrize("s", [0.0, 0.5, 0.9])
def test_the_scale_makes_random_weights_as_large_as_asked(key, s, std):
    w, leaf = as_formed(key, s, std)
    positive, negative = pairs(leaf)
    weights = float(leaf.scale) * MICRO * (positive - negative)
    assert within(weights**2, np.mean(np.square(w, dtype=np.float64)))


@pytest.mark.parametrize(
    "s, snr",
    [(0.0, 0.0238), (0.25, 0.268), (0.5, 0.512), (0.75, 0.756), (0.9, 0.902)],
)
def test_signal_to_read_noise(key, s, snr):
    # SNR * sigma_r^2, table of D.2.
    _, leaf = as_formed(key, s)
    positive, negative = pairs(leaf)
    noise = np.asarray(leaf.variance(), np.float64) / MICRO**2 / 0.1**2
    np.testing.assert_allclose(noise, positive**2 + negative**2, rtol=1e-5)
    assert within((positive - negative) ** 2 / noise.mean(), snr)


def test_half_formed_pairs_beat_dense_ones_by_13_decibels(key):
    def snr(s):
        _, leaf = as_formed(key, s)
        positive, negative = pairs(leaf)
        return np.mean((positive - negative) ** 2) / np.mean(leaf.variance())

    assert snr(0.5) / snr(0.0) == pytest.approx(21.5, rel=0.02)


@pytest.mark.parametrize("s", [0.0, 0.5, 0.8])
def test_the_signal_of_an_output_over_the_noise_of_a_read(key, s):
    """The law of D.2 at the outputs, and the function that states it.

    64 vectors of independent inputs and 300 columns: powers of 19,200 Gaussian
    outputs, those of the signal correlated by 1/400 between vectors, have
    relative standard errors of sqrt(2 (1 + 63/400) / 19200) = 1.1 % for the
    signal and sqrt(2 / 19200) = 1 % for the noise.
    """
    _, leaf = as_formed(key, s)
    x = jax.random.normal(jax.random.fold_in(key, 1), (64, SHAPE[0]))
    clean = hw.dot(x, leaf)
    noise = hw.dot(x, leaf, key=jax.random.fold_in(key, 2)) - clean
    found = float(jnp.mean(clean**2) / jnp.mean(noise**2))
    power = 2 * s * (1 - s) * (MEAN**2 + STD**2) + 2 * (1 - s) ** 2 * STD**2
    expected = power / (2 * (1 - s) * (MEAN**2 + STD**2) * 0.1**2)
    assert found == pytest.approx(expected, rel=Z * np.hypot(0.011, 0.01))
    stated = hw.devices.read_snr(leaf.spec.device)
    np.testing.assert_allclose(stated, expected, rtol=1e-5)


@pytest.mark.parametrize("device", ["ideal", "rram_40nm_set_reset"])
def test_the_largest_weight_fills_the_range(key, device):
    w = 0.3 * jax.random.normal(key, (50, 40)).at[3, 4].set(-7)
    exact = {"lrs_std": 0.0, "hrs_std": 0.0, "hrs_mean": 0.0}
    overrides = exact if device != "ideal" else {}
    leaf = program(key, w, Spec(hw.devices.get(device, **overrides)))
    positive, negative = pairs(leaf)
    largest = {"ideal": 25.0}.get(device, MEAN)
    assert negative[3, 4] == pytest.approx(largest, rel=1e-5)
    assert positive[3, 4] == 0
    assert float(leaf.scale) == pytest.approx(
        np.abs(w).max() / largest / MICRO, rel=1e-5
    )


def test_no_weights_are_programmed_as_none(key):
    leaf = program(key, jnp.zeros((3, 2)), Spec(hw.devices.get("ideal")))
    np.testing.assert_array_equal(hw.dot(jnp.ones((4, 3)), leaf), 0)


@pytest.mark.parametrize("device", ["rram_40nm_set_reset", "rram_40nm_random"])
@pytest.mark.parametrize("stuck", [0.0, 0.2])
def test_pruning_resets_a_pair(key, device, stuck):
    """w = one * mask + zero * (1 - mask), and its slope (D.4)."""
    spec = Spec(hw.devices.get(device, stuck_on=stuck))
    w = jax.random.normal(key, (6, 5))
    mask = jax.random.bernoulli(key, 0.5, w.shape).astype(w.dtype)
    x = jax.random.normal(key, (7, 6))
    upstream = jax.random.normal(key, (7, 5))

    def state(mask):
        """Weights of the whole array in one state, float64."""
        leaf = program(key, hw.MaskedRandom(w, mask), spec)
        positive, negative = pairs(leaf)
        return float(leaf.scale) * MICRO * (positive - negative)

    one, zero = state(jnp.ones_like(w)), state(jnp.zeros_like(w))
    # Pruned pairs are small, not nothing; reinstated ones differ from them.
    assert (zero != 0).mean() > 0.5
    assert np.median(np.abs(zero)) < 0.2 * np.abs(one).max()

    @jax.jit
    def output_and_slope(mask):
        def output(mask):
            return hw.dot(x, hw.program(key, hw.MaskedRandom(w, mask), spec))

        y, vjp = jax.vjp(output, mask)
        return y, vjp(upstream)[0]

    m = np.asarray(mask, np.float64)
    expected = np.asarray(x, np.float64) @ (one * m + zero * (1 - m))
    y, slope = output_and_slope(mask)
    assert_close(y, expected)
    assert_close(slope, np.asarray(x).T @ np.asarray(upstream) * (one - zero))
    if stuck:
        assert (one == zero).any()  # where both cells are stuck


def test_set_and_reset_follow_the_sign(key):
    spec = Spec(hw.devices.get("rram_40nm_set_reset"))
    w = jnp.array([[0.3, -0.3], [-0.3, 0.3]])
    kept = program(key, hw.MaskedRandom(w, jnp.ones_like(w)), spec)
    positive, negative = pairs(kept)
    np.testing.assert_array_equal(positive > 10, w > 0)
    np.testing.assert_array_equal(negative > 10, w < 0)


def test_an_ideal_mask_is_a_product_and_its_slope(key):
    x = jax.random.normal(key, (7, 6))
    w = jax.random.normal(key, (6, 5))
    mask = jnp.zeros_like(w).at[2:4].set(1)
    upstream = jax.random.normal(key, (7, 5))

    y, vjp = jax.vjp(lambda m: hw.dot(x, hw.MaskedRandom(w, m)), mask)
    x, w, mask = (np.asarray(a, np.float64) for a in (x, w, mask))
    assert_close(y, x @ (w * mask))
    # Pruned weights have a slope too, or they could never return.
    assert_close(vjp(upstream)[0], x.T @ np.asarray(upstream) * w)
