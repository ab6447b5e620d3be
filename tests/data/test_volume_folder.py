"""A folder of volumes with a table, as a user may have put it together."""

import csv

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import volume_folder

N, SHAPE = 10, (6, 9, 8)
SIZE = (4, 6, 10)


def volume(i):
    """An image, all of whose voxels differ, and a region of 2 x 3 x 4."""
    image = (1000 * i + np.arange(np.prod(SHAPE))).reshape(SHAPE)
    mask = np.zeros(SHAPE, np.uint8)
    z, y, x = i % 4, i % 6, i % 5
    mask[z : z + 2, y : y + 3, x : x + 4] = 1
    return image.astype(np.int16), mask


def write(folder, rows=None, names=None, **changed):
    """Volumes and their table; `changed` replaces arrays of case 3."""
    folder = folder / "volume_folder"
    folder.mkdir()
    for i in range(N):
        image, mask = volume(i)
        arrays = dict(
            image=image,
            mask=mask,
            spacing_xyz=np.array([0.7, 0.8, 3.0 + i]),
            origin_xyz=np.zeros(3),
            direction=np.eye(3).ravel(),
        )
        for kind in ("image", "mask"):
            own = dict(arrays)
            if i == 3:
                own |= changed.get(kind, {})
            np.savez(folder / f"{i}_{kind}.npz", **own)
    names = names or ["id", "image", "mask", "label", "fold"]
    rows = table() if rows is None else rows
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return folder.parent


def table(**cells):
    """Rows of the table; `cells` change those of case 3."""
    rows = []
    for i in range(N):
        row = dict(
            id=f"case {i}",
            image=f"{i}_image.npz",
            mask=f"{i}_mask.npz",
            label="ab"[i % 2],
            fold=i // 2,
        )
        if i == 3:
            row |= cells
        rows.append(list(row.values()))
    return rows


def test_splits_are_folds(tmp_path):
    root = write(tmp_path)
    seen = {}
    for split in volume_folder.SPLITS:
        source = volume_folder.read(split, root, size=SIZE, fold=3)
        seen[split] = source.aux["case"].tolist()
        assert source.x.shape == (len(source.y), *SIZE, 2)
        assert source.classes == ("a", "b") and source.name == "volume_folder"
        assert source.y.tolist() == [i % 2 for i in seen[split]]
        want = [[3.0 + i, 0.8, 0.7] for i in seen[split]]
        np.testing.assert_allclose(source.aux["spacing"], want, rtol=1e-6)
    # The last fold follows, and after it the first.
    assert seen == {"test": [6, 7], "valid": [8, 9], "train": [*range(6)]}
    last = volume_folder.read("valid", root, size=SIZE, fold=4)
    assert last.aux["case"].tolist() == [0, 1]


def test_crops_are_around_the_region(tmp_path):
    source = volume_folder.read("train", write(tmp_path), size=SIZE, fold=3)
    for i, x in enumerate(source.x):
        image, mask = volume(i)
        inside = x[..., 1] == 1
        np.testing.assert_array_equal(x[..., 0][inside], image[mask > 0])
        # The region is 2 x 3 x 4 in the middle of 4 x 6 x 10.
        places = np.argwhere(inside)
        assert places.min(0).tolist() == [1, 2, 3]
        assert places.max(0).tolist() == [2, 4, 6]
        # What is beside is that of the file, or beyond it the smallest.
        low = np.argwhere(mask)[0] - [1, 2, 3]
        for place in np.ndindex(SIZE):
            at = low + place
            within = (at >= 0).all() and (at < SHAPE).all()
            want = image[tuple(at)] if within else image.min()
            assert x[..., 0][place] == want


def test_folds_are_dealt_out_by_class(tmp_path):
    rows = [row[:4] for row in table()]
    root = write(tmp_path, rows, ["id", "image", "mask", "label"])
    path = root / volume_folder.TABLE
    found = volume_folder.cases(path)
    for label in "ab":
        folds = [case.fold for case in found if case.label == label]
        assert sorted(folds) == [0, 1, 2, 3, 4]
    # The order of the rows has no part in it.
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[:0:-1]]))
    again = {case.id: case.fold for case in volume_folder.cases(path)}
    assert again == {case.id: case.fold for case in found}


def test_tables_of_spreadsheets(tmp_path):
    """A byte-order mark, spaces, blank lines and other columns."""
    root = write(tmp_path)
    path = root / volume_folder.TABLE
    lines = path.read_text().splitlines()
    text = "\n\n".join(line.replace(",", " , ") + ",x" for line in lines)
    path.write_text(text + "\n", encoding="utf-8-sig")
    found = volume_folder.cases(path)
    assert [case.id for case in found] == [f"case {i}" for i in range(N)]
    assert found[2].image == path.parent / "2_image.npz"
    source = volume_folder.read(
        "test", root, size=SIZE, classes=("b", "a"), fold=0
    )
    assert source.y.tolist() == [1, 0] and source.classes == ("b", "a")


MOVED = {"origin_xyz": np.array([0.0, 0.0, 5.0])}
NAN = np.where(np.arange(432).reshape(SHAPE) == 200, np.nan, 1.0)
FILES = {
    "geometry": (dict(mask=MOVED), "case 'case 3'.*origin.*resample"),
    "size": (
        dict(mask={"mask": np.ones((5, 9, 8))}),
        "case 'case 3'.*does not lie on the grid.*size",
    ),
    "empty": (dict(mask={"mask": np.zeros(SHAPE)}), "case 'case 3'.*is empty"),
    "label": (dict(mask={"mask": 2 * volume(3)[1]}), "case 'case 3'.*label 1"),
    "large": (
        dict(mask={"mask": np.ones(SHAPE)}),
        r"case 'case 3'.*spans \(6, 9, 8\).*\(4, 6, 10\)",
    ),
    "nan": (dict(image={"image": NAN}), "case 'case 3'.*NaN"),
}


@pytest.mark.parametrize("kind", FILES)
def test_bad_volumes_are_named(tmp_path, kind):
    changed, message = FILES[kind]
    root = write(tmp_path, **changed)
    with pytest.raises(UsageError, match=message) as error:
        volume_folder.read("test", root, size=SIZE, fold=1)
    assert "\n" not in str(error.value)
    # Other cases are not looked at.
    volume_folder.read("test", root, size=SIZE, fold=0)


def test_damaged_and_missing_files_are_named(tmp_path):
    root = write(tmp_path)
    file = root / "volume_folder" / "3_image.npz"
    file.write_bytes(b"none")
    for message in ("no readable .npz", "3_image.npz is missing"):
        with pytest.raises(UsageError, match=f"case 'case 3'.*{message}"):
            volume_folder.read("test", root, size=SIZE, fold=1)
        file.unlink(missing_ok=True)


TABLES = {
    "column": (
        dict(names=["id", "image", "mask", "class", "fold"]),
        "lacks the column label: its first line is 'id, image, mask, class",
    ),
    "twice": (dict(rows=table(id="case 1")), "lines 3 and 5 .*'case 1'"),
    "no id": (dict(rows=table(id=" ")), "line 5 of .* has no id"),
    "no label": (dict(rows=table(label="")), "line 5 of .* has no label"),
    "fold": (dict(rows=table(fold="1.5")), "line 5 .* fold '1.5'"),
    "gap": (dict(rows=table(fold=7)), "folds 0, 1, 2, 3, 4, 7, but"),
    "two folds": (dict(rows=table()[:4]), "folds 0, 1, but there must be 3"),
    "cells": (dict(rows=[*table(), ["x", "y"]]), "line 12 of .* has 2 cells"),
    "rows": (dict(rows=[]), "names no case"),
    "classes": (dict(rows=table()[::2]), "all 5 cases .* have the label 'a'"),
    "repeats": (
        dict(
            names=["id", "image", "mask", "label", "label"],
        ),
        "repeats one",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_bad_tables_are_named(tmp_path, kind):
    changed, message = TABLES[kind]
    root = write(tmp_path, **changed)
    with pytest.raises(UsageError, match=message) as error:
        volume_folder.cases(root / volume_folder.TABLE)
    assert "\n" not in str(error.value)


def test_no_table(tmp_path):
    with pytest.raises(UsageError, match="cases.csv cannot be read.*No such"):
        volume_folder.read("test", tmp_path)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"fold": 5}, "fold is 5, but must lie in"),
        ({"size": (4, 6)}, "three numbers"),
        ({"size": (4, 6, 0)}, "size is 0"),
        ({"classes": ("a", "c")}, "label on line 3 of .* 'b'.*Known: a, c"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, given, message):
    given = {"split": "test", "size": SIZE, **given}
    with pytest.raises(UsageError, match=message):
        volume_folder.read(root=write(tmp_path), **given)


def test_a_mask_on_another_grid_can_be_resampled(tmp_path):
    pytest.importorskip("SimpleITK")
    # Twice as fine along z, at the same place: the region of volume(3) is
    # z in [3, 5), of which every slice is there twice.
    image, mask = volume(3)
    fine = dict(
        mask=np.repeat(mask, 2, 0),
        spacing_xyz=np.array([0.7, 0.8, 3.0]),
        origin_xyz=np.array([0.0, 0.0, -1.5]),
    )
    root = write(tmp_path, mask=fine)
    source = volume_folder.read("test", root, size=SIZE, fold=1, resample=True)
    x = source.x[1]
    np.testing.assert_array_equal(x[..., 0][x[..., 1] == 1], image[mask > 0])
