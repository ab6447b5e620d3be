import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import imagenet100

Image = pytest.importorskip("PIL.Image")
CLASSES = ("n01", "n02", "n03")
TRAIN, VAL = 41, 2


@pytest.fixture(scope="module")
def pixels():
    """An image of each class, [73, 146, 3]: its shorter side is kept."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 73, 146, 3), np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory, pixels):
    """A data root of three classes; all images of a class are equal."""
    root = tmp_path_factory.mktemp("data")
    for part, count in (("train", TRAIN), ("val", VAL)):
        for name, image in zip(CLASSES, pixels, strict=True):
            folder = root / "imagenet100" / part / name
            folder.mkdir(parents=True)
            Image.fromarray(image).save(folder / "000.png")
            content = (folder / "000.png").read_bytes()
            for i in range(1, count):
                (folder / f"{i:03d}.PNG").write_bytes(content)
    (root / "imagenet100" / "train" / "n01" / "notes.txt").write_text("no")
    return root


def test_images_come_resized_cut_and_scaled(root, pixels):
    source = data.load("imagenet100_64", "test", root)
    assert source.classes == CLASSES and source.split == "test"
    assert source.x.shape == (6, 64, 64, 3) and len(source.x) == 6
    np.testing.assert_array_equal(source.y, [0, 0, 1, 1, 2, 2])
    # 64 of 73 rows and of 146 columns: 4.5 (to even) and 41 are left over.
    want = pixels[:, 4:68, 41:105].astype(np.float32) / 255
    np.testing.assert_array_equal(source.x[:], want[source.y])
    np.testing.assert_array_equal(source.x[np.array([5, 0])], want[[2, 0]])
    np.testing.assert_array_equal(source.x[3], want[1])
    assert source.x[:0].shape == (0, 64, 64, 3)


@pytest.mark.parametrize("mode, size", [("L", (500, 300)), ("RGB", (30, 90))])
def test_any_size_and_mode_will_do(tmp_path, mode, size):
    path = tmp_path / "a.jpeg"
    Image.new(mode, size, 120 if mode == "L" else (120, 120, 120)).save(path)
    got = imagenet100.read_image(path, 224)
    # An even grey stays what it is, within a step of JPEG.
    np.testing.assert_allclose(
        got, np.full((224, 224, 3), 120 / 255), atol=4e-3
    )


def test_splits_share_no_image_and_leave_none(root):
    train, valid = (
        data.load("imagenet100", split, root) for split in ("train", "valid")
    )
    paths = [*train.x.paths, *valid.x.paths]  # pyright: ignore
    assert len({*paths}) == len(paths) == 3 * TRAIN
    # Every 20th of each class.
    np.testing.assert_array_equal(np.bincount(valid.y), 3 * [TRAIN // 20])
    for source in (train, valid):
        names = [p.parent.name for p in source.x.paths]  # pyright: ignore
        assert names == [CLASSES[label] for label in source.y]


def test_batches_are_decoded_when_they_are_asked_for(root, key):
    source = data.load("imagenet100_64", "valid", root)
    for batch in data.epoch(source, 4, key, 0):
        assert batch.x.shape == (4, 64, 64, 3)
        assert batch.x.dtype == np.float32
    (whole,) = data.in_order(source, 8)
    np.testing.assert_array_equal(whole.weight, [1] * 6 + [0] * 2)
    np.testing.assert_array_equal(whole.x[6], source.x[0])


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda r: r.rename(r.with_name("x")), ["0 class folders", "CLASS/"]),
        (lambda r: (r / "val" / "n03").rename(r / "n03"), ["'n03'"]),
        (lambda r: (r / "val" / "n02" / "a.png").unlink(), ["n02", "no image"]),
    ],
)
def test_bad_folders_are_named(tmp_path, spoil, words):
    root = tmp_path / "imagenet100"
    for part in ("train", "val"):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            (root / part / name / "a.png").touch()
    spoil(root)
    with pytest.raises(UsageError) as error:
        data.load("imagenet100", "test", tmp_path)
    assert all(word in str(error.value) for word in words)


def test_a_broken_image_is_named_when_it_is_read(tmp_path):
    for name in CLASSES:
        for part in ("train", "val"):
            folder = tmp_path / "imagenet100" / part / name
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(b"no image")
    source = data.load("imagenet100", "test", tmp_path)
    with pytest.raises(UsageError, match="a.jpg is no readable image"):
        source.x[:2]
