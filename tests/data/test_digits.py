import zlib

import numpy as np
import pytest
from sklearn import datasets

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import digits

SIZES = {"train": 1_257, "valid": 180, "test": 360}


@pytest.mark.parametrize("split", SIZES)
def test_shapes_and_ranges(split):
    source = data.load("digits", split)
    assert source.x.shape == (SIZES[split], 8, 8, 1)
    assert source.x.dtype == np.float32 and source.y.dtype == np.int32
    assert source.x.min() == 0 and source.x.max() == 1
    assert source.classes == tuple("0123456789")
    assert (source.name, source.split) == ("digits", split)


def test_images_and_labels_belong_together():
    # The flat form of the same data, looked up by content.
    bunch = datasets.load_digits()
    label = {
        row.tobytes(): y
        for row, y in zip(bunch.data, bunch.target, strict=True)
    }
    for split in SIZES:
        source = data.load("digits", split)
        for x, y in zip(source.x, source.y, strict=True):
            pixels = (x.reshape(64) * 16).astype(np.float64)
            assert label[pixels.tobytes()] == y


def test_splits_are_disjoint_and_complete():
    rows = digits.split_rows(datasets.load_digits().target)
    assert sorted(np.concatenate(rows)) == list(range(1_797))


@pytest.mark.parametrize("split", SIZES)
def test_splits_are_stratified(split):
    whole = np.bincount(datasets.load_digits().target)
    found = np.bincount(data.load("digits", split).y)
    # Two roundings, at each of the two cuts at most one example.
    assert (abs(found - whole * SIZES[split] / 1_797) <= 2).all()


def test_split_is_the_same_for_everyone():
    # Stored from scikit-learn 1.9: results are comparable only on one split.
    rows = digits.split_rows(datasets.load_digits().target)
    found = tuple(zlib.crc32(r.astype("<i4").tobytes()) for r in rows)
    assert found == (3013535901, 1907793754, 77226364)


@pytest.mark.parametrize("side", [32, 224])
def test_enlarged_digits_are_the_digits(side):
    small, large = (
        data.load(name, "test") for name in ("digits", f"digits_{side}")
    )
    assert (
        large.x.shape
        == (360, side, side, 3)
        == (len(large.x), *large.x.shape[1:])
    )
    np.testing.assert_array_equal(large.y, small.y)
    rows = np.array([[3, 0], [7, 359]])
    found = large.x[rows]
    assert found.shape == (2, 2, side, side, 3) and found.dtype == np.float32
    times = side // 8
    expected = np.kron(small.x[359, :, :, 0], np.ones((times, times)))
    for channel in range(3):
        np.testing.assert_array_equal(found[1, 1, ..., channel], expected)
    np.testing.assert_array_equal(large.x[5], large.x[5:6][0])


def test_a_side_that_is_no_multiple_is_told():
    with pytest.raises(UsageError, match="side is 30"):
        digits.read_enlarged("test", 30)


def test_pixels_of_a_digit_are_its_class():
    source, small = (
        data.load("digit_pixels", "test"),
        data.load("digits", "test"),
    )
    assert source.y.shape == (360, 32, 32) and source.classes[0] == "paper"
    for row in (0, 17):
        ink = np.kron(small.x[row, :, :, 0] * 16 >= 8, np.ones((4, 4), bool))
        expected = np.where(ink, int(source.classes[1 + small.y[row]]) + 1, 0)
        np.testing.assert_array_equal(source.y[row], expected)
