"""Networks of 4-bit floating-point matrices."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware, models
from jaxedge.core.checks import UsageError
from jaxedge.models import llama2c, quantized, transformer

ROOT = Path(os.environ.get("JAXEDGE_DATA", "")) / "checkpoints" / "stories260K"
MODEL = models.Mlp((12, 5))
pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture(scope="module")
def network():
    """A perceptron, its variables and inputs."""
    x = jax.random.normal(jax.random.key(1), (40, 8, 1))
    return MODEL, jax.jit(MODEL.init)(jax.random.key(0), x), x


def run(model, variables, x):
    return lambda params: model.apply({**variables, "params": params}, x)


def test_layers_see_what_the_network_sends_them(network):
    model, variables, x = network
    seen = quantized.inputs(run(model, variables, x), variables["params"])
    assert list(seen) == ["Dense_0/kernel", "Dense_1/kernel"]
    np.testing.assert_array_equal(seen["Dense_0/kernel"], x[..., 0])
    assert seen["Dense_1/kernel"].shape == (40, 12)


def test_a_leaf_is_its_layer(network, compilations):
    model, variables, x = network
    seen = quantized.inputs(run(model, variables, x), variables["params"])
    small = quantized.convert(variables["params"], seen, method="minmax")
    leaf = small["Dense_0"]["kernel"]
    assert leaf.shape == (8, 12)
    vectors = x[..., 0]
    want = leaf.layer.apply(vectors)
    np.testing.assert_allclose(
        hardware.dot(vectors, leaf), want, rtol=1e-5, atol=1e-5
    )
    apply = jax.jit(model.apply)
    y = apply({**variables, "params": small}, x)
    other = quantized.convert(variables["params"], seen, method="minmax")
    with compilations() as names:
        again = apply({**variables, "params": other}, x)
    assert not names
    np.testing.assert_array_equal(y, again)
    # The gradient of the inputs passes through the rounding.
    slope = jax.grad(lambda x: hardware.dot(x, leaf).sum())(vectors)
    np.testing.assert_allclose(
        slope[0], leaf.layer.weights.sum(1), rtol=1e-4, atol=1e-5
    )


def test_what_cannot_be_converted_is_named(network):
    model, variables, x = network
    with pytest.raises(UsageError, match="'conv' names no matrix.*Dense_0"):
        quantized.inputs(run(model, variables, x), variables["params"], "conv")
    with pytest.raises(UsageError, match="Dense_1/kernel: .*must be"):
        seen = {"Dense_1/kernel": x[..., 0]}
        quantized.convert(variables["params"], seen)


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "stories260K.bin").is_file(),
    reason="no checkpoints/stories260K below JAXEDGE_DATA",
)
def test_the_search_keeps_a_published_decoder():
    """W4A4 of all its matrices, on texts that it wrote itself."""
    model, variables = llama2c.load(ROOT / "stories260K.bin")

    @jax.jit
    def write(key):
        begin = jnp.ones((8, 1), jnp.int32)
        return transformer.generate(model, variables, begin, 96, key=key)

    calibration, text = write(jax.random.key(0)), write(jax.random.key(1))

    @jax.jit
    def perplexity(variables):
        logits = jax.nn.log_softmax(model.apply(variables, text)[:, :-1])
        right = jnp.take_along_axis(logits, text[:, 1:, None], -1)
        return jnp.exp(-right.mean())

    seen = quantized.inputs(lambda v: model.apply(v, calibration), variables)
    assert len(seen) == 5 * 7 + 1
    exact = perplexity(variables)
    found = {
        method: perplexity(
            quantized.convert(variables, seen, method=method, search="paper")
        )
        - exact
        for method in ("minmax", "fpq")
    }
    # A third of MinMax's increase is wanted at most.
    assert 0 < found["fpq"] < found["minmax"] / 3
