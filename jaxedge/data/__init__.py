"""Named data sets in memory, and batches of them."""

from collections.abc import Callable
import functools
import os
from pathlib import Path
from typing import Any

from jaxedge.core import checks
from jaxedge.data import (
    adrenal_shapes,
    cifar10,
    cifar100,
    digits,
    drive,
    dvs_gesture,
    fashion_mnist,
    fed_camelyon,
    fed_fundus,
    fed_isic,
    fed_polyp,
    fed_prostate,
    geometric_shapes,
    heart,
    imagenet,
    imagenet100,
    joint_pairs,
    modelnet40,
    nmnist_small,
    pair_folder,
    phantom_volumes,
    plate_folder,
    plates,
    pneumonia,
    sarcoma,
    sarcoma_pairs,
    shape_parts,
    shapenet_part,
    spoken_digits,
    text,
    volume_folder,
    white_cells,
)
from jaxedge.data import sites as sites
from jaxedge.data import tokenizers as tokenizers
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
    "PARTS",
    "ROOT_VARIABLE",
    "SITES",
    "SPLITS",
    "Batch",
    "Source",
    "epoch",
    "find_root",
    "in_order",
    "load",
    "make_source",
    "parts_of",
    "sites",
    "sites_of",
    "tokenizers",
]

ROOT_VARIABLE = "JAXEDGE_DATA"
SPLITS = ("train", "valid", "test")
# Data sets that come with an installed package or are made on the spot, and
# those under a data root.
BUNDLED: dict[str, Callable[..., Source]] = {
    "digits": digits.read,
    "digits_32": functools.partial(digits.read_enlarged, side=32),
    "digits_224": functools.partial(digits.read_enlarged, side=224),
    "digit_pixels": digits.read_pixels,
    "joint_pairs": joint_pairs.read,
    "phantom_volumes": phantom_volumes.read,
    "plates": plates.read,
    "plates_canteens": plates.read_canteens,
    "plates_turned": functools.partial(plates.read, turned=True),
}
ON_DISK: dict[str, Callable[..., Source]] = {
    "adrenal_shapes": adrenal_shapes.read,
    "brats": functools.partial(pair_folder.read, layout="brats"),
    "cifar10": cifar10.read,
    "cifar100": cifar100.read,
    "cifar100_coarse": functools.partial(cifar100.read, coarse=True),
    "drive": drive.read,
    "dvs_gesture": dvs_gesture.read,
    "fashion_mnist": fashion_mnist.read,
    "fed_camelyon": fed_camelyon.read,
    "fed_fundus": fed_fundus.read,
    "fed_isic": functools.partial(fed_isic.read, centres=fed_isic.FEAL_CENTRES),
    "fed_isic2019": fed_isic.read,
    "fed_polyp": fed_polyp.read,
    "fed_prostate": fed_prostate.read,
    "geometric_shapes": geometric_shapes.read,
    "heart": heart.read,
    "heart_stages": functools.partial(heart.read, stages=True),
    "imagenet": imagenet.read,
    "imagenet100": imagenet100.read,
    "imagenet100_64": functools.partial(imagenet100.read, side=64),
    "ixi": functools.partial(pair_folder.read, layout="ixi"),
    "modelnet40": modelnet40.read,
    "nmnist_small": nmnist_small.read,
    "pair_folder": pair_folder.read,
    "plate_folder": plate_folder.read,
    "pneumonia": pneumonia.read,
    "prostatex": functools.partial(pair_folder.read, layout="prostatex"),
    "sarcoma": sarcoma.read,
    "sarcoma_modalities": functools.partial(sarcoma.read, apart=True),
    "sarcoma_pairs": sarcoma_pairs.read,
    "shape_parts": shape_parts.read,
    "shapenet_part": shapenet_part.read,
    "spoken_digits": spoken_digits.read,
    "volume_folder": volume_folder.read,
    "white_cells": white_cells.read,
    **{name: functools.partial(text.read, name) for name in text.TEXTS},
}
# Categories of the data sets for part segmentation, and their parts' labels.
PARTS = {
    "shape_parts": shape_parts.PARTS,
    "shapenet_part": shapenet_part.PARTS,
}
# Sites of the data sets that have several, in the order of `aux["site"]`.
SITES = {
    "fed_camelyon": fed_camelyon.SITES,
    "fed_fundus": fed_fundus.SITES,
    "fed_isic": fed_isic.SITES[: fed_isic.FEAL_CENTRES],
    "fed_isic2019": fed_isic.SITES,
    "fed_polyp": fed_polyp.SITES,
    "fed_prostate": fed_prostate.SITES,
    "heart": heart.SITES,
    "heart_stages": heart.SITES,
    "plates_canteens": plates.SITES,
    "sarcoma_modalities": sarcoma.SITES,
    "white_cells": white_cells.SITES,
}
# Data sets that take options; see their modules' `read`.
OPTIONAL = (
    "brats",
    "ixi",
    "joint_pairs",
    "pair_folder",
    "phantom_volumes",
    "plate_folder",
    "plates",
    "plates_canteens",
    "plates_turned",
    "prostatex",
    "sarcoma_pairs",
    "volume_folder",
    *text.TEXTS,
)
# Folders of the data root that are not named as their data sets.
_FOLDERS = {
    "adrenal_shapes": "adrenalmnist3d",
    "cifar100_coarse": "cifar100",
    "fed_isic2019": "fed_isic",
    "heart": "uci_heart_4sites",
    "heart_stages": "uci_heart_4sites",
    "imagenet100_64": "imagenet100",
    "pneumonia": "pneumoniamnist",
    "sarcoma": "sts_trimodal",
    "sarcoma_modalities": "sts_trimodal",
    "sarcoma_pairs": "sts_trimodal",
    "shape_parts": "geometric_shapes",
    "spoken_digits": "fsdd",
    "white_cells": "wbc_3sites",
    **dict.fromkeys(text.TEXTS, "text"),
}


def load(
    name: str,
    split: str,
    root: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Source:
    """The named split of a named data set, checked and ready to use.

    Args:
        name: one of `BUNDLED`, or of `ON_DISK` (under the data root).
        split: "train", "valid" or "test".
        root: the folder with one folder a data set; by default that of the
            environment variable JAXEDGE_DATA. A bundled data set needs none
            and does not look at it.
        **options: of one of `OPTIONAL`, see `read` of its module.

    Returns:
        The source; each data set's module states its shapes and scaling, and
        whose split it is. Of several sites, see `sites_of`, its `aux["site"]`
        tells the site of each row.

    Raises:
        UsageError: for an unknown name, split or option, a missing root, or
            files that are missing, damaged or of another data set.
    """
    if name not in BUNDLED and name not in ON_DISK:
        known = [*BUNDLED, *ON_DISK]
        raise checks.unknown("data set", name, known, most=len(known))
    checks.choice("split", split, SPLITS)
    if options and name not in OPTIONAL:
        raise checks.UsageError(
            f"{', '.join(options)} is asked of the data set {name!r}, but only"
            f" these have options: {', '.join(OPTIONAL)}."
        )
    if name in BUNDLED:
        return BUNDLED[name](split, **options)
    folder = _FOLDERS.get(name, name)
    found = find_root(f"the data set {name!r}", folder, root)
    return ON_DISK[name](split, found, **options)


def parts_of(name: str) -> dict[str, tuple[int, ...]]:
    """The labels of the parts of each category of a data set.

    A cloud of category k, in this order, has 1 in column 3 + k of its points,
    and only parts of that category.

    Args:
        name: "shape_parts" or "shapenet_part".

    Raises:
        UsageError: for a data set without parts.
    """
    if name not in PARTS:
        raise checks.unknown("data set with parts", name, PARTS)
    return PARTS[name]


def sites_of(name: str) -> tuple[str, ...]:
    """The names of a data set's sites, in the order of `aux["site"]`.

    Args:
        name: one of `SITES`.

    Raises:
        UsageError: for a data set without sites.
    """
    if name not in SITES:
        raise checks.unknown("data set with sites", name, SITES)
    return SITES[name]


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
