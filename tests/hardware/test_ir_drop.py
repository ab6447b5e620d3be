"""The closed form of the wires against their exact solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.hardware import ir_drop, wires


def array(n, seed=0, formed=0.5):
    """Cells of the 40 nm macro (device_physics 4.1), S."""
    rng = np.random.default_rng(seed)
    cells = np.where(
        rng.random((n, n)) < formed, rng.normal(34.05, 5.32, (n, n)), 0.1
    )
    return cells * 1e-6


def test_the_first_order_of_the_resistance_is_exact():
    g = array(12)
    for r in (3.0, 30.0):  # drops of 2 % and 15 %
        exact = wires.transfer(g, r_word=r, r_bit=2 * r)
        near = ir_drop.approximate(jnp.asarray(g), r_word=r, r_bit=2 * r)
        drop = np.max(np.abs(g - exact) / g)
        # What is left is of second order.
        assert np.max(np.abs(near - exact)) < drop**2 * g.max()


@pytest.mark.parametrize(
    "n, ohm, limit", [(32, 2.0, 1e-3), (64, 2.0, 5e-3), (96, 1.0, 1e-2)]
)
def test_currents_are_near_the_exact_ones(n, ohm, limit):
    g = array(n)
    found = ir_drop.error(g, r_word=ohm, r_bit=ohm)
    ideal = ir_drop.error(g, r_word=ohm, r_bit=ohm, trims=ir_drop.Trims(0, 0))
    assert found < limit < ideal / 50


def test_the_error_is_that_of_the_compiled_form():
    g, rng = array(24), np.random.default_rng(0)
    v = (rng.random((64, 24)) < 0.5).astype(float)
    exact = wires.solve(g, v, r_word=3.0, r_bit=5.0)
    near = v @ np.asarray(
        ir_drop.approximate(jnp.asarray(g), r_word=3.0, r_bit=5.0), np.float64
    )
    expected = np.sqrt(np.mean((near - exact) ** 2)) / np.std(exact)
    found = ir_drop.error(g, r_word=3.0, r_bit=5.0, voltages=v)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_calibrated_trims_serve_other_arrays_of_the_kind():
    ohms = {"r_word": 2.0, "r_bit": 2.0}
    trims = ir_drop.calibrate([array(64, seed=1)], **ohms)
    others = [array(64, seed=s) for s in (2, 3)]
    for g in others:
        assert ir_drop.error(g, trims=trims, **ohms) < 0.95 * ir_drop.error(
            g, **ohms
        )


def test_rows_that_are_gated_off_still_have_wires_below():
    g = array(20)
    gated = g.copy()
    gated[12:] = 0
    whole = ir_drop.approximate(jnp.asarray(gated), r_word=1.0, r_bit=4.0)
    part = ir_drop.approximate(
        jnp.asarray(g[:12]), r_word=1.0, r_bit=4.0, below=8
    )
    np.testing.assert_allclose(part, whole[:12], rtol=1e-5)


def test_batches_and_compiled_values_agree_and_slopes_are_finite():
    g = jnp.stack([array(8, s) for s in (0, 1)]).astype(jnp.float32)
    f = jax.jit(lambda g, r: ir_drop.approximate(g, r_word=r, r_bit=r))
    both = f(g, 3.0)
    np.testing.assert_allclose(both[1], f(g[1], 3.0), rtol=1e-6)
    np.testing.assert_allclose(f(g, 0.0), g, rtol=1e-6)
    slope = jax.grad(lambda r: f(g, r).sum())(0.0)
    assert np.isfinite(slope) and slope < 0


def test_bad_wires_are_refused():
    g = jnp.ones((2, 2))
    with pytest.raises(core.UsageError, match="r_word is -1"):
        ir_drop.approximate(g, r_word=-1.0, r_bit=1.0)
    with pytest.raises(core.UsageError, match="conductance is -1"):
        ir_drop.approximate(-g, r_word=1.0, r_bit=1.0)
    with pytest.raises(core.UsageError, match="no arrays"):
        ir_drop.calibrate([], r_word=1.0, r_bit=1.0)
