"""Networks of four frameworks, as they are, on hardware."""

from typing import Any, NamedTuple

import equinox as eqx
from flax import nnx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware.crossbar import Spec

IDEAL = Spec(hw.devices.get("ideal"))
KEY = jax.random.key(0)
SEQUENCES = jax.random.normal(core.stream(KEY, "x"), (2, 5, 8))
IMAGES = jax.random.normal(core.stream(KEY, "image"), (2, 6, 6, 4))


class Case(NamedTuple):
    """A function, its parameters and input, and those that are on arrays."""

    fn: Any
    params: Any
    x: jax.Array
    found: set[str]


def linen(module, x, *found):
    return Case(module.apply, jax.jit(module.init)(KEY, x), x, {*found})


def nnx_split(module, x, *found):
    graph, state = nnx.split(module)
    return Case(lambda s, x: nnx.merge(graph, s)(x), state, x, {*found})


def equinox(module, x, *found):
    params, static = eqx.partition(module, eqx.is_inexact_array)

    def fn(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    return Case(fn, params, x, {*found})


def haiku(build, x, *found):
    f = hk.without_apply_rng(hk.transform(build))
    return Case(f.apply, jax.jit(f.init)(KEY, x), x, {*found})


class Block(nn.Module):
    """A layer of a stack, recomputed in the backward pass."""

    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(8)(nn.relu(nn.Dense(6)(nn.LayerNorm()(x)))), None


class Stack(nn.Module):
    """Layers whose weights lie along the axis of a scan."""

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        return layers(name="layers")(x, None)[0]


class Recurrent(eqx.Module):
    """An LSTM over a sequence."""

    cell: eqx.nn.LSTMCell

    def __call__(self, x):
        def step(state, x):
            state = self.cell(x, state)
            return state, state[0]

        start = (jnp.zeros(4), jnp.zeros(4))
        return jax.lax.scan(step, start, x)[1]


def unrolled(x):
    cell = hk.LSTM(4)
    return hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[1]))[0]


def separable(x):
    x = jax.nn.relu(hk.DepthwiseConv2D(2, 3, stride=2)(x))
    return hk.Linear(3)(hk.Flatten()(hk.Conv2D(5, 1)(x)))


heads = [f"{name}/kernel" for name in ("key", "query", "value", "out")]
gates = [f"{a}{b}" for a in "ih" for b in "fgio"]
CASES = {
    "linen attention": lambda: linen(
        nn.MultiHeadDotProductAttention(2),
        SEQUENCES,
        *(f"params/{name}" for name in heads),
    ),
    "linen lstm": lambda: linen(
        nn.RNN(nn.LSTMCell(3)),
        SEQUENCES,
        *(f"params/cell/{gate}/kernel" for gate in gates),
    ),
    "linen stack": lambda: linen(
        Stack(),
        SEQUENCES,
        *(f"params/layers/Dense_{i}/kernel" for i in range(2)),
    ),
    "nnx attention": lambda: nnx_split(
        nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)),
        SEQUENCES,
        *(f"{name}/value" for name in heads),
    ),
    "equinox mlp": lambda: equinox(
        eqx.nn.MLP(8, 3, 5, 1, key=KEY),
        SEQUENCES[0],
        "layers/0/weight",
        "layers/1/weight",
    ),
    "equinox lstm": lambda: equinox(
        Recurrent(eqx.nn.LSTMCell(8, 4, key=KEY)),
        SEQUENCES,
        "cell/weight_ih",
        "cell/weight_hh",
    ),
    "equinox conv": lambda: equinox(
        eqx.nn.Conv2d(4, 6, 3, groups=2, padding=1, key=KEY),
        IMAGES.transpose(0, 3, 1, 2),
        "weight",
    ),
    "haiku lstm": lambda: haiku(unrolled, SEQUENCES, "lstm/linear/w"),
    "haiku conv": lambda: haiku(
        separable, IMAGES, "depthwise_conv2_d/w", "conv2_d/w", "linear/w"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_itself_on_ideal_hardware(name):
    fn, params, x, found = CASES[name]()

    @jax.jit
    def run(params, x):
        network = hw.wrap(fn, params, IDEAL, x)
        chip = network.program(KEY)
        return fn(params, x), network(chip, x), chip

    expected, y, chip = run(params, x)
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=limit)
    flat = jax.tree_util.tree_flatten_with_path(chip, is_leaf=hw.is_weight)[0]
    names = [core.trees.path_name(p) for p, v in flat if hw.is_weight(v)]
    assert {*names} == found and len(names) == len(found)
    # A chip is a pytree of the parameters' structure.
    whole = jax.tree.map(lambda w: 0, chip, is_leaf=hw.is_weight)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
