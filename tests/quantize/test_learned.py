"""Tests of integer quantisers whose step is learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import integer

# Learned steps. One program each, as far as shapes allow.
float32 = functools.partial(np.array, dtype=np.float32)
lsq = jax.jit(integer.lsq)
lsq_plus = jax.jit(integer.lsq_plus)
pact = jax.jit(integer.pact)
code = jax.jit(integer.code)
init_act_step = jax.jit(
    integer.init_act_step, static_argnames=("signed", "axes")
)
init_offset = jax.jit(integer.init_offset, static_argnames=("signed", "axes"))
init_step = jax.jit(integer.init_step, static_argnames=("signed", "axes"))


@jax.jit
def lsq_gradients(x, step, low, high, scale, slope):
    """(value, gradients of x and step)."""
    value, pull = jax.vjp(
        lambda x, step: integer.lsq(
            x, step, low=low, high=high, grad_scale=scale
        ),
        x,
        step,
    )
    return value, *pull(slope)


@jax.jit
def plus_gradients(x, step, offset, low, high, slope):
    """(value, gradients of x, step and offset)."""
    value, pull = jax.vjp(
        lambda *a: integer.lsq_plus(*a, low=low, high=high), x, step, offset
    )
    return value, *pull(slope)


@jax.jit
def pact_gradients(x, limit, bits, slope):
    """(value, gradients of x and limit)."""
    value, pull = jax.vjp(
        lambda x, limit: integer.pact(x, limit, bits=bits), x, limit
    )
    return value, *pull(slope)


def quantised(x, step, offset, low, high, slope):
    """(value, gradients of x, step and offset), entry by entry in float64."""
    x, slope = np.asarray(x, np.float64), np.asarray(slope, np.float64)
    step, offset = np.asarray(step, np.float64), np.asarray(offset, np.float64)
    steps = np.broadcast_to(step, x.shape)
    offsets = np.broadcast_to(offset, x.shape)
    value, d_x, d_step, d_offset = (np.zeros(x.shape) for _ in range(4))
    for at in np.ndindex(x.shape):
        v = (x[at] - offsets[at]) / steps[at]
        if v < low:
            code, d_step[at], d_offset[at] = low, low, 1
        elif v > high:
            code, d_step[at], d_offset[at] = high, high, 1
        else:
            code = round(float(v))  # Python's too takes halves to even.
            d_x[at], d_step[at] = 1, code - v
        value[at] = code * steps[at] + offsets[at]

    def gathered(d, like):
        total = np.zeros(like.shape)
        padded = (1,) * (x.ndim - like.ndim) + like.shape
        for at in np.ndindex(x.shape):
            place = tuple(i % n for i, n in zip(at, padded, strict=True))
            total[place[x.ndim - like.ndim :]] += slope[at] * d[at]
        return total

    return (
        value,
        slope * d_x,
        gathered(d_step, step),
        gathered(d_offset, offset),
    )


def weights(seed, *shape):
    """Normal numbers, a tenth of them four times as far out."""
    rng = np.random.default_rng(seed)
    far = np.where(rng.uniform(size=shape) < 0.1, 4, 1)
    return (far * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("signed", [True, False])
def test_limits(signed):
    bits = np.arange(2, 9)
    table = {
        True: [[-2, -4, -8, -16, -32, -64, -128], [1, 3, 7, 15, 31, 63, 127]],
        False: [[0] * 7, [3, 7, 15, 31, 63, 127, 255]],
    }[signed]
    found = [integer.limits(int(n), signed) for n in bits]
    np.testing.assert_array_equal(np.array(found).T, table)
    assert all(type(a) is int for pair in found for a in pair)
    traced = jax.jit(integer.limits, static_argnums=1)
    for dtype in (jnp.int32, jnp.float32):
        found = traced(jnp.asarray(bits, dtype), signed)
        np.testing.assert_array_equal(found, table)
        assert found[0].dtype == found[1].dtype == jnp.float32


@pytest.mark.parametrize("bits", [1, 9, 2.5, np.nan, "4", np.array([2, 9])])
def test_limits_of_other_bits(bits):
    with pytest.raises(UsageError, match="^bits "):
        integer.limits(bits)


STEPS = {
    "tensor": (),
    "channel": (6,),
    "row": (5, 1),
    "head": (3, 1, 1),
    "entry": (3, 5, 6),
}


@pytest.mark.parametrize("shape", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("low, high", [(-2, 1), (-8, 7), (0, 15)])
def test_lsq_matches_float64(shape, low, high):
    x, slope = weights(0, 3, 5, 6), weights(1, 3, 5, 6)
    # Of the size that puts about a tenth beyond the range of signed codes.
    size = np.random.default_rng(2).uniform(1, 2, shape) * 1.6 / high
    step = jnp.asarray(size, jnp.float32)
    found = lsq_gradients(
        x, step, float(low), float(high), jnp.float32(0.3), slope
    )
    value, d_x, d_step, _ = quantised(x, step, 0, low, high, slope)
    np.testing.assert_allclose(found[0], value, rtol=1e-6)
    np.testing.assert_array_equal(found[1], np.float32(d_x))
    assert 0.5 < np.mean(d_x != 0) < 1 or low == 0
    np.testing.assert_allclose(found[2], 0.3 * d_step, rtol=1e-4, atol=1e-5)
    assert found[2].shape == shape


def test_lsq_halves_go_to_even_and_edges_are_inside():
    low, high, step = -2.0, 1.0, 0.5
    v = float32([-2.5, -2.001, -2, -1.5, -0.5, 0.5, 0.75, 1, 1.001, 1.5])
    x, slope = v * np.float32(step), np.ones(len(v), np.float32)
    value, d_x, d_step = lsq_gradients(
        x, jnp.full(len(v), step), low, high, 1.0, slope
    )
    np.testing.assert_array_equal(
        value, np.multiply(step, [-2, -2, -2, -2, 0, 0, 1, 1, 1, 1])
    )
    # As of a clamp, of which an edge is a part.
    np.testing.assert_array_equal(d_x, [0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(
        d_step, [-2, -2, 0, -0.5, 0.5, -0.5, 0.25, 0, 1, 1]
    )


@pytest.mark.parametrize("step", [3e-5, 0.0, -2.0])
def test_traced_steps_below_the_least_are_used_as_the_least(step):
    x, slope = 1e-4 * weights(3, 3, 5, 6), weights(1, 3, 5, 6)
    found = lsq_gradients(x, jnp.float32(step), -8.0, 7.0, 1.0, slope)
    least = lsq_gradients(x, jnp.float32(1e-4), -8.0, 7.0, 1.0, slope)
    for a, b in zip(found, least, strict=True):
        np.testing.assert_array_equal(a, b)
    # The step is not stuck there.
    assert found[2] != 0 and integer.MIN_STEP == 1e-4


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan, np.inf, jnp.zeros(6)])
def test_known_steps_are_above_zero(bad):
    x = jnp.ones((5, 6))
    for name, call in {
        "step": lambda: integer.lsq(x, bad, low=-2, high=1),
        "step ": lambda: integer.lsq_plus(x, bad, 0.0, low=-2, high=1),
        "limit": lambda: integer.pact(x, bad, bits=2),
        "step  ": lambda: integer.code(x, bad, low=-2, high=1),
    }.items():
        with pytest.raises(UsageError, match=f"^{name.strip()} is .*lie in"):
            call()


def test_misuse_is_named():
    x = jnp.ones((5, 6))
    for message, call in {
        r"step has shape \(5,\)": lambda: integer.lsq(
            x, jnp.ones(5), low=-2, high=1
        ),
        r"grad_scale has shape \(6,\)": lambda: integer.lsq(
            x, 1.0, low=-2, high=1, grad_scale=jnp.ones(6)
        ),
        "low is 1 and high is 1": lambda: integer.lsq(x, 1.0, low=1, high=1),
        "x is int32": lambda: integer.lsq(
            x.astype(jnp.int32), 1.0, low=-2, high=1
        ),
        r"offset has shape \(2,\)": lambda: integer.lsq_plus(
            x, 1.0, jnp.ones(2), low=0, high=3
        ),
        "x holds 1 NaN": lambda: integer.code(
            x.at[0, 0].set(jnp.nan), 1.0, low=-2, high=1
        ),
        "gradient|'l2'": lambda: integer.gradient_scale("l2", x, 1),
        "groups is 4": lambda: integer.gradient_scale("l1", x, 1, groups=4),
        "axes holds 2": lambda: integer.init_step(x, 2, axes=2),
        r"bits has shape \(2,\)": lambda: integer.init_step(
            x, jnp.array([2, 3])
        ),
    }.items():
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize("shape", [(), (6,), (3, 1, 1)])
def test_lsq_plus_matches_float64(shape):
    x, slope = weights(4, 3, 5, 6), weights(1, 3, 5, 6)
    rng = np.random.default_rng(5)
    step = jnp.asarray(rng.uniform(0.1, 0.2, shape), jnp.float32)
    offset = jnp.asarray(rng.uniform(-1, 0, shape), jnp.float32)
    found = plus_gradients(x, step, offset, 0.0, 15.0, slope)
    expected = quantised(x, step, offset, 0, 15, slope)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], np.float32(expected[1]))
    for i in (2, 3):
        np.testing.assert_allclose(found[i], expected[i], rtol=1e-4, atol=1e-4)
        assert found[i].shape == shape and np.all(expected[i])


def test_the_offset_of_lsq_plus_has_no_gradient_inside():
    x = jnp.float32([-1, 0.1, 0.7, 1.4, 9])
    found = plus_gradients(
        x, jnp.float32(0.5), jnp.zeros(5), 0.0, 3.0, jnp.ones(5)
    )
    np.testing.assert_array_equal(found[3], [1, 0, 0, 0, 1])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(), (6,)])
def test_pact_matches_float64(bits, shape):
    x, slope = weights(6, 3, 5, 6), weights(1, 3, 5, 6)
    limit = np.random.default_rng(7).uniform(0.7, 1.4, shape)
    limit = jnp.asarray(limit, jnp.float32)
    found = pact_gradients(x, limit, jnp.int32(bits), slope)
    value, d_x, above = (np.zeros(x.shape) for _ in range(3))
    tops = np.broadcast_to(np.asarray(limit, np.float64), x.shape)
    for at in np.ndindex(x.shape):
        step = tops[at] / (2**bits - 1)
        value[at] = step * round(min(max(x[at], 0), tops[at]) / step)
        d_x[at] = slope[at] * (0 <= x[at] < tops[at])
        above[at] = slope[at] * (x[at] >= tops[at])
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.float32(d_x))
    axes = (0, 1) if shape else None
    np.testing.assert_allclose(found[2], above.sum(axes), rtol=1e-5)


def test_the_edges_of_pact():
    x = jnp.float32([-1, 0, 0.5, 2.99, 3, 4])
    value, d_x, d_limit = pact_gradients(
        x, jnp.full(6, 3.0), jnp.int32(2), jnp.ones(6)
    )
    np.testing.assert_array_equal(value, [0, 0, 0, 3, 3, 3])
    np.testing.assert_array_equal(d_x, [0, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(d_limit, [0, 0, 0, 0, 1, 1])


def test_codes_are_those_of_the_values():
    x = weights(8, 3, 5, 6)
    step, offset = jnp.float32(0.37), jnp.float32(-0.5)
    low, high = integer.limits(8)
    codes = code(x, step, low=low, high=high, offset=offset)
    assert codes.dtype == jnp.int32
    value, _, _, _ = quantised(x, step, offset, low, high, x)
    expected = np.rint((value - -0.5) / np.float64(step))
    np.testing.assert_array_equal(codes, expected)
    # 0.37 is one of the steps of which value / step is no whole number.
    np.testing.assert_allclose(
        np.asarray(codes) * 0.37 - 0.5,
        lsq_plus(x, step, offset, low=low, high=high),
        rtol=1e-5,
        atol=1e-6,
    )
    far = np.where(x > 0, 1e9, -1e9).astype(np.float32)
    codes = code(far, step, low=low, high=high, offset=offset)
    np.testing.assert_array_equal(codes, np.where(x > 0, 127, -128))


def test_clipped_is_lsq_without_rounding():
    x = jnp.float32([-3, -1.03, -0.4, 0.1, 0.49, 7])
    step = jnp.full(6, 0.5)

    def clip(x, step):
        return integer.clipped(x, step, low=-2, high=1, grad_scale=0.5)

    @jax.jit
    def gradients(x, step):
        value, pull = jax.vjp(clip, x, step)
        return value, *pull(jnp.ones(6))

    value, d_x, d_step = gradients(x, step)
    np.testing.assert_array_equal(
        value, float32([-1, -1, -0.4, 0.1, 0.49, 0.5])
    )
    np.testing.assert_array_equal(d_x, [0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(d_step, [-1, -1, 0, 0, 0, 0.5])


def test_scaled_gradient():
    a = jnp.asarray(weights(9, 5, 6))
    scale = jnp.float32([0, 1, 2, 3, 4, 1e9])
    value, pull = jax.vjp(lambda a: integer.scaled_gradient(a, scale), a)
    np.testing.assert_array_equal(value, a)
    np.testing.assert_array_equal(pull(a)[0], a * scale[None])


@functools.partial(jax.jit, static_argnums=2)
def scales(x, high, groups):
    """Every gradient scale by its kind."""
    return {
        kind: integer.gradient_scale(kind, x, high, groups=groups)
        for kind in integer.GRADIENT_SCALES
    }


def test_gradient_scales():
    x = weights(10, 4, 5, 6)
    norm = np.abs(x.astype(np.float64)).sum()
    for high in (1, 7, 127):
        for groups in (1, 4):
            n, l1 = x.size / groups, norm / groups
            for kind, expected in {
                "count": 1 / np.sqrt(n * high),
                "count_released": 1 / (np.sqrt(n) * high),
                "l1": 1 / np.sqrt(l1 * high),
                "l1_published": 1 / (np.sqrt(high) * l1),
                "none": 1,
            }.items():
                got = scales(x, high, groups)[kind]
                np.testing.assert_allclose(got, expected, rtol=1e-5)
                assert got.shape == () and got.dtype == jnp.float32
    # Nothing divides by the norm of zeros, and no gradient goes this way.
    assert scales(np.zeros_like(x), 4, 1)["l1"] == 0.5
    slope = jax.jit(jax.grad(lambda x: scales(x, 7, 1)["l1"]))(x)
    np.testing.assert_array_equal(slope, np.zeros(x.shape))


def alternated(w, bits, signed=True):
    """(step, squared error) of the better of two descents, float64."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if not signed:
        low, high = 0, 2**bits - 1
    w = np.asarray(w, np.float64).ravel()
    ends = []
    for step in (
        np.abs(w).max() / high,
        2 * np.abs(w).mean() / np.sqrt(high),
    ):
        for _ in range(100):
            q = np.rint(np.clip(w / step, low, high))
            before, step = step, (w @ q) / (q @ q)
            if abs(step - before) < 1e-5 * before:
                break
        q = np.rint(np.clip(w / step, low, high))
        ends.append((((w - step * q) ** 2).sum(), step))
    return min(ends)[1], min(ends)[0]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_initial_step_matches_float64(bits):
    w = weights(11, 3, 40, 6)
    traced = jnp.int32(bits)
    got = init_step(w, traced)
    assert got.shape == () and got.dtype == jnp.float32
    np.testing.assert_allclose(got, alternated(w, bits)[0], rtol=1e-4)
    heads = init_step(w, traced, axes=(1, 2))
    assert heads.shape == (3, 1, 1)
    expected = [alternated(part, bits)[0] for part in w]
    np.testing.assert_allclose(heads.ravel(), expected, rtol=1e-4)


def test_initial_steps_of_channels_broadcast():
    w = weights(12, 30, 4)
    got = init_step(w, jnp.int32(3), axes=0)
    assert got.shape == (4,)
    expected = [alternated(w[:, i], 3)[0] for i in range(4)]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    # The step of a channel does not depend on its neighbours.
    w[:, [0, 1, 3]] *= 1000
    again = init_step(w, jnp.int32(3), axes=0)
    assert again[2] == got[2] and again[0] > 500 * got[0]
    # An axis that is kept stays, though it is of size one.
    kept = init_step(w[None], jnp.int32(3), axes=(1, -1))
    assert kept.shape == (1, 1, 1)


def test_outliers_do_not_trap_the_initial_step():
    # Trap 6: from max|w| alone, all but the outliers stay zero at 2 bits.
    w = weights(13, 30, 40)
    w[0, 0] = 25

    def error(step):
        codes = np.rint(np.clip(w.astype(np.float64) / step, -2, 1))
        return ((w - step * codes) ** 2).sum(), np.count_nonzero(codes)

    found = error(float(init_step(w, jnp.int32(2))))
    # An exhaustive search knows the least error; the trap is the step 25.
    least = min(error(step) for step in np.geomspace(0.05, 25, 3000))
    assert found[0] < 1.0001 * least[0] < 0.95 * error(25)[0]
    assert found[1] > 400 and error(25)[1] == 1


def test_initial_steps_of_unsigned_codes():
    x = np.maximum(weights(14, 30, 40), 0)
    got = init_step(x, jnp.int32(4), signed=False)
    np.testing.assert_allclose(got, alternated(x, 4, False)[0], rtol=1e-4)


def test_steps_of_zeros_are_usable():
    w = weights(12, 30, 4)
    w[:, 1] = 0
    step = np.asarray(init_step(w, jnp.int32(3), axes=0))
    np.testing.assert_allclose(step[1], 1 / 3, rtol=1e-6)
    assert (step > 0).all() and np.isfinite(step).all()
    for value, expected in ((0, 1 / 7), (1e-9, 1e-4)):
        x = np.full((7, 3, 8), value, np.float32)
        np.testing.assert_allclose(init_act_step(x, 4), expected, rtol=1e-6)
    x = np.full((7, 3, 8), 2, np.float32)
    step, offset = init_offset(x, 4, axes=(0, 2))
    np.testing.assert_allclose(step.ravel(), [1 / 15] * 3, rtol=1e-6)
    np.testing.assert_array_equal(offset.ravel(), [2] * 3)


def test_initial_steps_of_activations():
    x = weights(15, 7, 3, 8)
    size = np.abs(x.astype(np.float64))
    for signed, high in ((True, 7), (False, 15)):
        got = init_act_step(x, 4, signed=signed)
        expected = 2 * size.mean() / np.sqrt(high)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    heads = init_act_step(x, 4, axes=(0, 2))
    assert heads.shape == (3, 1)
    expected = 2 * size.mean((0, 2)) / np.sqrt(7)
    np.testing.assert_allclose(heads.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("signed", [False, True])
def test_initial_offsets_put_the_extremes_on_the_extreme_codes(signed):
    x = weights(15, 7, 3, 8) + 5
    step, offset = init_offset(x, 4, signed=signed, axes=(0, 2))
    assert step.shape == offset.shape == (3, 1)
    low, high = integer.limits(4, signed)
    # Limits far off, so that nothing but the offset can bring them there.
    codes = code(x, step, low=low - 9, high=high + 9, offset=offset)
    codes = np.asarray(codes)
    np.testing.assert_array_equal(codes.min((0, 2)), [low] * 3)
    np.testing.assert_array_equal(codes.max((0, 2)), [high] * 3)
    value = lsq_plus(x, step, offset, low=low, high=high)
    error = np.abs(np.asarray(value) - x)
    assert (error <= 0.501 * np.asarray(step)).all()


def test_learned_contract(compilations):
    x, slope = (jnp.asarray(weights(i, 3, 5, 6)) for i in (0, 1))
    steps = jnp.array([0.2, 0.5, 0.9])

    def gradients(x, step, slope, bits):
        low, high = integer.limits(bits)
        scale = integer.gradient_scale("l1", x, high)
        return lsq_gradients(x, step, low, high, scale, slope)

    batched = jax.jit(jax.vmap(gradients, (0, 0, 0, None)))
    got = batched(x, steps, slope, jnp.int32(3))
    for i in range(3):
        alone = gradients(x[i], steps[i], slope[i], 3)
        for a, b in zip(got, alone, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)
    eager = integer.lsq(x[0], steps[0], low=-4, high=3)
    np.testing.assert_allclose(eager, got[0][0], rtol=1e-6)
    init = jax.jit(jax.vmap(integer.init_step, (0, None)))
    parts = init(x, jnp.int32(3))
    expected = [alternated(part, 3)[0] for part in x]
    np.testing.assert_allclose(parts, expected, rtol=1e-4)
    # By itself: another test may have compiled it, or none.
    pact_gradients(x, jnp.float32(1), jnp.int32(6), slope)
    with compilations() as names:
        batched(x, steps, slope, jnp.int32(6))
        init(x, jnp.int32(6))
        pact_gradients(x, jnp.float32(1), jnp.int32(3), slope)
    assert not names


def test_initial_steps_pass_no_gradient():
    w = jnp.asarray(weights(12, 30, 4))
    slope = jax.jit(jax.grad(lambda w: integer.init_step(w, 3)))(w)
    np.testing.assert_array_equal(slope, jnp.zeros_like(w))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_learned_dtype(dtype):
    x, slope = (jnp.asarray(weights(i, 3, 5, 6), dtype) for i in (0, 1))
    step = jnp.float32(0.37)
    value, d_x, d_step = lsq_gradients(x, step, -8.0, 7.0, 1.0, slope)
    assert value.dtype == d_x.dtype == x.dtype and d_step.dtype == jnp.float32
    wide = [np.asarray(a, np.float64) for a in (x, slope)]
    expected = quantised(wide[0], step, 0, -8, 7, wide[1])
    # The arithmetic is in float32; the result alone is rounded, to 8 bits.
    np.testing.assert_allclose(
        np.asarray(value, np.float64), expected[0], rtol=2**-8
    )
    np.testing.assert_array_equal(np.asarray(d_x, np.float64), expected[1])
    np.testing.assert_allclose(d_step, expected[2], rtol=1e-4)
    got = pact(x, jnp.float32(1.2), bits=jnp.int32(4))
    assert got.dtype == x.dtype
