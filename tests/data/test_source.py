from typing import Any

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import IGNORED, Source, make_source

X = np.zeros((3, 4), np.float32)
Y = np.array([0, 1, 1])


def make(x: Any = X, y: Any = Y):
    return make_source(x, y, classes=("a", "b"), name="own", split="train")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_checked_source(dtype):
    source = make(y=Y.astype(dtype))
    assert isinstance(source, Source)
    assert source.x.dtype == np.float32 and source.y.dtype == np.int32
    np.testing.assert_array_equal(source.y, Y)
    assert source[2:] == (("a", "b"), "own", "train", None)


def with_entry(value):
    x = X.copy()
    x[1, 2] = value
    return x


@pytest.mark.parametrize(
    "bad, match",
    [
        (dict(x=X.astype(np.uint8)), "uint8, but must be float32"),
        (dict(x=X.astype(np.float64)), "float64, but must be float32"),
        (dict(x=X[:0], y=Y[:0]), r"\(0, 4\).*at least one example"),
        (dict(x=X[:, :0]), r"\(3, 0\).*one feature"),
        (dict(x=X[:, 0]), r"\(3,\)"),
        (dict(x=with_entry(np.nan)), r"1 NaN or infinite.*\(1, 2\)"),
        (dict(x=with_entry(-np.inf)), r"1 NaN or infinite.*\(1, 2\)"),
        (dict(y=Y.astype(np.float32)), "float32, but must be integers"),
        (dict(y=Y[:, None]), r"\(3, 1\), but the inputs need \(3,\)"),
        (dict(y=Y[:2]), r"\(2,\), but the inputs need \(3,\)"),
        (dict(y=np.array([0, 2, 1])), r"hold 2 at index 1.*\[0, 1\]"),
        (dict(y=np.array([0, 1, -1])), r"hold -1 at index 2.*\[0, 1\]"),
    ],
)
def test_bad_arrays_are_named(bad, match):
    with pytest.raises(UsageError, match=match) as error:
        make(**bad)
    assert "own/train" in str(error.value)
    assert "\n" not in str(error.value)


CLOUDS = np.zeros((3, 4, 2), np.float32)
PARTS = np.array([[0, 1, IGNORED, 0]] * 3)


def test_a_label_a_point():
    source = make(x=CLOUDS, y=PARTS)
    assert source.y.dtype == np.int32
    np.testing.assert_array_equal(source.y, PARTS)
    assert make(x=CLOUDS).y.shape == (3,)


@pytest.mark.parametrize(
    "y, match",
    [
        (PARTS[:, :3], r"\(3, 3\), but the inputs need .*\(3, 4\), one a posi"),
        (PARTS[:2], r"\(2, 4\), but the inputs need .* or \(3, 4\)"),
        (PARTS[..., None], r"\(3, 4, 1\), but the inputs need"),
        (PARTS - 1, r"hold -2 at index \(0, 2\).*\[0, 1\]"),
        (PARTS + 1, r"hold 2 at index \(0, 1\).*\[0, 1\]"),
        (0 * PARTS - 1, "ignore every position"),
    ],
)
def test_bad_labels_of_points_are_named(y, match):
    with pytest.raises(UsageError, match=match) as error:
        make(x=CLOUDS, y=y)
    assert "own/train" in str(error.value)


def test_the_caller_keeps_its_arrays():
    x, y = X.copy(), Y.copy()
    make(x, y)
    np.testing.assert_array_equal(x, X)
    assert y.dtype == Y.dtype and x.flags.writeable
