import zipfile

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import geometric_shapes

SQUARE = "OFF\n4 1 0\n0 0 0\n2 0 0\n2 1 0\n0 1 0\n4 0 1 2 3\n"
LINES = "OFF\n3 1 0\n0 0 0\n0 0 4\n0 1 4\n3 0 1 2\n"


def write(root, parts=("train", "test"), square=SQUARE):
    (root / "geometric_shapes").mkdir()
    with zipfile.ZipFile(root / geometric_shapes.FILE, "w") as archive:
        for part in parts:
            archive.writestr(f"raw/b_square/{part}/b_square.off", square)
            archive.writestr(f"raw/a_wall/{part}/a_wall.off", LINES)


def test_clouds_of_two_meshes(tmp_path):
    write(tmp_path)
    sources = {
        s: data.load("geometric_shapes", s, tmp_path) for s in data.SPLITS
    }
    assert [len(s.y) for s in sources.values()] == [40, 10, 20]
    test = sources["test"]
    assert test.classes == ("a_wall", "b_square")
    assert test.y.tolist() == [0, 1] * 10
    x = test.x.astype(np.float64)
    assert np.abs(x[1::2, :, 2]).max() < 1e-6  # The square stays level.
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1).max(1), 1, rtol=1e-6)
    # The long axis of the square is its turn: of ten within 10 degrees, some
    # exceed 3. What 1,024 points leave of it is about 1 degree.
    spread = np.einsum("npi,npj->nij", x[1::2, :, :2], x[1::2, :, :2])
    long = np.linalg.eigh(spread)[1][:, :, 1]
    turn = np.degrees(np.arctan(long[:, 1] / long[:, 0]))
    assert 3 < np.abs(turn).max() < 14
    # No two clouds of a mesh are one, within a split or across them.
    every = np.concatenate(
        [s.x.reshape(len(s.y), -1) for s in sources.values()]
    )
    assert len(np.unique(every, axis=0)) == 70


def features(x):
    """What a cloud is like: histograms of radius and of height."""
    radius = np.linalg.norm(x, axis=-1)
    rows = [
        np.histogram(values, 12, span)[0]
        for cloud, r in zip(x, radius, strict=True)
        for values, span in ((r, (0, 1)), (cloud[:, 2], (-1, 1)))
    ]
    return np.reshape(rows, (len(x), -1)) / 1024


def test_the_real_set(real_file):
    root = real_file(geometric_shapes.FILE).parents[1]
    known, test = (
        data.load("geometric_shapes", s, root) for s in ("valid", "test")
    )
    assert known.x.shape == (200, 1024, 3) and test.x.shape == (400, 1024, 3)
    assert len(test.classes) == 40 and "3d_torus_fat" in test.classes
    assert test.y[:40].tolist() == [*range(40)]
    a, b = features(known.x), features(test.x)
    nearest = np.abs(b[:, None] - a[None]).sum(-1).argmin(1)
    # There is something to learn: chance is 2.5 %.
    assert (known.y[nearest] == test.y).mean() > 0.5


def damaged(root, kind):
    path = root / geometric_shapes.FILE
    if kind == "no file":
        return
    if kind == "no mesh":
        write(root, parts=("train",))
    elif kind == "no faces":
        write(root, square=SQUARE.replace("4 1 0", "4 0 0"))
    else:
        write(root)
        content = path.read_bytes()
        if kind == "no archive":
            path.write_bytes(b"none")
        elif kind == "corrupt":
            path.write_bytes(content.replace(b"0 1 2 3", b"0 1 2 9"))


BAD = {
    "no file": "geometric_shapes_off.zip is missing",
    "no mesh": "no test mesh.*raw/CLASS/test",
    "no faces": "test/b_square.off of .*0 faces",
    "no archive": "no archive of meshes",
    "corrupt": "no archive of meshes.*CRC",
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_named(tmp_path, kind):
    damaged(tmp_path, kind)
    with pytest.raises(UsageError, match=BAD[kind]) as error:
        data.load("geometric_shapes", "test", tmp_path)
    assert "\n" not in str(error.value)
