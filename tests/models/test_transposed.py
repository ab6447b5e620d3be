"""Transposed convolutions beside loops, and beside gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices, energy
from jaxedge.models.transposed import ConvTranspose, columns

pytestmark = pytest.mark.usefixtures("compile_quickly")

EXACT = crossbar.Spec(devices.get("ideal"))
NOISY = crossbar.Spec(devices.get("ideal", read_noise=0.2))
CONVERTED = crossbar.Spec(
    devices.get("ideal"), rows=2, columns=8, input_bits=8, adc_bits=14
)
# Window, strides: also windows below their strides, and odd remainders.
CASES = [
    ((4, 4), 2),
    ((3, 3), 2),
    ((5, 2), (2, 3)),
    ((4, 3), 1),
    ((7, 1), (3, 2)),
]
X_SHAPE = (2, 3, 5, 3)


def operands(window, outputs=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=X_SHAPE).astype(np.float32)
    w = rng.normal(size=(*window, X_SHAPE[-1], outputs)).astype(np.float32)
    return x, w


def looped(x, w, strides):
    """Each pixel's window added to the image, in float64."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    batch, height, width, _ = x.shape
    # As much as SAME pads the image of the convolution in front.
    top, left = (
        max(k - s, 0) // 2 for k, s in zip(w.shape[:2], strides, strict=True)
    )
    image = np.zeros(
        (batch, strides[0] * height, strides[1] * width, w.shape[-1])
    )
    for i, j, down, along in np.ndindex(height, width, *w.shape[:2]):
        row, column = strides[0] * i + down - top, strides[1] * j + along - left
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            image[:, row, column] += x[:, i, j] @ w[down, along]
    return image


@pytest.mark.parametrize("window, strides", CASES)
def test_it_is_the_gradient_of_a_convolution(window, strides):
    x, w = operands(window)
    layer = ConvTranspose(2, window, strides)
    pair = (strides, strides) if isinstance(strides, int) else strides
    expected = looped(x, w, pair)

    def convolution(image):
        return jax.lax.conv_general_dilated(
            image,
            jnp.swapaxes(w, 2, 3),
            pair,
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    @jax.jit
    def both(x, w):
        y = layer.apply({"params": {"kernel": columns(w)}}, x)
        return y, jax.vjp(convolution, jnp.zeros(expected.shape))[1](x)[0]

    for got in both(x, w):
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


def test_any_leaf_and_key(key):
    x, w = operands((4, 4))
    kernel = columns(jnp.asarray(w))
    mask = jnp.asarray(np.random.default_rng(1).integers(0, 2, kernel.shape))
    layer = ConvTranspose(2, bias=True)
    params = {"kernel": kernel, "bias": jnp.arange(2.0)}

    def read(params, key=None):
        return layer.apply({"params": params}, x, key)

    @jax.jit
    def everything(key):
        chip = {
            name: hardware.deploy(key, params, spec)
            for name, spec in (
                ("exact", EXACT),
                ("converted", CONVERTED),
                ("noisy", NOISY),
            )
        }
        masked = hardware.MaskedRandom(kernel, mask.astype(kernel.dtype))
        wrapped = hardware.wrap(
            lambda p, x: layer.apply({"params": p}, x),
            params,
            {"kernel": CONVERTED},
            x,
        )
        return {
            "array": read(params),
            "exact": read(chip["exact"]),
            "converted": read(chip["converted"]),
            "wrapped": wrapped(wrapped.program(key), x),
            "pruned": read({**params, "kernel": kernel * mask}),
            "masked": read({**params, "kernel": masked}),
            "noisy": read(chip["noisy"], key),
            "again": read(chip["noisy"], key),
            "other": read(chip["noisy"], jax.random.fold_in(key, 1)),
        }

    y = everything(key)
    for name, base, limit in (
        ("exact", "array", 1e-5),
        ("masked", "pruned", 1e-5),
        # 8 bits going in and 14 coming out of every tile.
        ("converted", "array", 0.03),
        # A chip of a network that knows hardware, and of one that does not.
        ("wrapped", "converted", 1e-5),
    ):
        limit *= np.abs(y[base]).max()
        np.testing.assert_allclose(y[name], y[base], rtol=0, atol=limit)
    assert (y["converted"] != y["array"]).any()
    np.testing.assert_array_equal(y["noisy"], y["again"])
    for name in ("exact", "other"):
        assert (np.abs(y["noisy"] - y[name]) > 1e-4).mean() > 0.9


def test_the_record_of_energy_counts_no_zeros(key):
    x, w = operands((4, 4))

    @jax.jit
    def run(w, x):
        chip = hardware.deploy(key, {"kernel": columns(w)}, CONVERTED)
        variables = {"params": chip}
        return chip, ConvTranspose(2).apply(variables, x, mutable=["counts"])

    chip, (y, changed) = run(w, x[:1])
    (vectors,) = changed["counts"]["vectors"]
    assert int(vectors) == 3 * 5
    costs = energy.Costs()
    row = energy.layer("up", chip["kernel"], int(vectors), costs)
    # Each pixel and input meets a window of each output.
    assert row.vectors * row.rows * row.cols == 3 * 5 * 3 * 16 * 2
    assert y.shape == (1, 6, 10, 2)


def test_gradients_reach_kernel_and_image(key):
    """Against differences of the loops."""
    x, w = operands((4, 4))
    rng = np.random.default_rng(2)
    along_x, along_w = (rng.normal(size=a.shape) for a in (x, w))
    out = rng.normal(size=(2, 6, 10, 2))

    @jax.jit
    def slopes(x, w):
        def value(x, w):
            chip = hardware.program(key, columns(w), EXACT)
            y: Any = ConvTranspose(2).apply({"params": {"kernel": chip}}, x)
            return jnp.sum(y * out.astype(np.float32))

        return jax.grad(value, (0, 1))(x, w)

    grads = slopes(x, w)
    # The layer is linear in each, so these differences are exact.
    for got, direction, moved in (
        (grads[0], along_x, looped(along_x, w, (2, 2))),
        (grads[1], along_w, looped(x, along_w, (2, 2))),
    ):
        np.testing.assert_allclose(
            np.sum(np.asarray(got, np.float64) * direction),
            np.sum(moved * out),
            rtol=1e-4,
        )


def test_dtype_and_default_initialisation(key):
    layer = ConvTranspose(16)
    x = jnp.ones((1, 2, 2, 8), jnp.bfloat16)
    y, variables = jax.jit(layer.init_with_output)(key, x)
    assert y.dtype == jnp.bfloat16 and y.shape == (1, 4, 4, 16)
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (8, 256) and kernel.dtype == jnp.float32
    # U(-b, b) of the fan 4 * 4 * 8; 2,048 draws come within 2 % of b but for a
    # chance of 0.98 ** 2048 < 1e-17.
    bound = (4 * 4 * 8) ** -0.5
    assert 0.98 * bound < np.abs(kernel).max() <= bound


def test_bad_input_is_named():
    layer = ConvTranspose(2)
    with pytest.raises(UsageError, match=r"\[B, H, W, I\], got shape \(2, 3\)"):
        layer.apply({"params": {}}, jnp.ones((2, 3)))
    wrong = {"params": {"kernel": jnp.ones((3, 31))}}
    with pytest.raises(UsageError, match=r"\(3, 32\), got \(3, 31\)"):
        layer.apply(wrong, jnp.ones(X_SHAPE))
    with pytest.raises(UsageError, match="floating-point inputs, got int32"):
        layer.apply(
            {"params": {"kernel": jnp.ones((3, 32))}},
            jnp.ones(X_SHAPE, jnp.int32),
        )
