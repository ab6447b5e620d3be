import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import white_cells

COUNT = 12


def write(root, **changed):
    rng = np.random.default_rng(0)
    arrays = {}
    for site in white_cells.SITES:
        shape = (COUNT, 64, 64, 3)
        arrays[f"{site}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{site}_labels"] = np.array([0] * 11 + [4], np.uint8)
    arrays |= changed
    (root / "wbc_3sites").mkdir()
    np.savez(root / "wbc_3sites" / "wbc_3sites_64.npz", **arrays)
    return arrays


def test_cells_come_scaled_with_their_sites(tmp_path):
    stored = write(tmp_path)
    pixels, labels, owners = [], [], []
    for split, each in (("train", 9), ("valid", 1), ("test", 2)):
        source = data.load("white_cells", split, tmp_path)
        site = source.aux["site"]
        assert np.bincount(site).tolist() == [each] * 3
        assert source.x.dtype == np.float32 and source.split == split
        # The only basophil of a site is for training.
        assert (source.y == 4).sum() == (3 if split == "train" else 0)
        pixels.append(source.x)
        labels.append(source.y)
        owners.append(site)
    # Together they are the archive, each image at its site.
    x, y, site = map(np.concatenate, (pixels, labels, owners))
    for i, name in enumerate(white_cells.SITES):
        mine = np.rint(x[site == i] * 255).reshape(COUNT, -1)
        want = stored[f"{name}_images"].reshape(COUNT, -1)
        order, sort = np.lexsort(mine.T), np.lexsort(want.T)
        np.testing.assert_array_equal(mine[order], want[sort])
        np.testing.assert_array_equal(
            y[site == i][order], stored[f"{name}_labels"][sort]
        )


def test_the_real_set(real_file):
    root = real_file("wbc_3sites/wbc_3sites_64.npz").parents[1]
    every, train = np.zeros((3, 5), int), None
    for split, count in (("test", 142), ("valid", 69), ("train", 530)):
        source = data.load("white_cells", split, root)
        assert source.x.shape == (count, 64, 64, 3) and source.x.max() <= 1
        train = np.zeros_like(every)
        np.add.at(train, (source.aux["site"], source.y), 1)
        every += train
    # Of the folder's notes.
    want = [[176, 53, 48, 22, 1], [33, 37, 15, 12, 3], [202, 33, 20, 84, 2]]
    np.testing.assert_array_equal(every, want)
    np.testing.assert_array_equal(train[:, 4], [1, 3, 2])


BAD = {
    "label": (
        dict(bccd_labels=np.full(COUNT, 5, np.uint8)),
        "holds 5 in bccd_labels.*0 to 4",
    ),
    "size": (
        dict(tecom_images=np.zeros((COUNT, 32, 32, 3), np.uint8)),
        r"tecom_images of shape \(12, 32, 32, 3\)",
    ),
    "dtype": (
        dict(tecom_images=np.zeros((COUNT, 64, 64, 3))),
        "float64.*uint8",
    ),
    "count": (dict(cellavision_labels=np.zeros(3, int)), r"shape \(3,\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_named(tmp_path, kind):
    changed, match = BAD[kind]
    write(tmp_path, **changed)
    with pytest.raises(UsageError, match=match) as error:
        data.load("white_cells", "test", tmp_path)
    assert "\n" not in str(error.value)


def test_no_archive(tmp_path):
    with pytest.raises(UsageError, match="wbc_3sites_64.npz is missing"):
        data.load("white_cells", "test", tmp_path)
