"""Crossbars against matrix products and an independent model in float64."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware as hw
from jaxedge.core import stream
from jaxedge.hardware.crossbar import Spec

INPUTS, OUTPUTS = 20, 6
NOISY = {"g_min": 1e-6, "program_noise": 0.1}

dot = jax.jit(hw.dot)


@functools.cache
def operands():
    """Vectors and a weight."""
    key = jax.random.key(0)
    x = jax.random.normal(stream(key, "x"), (33, INPUTS))
    return x, jax.random.normal(stream(key, "w"), (INPUTS, OUTPUTS))


@functools.cache
def exact():
    """An ideal array of the weight; its design may be replaced."""
    return hw.program(jax.random.key(0), operands()[1], on())


@functools.cache
def noisy():
    """An array whose conductances are all different and not zero."""
    return hw.program(jax.random.key(0), operands()[1], on(**NOISY))


def on(**numbers):
    return Spec(hw.devices.get("ideal", **numbers))


def read_by(leaf, **sizes):
    """The same cells in another design."""
    spec = dataclasses.replace(leaf.spec, **sizes)
    return dataclasses.replace(leaf, spec=spec)


def double(*arrays):
    return [np.asarray(a, np.float64) for a in arrays]


def assert_close(actual, expected, limit=1e-5):
    """Equal up to a share of the largest entry."""
    atol = limit * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("read", ["vector", "batch"])
@pytest.mark.parametrize("g_min", [0.0, 3e-6])
def test_an_ideal_crossbar_is_a_matrix_product(key, read, g_min):
    x, w = operands()
    leaf = read_by(hw.program(key, w, on(g_min=g_min)), read=read)
    x64, w64 = double(x, w)
    assert_close(dot(x, leaf, key=key), x64 @ w64, 2e-6)
    assert_close(dot(x, leaf), x64 @ w64, 2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_an_ideal_crossbar_has_the_gradients_of_the_product(key, dtype):
    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(x, w):
        return jnp.sum(hw.dot(x, hw.program(key, w, on())) * upstream)

    x, w = operands()
    w = w.at[3].set(0)  # where both cells of a pair are at their minimum
    w = w.astype(dtype)
    upstream = jax.random.normal(key, (33, OUTPUTS))
    slope_x, slope_w = slopes(x, w)
    x64, w64, upstream64 = double(x, w, upstream)
    assert_close(slope_x, upstream64 @ w64.T, 2e-6)
    limit = 1e-5 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps)
    assert_close(double(slope_w)[0], x64.T @ upstream64, limit)


def test_tiles_have_no_effect_without_an_adc():
    x, _ = operands()
    whole = dot(x, noisy())
    for sizes in ({"rows": 7, "columns": 4}, {"rows": 1, "columns": 2}):
        tiled = dot(x, read_by(noisy(), **sizes))
        np.testing.assert_array_equal(whole, tiled)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bit_planes_add_up_to_the_parallel_product(bits):
    x, _ = operands()
    parallel = read_by(noisy(), input_bits=bits)
    y = dot(x, parallel)
    assert_close(dot(x, read_by(parallel, bit_serial=True)), y)
    assert np.abs(y - dot(x, noisy())).max() > 0.01


def model(leaf, x):
    """What D.6 to D.8 say, in float64: outputs, and whether no ADC tied."""
    spec, scale = leaf.spec, float(leaf.scale)
    positive, negative = double(leaf.conductance())[0]
    x, g = double(x)[0], positive - negative
    step, low, code = np.ones((len(x), 1)), np.zeros((len(x), 1)), x
    full = np.abs(x).max(-1)
    planes = [1]
    if spec.input_bits:
        levels = 2**spec.input_bits - 1
        low = x.min(-1, keepdims=True)
        step = (x.max(-1, keepdims=True) - low) / levels
        code = np.rint((x - low) / step)
        full = np.full(len(x), float(levels))
    if spec.bit_serial:
        planes = 2 ** np.arange(spec.input_bits)
        full = np.ones(len(x))
    total, clear = np.zeros((len(x), g.shape[1])), True
    tiles = range(0, len(g), spec.rows)
    for plane, first in itertools.product(planes, tiles):
        rows = slice(first, first + spec.rows)
        part = code[:, rows]
        if spec.bit_serial:
            part = part.astype(int) // plane % 2
        current = part @ g[rows]
        if spec.adc_bits:
            larger = np.maximum(positive[rows], negative[rows])
            limit = float(spec.adc_range) * larger.sum(0).max()
            limit = limit * full[:, None]
            last = 2 ** (spec.adc_bits - 1) - 1
            place = current / limit * last
            clear &= np.abs(place - np.floor(place) - 0.5) > 2e-3
            current = np.clip(np.rint(place), -last, last) * limit / last
        total += plane * current
    return scale * (step * total + low * g.sum(0)), clear


@pytest.mark.parametrize(
    "sizes",
    [
        {"input_bits": 4},
        {"adc_bits": 5},
        {"adc_bits": 5, "rows": 7},
        {"adc_bits": 5, "rows": 7, "adc_range": 0.3},
        {"input_bits": 4, "adc_bits": 6},
        {"input_bits": 4, "adc_bits": 6, "rows": 7},
        {"input_bits": 3, "bit_serial": True, "adc_bits": 6, "rows": 7},
        {"input_bits": 3, "bit_serial": True, "adc_bits": 4, "adc_range": 0.2},
    ],
    ids=str,
)
def test_converters_and_tiles_are_the_model(sizes):
    x, _ = operands()
    leaf = read_by(noisy(), **sizes)
    expected, clear = model(leaf, x)
    clear = np.broadcast_to(clear, expected.shape)
    assert clear.mean() > 0.8
    y = np.asarray(dot(x, leaf))
    assert_close(y[clear], expected[clear], 3e-6)
    plain, _ = model(noisy(), x)
    assert np.abs(y - plain).max() > 1e-3  # the converters do something


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("bit_serial", [False, True])
def test_an_adc_reads_no_current_as_zero(key, bits, bit_serial):
    sizes = {"input_bits": 4, "bit_serial": bit_serial, "adc_bits": bits}
    spec = dataclasses.replace(on(), rows=8, **sizes)
    w = jax.random.normal(key, (64, 30))
    leaf = jax.jit(hw.program)(key, w, spec)
    x = np.zeros((3, 64), np.float32)
    # One lit row in eight tiles: the other tiles carry no current.
    x[0, 3] = 15
    y, *dark = dot(x, leaf)
    larger = np.maximum(*double(leaf.conductance())[0])
    lsb = larger[:8].sum(0).max() / (2 ** (bits - 1) - 1)
    error = np.asarray(y) - 15 * np.asarray(w, np.float64)[3]
    # At most half a step of the one tile that is read, in each plane.
    assert np.abs(error).max() <= 0.501 * 15 * lsb * float(leaf.scale)
    np.testing.assert_array_equal(dark, 0)


def test_bits_alone_are_no_bias(key):
    """Errors of an ADC average out over vectors and weights."""
    spec = dataclasses.replace(
        on(), rows=32, input_bits=4, bit_serial=True, adc_bits=6
    )
    w = jax.random.normal(key, (128, 64))
    leaf = jax.jit(hw.program)(key, w, spec)
    x = np.random.default_rng(0).uniform(size=(200, 128)).astype(np.float32)
    x = x * (x > 0.97)  # most rows, and with them most tiles, are dark
    error = np.asarray(dot(x, leaf) - dot(x, read_by(leaf, adc_bits=None)))
    # Outputs of one column share their weights: 64 independent means.
    means = error.mean(0)
    assert np.abs(means.mean()) < 5 * means.std() / np.sqrt(64)


def test_the_digital_constant_is_no_read(key):
    # A constant vector is all constant: nothing is driven, nothing is noisy.
    spec = Spec(
        hw.devices.get("ideal", read_noise=0.3), read="batch", input_bits=4
    )
    w = operands()[1]
    y = dot(jnp.full((2, INPUTS), 0.7), hw.program(key, w, spec), key=key)
    expected = 0.7 * double(w)[0].sum(0)
    assert_close(y, np.broadcast_to(expected, y.shape))


@pytest.mark.parametrize("bit_serial", [False, True])
def test_finer_converters_come_closer_to_the_product(bit_serial):
    def error(bits):
        sizes = {"input_bits": bits, "adc_bits": bits, "rows": 7}
        y = dot(x, read_by(exact(), **sizes, bit_serial=bit_serial))
        return np.std(y - np.matmul(*double(x, w)))

    x, w = operands()
    # Three bits more divide the error by eight.
    assert 5 < error(5) / error(8) < 12


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"input_bits": 7},
        {"input_bits": 7, "bit_serial": True},
        {"input_bits": 8, "bit_serial": True, "adc_bits": 10, "rows": 7},
    ],
    ids=str,
)
def test_bfloat16_comes_close_to_float32(sizes):
    x, _ = operands()
    leaf = read_by(exact(), **sizes)
    y = dot(x.astype(jnp.bfloat16), leaf)
    assert y.dtype == jnp.bfloat16
    # Eight bits of mantissa, twenty terms.
    assert_close(y.astype(jnp.float32), dot(x, leaf), 0.02)


def test_float16_has_the_noise_of_float32(key):
    x, w = operands()
    leaf = hw.program(key, w, on(read_noise=0.1))
    y = dot(x.astype(jnp.float16), leaf, key=key)
    assert y.dtype == jnp.float16
    assert_close(y.astype(jnp.float32), dot(x, leaf, key=key), 2e-3)


def test_vectors_have_any_leading_axes():
    x, _ = operands()
    leaf = read_by(noisy(), input_bits=4, adc_bits=6, rows=7)
    y = dot(x, leaf)
    # Alone or beside others: a vector's converters see that vector.
    assert_close(dot(x[3], leaf), y[3])
    stacked = dot(x.reshape(3, 11, INPUTS), leaf)
    assert_close(stacked, y.reshape(3, 11, OUTPUTS))


def test_the_shape_of_a_leaf_is_that_of_its_weight(key):
    leaf = hw.program(key, jnp.ones((3, 2, 4, 5)), on())
    assert (leaf.shape, leaf.ndim, leaf.size) == ((3, 2, 4, 5), 4, 120)
    assert jax.jit(lambda leaf: leaf.size * jnp.ones(()))(leaf) == 120
    assert hw.is_weight(leaf) and not hw.is_weight(jnp.ones(3))
