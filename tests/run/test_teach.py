"""Tests of `jaxedge teach`, and of the configs that use what it stores."""

from pathlib import Path
import runpy

import jax
import numpy as np
import pytest

from jaxedge import data, models
from jaxedge.core.checks import UsageError
from jaxedge.data import teacher
from jaxedge.models import checkpoints
from jaxedge.recipes import quantization_aware
from jaxedge.run import main

pytestmark = pytest.mark.usefixtures("compile_quickly")

CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = f"--config={CONFIGS}/vit_variation.py:quick"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A data root with the checkpoint "small", for digits."""
    model = models.ResNet(10, 8, channels=(2,), mean=(0.0,), std=(1.0,))
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.ones((1, 8, 8, 1))
    )
    shapes.pop("counts")
    rng = np.random.default_rng(0)
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    named = {
        "/".join(k.key for k in path): rng.uniform(0.5, 1.5, a.shape)
        for path, a in leaves
    }
    (tmp_path / "checkpoints").mkdir()
    arrays = {name: a.astype(np.float32) for name, a in named.items()}
    np.savez(tmp_path / "checkpoints" / "small.npz", **arrays)
    layout = {name: checkpoints.Entry((name,)) for name in named}
    entry = checkpoints.Checkpoint(
        model, lambda model: layout, (8, 8, 1), "drawn", None
    )
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "small", entry)
    return tmp_path


def teach(root, *more):
    flags = ("--teacher=small", f"--out={root}/told", f"--data_root={root}")
    return main.console(["teach", QUICK, *flags, *more])


def test_outputs_are_stored_and_fit_the_data_set(published, capsys):
    assert teach(published, "--crops=1", "--least=0.9") == 0
    assert f"teacher: {published}/told" in capsys.readouterr().out
    source = data.load("digits", "train")
    found = teacher.open(published / "told", source)
    assert found.stored.index.shape == (len(source.y), 1, 5)
    area = found.stored.boxes[..., 2] * found.stored.boxes[..., 3]
    assert 0.85 < area.min() and area.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "flags, message",
    [
        (["teach"], "no --config"),
        (["teach", QUICK, "--out=x"], "no --teacher"),
        (["teach", QUICK, "--teacher=small"], "no --out"),
        (["teach", QUICK, "--teacher=smal", "--out=x"], "unknown --teacher"),
        (["teach", QUICK, "--teacher=resnet20_cifar10_akamaster", "--out=x",
          "--least=0"], "--least is 0"),
        (["teach", QUICK, "--teacher=resnet20_cifar10_akamaster", "--out=x",
          "--crops=0"], "--crops"),
    ],
)  # fmt: skip
def test_bad_flags(flags, message, capsys):
    assert main.console(flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vit_variation", "coreset_qat"])
def test_every_variant_can_be_read(name):
    module = runpy.run_path(str(CONFIGS / f"{name}.py"))
    for variant in module["VARIANTS"]:
        given = quantization_aware.parse(module["get_config"](variant))
        assert isinstance(given, quantization_aware.Settings)
    with pytest.raises(UsageError, match="unknown variant"):
        module["get_config"]("none")
