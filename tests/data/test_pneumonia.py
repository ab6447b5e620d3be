import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError


def write(root, file="pneumoniamnist_28.npz", **changed):
    arrays = {}
    for i, part in enumerate(("train", "val", "test")):
        images = np.arange(3 * 28 * 28).reshape(3, 28, 28) + i
        arrays[f"{part}_images"] = (images % 256).astype(np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1], [1]], np.uint8)
    (root / "pneumoniamnist").mkdir()
    np.savez(root / "pneumoniamnist" / file, **arrays | changed)


@pytest.mark.parametrize(
    "file", ["pneumoniamnist_28.npz", "pneumoniamnist.npz"]
)
def test_images_are_scaled(tmp_path, file):
    write(tmp_path, file)
    for i, split in enumerate(data.SPLITS):
        source = data.load("pneumonia", split, tmp_path)
        assert source.x.shape == (3, 28, 28, 1) and source.aux is None
        assert source.y.tolist() == [0, 1, 1]
        want = (np.arange(784) + i) % 256 / 255
        np.testing.assert_allclose(source.x[0].ravel(), want, rtol=1e-6)


def test_the_real_set(real_file):
    root = real_file("pneumoniamnist/pneumoniamnist_28.npz").parents[1]
    sizes = {"train": (1214, 3494), "valid": (135, 389), "test": (234, 390)}
    for split, counts in sizes.items():
        source = data.load("pneumonia", split, root)
        assert np.bincount(source.y).tolist() == [*counts]
        assert source.x.shape[1:] == (28, 28, 1) and 0.9 < source.x.max() <= 1


BAD = {
    "size": (
        dict(test_images=np.zeros((3, 64, 64), np.uint8)),
        r"shape \(3, 64, 64\).*\[N, 28, 28\]",
    ),
    "dtype": (dict(test_images=np.zeros((3, 28, 28))), "float64.*uint8"),
    "labels": (dict(test_labels=np.zeros(3, int)), r"shape \(3,\)"),
    "class": (dict(test_labels=np.full((3, 1), 2)), "hold 2 at index 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_named(tmp_path, kind):
    changed, match = BAD[kind]
    write(tmp_path, **changed)
    with pytest.raises(UsageError, match=match) as error:
        data.load("pneumonia", "test", tmp_path)
    assert "\n" not in str(error.value)


def test_no_archive(tmp_path):
    with pytest.raises(UsageError, match="pneumoniamnist_28.npz is missing"):
        data.load("pneumonia", "test", tmp_path)
