import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import modelnet40

COUNTS = {"train": {"bed": 11, "night_stand": 10}, "test": {"night_stand": 2}}
CLASSES = ("bed", "night_stand")


def cloud(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    return rng.normal(1, 2, (1030, 6)).round(6)


def write_text(root):
    folder = root / modelnet40.RESAMPLED
    folder.mkdir(parents=True)
    (folder / "modelnet40_shape_names.txt").write_text(
        "\n".join(CLASSES) + "\n"
    )
    for part, counts in COUNTS.items():
        names = [
            f"{label}_{i:04d}"
            for label, count in counts.items()
            for i in range(1, count + 1)
        ]
        (folder / f"modelnet40_{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            path = folder / name.rpartition("_")[0] / f"{name}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, cloud(name), "%.6f", ",")
    return folder


def write_meshes(root):
    """Boards of different heights, lying and standing."""
    folder = root / "modelnet40" / modelnet40.MESHES
    for part, counts in COUNTS.items():
        for label, count in counts.items():
            (folder / label / part).mkdir(parents=True)
            for i in range(count):
                x = "1 0 0" if label == "bed" else "0 0 1"
                (folder / label / part / f"{label}_{i:04d}.off").write_text(
                    f"OFF3 1 0\n0 0 0\n{x}\n0 {i + 1} 0\n3 0 1 2\n"
                )
    return folder


def test_text(tmp_path):
    write_text(tmp_path)
    sources = [data.load("modelnet40", s, tmp_path) for s in data.SPLITS]
    train, valid, test = sources
    assert [len(s.y) for s in sources] == [19, 2, 2]
    assert all(s.classes == CLASSES for s in sources)
    # Classes take turns; the tenth of each is valid, and the eleventh last.
    assert train.y.tolist() == [0, 1] * 9 + [0] and valid.y.tolist() == [0, 1]
    for x, name in ((valid.x[0], "bed_0010"), (test.x[1], "night_stand_0002")):
        wanted = cloud(name)[:1024, :3]
        wanted = wanted - wanted.mean(0)
        wanted /= np.linalg.norm(wanted, axis=1).max()
        np.testing.assert_allclose(x, wanted, atol=1e-5)


def test_meshes(tmp_path):
    write_meshes(tmp_path)
    sources = [data.load("modelnet40", s, tmp_path) for s in data.SPLITS]
    assert [len(s.y) for s in sources] == [19, 2, 2]
    assert sources[2].classes == CLASSES and sources[2].y.tolist() == [1, 1]
    train = sources[0]
    assert train.x.shape == (19, 1024, 3)
    # A bed lies in the plane of the first two axes, the other one stands.
    assert np.abs(train.x[train.y == 0][..., 2]).max() < 1e-6
    assert np.abs(train.x[train.y == 1][..., 0]).max() < 1e-6
    # The mean of a triangle's points is a third of its sides from a corner: the
    # i-th bed reaches 2/3 of (i + 1) there, and 1/3 of it the other way.
    tall = train.x[16]
    span = np.ptp(tall, axis=0)
    assert span[1] / span[0] == pytest.approx(9, rel=0.15)


def test_meshes_in_parts_are_the_same(tmp_path, monkeypatch):
    write_meshes(tmp_path)
    whole = data.load("modelnet40", "train", tmp_path)
    monkeypatch.setattr(modelnet40, "_AT_ONCE", 4)
    parts = data.load("modelnet40", "train", tmp_path)
    np.testing.assert_array_equal(whole.x, parts.x)


def damaged(root, kind):
    if kind == "nothing":
        return
    if kind in ("no mesh", "no faces"):
        folder = write_meshes(root)
        for path in folder.glob("*/test/*.off"):
            path.write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
            if kind == "no mesh":
                path.unlink()
        return
    folder = write_text(root)
    path = folder / "night_stand" / "night_stand_0001.txt"
    names = folder / "modelnet40_test.txt"
    few = "\n".join(["1,2,3,0,0,1"] * 1000)
    target, text = {
        "no shape": (path, None),
        "few": (path, few),
        "columns": (path, f"{few}\n1,2,3\n"),
        "spaces": (path, "1 2 3 0 0 1\n"),
        "class": (names, "night_stands_0001\n"),
        "no list": (names, None),
        "empty": (names, "\n"),
    }[kind]
    target.unlink() if text is None else target.write_text(text)


BAD = {
    "nothing": "modelnet40 holds no ModelNet40; put modelnet40_normal",
    "no mesh": r"no mesh CLASS/test/\*.off",
    "no faces": "night_stand_0000.off has 3 vertices and 0 faces",
    "no shape": "night_stand_0001.txt cannot be read",
    "few": "night_stand_0001.txt has 1000 points, but 1024",
    "columns": "night_stand_0001.txt is damaged .*from 6 to 3 at row 1001",
    "spaces": "night_stand_0001.txt is damaged .*'1 2 3 0 0 1'",
    "class": "'night_stands'.*mean 'night_stand'",
    "no list": "modelnet40_test.txt cannot be read",
    "empty": "modelnet40_test.txt is empty",
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_named(tmp_path, kind):
    damaged(tmp_path, kind)
    with pytest.raises(UsageError, match=BAD[kind]) as error:
        data.load("modelnet40", "test", tmp_path)
    assert "\n" not in str(error.value)


def test_too_few_shapes_for_valid(tmp_path, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", {"bed": 9})
    write_text(tmp_path)
    assert len(data.load("modelnet40", "train", tmp_path).y) == 9
    with pytest.raises(UsageError, match="no class .* 10 training shapes"):
        data.load("modelnet40", "valid", tmp_path)
