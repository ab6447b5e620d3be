"""Tests of estimates: no bias, honest intervals, fewer chips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, hardware
from jaxedge.core import checks
from jaxedge.hardware import crossbar, devices, ensemble
from jaxedge.run import estimate as room
from jaxedge.run.estimate import estimate

pytestmark = pytest.mark.usefixtures("compile_quickly")

LAYERS = ((12, 16), (16, 4))


def skewed(key, shift):
    """exp(z) + shift: mean exp(1/2) + shift, half odd and half even in z."""
    return jnp.exp(jax.random.normal(key)) + shift


def skewed_with_control(key, shift):
    z = jax.random.normal(key)
    return jnp.exp(z) + shift, jnp.stack([z, z**2 - 1])


def odd(key):
    return jax.random.normal(key) ** 3 + 7


def shifted(key):
    return jax.random.normal(key) + 1


def constant(key):
    del key
    return jnp.float32(0.25)


def pair(key):
    return jax.random.normal(key), jax.random.normal(key)


# Closed forms.


@pytest.mark.parametrize(
    ("f", "method"),
    [
        (skewed, "plain"),
        (skewed, "antithetic"),
        (skewed_with_control, "control"),
    ],
)
def test_the_mean_has_no_bias(key, f, method):
    # 100 estimates of 64 keys each: their mean is within 5 standard errors.
    keys = core.chip_keys(key, 100)
    found = [
        estimate(f, k, 1e3, args=(jnp.float32(2),), method=method) for k in keys
    ]
    means = np.array([e.mean for e in found])
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - (np.exp(0.5) + 2)) < 5 * error
    # The error that an estimate tells is the spread that estimates have; the
    # spread of 100 is known to 7 %, and the values have heavy tails.
    told = np.sqrt(np.mean([e.std_error**2 for e in found]))
    assert 0.7 < told / means.std(ddof=1) < 1.4


def test_the_interval_covers_the_mean_as_often_as_it_says(key):
    keys = core.chip_keys(key, 200)
    found = [estimate(shifted, k, 1e3, confidence=0.8) for k in keys]
    share = np.mean([e.low <= 1 <= e.high for e in found])
    # 200 trials of probability .8: 4 standard errors are .113.
    assert abs(share - 0.8) < 0.113


def test_an_antithetic_pair_cancels_what_is_odd(key):
    found = estimate(odd, key, 1e-3, method="antithetic")
    assert found.chips == 128  # one batch
    np.testing.assert_allclose(found.mean, 7, atol=1e-4)


def test_variance_ratios_are_those_of_the_closed_form(key):
    given = {"args": (jnp.float32(0),), "batch": 4096}
    # exp(z): variance e^2 - e; covariance of the twins 1 - e.
    e = np.exp(1)
    found = estimate(skewed, key, 1e3, method="antithetic", **given)
    wanted = (e**2 - e) / (e**2 - e + 1 - e)
    assert abs(found.variance_ratio / wanted - 1) < 0.15
    # Regression on z and z^2 - 1 leaves e^2 - e - e - e/2.
    found = estimate(skewed_with_control, key, 1e3, method="control", **given)
    wanted = (e**2 - e) / (e**2 - e - e - e / 2)
    # The ratio rests on fourth moments of exp(z), which are heavy.
    assert abs(found.variance_ratio / wanted - 1) < 0.5
    plain = estimate(skewed, key, 1e3, **given)
    assert plain.variance_ratio == pytest.approx(1)


def test_it_goes_on_until_the_interval_is_narrow(key):
    wide = estimate(shifted, key, 0.3)
    narrow = estimate(shifted, key, 0.1)
    assert wide.chips < narrow.chips
    for found, half in ((wide, 0.3), (narrow, 0.1)):
        assert found.high - found.mean <= half
        assert found.mean - found.low == pytest.approx(found.high - found.mean)
    # 1.96^2 / .1^2 chips, give or take the error of the estimated variance.
    assert 256 <= narrow.chips <= 512


def test_equal_chips_end_after_one_batch(key):
    found = estimate(constant, key, 1e-6)
    assert found[:5] == (0.25, 0.25, 0.25, 0.0, 64)
    assert found.variance_ratio == 1


def test_an_interval_that_stays_wide_warns(key):
    with pytest.warns(UserWarning, match="128 keys give the mean to"):
        found = estimate(shifted, key, 1e-3, most=150)
    assert found.chips == 128


def test_a_second_estimate_compiles_nothing(key, compilations):
    given = {"method": "antithetic"}
    estimate(skewed, key, 1e3, args=(jnp.float32(2),), **given)
    other = jax.random.key(8)
    with compilations() as names:
        estimate(skewed, other, 1e3, args=(jnp.float32(3),), **given)
    assert not names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"half_width": 0.0}, "half_width is 0.0"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"batch": 2}, "batch is 2"),
        ({"most": 9}, "most is 9"),
        ({"f": pair}, "needs a function that returns one number"),
        ({"method": "control"}, r"a pair of a number and controls \[K\]"),
    ],
)
def test_bad_arguments_are_named(key, given, message):
    given = {"f": shifted, "key": key, "half_width": 1.0, **given}
    with pytest.raises(checks.UsageError, match=message):
        estimate(**given)


# Networks.


@pytest.fixture(scope="module")
def network():
    """Parameters, inputs and the classes that the ideal network gives."""
    rng = np.random.default_rng(0)
    params = {
        f"layer {i}": jnp.asarray(rng.normal(size=shape), jnp.float32)
        for i, shape in enumerate(LAYERS)
    }
    x = jnp.asarray(rng.random((50, LAYERS[0][0])), jnp.float32)
    return params, x, forward(params, x).argmax(-1)


def forward(params, x, key=None):
    for i, name in enumerate(sorted(params)):
        x = jax.nn.relu(x) if i else x
        read = None if key is None else core.stream(key, f"read {name}")
        x = hardware.dot(x, params[name], key=read)
    return x


def accuracy(key, chip, x, y):
    return (forward(chip, x, key).argmax(-1) == y).mean()


def of_chip(key, params, spec, x, y):
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    return accuracy(key, chip, x, y)


def with_control(key, params, spec, linear, x, y):
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    return accuracy(key, chip, x, y), room.control(linear, chip)


def spec_of(noise):
    device = devices.get("ideal", program_noise=noise, read_noise=0.02)
    return crossbar.Spec(device)


def linearised(params, x, y, spec):
    def score(params):
        z = jax.nn.log_softmax(forward(params, x) / 0.3)
        return jnp.exp(jnp.take_along_axis(z, y[:, None], 1)).mean()

    return room.linearise(score, params, spec)


@pytest.mark.slow
def test_every_way_gives_the_same_accuracy(key, network):
    params, x, y = network
    spec = spec_of(0.05)
    linear = linearised(params, x, y, spec)
    deploy = jax.jit(hardware.deploy)
    chip = deploy(key, params, ensemble.ensemble(spec))
    given = {"half_width": 5e-3, "batch": 256}
    ways = {
        "plain": estimate(of_chip, key, args=(params, spec, x, y), **given),
        "antithetic": estimate(
            of_chip,
            core.stream(key, "other"),
            args=(params, spec, x, y),
            method="antithetic",
            **given,
        ),
        "control": estimate(
            with_control,
            core.stream(key, "third"),
            args=(params, spec, linear, x, y),
            method="control",
            **given,
        ),
        "ensemble": estimate(
            accuracy, core.stream(key, "fourth"), args=(chip, x, y), **given
        ),
    }
    plain = ways["plain"]
    assert 0.5 < plain.mean < 0.99  # Chips do fail.
    for found in ways.values():
        error = np.hypot(found.std_error, plain.std_error)
        assert abs(found.mean - plain.mean) < 4.5 * error
    # The point of it all; measured on these: see the benchmark for real ones.
    assert ways["antithetic"].variance_ratio > 1.2
    assert ways["control"].variance_ratio > 1.2


def test_the_control_has_mean_zero_and_the_slope_of_the_score(key, network):
    params, x, y = network
    spec = spec_of(0.05)
    linear = linearised(params, x, y, spec)
    keys = core.chip_keys(key, 1024)
    make = jax.jit(
        jax.vmap(lambda k: room.control(linear, deployed(k, params, spec)))
    )
    controls = np.asarray(make(keys), float)
    assert abs(controls.mean()) < 4.5 * controls.std() / np.sqrt(len(controls))
    # By hand, for one chip.
    chip = jax.jit(deployed)(keys[0], params, spec)
    wanted = 0.0
    for name, leaf in chip.items():
        effective = np.asarray(
            leaf.multiply(jnp.eye(leaf.shape[0]), jnp.matmul, None)
        )
        wanted += np.sum(linear.slope[name] * (effective - linear.mean[name]))
    np.testing.assert_allclose(controls[0], wanted, rtol=1e-4, atol=1e-6)


def deployed(key, params, spec):
    return hardware.deploy(core.stream(key, "chip"), params, spec)


def test_a_chip_of_another_network_is_named(key, network):
    params, x, y = network
    spec = spec_of(0.05)
    linear = linearised(params, x, y, spec)
    deploy = jax.jit(hardware.deploy)
    chip = deploy(key, {"layer 0": params["layer 0"]}, spec)
    with pytest.raises(checks.UsageError, match="linearised at"):
        room.control(linear, chip)


def test_masked_weights_cannot_be_linearised(network):
    params, x, y = network
    mask = jnp.ones(LAYERS[0])
    masked = {
        **params,
        "layer 0": hardware.MaskedRandom(params["layer 0"], mask),
    }
    with pytest.raises(checks.UsageError, match="layer 0 is a MaskedRandom"):
        linearised(masked, x, y, spec_of(0.05))
