"""Outer products by stochastic pulse trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.hardware import pulse_trains
from jaxedge.hardware.devices import step_laws
from jaxedge.hardware.pulse_trains import Trains

REPEATS = 4000
X = jnp.array([[0.5, -1.0, 0.0, 0.2], [1.0, 0.3, 0.7, -0.4]])
D = jnp.array([[0.1, -0.3, 0.2], [0.05, 0.1, 0.0]])


meetings = jax.jit(pulse_trains.meetings, static_argnums=5)


@functools.partial(jax.jit, static_argnums=4)
def many(x, d, rate, step, trains):
    """Signed counts of independent trains, [REPEATS, I, O]."""

    def one(key):
        met = pulse_trains.meetings(key, x, d, rate, step, trains)
        return met.ups, met.downs

    return jax.vmap(one)(core.chip_keys(jax.random.key(0), REPEATS))


@pytest.mark.parametrize("managed", [True, False])
def test_the_mean_is_an_outer_product(managed):
    """Within 5 standard errors over 4,000 trains, entry by entry."""
    rate, step = 0.1, 0.005
    ups, downs = many(X, D, rate, step, Trains(31, managed))
    net = np.asarray(ups - downs, np.float64)
    expected = rate / step * np.asarray(X, np.float64).T @ np.asarray(D)
    error = np.abs(net.mean(0) - expected)
    assert (error <= 5 * net.std(0) / np.sqrt(REPEATS) + 1e-6).all()
    assert (ups >= 0).all() and (downs >= 0).all()
    # One sign a vector: a cell that both push upwards is never pushed down.
    both_up = (np.sign(X.T) @ np.sign(D)) == 2
    assert (np.asarray(downs)[:, both_up] == 0).all()


def test_the_variance_is_that_of_coincidences():
    """L slots, each met with p_x p_d: binomial, in numpy; n = 4,000.

    5 standard errors of a variance are 5 sqrt(2 / n) = 11 %.
    """
    x, d = jnp.array([[0.6]]), jnp.array([[0.5]])
    rate, step, slots = 0.1, 0.005, 20
    p = rate / step * 0.6 * 0.5 / slots
    ups, _ = many(x, d, rate, step, Trains(slots, managed=False))
    np.testing.assert_allclose(ups.var(), slots * p * (1 - p), rtol=0.11)
    # Managed, six pulses are wanted and six are sent, without any chance.
    ups, _ = many(x, d, rate, step, Trains(slots))
    np.testing.assert_array_equal(ups, 6)


def test_what_trains_cannot_carry_is_cut_off():
    """rate / step max|x| max|d| = 60 pulses, 20 slots: d is cut at a third."""
    x, d = jnp.array([[1.0, 0.5]]), jnp.array([[3.0, 0.2]])
    ups, _ = many(x, d, 0.1, 0.005, Trains(20))
    mean = np.asarray(ups, np.float64).mean(0)
    expected = np.outer([1.0, 0.5], [20, 4.0])
    # 5 standard errors of at most 20 slots.
    np.testing.assert_allclose(mean, expected, atol=5 * np.sqrt(5 / REPEATS))


@pytest.mark.parametrize("managed", [True, False])
def test_nothing_comes_of_nothing(managed):
    trains = Trains(7, managed)
    for x, d in ((0 * X, D), (X, 0 * D)):
        met = meetings(jax.random.key(0), x, d, 0.1, 0.01, trains)
        assert not met.ups.any() and not met.downs.any()
    met = meetings(jax.random.key(0), X, D, 0.0, 0.01, trains)
    assert not met.ups.any() and not met.downs.any()


def test_all_at_once_is_like_one_after_another():
    """A batch of 20 pairs of vectors, 300 arrays.

    The mean change of a cell must agree within a quarter of a step, beyond 5
    standard errors of the noise; both know the same mean number of pulses.
    """
    device = step_laws.get("rram_gong2018", dw_min=0.01, write_noise_std=0.0)
    device = device.replace(dw_min_std=0.5)
    cells = device.init(jax.random.key(0), (4, 3))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(20, 4)), jnp.float32)
    d = jnp.asarray(0.1 * rng.normal(size=(20, 3)), jnp.float32)

    def one(key, exact):
        return pulse_trains.outer(key, device, cells, x, d, 0.1, exact=exact).w

    keys = core.chip_keys(jax.random.key(1), 600)
    run = jax.jit(jax.vmap(one, (0, None)), static_argnums=1)
    slow, fast = (
        np.asarray(run(part, exact), np.float64)
        for part, exact in ((keys[:300], True), (keys[300:], False))
    )
    error = np.abs(slow.mean(0) - fast.mean(0))
    noise = np.hypot(slow.std(0), fast.std(0)) / np.sqrt(300)
    assert (error < 0.0025 + 5 * noise).all()
    # 5 standard errors of a std, and the tenth that `pulse_many` may be off.
    np.testing.assert_allclose(
        fast.std(0), slow.std(0), rtol=0.1 + 5 / np.sqrt(600)
    )


def test_a_train_is_its_key_under_every_transformation():
    device = step_laws.get("rram_array_gong2022")
    cells = device.init(jax.random.key(0), (4, 3))
    keys = core.chip_keys(jax.random.key(2), 2)

    def one(key):
        return pulse_trains.outer(key, device, cells, X, D, 0.5).w

    both = jax.jit(jax.vmap(one))(keys)
    assert (both[0] != both[1]).any()
    for row, key in enumerate(keys):
        np.testing.assert_allclose(one(key), both[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((X, D[:1], 0.1, 0.01), ["(2, 4)", "(1, 3)", "equally many"]),
        ((X[0], D, 0.1, 0.01), ["[B, I]", "(4,)"]),
        ((X, D, -0.1, 0.01), ["rate is -0.1"]),
        ((X, D, 0.1, 0.0), ["step is 0.0", "(0"]),
        ((X, D, 0.1, 0.01, Trains(0)), ["slots is 0"]),
    ],
)
def test_bad_trains_are_refused(arguments, words):
    with pytest.raises(core.UsageError) as caught:
        pulse_trains.meetings(jax.random.key(0), *arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_product_that_does_not_fit_its_cells_is_refused():
    device = step_laws.get("idealized")
    cells = device.init(jax.random.key(0), (3, 4))
    with pytest.raises(core.UsageError, match="4 inputs and 3 outputs"):
        pulse_trains.outer(jax.random.key(0), device, cells, X, D, 0.1)
