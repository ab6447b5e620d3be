"""Ranges that a network needs, against percentiles taken by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import calibration
from jaxedge.hardware.crossbar import Spec
from jaxedge.hardware.weights import Plan

KEY = jax.random.key(0)
SPEC = Spec(hw.devices.get("ideal"), rows=9, adc_bits=8, adc_percentile=99.9)


@functools.cache
def network():
    """Parameters of two layers, and inputs."""

    def normal(name, *shape):
        return jax.random.normal(core.stream(KEY, name), shape)

    params = {"a": {"kernel": normal("a", 16, 12)}, "b": normal("b", 12, 5)}
    return params, jnp.abs(normal("x", 64, 16))


def deploy(key, params, plan):
    """In the program that `calibrate` deploys with."""
    return jax.jit(hw.deploy)(key, params, Plan.of(plan))


def run(params, x):
    hidden = jax.nn.relu(hw.dot(x, params["a"]["kernel"]))
    return hw.dot(hidden, params["b"])


def test_full_scales_are_percentiles_of_the_partial_sums():
    params, x = network()
    spec = dataclasses.replace(SPEC, adc_percentile=90.0)
    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    assert plan.patterns == ("^a/kernel$", "^b$")
    limit = np.asarray(plan.specs[0].adc_limit)
    leaf = deploy(KEY, params, SPEC)["a"]["kernel"]
    g = np.asarray(leaf.conductance(), np.float64)
    relative = np.asarray(x / x.max(-1, keepdims=True), np.float64)
    for u, part in enumerate((slice(0, 9), slice(9, 16))):
        current = relative[:, part] @ (g[0] - g[1])[part]
        expected = np.percentile(np.abs(current), 90)
        np.testing.assert_allclose(limit[0, u], expected, rtol=1e-4)


def test_calibrated_ranges_round_less():
    params, x = network()
    spec = dataclasses.replace(SPEC, adc_bits=6)
    ideal = run(params, x)

    def error(plan):
        chip = deploy(KEY, params, plan)
        return np.std(jax.jit(run)(chip, x) - ideal)

    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    assert error(plan) < 0.5 * error(spec)


def test_every_chip_may_set_its_own_ranges():
    params, x = network()
    device = hw.devices.get("ideal", program_noise=0.1)
    spec = dataclasses.replace(SPEC, device=device)

    @jax.jit
    def limits(key):
        chip = hw.deploy(key, params, spec)
        return calibration.fit(chip, lambda p: run(p, x))["b"].spec.adc_limit

    keys = core.chip_keys(KEY, 3)
    each = jnp.stack([limits(key) for key in keys])
    np.testing.assert_allclose(jax.vmap(limits)(keys), each, rtol=1e-5)
    assert np.std(each, 0).min() > 0


def test_coded_inputs_scale_their_currents():
    params, x = network()
    spec = dataclasses.replace(SPEC, input_bits=10)
    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    serial = dataclasses.replace(spec, bit_serial=True, input_bits=3)
    chips = [deploy(KEY, params, p) for p in (plan, serial)]
    chips[1] = calibration.fit(chips[1], lambda p: run(p, x))
    ideal = np.ravel(run(params, x))
    for chip in chips:
        y = np.ravel(jax.jit(run)(chip, x))
        assert np.corrcoef(y, ideal)[0, 1] > 0.97


def test_later_layers_are_calibrated_on_what_earlier_ones_then_emit():
    params, x = network()
    spec = Spec(
        SPEC.device,
        rows=512,
        input_bits=8,
        input_percentile=100.0,
        adc_bits=3,
        adc_percentile=100.0,
    )
    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    chip = deploy(KEY, params, plan)
    hidden = jax.nn.relu(jax.jit(hw.dot)(x, chip["a"]["kernel"]))
    high = float(plan.specs[1].input_range.hi)
    np.testing.assert_allclose(high, float(hidden.max()), rtol=0.05)


def test_ranges_of_slices_lie_apart():
    params, x = network()
    spec = dataclasses.replace(
        SPEC, weight_bits=7, slice_bits=2, adc_bits=9, rows=16
    )
    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    assert plan.specs[0].adc_limit.shape == (3, 1)
    y = jax.jit(run)(deploy(KEY, params, plan), x)
    assert np.corrcoef(np.ravel(y), np.ravel(run(params, x)))[0, 1] > 0.99


def test_inputs_get_the_range_of_their_percentile():
    params, x = network()
    spec = Spec(SPEC.device, input_bits=6, input_percentile=95.0)
    plan = calibration.calibrate(KEY, params, spec, lambda p: run(p, x))
    low, high = plan.specs[0].input_range
    np.testing.assert_allclose(low, np.percentile(x, 2.5), rtol=1e-4)
    np.testing.assert_allclose(high, np.percentile(x, 97.5), rtol=1e-4)
    assert plan.specs[0].adc_limit is None


def test_the_widest_call_of_a_shared_weight_counts():
    params, x = network()
    x = x[:, :12]
    shared = {"w": params["a"]["kernel"][:12]}

    def twice(p):
        return hw.dot(0.1 * x, p["w"]), hw.dot(x - x.mean(), p["w"])

    def limits(run):
        plan = calibration.calibrate(KEY, shared, SPEC, run)
        return np.asarray(plan.specs[0].adc_limit)

    alone = limits(lambda p: hw.dot(x - x.mean(), p["w"]))
    assert (limits(twice) >= alone).all()


def test_saturation_is_counted_and_warned_of():
    params, x = network()
    narrow = dataclasses.replace(SPEC, adc_limit=1e-6)
    chip = deploy(KEY, params, narrow)
    with pytest.warns(UserWarning, match=r"a/kernel \d.*widen adc_range"):
        found = calibration.saturation(lambda p: run(p, x), chip)
    (current,) = jax.jit(hw.Crossbar.currents)(chip["a"]["kernel"], x)
    share = np.mean(np.abs(np.asarray(current)) > 1e-6)
    np.testing.assert_allclose(found["a/kernel"], share, rtol=1e-5)
    wide = deploy(KEY, params, SPEC)
    assert calibration.saturation(lambda p: run(p, x), wide) == {
        "a/kernel": 0.0,
        "b": 0.0,
    }


def test_what_cannot_be_observed_is_said():
    params, x = network()
    with pytest.raises(core.UsageError, match="met no crossbar"):
        calibration.calibrate(KEY, params, SPEC, lambda p: run(params, x))

    def scanned(p):
        def step(carry, row):
            return carry, hw.dot(row, p["a"]["kernel"])

        return jax.lax.scan(step, 0.0, x)

    with pytest.raises(core.UsageError, match="inside a scan"):
        calibration.calibrate(KEY, params, SPEC, scanned)
    with pytest.raises(core.UsageError, match="adc_percentile is 0"):
        dataclasses.replace(SPEC, adc_percentile=0.0).check()
    with pytest.raises(core.UsageError, match="adc_bits is None"):
        dataclasses.replace(SPEC, adc_bits=None).check()
