"""Tests of the energy of an example: what is priced, and what is not."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import hardware as hw
from jaxedge.hardware import crossbar, devices, energy
from jaxedge.models import Dense
from jaxedge.run import ledger


class TwoHeads(nn.Module):
    """A decoder that training alone needs."""

    @nn.compact
    def __call__(self, x, train=False, key=None):
        y = Dense(3, name="head")(x, key)
        if train or self.is_initializing():
            Dense(5, name="decoder")(x, key)
        return y


def test_a_layer_that_no_answer_needs_costs_nothing_and_is_named():
    model, x = TwoHeads(), jnp.ones((1, 4))
    variables = model.init(jax.random.key(0), x)
    spec = crossbar.Spec(devices.get("ideal"))
    chip = hw.deploy(jax.random.key(1), variables["params"], spec)
    recipe = types.SimpleNamespace(
        forward=lambda v, x, key=None, **how: model.apply(v, x, **how),
        learns=None,
    )
    found = ledger.count(recipe, {"params": chip}, x, energy.Costs())
    assert [row["name"] for row in found["layers"]] == ["head"]
    assert found["idle"] == ["decoder"]
