"""Tests of leaves on learned grids, alone and on other hardware."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.hardware import crossbar, devices
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize.grid import Grid

RNG = np.random.default_rng(0)
W = RNG.normal(size=(5, 4)).astype(np.float32)
X = RNG.uniform(0, 2, size=(3, 5)).astype(np.float32)


def grid(step, low, high):
    return Grid(jnp.asarray(step), jnp.float32(low), jnp.float32(high))


LEAF = LearnedStep(jnp.asarray(W), grid([0.3, 0.5], -4, 3), grid([0.2], 0, 7))
# In float64.
VALUES = np.clip(np.round(W / np.repeat([0.3, 0.5], 2)), -4, 3)
VALUES = VALUES * np.repeat([0.3, 0.5], 2)
CODED = np.clip(np.round(X / 0.2), 0, 7) * 0.2


def test_it_multiplies_both_on_their_grids():
    found = jax.jit(hardware.dot)(jnp.asarray(X), LEAF)
    np.testing.assert_allclose(found, CODED @ VALUES, rtol=1e-5)
    assert LEAF.shape == W.shape
    free = LearnedStep(jnp.asarray(W), None)
    np.testing.assert_allclose(
        hardware.dot(jnp.asarray(X), free), X @ W, rtol=1e-5
    )


def test_kernels_and_groups_of_channels():
    """A depthwise kernel is that of its values."""
    kernel = RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)
    image = RNG.normal(size=(2, 5, 5, 4)).astype(np.float32)
    leaf = LearnedStep(jnp.asarray(kernel), grid([0.4], -2, 1))
    values = np.float32(np.clip(np.round(kernel / 0.4), -2, 1) * 0.4)
    conv = jax.jit(hardware.conv, static_argnames="groups")
    found = conv(image, leaf, groups=4)
    want = conv(image, jnp.asarray(values), groups=4)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_a_crossbar_with_the_bits_of_the_grid_computes_the_same():
    """Its converters have the levels of the inputs, its cells the values."""
    spec = crossbar.Spec(devices.get("ideal"), input_bits=3)
    chip = hardware.deploy(jax.random.key(0), {"kernel": LEAF}, spec)["kernel"]
    assert isinstance(chip, hardware.Crossbar)
    np.testing.assert_allclose(
        hardware.dot(jnp.asarray(X), chip), CODED @ VALUES, rtol=1e-4, atol=1e-4
    )


def test_training_on_chips_reaches_weights_and_steps():
    spec = crossbar.Spec(devices.get("ideal", program_noise=0.05), input_bits=3)

    def loss(leaf, key):
        chip = hardware.deploy(key, {"kernel": leaf}, spec)
        return jnp.sum(hardware.dot(jnp.asarray(X), chip["kernel"]) ** 2)

    slope = jax.jit(jax.grad(loss))(LEAF, jax.random.key(1))
    for part in (slope.weights, slope.grid.step, slope.inputs.step):
        assert np.isfinite(part).all() and (np.asarray(part) != 0).any()
