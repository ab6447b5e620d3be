"""A whole run of a network that labels pixels."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxedge import data, hardware
from jaxedge.models import layers
from jaxedge.recipes import settings
from jaxedge.run import job, ledger

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    f"--config={ROOT}/configs/edge_pruning.py:drive_small",
    "--config.model.widths=(2,)",
    "--config.data.crop=16",
    "--config.train.epochs=1",
    "--config.optimizer.learning_rate=0.1",
    "--config.train.batch=8",
    "--config.chips.n=4",
    "--config.chips.images=1",
    "--config.chips.batch=1",
    "--config.study=",
)


def scenes(split, root):
    """Bright lines on noise, with a frame that counts nowhere."""
    del root
    n, size = {"train": (32, 24), "valid": (4, 24), "test": (2, 35)}[split]
    rng = np.random.default_rng(n)
    y = np.zeros((n, size, size), int)
    for labels in y:
        labels[:, rng.integers(2, size - 2, 3)] = 1
        labels[rng.integers(2, size - 2)] = 1
    x = rng.normal(0.3, 0.1, (n, size, size)) + 0.4 * y
    y[:, :2] = data.IGNORED
    return data.make_source(
        x.astype(np.float32)[..., None],
        y,
        classes=("background", "vessel"),
        name="drive",
        split=split,
    )


class Short(nn.Module):
    """Two layers in place of the paper's 19, which take a minute to compile."""

    @nn.compact
    def __call__(self, x, train=False, key=None):
        x = layers.Conv(4, (3, 3), padding="SAME")(x, key)
        x = nn.relu(layers.Norm(affine=True)(x, train))
        return layers.Conv(2, (1, 1))(x, key)


@pytest.mark.slow
def test_vessels_are_trained_tested_put_on_chips_and_priced(
    tmp_path, monkeypatch, resolve
):
    monkeypatch.setitem(data.ON_DISK, "drive", scenes)
    monkeypatch.setitem(settings._MODELS, "unet", lambda *_: Short())
    one = resolve(*FLAGS, f"--data_root={tmp_path}")
    page = job.run(one, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    metrics = found["metrics"]
    for name in ("roc_auc", "pr_auc", "average_precision", "dice", "accuracy"):
        assert 0 <= metrics[f"test_{name}"] <= 1
    assert [row["cells"] for row in found["energy"]["layers"]] == [72, 16]
    assert metrics["initial_resets"] == 18 + 4
    # Lines are brighter than what is around them: by chance it would be .5,
    # with a standard error of .02 for 260 of 2,310 pixels.
    assert metrics["test_roc_auc"] > 0.6
    assert found["chips"]["n"] == 4 and found["chips"]["images"] == 1
    assert found["chips"]["score_mean"] > 0.55
    assert "<html" in page.read_text(encoding="utf-8")


def test_the_energy_of_the_papers_network_is_that_of_19_layers(
    tmp_path, monkeypatch, resolve
):
    monkeypatch.setitem(data.ON_DISK, "drive", scenes)
    device = "--config.hardware.device=ideal"
    one = resolve(*FLAGS, device, f"--data_root={tmp_path}")
    state = jax.jit(one.recipe.init)(jax.random.key(0))
    variables = jax.jit(one.recipe.finish)(state)
    chip = jax.eval_shape(
        lambda params: hardware.deploy(jax.random.key(0), params, one.spec),
        variables["params"],
    )
    chip = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), chip)
    found = ledger.count(
        one.recipe,
        {**variables, "params": chip},
        one.splits["test"].x[:1],
        one.costs,
    )
    assert len(found["layers"]) == 19
    # 4,212 base^2 weights, 9 base to begin with and 2 base to end.
    assert sum(row["cells"] for row in found["layers"]) == 2 * 16_870
    # An image of 35 x 35 is filled up to 48 x 48.
    by_name = {row["name"]: row for row in found["layers"]}
    assert by_name["Conv_0"]["vectors"] == 48**2
    assert by_name["Twice_4/Conv_1"]["vectors"] == 3**2


@pytest.mark.slow
@pytest.mark.parametrize("hardware", ["one_chip", "fresh_chips"])
def test_the_papers_network_can_be_trained_on_chips(
    monkeypatch, resolve, tmp_path, hardware
):
    """Only traced: every parameter keeps its shape and type."""
    monkeypatch.setitem(data.ON_DISK, "drive", scenes)
    flags = [flag for flag in FLAGS if "widths" not in flag]
    flags += ["--config.model.widths=(32,)", f"--data_root={tmp_path}"]
    one = resolve(*flags, f"--config.train.hardware={hardware}").recipe
    state = jax.eval_shape(one.init, jax.random.key(0))
    source = scenes("train", None)
    batch = next(data.in_order(source, 8))
    after, sums = jax.eval_shape(one.update, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    pairs = zip(*map(jax.tree.leaves, (after, state)), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
    assert set(sums) == {"accuracy", "count", "flips/total", "loss"}
    cells = sum(mask.size for mask in jax.tree.leaves(state.memory.mask))
    assert cells == 4_313_440
