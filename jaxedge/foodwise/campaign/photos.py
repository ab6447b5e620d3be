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

from jaxedge.core import checks
from jaxedge.foodwise.base import identity, rules
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Busy, Refused
from jaxedge.foodwise.base.settings import MOST_PHOTO, MOST_PIXELS, Settings
from jaxedge.foodwise.base.tables import Action, Campaign, Label, Photo

SIDE = 512  # Pixels of the longer side of what is kept.
LEAST_SIDE, MOST_RATIO = 32, 4  # Of what shows a plate.
QUALITY = 85  # Of the JPEG that is kept.
# Bits of 256 that may differ between two files of one photo. Of 64 bits, clean
# plates, which are all rather alike, would too often be taken for one another.
ALIKE = 12
_NAME = re.compile(r"[0-9a-f]{32}\.jpg")
_OURS = re.compile(r"[0-9a-f]{32}\.jpg(\.part)?")  # Also half written.
_FORMATS = ("JPEG", "PNG", "WEBP")
_HASH_SIDE, _HASH_LOW = 64, 16
_LEAST = 10.0  # Grey values of 255.
# What is no JPEG has to be decoded whole, and of one colour it is a small file.
MOST_WHOLE = 16_000_000
# A scan of a progressive JPEG is a few bytes that cost as much as all others:
# so many in all, and the usual ten of the largest photo.
_MOST_SCANS, _MOST_SCANNED = 100, 10 * MOST_PIXELS
# Each takes up to 8 bytes a pixel.
_DECODING = threading.Semaphore(2)
_WAIT_S = 20.0  # For others to be decoded.
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
        Busy: where too many others are being read.
    """
    if not data:
        raise Refused("photo_empty")
    if len(data) > MOST_PHOTO:
        raise Refused("photo_large", most=MOST_PHOTO // 1_000_000)
    if not _DECODING.acquire(timeout=_WAIT_S):
        raise Busy("photo_busy")
    try:
        image_HxWx3 = _decode(data)
    finally:
        _DECODING.release()
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
    whole = opened.format in ("PNG", "WEBP")
    _check_size(*opened.size, MOST_WHOLE if whole else MOST_PIXELS)
    # A JPEG may have frames too: a phone's second picture of the same scene.
    if whole and getattr(opened, "is_animated", False):
        raise Refused("photo_moves")
    scans = 0 if whole else data.count(b"\xff\xda")
    scanned = scans * opened.width * opened.height
    if scans > _MOST_SCANS or scanned > _MOST_SCANNED:
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


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise Refused("photo_pixels", most=most // 1_000_000)
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
    _check_size(width, height, MOST_WHOLE)


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


def among(one: str, others: Iterable[str]) -> list[int]:
    """Places of the hashes of `looks` that are of the same photo as one."""
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


def expire(database: Database, settings: Settings, at: dt.datetime) -> int:
    """Deletes photos that are labelled or too old, and files of nobody.

    The files go once the rows are committed; what is killed in between is a
    file of nobody, which the next sweep finds.

    Args:
        database: of the same instance as the folder.
        settings: of the instance.
        at: now.

    Returns:
        How many photos went. Their rows stay, so that they are known again.

    Raises:
        UsageError: where the folder is that of another instance.
    """
    identity.bind(settings, database)
    with database.write() as session:
        days = {
            number: dt.timedelta(days=rules.read(given).photo_days)
            for number, given in session.execute(
                sa.select(Campaign.id, Campaign.rules)
            )
        }
        rows = session.execute(
            sa.select(
                Photo.id,
                Photo.file,
                Photo.at,
                Label.photo_id,
                Action.campaign_id,
            )
            .join(Action, Action.id == Photo.action_id)
            .outerjoin(Label, Label.photo_id == Photo.id)
            .where(Photo.deleted_at.is_(None))
        ).all()
        over = {
            row.id: row.file
            for row in rows
            if row.photo_id is not None or at - row.at >= days[row.campaign_id]
        }
        if over:
            session.execute(
                sa.update(Photo), [{"id": n, "deleted_at": at} for n in over]
            )
    remove(settings.photos, *over.values())
    _sweep(
        settings.photos, {row.file for row in rows if row.id not in over}, at
    )
    return len(over)


def _sweep(folder: Path, live: set[str], at: dt.datetime) -> None:
    """Deletes what a program that was killed left behind."""
    for found in folder.iterdir():
        if found.name in live or not _OURS.fullmatch(found.name):
            continue
        try:
            if at.timestamp() - found.stat().st_mtime > _ORPHAN_S:
                found.unlink()
        except FileNotFoundError:  # Somebody was faster.
            continue


__all__ = [
    "ALIKE",
    "MOST_WHOLE",
    "Picture",
    "among",
    "expire",
    "keep",
    "looks",
    "path",
    "read",
    "remove",
]
