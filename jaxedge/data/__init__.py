"""Named data sets in memory, and batches of them."""

from collections.abc import Callable
import functools
import os
from pathlib import Path

from jaxedge.core import checks
from jaxedge.data import (
    cifar10,
    digits,
    fashion_mnist,
    imagenet100,
    spoken_digits,
)
from jaxedge.data.batches import epoch as epoch
from jaxedge.data.batches import in_order as in_order
from jaxedge.data.source import IGNORED as IGNORED
from jaxedge.data.source import Batch as Batch
from jaxedge.data.source import Source as Source
from jaxedge.data.source import make_source as make_source

__all__ = [
    "BUNDLED",
    "IGNORED",
    "ON_DISK",
    "ROOT_VARIABLE",
    "SPLITS",
    "Batch",
    "Source",
    "epoch",
    "find_root",
    "in_order",
    "load",
    "make_source",
]

ROOT_VARIABLE = "JAXEDGE_DATA"
SPLITS = ("train", "valid", "test")
# Data sets that come with an installed package, and those under a data root.
BUNDLED: dict[str, Callable[[str], Source]] = {"digits": digits.read}
ON_DISK: dict[str, Callable[[str, Path], Source]] = {
    "cifar10": cifar10.read,
    "fashion_mnist": fashion_mnist.read,
    "imagenet100": imagenet100.read,
    "imagenet100_64": functools.partial(imagenet100.read, side=64),
    "spoken_digits": spoken_digits.read,
}


def load(
    name: str, split: str, root: str | os.PathLike[str] | None = None
) -> Source:
    """The named split of a named data set, checked and ready to use.

    Args:
        name: "digits" (bundled), or under the data root "cifar10",
            "fashion_mnist", "imagenet100" (images of 224 x 224),
            "imagenet100_64" (the same, 64 x 64) or "spoken_digits".
        split: "train", "valid" or "test".
        root: the folder with one folder a data set; by default that of the
            environment variable JAXEDGE_DATA. A bundled data set needs none
            and does not look at it.

    Returns:
        The source; each data set's module states its shapes and scaling.

    Raises:
        UsageError: for an unknown name or split, a missing root, or files
            that are missing, damaged or of another data set.
    """
    if name not in BUNDLED and name not in ON_DISK:
        raise checks.unknown("data set", name, [*BUNDLED, *ON_DISK])
    checks.choice("split", split, SPLITS)
    if name in BUNDLED:
        return BUNDLED[name](split)
    reader = ON_DISK[name]
    return reader(split, find_root(f"the data set {name!r}", name, root))


def find_root(
    what: str, folder: str, root: str | os.PathLike[str] | None
) -> Path:
    """The data root as an existing folder.

    Args:
        what: what is looked for, for messages.
        folder: the folder of the root that would hold it, likewise.
        root: as in `load`.

    Raises:
        UsageError: if no root is given or it is no folder.
    """
    origin = "--data_root"
    if root is None:
        root, origin = os.getenv(ROOT_VARIABLE), ROOT_VARIABLE
    if not root:
        raise checks.UsageError(
            f"{what} needs a data root; give --data_root=DIR or set the"
            f" environment variable {ROOT_VARIABLE} to the folder that holds"
            f" {folder}/."
        )
    path = Path(root).expanduser()
    if not path.is_dir():
        raise checks.UsageError(
            f"the data root {str(path)!r} (from {origin}) is not a folder;"
            f" give --data_root=DIR or set {ROOT_VARIABLE} to the folder that"
            f" holds {folder}/."
        )
    return path
