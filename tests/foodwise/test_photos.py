"""What people may send as a photo, and what is kept of it."""

import datetime as dt
import io
import math
import os
import struct
import threading
import zlib

import numpy as np
from PIL import Image, ImageFile
import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import database, identity, settings, tables
from jaxedge.foodwise.base.refusals import Busy, Refused
from jaxedge.foodwise.base.settings import MOST_PHOTO
from jaxedge.foodwise.campaign import actions, photos
from jaxedge.foodwise.web import application
from tests.foodwise.participants import (
    campaign,
    canteen,
    encoded,
    graded,
    person,
    picture,
)

PLATE = picture(seed=1)


def refused(data):
    with pytest.raises(Refused) as found:
        photos.read(data)
    return found.value.key


def png_of(width, height):
    """A PNG that says it is so large, of a few bytes."""

    def chunk(name, body):
        check = zlib.crc32(name + body)
        return (
            struct.pack(">I", len(body))
            + name
            + body
            + struct.pack(">I", check)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def webp_of(width, height, kind):
    """The header of a WebP that says it is so large, and nothing behind it."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little")
        body += (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        bits = (width - 1) | (height - 1) << 14
        body = b"\x2f" + bits.to_bytes(4, "little") + bytes(8)
    else:
        body = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    whole = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_known_by_its_content(kind):
    found = photos.read(encoded(PLATE, kind))
    assert (found.width, found.height) == (320, 240)
    assert found.image_HxWx3.shape == (240, 320, 3)
    assert found.image_HxWx3.dtype == np.uint8
    # Lossy, but the same plate: a mean error of a few grey values.
    error = np.abs(found.image_HxWx3.astype(float) - PLATE).mean()
    assert error < 4
    with Image.open(io.BytesIO(found.jpeg)) as kept:
        assert (kept.format, kept.size) == ("JPEG", (320, 240))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixels_becomes_rgb(mode):
    image = Image.fromarray(PLATE)
    if mode == "I;16":
        image = Image.fromarray(
            np.asarray(image.convert("L")).astype(np.uint16) * 256
        )
    else:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, "JPEG" if mode == "CMYK" else "PNG")
    found = photos.read(out.getvalue())
    assert found.image_HxWx3.shape == (240, 320, 3)
    grey = np.asarray(Image.fromarray(PLATE).convert("L"), float).mean()
    # 16 bits are scaled by their brightest, and the bits of "1" are dithered.
    assert abs(found.image_HxWx3.mean() - grey) < 40


def test_what_is_seen_through_is_white():
    clear_HxWx4 = np.zeros((64, 64, 4), np.uint8)
    out = io.BytesIO()
    Image.fromarray(clear_HxWx4).save(out, "PNG")
    assert photos.read(out.getvalue()).image_HxWx3.min() == 255


def test_what_is_kept_is_small():
    found = photos.read(encoded(picture(size=(2048, 1024))))
    assert (found.width, found.height) == (512, 256)
    assert found.image_HxWx3.shape == (256, 512, 3)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_upright(turn):
    # One corner is dark: 0-based (row, column) of it by EXIF's table of
    # orientations, for a corner that is at the top left when upright.
    rows = {1: 0, 2: 0, 3: 1, 4: 1, 5: 0, 6: 1, 7: 1, 8: 0}
    columns = {1: 0, 2: 1, 3: 1, 4: 0, 5: 0, 6: 0, 7: 1, 8: 1}
    wide = turn < 5
    image = np.full((64, 96, 3) if wide else (96, 64, 3), 230, np.uint8)
    height, width = image.shape[:2]
    row, column = rows[turn] * height // 2, columns[turn] * width // 2
    image[row : row + height // 2, column : column + width // 2] = 20
    exif = Image.Exif()
    exif[0x0112] = turn
    found = photos.read(encoded(image, exif=exif)).image_HxWx3
    assert found.shape == (64, 96, 3)
    assert found[:24, :40].mean() < 60 < 180 < found[40:].mean()


def test_no_place_and_no_camera_is_kept():
    exif = Image.Exif()
    exif[0x010F] = "CameraMaker"
    exif.get_ifd(0x8825)[2] = (22.0, 20.0, 14.0)  # GPS latitude.
    exif.get_ifd(0x8825)[1] = "N"
    sent = encoded(PLATE, exif=exif, comment=b"written by me", dpi=(72, 72))
    assert b"CameraMaker" in sent and b"written by me" in sent
    with Image.open(io.BytesIO(sent)) as opened:
        assert opened.getexif().get_ifd(0x8825)[1] == "N"
    kept = photos.read(sent).jpeg
    assert b"Exif" not in kept and b"CameraMaker" not in kept
    assert b"written by me" not in kept
    with Image.open(io.BytesIO(kept)) as opened:
        assert not opened.getexif()
        assert "comment" not in opened.info


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_notes_of_a_camera_that_are_damaged_do_no_harm():
    exif = b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" + bytes(range(200))
    assert photos.read(encoded(PLATE, exif=exif)).width == 320


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(
    "data, key",
    [
        (b"", "photo_empty"),
        (b"x" * (MOST_PHOTO + 1), "photo_large"),
        (b"GIF89a" + bytes(100), "photo_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "photo_type"),
        (b"%PDF-1.7", "photo_type"),
        (b"\xff\xd8\xff", "photo_type"),
        (encoded(PLATE, "BMP"), "photo_type"),
        (encoded(PLATE, "TIFF"), "photo_type"),
        (encoded(PLATE, "GIF"), "photo_type"),
        (encoded(picture(size=(31, 31))), "photo_shape"),
        (encoded(picture(size=(400, 40))), "photo_shape"),
        (png_of(100_000, 100_000), "photo_pixels"),
        (png_of(8_000, 6_000), "photo_pixels"),
        (png_of(10_000, 10_000), "photo_pixels"),
        (png_of(0, 100), "photo_type"),
        (png_of(2_000, 2_000), "photo_broken"),
        (webp_of(16_383, 16_383, b"VP8X"), "photo_pixels"),
        (webp_of(16_384, 16_384, b"VP8L"), "photo_pixels"),
        (webp_of(16_383, 16_383, b"VP8 "), "photo_pixels"),
        (webp_of(400, 300, b"VP8 "), "photo_broken"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_photo_is_refused(data, key):
    assert refused(data) == key


def test_a_bomb_is_not_even_opened(monkeypatch):
    # 268 million pixels of a WebP would take two buffers of a GiB at once.
    monkeypatch.setattr(Image, "open", None)
    assert refused(webp_of(16_383, 16_383, b"VP8X")) == "photo_pixels"


def test_a_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert refused(png_of(8_000, 6_000)) == "photo_pixels"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_file_that_was_cut_off_is_refused(kind, share):
    data = encoded(picture(seed=2, size=(640, 480)), kind)
    assert refused(data[: int(share * len(data))]) in (
        "photo_broken",
        "photo_type",
    )


def test_noise_in_a_file_never_breaks_more_than_the_file():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = np.frombuffer(encoded(picture(size=(64, 64)), kind), np.uint8)
        for _ in range(40):
            broken = whole.copy()
            places = rng.integers(0, len(whole), 8)
            broken[places] = rng.integers(0, 256, 8)
            try:
                photos.read(broken.tobytes())
            except Refused as error:
                assert error.key.startswith("photo_")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind):
    frames = [Image.fromarray(picture(seed=k)) for k in range(3)]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    assert refused(out.getvalue()) == "photo_moves"


def test_a_phones_second_picture_is_left_aside():
    frames = [Image.fromarray(picture(seed=k)) for k in range(2)]
    out = io.BytesIO()
    frames[0].save(out, "MPO", save_all=True, append_images=frames[1:])
    found = photos.read(out.getvalue())
    first = photos.read(encoded(picture(seed=0)))
    assert photos.among(found.phash, [first.phash]) == [0]


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(PLATE, progressive=True)
    assert photos.read(data).width == 320
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert refused(data[:-2] + scan * 100 + data[-2:]) == "photo_broken"


SAME = {
    "quality": lambda image: encoded(image, quality=40),
    "size": lambda image: encoded(
        np.asarray(Image.fromarray(image).resize((160, 120))), quality=80
    ),
    "png": lambda image: encoded(image, "PNG"),
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "darker": lambda image: encoded(np.uint8(image * 0.85)),
}


@pytest.mark.parametrize("how", SAME)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_photo_made_anew_is_alike(how, seed):
    image = picture(seed=seed)
    again = photos.read(SAME[how](image))
    first = photos.read(encoded(image))
    assert again.sha256 != first.sha256
    assert photos.among(again.phash, [first.phash]) == [0]


def test_other_plates_are_not_alike():
    hashes = [photos.looks(picture(seed=seed)) for seed in range(40)]
    assert all(len(found) == 64 for found in hashes)
    for n, found in enumerate(hashes):
        assert photos.among(found, hashes) == [n]


def test_a_hash_is_that_of_scipys_cosine_transform():
    import scipy.fft

    image = Image.fromarray(PLATE).convert("L")
    small = image.resize((64, 64), Image.Resampling.BOX)
    whole = scipy.fft.dctn(np.asarray(small, float), 2, norm="ortho")
    low = whole[1:17, 1:17].ravel()
    assert np.abs(low - 10).min() > 1e-6  # None that rounding could decide.
    bits = "".join("1" if v > 10 else "0" for v in low)
    assert int(photos.looks(PLATE), 16) == int(bits, 2)


def test_blank_pictures_are_alike():
    blank = [np.full((64, 64, 3), grey, np.uint8) for grey in (0, 90, 255)]
    assert {photos.looks(image) for image in blank} == {"0" * 64}


def test_alike_counts_the_bits():
    none, most = "0" * 64, f"{2**photos.ALIKE - 1:064x}"
    more = f"{2 ** (photos.ALIKE + 1) - 1:064x}"
    assert photos.among(none, [more, most]) == [1]


def test_a_file_is_whole_and_has_a_name_of_ours(tmp_path):
    kept = photos.read(encoded(PLATE))
    names = {photos.keep(kept, tmp_path) for _ in range(3)}
    assert len(names) == 3
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        assert photos.path(tmp_path, name).read_bytes() == kept.jpeg
    photos.remove(tmp_path, *names)
    photos.remove(tmp_path, *names)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(number):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        photos.keep(photos.read(encoded(PLATE)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "a.jpg",
        "0" * 32 + ".jpg/../x",
        "",
        "x\0.jpg",
    ],
)
def test_no_other_file_is_reached(tmp_path, name):
    with pytest.raises(checks.UsageError, match="name of no photo"):
        photos.path(tmp_path, name)
    with pytest.raises(checks.UsageError):
        photos.remove(tmp_path, name)


def test_photos_go_after_a_while_and_once_they_are_labelled(instance):
    at = dt.datetime(2026, 3, 2, 4, tzinfo=dt.UTC)
    base = database.Database(instance.url)
    identity.bind(instance, base)
    with base.write() as session:
        one = campaign(session, at.date(), at.date(), photo_days=7)
        place = canteen(session).id
        user = person(session)
        made = []
        for n in range(3):
            kept = photos.read(encoded(picture(seed=n)))
            file = photos.keep(kept, instance.photos)
            told = actions.Told(place, "lunch", "clean_plate", str(n))
            shot = actions.Shot(kept, file, graded())
            day = at + dt.timedelta(days=4 * (n == 2))
            outcome = actions.log(session, user, one, told, day, shot)
            made.append(outcome.action.photo)
        session.add(tables.Label(photo_id=made[1].id, label=0, how="votes"))
    stray = instance.photos / ("f" * 32 + ".jpg")
    stray.write_bytes(b"of a program that was killed")
    os.utime(stray, (0, 0))
    fresh = instance.photos / ("e" * 32 + ".jpg.part")
    later = at + dt.timedelta(days=7)
    fresh.write_bytes(b"of an upload that goes on")
    os.utime(fresh, (later.timestamp(), later.timestamp()))
    foreign = instance.photos / "holiday.jpg"
    foreign.write_bytes(b"of somebody's own")
    os.utime(foreign, (0, 0))
    assert photos.expire(base, instance, later) == 2
    with base.read() as session:
        found = {p.file: p.deleted_at for p in session.query(tables.Photo)}
    assert found == {
        made[0].file: later,
        made[1].file: later,
        made[2].file: None,
    }
    left = {path.name for path in instance.photos.iterdir()}
    assert left == {made[2].file, fresh.name, foreign.name}
    assert photos.expire(base, instance, later) == 0
    base.close()


def kept_photo(base, folder, at):
    """A photo with its row; returns its file."""
    with base.write() as session:
        one = campaign(session, at.date(), at.date(), photo_days=7)
        told = actions.Told(canteen(session).id, "lunch", "clean_plate", "x")
        kept = photos.read(encoded(PLATE))
        shot = actions.Shot(kept, photos.keep(kept, folder), graded())
        actions.log(session, person(session), one, told, at, shot)
    return folder / shot.file


def test_files_go_without_holding_the_writer(instance, monkeypatch):
    base = database.Database(instance.url)
    at = dt.datetime(2026, 3, 2, 4, tzinfo=dt.UTC)
    kept_photo(base, instance.photos, at)
    removed = []

    def slow(folder, *names):
        removed.extend(names)
        with base.write() as session:  # Another one, in the meantime.
            assert session.scalar(sa.select(tables.Photo.deleted_at))

    monkeypatch.setattr(database, "WAIT_S", 0.1)
    monkeypatch.setattr(photos, "remove", slow)
    assert photos.expire(base, instance, at + dt.timedelta(days=8)) == 1
    assert len(removed) == 1
    base.close()


def test_another_instances_photos_are_left_alone(instance, _migrated):
    at = dt.datetime(2026, 3, 2, 4, tzinfo=dt.UTC)
    right = database.Database(instance.url)
    file = kept_photo(right, instance.photos, at)
    os.utime(file, (0, 0))
    number = identity.bind(instance, right)
    assert identity.bind(instance, right) == number
    wrong = instance._replace(database=f"sqlite:///{instance.folder}/new.db")
    (instance.folder / "new.db").write_bytes(_migrated)
    empty = database.Database(wrong.url)
    for _ in range(2):
        with pytest.raises(checks.UsageError, match="another instance"):
            photos.expire(empty, wrong, at)
        with pytest.raises(checks.UsageError, match="another instance"):
            application.create_app(wrong)
        # Also once it belongs to another folder.
        other = wrong._replace(folder=instance.folder / "other")
        settings.prepare(other)
        assert identity.bind(other, empty) != number
    assert file.exists()
    # A folder without its number, as after restoring, is told by its photos.
    (instance.folder / "instance").unlink()
    with pytest.raises(checks.UsageError, match="another instance"):
        identity.bind(instance, empty)
    assert identity.bind(instance, right) == number
    assert photos.expire(right, instance, at) == 0
    assert file.exists()
    right.close(), empty.close()


def test_what_is_no_jpeg_has_fewer_pixels():
    side = math.isqrt(photos.MOST_WHOLE) + 1
    assert refused(png_of(side, side)) == "photo_pixels"
    assert refused(webp_of(side, side, b"VP8L")) == "photo_pixels"
    image = Image.new("L", (side, side), 200)
    out = io.BytesIO()
    image.save(out, "JPEG")
    assert photos.read(out.getvalue()).width == photos.SIDE
    # The usual scans of a large JPEG are read, and no more than these.
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    photos.read(data)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert refused(data[:-2] + scan * 20 + data[-2:]) == "photo_broken"


def test_who_waits_too_long_to_be_read_is_told(monkeypatch):
    monkeypatch.setattr(photos, "_DECODING", threading.Semaphore(0))
    monkeypatch.setattr(photos, "_WAIT_S", 0.01)
    with pytest.raises(Busy) as found:
        photos.read(encoded(PLATE))
    assert (found.value.key, found.value.status) == ("photo_busy", 503)
