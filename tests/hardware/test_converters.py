"""Converters against an independent model in float64."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.hardware import converters

BITS = [1, 2, 4, 8, 12]
floats = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or x**2 > 1e-9)
vectors = npst.arrays(np.float32, (3, 7), elements=floats)


def spread(key, n=400, scale=3.0):
    return scale * jax.random.normal(key, (n, 6))


def adc(x, lo, hi, bits):
    """The code's value, and how far (in codes) the input is from a tie."""
    x = np.asarray(x, np.float64)
    step = (hi - lo) / (2**bits - 1)
    place = (x - lo) / step
    code = np.clip(np.rint(place), 0, 2**bits - 1)
    return lo + code * step, np.abs(place - np.floor(place) - 0.5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("lo, hi", [(-2.5, 4.0), (0.0, 1.0), (-1.0, 1.0)])
def test_the_uniform_converter_is_the_model(key, bits, lo, hi):
    x = spread(key)
    y = np.asarray(converters.uniform(x, lo, hi, bits))
    expected, from_tie = adc(x, lo, hi, bits)
    clear = from_tie > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_allclose(y[clear], expected[clear], atol=2e-6 * (hi - lo))
    assert len(np.unique(y)) <= 2**bits
    assert y.min() == pytest.approx(lo) and y.max() == pytest.approx(hi)


def test_bounds_may_differ_by_output():
    x = jnp.array([[0.2, 0.2], [0.9, 0.9]])
    y = converters.uniform(x, jnp.array([[0.0, -1]]), jnp.array([[1.0, 1]]), 1)
    np.testing.assert_array_equal(y, [[0, 1], [1, 1]])


def test_halves_go_to_even():
    x = jnp.array([0.5, 1.5, 2.5, 3.5])
    np.testing.assert_array_equal(
        converters.uniform(x, 0.0, 7.0, 3), [0, 2, 2, 4]
    )


def test_a_range_of_nothing_has_one_level():
    def convert(x):
        return converters.uniform(x, 2.0, 2.0, 4)

    x = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(convert(x), 2)
    assert np.isfinite(jax.jit(jax.vmap(jax.grad(convert)))(x)).all()


def test_the_gradient_passes_inside_the_range_alone():
    convert = lambda x: converters.uniform(x, -1.0, 1.0, 2)  # noqa: E731
    slope = jax.jit(jax.vmap(jax.grad(convert)))
    np.testing.assert_array_equal(
        slope(jnp.array([-3.0, -1.0, 0.1, 1.0, 3.0])), [0, 1, 1, 1, 0]
    )


@pytest.mark.parametrize("bits", BITS[1:])
@pytest.mark.parametrize("limit", [0.7, 4.0])
def test_the_signed_converter_is_the_model(key, bits, limit):
    x = spread(key)
    y = np.asarray(converters.signed(x, limit, bits))
    last = 2 ** (bits - 1) - 1
    place = np.asarray(x, np.float64) / limit * last
    clear = np.abs(place - np.floor(place) - 0.5) > 1e-3
    assert clear.mean() > 0.9
    expected = np.clip(np.rint(place), -last, last) * limit / last
    np.testing.assert_allclose(y[clear], expected[clear], atol=2e-6 * limit)
    assert len(np.unique(y)) <= 2 * last + 1
    np.testing.assert_array_equal(y, -converters.signed(-x, limit, bits))


def test_the_signed_converter_has_a_slope_inside_and_a_zero():
    def convert(x):
        return converters.signed(x, 1.0, 3)

    # Full scale itself is inside.
    x = jnp.array([-3.0, -1.0, -0.9, 0, 0.9, 1.0, 3.0])
    slope = jax.jit(jax.vmap(jax.grad(convert)))(x)
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 1, 1, 0])
    x = jnp.array([-1.0, 0, 2.0])
    np.testing.assert_array_equal(converters.signed(x, 0.0, 4), 0)
    assert convert(jnp.float32(0)) == 0


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("percentile", [100.0, 99.0, 60.0])
def test_a_calibrated_range_holds_the_middle(key, bits, percentile):
    # One sign: the limits are the percentiles themselves.
    x = jnp.exp(spread(key, 5000))
    lo, hi = converters.calibrate(x, bits, percentile)
    tail = (100 - percentile) / 2
    expected = np.percentile(np.asarray(x, np.float64), [tail, 100 - tail])
    np.testing.assert_allclose([lo, hi], expected, rtol=1e-5)
    clipped = float(converters.saturation(x, lo, hi))
    assert clipped == pytest.approx(1 - percentile / 100, abs=1e-4)


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_calibrated_range_of_both_signs_has_a_level_at_zero(key, bits):
    x = spread(key, 3000) + 1
    plain = np.percentile(np.asarray(x, np.float64), [0.5, 99.5])
    lo, hi = converters.calibrate(x, bits, 99.0)
    step = (hi - lo) / (2**bits - 1)
    np.testing.assert_allclose(hi - lo, plain[1] - plain[0], rtol=1e-5)
    assert np.abs([lo - plain[0], hi - plain[1]]).max() <= 0.501 * step
    zero = converters.uniform(jnp.zeros(3), lo, hi, bits)
    np.testing.assert_allclose(zero, 0, atol=1e-6 * step * 2**bits)


def test_tiles_are_calibrated_apart_and_compile_once(key, compilations):
    x = spread(key, 3000).reshape(3000, 2, 3) * jnp.array([[[1.0, 9.0, 4.0]]])
    calibrate = jax.jit(lambda x, p: converters.calibrate(x, 6, p, axis=(0, 1)))
    lo, hi = calibrate(x, 99.9)
    for tile in range(3):
        alone = converters.calibrate(x[..., tile], 6, 99.9)
        np.testing.assert_allclose((lo[tile], hi[tile]), alone, rtol=1e-5)
    other = x + 1
    with compilations() as names:
        calibrate(other, 98.0)
    assert not names


def test_calibration_is_as_good_as_its_range():
    """Clipping rare values halves the error of a coarse converter."""
    x = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)

    @jax.jit
    def error(x, percentile):  # A constant would be sorted while compiling.
        y = converters.uniform(x, *converters.calibrate(x, 4, percentile), 4)
        return jnp.mean(jnp.abs(y - x))

    assert error(x, 99.0) < error(x, 100.0) / 2


@pytest.mark.parametrize("percentile", [99.0, 100.0])
def test_many_samples_are_thinned_over_all_axes(key, percentile):
    # Of 1,536,000 every third would be of every third channel only.
    x = jax.random.normal(key, (2000, 256, 3)) * jnp.array([[[1.0, 2.0, 4.0]]])
    lo, hi = converters.calibrate(x, 8, percentile)
    tail = (100 - percentile) / 2
    want = np.percentile(np.asarray(x, np.float64), [tail, 100 - tail])
    if percentile == 100:
        # Up to half a step, which puts a level at zero.
        step = (want[1] - want[0]) / 255
        np.testing.assert_allclose([lo, hi], want, atol=0.501 * step)
    else:
        # About .5 % of 500,000: a relative std of 2 % of the tail, which is
        # less than 1 % of its place.
        np.testing.assert_allclose([lo, hi], want, rtol=0.03)
    np.testing.assert_allclose(hi - lo, want[1] - want[0], rtol=0.02)


def test_samples_that_calibrate_nothing():
    for call, words in (
        (lambda: converters.calibrate(jnp.zeros(0), 4), "are none"),
        (lambda: converters.calibrate(jnp.array([1, jnp.nan]), 4), "NaN"),
        (lambda: converters.calibrate(jnp.ones(3), 4, 0.0), "percentile is 0"),
        (lambda: converters.calibrate(jnp.ones(3), 4, 101), "percentile is"),
        (lambda: converters.calibrate(jnp.ones(3), 0), "bits is 0"),
    ):
        with pytest.raises(UsageError, match=words):
            call()
    # A constant is its own range.
    assert converters.calibrate(jnp.full(4, 2.5), 8) == (2.5, 2.5)


@pytest.mark.parametrize("bits", BITS)
def test_the_affine_code_is_the_model(key, bits):
    x = spread(key)
    code, step, low = (np.asarray(a) for a in converters.affine(x, bits))
    x = np.asarray(x, np.float64)
    span = x.max(-1, keepdims=True) - x.min(-1, keepdims=True)
    np.testing.assert_allclose(step, span / (2**bits - 1), rtol=1e-6)
    np.testing.assert_array_equal(low, x.min(-1, keepdims=True))
    place = (x - low) / span * (2**bits - 1)
    clear = np.abs(place - np.floor(place) - 0.5) > 2e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(code[clear], np.rint(place)[clear])


@given(vectors, st.sampled_from([1, 3, 7, 8, 16, 22, 23, 24]))
def test_an_affine_code_is_whole_in_range_and_near(x, bits):
    code, step, low = (
        np.asarray(a, np.float64) for a in converters.affine(x, bits)
    )
    assert (code == np.rint(code)).all()
    assert (code >= 0).all() and (code <= 2**bits - 1).all()
    rounding = 3e-7 * np.abs(x).max()  # of float32
    assert (np.abs(step * code + low - x) <= 0.501 * step + rounding).all()
    np.testing.assert_array_equal(low[:, 0], x.min(-1))


@pytest.mark.parametrize("bits", [1, 7, 8, 10])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_ends_of_a_vector_have_the_first_and_last_code(key, bits, dtype):
    x = spread(key).astype(dtype)
    code = np.asarray(converters.affine(x, bits)[0], np.float64)
    assert (code.min(-1) == 0).all()
    assert (code.max(-1) == 2**bits - 1).all()


@pytest.mark.parametrize("level", [0.0, 0.7, -3.0])
def test_a_constant_vector_has_code_zero_and_no_slope(level):
    x = jnp.full((2, 5), level)
    code, step, low = converters.affine(x, 4)
    np.testing.assert_array_equal(code, 0)
    np.testing.assert_array_equal(step, 0)
    np.testing.assert_array_equal(low, np.float32(level))

    def value(x):
        code, step, low = converters.affine(x, 4)
        return jnp.sum(step * code + low)

    assert np.isfinite(jax.jit(jax.grad(value))(x)).all()


def test_the_affine_gradient_is_that_of_the_input(key):
    def value(x):
        code, step, low = converters.affine(x, 3)
        return jnp.sum((step * code + low) * upstream)

    x, upstream = spread(key), spread(jax.random.key(1))
    slope = jax.jit(jax.grad(value))(x)
    np.testing.assert_allclose(slope, upstream, rtol=1e-5)


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_bit_planes_are_the_binary_digits(bits):
    code = jnp.linspace(0, 2**bits - 1, 30).round().reshape(5, 6)
    planes = np.asarray(converters.bit_planes(code, bits))
    assert planes.shape == (bits, 5, 6) and planes.dtype == np.float32
    for row, column in np.ndindex(5, 6):
        digits = f"{int(code[row, column]):0{bits}b}"[::-1]
        assert "".join(str(int(b)) for b in planes[:, row, column]) == digits


def test_weighted_bit_planes_have_the_gradient_of_the_code():
    def weighted(code):
        powers = 2.0 ** jnp.arange(6)
        return powers @ converters.bit_planes(code, 6)

    code = jnp.array([0.0, 13.0, 63.0])
    slope = jax.jit(jax.jacobian(weighted))(code)
    np.testing.assert_allclose(slope, np.eye(3))


def test_straight_through_is_exact_forward(key):
    x, value = spread(key), 1e-7 * spread(jax.random.key(1))
    y, vjp = jax.vjp(lambda x: converters.straight_through(x, value), x)
    np.testing.assert_array_equal(y, value)
    np.testing.assert_array_equal(vjp(x)[0], x)
