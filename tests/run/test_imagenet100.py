"""The config of ImageNet-100, on a few tiny images of three classes."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.run import job

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"{ROOT}/configs/edge_pruning_imagenet100.py"
TINY = (
    "--config.train.batch=12",
    "--config.train.epochs=2",
    # Training on chips is the same for every network, and compiles slowly.
    "--config.train.hardware=ideal",
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A data root: 3 classes, 8 images of each to train on, 2 to test."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 2)):
        for name in ("a", "b", "c"):
            folder = root / "imagenet100" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    return root


@pytest.mark.parametrize("variant", ["resnet50", "resnet18", "small"])
def test_every_variant_fits_its_images(resolve, images, variant):
    resolved = resolve(
        f"--config={CONFIG}:{variant}", f"--data_root={images}",
        "--config.train.batch=12", "--config.study=",
    )  # fmt: skip
    source = resolved.splits["train"]
    # Shapes alone: nothing is computed.
    state = jax.eval_shape(resolved.recipe.init, resolved.key)
    variables = jax.eval_shape(resolved.recipe.finish, state)
    found = jax.tree.leaves(variables["params"], is_leaf=hardware.is_weight)
    assert all(type(leaf) is hardware.MaskedRandom for leaf in found)
    blocks = {"resnet50": 3 * 16 + 4, "resnet18": 2 * 8 + 3}
    assert len(found) == 2 + blocks.get(variant, blocks["resnet18"])
    y = jax.eval_shape(resolved.recipe.forward, variables, source.x[:2])
    assert y.shape == (2, 3)


@pytest.mark.slow
def test_a_tiny_network_is_trained_and_fits_a_chip(resolve, images, tmp_path):
    resolved = resolve(
        f"--config={CONFIG}:small", f"--data_root={images}",
        "--config.model.widths=(2,)", *TINY,
    )  # fmt: skip
    state = job.train(resolved, tmp_path)
    assert resolved.recipe.summary(state)["sets"] > 0
    variables = jax.jit(resolved.recipe.finish)(state)
    found = job.test(resolved, variables)
    assert 0 <= found["test_accuracy"] <= 1 and found["test_loss"] > 0
    chip = jax.eval_shape(lambda: job.one_chip(resolved, variables))
    on_chip = {**variables, "params": chip}
    x = resolved.splits["test"].x[:2]
    assert jax.eval_shape(resolved.recipe.forward, on_chip, x).shape == (2, 3)
