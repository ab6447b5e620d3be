"""What every network does, one row a network."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware, models
from jaxedge.hardware import crossbar, devices, sram

pytestmark = pytest.mark.usefixtures("compile_quickly")

NETWORKS = {
    "mlp": models.Mlp((6, 5)),
    "cnn, 4 bits": models.Cnn(3, (4, 3), 5),
    "crnn, 3 bits": models.Crnn(3, (4, 3), 5, 6, bits=3),
    "resnet": models.ResNet(
        3, 8, channels=(4,), folded=True, mean=(0.1,), std=(1.0,)
    ),
    "vit": models.Vit(3, 8, 4, 8, 1, 2, 2.0, mean=(0.1,), std=(1.0,)),
    "swin": models.swin.Swin(
        3, 8, 2, 8, (2,), (2,), 2, 2.0, mean=(0.1,), std=(1.0,)
    ),
    "sret": models.sret.Sret(
        3, 16, 4, (2,), (2,), (1,), (2,), (2,), mean=(0.1,), std=(1.0,)
    ),
    "mobilenet": models.MobileNetV2(
        3, 0.5, "cifar", ((2, 8, 1),), mean=(0.1,), std=(1.0,)
    ),
    "efficientnet": models.EfficientNet(
        3,
        0.25,
        stages=(models.efficientnet.Stage(2, 3, 32, 1, 1),),
        mean=(0.1,),
        std=(1.0,),
    ),
    # A bias before instance normalisation would have no gradient.
    "unet2d": models.Unet2D(3, 4, "gn", levels=2),
}
# Of networks whose images have a size.
IMAGES = {
    "vit": (4, 8, 8, 1),
    "swin": (4, 8, 8, 1),
    "sret": (4, 16, 16, 1),
    "unet2d": (4, 12, 8, 1),
}
CHIP = crossbar.Spec(devices.get("ideal", program_noise=0.1, read_noise=0.1))


def draw(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32)


# Others meet hardware with the same layers as one of these.
DEPLOYED = [name for name in NETWORKS if name not in ("swin", "sret", "unet2d")]
# Others are compared with numpy, layer by layer, in files of their own.
EAGER = ("mlp", "resnet")


class Compiled(NamedTuple):
    model: Any
    variables: Any
    apply: Any
    inputs: Any


@pytest.fixture(scope="module")
def compiled(trained):
    """A network by its name, compiled once."""

    @functools.cache
    def make(name):
        model = NETWORKS[name]
        inputs = functools.partial(draw, IMAGES.get(name, (4, 23, 12, 1)))
        variables = trained(model, inputs(0))
        return Compiled(model, variables, jax.jit(model.apply), inputs)

    return make


@pytest.fixture(params=NETWORKS)
def network(request, compiled):
    return compiled(request.param)


@pytest.fixture(params=DEPLOYED)
def deployed(request, compiled):
    return compiled(request.param)


@pytest.mark.parametrize("name", EAGER)
def test_jit_is_eager(name, compiled):
    model, variables, apply, inputs = compiled(name)
    # Far from ties of the quantiser the two differ by rounding alone.
    np.testing.assert_allclose(
        apply(variables, inputs(1)),
        model.apply(variables, inputs(1)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_new_values_do_not_recompile(network, compilations):
    _, variables, apply, inputs = network
    apply(variables, inputs(1))
    doubled = jax.tree.map(lambda a: 2 * a, variables)
    with compilations() as names:
        apply(doubled, inputs(2))
    assert not names


def test_chips_are_a_batch_and_have_gradients(deployed, key, compilations):
    model, variables, _, inputs = deployed

    def run(params, key, x):
        chip = hardware.deploy(key, params, CHIP)
        y = model.apply({**variables, "params": chip}, x, key=key)
        return (y**2).sum(), y

    one = jax.jit(jax.grad(run, has_aux=True))
    many = jax.jit(jax.vmap(run, (None, 0, None)))
    params, keys, x = variables["params"], jax.random.split(key, 2), inputs(1)
    (grads, first), (others, second) = (one(params, k, x) for k in keys)
    _, together = many(params, keys, x)
    np.testing.assert_allclose(together, [first, second], rtol=1e-4, atol=1e-4)
    # Every chip is another one, and every kernel has a gradient.
    assert (first != second).all()
    for a, b in zip(*map(jax.tree.leaves, (grads, others)), strict=True):
        assert np.isfinite(a).all() and (a != b).any()
    keys = [keys[1], keys[0]]
    with compilations() as names:
        one(params, keys[0], inputs(2))
        again, _ = one(params, keys[1], x)
    assert not names
    jax.tree.map(np.testing.assert_array_equal, again, grads)


def test_a_fine_macro_without_errors_is_nearly_ideal(deployed):
    model, variables, apply, inputs = deployed
    config = sram.Config(fold=0, x_bits=8, w_bits=8, out_bits=14)
    config = dataclasses.replace(
        config.without_errors(), lsb_units=config.unclipped()
    )
    spec = sram.Spec(config, scaling="column")

    @jax.jit
    def run(params, x):
        chip = hardware.deploy(jax.random.key(0), params, spec)
        return model.apply({**variables, "params": chip}, x)

    exact = apply(variables, inputs(1))
    got = run(variables["params"], inputs(1))
    # An activation near a tie of the quantiser may move by a whole step.
    limit = 0.05 if getattr(model, "bits", None) is None else 0.3
    off = np.abs(np.asarray(got) - exact).max()
    assert 0 < off < limit * np.abs(exact).max()


def test_bfloat16_activations(network):
    model, variables, apply, inputs = network
    exact = apply(variables, inputs(1))
    got = apply(variables, jnp.asarray(inputs(1), jnp.bfloat16))
    assert exact.dtype == jnp.float32 and got.dtype == jnp.bfloat16
    # 8 bits of mantissa over a few layers; an activation near a tie of the
    # quantiser may move by a whole step.
    limit = 0.05 if getattr(model, "bits", None) is None else 0.3
    off = np.abs(got.astype(np.float32) - exact).max()
    assert off < limit * np.abs(exact).max()
