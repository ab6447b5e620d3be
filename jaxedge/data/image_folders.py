"""Images in a folder a class, decoded when they are asked for.

A million of them would take 600 GB at 224 x 224, so what stands for their array
knows their files alone.

Letters: N images, B batch, S side.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks, npz

ENDINGS = (".jpeg", ".jpg", ".png")
# Of every class, every 20th training image by name is for validation.
VALID_EVERY = 20
# Before a side of 224 is cut out, the shorter side is resized to 256.
RESIZED, CUT = 256, 224


class _Kept:
    """Images of the rows that were decoded last, for a second look at them."""

    def __init__(self) -> None:
        self._last: tuple[bytes, list[Any]] = (b"", [])

    def images(
        self, files: Sequence[str], rows: np.ndarray, pool: Executor
    ) -> list[Any]:
        key, (before, found) = rows.tobytes(), self._last
        if key != before:
            found = list(pool.map(_decode, [files[i] for i in rows]))
            self._last = (key, found)
        return found


class Images:
    """Images on disk that stand for an array [N, S, S, 3] float32 in [0, 1].

    It can be asked for its length, shape and rows; rows are read anew at every
    call, over all cores.

    Attributes:
        files: of the images.
        side: S, pixels.
        whole: whether all of an image is squeezed into the square; otherwise
            its shorter side becomes 256 / 224 of S, and its middle is cut out.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        files: Sequence[str | Path],
        side: int,
        whole: bool = False,
        kept: _Kept | None = None,
    ) -> None:
        self.files = tuple(map(str, files))
        self.side, self.whole, self._kept = side, whole, kept

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the images."""
        return tuple(map(Path, self.files))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, S, 3)."""
        return (len(self), self.side, self.side, 3)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One image, or those of a slice or of an array of indices [B]."""
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._fitted(_decode(self.files[chosen]))
        if not chosen.size:
            return np.zeros((0, *self.shape[1:]), np.float32)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(self._read(chosen.ravel(), pool)))

    def with_whole(self, side: int) -> tuple["Images", "Images"]:
        """The same images, and all of each in a square of another side.

        Asked for the same rows one after the other, both decode them once.

        Args:
            side: of the second ones, pixels.
        """
        kept = _Kept()
        return (
            Images(self.files, self.side, self.whole, kept),
            Images(self.files, side, True, kept),
        )

    def _read(self, rows: np.ndarray, pool: Executor) -> Iterator[np.ndarray]:
        if self._kept is not None:
            found = self._kept.images(self.files, rows, pool)
            return pool.map(self._fitted, found)
        # One after the other, so that few are in memory undiminished.
        each = [self.files[i] for i in rows]
        return pool.map(lambda file: self._fitted(_decode(file)), each)

    def _fitted(self, image: Any) -> np.ndarray:
        if self.whole:
            return _pixels(_resized(image, (self.side, self.side)))
        return _pixels(_middle(image, self.side))


def read_image(path: str | Path, side: int) -> np.ndarray:
    """The middle of one image, [S, S, 3] float32 in [0, 1].

    Raises:
        UsageError: if it cannot be decoded, or if Pillow is not installed.
    """
    return _pixels(_middle(_decode(path), side))


def class_names(folder: Path, layout: str) -> tuple[str, ...]:
    """Names of the class folders, in order.

    Args:
        folder: that holds them.
        layout: what should be there, for messages.

    Raises:
        UsageError: if there are fewer than two.
    """
    names = sorted(p.name for p in folder.glob("*/")) if folder.is_dir() else []
    if len(names) < 2:
        raise checks.UsageError(
            f"{folder} holds {len(names)} class folders, but classifying needs"
            f" two; put {layout} with JPEG or PNG images there."
        )
    return tuple(names)


def check_same(
    folder: Path, found: Sequence[str], wanted: Sequence[str]
) -> None:
    """Raises UsageError unless a folder has the classes of its neighbour."""
    if tuple(found) != tuple(wanted):
        odd = sorted({*found} ^ {*wanted})
        raise checks.UsageError(
            f"{folder} and its neighbour train/ have different classes, such as"
            f" {odd[0]!r}; give both the same class folders."
        )


def files_of(folder: Path) -> list[str]:
    """The images of a folder, by name.

    Raises:
        UsageError: if there is none.
    """
    with os.scandir(folder) as entries:
        found = [e.path for e in entries if e.name.lower().endswith(ENDINGS)]
    if not found:
        raise checks.UsageError(
            f"{folder} holds no image ({', '.join(ENDINGS)}); fill or remove"
            " it."
        )
    return sorted(found)


def of_split(
    part: Path, classes: Sequence[str], split: str
) -> tuple[list[str], np.ndarray]:
    """Files and labels [N] of a split.

    Args:
        part: the folder with a folder a class.
        classes: their names, by label.
        split: "valid" (every 20th image of each class), "train" (the others)
            or "test" (all).

    Raises:
        UsageError: for a class without images.
    """
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = _chosen(files_of(part / name), split)
        files += own
        labels += [label] * len(own)
    return files, np.array(labels, np.int32)


def _chosen(files: Sequence[str], split: str) -> list[str]:
    """The images of one class that belong to a split."""
    if split == "test":
        return list(files)
    valid = set(files[VALID_EVERY - 1 :: VALID_EVERY] or files[-1:])
    return [file for file in files if (file in valid) == (split == "valid")]


def _decode(path: str | Path) -> Any:
    """An image in red, green and blue."""
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
            return image.convert("RGB")
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise checks.UsageError(
            f"{path} is no readable image ({npz.reason(error)}); replace or"
            " remove it."
        ) from error


def _middle(image: Any, side: int) -> Any:
    short = side * RESIZED // CUT
    factor = short / min(image.size)
    size = [max(int(factor * length), short) for length in image.size]
    image = _resized(image, (size[0], size[1]))
    left, top = (round((length - side) / 2) for length in size)
    return image.crop((left, top, left + side, top + side))


def _resized(image: Any, size: tuple[int, int]) -> Any:
    from PIL import Image

    return image.resize(size, Image.Resampling.BILINEAR)


def _pixels(image: Any) -> np.ndarray:
    return np.asarray(image, np.float32) / 255
