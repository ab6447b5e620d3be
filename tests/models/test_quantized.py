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


def patches(x, h, w, stride):
    """Vectors that a kernel meets, [B, H', W', h w I], without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), (1, 2))
    windows = np.moveaxis(windows[:, ::stride, ::stride], 3, -1)
    return windows.reshape(*windows.shape[:3], -1)


@pytest.mark.parametrize("how", [{"method": "hadamard"}, {"grain": "mxfp4"}])
def test_a_kernel_is_the_product_with_patches(how):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 4)).astype(np.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 2, 4, 5)), jnp.float32)

    def conv(params):
        return hardware.conv(x, params["kernel"], strides=2, padding="VALID")

    seen = quantized.inputs(conv, {"kernel": kernel})
    want = patches(x, 3, 2, 2)
    np.testing.assert_array_equal(seen["kernel"], want.reshape(-1, 24))
    small = quantized.convert(
        {"kernel": kernel}, seen, **{"method": "minmax", **how}
    )
    leaf = small["kernel"]
    assert leaf.shape == (3, 2, 4, 5) and leaf.size == 120
    y = conv(small)
    assert y.shape == (2, 3, 3, 5)
    np.testing.assert_allclose(
        y, leaf.layer.apply(jnp.asarray(want)), rtol=1e-5, atol=1e-5
    )
    # Some of 4 bits is lost, but not all: an error of a part in six.
    exact = conv({"kernel": kernel})
    assert 0 < np.std(y - exact) / np.std(exact) < 1 / 3


def test_leaves_are_told_in_order(network):
    model, variables, x = network
    params = variables["params"]
    seen = quantized.inputs(run(model, variables, x), params)
    small = quantized.convert(params, seen, method="minmax")
    paths, found = zip(*quantized.leaves(small), strict=True)
    assert paths == ("Dense_0/kernel", "Dense_1/kernel")
    assert found[1] is small["Dense_1"]["kernel"]
    assert list(quantized.leaves(params)) == []


def test_other_places_are_left_out(network):
    model, variables, x = network
    rows = np.array([3, 0, 17])
    seen = quantized.inputs(
        run(model, variables, x), variables["params"], "Dense_0", rows
    )
    np.testing.assert_array_equal(seen["Dense_0/kernel"], x[rows, :, 0])


def test_weights_of_4_bits_lie_on_a_crossbar(network, key):
    model, variables, x = network
    params = variables["params"]
    seen = quantized.inputs(run(model, variables, x), params)
    small = quantized.convert(params, seen, bits=(4, 16), method="minmax")
    plain = quantized.values(small)
    for path in ("Dense_0", "Dense_1"):
        w = plain[path]["kernel"]
        assert w.shape == params[path]["kernel"].shape
        # A column has at most the 15 numbers of E2M1.
        assert max(len(np.unique(column)) for column in w.T) <= 15

    def answer(params, device=None):
        if device is not None:
            spec = hardware.crossbar.Spec(hardware.devices.get(device))
            params = hardware.deploy(key, params, {"kernel": spec})
        return model.apply({**variables, "params": params}, x)

    want = answer(small)
    np.testing.assert_array_equal(answer(plain), want)
    np.testing.assert_allclose(
        answer(plain, "ideal"), want, rtol=1e-4, atol=1e-4
    )
    noisy = answer(plain, "rram_40nm_set_reset")
    assert np.std(noisy - want) > 1e-3 * np.std(want)


@pytest.mark.parametrize("method", ["smoothquant", "hadamard"])
def test_weights_of_other_inputs_are_not_for_other_hardware(method, network):
    model, variables, x = network
    params = variables["params"]
    seen = quantized.inputs(run(model, variables, x), params, "Dense_1")
    small = quantized.convert(params, seen, method=method)
    with pytest.raises(UsageError, match="Dense_1/kernel has weights for inpu"):
        quantized.values(small)


def test_patterns_name_matrices():
    params = {
        "embedding": np.ones((3, 2)),
        "position_embedding": np.ones((3, 2)),
        "norm": {"scale": np.ones(2)},
        "a": {"kernel": np.ones((2, 3)), "bias": np.ones(3)},
        "b": {"kernel": np.ones((1, 1, 2, 3))},
    }
    # A table multiplies nothing.
    assert quantized.matching(params, "") == {"a/kernel", "b/kernel"}
    assert quantized.matching(params, "^a") == {"a/kernel"}
    with pytest.raises(UsageError, match=r"'embedding' names no matrix; there"):
        quantized.matching(params, "embedding")
    with pytest.raises(UsageError, match=r"'\(' is no regular expression: mis"):
        quantized.matching(params, "(")


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "stories260K.bin").is_file(),
    reason="no checkpoints/stories260K below JAXEDGE_DATA",
)
def test_the_search_keeps_a_published_decoder():
    """W4A4 on texts that it wrote itself."""
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

    # Those of one shape, whose search compiles once, with the widest inputs;
    # all 36 are in docs/results/llm_fp4_stories.md.
    seen = quantized.inputs(
        lambda v: model.apply(v, calibration), variables, "down/kernel$"
    )
    assert len(seen) == 5
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
