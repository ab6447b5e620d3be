"""Tests of a teacher's outputs in the files of FKD."""

import shutil

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import Source, fkd, make_source, teacher
from jaxedge.data.image_folders import Images
from jaxedge.learn import distill
from tests.data.torch_zip import Tensor, saved

CLASSES = tuple(f"n{i:08d}" for i in range(7))
EACH, M, K = 3, 4, 5


def outputs(seed, m=M, k=K):
    """Boxes, flips, classes and probabilities of an image."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(0.1, 0.9, (m, 2))
    start = rng.uniform(size=(m, 2)) * (1 - side)
    p = -np.sort(-rng.dirichlet(np.ones(len(CLASSES)), m), 1)
    order = np.stack([rng.permutation(len(CLASSES)) for _ in range(m)])
    return (
        np.hstack([start, side]).astype(np.float32),
        rng.uniform(size=m) < 0.5,
        order[:, :k],
        p[:, :k].astype(np.float32),
    )


def labels(index, value):
    """Classes as numbers of the values' kind, as they are saved."""
    return np.stack([index.astype(value.dtype), value], 1)


def write(path, boxes, flips, index, value):
    """Boxes and flips as numpy arrays, as is what the program has last."""
    path.write_bytes(saved(boxes, flips, labels(index, value)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of images, which nobody decodes, and of their outputs."""
    root = tmp_path_factory.mktemp("fkd")
    for label, name in enumerate(CLASSES):
        for part in ("images/train", "told/imagenet/train"):
            (root / part / name).mkdir(parents=True)
        for i in range(EACH):
            (root / "images/train" / name / f"{name}_{i}.JPEG").touch()
            path = root / "told/imagenet/train" / name / f"{name}_{i}.tar"
            write(path, *outputs(10 * label + i))
    return root


@pytest.fixture
def copied(made, tmp_path):
    """A copy, to be spoilt."""
    shutil.copytree(made, tmp_path / "fkd")
    return tmp_path / "fkd"


def source(root, held_out=1):
    """All images but the last ones of each class, of another split."""
    files = [
        path
        for name in CLASSES
        for path in sorted((root / "images/train" / name).iterdir())[
            : EACH - held_out
        ]
    ]
    y = [CLASSES.index(path.parent.name) for path in files]
    x = Images(files, 224)
    return Source(x, np.int32(y), CLASSES, "toy", "train")  # pyright: ignore


def seeds():
    return [10 * label + i for label in range(7) for i in range(EACH - 1)]


@pytest.mark.parametrize(
    "where", ["told", "told/imagenet", "told/imagenet/train"]
)
def test_rows_are_those_of_the_files(made, where):
    found = fkd.open(made / where, source(made))
    assert found.size == (224, 224) and found.classes == 7
    n = len(seeds())
    shapes = [found.stored.boxes, found.stored.flips, found.stored.index,
              found.stored.value]  # fmt: skip
    assert [a.shape for a in shapes] == [
        (n, M, 4),
        (n, M),
        (n, M, K),
        (n, M, K),
    ]
    assert [str(a.dtype) for a in shapes] == [
        "float32", "bool", "uint16", "float16",
    ]  # fmt: skip
    rows = np.array([5, 0, 5])
    want = [outputs(seeds()[row]) for row in rows]
    for i, name in enumerate(teacher.Rows._fields):
        got = getattr(found.stored, name)[rows]
        np.testing.assert_allclose(got, [w[i] for w in want], atol=5e-4)
    # Two crops of each of two images.
    picked = found.rows(np.array([[3], [1]]), np.array([[0, 2], [2, 1]]))
    two = [outputs(seeds()[3]), outputs(seeds()[1])]
    np.testing.assert_array_equal(
        picked.index, [two[0][2][[0, 2]], two[1][2][[2, 1]]]
    )
    assert found.stored.flips[:0].shape == (0, M)


def test_the_rest_goes_to_all_other_classes_or_to_none(made):
    """The distribution of every crop, by hand."""
    _, _, index, value = outputs(0)
    for rest in fkd.RESTS:
        told = fkd.open(made / "told", source(made), rest=rest).stored
        got = distill.recover(told.index[0], told.value[0], 7)
        left = (1 - value.sum(1, keepdims=True)) / 2
        want = np.repeat(left if rest == "even" else 0 * left, 7, 1)
        kept = value if rest == "even" else value / value.sum(1, keepdims=True)
        np.put_along_axis(want, index, kept, 1)
        np.testing.assert_allclose(got, want, atol=1.5e-3)


def test_tensors_lists_and_half_precision_will_do(copied):
    boxes, flips, index, value = outputs(0)
    path = copied / "told/imagenet/train" / CLASSES[0] / f"{CLASSES[0]}_0.tar"
    what = labels(index, value.astype(np.float16))
    path.write_bytes(
        saved([row.tolist() for row in boxes], Tensor(flips), Tensor(what))
    )
    told = fkd.open(copied / "told", source(copied)).stored
    np.testing.assert_allclose(told.boxes[0], boxes, rtol=1e-6)
    np.testing.assert_array_equal(told.flips[0], flips)
    np.testing.assert_array_equal(told.index[0], index)
    np.testing.assert_allclose(told.value[0], value, atol=5e-4)


def test_a_batch_reads_every_file_once(made, monkeypatch):
    found = fkd.open(made / "told", source(made))
    read, seen = fkd._read, []

    def counted(file, *how):
        seen.append(file)
        return read(file, *how)

    monkeypatch.setattr(fkd, "_read", counted)
    rows = np.array([2, 9, 2])
    for column in found.stored:
        assert len(column[rows]) == 3
    assert len(seen) == len({*seen}) == 2


def test_what_is_no_such_folder(made, tmp_path):
    assert fkd.is_folder(made / "told") and not fkd.is_folder(made / "images")
    assert not fkd.is_folder(tmp_path / "none")
    with pytest.raises(UsageError, match="none holds no outputs"):
        fkd.open(tmp_path / "none", source(made))
    with pytest.raises(UsageError, match="unknown rest 'evn'"):
        fkd.open(made / "told", source(made), rest="evn")
    array = make_source(
        np.zeros((7, 2, 2, 3), np.float32), np.arange(7), classes=CLASSES,
        name="arrays", split="train",
    )  # fmt: skip
    with pytest.raises(UsageError, match="images of arrays are in no folders"):
        fkd.open(made / "told", array)


def test_two_teachers_side_by_side_are_told(copied):
    shutil.copytree(copied / "told" / "imagenet", copied / "told" / "other")
    with pytest.raises(UsageError, match="imagenet/train and in other/train"):
        fkd.open(copied / "told", source(copied))


def place(root, part="told/imagenet/train", name=f"{CLASSES[3]}_1.tar"):
    return root / part / CLASSES[3] / name


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda r: place(r).unlink(), "lacks the outputs of 1 of 14 images"),
        (lambda r: place(r).rename(place(r, name="other.tar")),
         "lacks the outputs"),
        (lambda r: place(r, name="x.tar").touch(), "x.tar is of no image"),
        (lambda r: shutil.rmtree(place(r).parent), "told.* lacks the class"),
        (lambda r: (place(r).parents[1] / "n9").mkdir(),
         "toy lacks the class 'n9' of .*train: 8 folders of outputs, 7"),
    ],
)  # fmt: skip
def test_other_names_are_told_at_once(copied, spoil, message):
    spoil(copied)
    with pytest.raises(UsageError, match=message) as error:
        fkd.open(copied / "told", source(copied))
    assert "\n" not in str(error.value)


def changed(**changes):
    """The bytes of a file with other contents; functions of what it has."""
    parts = dict(
        zip(("boxes", "flips", "index", "value"), outputs(31), strict=True)
    )
    for name, change in changes.items():
        parts[name] = change(parts[name].copy())
    whole = labels(parts["index"], parts["value"])
    return saved(parts["boxes"], parts["flips"], whole)


def put(index, value):
    def change(array):
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    "content, message",
    [
        (b"PK\x03\x04 cut", "no readable file of torch.save"),
        (saved(1, 2), "does not hold boxes, flips and labels"),
        (saved("a", [True], [[0]]), "boxes that are no array of numbers"),
        (saved(np.zeros((4, 3)), np.zeros(4), np.zeros((4, 2, 5))),
         r"boxes \(4, 3\) and flips \(4,\)"),
        (saved(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 2, 5))),
         r"boxes \(0, 4\)"),
        (saved(np.zeros((4, 4)), np.zeros(4), np.zeros((4, 5))),
         r"labels \(4, 5\), but needs \[4, 2, k\]"),
        (changed(flips=lambda f: f + 1.5), "neither true nor false"),
        (changed(boxes=put((2, 0), -0.1)), "of crop 2, which is not inside"),
        (changed(boxes=put((1, 2), 0)), "of crop 1, which is not inside"),
        (changed(boxes=put((1, 3), 1.1)), "not inside"),
        (changed(boxes=put((3, 1), np.nan)), "of crop 3, which is not inside"),
        (changed(index=put((1, 0), 7)), "of crop 1, of 7 from 0"),
        (changed(index=put((1, 0), -1)), "of crop 1, of 7 from 0"),
        (changed(index=lambda i: i + 0.5), "of crop 0, of 7 from 0"),
        (changed(index=lambda i: 0 * i), "a class twice in crop 0"),
        (changed(value=put((2, 1), -0.1)), "of crop 2, which are not in"),
        (changed(value=put((2, 1), np.nan)), "of crop 2, which are not in"),
        (changed(value=lambda v: 0 * v + 0.3), "sum 1.5 in crop 0"),
        (changed(value=lambda v: 0 * v), "sum 0 in crop 0"),
    ],
)  # fmt: skip
def test_wrong_contents_are_told_when_they_are_read(copied, content, message):
    found = fkd.open(copied / "told", source(copied))
    row = seeds().index(31)
    place(copied).write_bytes(content)
    with pytest.raises(UsageError, match=f"n00000003_1.tar .*{message}"):
        found.stored.flips[[0, row]]


def test_a_few_files_are_looked_at_before(copied):
    place(copied).write_bytes(b"cut")
    with pytest.raises(UsageError, match="n00000003_1.tar is no readable"):
        fkd.open(copied / "told", source(copied))


def test_files_of_another_number_of_crops(copied):
    # None of those that are looked at before.
    write(place(copied, name=f"{CLASSES[3]}_0.tar"), *outputs(30, m=M - 1))
    found = fkd.open(copied / "told", source(copied))
    with pytest.raises(UsageError, match="3 crops of 5 classes, but .* has 4"):
        found.stored.boxes[:]
    name = CLASSES[0]
    first = copied / "told/imagenet/train" / name / f"{name}_0.tar"
    write(first, *outputs(0, k=2))
    with pytest.raises(UsageError, match="4 crops of 5 classes, but .* of 2"):
        fkd.open(copied / "told", source(copied))
