"""Read noise: a draw a vector or a draw a call, output-referred or by cell.

Keys are fixed; Z standard errors would fail one in two million of other keys,
a Kolmogorov distance above KS one in ten million.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge import hardware as hw
from jaxedge.core import chip_keys
from jaxedge.hardware.crossbar import Spec

Z, KS, N = 5.0, 2.9, 8000
INPUTS, OUTPUTS = 24, 3


program = jax.jit(hw.program)
dot = jax.jit(hw.dot)


@functools.cache
def programmed(device, shape):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    spec = Spec(hw.devices.get(device, read_noise=0.05))
    return program(jax.random.key(1), w, spec)


def chip(device="rram_40nm_set_reset", shape=(INPUTS, OUTPUTS), **sizes):
    """One array, read as a design says."""
    leaf = programmed(device, shape)
    spec = dataclasses.replace(leaf.spec, **sizes)
    return dataclasses.replace(leaf, spec=spec)


def vector():
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.standard_normal(INPUTS), jnp.float32)


@jax.jit
def by_vector(key, leaf, x):
    """One call with N equal vectors."""
    return hw.dot(jnp.broadcast_to(x, (N, INPUTS)), leaf, key=key)


@jax.jit
def by_call(key, leaf, x):
    """N calls, every cell read anew in each."""
    read = jax.vmap(lambda k: hw.dot(x, leaf, key=k))
    return read(chip_keys(key, N))


def noises(key, device):
    """Samples of both forms by row, float64, and their expected std."""
    x = vector()
    vectors = by_vector(key, chip(device), x)
    calls = by_call(key, chip(device, read="batch"), x)
    # Cell by cell: sum over i of x_i^2 sigma_ij^2, both cells of a pair.
    g = np.asarray(chip(device).conductance(), np.float64)
    power = np.square(np.asarray(x, np.float64)) @ ((0.05 * g) ** 2).sum(0)
    std = float(chip(device).scale) * np.sqrt(power)
    samples = (np.asarray(y, np.float64) for y in (vectors, calls))
    return *samples, std


@pytest.mark.parametrize("device", ["rram_40nm_set_reset", "rram_40nm_random"])
def test_both_forms_have_the_distribution_of_the_cells(key, device):
    vectors, calls, std = noises(key, device)
    ideal = np.asarray(dot(vector(), chip(device)), np.float64)
    for samples in (vectors, calls):
        for column in range(OUTPUTS):
            normal = stats.norm(ideal[column], std[column])
            y = samples[:, column]
            assert stats.kstest(y, normal.cdf).statistic <= KS / np.sqrt(N)
            assert abs(y.std() / std[column] - 1) <= Z / np.sqrt(2 * N)
    for column in range(OUTPUTS):
        distance = stats.ks_2samp(vectors[:, column], calls[:, column])
        assert distance.statistic <= KS * np.sqrt(2 / N)


def test_outputs_and_vectors_are_independent(key):
    vectors, calls, _ = noises(key, "rram_40nm_set_reset")
    for samples in (vectors, calls):
        correlation = np.corrcoef(samples.T) - np.eye(OUTPUTS)
        assert np.abs(correlation).max() <= Z / np.sqrt(N)
    neighbours = np.corrcoef(vectors[1:, 0], vectors[:-1, 0])[0, 1]
    assert abs(neighbours) <= Z / np.sqrt(N)


def test_a_batch_reads_one_array(key):
    x = jnp.stack([vector(), vector(), -2 * vector()])
    y = dot(x, chip(read="batch"), key=key)
    np.testing.assert_array_equal(y[0], y[1])
    np.testing.assert_allclose(y[2], -2 * y[0], rtol=1e-5)
    anew = dot(x, chip(), key=key)
    assert (anew[0] != anew[1]).all()


def test_without_a_key_nothing_is_noisy(key):
    leaf = chip()
    positive, negative = np.asarray(leaf.conductance(), np.float64)
    expected = np.asarray(vector(), np.float64) @ (positive - negative)
    y = dot(vector(), leaf)
    np.testing.assert_allclose(y, float(leaf.scale) * expected, rtol=1e-4)
    np.testing.assert_array_equal(y, dot(vector(), chip(read="batch")))
    assert (dot(vector(), leaf, key=key) != y).all()


def test_dark_inputs_add_no_noise(key):
    x = jnp.zeros((4, INPUTS)).at[0].set(vector())
    y = np.asarray(dot(x, chip(), key=key))
    assert np.abs(y[1:]).max() < 1e-6 * np.abs(y[0]).max()


@pytest.mark.parametrize("sizes", [{}, {"read": "batch"}], ids=str)
def test_a_convolution_is_as_noisy_as_its_patches(key, sizes):
    kernel = chip(shape=(2, 3, 2, OUTPUTS), **sizes)
    x = jax.random.normal(key, (1, 4, 4, 2))
    strides, padding = (1, 2), "SAME"

    @jax.jit
    def convolve(k):
        return hw.conv(x, kernel, strides=strides, padding=padding, key=k)

    y = np.asarray(jax.vmap(convolve)(chip_keys(key, N)), np.float64)
    vectors = hw.patches(x, (2, 3), strides, padding)
    g = np.asarray(kernel.conductance(), np.float64)
    variance = ((0.05 * g) ** 2).sum(0)
    power = np.square(np.asarray(vectors, np.float64)) @ variance
    relative = y.std(0) / (float(kernel.scale) * np.sqrt(power)) - 1
    assert relative.shape == (1, 4, 2, OUTPUTS)
    assert np.abs(relative).max() <= Z / np.sqrt(2 * N)


@pytest.mark.parametrize("bit_serial", [False, True])
def test_noise_behind_quantised_inputs(key, bit_serial):
    """A code of b bits is read once; its bit planes b times, weighted."""
    bits = 3
    leaf = chip(input_bits=bits, bit_serial=bit_serial)
    x = vector()
    y = np.asarray(by_vector(key, leaf, x), np.float64)
    x = np.asarray(x, np.float64)
    step = (x.max() - x.min()) / (2**bits - 1)
    code = np.round((x - x.min()) / step).astype(int)
    weight = code**2
    if bit_serial:
        weight = sum(4**k * ((code >> k) & 1) for k in range(bits))
    g = np.asarray(leaf.conductance(), np.float64)
    power = step**2 * weight @ ((0.05 * g) ** 2).sum(0)
    std = float(leaf.scale) * np.sqrt(power)
    assert np.abs(y.std(0) / std - 1).max() <= Z / np.sqrt(2 * N)
