"""Convolutions on any hardware, and the patches that vectors are made of."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware as hw
from jaxedge.core import checks
from jaxedge.hardware import convolution
from jaxedge.hardware.crossbar import Spec

# Image, kernel, strides, padding.
CASES = [
    ((2, 6, 5, 3), (3, 3, 3, 4), 1, "SAME"),
    ((2, 6, 5, 3), (3, 3, 3, 4), 1, "VALID"),
    ((2, 6, 5, 3), (3, 2, 3, 4), (2, 1), "VALID"),
    ((1, 7, 8, 2), (2, 4, 2, 3), (3, 2), "SAME"),
    ((2, 5, 5, 1), (1, 1, 1, 2), 2, "SAME"),
    ((2, 4, 6, 2), (3, 2, 2, 1), (1, 2), ((2, 0), (1, 3))),
    ((1, 3, 2, 2), (3, 2, 2, 5), 1, "VALID"),
]
STATIC = ("strides", "padding", "dilation", "groups")
conv = jax.jit(hw.conv, static_argnames=STATIC)
patches = jax.jit(hw.patches, static_argnums=(1, 2, 3))

every = pytest.mark.parametrize("image, kernel, strides, padding", CASES)


def pair(strides):
    return (strides, strides) if isinstance(strides, int) else strides


def pads(size, window, stride, padding):
    """Rows or columns to add before and after, from their definition."""
    if padding == "VALID":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def model(x, window, strides, padding):
    """Every patch by a loop, in float64: [B, H', W', h * w * I]."""
    x, strides = np.asarray(x, np.float64), pair(strides)
    if isinstance(padding, str):
        padding = [
            pads(*sizes, padding)
            for sizes in zip(x.shape[1:3], window, strides, strict=True)
        ]
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    rows = range(0, x.shape[1] - window[0] + 1, strides[0])
    columns = range(0, x.shape[2] - window[1] + 1, strides[1])
    return np.stack(
        [
            np.stack(
                [
                    x[:, i : i + window[0], j : j + window[1]].reshape(
                        len(x), -1
                    )
                    for j in columns
                ],
                1,
            )
            for i in rows
        ],
        1,
    )


def operands(image, kernel):
    """An image and a kernel of normal numbers."""
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in (image, kernel)
    )


def program(w, **sizes):
    """The weight on an ideal array of a design."""
    spec = Spec(hw.devices.get("ideal"), **sizes)
    return hw.program(jax.random.key(0), w, spec)


@functools.partial(jax.jit, static_argnames=STATIC)
def three_ways(x, w, **options):
    """By the kernel itself, on a linear array, and vector by vector."""
    linear = program(w)
    # 2^16 levels make the vector path as good as the linear one.
    by_vector = read_by(linear, input_bits=16)
    assert by_vector.by_vector and not linear.by_vector
    return [hw.conv(x, leaf, **options) for leaf in (w, linear, by_vector)]


def read_by(leaf, **sizes):
    """The same cells in another design."""
    spec = dataclasses.replace(leaf.spec, **sizes)
    return dataclasses.replace(leaf, spec=spec)


@every
def test_patches_are_what_a_loop_cuts_out(image, kernel, strides, padding):
    x, _ = operands(image, kernel)
    cut = patches(x, kernel[:2], pair(strides), padding)
    expected = model(x, kernel[:2], strides, padding)
    np.testing.assert_array_equal(cut, np.float32(expected))


@every
def test_a_convolution_is_a_product_of_patches(image, kernel, strides, padding):
    x, w = operands(image, kernel)
    vectors = model(x, kernel[:2], strides, padding)
    expected = vectors @ np.asarray(w, np.float64).reshape(-1, kernel[-1])
    found = three_ways(x, w, strides=strides, padding=padding)
    for y, limit in zip(found, (1e-5, 1e-5, 1e-4), strict=True):
        assert y.shape == expected.shape
        atol = limit * np.abs(expected).max()
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


def test_both_paths_have_one_gradient():
    image, kernel, strides, padding = CASES[3]
    x, w = operands(image, kernel)

    @jax.jit
    @jax.grad
    def slope(x, leaf):
        y = hw.conv(x, leaf, strides=strides, padding=padding)
        return jnp.sum(jnp.sin(y))

    linear = program(w)
    by_vector = read_by(linear, input_bits=16)
    expected = slope(x, linear)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(slope(x, by_vector), expected, atol=2e-3)


def test_an_adc_sees_one_patch_at_a_time():
    x, w = operands((2, 6, 5, 3), (3, 3, 3, 4))
    leaf = program(w, adc_bits=6, rows=10)
    y = conv(x, leaf, strides=2, padding="VALID")
    matrix = dataclasses.replace(leaf, shape=(27, 4))
    vectors = patches(x, (3, 3), (2, 2), "VALID")
    np.testing.assert_allclose(y, jax.jit(hw.dot)(vectors, matrix), rtol=1e-5)
    plain = conv(x, w, strides=2, padding="VALID")
    assert np.abs(y - plain).max() > 0.01


# Groups, dilation, outputs; the last has three kernels for each channel.
GROUPED = [(2, 1, 4), (4, 1, 4), (1, (2, 1), 3), (2, 2, 6), (4, 1, 12)]


def grouped_model(x, w, groups, dilation):
    """Zeros between a kernel's entries, and a product for each group."""
    dilation = pair(dilation)
    h, wide, _, outputs = w.shape
    reach = [(n - 1) * d + 1 for n, d in zip((h, wide), dilation, strict=True)]
    kernel = np.zeros((*reach, *w.shape[2:]))
    kernel[:: dilation[0], :: dilation[1]] = w
    parts = []
    for x_part, w_part in zip(
        np.split(np.asarray(x), groups, -1),
        np.split(kernel, groups, -1),
        strict=True,
    ):
        vectors = model(x_part, reach, (2, 1), "SAME")
        parts.append(vectors @ w_part.reshape(-1, outputs // groups))
    return np.concatenate(parts, -1)


@pytest.mark.parametrize("groups, dilation, outputs", GROUPED)
def test_a_group_sees_its_channels_alone(groups, dilation, outputs):
    x, w = operands((2, 7, 6, 4), (3, 2, 4 // groups, outputs))
    expected = grouped_model(x, np.asarray(w), groups, dilation)
    found = three_ways(x, w, strides=(2, 1), groups=groups, dilation=dilation)
    for y, limit in zip(found, (1e-5, 1e-5, 1e-4), strict=True):
        assert y.shape == expected.shape
        atol = limit * np.abs(expected).max()
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


def test_groups_are_read_apart(key):
    """Two equal groups differ by their read noise alone."""
    x, w = operands((1, 5, 5, 1), (3, 3, 1, 2))
    x, w = jnp.tile(x, 4), jnp.tile(w, 4)
    device = hw.devices.get("ideal", read_noise=0.1)

    @jax.jit
    def both(x, w):
        leaf = hw.program(key, w, Spec(device, input_bits=16))
        return [hw.conv(x, leaf, groups=4, key=k) for k in (None, key)]

    quiet, noisy = (np.split(np.asarray(y), 4, -1) for y in both(x, w))
    for i in range(1, 4):
        np.testing.assert_allclose(quiet[0], quiet[i], rtol=1e-5)
        assert (noisy[0] != noisy[i]).all()


def test_a_split_leaf_is_its_parts():
    """Converters see a group's columns as those of an array of its own."""
    x, w = operands((1, 5, 5, 4), (3, 3, 2, 6))
    programmed = jax.jit(functools.partial(program, adc_bits=6, rows=10))
    leaf = programmed(w)
    y = conv(x, leaf, groups=2)
    for g in range(2):
        part = programmed(w[..., 3 * g : 3 * g + 3])
        cells = jax.tree.map(
            lambda a, g=g: a[..., 3 * g : 3 * g + 3], leaf.cells
        )
        part = dataclasses.replace(part, cells=cells, scale=leaf.scale)
        alone = conv(x[..., 2 * g : 2 * g + 2], part)
        np.testing.assert_allclose(
            y[..., 3 * g : 3 * g + 3], alone, rtol=1e-5, atol=1e-6
        )


def test_masks_are_split_with_their_weights():
    _, w = operands((1,), (3, 3, 2, 6))
    parts = hw.MaskedRandom(w, w > 0).split(3)
    assert parts.shape == (3, 3, 3, 2, 2)
    np.testing.assert_array_equal(parts.weights[1], w[..., 2:4])
    np.testing.assert_array_equal(parts.mask[2], w[..., 4:] > 0)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"strides": 2, "padding": "VALID"},
        {"dilation": (2, 1), "padding": ((1, 0), (2, 1))},
        {"groups": 2},
    ],
)
def test_products_of_patches_are_the_convolution(how):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 7, 6, 4)), jnp.float32)
    inputs = 4 // how.get("groups", 1)
    w = jnp.asarray(rng.normal(size=(3, 2, inputs, 4)), jnp.float32)

    def traced():  # JAX traces a function once, a new one anew.
        def value(x, w):
            return jnp.sin(hw.conv(x, w, **how)).sum()

        grads = jax.grad(value, (0, 1))(x, w)
        return grads, "conv_general_dilated" in str(jax.make_jaxpr(value)(x, w))

    want, plain = traced()
    with convolution.by_patches():
        found, left = traced()
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert plain and left == ("groups" in how)


# Sizes of the kernel, strides, padding, dilation, groups; of volumes.
VOLUMES = [
    ((3, 2, 3), (1, 1, 1), "SAME", (2, 1, 3), 1),
    ((2, 2, 2), (2, 2, 2), "VALID", (1, 1, 1), 1),
    ((3, 3, 3), (2, 1, 1), ((2, 0), (1, 1), (0, 3)), (1, 2, 1), 1),
    ((3, 3, 3), (1, 2, 1), ((2, 0), (1, 1), (0, 3)), (1, 2, 1), 2),
]


def volume_model(x, w, strides, padding, dilation, groups):
    """The sum over a kernel's places, each a shifted volume, in float64."""
    x, w = np.float64(x), np.float64(w)
    sizes = w.shape[:3]
    reach = [(k - 1) * d + 1 for k, d in zip(sizes, dilation, strict=True)]
    if isinstance(padding, str):
        padding = [
            pads(*sizes, padding)
            for sizes in zip(x.shape[1:4], reach, strides, strict=True)
        ]
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    total = 0
    for place in np.ndindex(sizes):
        cut = tuple(
            slice(i * d, n - r + i * d + 1, s)
            for i, d, n, r, s in zip(
                place, dilation, x.shape[1:4], reach, strides, strict=True
            )
        )
        parts = zip(
            np.split(x[(slice(None), *cut)], groups, -1),
            np.split(w[place], groups, -1),
            strict=True,
        )
        total = total + np.concatenate([a @ b for a, b in parts], -1)
    return total


@pytest.mark.parametrize("sizes, strides, padding, dilation, groups", VOLUMES)
def test_volumes(sizes, strides, padding, dilation, groups):
    x, w = operands((2, 5, 6, 7, 4), (*sizes, 4 // groups, 6))
    how = dict(strides=strides, padding=padding, dilation=dilation)
    expected = volume_model(x, w, groups=groups, **how)
    linear = Spec(hw.devices.get("ideal")).program(jax.random.key(0), w)
    leaves = [w, linear, read_by(linear, input_bits=16)]
    found = [conv(x, leaf, groups=groups, **how) for leaf in leaves]
    with convolution.by_patches():
        # JAX traces a function once, a new one anew.
        found += [jax.jit(lambda x: hw.conv(x, w, groups=groups, **how))(x)]
    for y, limit in zip(found, (1e-5, 1e-5, 1e-4, 1e-5), strict=True):
        assert y.shape == expected.shape
        atol = limit * np.abs(expected).max()
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


def test_one_number_is_of_all_axes_of_a_volume():
    x, w = operands((1, 5, 5, 5, 2), (2, 2, 2, 2, 3))
    same = conv(x, w, strides=2, dilation=2)
    each = conv(x, w, strides=(2, 2, 2), dilation=(2, 2, 2))
    np.testing.assert_array_equal(same, each)
    cut = patches(x, (2, 2, 2), (2, 2, 2), "VALID")
    assert cut.shape == (1, 2, 2, 2, 16)
    np.testing.assert_array_equal(
        cut[0, 0, 1, 0].reshape(2, 2, 2, 2), x[0, :2, 2:4, :2]
    )


@pytest.mark.parametrize(
    "how, message",
    [
        ({"strides": (1, 1)}, "strides are .* depth, height and width"),
        ({"dilation": (1, 0, 1)}, "dilation is .* depth, height and width"),
        ({"padding": ((1, 1), (1, 1))}, r"padding is .*\(front, back\)"),
        ({"dilation": 3, "padding": "VALID"}, r"window of \(7, 7, 7\)"),
    ],
)
def test_what_does_not_fit_a_volume(how, message):
    x, w = operands((1, 5, 5, 5, 2), (3, 3, 3, 2, 3))
    with pytest.raises(checks.UsageError, match=message):
        hw.conv(x, w, **how)
    with pytest.raises(checks.UsageError, match="conv needs"):
        hw.conv(x[0], w, **how)
