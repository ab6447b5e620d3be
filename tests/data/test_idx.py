import gzip

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import idx

IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write(content):
        path = tmp_path / "some-idx"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_plain_and_gzipped_files_are_read(file, idx_bytes, pack):
    array = idx.read(file(pack(idx_bytes(IMAGES))), 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, IMAGES)


def test_labels_have_one_axis(file, idx_bytes):
    np.testing.assert_array_equal(
        idx.read(file(idx_bytes([3, 1, 2])), 1), [3, 1, 2]
    )


def fails(path, axes, match):
    """The error names the file, the fault and the remedy, in one line."""
    with pytest.raises(UsageError, match=match) as error:
        idx.read(path, axes)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    assert message.endswith(".") and (
        "replace" in message or "check" in message
    )


@pytest.mark.parametrize("cut", [1, 5, 24])
def test_cut_payload(file, idx_bytes, cut):
    fails(file(idx_bytes(IMAGES)[:-cut]), 3, f"cut short.*{24 - cut} follow")


def test_cut_header(file, idx_bytes):
    fails(file(idx_bytes(IMAGES)[:10]), 3, "ends within its header")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"<html>not found"])
def test_no_idx_file(file, content):
    fails(file(content), 3, "is no IDX file")


def test_trailing_bytes(file, idx_bytes):
    fails(file(idx_bytes(IMAGES) + b"\0"), 3, "trailing bytes.*25 follow")


def test_another_type(file, idx_bytes):
    fails(file(idx_bytes(IMAGES, kind=0x0D)), 3, "type 0x0d")


def test_another_rank(file, idx_bytes):
    fails(file(idx_bytes(IMAGES)), 1, "has 3 axes, but must have 1")


def test_empty_array(file, idx_bytes):
    fails(file(idx_bytes(np.zeros((0, 28, 28)))), 3, "empty")


def test_absurd_shape_does_not_overflow(file, idx_bytes):
    # The product, 2**96 - ..., wraps around in 64 bits.
    content = idx_bytes(IMAGES, shape=(2**32 - 1,) * 3)
    fails(file(content), 3, "cut short")


def test_gzip_cut_short(file, idx_bytes):
    packed = gzip.compress(idx_bytes(IMAGES))
    for n in (3, 12, len(packed) // 2, len(packed) - 1):
        fails(file(packed[:n]), 3, "gzip file that is cut short")


def test_gzip_with_a_flipped_byte(file, idx_bytes):
    # Random bytes are stored nearly as they are, so a flip in the middle
    # leaves a valid stream of another checksum.
    noise = np.random.default_rng(0).integers(0, 256, (4, 28, 28))
    packed = bytearray(gzip.compress(idx_bytes(noise)))
    packed[len(packed) // 2] ^= 1
    fails(file(bytes(packed)), 3, "corrupt gzip")


def test_gzip_with_trailing_bytes(file, idx_bytes):
    fails(file(gzip.compress(idx_bytes(IMAGES)) + b"x"), 3, "corrupt gzip")


def test_missing_file_and_folder(tmp_path):
    fails(tmp_path / "absent", 3, "No such file")
    fails(tmp_path, 3, "directory")
