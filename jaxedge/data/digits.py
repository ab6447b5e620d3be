"""Handwritten digits that come with scikit-learn: no network, no files.

1,797 images of 8 x 8 pixels with 17 grey levels, from the UCI repository's
"Optical Recognition of Handwritten Digits" (its test part).
"""

from typing import Any, NamedTuple

import numpy as np

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
