"""MobileNetV2 beside torchvision's, and its convolution channel by channel.

vision/README.md tells where the network comes from.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models import mobilenet
from jaxedge.models.resnet import fold

pytestmark = pytest.mark.usefixtures("compile_quickly")

FILE = Path(__file__).parent / "vision" / "mobilenet_torchvision.npz"
SMALL = mobilenet.MobileNetV2(
    5, 0.5, stages=((1, 8, 1), (6, 8, 2), (6, 24, 1)),
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def file():
    """Tensors, images and scores."""
    with np.load(FILE) as opened:
        arrays = {key: opened[key] for key in opened.files}
    x, y = arrays.pop("x"), arrays.pop("y")
    return {k.removeprefix("tensors/"): a for k, a in arrays.items()}, x, y


@pytest.fixture(scope="module")
def variables(file):
    return mobilenet.from_torch(SMALL, file[0])


def test_scores_are_those_of_torchvision(file, variables):
    _, x, y = file
    got = jax.jit(SMALL.apply)(variables, x)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())
    folded = fold(variables, SMALL.eps)
    got = jax.jit(SMALL.clone(folded=True).apply)(folded, x)
    np.testing.assert_allclose(got, y, rtol=0, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize(
    ("width", "classes", "want"),
    # What torchvision counts.
    [
        (0.35, 1000, 1_677_128),
        (0.5, 100, 815_780),
        (1.0, 1000, 3_504_872),
        (1.4, 1000, 6_108_776),
    ],
)
def test_published_counts(width, classes, want):
    shapes = jax.eval_shape(
        mobilenet.MobileNetV2(classes, width).init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == want


@pytest.mark.parametrize(
    ("strides", "sides"),
    [("cifar", (32, 32, 16, 8, 4)), ("imagenet", (16, 8, 4, 2, 1))],
)
def test_where_images_of_32_are_halved(strides, sides):
    seen = []

    def record(following, args, kwargs, context):
        y = following(*args, **kwargs)
        if isinstance(context.module, mobilenet.InvertedResidual):
            seen.append(y.shape[1])
        return y

    model = mobilenet.MobileNetV2(10, 0.5, strides)
    with nn.intercept_methods(record):
        images = np.zeros((1, 32, 32, 3), np.float32)
        jax.eval_shape(model.init, jax.random.key(0), images)
    # Blocks of the stages: 1, 2, 3, 4, 3, 3, 1.
    places = [0, 1, 3, 6, 13]
    assert len(seen) == 17 and [seen[i] for i in places] == [*sides]


def test_dropout_is_of_training(file, variables):
    _, x, y = file
    half = SMALL.clone(dropout=0.5)
    run = jax.jit(
        lambda key: half.apply(
            variables, x, train=True, rngs={"dropout": key},
            mutable=["batch_stats"],
        )[0]
    )  # fmt: skip
    one, two = (run(jax.random.key(seed)) for seed in (0, 1))
    assert np.isfinite(one).all() and (one != two).any()
    np.testing.assert_array_equal(run(jax.random.key(0)), one)
    # No rng is asked for, and nothing is dropped.
    got = jax.jit(half.apply)(variables, x)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())


SHAPES = [(1, 4, (3, 3)), (2, 8, (3, 3)), (2, 4, (2, 3))]


def each_channel(x, kernel, stride):
    """The convolution in loops, float64; one row of zeros around."""
    x = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    high, broad, _, outputs = kernel.shape
    sides = [
        (n - k) // stride + 1
        for n, k in zip(x.shape[1:3], (high, broad), strict=True)
    ]
    y = np.zeros((len(x), *sides, outputs))
    for o in range(outputs):
        channel = x[..., o // (outputs // x.shape[-1])]
        for r in range(sides[0]):
            for c in range(sides[1]):
                top, left = r * stride, c * stride
                part = channel[:, top : top + high, left : left + broad]
                y[:, r, c, o] = (part * kernel[:, :, 0, o]).sum((1, 2))
    return y


@pytest.mark.parametrize(("stride", "outputs", "window"), SHAPES)
def test_every_channel_is_convolved_by_itself(stride, outputs, window):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 4)).astype(np.float32)
    kernel = rng.normal(size=(*window, 1, outputs)).astype(np.float32)
    layer = mobilenet.DepthwiseConv(outputs, window, stride)
    variables = {"params": {"kernel": kernel}}
    y, changed = layer.apply(variables, x, mutable=["counts"])
    want = each_channel(x, kernel, stride)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    assert int(changed["counts"]["vectors"][0]) == np.prod(want.shape[1:3])
    # Rounded once: the result has 8 bits of mantissa.
    small = layer.apply(variables, jnp.asarray(x, jnp.bfloat16))
    assert small.dtype == jnp.bfloat16
    exact = layer.apply(variables, jnp.asarray(x, jnp.bfloat16).astype(float))
    np.testing.assert_allclose(
        small.astype(float), exact, rtol=2**-8, atol=1e-6
    )


@pytest.mark.parametrize("bits", [None, 16])
def test_hardware_has_an_array_for_each_channel(bits, key):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 1, 8)).astype(np.float32)
    layer = mobilenet.DepthwiseConv(8, stride=2)
    # Inputs that are converted are converted patch by patch.
    spec = crossbar.Spec(devices.get("ideal"), input_bits=bits)

    @jax.jit
    def run(kernel):
        leaf = hardware.program(key, kernel, spec)
        assert leaf.by_vector == (bits is not None)
        return layer.apply({"params": {"kernel": leaf}}, x)

    want = each_channel(x, kernel, 2)
    np.testing.assert_allclose(
        run(kernel), want, rtol=0, atol=1e-3 * np.abs(want).max()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": "mnist"}, "unknown strides 'mnist'.*cifar, imagenet"),
        ({"width": 0.0}, "width is 0.0, but must lie in"),
        ({"dropout": 1.0}, "dropout is 1.0, but must lie in"),
        ({"classes": 0}, "classes is 0, but must lie in"),
        ({"stages": ()}, "there are 0 stages, but must be 1 to 7"),
    ],
)
def test_attributes_out_of_range_are_named(changes, message):
    model = SMALL.clone(**changes)
    with pytest.raises(UsageError, match=message):
        model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))


def test_outputs_that_are_no_multiple_of_the_channels(key):
    layer = mobilenet.DepthwiseConv(6)
    with pytest.raises(UsageError, match="features is 6, but must be a mult"):
        layer.init(key, jnp.ones((1, 4, 4, 4)))
