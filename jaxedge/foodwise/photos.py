"""Photos of plates: read with suspicion, kept small, gone after a while.

Nothing is kept of what was sent but a small picture made anew from its pixels:
no place, no camera, no name. What is too large is told by its header, before a
pixel of it is decoded. (Whether a photo can be graded is `quality`'s matter.)

Letters: H rows, W columns, S side of what a hash looks at, L frequencies.
"""

from collections.abc import Iterable
import datetime as dt
import hashlib
import io
import os
from pathlib import Path
import re
import secrets
import threading
from typing import NamedTuple

import numpy as np
from PIL import Image
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise import rules
from jaxedge.foodwise.refusals import Refused
from jaxedge.foodwise.settings import MOST_PHOTO, MOST_PIXELS, Settings
from jaxedge.foodwise.tables import Action, Campaign, Label, Photo

SIDE = 512  # Pixels of the longer side of what is kept.
LEAST_SIDE, MOST_RATIO = 32, 4  # Of what shows a plate.
QUALITY = 85  # Of the JPEG that is kept.
# Bits of 256 that may differ between two files of one photo. Of 64 bits, clean
# plates, which are all rather alike, would too often be taken for one another.
ALIKE = 12
_NAME = re.compile(r"[0-9a-f]{32}\.jpg")
_FORMATS = ("JPEG", "PNG", "WEBP")
_HASH_SIDE, _HASH_LOW = 64, 16
_LEAST = 10.0  # Grey values of 255.
# A scan of a progressive JPEG is a few bytes that cost as much as all others.
_MOST_SCANS = 100
# Each takes up to 8 bytes a pixel of `MOST_PIXELS`.
_DECODING = threading.Semaphore(2)
_ORPHAN_S = 3600.0  # So old is a file that nobody is about to tell of.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Picture(NamedTuple):
    """A photo as it is graded and kept.

    Attributes:
        image_HxWx3: uint8 RGB, upright, `SIDE` at most.
        jpeg: the same as a file, without anything but pixels.
        sha256: of the file that was sent, in hexadecimal.
        phash: 256 bits of its looks, in hexadecimal.
        width: of the image.
        height: of the image.
    """

    image_HxWx3: np.ndarray
    jpeg: bytes
    sha256: str
    phash: str
    width: int
    height: int


def read(data: bytes) -> Picture:
    """A photo out of a file that anybody may have made.

    Args:
        data: JPEG, PNG or WebP, by its content.

    Raises:
        Refused: for what is none of these, is broken, moves, or is too large
            or too small.
    """
    if not data:
        raise Refused("photo_empty")
    if len(data) > MOST_PHOTO:
        raise Refused("photo_large", most=MOST_PHOTO // 1_000_000)
    with _DECODING:
        image_HxWx3 = _decode(data)
    out = io.BytesIO()
    Image.fromarray(image_HxWx3).save(out, "JPEG", quality=QUALITY)
    height, width = image_HxWx3.shape[:2]
    return Picture(
        image_HxWx3,
        out.getvalue(),
        hashlib.sha256(data).hexdigest(),
        looks(image_HxWx3),
        width,
        height,
    )


def _decode(data: bytes) -> np.ndarray:
    """Its pixels, [H, W, 3], upright and small."""
    _check_webp(data)
    try:
        opened = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise Refused("photo_pixels", most=MOST_PIXELS // 1_000_000) from None
    except Image.UnidentifiedImageError:
        raise Refused("photo_type") from None
    except Exception:  # Of a broken header, Pillow raises nearly anything.
        raise Refused("photo_broken") from None
    _check_size(*opened.size)
    # A JPEG may have frames too: a phone's second picture of the same scene.
    moves = opened.format in ("PNG", "WEBP")
    if moves and getattr(opened, "is_animated", False):
        raise Refused("photo_moves")
    if not moves and data.count(b"\xff\xda") > _MOST_SCANS:
        raise Refused("photo_broken")
    turn = _turn(opened)
    try:
        # A JPEG is decoded at the scale that is needed.
        opened.draft("RGB", (2 * SIDE, 2 * SIDE))
        opened.load()
        image = _on_white(opened)
    except Exception:  # As above; among them the end of a truncated file.
        raise Refused("photo_broken") from None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.array(image.transpose(turn) if turn is not None else image)


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Refused("photo_pixels", most=MOST_PIXELS // 1_000_000)
    short, long = sorted((width, height))
    if short < LEAST_SIDE or long > MOST_RATIO * short:
        raise Refused("photo_shape", least=LEAST_SIDE)


def _check_webp(data: bytes) -> None:
    """Stops a WebP bomb: Pillow gets its memory as soon as it opens one.

    The three kinds of headers are those of RFC 9649 and RFC 6386.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return
    number = int.from_bytes
    kind = data[12:16]
    if kind == b"VP8X":
        width = number(data[24:27], "little") + 1
        height = number(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = number(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width = number(data[26:28], "little") & 0x3FFF
        height = number(data[28:30], "little") & 0x3FFF
    _check_size(width, height)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes it upright, by the orientation that its camera noted."""
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # Notes that cannot be read turn nothing.
        return None


def _on_white(image: Image.Image) -> Image.Image:
    """In RGB; what one sees through is white."""
    if image.mode.startswith(("I", "F")):  # More than 8 bits of grey.
        grey_HxW = np.asarray(image).astype(np.float32)
        scale = max(float(grey_HxW.max()), 1.0)
        return Image.fromarray(np.uint8(255 * grey_HxW / scale)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, clear).convert("RGB")


def looks(image_HxWx3: np.ndarray) -> str:
    """256 bits of how an image looks, in hexadecimal.

    Which of 16 x 16 low frequencies, of the orthonormal cosine transform of
    its grey values at 64 x 64, exceed `_LEAST`: the rest may as well be the
    noise of another JPEG. The constant row and column of the transform are
    left out: they are what lighting from a side changes.
    """
    image = Image.fromarray(image_HxWx3).convert("L")
    small = image.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
    grey_SxS = np.asarray(small, np.float64)
    low_LxL = _COSINES_LxS @ grey_SxS @ _COSINES_LxS.T
    return np.packbits(low_LxL > _LEAST).tobytes().hex()


def _cosines() -> np.ndarray:
    """Rows 1 to L of the orthonormal DCT-II of S points, [L, S]."""
    k_Lx1 = np.arange(1, _HASH_LOW + 1)[:, None]
    place_S = (np.arange(_HASH_SIDE) + 0.5) / _HASH_SIDE
    return np.sqrt(2 / _HASH_SIDE) * np.cos(np.pi * k_Lx1 * place_S[None])


_COSINES_LxS = _cosines()


def alike(one: str, other: str) -> bool:
    """Whether two hashes of `looks` are of one photo."""
    return bool(among(one, [other]))


def among(one: str, others: Iterable[str]) -> list[int]:
    """Places of the hashes that are alike to the first one."""
    bits = int(one, 16)
    return [
        n
        for n, other in enumerate(others)
        if (bits ^ int(other, 16)).bit_count() <= ALIKE
    ]


def keep(picture: Picture, folder: Path) -> str:
    """Writes the picture, whole or not at all; returns the file's name."""
    name = f"{secrets.token_hex(16)}.jpg"
    part = folder / f"{name}.part"
    try:
        with part.open("xb") as out:
            out.write(picture.jpeg)
            out.flush()
            os.fsync(out.fileno())
        part.replace(folder / name)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(folder)
    return name


def _sync(folder: Path) -> None:
    """The name of a file outlives a fall of the power, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def path(folder: Path, name: str) -> Path:
    """Of a photo.

    Raises:
        UsageError: for a name that `keep` did not make.
    """
    if not _NAME.fullmatch(name):
        raise checks.UsageError(
            f"{name!r} is the name of no photo: 32 hexadecimal digits and .jpg."
        )
    return folder / name


def remove(folder: Path, *names: str) -> None:
    """Deletes files of photos; those that have gone are no error."""
    for name in names:
        path(folder, name).unlink(missing_ok=True)


def expire(session: Session, settings: Settings, at: dt.datetime) -> int:
    """Deletes photos that are labelled or too old, and files of nobody.

    Args:
        session: that writes.
        settings: of the instance.
        at: now.

    Returns:
        How many photos went. Their rows stay, so that they are known again.
    """
    gone, live = 0, set()
    for photo, label, given in session.execute(
        sa.select(Photo, Label.photo_id, Campaign.rules)
        .join(Action, Action.id == Photo.action_id)
        .join(Campaign, Campaign.id == Action.campaign_id)
        .outerjoin(Label, Label.photo_id == Photo.id)
        .where(Photo.deleted_at.is_(None))
    ):
        most = dt.timedelta(days=rules.read(given).photo_days)
        if label is None and at - photo.at < most:
            live.add(photo.file)
            continue
        remove(settings.photos, photo.file)
        photo.deleted_at = at
        gone += 1
    _sweep(settings.photos, live, at)
    return gone


def _sweep(folder: Path, live: set[str], at: dt.datetime) -> None:
    """Deletes what a program that was killed left behind."""
    for found in folder.iterdir():
        try:
            old = at.timestamp() - found.stat().st_mtime > _ORPHAN_S
            if old and found.name not in live:
                found.unlink()
        except FileNotFoundError:  # Somebody was faster.
            continue


__all__ = [
    "ALIKE",
    "Picture",
    "alike",
    "among",
    "expire",
    "keep",
    "looks",
    "path",
    "read",
    "remove",
]
