import hashlib
import pickle
import sys

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import cifar10

# Small files of every version: 20 images a batch, 4 images a sheet.
ROWS = 20


@pytest.fixture(scope="module")
def batches():
    """Labels [20] and images [20, 32, 32, 3] of each batch, by its name."""
    rng = np.random.default_rng(0)
    names = [name for part in cifar10.PARTS.values() for name in part]
    return {
        name: (
            rng.integers(0, 10, ROWS),
            rng.integers(0, 256, (ROWS, 32, 32, 3), np.uint8),
        )
        for name in names
    }


def planes(images):
    return np.moveaxis(images, -1, 1).reshape(len(images), -1)


def write_py(root, batches):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, (labels, images) in batches.items():
        content = {b"labels": labels.tolist(), b"data": planes(images)}
        (folder / name).write_bytes(pickle.dumps(content))


def write_bin(root, batches):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, (labels, images) in batches.items():
        records = np.hstack([labels[:, None], planes(images)]).astype(np.uint8)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_sheets(root, batches):
    image = pytest.importorskip("PIL.Image", reason="needs the extra")
    folder = root / "cifar10"
    folder.mkdir(parents=True)
    labels = {}
    for part, names in cifar10.PARTS.items():
        y, images = batches[names[0]]
        labels[f"{part}_labels"] = np.concatenate([y, y]).astype(np.uint8)
        for i in range(5):
            four = images[4 * i : 4 * i + 4]
            rows = [np.hstack(list(four[:2])), np.hstack(list(four[2:]))]
            path = folder / f"{part}_{i:02d}.webp"
            image.fromarray(np.vstack(rows)).save(path, lossless=True)
    np.savez(folder / "labels.npz", **labels)


WRITE = {"py": write_py, "bin": write_bin, "sheets": write_sheets}


@pytest.fixture
def small(tmp_path, batches, monkeypatch):
    """A function (version, folder) -> a root of small files."""
    monkeypatch.setattr(cifar10, "BATCH_ROWS", ROWS)
    monkeypatch.setattr(cifar10, "SHEET", (2, 2))
    monkeypatch.setattr(cifar10, "SHA256", {})

    def make(version, folder=""):
        WRITE[version](tmp_path / folder, batches)
        if version == "py":
            files = (tmp_path / folder / "cifar-10-batches-py").iterdir()
            sums = {p.name: hashlib.md5(p.read_bytes()) for p in files}
            hexes = {name: found.hexdigest() for name, found in sums.items()}
            monkeypatch.setattr(cifar10, "MD5", hexes)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "version, folder",
    [("py", ""), ("py", "cifar10"), ("bin", ""), ("sheets", "")],
)
def test_every_version_gives_the_same_images(small, batches, version, folder):
    source = data.load("cifar10", "test", small(version, folder))
    labels, images = batches["test_batch"]
    assert source.x.dtype == np.float32 and source.name == "cifar10"
    np.testing.assert_allclose(source.x, images / 255, rtol=1e-6)
    np.testing.assert_array_equal(source.y, labels)


@pytest.mark.parametrize("version", ["py", "bin"])
def test_an_archive_has_all_training_images(small, batches, version):
    root = small(version)
    train, valid = (data.load("cifar10", s, root) for s in ("train", "valid"))
    assert train.name == valid.name == "cifar10"
    assert (len(train.y), len(valid.y)) == (90, 10)
    names = cifar10.PARTS["train"]
    images = np.concatenate([batches[name][1] for name in names]) / 255
    np.testing.assert_allclose([*train.x, *valid.x], images, rtol=1e-6)
    labels = np.concatenate([batches[name][0] for name in names])
    np.testing.assert_array_equal([*train.y, *valid.y], labels)


def test_sheets_say_that_they_are_a_part(small, batches):
    root = small("sheets")
    train, valid = (data.load("cifar10", s, root) for s in ("train", "valid"))
    assert train.name == valid.name == "cifar10 (first 10,000)"
    images = batches["data_batch_1"][1] / 255
    np.testing.assert_allclose(train.x, images[:18], rtol=1e-6)
    np.testing.assert_allclose(valid.x, images[18:], rtol=1e-6)


def test_an_archive_wins_over_sheets(small):
    small("sheets")
    assert len(data.load("cifar10", "train", small("bin")).y) == 90


def fails(root, match, split="test"):
    with pytest.raises(UsageError, match=match) as error:
        data.load("cifar10", split, root)
    assert "\n" not in str(error.value)


def test_no_files_at_all(tmp_path):
    fails(tmp_path, "cifar10 holds no CIFAR-10.*cifar-10-batches-py.*WebP")


@pytest.mark.parametrize(
    "version, name",
    [
        ("py", "cifar-10-batches-py/test_batch"),
        ("bin", "cifar-10-batches-bin/test_batch.bin"),
        ("sheets", "cifar10/test_03.webp"),
        ("sheets", "cifar10/labels.npz"),
    ],
)
def test_a_missing_or_cut_file_is_named(small, version, name):
    path = small(version) / name
    path.write_bytes(path.read_bytes()[:-40])
    fails(path.parents[1], f"{path.name} .*replace it with an intact copy")
    path.unlink()
    fails(path.parents[1], f"{path.name} cannot be read")


class Trap:
    """A pickle that shows that it was opened."""

    def __reduce__(self):
        return pytest.fail, ("a pickle of unknown content was opened",)


def test_an_unknown_pickle_is_not_opened(small):
    root = small("py")
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(Trap()))
    fails(root, "test_batch does not have the official file's checksum")


def test_other_images_are_refused(small, monkeypatch):
    root = small("bin")
    monkeypatch.setattr(cifar10, "SHA256", {"test_batch": "0" * 64})
    fails(root, "holds other images or labels than test_batch")


def test_a_sheet_of_another_size(small):
    image = pytest.importorskip("PIL.Image", reason="needs the extra")
    root = small("sheets")
    path = root / "cifar10" / "test_01.webp"
    image.new("RGB", (64, 32)).save(path, lossless=True)
    fails(root, "test_01.webp is no sheet of 2 x 2 images")


def test_pillow_not_installed(small, monkeypatch):
    root = small("sheets")
    # None makes the import statement raise ImportError.
    monkeypatch.setitem(sys.modules, "PIL", None)
    fails(root, r"cannot be imported.*jaxedge\[data\]")


def test_the_real_test_set(cifar10_root):
    source = data.load("cifar10", "test", cifar10_root)
    assert source.x.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(source.y), [1_000] * 10)
    # As everybody knows them.
    first = [source.classes[y] for y in source.y[:5]]
    assert first == ["cat", "ship", "ship", "airplane", "frog"]
    assert 0 == source.x.min() and source.x.max() == 1
    sheet = cifar10_root / "cifar10" / "test_04.webp"
    if sheet.is_file():
        image = pytest.importorskip("PIL.Image", reason="needs the extra")
        pixels = np.asarray(image.open(sheet))
        # The last image lies in the last row and column.
        np.testing.assert_allclose(
            source.x[-1], pixels[-32:, -32:] / 255, rtol=1e-6
        )
