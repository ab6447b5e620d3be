"""Published recipes of low-bit networks, on a few tiny images on disk."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge import data, models
from jaxedge.core.trees import path_name
from jaxedge.data import cifar100, imagenet
from jaxedge.models import arrays
from jaxedge.models.learned_step import LearnedStep
from tests.data.torch_zip import saved

Image = pytest.importorskip("PIL.Image")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SYNSETS = ("n01440764", "n01443537", "n01484850")
TRAIN, CROPS = 5, 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root: ImageNet of three classes, their outputs, CIFAR-100."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    boxes = np.tile(np.float32([0.1, 0.2, 0.5, 0.4]), (CROPS, 1))
    labels = np.tile(np.float32([[2, 0], [0.6, 0.3]]), (CROPS, 1, 1))
    for part, count in (("train", TRAIN), ("val", 1)):
        for name in SYNSETS:
            folder = root / "imagenet" / part / name
            told = root / "fkd" / part / name
            folder.mkdir(parents=True)
            told.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{i}.JPEG")
                content = saved(boxes, np.zeros(CROPS, bool), labels)
                (told / f"{name}_{i}.tar").write_bytes(content)
    folder = root / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    fine = np.tile(np.arange(100, dtype=np.uint8), 2)
    pixels = rng.integers(0, 256, (200, 3072), np.uint8)
    records = np.hstack([fine[:, None] // 5, fine[:, None], pixels])
    (folder / "train.bin").write_bytes(records.tobytes())
    (folder / "test.bin").write_bytes(records[:100].tobytes())
    for kind, count in (("fine", 100), ("coarse", 20)):
        names = "\n".join(f"{kind}{i}" for i in range(count))
        path = folder / f"{kind}_label_names.txt"
        path.write_text(names, encoding="ascii")
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(imagenet, "CLASSES", len(SYNSETS))
    monkeypatch.setattr(cifar100, "ROWS", {"train": 200, "test": 100})


def on_grids(job):
    """Paths of the weights that have a grid."""
    state = jax.eval_shape(job.recipe.init, job.key)
    params = jax.eval_shape(job.recipe.finish, state)["params"]
    is_grid = lambda leaf: isinstance(leaf, LearnedStep)  # noqa: E731
    leaves, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_grid)
    return [path_name(path) for path, leaf in leaves if is_grid(leaf)]


@pytest.mark.parametrize(
    "variant",
    [
        "deit_tiny",
        # To trace the larger ones takes half a minute each.
        pytest.param("swin_tiny", marks=pytest.mark.slow),
        pytest.param("sret_tiny", marks=pytest.mark.slow),
    ],
)
def test_transformers_learn_from_stored_crops(resolve, root, variant):
    job = resolve(
        f"--config={CONFIGS}/vit_variation.py:{variant}",
        f"--data_root={root}", f"--config.distill.teacher={root}/fkd",
        "--config.train.batch=6",
    )  # fmt: skip
    train = job.splits["train"]
    assert train.x.shape[1:] == (224, 224, 3)
    batch = next(data.epoch(train, 6, jax.random.key(0), 0))
    assert batch.aux is not None
    shapes = {name: a.shape[1:] for name, a in batch.aux.items()}
    assert shapes == {
        "boxes": (CROPS, 4), "flips": (CROPS,), "index": (CROPS, 2),
        "value": (CROPS, 2), "whole": (448, 448, 3),
    }  # fmt: skip
    # Shapes alone: nothing is computed. It sees crops of the images' size.
    state = jax.eval_shape(job.recipe.init, job.key)
    assert job.recipe.begin is not None
    begun = jax.eval_shape(job.recipe.begin, state, batch)
    assert jax.tree.structure(begun) == jax.tree.structure(state)


def test_resnet18_keeps_its_shortcuts(resolve, root):
    job = resolve(
        f"--config={CONFIGS}/coreset_qat.py:imagenet_resnet18",
        f"--data_root={root}", f"--config.distill.teacher={root}/fkd",
        "--config.train.batch=2", "--config.coreset.method=random",
        "--config.coreset.fraction=0.5",
    )  # fmt: skip
    blocks = [path.split("/") for path in on_grids(job)]
    assert len(blocks) == 16  # Two of each of eight blocks.
    assert {path[1] for path in blocks} == {"Unit_0", "Unit_1"}


def test_mobilenet_chooses_anew_from_cifar100(resolve, root, tmp_path):
    """From a network in full precision, which the adaptive choice asks for."""
    model = models.MobileNetV2(
        100, 0.5, "cifar", dropout=0.2, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.ones((1, 32, 32, 3), np.float32)
    )
    start = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), shapes)
    arrays.save(tmp_path / arrays.FILE, start)
    config = f"--config={CONFIGS}/coreset_qat.py"
    job = resolve(
        f"{config}:cifar100", f"--data_root={root}",
        f"--config.model.start={tmp_path}", "--config.train.batch=10",
        "--config.coreset.fraction=0.6",
    )  # fmt: skip
    assert job.splits["train"].classes[99] == "fine99"
    # Of 180 images, one of each class that has two or one (.6 is rounded up).
    subset = job.recipe.subset
    assert subset is not None and (subset.rows, subset.every) == (100, 10)
    found = on_grids(job)
    # Seventeen blocks have three kernels, but the first has two.
    assert len(found) == 50
    assert all("block_" in path for path in found)
    plain = resolve(
        f"{config}:cifar100_float", f"--data_root={root}",
        "--config.train.batch=10",
    )  # fmt: skip
    assert not on_grids(plain) and plain.recipe.subset is None
