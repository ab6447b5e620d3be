import functools
from pathlib import Path
import zlib

import jax
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError
from jaxedge.models import resnet, resnet_large

FILE = Path(__file__).parent / "vision" / "resnet18_torchvision.npz"

IMAGE = np.zeros((1, 224, 224, 3), np.float32)
# A stride-2 layer at every place where the real one has it.
SMALL = {
    depth: models.LargeResNet(5, depth, 2, mean=(0.5, 0.4, 0.3))
    for depth in (18, 50)
}


def shapes(model, x):
    """Shapes of the variables and of the outputs, without computing them."""
    key = jax.random.key(0)
    variables = jax.eval_shape(model.init, key, x)
    return variables, jax.eval_shape(model.apply, variables, x)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("depth, count", [(18, 11_689_512), (50, 25_557_032)])
def test_torchvisions_counts(depth, count):
    variables, y = shapes(models.LargeResNet(depth=depth), IMAGE)
    # What torchvision documents for its weights of 1,000 classes.
    assert size(variables["params"]) == count
    assert y.shape == (1, 1000)
    bare = models.LargeResNet(depth=depth, affine=False, bias=False)
    masked, _ = shapes(bare, IMAGE)
    # Less a scale and a bias for each running mean and deviation, and a bias
    # for each class.
    gone = size(variables["batch_stats"]) + 1000
    assert size(masked["params"]) == count - gone
    assert all(len(w.shape) > 1 for w in jax.tree.leaves(masked["params"]))


@pytest.mark.parametrize("depth", SMALL)
def test_a_network_is_that_of_the_paper(reference, trained, depth):
    model = SMALL[depth]
    x = np.random.default_rng(0).uniform(0, 1, (2, 64, 64, 3))
    variables = trained(model, x[:1].astype(np.float32))
    got = jax.jit(model.apply)(variables, x.astype(np.float32))
    want = forward(reference, model, variables, x)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


def forward(ref, model, variables, x):
    """The network in float64, with loops over blocks and no flax."""
    params, stats = variables["params"], variables["batch_stats"]

    def unit(x, *path, stride=1):
        p, s = params, stats
        for name in path:
            p, s = p[name], s[name]
        kernel = np.asarray(p["Conv_0"]["kernel"], np.float64)
        edge = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
        x = ref.conv(x, kernel)[:, ::stride, ::stride]
        p, s = (a["Norm_0"]["BatchNorm_0"] for a in (p, s))
        x = (x - s["mean"]) / np.sqrt(s["var"].astype(float) + model.eps)
        return x * p["scale"] + p["bias"]

    def block(x, name, inner, stride):
        y = x
        for i, s in enumerate(inner):
            y = unit(y, name, f"Unit_{i}", stride=s)
            y = y if i + 1 == len(inner) else ref.relu(y)
        if f"Unit_{len(inner)}" in params[name]:
            x = unit(x, name, f"Unit_{len(inner)}", stride=stride)
        return ref.relu(x + y)

    x = (x - model.mean) / model.std
    x = ref.relu(unit(x, "Unit_0", stride=2))
    # The maximum over 3 x 3 at stride 2, one pixel beyond the edge.
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    n = (x.shape[1] - 3) // 2 + 1
    x = np.max(
        [
            x[:, i : i + 2 * n : 2, j : j + 2 * n : 2][:, :n, :n]
            for i in range(3)
            for j in range(3)
        ],
        0,
    )
    counts = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[model.depth]
    kind = "Block" if model.depth == 18 else "Bottleneck"
    place = 0
    for stage, count in enumerate(counts):
        for i in range(count):
            s = 2 if stage and not i else 1
            inner = (s, 1) if kind == "Block" else (1, s, 1)
            x = block(x, f"{kind}_{place}", inner, s)
            place += 1
    dense = params["Dense_0"]
    return x.mean((1, 2)) @ np.asarray(dense["kernel"], float) + dense["bias"]


def test_other_depths_have_no_blocks_here():
    with pytest.raises(UsageError, match="depth is 34, but must be 18 or 50"):
        shapes(models.LargeResNet(depth=34), IMAGE)


def uniform(name, shape):
    """As scripts/peers/vision_reference.py draws it."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    fan = float(np.prod(shape[1:]))
    draw = state.uniform(-1, 1, shape)
    values = draw / np.sqrt(fan) if len(shape) > 1 else 1 + draw / 2
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def torchvision():
    """Tensors of ResNet-18, an image and its scores."""
    with np.load(FILE) as file:
        tensors = {
            key.removeprefix("shapes/"): tuple(file[key])
            for key in file.files
            if key.startswith("shapes/")
        }
        x, y = file["x"], file["y"]
    return {k: uniform(k, shape) for k, shape in tensors.items()}, x, y


def test_scores_are_those_of_torchvision(torchvision):
    tensors, x, y = torchvision
    model = models.LargeResNet(5, mean=(0.0,) * 3, std=(1.0,) * 3)
    variables = resnet_large.from_torch(model, tensors)
    got = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())
    gone = "layer3.0.downsample.1.running_var"
    tensors = {name: a for name, a in tensors.items() if name != gone}
    with pytest.raises(UsageError, match=f"lack {gone}"):
        resnet_large.from_torch(model, tensors)


@pytest.mark.parametrize("depth", SMALL)
def test_a_learned_rectifier_is_before_each_quantised_convolution(depth):
    plain, _ = shapes(SMALL[depth], IMAGE)
    learned, _ = shapes(SMALL[depth].clone(rprelu=True), IMAGE)
    # Two biases and a slope for each channel that enters a convolution of a
    # block or leaves the block, and a bias for each that leaves one.
    inner = (1, 1) if depth == 18 else (1, 1, 4)
    more, enters = 0, 2
    for stage, count in enumerate({18: [2] * 4, 50: [3, 4, 6, 3]}[depth]):
        leaves = [2 * 2**stage * n for n in inner]
        for _ in range(count):
            more += 3 * (enters + sum(leaves)) + sum(leaves)
            enters = leaves[-1]
    assert size(learned["params"]) - size(plain["params"]) == more


def test_a_learned_rectifier_is_its_formula():
    x = np.array([[-2.0, 1.0], [3.0, -4.0]], np.float32)
    params = {
        "before": np.array([1.0, -2.0]),
        "slope": np.array([0.5, 0.25]),
        "after": np.array([0.0, 10.0]),
    }
    got = resnet.Rprelu().apply({"params": params}, x)
    np.testing.assert_allclose(got, [[-0.5, 9.75], [4.0, 8.5]])


def test_a_network_with_learned_rectifiers_starts_as_published(reference):
    """One block in float64: from plain tensors, slopes of 0.25."""
    block = resnet.Block(2, 1, "conv", resnet.Unit, rprelu=True)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("f4")
    shape = jax.eval_shape(
        lambda key: block.init(key, x, False, None), jax.random.key(0)
    )
    kernels = np.random.default_rng(1).normal(size=(2, 3, 3, 2, 2))

    def fill(path, leaf):
        names = [part.key for part in path]
        if names[-1] == "kernel":
            return kernels[int(names[1][-1])].astype("f4")
        value = {"slope": 0.25, "scale": 1.0, "var": 1.0, "before": 0.5}
        return np.full(leaf.shape, value.get(names[-1], 0.25), np.float32)

    variables = jax.tree_util.tree_map_with_path(
        fill, {k: shape[k] for k in ("params", "batch_stats")}
    )
    got = block.apply(variables, x, False, None)

    def rectify(a):
        a = a + 0.5
        return np.where(a > 0, a, 0.25 * a) + 0.25

    def unit(a, kernel):
        a = np.pad(rectify(a), [(0, 0), (1, 1), (1, 1), (0, 0)])
        # The biases of the convolution and of the norm, less its mean.
        a = reference.conv(a, kernel) + 0.25
        return (a - 0.25) / np.sqrt(1 + 1e-5) + 0.25

    want = rectify(x + unit(unit(x.astype(float), kernels[0]), kernels[1]))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    folded = resnet.fold(variables, 1e-5)
    small = functools.partial(resnet.Unit, folded=True)
    same = resnet.Block(2, 1, "conv", small, rprelu=True)
    got = same.apply({"params": folded["params"]}, x, False, None)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_tensors_of_a_plain_network_start_a_learned_one(torchvision):
    tensors, _, _ = torchvision
    model = models.LargeResNet(5)
    plain = resnet_large.from_torch(model, tensors)["params"]
    learned = resnet_large.from_torch(model.clone(rprelu=True), tensors)
    for name, params in plain.items():
        if not name.startswith("Block"):
            continue
        other = learned["params"][name]
        for i in range(3):
            assert (other[f"rprelu_{i}"]["slope"] == 0.25).all()
            assert not other[f"rprelu_{i}"]["before"].any()
        np.testing.assert_array_equal(
            other["Unit_1"]["Conv_0"]["kernel"],
            params["Unit_1"]["Conv_0"]["kernel"],
        )
        assert not other["Unit_1"]["Conv_0"]["bias"].any()
