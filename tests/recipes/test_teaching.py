"""Tests of a teacher's outputs in the files of FKD, from disk to a step."""

import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import Source
from jaxedge.data.image_folders import Images
from jaxedge.recipes import quantization_aware, teaching
from tests.data.torch_zip import saved

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("compile_quickly")

CLASSES = ("a", "b", "c")
EACH, WHOLE, SIDE = 2, 16, 8
# Each crop, of 8 x 8 of 16 x 16 pixels, has a likeliest class of its own.
BOXES = np.float32([[0, 0, 0.5, 0.5], [0.25, 0.5, 0.5, 0.5], [0.5] * 4])
FLIPS = np.array([False, True, False])
LABELS = np.float32(
    [[[0, 1], [0.5, 0.25]], [[1, 2], [0.75, 0.125]], [[2, 0], [0.5, 0.375]]]
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A folder of outputs, and images on disk that they are of."""
    root, files = tmp_path_factory.mktemp("told"), []
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for part in ("images", "told"):
            (root / part / name).mkdir(parents=True)
        for i in range(EACH):
            pixels = rng.integers(0, 256, (WHOLE, WHOLE, 3), np.uint8)
            files.append(root / "images" / name / f"{i}.png")
            Image.fromarray(pixels).save(files[-1])
            path = root / "told" / name / f"{i}.tar"
            path.write_bytes(saved(BOXES, FLIPS, LABELS))
    x = Images(files, SIDE)
    y = np.repeat(np.arange(3, dtype=np.int32), EACH)
    source = Source(x, y, CLASSES, "toy", "train")  # pyright: ignore
    return root / "told", source


def prepared(config, told, **changes):
    folder, source = told
    given = quantization_aware.parse(
        config(
            {
                "recipe": "quantization_aware",
                "distill.teacher": str(folder),
                "distill.crops": 3,
                "distill.side": WHOLE,
                **changes,
            }
        )
    )
    splits = {split: source for split in data.SPLITS}
    return given, quantization_aware.prepare(given, splits)[0]


def test_crops_are_cut_from_the_whole_images(config, told):
    """Pixel by pixel: boxes lie on pixels, and no image is resized before."""
    given, splits = prepared(config, told)
    batch = next(data.epoch(splits["train"], 4, jax.random.key(0), 0))
    assert batch.x.shape == (4, SIDE, SIDE, 3) and batch.aux is not None
    assert batch.aux["whole"].shape == (4, WHOLE, WHOLE, 3)
    augment = teaching.by_store((SIDE, SIDE), 3, given.distill, None)
    found = jax.jit(augment)(jax.random.key(1), batch)
    seen = np.zeros((4, 3), int)
    for row, (x, target) in enumerate(
        zip(np.asarray(found.x), np.asarray(found.target), strict=True)
    ):
        image, crop = row // 3, int(target.argmax())
        seen[image, crop] += 1
        top, left = (16 * BOXES[crop, :2]).astype(int)
        want = batch.aux["whole"][image, top : top + 8, left : left + 8]
        want = want[:, ::-1] if FLIPS[crop] else want
        np.testing.assert_allclose(x, want, atol=1e-5)
        index, value = LABELS[crop]
        rest = np.full(3, 1 - value.sum())
        rest[index.astype(int)] = value
        np.testing.assert_allclose(target, rest, atol=1e-6)
    np.testing.assert_array_equal(seen, 1)


def test_a_step_learns_from_them(config, told):
    given, splits = prepared(config, told, **{"distill.crops": 2})
    x = splits["train"].x[:1]
    recipe = quantization_aware.build(given, x, 3, 1, splits=splits)
    batch = next(data.epoch(splits["train"], 6, jax.random.key(0), 0))
    state = recipe.init(jax.random.key(0))
    assert recipe.begin is not None
    state = jax.jit(recipe.begin)(state, batch)
    _, sums = jax.jit(recipe.update)(state, batch)
    assert sums["count"] == 12 and np.isfinite(sums["objective"])


def test_what_does_not_fit_is_told_before_training(config, told):
    with pytest.raises(UsageError, match="crops is 4, but .*told holds 3 of"):
        prepared(config, told, **{"distill.crops": 4})
    with pytest.raises(UsageError, match="distill.side is 0"):
        prepared(config, told, **{"distill.side": 0})
    folder, source = told
    fewer = source._replace(classes=CLASSES[:2])
    with pytest.raises(UsageError, match="toy lacks the class 'c' of"):
        prepared(config, (folder, fewer))
