"""Handwritten digits that come with scikit-learn: no network, no files.

1,797 images of 8 x 8 pixels with 17 grey levels, from the UCI repository's
"Optical Recognition of Handwritten Digits" (its test part).
"""

from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data.source import Source, make_source

CLASSES = tuple("0123456789")
# Any fixed number serves; it decides only which image is in which split.
SPLIT_SEED = 0


class Rows(NamedTuple):
    """Which of the 1,797 images are in which split, in the split's order."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def read(split: str) -> Source:
    """The digits, x [N, 8, 8, 1] float32 in [0, 1].

    Args:
        split: "train" (1,257 images), "valid" (180) or "test" (360), drawn
            once and stratified: the same images for everyone.

    Returns:
        The source.
    """
    # scikit-learn takes long to import, and only this data set needs it.
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    rows = getattr(split_rows(bunch.target), split)
    x_NxHxWxC = bunch.images[rows, :, :, None].astype(np.float32) / 16
    return make_source(
        x_NxHxWxC,
        bunch.target[rows],
        classes=CLASSES,
        name="digits",
        split=split,
    )


def read_enlarged(split: str, side: int) -> Source:
    """The digits as colour images, for networks of large inputs.

    Args:
        split: as for `read`.
        side: S, pixels, a multiple of 8; each pixel becomes a square.

    Returns:
        x `Enlarged` [N, S, S, 3] float32 in [0, 1] and y [N].
    """
    source = read(split)
    x: Any = Enlarged(source.x, side)
    return source._replace(x=x, name=f"digits_{side}")


def read_pixels(split: str, side: int = 32) -> Source:
    """The digits as a task of segmentation.

    Args:
        split: as for `read`.
        side: S, pixels, as for `read_enlarged`.

    Returns:
        x [N, S, S, 3] float32 in [0, 1] and y [N, S, S], 0 where there is less
        than half of the ink, or 1 + the digit that a pixel belongs to.
    """
    source = read(split)
    x = Enlarged(source.x, side)[:]
    ink = x[..., 0] >= 0.5
    y = np.where(ink, 1 + source.y[:, None, None], 0)
    return make_source(
        x,
        y,
        classes=("paper", *CLASSES),
        name="digit_pixels",
        split=split,
    )


class Enlarged:
    """Images that stand for an array [N, S, S, 3] float32 in [0, 1].

    It can be asked for its length, shape and rows, which are enlarged at every
    call: all of them at 224 x 224 would take a gigabyte.

    Attributes:
        x: the images, [N, H, H, 1].
        side: S, pixels.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, x: np.ndarray, side: int) -> None:
        if side % x.shape[1]:
            raise checks.UsageError(
                f"side is {side}, but must be a multiple of {x.shape[1]}."
            )
        self.x, self.side = x, side

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, S, 3)."""
        return (len(self), self.side, self.side, 3)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One image, or those of a slice or of an array of indices [B]."""
        times = self.side // self.x.shape[1]
        large = self.x[rows].repeat(times, -3).repeat(times, -2)
        return large.repeat(3, -1)


def split_rows(y: np.ndarray) -> Rows:
    """Cuts 360 test rows and then 180 validation rows, classes balanced.

    Args:
        y: labels, [1797] integers.

    Returns:
        Row numbers of each split; disjoint, and together all rows.
    """
    from sklearn import model_selection

    def cut(rows: np.ndarray, n: int) -> Any:
        # An integer seed goes to numpy's RandomState, whose stream is frozen.
        return model_selection.train_test_split(
            rows, test_size=n, stratify=y[rows], random_state=SPLIT_SEED
        )

    rest, test = cut(np.arange(len(y)), 360)
    train, valid = cut(rest, 180)
    return Rows(train, valid, test)
