"""ImageNet-1k: 1,000 classes of ILSVRC-2012 (Russakovsky et al. 2015).

Read is `imagenet/` as its owners' archives unpack: `train/nXXXXXXXX/` with a
folder a class, and `val/`, either with a folder a class or flat, as in the
archive, with the development kit beside it, whose `data/` has the classes of
the validation images. Images stay on disk and are decoded when they are asked
for.

Letters: N images, S side.
"""

from collections.abc import Sequence
from pathlib import Path
import re
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import image_folders
from jaxedge.data.source import Source

CLASSES = 1000
LAYOUT = "train/nXXXXXXXX/ and val/"
# Where the development kit may lie.
KITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", ".")
LABELS, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_SYNSET = re.compile(r"n\d{8}")


def read(split: str, root: Path, side: int = image_folders.CUT) -> Source:
    """The named split, x `image_folders.Images` [N, S, S, 3] and y [N].

    Every image is resized so that its shorter side is 256 / 224 of S, and its
    middle is cut out; training images too, without the random crops and flips
    that published recipes have. Nothing is normalised here. Classes are named
    and ordered by their synsets, as published networks have them.

    Args:
        split: "test" (`val`, 50,000 images), "valid" (every 20th image of each
            class of `train`) or "train" (the others). Published results are
            of networks that are trained on all of `train`.
        root: the folder that holds `imagenet/`.
        side: S, pixels.

    Raises:
        UsageError: for missing folders, another number of classes, names that
            are no synsets, empty classes, classes of `val` that are not those
            of `train`, or validation images that do not fit the development
            kit. An image that cannot be decoded raises it when it is read.
    """
    folder = root / "imagenet"
    classes = image_folders.class_names(folder / "train", LAYOUT)
    _check_classes(folder / "train", classes)
    part = folder / ("val" if split == "test" else "train")
    if split == "test" and not any(part.glob("*/")):
        files, y = _flat(folder, classes)
    else:
        if split == "test":
            found = image_folders.class_names(part, LAYOUT)
            image_folders.check_same(part, found, classes)
        files, y = image_folders.of_split(part, classes, split)
    x: Any = image_folders.Images(files, side)
    return Source(x, y, classes, "imagenet", split)


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    odd = [name for name in classes if not _SYNSET.fullmatch(name)]
    if odd:
        raise checks.UsageError(
            f"{folder} has the folder {odd[0]!r}, but ImageNet's classes are"
            " named as n01440764; move it away."
        )
    if len(classes) != CLASSES:
        raise checks.UsageError(
            f"{folder} has {len(classes)} classes, but ImageNet-1k has"
            f" {CLASSES}; unpack all of them, or read a part of them as"
            " imagenet100."
        )


def _flat(folder: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Files and labels of validation images in one folder."""
    part = folder / "val"
    if not part.is_dir():
        raise checks.UsageError(
            f"{part} is missing; put the validation images there."
        )
    files = image_folders.files_of(part)
    kits = [folder / name for name in KITS]
    kit = next((k for k in kits if (k / LABELS).is_file()), None)
    if kit is None:
        raise checks.UsageError(
            f"{part} has no class folders, and there is no {LABELS} to tell"
            f" the classes of its images; put the development kit at {kits[0]}."
        )
    numbers = _numbers(kit / LABELS)
    if len(numbers) != len(files):
        raise checks.UsageError(
            f"{kit / LABELS} tells the classes of {len(numbers)} images, but"
            f" {part} holds {len(files)}; unpack all of them."
        )
    for i, file in enumerate(files, 1):
        if not Path(file).stem.endswith(f"_{i:08d}"):
            raise checks.UsageError(
                f"{file} is image {i} by name, but its name does not end in"
                f" _{i:08d}, by which {LABELS} knows it; unpack the images"
                " anew."
            )
    order = {name: label for label, name in enumerate(classes)}
    synsets = _synsets(kit / META)
    lost = sorted({*map(int, np.unique(numbers))} - {*synsets})
    if lost:
        raise checks.UsageError(
            f"{kit / LABELS} has the class {lost[0]}, which {kit / META} does"
            " not know; take both from the same development kit."
        )
    other = sorted({*synsets.values()} - {*order})
    if other:
        raise checks.UsageError(
            f"{kit / META} has the class {other[0]!r}, which"
            f" {folder / 'train'} lacks; unpack all classes."
        )
    missing = sorted({*order} - {*synsets.values()})
    if missing:
        raise checks.UsageError(
            f"{folder / 'train'} has the class {missing[0]!r}, which"
            f" {kit / META} lacks; take the kit of this data set."
        )
    labels = [order[synsets[int(number)]] for number in numbers]
    return files, np.array(labels, np.int32)


def _numbers(path: Path) -> np.ndarray:
    """The class of each validation image, as the development kit counts."""
    try:
        words = path.read_text(encoding="ascii").split()
        return np.array([int(word) for word in words], np.int32)
    except (OSError, ValueError) as error:
        raise checks.UsageError(
            f"{path} is no list of classes, one number an image ({error});"
            " take it from the development kit."
        ) from None


def _synsets(path: Path) -> dict[int, str]:
    """The synset of each number; those that have others below are no class."""
    from scipy import io  # Slow to import.

    try:
        found = io.loadmat(path, squeeze_me=True)["synsets"]
        leaves = [row for row in found if int(row["num_children"]) == 0]
        return {int(r["ILSVRC2012_ID"]): str(r["WNID"]) for r in leaves}
    # A broken file may raise anything.
    except Exception as error:
        raise checks.UsageError(
            f"{path} does not tell the synsets of classes"
            f" ({type(error).__name__}: {error}); take it from the development"
            " kit."
        ) from None
