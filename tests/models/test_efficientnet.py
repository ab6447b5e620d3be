"""EfficientNet beside timm's: B0, and a small network with all its parts.

vision/README.md tells where the networks come from.
"""

from pathlib import Path
import zlib

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import efficientnet
from jaxedge.models.efficientnet import EfficientNet, Stage
from jaxedge.models.resnet import fold

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDER = Path(__file__).parent / "vision"
# Images of the files are normalised already.
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
B0 = EfficientNet(5, **PLAIN)
# Its depth leaves 2, 2 and 1 blocks of 2, 2 and 1.
SMALL = EfficientNet(
    5,
    width=0.5,
    depth=0.75,
    stages=(
        Stage(1, 3, 16, 2, 1),
        Stage(6, 5, 24, 2, 2),
        Stage(6, 3, 40, 1, 1),
    ),
    tap=1,
    **PLAIN,
)


def lively(name, shape):
    """As scripts/peers/vision_reference.py draws it."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    draw = state.uniform(-1, 1, shape)
    if len(shape) > 1:
        values = (draw / np.sqrt(float(np.prod(shape[1:])))).astype(np.float32)
        return values * np.float32(6**0.5)
    values = (1 + draw / 2).astype(np.float32)
    return values - np.float32(name.endswith(("bias", "running_mean")))


def read(name):
    """Tensors, and what else a file has."""
    with np.load(FOLDER / f"{name}.npz") as opened:
        arrays = {key: opened[key] for key in opened.files}
    tensors = {
        key.removeprefix("shapes/"): tuple(arrays.pop(key))
        for key in list(arrays)
        if key.startswith("shapes/")
    }
    return {k: lively(k, shape) for k, shape in tensors.items()}, arrays


@pytest.fixture(scope="module")
def small():
    """Variables of the small network, and what timm makes of them."""
    tensors, known = read("efficientnet_small_timm")
    return efficientnet.from_torch(SMALL, tensors), known


@pytest.fixture(scope="module")
def ran(small):
    """The small network: as it is, folded, and in training."""
    variables, known = small

    @jax.jit
    def run(variables, folded, x):
        plain = SMALL.apply(variables, x, features=True)
        training = SMALL.apply(
            variables, x, train=True, mutable=["batch_stats"]
        )
        return plain, SMALL.clone(folded=True).apply(folded, x), training

    return run(variables, fold(variables, SMALL.eps), known["x"])


def close(got, want, limit):
    np.testing.assert_allclose(got, want, rtol=0, atol=limit * np.ptp(want))


def test_b0_is_that_of_timm():
    tensors, known = read("efficientnet_timm")
    variables = efficientnet.from_torch(B0, tensors)
    run = jax.jit(lambda v, x: B0.apply(v, x, features=True))
    scores, features = run(variables, known["x"])
    assert features.shape == (2, 1008)
    # timm's own scores are 3e-6 from those in float64.
    close(scores, known["y"], 1e-5)
    close(features, known["features"], 1e-5)


def test_scores_and_features_are_those_of_timm(small, ran):
    _, known = small
    (scores, features), folded, _ = ran
    close(scores, known["y"], 1e-5)
    close(features, known["features"], 1e-5)
    close(folded, known["y"], 1e-4)
    # The network looks at its images, or the rest would tell nothing.
    assert np.abs(scores[0] - scores[1]).max() > 0.1 * np.ptp(known["y"])


def test_a_step_of_training_is_that_of_timm(small, ran):
    variables, known = small
    _, _, (scores, changed) = ran
    close(scores, known["trained"], 1e-5)
    after = {
        name.removeprefix("after/"): array
        for name, array in known.items()
        if name.startswith("after/")
    }
    # Scales and biases have the places of the tensors before.
    want = efficientnet.from_torch(
        SMALL, read("efficientnet_small_timm")[0] | after
    )["batch_stats"]
    before, got = variables["batch_stats"], changed["batch_stats"]
    sizes = pixels(known["x"])
    assert len(sizes) == len(jax.tree.leaves(want)) / 2

    def check(path, moved):
        node = [want, before, got]
        for part in path:
            node = [tree[part] for tree in node]
        their, old, ours = (moment["BatchNorm_0"] for moment in node)
        close(ours["mean"], their["mean"], 1e-5)
        # PyTorch moves the variance to n / (n - 1) of the batch's.
        var = 0.9 * old["var"] + (their["var"] - 0.9 * old["var"]) * moved
        close(ours["var"], var, 1e-5)

    for path, n in sizes.items():
        check(path, (n - 1) / n)


def pixels(x):
    """Pixels that each normalisation of the small network sees."""
    sizes = {}

    def record(following, args, kwargs, context):
        y = following(*args, **kwargs)
        if isinstance(context.module, efficientnet.Unit):
            sizes[*context.module.path, "Norm_0"] = np.prod(y.shape[:3])
        return y

    with nn.intercept_methods(record):
        jax.eval_shape(SMALL.init, jax.random.key(0), x)
    return sizes


@pytest.mark.parametrize(
    ("width", "depth", "classes", "want"),
    # What timm counts: B0, B2, and a small one.
    [
        (1.0, 1.0, 8, 4_017_796),
        (1.1, 1.2, 1000, 9_109_994),
        (0.5, 0.5, 1000, 1_298_120),
    ],
)
def test_published_counts(width, depth, classes, want):
    shapes = jax.eval_shape(
        EfficientNet(classes, width, depth).init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == want


@pytest.mark.parametrize(
    ("side", "stem", "sides"),
    [
        (224, 2, (112, 56, 28, 14, 14, 7, 7)),
        (32, 1, (32, 16, 8, 4, 4, 2, 2)),
    ],
)
def test_where_images_are_halved_and_blocks_left_out(side, stem, sides):
    seen, rates = {}, []

    def record(following, args, kwargs, context):
        y = following(*args, **kwargs)
        if isinstance(context.module, efficientnet.Block):
            stage = int(context.module.name.split("_")[1])
            seen[stage] = y.shape[1]
            rates.append(context.module.drop)
        return y

    model = EfficientNet(10, stem_stride=stem, drop_path=0.2)
    images = np.zeros((1, side, side, 3), np.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(model.init, jax.random.key(0), images)
    assert tuple(seen[stage] for stage in range(7)) == sides
    # timm's rule: that of block i of n is i / n of the rate.
    np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)


def test_what_is_left_out_is_of_training(small):
    variables, known = small
    model = SMALL.clone(drop_path=0.9)

    @jax.jit
    def run(key):
        return model.apply(
            variables, known["x"], train=True, rngs={"dropout": key},
            mutable=["batch_stats"],
        )[0]  # fmt: skip

    one, two = (run(jax.random.key(seed)) for seed in (0, 1))
    assert np.isfinite(one).all() and (one != two).any()
    np.testing.assert_array_equal(run(jax.random.key(0)), one)


@pytest.mark.parametrize("each", [False, True])
def test_kernels_start_as_in_timm(each, key):
    unit = efficientnet.Unit(400, 5, each=each)
    x = np.zeros((1, 5, 5, 400), np.float32)
    variables = jax.jit(lambda key: unit.init(key, x, False, None))(key)
    kernel = variables["params"]["Conv_0"]["kernel"]
    # Outputs that an input has: 25 of its own channel, or 25 of all.
    want = np.sqrt(2 / (25 if each else 25 * 400))
    # n >= 10,000 normal draws: a standard error of 0.7 % of the deviation.
    np.testing.assert_allclose(kernel.std(), want, rtol=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 0}, "classes is 0, but must lie in"),
        ({"width": 0.0}, "width is 0.0, but must lie in"),
        ({"depth": -1.0}, "depth is -1.0, but must lie in"),
        ({"stem_stride": 0}, "stem_stride is 0, but must lie in"),
        ({"drop_path": 1.0}, "drop_path is 1.0, but must lie in"),
        ({"dropout": -0.1}, "dropout is -0.1, but must lie in"),
        ({"stages": ()}, "there are no stages; give it one"),
        ({"tap": 3}, "tap is 3, but must lie in"),
    ],
)
def test_attributes_out_of_range_are_named(changes, message):
    model = SMALL.clone(**changes)
    with pytest.raises(UsageError, match=message):
        model.init(
            jax.random.key(0), np.zeros((1, 8, 8, 3), "f4"), features=True
        )


def test_tensors_of_another_network_are_named(small):
    del small
    tensors, _ = read("efficientnet_small_timm")
    gone = "blocks.1.0.se.conv_reduce.bias"
    with pytest.raises(UsageError, match=f"lack {gone}"):
        left = {name: a for name, a in tensors.items() if name != gone}
        efficientnet.from_torch(SMALL, left)
