import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import integer

# One program a call instead of one an operation: quicker to compile.
dynamic = jax.jit(integer.dynamic, static_argnames=("bits", "signed", "over"))
FORMS = [(signed, over) for signed in (False, True) for over in integer.RANGES]


def reference(x, bits, signed, over):
    """(value, step, distance of each entry from a tie), in float64."""
    x = np.asarray(x, np.float64)
    value, step, margin = (np.empty_like(x) for _ in range(3))
    parts = [slice(None)] if over == "tensor" else range(len(x))
    for part in parts:
        low, high = x[part].min(), x[part].max()
        d = (high - low) / (2**bits - 1)
        if d == 0:
            value[part], step[part], margin[part] = x[part], 0, 1
            continue
        scaled = (x[part] - low if signed else x[part]) / d
        code = np.rint(scaled)
        anchor = low / d
        if signed:
            code = code + np.floor(anchor)
        else:
            code = np.clip(code, 0, max(255, 2**bits - 1))
        value[part], step[part] = code * d, d
        margin[part] = np.abs(scaled - np.floor(scaled) - 0.5)
        if signed:  # floor(low / d) jumps where low is a multiple of d.
            margin[part] = np.minimum(
                margin[part], np.abs(anchor - np.rint(anchor))
            )
    return value, step, margin


def activations(seed, *shape):
    """Positive and negative values, each example with its own range."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-3, 3, (shape[0],) + (1,) * (len(shape) - 1))
    return (scale * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("signed, over", FORMS)
@pytest.mark.parametrize("bits", [1, 3, 4, 8, 10])
def test_matches_float64(bits, signed, over):
    x = activations(bits, 5, 7, 6, 3)
    if not signed:
        x = np.maximum(x, 0)
    got = dynamic(jnp.asarray(x), bits, signed=signed, over=over)
    value, step, margin = reference(x, bits, signed, over)
    error = np.abs(np.asarray(got, np.float64) - value)
    # float32 knows a code of b bits to 2^(b - 22) or so of a step: it may take
    # the other neighbour of a tie, and nothing else.
    slack = 2.0 ** max(bits - 22, -16)
    sure = margin > slack
    assert sure.mean() > 0.9
    np.testing.assert_array_less(error[sure], slack * step[sure])
    np.testing.assert_array_less(error, (1 + slack) * step)


def exactly(x, bits, expected, **how):
    """Checks one example whose step is a power of two, so nothing rounds."""
    got = dynamic(jnp.array([x], jnp.float32), bits, **how)
    np.testing.assert_array_equal(got[0], np.float32(expected))


def test_halves_go_to_even():
    exactly([0, 0.5, 1.5, 2.5, 3.5, 14.5, 15], 4, [0, 0, 2, 2, 4, 14, 15])
    exactly([-7, -6.5, -5.5, -4.5, 8], 4, [-7, -7, -5, -5, 8], signed=True)
    exactly([0, 0.25, 0.75, 1.25, 1.75], 3, [0, 0.25, 0.75, 1.25, 1.75])


def test_signed_grid_is_anchored_at_multiples_of_the_step():
    # low = -7.25 goes down to -8, and everything shifts by 3/4 of a step.
    exactly([-7.25, -0.25, 0, 7.75], 4, [-8, -1, -1, 7], signed=True)
    # A positive range keeps its offset: floor(4.5) = 4.
    exactly([4.5, 5.5, 7.5], 2, [4, 5, 7], signed=True)


def test_unsigned_clips_below_zero():
    exactly([-3, -0.6, 0, 2, 4], 3, [0, 0, 0, 2, 4])


@pytest.mark.parametrize("bits", [8, 9, 10])
def test_no_code_saturates_beyond_8_bits(bits):
    # The released code would, at 255.
    levels = 2.0**bits - 1
    exactly([0, 1, 254, 255, levels], bits, [0, 1, 254, 255, levels])
    exactly([0, 255, levels], bits, [0, 255, levels], signed=True)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_unsigned_clips_at_code_255(bits):
    # A range far from zero: its codes would go on, as in the released code.
    low = 300.0 * (2**bits - 1)
    exactly([low, low + 2**bits - 1], bits, [255, 255])


@pytest.mark.parametrize("signed, over", FORMS)
def test_constant_inputs_are_unchanged(signed, over):
    for value in (0.0, -2.5, 7.3, 1e-30):
        x = jnp.full((3, 4), value)
        got = dynamic(x, 4, signed=signed, over=over)
        np.testing.assert_array_equal(got, x)


def test_a_constant_example_beside_others_is_unchanged():
    x = jnp.array([[2.25, 2.25, 2.25], [0.0, 0.4, 3.0]])
    expected = [[2.25, 2.25, 2.25], [0, 0, 3]]
    np.testing.assert_array_equal(dynamic(x, 2), expected)


@pytest.mark.parametrize("signed, over", FORMS)
@pytest.mark.parametrize("bits", [None, 4, 10])
def test_gradient_is_exactly_one(bits, signed, over):
    x = jnp.asarray(activations(0, 3, 20)).at[1].set(5)  # one constant example
    _, pull = jax.vjp(lambda x: dynamic(x, bits, signed=signed, over=over), x)
    g = jnp.asarray(activations(1, 3, 20))
    np.testing.assert_array_equal(pull(g)[0], g)


def test_none_bits_are_exact():
    x = jnp.asarray(activations(0, 3, 20))
    for signed, over in FORMS:
        got = dynamic(x, None, signed=signed, over=over)
        np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("signed", [False, True])
def test_an_example_does_not_depend_on_its_neighbours(signed):
    x = activations(2, 6, 4, 5)
    whole = np.asarray(dynamic(x, 4, signed=signed))
    for rows in ([0], [3, 1], [5, 5]):
        part = dynamic(x[rows], 4, signed=signed)
        np.testing.assert_array_equal(part, whole[rows])
    # Over the tensor it does, so the test above can fail.
    tensor = dynamic(x, 4, signed=signed, over="tensor")
    alone = dynamic(x[:1], 4, signed=signed, over="tensor")
    assert (alone != tensor[:1]).any()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_levels_and_error(bits, signed):
    x = jnp.abs(jnp.asarray(activations(3, 4, 500)))
    got = dynamic(x, bits, signed=signed)
    step = (x.max(1) - x.min(1)) / (2**bits - 1)
    # One step where the grid is anchored elsewhere, half a step where not.
    reach = 1.001 if signed else 0.501
    assert (jnp.abs(got - x).max(1) <= reach * step).all()
    for row in got:
        assert len(np.unique(row)) <= 2**bits


@pytest.mark.parametrize(
    "bits", [0, -1, 25, np.nan, np.inf, "4"], ids=lambda b: f"bits {b}"
)
def test_bits_out_of_range(bits):
    with pytest.raises(UsageError, match="^bits "):
        integer.dynamic(jnp.ones((1, 2)), bits)


def test_unknown_range_is_named():
    for bits in (4, None):
        with pytest.raises(UsageError, match="over 'exmple'.*'example'"):
            integer.dynamic(jnp.ones((1, 2)), bits, over="exmple")


@pytest.mark.parametrize("signed, over", FORMS)
def test_contract(signed, over, compilations):
    def quantise(x):
        return integer.dynamic(x, 4, signed=signed, over=over)

    x, other = (jnp.asarray(activations(i, 4, 3, 5)) for i in (4, 5))
    jitted = functools.partial(dynamic, bits=4, signed=signed, over=over)
    batched = jax.jit(jax.vmap(quantise))
    loop = np.stack([quantise(part) for part in x])
    np.testing.assert_allclose(jitted(x), quantise(x), rtol=1e-6)
    np.testing.assert_allclose(batched(x), loop, rtol=1e-6)
    with compilations() as names:
        jitted(other), batched(other), quantise(other)
    assert not names


@pytest.mark.parametrize("signed, over", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_contract_dtype(dtype, signed, over):
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 2, (3, 50)), dtype)
    got = dynamic(x, 3, signed=signed, over=over)
    assert got.dtype == x.dtype and got.shape == x.shape
    value, step, margin = reference(x, 3, signed, over)
    error = np.abs(np.asarray(got, np.float64) - value)
    # bfloat16 has 8 bits, so its step is known to 1/256 of itself.
    sure = margin > 0.05
    np.testing.assert_array_less(error[sure], 0.1 * step[sure])


def test_tiny_and_large_ranges_stay_finite():
    for scale in (1e-45, 1e-38, 1e-30, 1e37):
        x = jnp.array([[0.0, 0.3, 1.0]]) * scale
        for signed, over in FORMS:
            got = dynamic(x, 4, signed=signed, over=over)
            assert jnp.isfinite(got).all()
            np.testing.assert_allclose(got, x, atol=scale)
