"""Weights between codes, against loops in float64 and SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core.checks import UsageError
from jaxedge.quantize import variation

pytestmark = pytest.mark.usefixtures("compile_quickly")
track = jax.jit(variation.track)
freeze = jax.jit(variation.freeze)
fluctuation = jax.jit(variation.fluctuation, static_argnames="axis")
regulariser = jax.jit(
    jax.value_and_grad(
        lambda w, step, bits: variation.bin_regulariser(w, step, bits=bits),
        (0, 1),
    )
)
# The same where the number of bits is known.
regularisers = {
    bits: jax.jit(
        jax.value_and_grad(
            functools.partial(variation.bin_regulariser, bits=bits), (0, 1)
        )
    )
    for bits in (2, 3)
}
SHAPE = (3, 4, 10)
float32 = functools.partial(np.array, dtype=np.float32)


def weights(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def codes_of(w, step, bits):
    return np.rint(np.clip(w / step, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1))


def literal(w, step, codes, level, bits):
    """The expression of vvtq 4.3, one step, codes and levels held."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    clip = np.clip(w / step, low, high) * step
    spread = sum(
        np.var(clip[codes == k], ddof=1)
        for k in range(low, high + 1)
        if (codes == k).sum() > 1
    )
    return ((level - clip) ** 2).mean() + spread


def slopes(f, a, size=1e-5):
    """The gradient of `f` at a float64 array, by central differences."""
    a = np.array(a, np.float64)
    found = np.zeros_like(a)
    for at in np.ndindex(a.shape):
        ends = []
        for sign in (1, -1):
            b = a.copy()
            b[at] += sign * size
            ends.append(f(b))
        found[at] = (ends[0] - ends[1]) / (2 * size)
    return found


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_regulariser_matches_float64(bits):
    w32 = weights(bits, *SHAPE)
    # Of unit weights some are outside the range.
    step32 = np.float32(3.1 / 2**bits)
    w, step = w32.astype(np.float64), np.float64(step32)
    codes = codes_of(w, step, bits)
    members = np.unique(codes, return_counts=True)[1]
    assert (np.abs(w / step) > 2 ** (bits - 1)).any()
    assert members.max() > 1 and (members.min() == 1 or bits < 5)
    level = codes * step
    value, (d_w, d_step) = regulariser(w32, step32, jnp.int32(bits))
    expected = literal(w, step, codes, level, bits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    slope = slopes(lambda w: literal(w, step, codes, level, bits), w)
    np.testing.assert_allclose(d_w, slope, rtol=1e-4, atol=1e-6)
    slope = slopes(lambda s: literal(w, s, codes, level, bits), step)
    np.testing.assert_allclose(d_step, slope, rtol=1e-4, atol=1e-6)
    # At 8 bits none but clipped weights share the outer bins, at no cost.
    assert (d_step != 0) == (bits < 8) and (np.asarray(d_w) == 0).any()
    if bits in regularisers:
        known = regularisers[bits](w32, step32)
        np.testing.assert_allclose(known[0], value, rtol=1e-6)
        np.testing.assert_allclose(known[1][0], d_w, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(10,), (3, 1, 1)])
def test_bins_of_several_steps_pool_what_is_off_the_level(shape):
    w = weights(6, *SHAPE)
    step = np.random.default_rng(7).uniform(0.3, 0.6, shape)
    step = step.astype(np.float32)
    value, (_, d_step) = regulariser(w, step, jnp.int32(3))
    codes = codes_of(w.astype(np.float64), step, 3)
    off = np.clip(w / step.astype(np.float64), -4, 3) * step - codes * step
    expected = (off**2).mean() + sum(
        np.var(off[codes == k], ddof=1) for k in range(-4, 4)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert d_step.shape == shape
    # Equal steps are one step.
    equal = regulariser(w, np.full_like(step, 0.5), jnp.int32(3))
    one = regulariser(w, np.float32(0.5), jnp.int32(3))
    np.testing.assert_allclose(equal[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(equal[1][1].sum(), one[1][1], rtol=1e-5)


def test_members_are_found_whatever_the_step():
    # Trap 3: rounded floats over the step miss the code at unlucky steps.
    rng = np.random.default_rng(8)
    w = weights(9, *SHAPE)
    missed = 0
    for step in rng.uniform(0.1, 0.5, 20).astype(np.float32):
        codes = codes_of(w, step, 3)
        # What the released code compares with whole numbers.
        v = np.clip(w / step, np.float32(-4), np.float32(3))
        rounded = (np.rint(v) - v) + v
        missed += (rounded * step / step != codes).sum()
        value = regulariser(w, step, jnp.int32(3))[0]
        wide = w.astype(np.float64)
        level = codes * np.float64(step)
        expected = literal(wide, np.float64(step), codes, level, 3)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert missed > 0


def test_weights_at_their_levels_cost_nothing():
    w = np.resize(float32([-1, -0.5, 0, 0.5]), SHAPE)
    value, (d_w, d_step) = regulariser(w, np.float32(0.5), jnp.int32(2))
    assert value == 0 and d_step == 0
    np.testing.assert_array_equal(d_w, np.zeros(SHAPE))


def test_the_regulariser_draws_weights_to_their_levels():
    w = weights(10, *SHAPE)
    step = np.float32(0.5)
    before = np.abs(w - step * codes_of(w, step, 4)).mean()
    codes = codes_of(w, step, 4)
    for _ in range(30):
        w = w - 0.5 * np.asarray(regulariser(w, step, jnp.int32(4))[1][0])
    np.testing.assert_array_equal(codes_of(w, step, 4), codes)
    assert np.abs(w - step * codes).mean() < 0.8 * before


def test_gradients_of_the_step_are_scaled():
    w, step = jnp.asarray(weights(11, *SHAPE)), jnp.float32(0.4)

    @jax.jit
    @jax.grad
    def scaled(step, scale):
        return variation.bin_regulariser(w, step, bits=2, grad_scale=scale)

    np.testing.assert_allclose(
        scaled(step, 0.1), 0.1 * scaled(step, 1.0), rtol=1e-5
    )
    assert scaled(step, 1.0) != 0


def test_regulariser_transforms(compilations):
    w = np.stack([weights(i, *SHAPE) for i in (12, 13)])
    steps = float32([0.3, 0.7])
    batched = jax.jit(jax.vmap(regulariser, (0, 0, None)))
    got = batched(w, steps, jnp.int32(3))
    for i in range(2):
        value, (d_w, d_step) = regulariser(w[i], steps[i], jnp.int32(3))
        np.testing.assert_allclose(got[0][i], value, rtol=1e-5)
        np.testing.assert_allclose(got[1][0][i], d_w, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(got[1][1][i], d_step, rtol=1e-4)
    with compilations() as names:
        batched(w, steps, jnp.int32(4))
    assert not names


def test_regulariser_in_bfloat16():
    w = jnp.asarray(weights(14, *SHAPE), jnp.bfloat16)
    value, (d_w, _) = regulariser(w, np.float32(0.4), jnp.int32(3))
    wide = np.asarray(w, np.float64)
    step = np.float64(np.float32(0.4))
    codes = codes_of(wide, step, 3)
    expected = literal(wide, step, codes, codes * step, 3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert value.dtype == jnp.float32 and d_w.dtype == jnp.bfloat16


def test_schedule():
    # vvtq 4.3, of 150 epochs.
    epochs = np.array([0, 37, 37.5, 75, 100, 149, 150])
    expected = [0, 0, 0, 0.0025, 0.00587, 0.0099980, 0.01]
    got = jax.jit(variation.schedule)(epochs / 150)
    np.testing.assert_allclose(got, expected, rtol=4e-4, atol=1e-9)
    np.testing.assert_allclose(got[5], 0.0099980, atol=5e-8)
    got = variation.schedule(0.525, start=0.05, top=0.001)
    np.testing.assert_allclose(got, 0.0005, rtol=1e-5)


class Slow:
    """One weight's history, step by step in Python."""

    def __init__(self, code):
        self.code, self.direction, self.rate, self.mean = code, 0, 0.0, code

    def track(self, code, momentum):
        change = (code > self.code) - (code < self.code)
        turned = change != 0 and change == -self.direction
        self.rate = momentum * turned + (1 - momentum) * self.rate
        self.mean = momentum * code + (1 - momentum) * self.mean
        self.direction = change or self.direction
        self.code = code


@pytest.mark.parametrize("momentum", [0.001, 0.3])
def test_tracker_matches_a_loop(momentum):
    rng = np.random.default_rng(15)
    # Most weights stay at most steps; some go from one extreme to the other.
    codes = rng.choice([-128, -1, 0, 0, 0, 0, 1, 127], (40, 50))
    tracker = variation.start(jnp.asarray(codes[0]))
    slow = [Slow(code) for code in codes[0].tolist()]
    for row in codes[1:]:
        tracker = track(tracker, jnp.asarray(row), momentum)
        for one, code in zip(slow, row.tolist(), strict=True):
            one.track(code, momentum)
    for name, found in (
        ("code", tracker.codes),
        ("direction", tracker.direction),
        ("rate", tracker.rate),
        ("mean", tracker.mean),
    ):
        expected = [getattr(one, name) for one in slow]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    dtypes = [a.dtype for a in tracker]
    assert dtypes == [jnp.int8, jnp.int8, jnp.float32, jnp.float32]
    threshold = float(np.median(tracker.rate))
    share = np.mean([one.rate > threshold for one in slow])
    assert variation.oscillating(tracker, threshold) == np.float32(share)
    assert 0 < share < 1


def test_a_change_counts_against_the_last_one_however_old():
    path = [3, 4, 4, 4, 3, 3, 2, 3]
    tracker = variation.start(jnp.array([path[0]]))
    rates = []
    for code in path[1:]:
        tracker = track(tracker, jnp.array([code]), 1.0)
        rates.append(float(tracker.rate[0]))
    assert rates == [0, 0, 0, 1, 0, 0, 1]


def test_freezing_holds_at_the_mean_code():
    # Weight 0 flips between 1 and 2 and is mostly at 2; 1 and 2 do not flip.
    tracker = variation.start(jnp.array([2, 5, -3]))
    held = None
    for step in range(60):
        flip = 1 if step % 3 == 0 else 2
        tracker = track(tracker, jnp.array([flip, 5, -3 - step]), 0.1)
        held = freeze(tracker, held, threshold=0.3)
    assert held is not None
    np.testing.assert_array_equal(held.mask, [True, False, False])
    np.testing.assert_array_equal(held.codes, [2, 5, -62])
    # It stays held, at that code, though it does not oscillate any longer.
    for _ in range(60):
        tracker = track(tracker, jnp.array([-7, 5, -62]), 0.1)
        held = freeze(tracker, held, threshold=0.3)
    assert tracker.rate[0] < 0.01
    np.testing.assert_array_equal(held.mask, [True, False, False])
    np.testing.assert_array_equal(held.codes, [2, 5, -62])
    # A threshold that nothing exceeds holds nothing.
    none = freeze(tracker, threshold=1.0)
    np.testing.assert_array_equal(none.mask, [False] * 3)


def test_tracker_transforms(compilations):
    codes = np.random.default_rng(16).integers(-4, 4, (6, 2, 3))
    batch = jax.jit(jax.vmap(track, (0, 0, None)))
    tracker = jax.vmap(variation.start)(jnp.asarray(codes[0]))
    alone = variation.start(jnp.asarray(codes[0, 1]))
    for row in codes[1:]:
        tracker = batch(tracker, jnp.asarray(row), 0.2)
        alone = track(alone, jnp.asarray(row[1]), 0.2)
    for a, b in zip(tracker, alone, strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-6)
    with compilations() as names:
        batch(tracker, jnp.asarray(codes[0]), 0.01)
    assert not names


def test_flips():
    before = jnp.array([[1, 2, 3, 4]], jnp.int8)
    after = jnp.array([[1, 2, -3, 5]], jnp.int8)
    assert variation.flips(before, after) == 0.5
    assert variation.flips(before, before) == 0


@pytest.mark.parametrize(
    "axis, others", [(-1, (0, 1)), ((0, 2), 1), (0, (1, 2))]
)
def test_fluctuation_matches_scipy(axis, others):
    w = weights(17, *SHAPE) * np.linspace(0.3, 4, 10, dtype=np.float32)
    w[0, 0, 0] = 30
    step = np.float32(0.5)
    wide = w.astype(np.float64)
    size = np.abs(wide).mean(others)
    outliers = np.mean(np.abs(wide - wide.mean()) > 3 * wide.std())
    expected = [
        np.abs(wide).mean(),
        size.std(),
        size.std() / np.abs(wide).mean(),
        stats.kurtosis(wide.ravel()),
        outliers,
    ]
    got = fluctuation(w, axis=axis)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    # In steps, sizes double; the rest has no unit.
    expected[0], expected[1] = 2 * expected[0], 2 * expected[1]
    np.testing.assert_allclose(
        fluctuation(w, step, axis=axis), expected, rtol=1e-4
    )
    assert 0 < outliers < 0.1


def test_steps_of_their_own_even_parts_out():
    w = weights(18, *SHAPE) * float32([[[1]], [[10]], [[100]]])
    step = float32([0.1, 1, 10]).reshape(3, 1, 1)
    assert fluctuation(w, axis=0).relative > 1
    assert fluctuation(w, step, axis=0).relative < 0.2


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_fluctuation_of_equal_weights(value):
    got = fluctuation(np.full(SHAPE, value, np.float32), axis=-1)
    np.testing.assert_allclose(got, [value, 0, 0, 0, 0], atol=1e-6)


def test_statistics_pass_no_gradient():
    w = jnp.full(SHAPE, 0.1)
    slope = jax.jit(jax.grad(lambda w: sum(variation.fluctuation(w))))(w)
    np.testing.assert_array_equal(slope, np.zeros(SHAPE))


def test_misuse_is_named():
    w, codes = jnp.ones((4, 3)), jnp.ones((4, 3), jnp.int32)
    tracker = variation.start(codes)
    other = variation.Held(jnp.ones(3, bool), jnp.ones(3, jnp.int8))
    for message, call in {
        "step is 0.0": lambda: variation.bin_regulariser(w, 0.0, bits=2),
        "bits is 9": lambda: variation.bin_regulariser(w, 1.0, bits=9),
        r"bits has shape \(2,\)": lambda: variation.bin_regulariser(
            w, 1.0, bits=jnp.array([2, 3])
        ),
        r"step has shape \(4,\)": lambda: variation.bin_regulariser(
            w, jnp.ones(4), bits=2
        ),
        "share is 1.2": lambda: variation.schedule(1.2),
        "start is 1 and": lambda: variation.schedule(0.5, start=1),
        "top is -1": lambda: variation.schedule(0.5, top=-1),
        "codes is float32": lambda: variation.start(w),
        "codes is 128": lambda: variation.start(codes.at[0, 0].set(128)),
        "codes is -200": lambda: variation.track(tracker, -200 * codes),
        r"codes \(3,\)": lambda: variation.track(tracker, codes[0]),
        "momentum is 2": lambda: variation.track(tracker, codes, 2),
        "threshold is -1": lambda: variation.oscillating(tracker, -1),
        "threshold is 3": lambda: variation.freeze(tracker, threshold=3),
        r"held \(3,\)": lambda: variation.freeze(tracker, other),
        r"after \(3,\)": lambda: variation.flips(codes, codes[0]),
        "axis holds 2": lambda: variation.fluctuation(w, axis=2),
    }.items():
        with pytest.raises(UsageError, match=message):
            call()
