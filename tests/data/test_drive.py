import functools

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import drive

pytest.importorskip("cv2", reason="needs the extra vision")
Image = pytest.importorskip("PIL.Image", reason="needs the extra vision")
# Three images a part, of a size that falls into no bytes and no tiles.
SHAPE = (44, 37)
NUMBERS = {"train": range(21, 24), "test": range(1, 4)}
small = functools.partial(drive.read, patches=31, side=8, valid=0.3)


@pytest.fixture(autouse=True)
def a_small_set(request, monkeypatch):
    if "real_file" not in request.fixturenames:
        monkeypatch.setattr(drive, "SHAPE", SHAPE)
        monkeypatch.setattr(drive, "NUMBERS", NUMBERS)


@pytest.fixture(scope="module")
def eyes():
    """By part and number: photograph, vessels, field of view."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    seen = (rows - 22) ** 2 + (columns - 18) ** 2 < 17**2
    return {
        (part, n): (
            rng.integers(0, 256, (*SHAPE, 3), np.uint8),
            (rng.random(SHAPE) < 0.2) & (rows > 3),
            seen,
        )
        for part, numbers in NUMBERS.items()
        for n in numbers
    }


def write_archive(root, eyes, **changed):
    folder = root / "drive"
    folder.mkdir(parents=True)
    content = {}
    for part, numbers in NUMBERS.items():
        for n in numbers:
            image = Image.fromarray(eyes[part, n][0])
            image.save(folder / f"{n:02}_{part}.png")
        # The order of the archive is of no matter.
        order = list(numbers)[::-1]
        content[f"{part}_ids"] = np.array(order)
        for i, name in ((1, "vessel"), (2, "fov")):
            masks = np.stack([eyes[part, n][i] for n in order])
            content[f"{part}_{name}"] = np.packbits(masks, axis=-1)
    np.savez(folder / "masks.npz", **(content | changed))
    return folder


def write_shipped(root, eyes):
    folder = root / "DRIVE"
    for (part, n), (photograph, vessel, seen) in eyes.items():
        long = {"train": "training", "test": "test"}[part]
        for kind in ("images", "1st_manual", "mask"):
            (folder / long / kind).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(photograph)
        image.save(folder / long / "images" / f"{n:02}_{long}.tif")
        for name, mask in (
            (f"1st_manual/{n:02}_manual1.gif", vessel),
            (f"mask/{n:02}_{long}_mask.gif", seen),
        ):
            Image.fromarray(255 * mask.astype(np.uint8)).save(
                folder / long / name
            )
    return folder


def test_both_forms_hold_the_same(tmp_path, eyes):
    one, two = tmp_path / "one", tmp_path / "two"
    write_archive(one, eyes)
    write_shipped(two, eyes)
    for split in data.SPLITS:
        a, b = (small(split, root) for root in (one, two))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)


def test_whole_images_are_tested(tmp_path, eyes):
    write_archive(tmp_path, eyes)
    test = small("test", tmp_path)
    assert test.x.shape == (3, *SHAPE, 1) and test.y.shape == (3, *SHAPE)
    assert test.classes == ("background", "vessel")
    for n, y in zip(NUMBERS["test"], test.y, strict=True):
        _, vessel, seen = eyes["test", n]
        np.testing.assert_array_equal(y, np.where(seen, vessel, data.IGNORED))


def places(source, eyes):
    """For every patch the number of its image, and the pixel at its centre."""
    found = []
    for y in source.y:
        for n in NUMBERS["train"]:
            _, vessel, seen = eyes["train", n]
            labels = np.where(seen, vessel, data.IGNORED)
            windows = np.lib.stride_tricks.sliding_window_view(labels, (8, 8))
            alike = np.argwhere((windows == y).all((2, 3)))
            if len(alike):
                found.append((n, *(alike[0] + 4)))
    return found


def test_patches_are_of_their_splits_images(tmp_path, eyes):
    write_archive(tmp_path, eyes)
    train, valid = small("train", tmp_path), small("valid", tmp_path)
    assert train.x.shape == (20, 8, 8, 1) and valid.x.shape == (11, 8, 8, 1)
    for source, numbers, counts in ((train, {21, 22}, [10, 10]),
                                    (valid, {23}, [11])):  # fmt: skip
        found = places(source, eyes)
        assert len(found) == len(source.y)
        assert {n for n, *_ in found} == numbers
        drawn = [sum(m == n for m, *_ in found) for n in sorted(numbers)]
        assert drawn == counts
        # Centres are in the field of view, and not always the same.
        assert all(eyes["train", n][2][row, col] for n, row, col in found)
        assert len(set(found)) > 0.8 * len(found)
    again = small("train", tmp_path)
    np.testing.assert_array_equal(again.x, train.x)


def test_the_real_set(real_file):
    """Counts of the owners' masks, and the paper's patches."""
    root = real_file("drive/masks.npz").parents[1]
    train, valid, test = (data.load("drive", s, root) for s in data.SPLITS)
    assert train.x.shape == (4500, 64, 64, 1)
    assert valid.x.shape == (500, 64, 64, 1)
    assert test.x.shape == (20, 584, 565, 1)
    for source in (train, valid, test):
        assert 0 <= source.x.min() < 0.1 and source.x.max() == 1
    # Of the field of view of the test images 12.73 % are vessels; of all their
    # pixels the 540 pixels wide field takes .69.
    assert round((test.y == 1).sum() / (test.y >= 0).sum(), 4) == 0.1273
    assert 0.68 < (test.y >= 0).mean() < 0.7
    share = (train.y == 1).sum() / (train.y >= 0).sum()
    assert 0.11 < share < 0.15
    # Vessels are darker than what is beside them.
    assert test.x[test.y == 1].mean() < test.x[test.y == 0].mean() - 0.05


def damaged(tmp_path, eyes, kind):
    if kind == "nothing":
        (tmp_path / "drive").mkdir()
        return
    if kind in ("no mask", "no test"):
        folder = write_shipped(tmp_path, eyes)
        name = {
            "no mask": "training/mask/22_training_mask.gif",
            "no test": "test/1st_manual/01_manual1.gif",
        }[kind]
        (folder / name).unlink()
        return
    changes = {
        "shape": {"train_fov": np.zeros((3, 44, 4), np.uint8)},
        "number": {"test_ids": np.array([1, 2, 4])},
        "key": {"train_ids": np.array([21, 22, 23, 24])},
    }
    folder = write_archive(tmp_path, eyes, **changes.get(kind, {}))
    if kind == "archive":
        (folder / "masks.npz").write_bytes(b"none")
    elif kind == "picture":
        (folder / "21_train.png").write_bytes(b"none")
    elif kind == "missing":
        (folder / "03_test.png").unlink()
    elif kind == "size":
        wide = np.zeros((44, 38, 3), np.uint8)
        Image.fromarray(wide).save(folder / "02_test.png")


BAD = {
    "nothing": "holds no DRIVE.*training/",
    "no mask": "22_training_mask.gif is missing",
    "no test": "01_manual1.gif is missing",
    "shape": r"masks of shape \(3, 44, 4\).*\(3, 44, 5\)",
    "number": "no mask of image 03",
    "key": r"masks of shape \(3, 44, 5\).*\(4, 44, 5\)",
    "archive": "no archive of DRIVE",
    "picture": "21_train.png is no readable picture",
    "missing": "03_test.png is missing",
    "size": "02_test.png has 44 x 38 pixels.*44 x 37",
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_named(tmp_path, eyes, kind):
    damaged(tmp_path, eyes, kind)
    with pytest.raises(UsageError, match=BAD[kind]) as error:
        for split in data.SPLITS:
            small(split, tmp_path)
    assert "\n" not in str(error.value)


MISUSES = {
    "side is 38": {"side": 38},
    "patches is 2": {"patches": 2},
    "valid is 1.5": {"valid": 1.5},
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_bad_argument_is_told(tmp_path, eyes, words):
    write_archive(tmp_path, eyes)
    with pytest.raises(UsageError, match=words):
        small("train", tmp_path, **MISUSES[words])


def test_patches_need_a_field_of_view(tmp_path, eyes):
    edge = np.zeros((3, *SHAPE), bool)
    edge[:, :2] = True  # Patches around it would not lie in the image.
    write_archive(tmp_path, eyes, train_fov=np.packbits(edge, axis=-1))
    with pytest.raises(UsageError, match="no patch of 8 pixels has its centre"):
        small("train", tmp_path)
