import gzip
import sys

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import fashion_mnist

TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="module")
def real(real_root):
    """The three real splits."""
    return {s: data.load("fashion_mnist", s, real_root) for s in data.SPLITS}


def official(root, name, header):
    """The bytes behind the header, read with no code of ours."""
    path = root / "fashion_mnist" / f"{name}.gz"
    return np.frombuffer(gzip.open(path).read()[header:], np.uint8)


def test_real_shapes(real):
    for split, n in (("train", 55_000), ("valid", 5_000), ("test", 10_000)):
        source = real[split]
        assert source.x.shape == (n, 28, 28, 1)
        assert source.x.dtype == np.float32 and source.y.dtype == np.int32
        assert len(source.classes) == 10


def test_real_moments(real):
    # .28604 and .35302 are the published mean and std of train / 255, and the
    # transform is affine.
    parts = (real["train"].x, real["valid"].x)
    mean = sum(x.sum(dtype=float) for x in parts) / (60_000 * 784)
    square = sum((x * x).sum(dtype=float) for x in parts) / (60_000 * 784)
    np.testing.assert_allclose(mean, (0.28604 - 0.1307) / 0.3081, atol=3e-5)
    std = np.sqrt(square - mean**2)
    np.testing.assert_allclose(std, 0.35302 / 0.3081, atol=3e-5)


def test_real_class_counts(real):
    train = np.bincount(real["train"].y) + np.bincount(real["valid"].y)
    np.testing.assert_array_equal(train, [6_000] * 10)
    np.testing.assert_array_equal(np.bincount(real["test"].y), [1_000] * 10)


def test_real_rows_are_the_official_ones(real, real_root):
    pixels = official(real_root, "train-images-idx3-ubyte", 16)
    labels = official(real_root, "train-labels-idx1-ubyte", 8)
    pixels = pixels.reshape(60_000, 28, 28, 1)
    for split, rows in (
        ("train", slice(55_000)),
        ("valid", slice(-5_000, None)),
    ):
        back = real[split].x * 0.3081 + 0.1307
        np.testing.assert_array_equal(np.rint(back * 255), pixels[rows])
        np.testing.assert_array_equal(real[split].y, labels[rows])


@pytest.fixture
def small(tmp_path, idx_bytes):
    """A root whose test split is made by hand, plain and not gzipped."""
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    images = np.zeros((10_000, 28, 28))
    images[1], images[2, 3, 4] = 255, 51
    (folder / TEST[0]).write_bytes(idx_bytes(images))
    (folder / TEST[1]).write_bytes(idx_bytes(np.arange(10_000) % 10))
    return tmp_path


def test_hand_made_pixels(small):
    source = data.load("fashion_mnist", "test", small)
    black, white = -0.1307 / 0.3081, (1 - 0.1307) / 0.3081
    np.testing.assert_allclose(source.x[0], black, rtol=1e-6)
    np.testing.assert_allclose(source.x[1], white, rtol=1e-6)
    # 51 / 255 = .2, at the row and column where it was put.
    place = (0.2 - 0.1307) / 0.3081
    np.testing.assert_allclose(source.x[2, 3, 4, 0], place, rtol=1e-6)
    assert (source.x[2] > black + 0.1).sum() == 1
    np.testing.assert_array_equal(source.y, np.arange(10_000) % 10)


def fails(root, match, split="test"):
    with pytest.raises(UsageError, match=match) as error:
        data.load("fashion_mnist", split, root)
    assert "\n" not in str(error.value)


def test_wrong_label(small, idx_bytes):
    labels = np.arange(10_000) % 10
    labels[77] = 10
    path = small / "fashion_mnist" / TEST[1]
    path.write_bytes(idx_bytes(labels))
    fails(small, r"labels of fashion_mnist/test hold 10 at index 77")


@pytest.mark.parametrize(
    "name, shape",
    [(0, (9_999, 28, 28)), (0, (10_000, 14, 56)), (1, (9_999,))],
)
def test_wrong_shape(small, idx_bytes, name, shape):
    path = small / "fashion_mnist" / TEST[name]
    path.write_bytes(idx_bytes(np.zeros(shape)))
    fails(small, rf"{TEST[name]} holds an array of shape \({shape[0]},")


def test_truncated_file(small):
    path = small / "fashion_mnist" / TEST[0]
    path.write_bytes(path.read_bytes()[:-1])
    fails(small, f"{TEST[0]} is cut short")


def test_truncated_gzip_is_preferred_and_named(small):
    path = small / "fashion_mnist" / f"{TEST[1]}.gz"
    path.write_bytes(gzip.compress(b"\0" * 99)[:-4])
    fails(small, f"{TEST[1]}.gz is a gzip file that is cut short")


def test_one_missing_file_is_named(small):
    (small / "fashion_mnist" / TEST[1]).unlink()
    fails(small, f"{TEST[1]}.gz cannot be read")
    fails(small, "train-images-idx3-ubyte.gz cannot be read", "valid")


@pytest.mark.parametrize("folder", [True, False])
def test_no_files_at_all(tmp_path, folder):
    if folder:
        (tmp_path / "fashion_mnist").mkdir()
    fails(tmp_path, "t10k-images-idx3-ubyte.gz.*array_record under")
    assert list(tmp_path.rglob("*")) == [tmp_path / "fashion_mnist"] * folder


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets", reason="needs the extra")


class Records:
    """The records of a prepared data set; image i is filled with i % 256."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        image = np.full((28, 28, 1), i % 256, np.uint8)
        return {"image": image, "label": np.int64(i // 1_000 % 10)}


def mocked(tfds, counts):
    def data_source(builder, split, **_):
        return Records(counts[split])

    return tfds.testing.mock_data(as_data_source_fn=data_source)


@pytest.mark.parametrize(
    "split, first, n",
    [("train", 0, 55_000), ("valid", 55_000, 5_000), ("test", 0, 10_000)],
)
def test_tfds_is_used_where_there_are_no_files(tmp_path, tfds, split, first, n):
    with mocked(tfds, fashion_mnist.ROWS):
        source = data.load("fashion_mnist", split, tmp_path)
    rows = np.arange(first, first + n)
    assert source.x.shape == (n, 28, 28, 1)
    np.testing.assert_array_equal(source.y, rows // 1_000 % 10)
    expected = (rows % 256 / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(source.x[:, 5, 5, 0], expected, atol=1e-6)


def test_tfds_reads_what_its_own_mock_decodes(tmp_path, tfds):
    # The random records of TFDS go through its decoder of real records.
    with tfds.testing.mock_data(num_examples=10_000):
        source = data.load("fashion_mnist", "test", tmp_path)
    assert source.x.shape == (10_000, 28, 28, 1)
    assert source.x.std() > 0.1


def test_tfds_that_lost_rows(tmp_path, tfds):
    with mocked(tfds, {"train": 60_000, "test": 9_216}):
        fails(tmp_path, r"shape \(9216,\), but Fashion-MNIST has \(10000,\)")


def test_tfds_not_installed(tmp_path, monkeypatch):
    # None makes the import statement raise ImportError.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    fails(tmp_path, r"TFDS cannot be used.*jaxedge\[data\]")
