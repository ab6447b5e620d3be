"""Compressed volumes whose damage SimpleITK reads over."""

import gzip
import zlib

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import volume_streams, volumes

pytest.importorskip("SimpleITK")

VOXELS = np.random.default_rng(0).integers(-99, 99, (3, 20, 30))


def written(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    volumes.write(path, volumes.make(VOXELS.astype(np.int16)))
    return path, path.read_bytes()


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_a_flipped_bit_is_found(tmp_path, ending, capfd):
    path, content = written(tmp_path, ending)
    volume_streams.check(path)
    for at in (-1, -300, -900):
        spoilt = bytearray(content)
        spoilt[at] ^= 4
        path.write_bytes(spoilt)
        with pytest.raises(UsageError, match=f"a.{ending} is damaged.*again"):
            volumes.read(path)
    path.write_bytes(content[:-1])
    with pytest.raises(UsageError, match="ends before its end"):
        volume_streams.check(path)
    path.write_bytes(content)
    np.testing.assert_array_equal(volumes.read(path).array_ZxYxX, VOXELS)
    capfd.readouterr()


HEADS = {
    "a.nhdr": b"NRRD0004\nencoding: gzip\ndata file: voxels\n\n",
    "a.mhd": b"CompressedData = True\nElementDataFile = voxels\n",
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_voxels_beside_their_head(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(HEADS[name])
    volume_streams.check(path)  # What is missing is told by SimpleITK.
    content = pack(VOXELS.tobytes())
    (tmp_path / "voxels").write_bytes(content)
    volume_streams.check(path)
    (tmp_path / "voxels").write_bytes(content[:-6] + b"\0" * 6)
    with pytest.raises(UsageError, match=f"{name} is damaged"):
        volume_streams.check(path)


@pytest.mark.parametrize(
    "name, head, message",
    [
        ("a.nrrd", b"NRRD0004\nkinds: " + b"[" * 900, "line of 907 bytes"),
        ("a.mha", b"ElementDataFile = x%s\n", "its voxels are in b'x%s'"),
        ("a.mha", b"ElementDataFile = %d%n\n", "its voxels are in"),
        ("a.mha", b"ElementDataFile = LOC\xd1\x8b\x0c\x1a", "are in b'LOC"),
    ],
)
def test_heads_that_end_the_process_are_refused(tmp_path, name, head, message):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(UsageError, match=f"{name} is damaged.*{message}"):
        volumes.read(tmp_path / name)


@pytest.mark.parametrize(
    "name, head",
    [
        ("a.nrrd", b"NRRD0004\nencoding: raw\n\nvoxels"),
        ("a.nrrd", b"NRRD0004\nencoding: gzip\nline skip: 2\n\nvoxels"),
        ("a.nrrd", b"NRRD0004\nencoding: gzip"),
        ("a.nrrd", b"NRRD0004\nkey:=" + b"x" * 900 + b"\n\nvoxels"),
        ("a.mha", b"ElementDataFile = x%03d.raw 1 3 1\n"),
        ("a.mha", b"CompressedData = False\nElementDataFile = LOCAL\nvoxels"),
        ("a.mha", b"CompressedData = True\n"),
        ("a.nii", b"voxels"),
    ],
)
def test_what_is_not_packed_is_left_alone(tmp_path, name, head):
    (tmp_path / name).write_bytes(head)
    volume_streams.check(tmp_path / name)
