"""Damaged files of numpy, whose faults come from many places."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from jaxedge.core import npz


def packed(member, method=zipfile.ZIP_STORED):
    """An archive with one member "x.npy"."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x.npy", member)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SOUND = npy(np.arange(6.0))


def header(text):
    """A member whose header is some text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def flagged(content, at, value):
    """Both heads of the member have another entry, such as its method."""
    out = bytearray(content)
    for mark, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = out.index(mark) + at + more
        out[place : place + 2] = struct.pack("<H", value)
    return bytes(out)


def spoilt():
    """A deflated member that no longer unpacks."""
    content = bytearray(packed(SOUND, zipfile.ZIP_DEFLATED))
    start = content.index(b"x.npy") + 5
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


SHAPE = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }\n"
DAMAGED = {
    "nothing": b"",
    "no archive": b"PK\x03\x04 no archive",
    "a lone array": SOUND,
    "no array inside": packed(b"something else"),
    "an open bracket": packed(header("{'descr': ('<f8'\n")),
    "no Python": packed(header("{'descr' '<f8'}\n")),
    "a shape beyond memory": packed(header(SHAPE % "2**60,")),
    "a vast shape": packed(header(SHAPE % f"{2**60},")),
    "objects": packed(npy(np.array([{}], object))),
    "an unknown method": flagged(packed(SOUND), 8, 77),
    "a password": flagged(packed(SOUND), 6, 1),
    "a broken stream": spoilt(),
    "another checksum": packed(SOUND).replace(SOUND[-9:], b"x" * 9),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_all_damage_is_of_a_known_kind(tmp_path, kind):
    path = tmp_path / "a.npz"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(npz.DAMAGED) as caught:
        npz.load(path)
    reason = npz.reason(caught.value)
    assert reason and "\n" not in reason


def test_a_sound_archive_is_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(6.0), y=np.array("text"))
    found = npz.load(path)
    np.testing.assert_array_equal(found["x"], np.arange(6))
    assert list(found) == ["x", "y"] and list(npz.load(path, ["y"])) == ["y"]
    with pytest.raises(npz.DAMAGED):
        npz.load(path, ["z"])
    with pytest.raises(npz.DAMAGED):
        npz.load(tmp_path / "none.npz")


def test_an_error_without_words_has_its_name():
    assert npz.reason(MemoryError()) == "MemoryError"
    assert npz.reason(zlib.error("a\n b")) == "a b"
