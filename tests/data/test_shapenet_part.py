import json

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import shapenet_part
from jaxedge.features import points

SHAPES = {
    "train": [("02958343", "car1"), ("02691156", "plane1")],
    "val": [("02691156", "plane2")],
    "test": [("04379243", "table1")],
}
FIRST = {"02691156": 0, "02958343": 8, "04379243": 47}


def rows(name, first):
    rng = np.random.default_rng(sum(map(ord, name)))
    count = 300 + 10 * len(name)
    place = rng.normal(3, 2, (count, 3))
    normal = rng.normal(size=(count, 3))
    part = first + rng.integers(0, 3, (count, 1))
    return np.concatenate([place, normal, part], 1)


def write(root, folder=f"shapenet_part/{shapenet_part.FOLDER}"):
    """The owners' folder with a few shapes."""
    folder = root / folder
    (folder / "train_test_split").mkdir(parents=True)
    folder.joinpath("synsetoffset2category.txt").write_text(
        "Airplane\t02691156\nCar\t02958343\nTable\t04379243\n"
    )
    for part, shapes in SHAPES.items():
        listed = [f"shape_data/{synset}/{name}" for synset, name in shapes]
        path = folder / "train_test_split" / f"shuffled_{part}_file_list.json"
        path.write_text(json.dumps(listed))
        for synset, name in shapes:
            (folder / synset).mkdir(exist_ok=True)
            np.savetxt(
                folder / synset / f"{name}.txt", rows(name, FIRST[synset]),
                "%.6f",
            )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "folder",
    [
        f"shapenet_part/{shapenet_part.FOLDER}",
        "shapenet_part",
        shapenet_part.FOLDER,
    ],
)
def test_points_are_those_of_the_files(tmp_path, folder):
    write(tmp_path, folder)
    source = data.load("shapenet_part", "train", tmp_path)
    assert source.x.shape == (2, 2048, 19) and source.y.shape == (2, 2048)
    assert len(source.classes) == 50
    for i, (synset, name) in enumerate(SHAPES["train"]):
        table = rows(name, FIRST[synset])
        place = table[:, :3] - table[:, :3].mean(0)
        place /= np.linalg.norm(place, axis=1).max()
        apart = np.abs(source.x[i, :, None, :3] - place[None]).max(-1)
        # The files have six decimals.
        assert apart.min(1).max() < 1e-5
        np.testing.assert_array_equal(source.y[i], table[apart.argmin(1), 6])
        # With replacement: all but exp(-2048 / 340) of 340 rows are drawn.
        assert len(np.unique(apart.argmin(1))) > 0.98 * len(table)
    order = [*data.parts_of("shapenet_part")]
    hot = source.x[:, :, 3:].argmax(-1)
    assert (hot[0] == order.index("Car")).all() and not hot[1].any()
    assert (source.x[:, :, 3:].sum(-1) == 1).all()


def test_every_split_is_the_owners(tmp_path):
    write(tmp_path)
    test = data.load("shapenet_part", "test", tmp_path)
    assert len(test.y) == 1 and {*test.y[0]} == {47, 48, 49}
    valid = data.load("shapenet_part", "valid", tmp_path)
    assert len(valid.y) == 1 and {*valid.y[0]} == {0, 1, 2}
    again = data.load("shapenet_part", "valid", tmp_path)
    np.testing.assert_array_equal(valid.x, again.x)


def test_labels_of_the_owners():
    # As the code of PointNet++ lists them.
    parts = data.parts_of("shapenet_part")
    assert len(parts) == 16 and sum(map(len, parts.values())) == 50
    assert parts["Earphone"] == (16, 17, 18)
    assert parts["Motorbike"] == (30, 31, 32, 33, 34, 35)
    assert parts["Table"] == (47, 48, 49)


def test_the_rule_on_the_host_is_that_of_features():
    cloud = np.random.default_rng(0).normal(4, 2, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(
        shapenet_part.normalised(cloud), points.normalise(cloud), atol=1e-6
    )
    assert not shapenet_part.normalised(cloud[:1]).any()


def damaged(folder, kind):
    path = folder / "04379243" / "table1.txt"
    listed = folder / "train_test_split" / "shuffled_test_file_list.json"
    synsets = folder / "synsetoffset2category.txt"
    content = {
        "synsets": (synsets, "Tablet\t04379243"),
        "no synsets": (synsets, None),
        "no list": (listed, None),
        "list": (listed, "[1, 2]"),
        "json": (listed, "["),
        "synset": (listed, '["shape_data/04379999/table1"]'),
        "empty list": (listed, "[]"),
        "no shape": (path, None),
        "empty": (path, ""),
        "columns": (path, "1 2 3 0 0 1 47\n1 2 3 0 0 1\n"),
        "six": (path, "1 2 3 0 0 1\n"),
        "word": (path, "1 2 3 0 0 one 47\n"),
        "part": (path, "1 2 3 0 0 1 48\n2 2 3 0 0 1 46\n"),
        "half": (path, "1 2 3 0 0 1 47.5\n"),
    }
    target, text = content[kind]
    target.unlink() if text is None else target.write_text(text)


BAD = {
    "synsets": "'Tablet'.*mean 'Table'",
    "no synsets": "holds no ShapeNetPart; put",
    "no list": "test_file_list.json cannot be read",
    "list": "test_file_list.json is damaged",
    "json": "test_file_list.json is damaged",
    "synset": "is damaged.*04379999.*SYNSET/ID",
    "empty list": "lists no shape",
    "no shape": "table1.txt cannot be read",
    "empty": "table1.txt is empty; it needs 7",
    "columns": "table1.txt is damaged .*from 7 to 6 at row 2",
    "six": "table1.txt has 6 numbers a line; it needs 7",
    "word": "table1.txt is damaged .*'one'",
    "part": "table1.txt has part 46 in line 2, but Table has the parts 47 to",
    "half": "table1.txt has part 47.5 in line 1",
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_named(tmp_path, kind):
    damaged(write(tmp_path), kind)
    with pytest.raises(UsageError, match=BAD[kind]) as error:
        data.load("shapenet_part", "test", tmp_path)
    assert "\n" not in str(error.value)
