"""ImageNet-100: a hundred classes of ILSVRC-2012, in folders by class.

Which hundred is the user's choice, for published subsets differ: read are
`imagenet100/train/CLASS/` and `imagenet100/val/CLASS/`, each with JPEG or PNG
images of any size. Images stay on disk and are decoded when they are asked for:
126,000 of them would take 76 GB at 224 x 224.

Letters: N images, B batch, S side.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data.source import Source

ENDINGS = (".jpeg", ".jpg", ".png")
# Of every class, every 20th training image by name is for validation.
VALID_EVERY = 20
# Before a side of 224 is cut out, the shorter side is resized to 256.
RESIZED, CUT = 256, 224


class Images:
    """Images on disk that stand for an array [N, S, S, 3] float32 in [0, 1].

    It can be asked for its length, shape and rows; rows are read anew at every
    call, over all cores.

    Attributes:
        paths: of the images.
        side: S, pixels.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        self.paths, self.side = tuple(paths), side

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, S, 3)."""
        return (len(self), self.side, self.side, 3)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One image, or those of a slice or of an array of indices [B]."""
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return read_image(self.paths[chosen], self.side)
        if not chosen.size:
            return np.zeros((0, *self.shape[1:]), np.float32)
        decode = functools.partial(read_image, side=self.side)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(decode, [self.paths[i] for i in chosen.ravel()])
            return np.stack(list(found))


def read(split: str, root: Path, side: int = CUT) -> Source:
    """The named split, x `Images` [N, S, S, 3] and y [N].

    Every image is resized so that its shorter side is 256 / 224 of S, and its
    middle is cut out; training images too, without the random crops and flips
    that published recipes have. Nothing is normalised here.

    Args:
        split: "test" (the folder `val`), "valid" (every 20th image of each
            class of `train`) or "train" (the others).
        root: the folder that holds `imagenet100/`.
        side: S, pixels.

    Raises:
        UsageError: for missing folders, empty classes, or classes of `val`
            that are not those of `train`. An image that cannot be decoded
            raises it when it is read.
    """
    folder = root / "imagenet100"
    classes = _classes(folder / "train")
    part = folder / ("val" if split == "test" else "train")
    if split == "test" and _classes(part) != classes:
        odd = sorted({*_classes(part)} ^ {*classes})
        raise checks.UsageError(
            f"{part} and its neighbour train/ have different classes, such as"
            f" {odd[0]!r}; give both the same class folders."
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = _chosen(_images(part / name), split)
        paths += own
        labels += [label] * len(own)
    y = np.array(labels, np.int32)
    x: Any = Images(paths, side)
    return Source(x, y, classes, "imagenet100", split)


def read_image(path: Path, side: int) -> np.ndarray:
    """The middle of one image, [S, S, 3] float32 in [0, 1].

    Raises:
        UsageError: if it cannot be decoded, or if Pillow is not installed.
    """
    try:
        # Optional: the extra `data`.
        from PIL import Image
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with Pillow, which cannot be imported ({error});"
            " install jaxedge[data]."
        ) from error
    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
    except OSError as error:
        raise checks.UsageError(
            f"{path} is no readable image ({error}); replace or remove it."
        ) from error
    short = side * RESIZED // CUT
    factor = short / min(image.size)
    size = [max(int(factor * length), short) for length in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image, np.float32) / 255


def _classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, in order."""
    names = sorted(p.name for p in folder.glob("*/")) if folder.is_dir() else []
    if len(names) < 2:
        raise checks.UsageError(
            f"{folder} holds {len(names)} class folders, but classifying needs"
            " two; put train/CLASS/ and val/CLASS/ with JPEG or PNG images"
            " there."
        )
    return tuple(names)


def _images(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS]
    if not found:
        raise checks.UsageError(
            f"{folder} holds no image ({', '.join(ENDINGS)}); fill or remove"
            " it."
        )
    return sorted(found)


def _chosen(paths: Sequence[Path], split: str) -> list[Path]:
    """The images of one class that belong to a split."""
    if split == "test":
        return list(paths)
    valid = set(paths[VALID_EVERY - 1 :: VALID_EVERY] or paths[-1:])
    return [path for path in paths if (path in valid) == (split == "valid")]
