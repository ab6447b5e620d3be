import os
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError
from jaxedge.models import checkpoints

REAL = "resnet20_cifar10_akamaster"


def images(n, size=32):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (n, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def folder():
    """The folder of the real checkpoints, or a skip."""
    root = os.getenv("JAXEDGE_DATA")
    if not root:
        pytest.skip("JAXEDGE_DATA is not set: no real checkpoints here")
    if not (Path(root) / "checkpoints" / f"{REAL}.npz").is_file():
        pytest.skip("the folder of JAXEDGE_DATA has no checkpoints")
    return Path(root) / "checkpoints"


class Torch:
    """A network straight from a PyTorch state dict, NCHW, in float64."""

    def __init__(self, path):
        with np.load(path) as file:
            self.arrays = {k: v.astype(float) for k, v in file.items()}

    def conv(self, x, name, stride=1):
        w = self.arrays[f"{name}.weight"]
        pad = w.shape[-1] // 2
        x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        views = np.lib.stride_tricks.sliding_window_view(
            x, w.shape[2:], axis=(2, 3)
        )[:, :, ::stride, ::stride]
        return np.einsum("bihwyx,oiyx->bohw", views, w, optimize=True)

    def norm(self, x, name, eps=1e-5):
        scale, bias, mean, var = (
            self.arrays[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + eps) * scale + bias

    def block(self, x, name, stride):
        y = self.norm(self.conv(x, f"{name}.conv1", stride), f"{name}.bn1")
        y = self.conv(np.maximum(y, 0), f"{name}.conv2")
        y = self.norm(y, f"{name}.bn2")
        if f"{name}.downsample.0.weight" in self.arrays:
            x = self.conv(x, f"{name}.downsample.0", stride)
            x = self.norm(x, f"{name}.downsample.1")
        elif stride == 2:
            quarter = y.shape[1] // 4
            x = x[:, :, ::2, ::2]
            x = np.pad(x, [(0, 0), (quarter, quarter), (0, 0), (0, 0)])
        return np.maximum(x + y, 0)

    def logits(self, x, blocks, stage, head, first_eps=1e-5):
        """x [B, H, W, 3] in [0, 1]."""
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        x = self.conv(x.transpose(0, 3, 1, 2), "conv1")
        x = np.maximum(self.norm(x, "bn1", first_eps), 0)
        for i in (1, 2, 3):
            for j in range(blocks):
                stride = 2 if i > 1 and j == 0 else 1
                x = self.block(x, f"{stage}{i}.{j}", stride)
        w, b = (self.arrays[f"{head}.{part}"] for part in ("weight", "bias"))
        return x.mean((2, 3)) @ w.T + b


@pytest.mark.parametrize(
    "name, options",
    [
        (REAL, (3, "layer", "linear")),
        ("resnet56_cifar10_akamaster", (9, "layer", "linear")),
        ("resnet20_cifar10_crosssim", (3, "res", "classifier.2", 1e-3)),
    ],
)
def test_a_published_network_computes_what_its_arrays_say(
    folder, name, options
):
    path = folder / f"{name}.npz"
    model, variables = checkpoints.load(name, path)
    want = Torch(path).logits(images(2).astype(float), *options)
    # Not compiled as a whole: its blocks share their operations' programs.
    got = model.apply(variables, images(2))
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_keras_biases_are_in_the_statistics(folder):
    name = "resnet8_cifar10_mlperf_tiny"
    path = folder / f"{name}.npz"
    _, variables = checkpoints.load(name, path)
    stats, params = variables["batch_stats"], variables["params"]
    with np.load(path) as file:
        first = stats["Unit_0"]["Norm_0"]["BatchNorm_0"]
        mean = file["batch_normalization/moving_mean"] - file["conv2d/bias"]
        np.testing.assert_allclose(first["mean"], mean)
        # The first convolution that leads around a block: y = W x + b.
        lead = {
            **params["Block_1"]["Unit_2"]["Norm_0"]["BatchNorm_0"],
            **stats["Block_1"]["Unit_2"]["Norm_0"]["BatchNorm_0"],
        }
        factor = lead["scale"] / np.sqrt(lead["var"] + 1e-3)
        np.testing.assert_allclose(factor, 1, rtol=1e-6)
        np.testing.assert_array_equal(lead["bias"], file["conv2d_5/bias"])
        assert not lead["mean"].any()


@pytest.mark.slow
@pytest.mark.usefixtures("run_quickly")
def test_the_published_error_is_reproduced(folder):
    data = pytest.importorskip("jaxedge.data")
    if not (folder.parent / "cifar10").is_dir():
        pytest.skip("the folder of JAXEDGE_DATA has no CIFAR-10")
    test = data.load("cifar10", "test", folder.parent)
    model, variables = checkpoints.load(REAL, folder / f"{REAL}.npz")
    apply, right = jax.jit(model.apply), 0
    for start in range(0, 10_000, 250):
        rows = slice(start, start + 250)
        logits = np.asarray(apply(variables, test.x[rows]))
        right += int((logits.argmax(1) == test.y[rows]).sum())
    # Rounding may turn an image that is on the border.
    published = checkpoints.CHECKPOINTS[REAL].error
    assert abs(1 - right / 10_000 - published) <= 1e-4


# A small network, for files of any fault.


@pytest.fixture
def small(monkeypatch):
    """The name of a network with few weights."""
    model = models.ResNet(3, 8, "conv", (2, 3, 4))
    known = checkpoints.CHECKPOINTS[REAL]
    entry = known._replace(model=model, image=(8, 8, 3))
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "small", entry)
    return "small"


def state_dict(variables):
    """Of the small network, spelt out once more."""
    out = {}

    def unit(conv, norm, *path):
        params, stats = variables["params"], variables["batch_stats"]
        for name in path:
            params, stats = params[name], stats[name]
        kernel = params["Conv_0"]["kernel"]
        out[f"{conv}.weight"] = np.einsum("hwio->oihw", kernel)
        own = params["Norm_0"]["BatchNorm_0"], stats["Norm_0"]["BatchNorm_0"]
        out[f"{norm}.weight"], out[f"{norm}.bias"] = (
            own[0]["scale"],
            own[0]["bias"],
        )
        out[f"{norm}.running_mean"] = own[1]["mean"]
        out[f"{norm}.running_var"] = own[1]["var"]

    unit("conv1", "bn1", "Unit_0")
    for i in range(3):
        block, at = f"layer{i + 1}.0", f"Block_{i}"
        unit(f"{block}.conv1", f"{block}.bn1", at, "Unit_0")
        unit(f"{block}.conv2", f"{block}.bn2", at, "Unit_1")
        if i:
            lead = f"{block}.downsample"
            unit(f"{lead}.0", f"{lead}.1", at, "Unit_2")
    head = variables["params"]["Dense_0"]
    out["linear.weight"], out["linear.bias"] = head["kernel"].T, head["bias"]
    return out


@pytest.fixture
def arrays(small, trained):
    model = checkpoints.CHECKPOINTS[small].model
    return state_dict(trained(model, images(1, 8)))


@pytest.fixture
def written(tmp_path):
    """A function from arrays to the path of a file that holds them."""

    def write(arrays):
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)
        return path

    return write


def test_every_variable_comes_from_its_array(small, arrays, written, trained):
    model, variables = checkpoints.load(small, written(arrays))
    want = trained(model, images(1, 8))
    assert jax.tree.structure(variables) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, variables, want)


@pytest.mark.parametrize("name", checkpoints.CHECKPOINTS)
def test_a_layout_names_all_variables(name):
    known = checkpoints.CHECKPOINTS[name]
    layout = known.layout(known.model)
    image = np.zeros((1, *known.image), np.float32)
    shapes = jax.eval_shape(known.model.init, jax.random.key(0), image)
    shapes.pop("counts")
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    paths = ["/".join(part.key for part in path) for path, _ in leaves]
    assert sorted(layout) == sorted(paths)
    # What takes no array of its own is a constant of its neighbour's shape.
    keys = [key for entry in layout.values() for key in entry.keys]
    if "keras" not in known.layout.__name__:
        assert len(set(keys)) == len(keys) == len(paths)


def fails(name, path, match):
    with pytest.raises(UsageError, match=match) as error:
        checkpoints.load(name, path)
    assert "\n" not in str(error.value)


def test_missing_and_unknown_arrays_are_named(small, arrays, written):
    lacking = {k: v for k, v in arrays.items() if k != "layer2.0.bn1.bias"}
    fails(small, written(lacking), "own.npz lacks layer2.0.bn1.bias; check")
    more = arrays | {"bn1.num_batches_tracked": np.float32(1)}
    fails(small, written(more), "unknown to.*bn1.num_batches_tracked; check")
    fails(small, written({"a": np.ones(2)}), "lacks bn1.bias,.* and 42 more")


def test_a_wrong_shape_is_named(small, arrays, written):
    wrong = arrays | {"linear.weight": np.ones((5, 4))}
    match = (
        r"linear.weight \(5, 4\) is no params/Dense_0/kernel of shape \(4, 3"
    )
    fails(small, written(wrong), match)
    flat = arrays | {"layer1.0.conv1.weight": np.ones(36)}
    fails(small, written(flat), r"layer1.0.conv1.weight \(36,\) is no params/B")


def test_bad_numbers_are_named(small, arrays, written):
    whole = arrays | {"linear.bias": np.ones(3, int)}
    fails(small, written(whole), "linear.bias is int64, but must be floating")
    broken = arrays | {"linear.bias": np.array([0, np.nan, 1])}
    fails(small, written(broken), "linear.bias holds 1 NaN")


def test_damaged_files_are_named(small, arrays, written, tmp_path):
    fails(small, tmp_path / "absent.npz", "there is no checkpoint .*absent.npz")
    path = written(arrays)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    fails(small, path, "own.npz cannot be read as an .npz file")
    middle = bytearray(content)
    middle[len(content) // 2] ^= 1
    path.write_bytes(middle)
    fails(small, path, "own.npz cannot be read as an .npz file")
    np.save(tmp_path / "lone.npy", np.ones(3))
    fails(small, tmp_path / "lone.npy", "lone.npy cannot be read")


def test_an_unknown_checkpoint(tmp_path):
    match = f"unknown checkpoint .*Did you mean '{REAL}'"
    fails("resnet20_cifar_akamaster", tmp_path, match)
