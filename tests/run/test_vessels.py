"""A whole run of a network that labels pixels."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.run import job

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    f"--config={ROOT}/configs/edge_pruning.py:drive_small",
    "--config.model.widths=(2,)",
    # Programs of 19 layers: what each layer does is tested with small ones.
    "--config.hardware.device=ideal",
    "--config.model.bits=none",
    "--config.data.crop=16",
    "--config.train.epochs=1",
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vessels_are_trained_tested_put_on_chips_and_priced(
    tmp_path, monkeypatch, resolve
):
    monkeypatch.setitem(data.ON_DISK, "drive", scenes)
    one = resolve(*FLAGS, f"--data_root={tmp_path}")
    page = job.run(one, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    metrics = found["metrics"]
    for name in ("roc_auc", "pr_auc", "average_precision", "dice", "accuracy"):
        assert 0 <= metrics[f"test_{name}"] <= 1
    layers = found["energy"]["layers"]
    assert len(layers) == 19
    # 4,212 base^2 weights, 9 base to begin with and 2 base to end.
    assert sum(layer["cells"] for layer in layers) == 2 * 16_870
    assert metrics["initial_resets"] == 16_870 // 2
    # An image of 35 x 35 is filled up to 48 x 48.
    by_name = {layer["name"]: layer for layer in layers}
    assert by_name["Conv_0"]["vectors"] == 48**2
    assert by_name["Twice_4/Conv_1"]["vectors"] == 3**2
    assert found["chips"]["n"] == 4 and found["chips"]["images"] == 1
    assert "<html" in page.read_text(encoding="utf-8")


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
