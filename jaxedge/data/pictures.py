"""Pictures on disk, decoded when they are asked for, and masks beside them.

Letters: N images, B batch, H height, W width, C channels, S side.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks, npz

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


class Pictures:
    """Images on disk that stand for an array [N, H, W, C] float32 in [0, 1].

    It can be asked for its length, shape and rows; rows are read anew at every
    call, over all cores. What cannot be decoded is named then.

    Attributes:
        paths: of the images.
        decode: from a path to [H, W, C] float32.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[Path], np.ndarray],
        shape: tuple[int, int, int],
    ) -> None:
        self.paths, self.decode, self._shape = tuple(paths), decode, shape

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return (len(self), *self._shape)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One image, or those of a slice or of an array of indices [B]."""
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self.decode(self.paths[chosen])
        if not chosen.size:
            return np.zeros((0, *self._shape), np.float32)
        return every([self.paths[i] for i in chosen.ravel()], self.decode)


def every(
    paths: Sequence[Path], decode: Callable[[Path], np.ndarray]
) -> np.ndarray:
    """The decoded files, stacked, read over all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(decode, paths)))


def images(paths: Sequence[Path], side: int, *, keep: bool) -> Any:
    """`Pictures` [N, S, S, 3] of files of any size, see `fitted`."""
    return Pictures(
        paths, functools.partial(_image, side=side, keep=keep), (side, side, 3)
    )


def _image(path: Path, side: int, keep: bool) -> np.ndarray:
    return fitted(path, side, keep=keep, exact=False).astype(np.float32) / 255


def fitted(path: Path, side: int, *, keep: bool, exact: bool) -> np.ndarray:
    """A picture of any size as S x S pixels, [S, S, 3] uint8.

    Args:
        path: of the picture.
        side: S, pixels.
        keep: whether its aspect stays: the longer side becomes S, and what is
            left over is 0, the odd pixel below or on the right. Else it is
            stretched.
        exact: whether a pixel is its nearest one's, as in a mask, or bicubic.

    Raises:
        UsageError: if it cannot be decoded, or without Pillow.
    """
    picture = opened(path)
    width, height = picture.size
    long = max(width, height) if keep else 0
    size = tuple(
        max(side * n // long, 1) if long else side for n in picture.size
    )
    method = "NEAREST" if exact else "BICUBIC"
    pixels = np.asarray(
        picture.resize(size, getattr(_pillow(path).Resampling, method))
    )
    before = [(side - n) // 2 for n in pixels.shape[:2]]
    pad = [
        (b, side - n - b) for b, n in zip(before, pixels.shape, strict=False)
    ]
    return np.pad(pixels, [*pad, (0, 0)])


def middle(path: Path, side: int) -> np.ndarray:
    """The middle S x S pixels once the shorter side is S, [S, S, 3] float32.

    A picture whose shorter side is S already is not resampled; others are,
    bilinearly. Values are pixel / 255 in [0, 1].

    Raises:
        UsageError: if it cannot be decoded, or without Pillow.
    """
    picture = opened(path)
    short = min(picture.size)
    if short != side:
        size = [max(n * side // short, side) for n in picture.size]
        method = _pillow(path).Resampling.BILINEAR
        picture = picture.resize((size[0], size[1]), method)
    left, top = ((n - side) // 2 for n in picture.size)
    picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture, np.float32) / 255


def opened(path: Path) -> Any:
    """A picture as RGB, of Pillow.

    Raises:
        UsageError: if it is missing or cannot be decoded, or without Pillow.
    """
    pillow = _pillow(path)
    try:
        with pillow.open(path) as picture:
            return picture.convert("RGB")
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise checks.UsageError(
            f"{path} is no readable image ({npz.reason(error)}); replace or"
            " remove it."
        ) from None


def _pillow(path: Path) -> Any:
    try:
        # Optional: the extras `data` and `vision`.
        from PIL import Image
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with Pillow, which cannot be imported ({error});"
            " pip install 'jaxedge[vision]'."
        ) from None
    return Image


def listed(folder: Path) -> list[Path]:
    """The pictures of a folder by name.

    Raises:
        UsageError: if there is none.
    """
    found = []
    if folder.is_dir():
        found = [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS]
    if not found:
        raise checks.UsageError(
            f"{folder} holds no image ({', '.join(ENDINGS)}); put the set's"
            " images there."
        )
    return sorted(found)


def pairs(folder: Path, mask_folder: Path) -> list[tuple[Path, Path]]:
    """Every picture of a folder with the mask of the same name and size.

    Args:
        folder: of the pictures.
        mask_folder: of the masks; endings may differ.

    Raises:
        UsageError: for a picture without a mask, a mask without a picture, or
            sizes that differ.
    """
    shown = {path.stem: path for path in listed(folder)}
    masks = {path.stem: path for path in listed(mask_folder)}
    odd = sorted({*shown} ^ {*masks})
    if odd:
        lacks = mask_folder if odd[0] in shown else folder
        raise checks.UsageError(
            f"{lacks} has no {odd[0]}, but its neighbour has; give every image"
            " a mask of the same name."
        )
    found = [(shown[name], masks[name]) for name in sorted(shown)]
    for image, mask in found:
        sizes = [_size(path) for path in (image, mask)]
        if sizes[0] != sizes[1]:
            raise checks.UsageError(
                f"{mask} has {sizes[1][0]} x {sizes[1][1]} pixels, but its"
                f" image has {sizes[0][0]} x {sizes[0][1]}; replace one."
            )
    return found


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the head of the file alone."""
    pillow = _pillow(path)
    try:
        with pillow.open(path) as picture:
            return picture.size
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise checks.UsageError(
            f"{path} is no readable image ({npz.reason(error)}); replace or"
            " remove it."
        ) from None
