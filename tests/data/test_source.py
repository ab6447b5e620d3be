import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import IGNORED, Source, make_source

X = np.zeros((3, 4), np.float32)
Y = np.array([0, 1, 1])


def make(x=X, y=Y):
    return make_source(x, y, classes=("a", "b"), name="own", split="train")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_checked_source(dtype):
    source = make(y=Y.astype(dtype))
    assert isinstance(source, Source)
    assert source.x.dtype == np.float32 and source.y.dtype == np.int32
    np.testing.assert_array_equal(source.y, Y)
    assert source[2:] == (("a", "b"), "own", "train")


POSITIONS = np.array([[0, 1], [-1, 1], [0, 0]])


def test_every_position_may_have_a_label():
    source = make(y=POSITIONS)
    np.testing.assert_array_equal(source.y, POSITIONS)
    assert source.y[1, 0] == IGNORED


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
        (dict(y=Y[:2]), r"\(2,\), but the inputs need \(3,\)"),
        (
            dict(y=Y[:2, None]),
            r"\(2, 1\), but the inputs need .*position",
        ),
        (dict(y=np.array([0, 2, 1])), r"hold 2 at index 1.*\[0, 1\]"),
        (dict(y=np.array([0, 1, -1])), r"hold -1 at index 2.*\[0, 1\]"),
        (dict(y=POSITIONS + 1), r"hold 2 at index \(0, 1\).*\[0, 1\]"),
        (dict(y=POSITIONS - 2), r"hold -2 at index \(0, 0\).*\[0, 1\]"),
        (dict(y=0 * POSITIONS - 1), "ignore every position"),
    ],
)
def test_bad_arrays_are_named(bad, match):
    with pytest.raises(UsageError, match=match) as error:
        make(**bad)
    assert "own/train" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_caller_keeps_its_arrays():
    x, y = X.copy(), Y.copy()
    make(x, y)
    np.testing.assert_array_equal(x, X)
    assert y.dtype == Y.dtype and x.flags.writeable
