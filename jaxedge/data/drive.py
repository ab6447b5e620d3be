"""DRIVE: 40 photographs of the retina with their vessels (Staal et al. 2004).

It is read from `drive/` or `DRIVE/`, either as its owners ship it (folders
`training` and `test`, each with `images/*.tif`, `1st_manual/*.gif` and
`mask/*.gif`) or as lossless pictures `NN_train.png` and `NN_test.png` beside
`masks.npz`, which holds `train_ids`, `train_vessel`, `train_fov` and likewise
for "test", the masks packed by `numpy.packbits` along their last axis.

Letters: N examples, H height, W width, S side of a patch.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data.source import IGNORED, Source, make_source
from jaxedge.features import retina

CLASSES = ("background", "vessel")
NUMBERS = {"train": range(21, 41), "test": range(1, 21)}
SHAPE = (584, 565)
# The released code's patches of the training images, edge_pruning 2.
PATCHES, SIDE, VALID = 5000, 64, 0.1
SEED = 2021


class Eye(NamedTuple):
    """One image.

    Attributes:
        x: grey values in [0, 1], [H, W] float32.
        y: 1 on a vessel, 0 beside, IGNORED off the field of view, [H, W].
    """

    x: np.ndarray
    y: np.ndarray


def read(
    split: str,
    root: Path,
    patches: int = PATCHES,
    side: int = SIDE,
    valid: float = VALID,
) -> Source:
    """Grey images, see `features.retina`, with a label for every pixel.

    "test" has the 20 test images as they are: x [20, 584, 565, 1] float32 in
    [0, 1], y [20, 584, 565]. The others have patches [N, S, S] of the 20
    training images, whose centres are drawn in the field of view, the same
    for everyone and equally many from each image. "valid" is cut from the last
    images, "train" from those before, so no pixel is in both. (The released
    code seems to draw both from all images; its loader is unknown.) Pixels off
    the field of view are IGNORED.

    Args:
        split: "train" (4,500 patches of 18 images), "valid" (500 of 2) or
            "test".
        root: the folder that holds `drive/`.
        patches: of all training images together.
        side: S, in pixels.
        valid: share of the training images that are held out, in (0, 1).

    Returns:
        The source.

    Raises:
        UsageError: for files that are missing, damaged or of another size, an
            argument out of range, or without OpenCV or Pillow.
    """
    checks.whole("side", side, 1)
    checks.in_range("side", side, 1, min(SHAPE))
    checks.in_range("valid", valid, 0, 1)
    eyes = _eyes(root, "test" if split == "test" else "train")
    if split == "test":
        whole = [np.stack(arrays) for arrays in zip(*eyes, strict=True)]
        return _source(whole[0], whole[1], split)
    checks.whole("patches", patches, len(eyes))
    held = min(max(round(valid * len(eyes)), 1), len(eyes) - 1)
    first, last = (0, -held) if split == "train" else (len(eyes) - held, None)
    counts = np.diff(np.arange(len(eyes) + 1) * patches // len(eyes))
    cut = [
        _patches(eye, counts[i], side, SEED + i)
        for i, eye in enumerate(eyes)
        if i in range(len(eyes))[first:last]
    ]
    x, y = (np.concatenate(arrays) for arrays in zip(*cut, strict=True))
    return _source(x, y, split)


def _source(x: np.ndarray, y: np.ndarray, split: str) -> Source:
    return make_source(
        x[..., None], y, classes=CLASSES, name="drive", split=split
    )


def _patches(eye: Eye, count: int, side: int, seed: int) -> Eye:
    """Patches around random pixels of the field of view, [N, S, S]."""
    # Of corners, so that a patch lies within the image.
    room = [n - side + 1 for n in eye.y.shape]
    centres = eye.y[side // 2 :, side // 2 :][: room[0], : room[1]] != IGNORED
    corners = np.argwhere(centres)
    if not len(corners):
        raise checks.UsageError(
            f"no patch of {side} pixels has its centre in the field of view of"
            " an image of DRIVE; lower side."
        )
    # An integer seed goes to RandomState, whose stream is frozen.
    chosen = corners[
        np.random.RandomState(seed).randint(len(corners), size=count)
    ]
    every = np.lib.stride_tricks.sliding_window_view
    rows, columns = chosen.T
    x, y = (every(a, (side, side))[rows, columns] for a in eye)
    return Eye(x, y)


def _eyes(root: Path, part: str) -> list[Eye]:
    folder = next(
        (root / name for name in ("drive", "DRIVE") if (root / name).is_dir()),
        root / "drive",
    )
    if (folder / "masks.npz").is_file():
        masks = _archive(folder / "masks.npz", part)
        photographs = [folder / f"{n:02}_{part}.png" for n in NUMBERS[part]]
    elif (folder / "training").is_dir() or (folder / "test").is_dir():
        photographs, masks = _shipped(folder, part)
    else:
        raise checks.UsageError(
            f"{folder} holds no DRIVE; put its folders training/ and test/"
            " there, or its pictures as PNG with masks.npz."
        )
    return [
        _eye(path, vessel, seen)
        for path, (vessel, seen) in zip(photographs, masks, strict=True)
    ]


def _eye(path: Path, vessel: np.ndarray, seen: np.ndarray) -> Eye:
    x = retina.even_light(_picture(path, "RGB"))
    return Eye(x, np.where(seen, vessel.astype(np.int32), IGNORED))


def _shipped(folder: Path, part: str) -> tuple[list[Path], list[Any]]:
    """Photographs and masks in the layout of the owners."""
    long = {"train": "training", "test": "test"}[part]
    photographs, masks = [], []
    for n in NUMBERS[part]:
        photographs.append(folder / long / "images" / f"{n:02}_{long}.tif")
        names = (
            folder / long / "1st_manual" / f"{n:02}_manual1.gif",
            folder / long / "mask" / f"{n:02}_{long}_mask.gif",
        )
        masks.append([_picture(name, "L") > 127 for name in names])
    return photographs, masks


def _archive(path: Path, part: str) -> list[Any]:
    """Vessels and fields of view of `masks.npz`, in the order of NUMBERS."""
    try:
        names = [f"{part}_{name}" for name in ("ids", "vessel", "fov")]
        numbers, *packed = npz.load(path, names).values()
        numbers = numbers.ravel().tolist()
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} is no archive of DRIVE's masks ({npz.reason(error)}); it"
            f" needs {part}_ids, {part}_vessel and {part}_fov."
        ) from None
    height, width = SHAPE
    stored = (len(numbers), height, -(-width // 8))
    for array in packed:
        if array.shape != stored or array.dtype != np.uint8:
            raise checks.UsageError(
                f"{path} holds masks of shape {array.shape}, {array.dtype}, but"
                f" {stored}, uint8, is {height} x {width} packed by"
                " numpy.packbits along the last axis."
            )
    missing = sorted({*NUMBERS[part]} - {*numbers})
    if missing:
        raise checks.UsageError(f"{path} has no mask of image {missing[0]:02}.")
    vessel, seen = (
        np.unpackbits(array, axis=-1)[..., :width].astype(bool)
        for array in packed
    )
    places = [numbers.index(n) for n in NUMBERS[part]]
    return [(vessel[i], seen[i]) for i in places]


def _picture(path: Path, mode: str) -> np.ndarray:
    """A picture of DRIVE's size, [H, W] or [H, W, 3] uint8."""
    if not path.is_file():
        raise checks.UsageError(f"{path} is missing; DRIVE has 40 such files.")
    try:
        from PIL import Image
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with Pillow, which cannot be imported ({error});"
            " pip install 'jaxedge[vision]'."
        ) from error
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode))
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise checks.UsageError(
            f"{path} is no readable picture ({npz.reason(error)}); fetch it"
            " again."
        ) from None
    if pixels.shape[:2] != SHAPE:
        raise checks.UsageError(
            f"{path} has {pixels.shape[0]} x {pixels.shape[1]} pixels, but"
            f" DRIVE's pictures have {SHAPE[0]} x {SHAPE[1]}."
        )
    return pixels
