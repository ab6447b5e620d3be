"""Fashion-MNIST: 70,000 grey images of clothes, 28 x 28 (Xiao et al. 2017).

It is read from the four official IDX files or, where they are missing, from
what TensorFlow Datasets prepared as array_record under the same root.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import idx
from jaxedge.data.source import Source, make_source

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# MNIST's mean and std, not this set's own (.2860, .3530): the code of
# arXiv:2311.07164 normalises with them, and its numbers are what we compare to.
MEAN, STD = 0.1307, 0.3081
ROWS = {"train": 60_000, "test": 10_000}
VALID_ROWS = 5_000
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read(split: str, root: Path) -> Source:
    """Fashion-MNIST, x [N, 28, 28, 1] float32, (pixel / 255 - .1307) / .3081.

    TFDS shuffles when it prepares, so its "train" and "valid" hold other
    images than those of the IDX files; "test" holds the same ones, reordered.

    Args:
        split: "train" (the first 55,000 of the 60,000 training images),
            "valid" (their last 5,000) or "test" (10,000).
        root: the folder that holds `fashion_mnist/`.

    Returns:
        The source.

    Raises:
        UsageError: if the files are missing, damaged or of another data set.
    """
    part = "test" if split == "test" else "train"
    rows = {
        "train": slice(None, ROWS["train"] - VALID_ROWS),
        "valid": slice(ROWS["train"] - VALID_ROWS, None),
        "test": slice(None),
    }[split]
    names = (name for pair in FILES.values() for name in pair)
    from_idx = any(_found(root, name) for name in names)
    load = _from_idx if from_idx else _from_tfds
    pixels_NxHxW, y_N = load(root, part, rows)
    # In place and in float32, the order of torchvision's ToTensor, Normalize.
    x_NxHxWxC = pixels_NxHxW[..., None].astype(np.float32)
    x_NxHxWxC /= 255
    x_NxHxWxC -= MEAN
    x_NxHxWxC /= STD
    return make_source(
        x_NxHxWxC, y_N, classes=CLASSES, name="fashion_mnist", split=split
    )


def _found(root: Path, name: str) -> Path | None:
    """The file `name`, gzipped or not, if it is there."""
    folder = root / "fashion_mnist"
    paths = (folder / f"{name}.gz", folder / name)
    return next((path for path in paths if path.exists()), None)


def _from_idx(
    root: Path, part: str, rows: slice
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        _found(root, name) or root / "fashion_mnist" / f"{name}.gz"
        for name in FILES[part]
    )
    pixels_NxHxW, y_N = idx.read(images, 3), idx.read(labels, 1)
    _check_shape(images, pixels_NxHxW.shape, (ROWS[part], 28, 28))
    _check_shape(labels, y_N.shape, (ROWS[part],))
    return pixels_NxHxW[rows], y_N[rows]


def _from_tfds(
    root: Path, part: str, rows: slice
) -> tuple[np.ndarray, np.ndarray]:
    try:
        # Optional (the extra `data`) and slow to import.
        import tensorflow_datasets as tfds

        records: Any = tfds.data_source(
            "fashion_mnist", split=part, data_dir=root, download=False
        )
        chosen = [records[i] for i in range(len(records))[rows]]
    except ImportError as error:
        raise _missing(root, f"and TFDS cannot be used ({error})") from error
    except Exception as error:  # TFDS raises many types for "not prepared".
        raise _missing(root, "nor records that TFDS can read") from error
    # TFDS's parquet files lose rows without a word, so its count is checked.
    where = root / "fashion_mnist"
    _check_shape(where, (len(records),), (ROWS[part],))
    pixels_NxHxW = np.stack([record["image"][..., 0] for record in chosen])
    _check_shape(where, pixels_NxHxW.shape, (len(chosen), 28, 28))
    return pixels_NxHxW, np.array([record["label"] for record in chosen])


def _check_shape(
    path: Path, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    if shape != wanted:
        raise checks.UsageError(
            f"{path} holds an array of shape {shape}, but Fashion-MNIST has"
            f" {wanted}; replace it with the official file."
        )


def _missing(root: Path, also: str) -> checks.UsageError:
    files = ", ".join(f"{name}.gz" for pair in FILES.values() for name in pair)
    return checks.UsageError(
        f"{root / 'fashion_mnist'} does not hold Fashion-MNIST's IDX files"
        f" {also}; put the official files there ({files}), or install"
        " jaxedge[data] and prepare fashion_mnist with TFDS in the format"
        f" array_record under {root}."
    )
