"""Small floating-point formats against float64, ml_dtypes and closed forms."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from jaxedge.core.checks import UsageError
from jaxedge.quantize import minifloat
from jaxedge.quantize.minifloat import Format

ALL = [f for bits in (2, 4, 8) for f in minifloat.formats(bits)]
FOUR = minifloat.formats(4)
pytestmark = pytest.mark.usefixtures("compile_quickly")
every = pytest.mark.parametrize("format", ALL, ids=lambda f: f.name)
fake_quant = jax.jit(minifloat.fake_quant, static_argnames=("format", "compat"))


def values(format, max_value=None):
    """Every value by eq. 1 of the paper, code by code, float64."""
    j, k = format
    found = set()
    for p in range(2**j):
        for d in range(2**k):
            size = 2.0**p * (1 + d / 2**k) if p else 2.0 * d / 2**k
            found |= {size, -size}
    grid = np.array(sorted(found))
    return grid if max_value is None else grid * (max_value / grid[-1])


def samples(n, largest, seed=0):
    """Numbers of all sizes around a format's range, float32."""
    rng = np.random.default_rng(seed)
    size = largest * 2.0 ** rng.uniform(-12, 0.5, n)
    return (size * rng.choice([-1, 1], n)).astype(np.float32)


def nearest(x, grid):
    """The distance to the nearest value, float64."""
    x = np.clip(np.asarray(x, np.float64), grid[0], grid[-1])
    at = np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)
    return np.minimum(x - grid[at - 1], grid[at] - x)


@every
def test_the_grid_has_every_code_once(format):
    grid = minifloat.grid(format)
    np.testing.assert_array_equal(grid, values(format))
    # Plus and minus zero are one value.
    assert len(grid) == 2**format.bits - 1
    assert format.top == grid[-1]


def test_grids_of_the_paper():
    # llm_fp4 4.1.
    for format, positive in (
        (minifloat.E2M1, [0, 1, 2, 3, 4, 6, 8, 12]),
        (minifloat.E1M2, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        (minifloat.E3M0, [0, 2, 4, 8, 16, 32, 64, 128]),
    ):
        np.testing.assert_array_equal(minifloat.grid(format)[7:], positive)
    assert FOUR == (minifloat.E1M2, minifloat.E2M1, minifloat.E3M0)
    assert minifloat.of("E2M1") == minifloat.E2M1 == Format(2, 1)


@every
def test_every_number_goes_to_the_nearest_value(format):
    largest = 2.7
    x = samples(4000, largest)
    y = np.asarray(fake_quant(x, format, largest), np.float64)
    grid = values(format, largest)
    clipped = np.clip(x.astype(np.float64), -largest, largest)
    np.testing.assert_allclose(
        np.abs(y - clipped), nearest(x, grid), atol=1e-6 * largest
    )
    assert len(np.unique(y)) <= 2**format.bits


@pytest.mark.parametrize(
    ("name", "peer", "largest", "upto"),
    [
        ("e2m1", ml_dtypes.float4_e2m1fn, 6, 9),
        ("e2m3", ml_dtypes.float6_e2m3fn, 7.5, 9),
        ("e3m2", ml_dtypes.float6_e3m2fn, 28, 40),
        # The peer has a NaN in place of its largest value, 480.
        ("e4m3", ml_dtypes.float8_e4m3fn, 480, 448),
    ],
)
def test_dtypes_of_a_peer_hold_the_same(name, peer, largest, upto):
    format = minifloat.of(name)
    # Ties too: multiples of a fraction of the smallest step.
    step = values(format, largest)
    step = step[step > 0][0] / 8
    ties = np.arange(-upto / step, upto / step + 1, dtype=np.float64)
    ties = ties[:: max(1, len(ties) // 100_000)] * step
    x = np.concatenate([ties, samples(5000, upto / 1.5)]).astype(np.float32)
    want = x.astype(peer).astype(np.float32)
    found = np.asarray(fake_quant(x, format, largest))
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("format", ALL, ids=lambda f: f.name)
def test_halves_go_to_the_even_code(format):
    grid = values(format)
    middle = ((grid[1:] + grid[:-1]) / 2).astype(np.float32)
    code = np.asarray(
        minifloat.encode(
            jnp.asarray(middle), format, minifloat.scale_of(format, format.top)
        )
    )
    magnitude = code % 2 ** (format.bits - 1)
    # With no mantissa the codes' last bit is that of the exponent, and what is
    # rounded is 1 in 1 or 2: halves go up.
    if format.mantissa_bits:
        assert not (magnitude % 2).any()
    else:
        above = np.abs(middle) > 2
        up = np.abs(
            minifloat.decode(
                jnp.asarray(code),
                format,
                minifloat.scale_of(format, format.top),
            )
        )
        assert (up[above] > np.abs(middle)[above]).all()


def test_the_formula_of_the_paper():
    """Eq. 8 and 9 with their logarithm, away from ties, float64."""
    for format in FOUR:
        j, k = format
        largest = 1.7
        x = samples(5000, largest).astype(np.float64)
        bias = 2**j - np.log2(largest) + np.log2(2 - 2.0**-k) - 1
        f = np.floor(np.log2(np.abs(x)) + bias)
        v = np.where(f >= 1, 2.0 ** (f - k), 2.0 ** (1 - k)) * 2.0**-bias
        scaled = np.clip(x, -largest, largest) / v
        want = v * np.rint(scaled)
        tie = np.abs(np.abs(scaled - np.floor(scaled)) - 0.5) < 1e-4
        found = np.asarray(fake_quant(np.float32(x), format, largest))
        np.testing.assert_allclose(found[~tie], want[~tie], rtol=1e-5)
        np.testing.assert_allclose(
            minifloat.bias_for(format, largest), bias, rtol=1e-6
        )


@pytest.mark.parametrize(
    ("format", "compat", "at", "error"),
    [
        # llm_fp4 4.1: of a standard normal variable at the best clip.
        (minifloat.E1M2, None, 2.474, 0.012889),
        (minifloat.E2M1, None, 2.923, 0.012685),
        (minifloat.E3M0, None, 4.194, 0.037745),
        (minifloat.E2M1, "released", 2.907, 0.011588),
        (minifloat.E1M2, "released", 2.551, 0.010405),
    ],
)
def test_errors_of_a_normal_variable(format, compat, at, error):
    # A midpoint rule over +-7 std; its error is far below the last digit.
    x = (np.arange(200_000) + 0.5) / 200_000 * 14 - 7
    weight = stats.norm.pdf(x) * (14 / 200_000)
    y = np.asarray(fake_quant(np.float32(x), format, at, compat=compat))
    np.testing.assert_allclose(weight @ (y - x) ** 2, error, rtol=2e-4)
    levels = 2**format.bits - 1 + (0 if compat is None else 2)
    assert len(np.unique(np.abs(y))) == (levels + 1) // 2


def test_what_is_no_number_stays_none_and_zeros_stay_zero():
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.0, -0.0, 1e-30])
    y = np.asarray(fake_quant(x, minifloat.E2M1, 6.0))
    np.testing.assert_array_equal(y, [np.nan, 6, -6, 0, -0.0, 0])
    y = np.asarray(fake_quant(x, minifloat.E2M1, 0.0))
    np.testing.assert_array_equal(y[1:] == 0, [False, False, True, True, True])
    assert np.isnan(y[:3]).all()


def test_a_maximum_for_each_channel_or_token(key):
    x = jax.random.normal(key, (5, 7))
    limit = jnp.abs(x).max(-1, keepdims=True)
    y = fake_quant(x, minifloat.E1M2, limit)
    rows = [
        fake_quant(r, minifloat.E1M2, m[0])
        for r, m in zip(x, limit, strict=True)
    ]
    np.testing.assert_array_equal(y, jnp.stack(rows))
    channel = jnp.abs(x).max(0)
    y = fake_quant(x, minifloat.E1M2, channel)
    again = jax.vmap(
        lambda c, m: minifloat.fake_quant(c, minifloat.E1M2, m), (1, 0), 1
    )(x, channel)
    np.testing.assert_array_equal(y, again)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_dtype_is_kept_and_nothing_compiles_twice(key, dtype, compilations):
    x = jax.random.normal(key, (64,)).astype(dtype)
    first = fake_quant(x, minifloat.E2M1, 3.0)
    assert first.dtype == dtype
    with compilations() as names:
        fake_quant(x, minifloat.E2M1, 2.0)
    assert not names
    eager = minifloat.fake_quant(x, minifloat.E2M1, 3.0)
    np.testing.assert_array_equal(first, eager)


def test_gradients_pass_straight_through():
    x = jnp.array([-7.0, -5.2, -0.3, 0.0, 0.9, 5.9, 8.0])
    weight = jnp.arange(1.0, 8.0)

    def loss(x, limit):
        return weight @ minifloat.fake_quant(x, minifloat.E2M1, limit)

    of_x, of_limit = jax.grad(loss, (0, 1))(x, 6.0)
    inside = np.abs(x) <= 6
    np.testing.assert_array_equal(of_x, np.where(inside, weight, 0))
    # Learned steps: the rounding error over the maximum; the sign outside.
    y = np.asarray(minifloat.fake_quant(x, minifloat.E2M1, 6.0))
    want = np.where(inside, (y - x) / 6, np.sign(x))
    np.testing.assert_allclose(of_limit, weight @ want, rtol=1e-5)
    assert jax.grad(loss, 1)(x, 0.0) == 0


@every
def test_codes_and_values_are_one_to_one(format):
    code = jnp.arange(2**format.bits, dtype=jnp.uint8)
    scale = minifloat.scale_of(format, 3.0)
    value = np.asarray(minifloat.decode(code, format, scale), np.float64)
    half = 2 ** (format.bits - 1)
    np.testing.assert_allclose(
        value[:half], values(format, 3.0)[half - 1 :], rtol=3e-7
    )
    np.testing.assert_array_equal(value[half:], -value[:half])
    again = np.array(
        minifloat.encode(jnp.asarray(value, jnp.float32), format, scale)
    )
    # Minus zero has the code of plus zero.
    np.testing.assert_array_equal(again, np.where(code == half, 0, code))
    x = jnp.asarray(samples(500, 3.0))
    np.testing.assert_allclose(
        minifloat.decode(minifloat.encode(x, format, scale), format, scale),
        fake_quant(x, format, 3.0),
        rtol=1e-6,
    )


def test_two_codes_share_a_byte():
    packed = minifloat.pack(jnp.array([[1, 2, 15], [4, 0, 9]], jnp.uint8))
    # The first in the low nibble, as torchao has it.
    np.testing.assert_array_equal(packed, [[0x21, 0x0F], [0x04, 0x09]])
    assert packed.dtype == jnp.uint8
    code = jnp.arange(16, dtype=jnp.uint8)
    np.testing.assert_array_equal(minifloat.unpack(minifloat.pack(code)), code)
    odd = minifloat.unpack(packed, 3)
    np.testing.assert_array_equal(odd, [[1, 2, 15], [4, 0, 9]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minifloat.grid(Format(0, 3)), "exponent_bits is 0"),
        (lambda: minifloat.grid(Format(2, -1)), "mantissa_bits is -1"),
        (lambda: minifloat.grid(Format(4, 4)), "e4m4 has 9 bits"),
        (lambda: minifloat.of("e2m2x"), "unknown number format 'e2m2x'"),
        (lambda: minifloat.formats(9), "bits is 9"),
        (
            lambda: minifloat.fake_quant(jnp.ones(3), minifloat.E2M1, -1.0),
            "max_value is -1",
        ),
        (
            lambda: minifloat.fake_quant(
                jnp.ones((2, 3)), minifloat.E2M1, jnp.ones(2)
            ),
            r"the maxima have shape \(2,\)",
        ),
        (
            lambda: minifloat.fake_quant(
                jnp.ones(3), minifloat.E2M1, 1.0, compat="release"
            ),
            "unknown compat 'release'. Did you mean 'released'",
        ),
        (lambda: minifloat.bias_for(minifloat.E2M1, 0.0), "max_value is 0"),
        (
            lambda: minifloat.encode(jnp.array([jnp.nan]), minifloat.E2M1, 1.0),
            "NaN",
        ),
        (lambda: minifloat.pack(jnp.ones(2, jnp.int32)), "code is int32"),
        (
            lambda: minifloat.pack(jnp.array([16], jnp.uint8)),
            "code is 16",
        ),
        (
            lambda: minifloat.unpack(jnp.zeros(3, jnp.uint8), 4),
            "n is 4, but 3 bytes hold 6",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()
