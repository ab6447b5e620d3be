"""CIFAR-100: 60,000 photographs of 100 classes, 32 x 32 (Krizhevsky 2009).

It is read from a folder of an official archive: `cifar-100-python/` with train,
test and meta, or `cifar-100-binary/` with train.bin, test.bin and the names in
fine_label_names.txt and coarse_label_names.txt. Each class belongs to one of 20
superclasses.

Letters: N images.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import cifar
from jaxedge.data.source import Source, make_source

OF = "CIFAR-100"
ROWS = {"train": 50_000, "test": 10_000}
# Classes, and in what order a record of the binary version tells them.
CLASSES = {"coarse": 20, "fine": 100}


def read(split: str, root: Path, coarse: bool = False) -> Source:
    """CIFAR-100, x [N, 32, 32, 3] float32, pixel / 255 in [0, 1].

    Nothing is normalised here: what a network subtracts and divides by belongs
    to the network.

    Args:
        split: "test" (10,000 images), "train" (45,000) or "valid" (the last
            5,000 of the training images).
        root: the folder that holds, in `cifar100/` or at its top,
            `cifar-100-python/` or `cifar-100-binary/`.
        coarse: whether labels are the superclasses; the source is then named
            "cifar100_coarse".

    Returns:
        The source.

    Raises:
        UsageError: if files are missing, damaged or of another data set, or
            labels contradict each other.
    """
    found = cifar.folder(root, "cifar100", tuple(_VERSIONS))
    if found is None:
        raise checks.UsageError(
            f"{root / 'cifar100'} holds no CIFAR-100; put"
            f" {' or '.join(f'{name}/' for name in _VERSIONS)} of the official"
            " archives there."
        )
    part, kind = ("test" if split == "test" else "train"), "fine"
    path, labels, planes = _VERSIONS[found.name](found, part)
    _check(path, labels, planes, ROWS[part])
    if coarse:
        kind = "coarse"
    rows = cifar.part(split, len(planes))
    return make_source(
        cifar.images(planes[rows]),
        labels[kind][rows],
        classes=_names(found, kind),
        name="cifar100" + "_coarse" * coarse,
        split=split,
    )


# Path, labels [N] by kind and planes [N, 3072] of a part.
_Part = tuple[Path, dict[str, np.ndarray], np.ndarray]


def _from_pickle(folder: Path, part: str) -> _Part:
    path = folder / part
    names = ("data", *(f"{kind}_labels" for kind in CLASSES))
    planes, *labels = cifar.unpickled(path, cifar.content(path), names, OF)
    return (
        path,
        {k: _column(path, a, k) for k, a in zip(CLASSES, labels, strict=True)},
        planes,
    )


def _from_binary(folder: Path, part: str) -> _Part:
    path = folder / f"{part}.bin"
    count = len(CLASSES)
    found = cifar.records(path, count, ROWS[part], OF)
    labels = {kind: found[:, i] for i, kind in enumerate(CLASSES)}
    return path, labels, found[:, count:]


_VERSIONS = {
    "cifar-100-python": _from_pickle,
    "cifar-100-binary": _from_binary,
}


def _column(path: Path, labels: Any, kind: str) -> np.ndarray:
    """Whole numbers of a list."""
    try:
        column = np.asarray(labels)
    except ValueError:
        column = np.zeros(0)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise cifar.bad(path, f"has {kind}_labels that are no list of ints", OF)
    return column


def _check(
    path: Path, labels: dict[str, np.ndarray], planes: Any, rows: int
) -> None:
    """Raises unless images and both labels are those of so many images."""
    wanted = (rows, cifar.PLANES)
    kind = getattr(planes, "dtype", type(planes).__name__)
    if kind != np.uint8 or planes.shape != wanted:
        shape = getattr(planes, "shape", "")
        raise cifar.bad(
            path, f"has images {kind} {shape} instead of uint8 {wanted}", OF
        )
    for name, count in CLASSES.items():
        column = labels[name]
        if column.shape != (rows,):
            raise cifar.bad(
                path, f"has {len(column)} {name} labels for {rows} images", OF
            )
        wrong = np.flatnonzero((column < 0) | (column >= count))
        if wrong.size:
            where = f"the {name} label {column[wrong[0]]} at image {wrong[0]}"
            raise cifar.bad(path, f"has {where}, of {count} classes", OF)
    pairs = np.unique(np.stack([labels["fine"], labels["coarse"]], 1), axis=0)
    fine, times = np.unique(pairs[:, 0], return_counts=True)
    if (times > 1).any():
        which = f"class {fine[times > 1][0]} in several superclasses"
        raise cifar.bad(path, f"has images of {which}", OF)


def _names(folder: Path, kind: str) -> tuple[str, ...]:
    """The names of the classes, by their labels."""
    label = f"{kind}_label_names"
    if folder.name == "cifar-100-python":
        path = folder / "meta"
        (found,) = cifar.unpickled(path, cifar.content(path), (label,), OF)
    else:
        path = folder / f"{label}.txt"
        found = cifar.content(path).split()
    try:
        names = tuple(name.decode("ascii") for name in found)
    except (AttributeError, TypeError, UnicodeDecodeError):
        names = ()
    if len({*names}) != CLASSES[kind] or len(names) != CLASSES[kind]:
        raise cifar.bad(
            path, f"does not have {CLASSES[kind]} different {kind} names", OF
        )
    return names
