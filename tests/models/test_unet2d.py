"""The U-Net of FEAL beside numpy's float64, and its published counts."""

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models.unet2d import Unet2D, Unit

pytestmark = pytest.mark.usefixtures("compile_quickly")

# Inputs and outputs of the 3 x 3 convolutions, in their order.
WIDTHS = [
    (3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64),
    (64, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 256),
    (256, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64),
    (64, 64), (64, 32), (32, 32),
]  # fmt: skip
# Of the 1 x 1 convolutions, the head last.
NARROW = [(256, 128), (128, 64), (64, 32), (32, 16), (32, 2)]


def images(n, *sides):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (n, *sides, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("norm", "count"),
    # feal 3.
    [("in", 3_179_890), ("bn", 3_184_754), ("gn", 3_184_754)],
)
def test_the_published_counts(norm, count):
    shapes = jax.eval_shape(
        Unet2D(norm=norm).init, jax.random.key(0), images(1, 32, 32)
    )
    params = shapes["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    kernels = [w.shape for w in jax.tree.leaves(params) if w.ndim == 4]
    want = [(3, 3, *w) for w in WIDTHS] + [(1, 1, *w) for w in NARROW]
    assert sorted(kernels) == sorted(want)


def lively(model, x):
    """Variables by which images still differ behind all layers."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, std, leaf.shape).astype(np.float32)
        centre = float(name in ("scale", "var"))
        return rng.uniform(centre - 0.4, centre + 0.4, leaf.shape).astype("f4")

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    shapes.pop("counts")
    return jax.tree_util.tree_map_with_path(draw, shapes)


class Numpy:
    """The network in numpy's float64, given its variables."""

    def __init__(self, reference, variables, norm):
        self.ref, self.norm = reference, norm
        self.params = variables["params"]
        self.stats = variables.get("batch_stats", {})

    def conv(self, x, params):
        kernel = np.asarray(params["kernel"], np.float64)
        edge = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
        return self.ref.conv(x, kernel) + np.float64(params["bias"])

    def unit(self, x, name, rectified=True):
        params = self.params[name]
        x = self.conv(x, params["Conv_0"])
        if self.norm == "bn":
            scale = params["Norm_0"]["BatchNorm_0"]
            x = self.ref.norm(x, self.stats[name]["Norm_0"]["BatchNorm_0"])
        else:
            axes = (1, 2) if self.norm == "in" else (1, 2, 3)
            off = x - x.mean(axes, keepdims=True)
            x = off / np.sqrt((off**2).mean(axes, keepdims=True) + 1e-5)
            scale = params.get("GroupNorm_0", {"scale": 1.0, "bias": 0.0})
        x = x * np.float64(scale["scale"]) + np.float64(scale["bias"])
        return self.ref.relu(x) if rectified else x

    def __call__(self, x):
        levels = []
        for level in range(5):
            x = self.ref.pool(x) if level else np.float64(x)
            for i in range(3):
                x = self.unit(x, f"down_{level}_{i}", i > 0)
            levels.append(x)
        deepest = levels.pop()
        for level in (3, 2, 1, 0):
            if level < 3:
                x = self.unit(x, f"up_{level}_0")
            x = np.kron(x, np.ones((1, 2, 2, 1)))
            x = self.unit(x, f"up_{level}_1")
            x = np.concatenate([levels.pop(), x], -1)
            x = self.unit(x, f"up_{level}_2")
        return self.conv(x, self.params["head"]), deepest


@pytest.mark.parametrize("norm", ["in", "bn", "gn"])
def test_the_network_is_that_of_the_release(reference, norm):
    model, x = Unet2D(base=2, norm=norm), images(2, 48, 64)
    variables = lively(model, x)
    logits, deepest = Numpy(reference, variables, norm)(x)
    run = jax.jit(lambda v, x: model.apply(v, x, features=True))
    got, features = run(variables, x)
    assert got.shape == logits.shape == (2, 48, 64, 2)
    np.testing.assert_allclose(got, logits, rtol=0, atol=1e-4 * np.ptp(logits))
    # Of 3 x 4 pixels: rows by themselves, columns in overlapping pairs.
    parts = [deepest[:, :, i : i + 2].mean(2) for i in range(3)]
    want = np.stack(parts, -1).transpose(0, 2, 1, 3).reshape(2, -1)
    np.testing.assert_allclose(features, want, rtol=0, atol=1e-4 * np.ptp(want))
    # The network looks at its images, or the rest would tell nothing.
    assert np.abs(got[0] - got[1]).max() > 0.01 * np.ptp(logits)


def test_the_published_features():
    model, x = Unet2D(), images(1, 32, 32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    variables.pop("counts")
    _, features = jax.eval_shape(
        lambda v: model.apply(v, x, features=True), variables
    )
    assert features.shape == (1, 2304)


def test_a_unit_starts_as_kaimings_and_trains_on_the_batch(key):
    unit, x = Unit(200, "bn", rectified=False), images(2, 8, 8)

    @jax.jit
    def run(key):
        variables = unit.init(key, x, False, None)
        y, changed = unit.apply(variables, x, True, None, mutable=True)
        return variables["params"], y, changed["batch_stats"]

    params, y, stats = run(key)
    kernel = params["Conv_0"]["kernel"]
    # n = 5,400 normal draws: a standard error of 1 % of the deviation.
    want = np.sqrt(2 / (9 * 200))
    np.testing.assert_allclose(kernel.std(), want, rtol=0.05)
    assert not params["Conv_0"]["bias"].any()
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    assert np.asarray(stats["Norm_0"]["BatchNorm_0"]["mean"]).any()


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"norm": "ln"}, (32, 32, 3), "unknown norm 'ln'"),
        ({"classes": 0}, (32, 32, 3), "classes is 0, but must lie in"),
        ({"base": 0}, (32, 32, 3), "base is 0, but must lie in"),
        ({"levels": 1}, (32, 32, 3), "levels is 1, but must lie in"),
        ({}, (32, 40, 3), r"\(32, 40, 3\), but must be .* multiples of 16"),
        ({}, (32, 32), r"\(32, 32\), but must be \[H, W, C\]"),
        ({}, (16, 16, 3), "one pixel at the deepest level"),
    ],
)
def test_what_does_not_fit_is_named(changes, shape, message):
    model = Unet2D(**changes)
    with pytest.raises(UsageError, match=message):
        model.init(jax.random.key(0), np.zeros((1, *shape), np.float32))
