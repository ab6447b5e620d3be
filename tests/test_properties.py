"""What holds for any input of the pure rooms, on inputs that are searched for.

Shapes are few, so that little is compiled; their numbers are drawn.
"""

import functools
import math

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware as hw
from jaxedge.core.checks import UsageError
from jaxedge.features.radiomics import first_order
from jaxedge.hardware import crossbar
from jaxedge.learn import evidential, federated, masks
from jaxedge.quantize import integer, minifloat

pytestmark = pytest.mark.usefixtures("compile_quickly")

few = hypothesis.settings(max_examples=15)
EPS = float(np.finfo(np.float32).eps)
FORMATS = (minifloat.E2M1, minifloat.E3M0, minifloat.of("e4m3"))


def floats(most=1e3, least=0.0, low=None):
    """Float32 numbers up to a size, zero among them, none close to it."""
    low = -most if low is None else low
    return st.floats(
        low, most, width=32, allow_subnormal=False, allow_nan=False
    ).map(lambda x: 0.0 if abs(x) < max(least, 1e-6) else x)


def arrays(shape, **limits):
    return drawn.arrays(np.float32, shape, elements=floats(**limits))


@functools.cache
def jitted(function, *static):
    return jax.jit(function, static_argnums=static)


def as_float64(*of):
    return [np.asarray(a, np.float64) for a in of]


# Hardware.


@jax.jit
def by_crossbar(key, x, w):
    return hw.dot(x, hw.program(key, w, SPEC))


@jax.jit
def convolved_by_crossbar(key, x, w):
    return hw.conv(x, hw.program(key, w, SPEC), padding="VALID")


SPEC = crossbar.Spec(hw.devices.get("ideal"))


@few
@hypothesis.given(arrays((3, 5)), arrays((5, 4)), st.integers(0, 2**31 - 1))
def test_an_ideal_crossbar_multiplies_as_the_plain_product(x, w, seed):
    y = by_crossbar(jax.random.key(seed), x, w)
    x64, w64 = as_float64(x, w)
    # Rounding of conductances, inputs and five products, each relative to the
    # largest input of the vector and the largest weight of the column.
    limit = np.abs(x64).max(1)[:, None] * np.abs(w64).max(0)[None]
    assert (np.abs(y - x64 @ w64) <= 5 * 8 * EPS * limit).all()


@few
@hypothesis.given(arrays((1, 4, 4, 2)), arrays((3, 3, 2, 3)))
def test_an_ideal_crossbar_convolves_as_the_plain_kernel(x, w):
    y = convolved_by_crossbar(jax.random.key(0), x, w)
    x64, w64 = as_float64(x, w)
    patches = np.lib.stride_tricks.sliding_window_view(x64, (3, 3), (1, 2))
    expected = np.einsum("bxycij,ijco->bxyo", patches, w64)
    limit = np.abs(x64).max() * np.abs(w64).max()
    assert (np.abs(y - expected) <= 18 * 8 * EPS * limit).all()


# Numbers of few bits.


@functools.partial(jax.jit, static_argnums=(1, 2))
def rounded(x, bits, signed):
    return integer.dynamic(x, bits, signed=signed)


def positive(most=1e2):
    return floats(most, least=1e-2, low=0.015625)


@few
@hypothesis.given(arrays((12,)), positive(), st.sampled_from([2, 4, 8]))
def test_a_code_times_its_step_is_the_value(x, step, bits):
    low, high = integer.limits(bits)
    step = np.float32(step)
    value = jitted(integer.lsq)(x, step, low=low, high=high)
    code = np.asarray(jitted(integer.code)(x, step, low=low, high=high))
    assert ((code >= low) & (code <= high)).all()
    np.testing.assert_array_equal(code.astype(np.float32) * step, value)
    again = jitted(integer.lsq)(value, step, low=low, high=high)
    np.testing.assert_array_equal(again, value)
    inside = (x >= low * step) & (x <= high * step)
    off = np.abs(np.asarray(value, np.float64) - x)
    assert (off <= step / 2 + 2 * EPS * np.abs(x))[inside].all()
    order = np.argsort(x)
    assert (np.diff(np.asarray(value, np.float64)[order]) >= 0).all()


@few
@hypothesis.given(arrays((2, 9)), st.sampled_from([1, 8]), st.booleans())
def test_a_dynamic_grid_errs_by_no_more_than_its_steps(x, bits, signed):
    # Unsigned is for what a ReLU lets through, from 0 on.
    x = x if signed else np.abs(x) * (np.arange(9) > 0)
    value = np.asarray(rounded(x, bits, signed), np.float64)
    step = np.ptp(x.astype(np.float64), 1, keepdims=True) / (2**bits - 1)
    off, rounding = np.abs(value - x), 4 * 2**bits * EPS * np.abs(x).max()
    # Half a step of rounding, and one that the signed grid is moved down.
    assert (off <= (1.5 if signed else 0.5) * step + rounding).all()


@few
@hypothesis.given(arrays((12,)), positive(), st.sampled_from(FORMATS))
def test_a_small_float_is_kept_and_in_order(x, top, format):
    x = np.sort(x)
    top = np.float32(top)
    quantise = jitted(minifloat.fake_quant, 1)
    value = quantise(x, format, top)
    np.testing.assert_array_equal(quantise(value, format, top), value)
    assert (np.diff(np.asarray(value, np.float64)) >= 0).all()
    grid = minifloat.grid(format) * float(top) / format.top
    # The nearest of all values, up to rounding of the scale.
    near = np.abs(np.asarray(value, np.float64)[:, None] - grid).min(1)
    assert (near <= 4 * EPS * float(top)).all()
    off = np.abs(np.asarray(value, np.float64) - x)
    least = np.abs(x[:, None].astype(np.float64) - grid).min(1)
    assert (off <= least + 4 * EPS * (np.abs(x) + float(top))).all()


@functools.partial(jax.jit, static_argnums=2)
def there_and_back(x, top, format):
    """Codes, the same from bytes, values, and values of these codes."""
    scale = minifloat.scale_of(format, top)
    code = minifloat.encode(x, format, scale)
    back = minifloat.unpack(minifloat.pack(code), len(x))
    value = minifloat.to_values(x, format, scale)
    return code, back, value, minifloat.decode(back, format, scale)


@few
@hypothesis.given(arrays((7,)), positive(), st.sampled_from(FORMATS[:2]))
def test_codes_and_bytes_are_the_same_numbers(x, top, format):
    code, back, value, decoded = there_and_back(x, np.float32(top), format)
    np.testing.assert_array_equal(back, code)
    np.testing.assert_array_equal(decoded, value)


# Learning.


@few
@hypothesis.given(arrays((3, 7), most=4.0), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_largest_scores_stay(scores, keep):
    kept = np.asarray(jitted(masks.top_fraction, 1)(scores, keep), bool)
    assert kept.sum() == masks.kept_count(scores.size, keep)
    size = np.abs(scores)
    if 0 < kept.sum() < kept.size:
        assert size[kept].min() >= size[~kept].max()
    flipped = masks.flips(jnp.asarray(kept), jnp.asarray(~kept))
    assert int(sum(flipped)) == scores.size


@few
@hypothesis.given(
    arrays((4, 3)),
    drawn.arrays(np.float32, 4, elements=floats(50.0, least=0.1, low=0.0)),
)
def test_an_average_lies_among_its_clients(x, weights):
    found = np.asarray(federated.average({"w": x}, weights)["w"], np.float64)
    x64, w64 = as_float64(x, weights)
    if not w64.any():
        np.testing.assert_array_equal(found, 0)
        return
    rounding = 16 * EPS * np.abs(x64).max()
    taken = x64[w64 > 0]
    assert (found >= taken.min(0) - rounding).all()
    assert (found <= taken.max(0) + rounding).all()
    expected = w64 @ x64 / w64.sum()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding)


@jax.jit
def doubts(logits):
    alpha = evidential.alpha(logits)
    return (
        evidential.probability(alpha),
        evidential.vacuity(alpha),
        evidential.expected_entropy(alpha),
        evidential.mutual_information(alpha),
    )


@few
@hypothesis.given(arrays((5, 4), most=50.0))
def test_evidence_sums_to_one_and_splits_its_doubt(logits):
    p, vacuity, chance, doubt = as_float64(*doubts(logits))
    np.testing.assert_allclose(p.sum(-1), 1, rtol=4 * EPS)
    assert ((vacuity > 0) & (vacuity <= 1)).all()
    assert (chance >= 0).all() and (chance <= math.log(4) + 1e-6).all()
    assert (doubt >= 0).all()
    # The entropy of the mean is what is left to chance and what is unknown.
    whole = -(p * np.log(p)).sum(-1)
    np.testing.assert_allclose(chance + doubt, whole, rtol=0, atol=3e-6)


# Features.


@few
@hypothesis.given(
    arrays((1, 3, 4)),
    drawn.arrays(bool, (1, 3, 4)).filter(lambda mask: mask.sum() > 1),
)
def test_first_order_features_are_those_of_numpy(values, mask):
    found = first_order.features(values, mask, np.ones((1, 3, 4), int), 1)
    x = values[mask].astype(np.float64)
    expected = {
        "Mean": x.mean(),
        "Median": np.median(x),
        "Minimum": x.min(),
        "Maximum": x.max(),
        "Range": np.ptp(x),
        "10Percentile": np.percentile(x, 10),
        "90Percentile": np.percentile(x, 90),
        "InterquartileRange": np.subtract(*np.percentile(x, [75, 25])),
        "MeanAbsoluteDeviation": np.abs(x - x.mean()).mean(),
        "RootMeanSquared": np.sqrt((x**2).mean()),
    }
    size = np.abs(x).max()
    for name, value in expected.items():
        assert abs(float(found[name]) - value) <= 16 * EPS * size, name
    for name, value in {"Variance": x.var(), "Energy": x @ x}.items():
        assert abs(float(found[name]) - value) <= 16 * EPS * len(x) * size**2
    assert found["Uniformity"] == 1 and abs(float(found["Entropy"])) < 1e-6


@few
@hypothesis.given(
    st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 11)
)
def test_what_is_no_number_is_named(value, at):
    scores = np.ones(12, np.float32)
    scores[at] = value
    with pytest.raises(UsageError, match=rf"index \({at},\)"):
        masks.top_fraction(jnp.asarray(scores), 0.5)
    with pytest.raises(UsageError, match="finite"):
        evidential.alpha(scores)
