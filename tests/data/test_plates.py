"""Synthetic plates: what covers them, looks, and folders of real photos."""

import csv
import hashlib

import numpy as np
from PIL import Image
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import plate_folder, plates
from jaxedge.data import plate_scenes as scenes
from jaxedge.features import plates as features

N = 240
# Sums of the pixels of the first plates, and what their numbers hash to.
FROZEN = [3250645, 3968297, 4051248, 4037083, 3518278, 2990459]
DIGEST = "5ac8597565c9e5c6"


@pytest.fixture(scope="module")
def drawn():
    return plates.draw(range(N))


def test_photos(drawn):
    image, area, label = drawn
    assert image.shape == (N, 96, 96, 3) and image.dtype == np.uint8
    # A third of each class: five standard errors.
    shares = np.bincount(label, minlength=3) / N
    assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / N)
    limits = (0, 0.03, 0.25, 1)
    for k in range(3):
        own = area[label == k]
        assert (own >= limits[k]).all() and (own < limits[k + 1]).all()
    assert (area[label == 0] == 0).mean() > 0.3  # Six in ten.


def test_what_covers_a_plate_can_be_seen():
    """Without noise, stains and light the pixels that differ are counted."""
    given = scenes.numbers([[0, 0, 0, i] for i in range(40)])
    x, y = scenes._places(given.plate)
    radius = np.hypot(x, y)
    image = np.full((3, *x.shape), -9.0, np.float32)
    area = scenes._heap(image, given, x, y, radius)
    on = radius < 0.97
    covered = (image[0] != -9) & on
    np.testing.assert_allclose(
        area, covered.sum((1, 2)) / on.sum((1, 2)), rtol=1e-6
    )
    assert not ((image[0] != -9) & ~on).any()
    # Of any kind of left-over the colour is where that kind should be.
    assert (image[:, covered] > -1).all() and (image[:, covered] < 2).all()


def test_the_same_plates_are_drawn_again(drawn):
    few = plates.draw([5, 2])
    np.testing.assert_array_equal(few.image_NxSxSx3, drawn[0][[5, 2]])
    for other in (
        plates.draw([5], split="test"),
        plates.draw([5], seed=1),
        plates.draw([5], canteen=1),
    ):
        assert (other.image_NxSxSx3 != drawn[0][5]).mean() > 0.3


def test_pixels_are_frozen(drawn):
    """A change of what is drawn changes every result that was told of it."""
    sums = drawn.image_NxSxSx3[:6].astype(np.int64).sum((1, 2, 3))
    # Floating point may round single pixels apart from machine to machine.
    np.testing.assert_allclose(sums, FROZEN, rtol=1e-4)
    numbers = scenes.numbers([[0, 0, 0, 0]])
    digest = hashlib.sha256(numbers.plate.tobytes()).hexdigest()
    assert digest.startswith(DIGEST)


def test_canteens_look_apart(drawn):
    means = [drawn[0].mean((0, 1, 2))]
    for canteen in range(1, 4):
        image = plates.draw(range(16), canteen=canteen).image_NxSxSx3
        means.append(image.mean((0, 1, 2)))
        look = plates.looks(canteen)
        assert look == plates.looks(canteen) != plates.looks(0)
    apart = np.abs(np.subtract.outer(means, means).diagonal(axis1=1, axis2=3))
    assert (apart.max(-1) + 99 * np.eye(4) > 3).all()


def test_features_are_of_the_photos(drawn):
    source = data.load("plates", "train", n=70)
    assert source.x.shape == (70, 128) and source.classes == plates.CLASSES
    np.testing.assert_array_equal(source.y, drawn.label_N[:70])
    np.testing.assert_array_equal(source.aux["area"], drawn.area_N[:70])
    np.testing.assert_array_equal(
        source.x[65:], features.of_pixels(drawn[0][65:70])
    )
    photos = data.load("plates", "train", n=3, features=False)
    np.testing.assert_allclose(photos.x * 255, drawn[0][:3], atol=1e-4)


def test_every_turn():
    source = data.load("plates_turned", "train", n=3)
    plain = data.load("plates", "train", n=3)
    assert len(source.y) == 24 and len(source.aux["area"]) == 24
    np.testing.assert_array_equal(source.y, np.repeat(plain.y, 8))
    np.testing.assert_array_equal(source.x[::8], plain.x)
    test = data.load("plates_turned", "test", n=3)
    assert test.x.shape == (3, 128)
    photos = plates.read("train", n=2, features=False, turned=True)
    turned = features.maps(photos.x)
    assert np.mean(np.abs(turned - source.x[:16]) > 1e-6) < 0.01


def test_canteens_are_sites():
    source = data.load("plates_canteens", "valid", n=2)
    assert data.sites_of("plates_canteens") == plates.SITES
    np.testing.assert_array_equal(source.aux["site"], np.repeat(range(9), 2))
    third = data.load("plates", "valid", n=2, canteen=3)
    np.testing.assert_array_equal(source.x[6:8], third.x)


@pytest.mark.parametrize(
    "area, label",
    [(0, 0), (0.0299, 0), (0.03, 1), (0.2499, 1), (0.25, 2), (0.7, 2)],
)
def test_limits_of_classes(area, label):
    assert plates.classes_of(area) == label


def test_squares():
    """Means of blocks, where the blocks fit, and the middle of the rest."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (288, 310, 3), np.uint8)
    blocks = image[:, 11:299].reshape(96, 3, 96, 3, 3).astype(float)
    expected = np.floor(blocks.mean((1, 3)) + 0.5)
    np.testing.assert_array_equal(plates.square(image), expected)
    same = image[:96, :96]
    np.testing.assert_array_equal(plates.square(same), same)
    for shape in ((50, 40, 3), (97, 1000, 3), (1999, 1024, 3)):
        flat = np.full(shape, 7, np.uint8)
        assert plates.square(flat).shape == (96, 96, 3)
        assert (plates.square(flat) == 7).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"split": "all"}, "split 'all'"),
        ({"n": 0}, "n is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"canteen": 1.5}, "canteen must be a whole number"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(UsageError, match=message):
        plates.read(**{"split": "train", **changes})


def test_no_such_plates():
    for indices in ([], [-1]):
        with pytest.raises(UsageError, match="from 0 on"):
            plates.draw(indices)


# Folders of real photos.


@pytest.fixture
def folder(tmp_path):
    """60 photos of three classes and two canteens, in a table."""
    place = tmp_path / "plate_folder"
    place.mkdir()
    photos = plates.draw(range(60)).image_NxSxSx3
    rows = []
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(place / f"{i}.png")
        rows.append([f"{i}.png", plates.CLASSES[i % 3], f"canteen {i // 30}"])
    write(place, rows)
    return tmp_path


def write(place, rows, head=("file", "class", "canteen")):
    with (place / "plates.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_a_table_of_photos(folder):
    sources = {s: data.load("plate_folder", s, folder) for s in data.SPLITS}
    assert [len(s.y) for s in sources.values()] == [42, 6, 12]
    assert plate_folder.names(folder) == ("canteen 0", "canteen 1")
    test = sources["test"]
    np.testing.assert_array_equal(np.bincount(test.y), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(test.aux["site"]), [6, 6])
    # Features of the file, which has no loss.
    photos = plates.draw(range(60)).image_NxSxSx3
    known = np.asarray(features.of_pixels(photos))
    together = np.concatenate([s.x for s in sources.values()])
    for x in together:
        assert (np.abs(known - x).max(1) == 0).any()
    images = data.load("plate_folder", "test", folder, features=False)
    assert images.x.shape == (12, 96, 96, 3) and images.x.max() <= 1


def test_folders_of_classes(folder):
    place = folder / "plate_folder"
    (place / "plates.csv").unlink()
    for i in range(60):
        to = place / plates.CLASSES[i % 3]
        to.mkdir(exist_ok=True)
        (place / f"{i}.png").rename(to / f"{i}.png")
    source = data.load("plate_folder", "train", folder)
    np.testing.assert_array_equal(np.bincount(source.y), [14, 14, 14])
    assert plate_folder.names(folder) == ("canteen",)
    (place / "full").mkdir()
    with pytest.raises(UsageError, match=r"'full'.*clean, lots, some"):
        data.load("plate_folder", "train", folder)


@pytest.mark.parametrize(
    "row, message",
    [
        (["0.png", "full", "a"], "line 2.*'full'.*clean"),
        (["absent.png", "clean", "a"], "line 2.*absent.png.*no such file"),
        (["../secret.png", "clean", "a"], "line 2.*outside"),
        (["1.png", "some", "a"], "as line 2 does"),
    ],
)
def test_bad_lines(folder, row, message):
    write(folder / "plate_folder", [row, ["1.png", "some", "b"]])
    with pytest.raises(UsageError, match=message):
        data.load("plate_folder", "train", folder)


def test_bad_folders(folder, tmp_path):
    place = folder / "plate_folder"
    (place / "3.png").write_bytes((place / "3.png").read_bytes()[:200])
    with pytest.raises(UsageError, match="3.png is no readable image"):
        for split in data.SPLITS:
            data.load("plate_folder", split, folder)
    write(place, [], ("file", "canteen"))
    with pytest.raises(UsageError, match="lacks the column 'class'"):
        data.load("plate_folder", "train", folder)
    write(place, [])
    with pytest.raises(UsageError, match="holds no photo"):
        data.load("plate_folder", "train", folder)
    with pytest.raises(UsageError, match="CLASS/.*jpg"):
        data.load("plate_folder", "train", place)
