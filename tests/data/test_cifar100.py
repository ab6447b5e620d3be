"""Tests of CIFAR-100, on small archives in its official forms."""

import pickle

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import cifar100

ROWS = {"train": 200, "test": 100}
FINE = [f"fine_{i}" for i in range(100)]
COARSE = [f"coarse_{i}" for i in range(20)]


@pytest.fixture(scope="module")
def parts():
    """Fine labels, superclasses and images of each part."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(20), 5))
    found = {}
    for part, rows in ROWS.items():
        fine = rng.permutation(np.tile(np.arange(100), rows // 100))
        images = rng.integers(0, 256, (rows, 32, 32, 3), np.uint8)
        found[part] = (fine, group[fine], images)
    return found


def planes(images):
    return np.moveaxis(images, -1, 1).reshape(len(images), -1)


def as_python_2(content):
    """A dictionary as Python 2 pickles it: its texts are bytes."""
    return pickle.dumps(content, 2).replace(b"numpy._core.", b"numpy.core.")


def python(root, parts, **changes):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, (fine, coarse, images) in parts.items():
        content = {
            b"filenames": [b"a.png"] * len(fine),
            b"batch_label": b"1 of 1",
            b"fine_labels": fine.tolist(),
            b"coarse_labels": coarse.tolist(),
            b"data": planes(images),
        }
        for name, value in changes.items():
            content[name.encode()] = value
        (folder / part).write_bytes(as_python_2(content))
    meta = {
        b"fine_label_names": [name.encode() for name in FINE],
        b"coarse_label_names": [name.encode() for name in COARSE],
    }
    (folder / "meta").write_bytes(as_python_2(meta))


def binary(root, parts):
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    for part, (fine, coarse, images) in parts.items():
        columns = [coarse[:, None], fine[:, None], planes(images)]
        records = np.hstack(columns).astype(np.uint8)
        (folder / f"{part}.bin").write_bytes(records.tobytes())
    for kind, names in (("fine", FINE), ("coarse", COARSE)):
        path = folder / f"{kind}_label_names.txt"
        path.write_text("\n".join(names) + "\n\n", encoding="ascii")


WRITE = {"python": python, "binary": binary}


@pytest.fixture
def small(tmp_path, parts, monkeypatch):
    """A function (version, folder, changes) -> a root of small files."""
    monkeypatch.setattr(cifar100, "ROWS", ROWS)

    def make(version, folder="", **changes):
        WRITE[version](tmp_path / folder, parts, **changes)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "version, folder",
    [("python", "cifar100"), ("python", ""), ("binary", "cifar100")],
)
def test_every_version_gives_the_same_images(small, parts, version, folder):
    root = small(version, folder)
    fine, coarse, images = parts["test"]
    source = data.load("cifar100", "test", root)
    assert source.x.dtype == np.float32 and source.name == "cifar100"
    assert source.classes == tuple(FINE) and source.aux is None
    np.testing.assert_allclose(source.x, images / 255, rtol=1e-6)
    np.testing.assert_array_equal(source.y, fine)
    super_ = data.load("cifar100_coarse", "test", root)
    assert super_.classes == tuple(COARSE)
    assert super_.name == "cifar100_coarse"
    np.testing.assert_array_equal(super_.y, coarse)
    np.testing.assert_array_equal(super_.x, source.x)


def test_the_last_tenth_of_the_training_images_is_for_validation(small, parts):
    root = small("binary")
    train, valid = (data.load("cifar100", s, root) for s in ("train", "valid"))
    assert (len(train.y), len(valid.y)) == (180, 20)
    fine, _, images = parts["train"]
    np.testing.assert_array_equal([*train.y, *valid.y], fine)
    np.testing.assert_allclose([*train.x, *valid.x], images / 255, rtol=1e-6)


def fails(root, match, name="cifar100"):
    with pytest.raises(UsageError, match=match) as error:
        data.load(name, "test", root)
    assert "\n" not in str(error.value)


def test_no_files_at_all(tmp_path):
    fails(tmp_path, "cifar100 holds no CIFAR-100.*cifar-100-python/ or")
    fails(tmp_path, "cifar100 holds no", "cifar100_coarse")


@pytest.mark.parametrize(
    "version, name", [("python", "test"), ("python", "meta"),
                      ("binary", "test.bin"),
                      ("binary", "fine_label_names.txt")],
)  # fmt: skip
def test_a_missing_or_cut_file_is_named(small, version, name):
    path = small(version) / f"cifar-100-{version}" / name
    path.write_bytes(path.read_bytes()[:-40])
    fails(path.parents[1], f"{path.name} .*replace it with an intact copy")
    path.unlink()
    fails(path.parents[1], f"{path.name} cannot be read")


GROUPS = np.arange(100) // 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fine_labels": [*range(99), 100]}, "fine label 100 at image 99"),
        ({"fine_labels": [-1, *range(99)]}, "fine label -1 at image 0"),
        ({"coarse_labels": [20] * 100}, "coarse label 20 at image 0, of 20"),
        ({"fine_labels": [0] * 99}, "99 fine labels for 100 images"),
        ({"fine_labels": [0.5] * 100}, "fine_labels that are no list of ints"),
        ({"fine_labels": [[0], [1, 2]]}, "no list of ints"),
        ({"fine_labels": [3] * 100, "coarse_labels": GROUPS.tolist()},
         "class 3 in several superclasses"),
        ({"data": np.zeros((99, 3072), np.uint8)}, "images uint8 .99, 3072."),
        ({"data": np.zeros((100, 3072))}, "images float64"),
        ({"data": [1, 2]}, "images list"),
    ],
)  # fmt: skip
def test_wrong_contents_are_told(small, changes, message):
    fails(small("python", **changes), f"test has.*{message}")


def test_a_pickle_without_labels(small):
    root = small("python")
    (root / "cifar-100-python" / "test").write_bytes(as_python_2({b"data": 1}))
    fails(root, "is no pickle with data, coarse_labels.*KeyError")


class Trap:
    """A pickle that shows that it was run."""

    def __reduce__(self):
        return pytest.fail, ("a function of a pickle was called",)


@pytest.mark.parametrize("name", ["test", "meta"])
def test_a_pickle_runs_nothing(small, name):
    root = small("python")
    path = root / "cifar-100-python" / name
    path.write_bytes(pickle.dumps(Trap()))
    fails(root, f"{name} is no pickle.*asks for _pytest.outcomes")


def test_names_that_are_not_a_hundred(small):
    root = small("binary")
    path = root / "cifar-100-binary" / "fine_label_names.txt"
    path.write_text("\n".join([*FINE[:99], FINE[0]]), encoding="ascii")
    fails(root, "does not have 100 different fine names")
    data.load("cifar100_coarse", "test", root)
