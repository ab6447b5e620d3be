import jax
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError

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
