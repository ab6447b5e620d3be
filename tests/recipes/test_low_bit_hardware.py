"""Low-bit networks on crossbars and macros: the same leaves, other hardware."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data, hardware
from jaxedge.hardware import crossbar, devices, sram
from jaxedge.models.learned_step import LearnedStep
from jaxedge.recipes import quantization_aware

pytestmark = pytest.mark.usefixtures("compile_quickly")

BITS, INPUTS, CLASSES = 4, 40, 3
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(60, INPUTS, 1, 1)).astype(np.float32)
Y = (X.reshape(60, -1) @ RNG.normal(size=(INPUTS, CLASSES))).argmax(1)
BATCH = data.Batch(X, Y.astype(np.int32), np.ones(60, np.float32))
KEY = jax.random.key(0)
LAYERS = ("Dense_0", "Dense_1")
deploy = jax.jit(hardware.deploy)


@pytest.fixture(scope="module")
def learned(config):
    """A recipe and its trained variables, all codes of the weights above -8."""
    changes = {
        "recipe": "quantization_aware", "quantize.edges": BITS,
        "model.widths": (12,), "train.epochs": 30,
    }  # fmt: skip
    given = quantization_aware.parse(config(changes))
    recipe = quantization_aware.build(given, X[:1], CLASSES, 1)
    update, state = jax.jit(recipe.update), recipe.init(KEY)
    assert recipe.begin is not None
    state = jax.jit(recipe.begin)(state, BATCH)
    for _ in range(30):
        state, _ = update(state, BATCH)
    variables = jax.jit(recipe.finish)(state)
    params = {
        name: {**variables["params"][name], "kernel": inner(leaf)}
        for name, leaf in leaves(variables).items()
    }
    return recipe, {**variables, "params": {**variables["params"], **params}}


def leaves(variables):
    return {name: variables["params"][name]["kernel"] for name in LAYERS}


def inner(leaf):
    """A leaf whose lowest code is not in use, and whose highest one is."""
    assert isinstance(leaf, LearnedStep) and leaf.grid is not None
    step = leaf.grid.step[0]
    w = jnp.maximum(leaf.weights, -7 * step).at[0, 0].set(7 * step)
    return dataclasses.replace(leaf, weights=w)


def coded(leaf, x):
    """Codes and steps of weights and inputs, in float64."""
    found = []
    for grid, a in ((leaf.grid, leaf.weights), (leaf.inputs, x)):
        step = float(grid.step[0])
        codes = np.round(np.asarray(a, float) / step)
        found.append((np.clip(codes, float(grid.low), float(grid.high)), step))
    return found


def on(variables, spec):
    return {**variables, "params": deploy(KEY, variables["params"], spec)}


EXACT = sram.Spec(
    sram.Config(fold=0, lsb_units=1, out_bits=14).without_errors()
)
SPECS = {
    "crossbar": crossbar.Spec(devices.get("ideal"), input_bits=BITS),
    "bit planes": crossbar.Spec(
        devices.get("ideal"), input_bits=BITS, bit_serial=True, rows=16
    ),
    "macro": EXACT,
}


@pytest.mark.parametrize("name", SPECS)
def test_converters_of_its_bits_give_a_networks_own_answers(learned, name):
    recipe, variables = learned
    own = np.asarray(jax.jit(recipe.forward)(variables, X))
    chip = on(variables, SPECS[name])
    found = np.asarray(jax.jit(recipe.forward)(chip, X))
    assert np.ptp(own) > 1
    # A sum at the edge of a code of the second layer may fall to its other
    # side.
    assert np.mean(np.abs(found - own) > 1e-3) < 0.02
    assert np.mean(found.argmax(1) == own.argmax(1)) > 0.98
    kinds = {type(leaf) for leaf in leaves(chip).values()}
    assert kinds == {sram.SramMacro if name == "macro" else hardware.Crossbar}


@pytest.mark.parametrize("lsb", [4, 14])
def test_a_macro_is_off_by_half_an_lsb_at_most(learned, lsb):
    """One array holds all rows, and no sum clips."""
    _, variables = learned
    leaf = leaves(variables)["Dense_0"]
    (w, w_step), (x, x_step) = coded(leaf, X.reshape(60, -1))
    assert np.abs(x @ w).max() < 256 * lsb and np.abs(w).max() == 7
    config = sram.Config(fold=0, lsb_units=lsb, out_bits=9).without_errors()
    chip = deploy(KEY, {"kernel": leaf}, sram.Spec(config))["kernel"]
    found = hardware.dot(jnp.asarray(X.reshape(60, -1)), chip)
    off = np.abs(np.asarray(found, float) / (w_step * x_step) - x @ w)
    assert lsb / 4 < off.max() <= lsb / 2 + 1e-3


@pytest.mark.parametrize("bits", [5, 8])
def test_a_crossbar_is_off_by_half_a_code_at_most(learned, bits):
    """Its ADC spans the strongest column, all inputs at their largest."""
    _, variables = learned
    leaf = leaves(variables)["Dense_0"]
    (w, w_step), (x, x_step) = coded(leaf, X.reshape(60, -1))
    spec = crossbar.Spec(
        devices.get("ideal", g_min=0.0), input_bits=BITS, adc_bits=bits
    )
    chip = deploy(KEY, {"kernel": leaf}, spec)["kernel"]
    found = hardware.dot(jnp.asarray(X.reshape(60, -1)), chip)
    off = np.abs(np.asarray(found, float) / (w_step * x_step) - x @ w)
    full = np.abs(w).sum(0).max() * float(leaf.inputs.high)
    lsb = full / (2 ** (bits - 1) - 1)
    assert lsb / 4 < off.max() <= lsb / 2 * (1 + 1e-4)


def test_a_macro_rounds_a_grid_whose_lowest_code_is_in_use(learned):
    """It has codes -7 to 7 alone, the largest weight at 7."""
    _, variables = learned
    leaf = leaves(variables)["Dense_0"]
    step = leaf.grid.step[0]
    low = leaf.weights.at[1, 0].set(-8 * step)
    leaf = dataclasses.replace(leaf, weights=low)
    (w, w_step), (x, x_step) = coded(leaf, X.reshape(60, -1))
    assert w.min() == -8
    scale = 8 / 7
    # A weight of 4 codes is 3.5 of the macro's.
    want = x @ (np.round(w / scale) * scale)
    chip = deploy(KEY, {"kernel": leaf}, EXACT)["kernel"]
    found = hardware.dot(jnp.asarray(X.reshape(60, -1)), chip)
    held = np.asarray(chip.weights(), float) / w_step
    assert np.abs(held - w).max() <= scale / 2 + 1e-4
    sure = np.abs(w / scale % 1 - 0.5).min(0) > 1e-6
    got = np.asarray(found, float) / (w_step * x_step)
    np.testing.assert_allclose(
        got[:, sure], want[:, sure], rtol=1e-4, atol=1e-2
    )
