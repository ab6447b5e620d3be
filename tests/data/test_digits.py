import zlib

import numpy as np
import pytest
from sklearn import datasets

from jaxedge import data
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
