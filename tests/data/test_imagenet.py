"""Tests of ImageNet-1k, on three of its classes."""

import jax
import numpy as np
import pytest
from scipy import io

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import image_folders, imagenet, teacher

Image = pytest.importorskip("PIL.Image")
CLASSES = ("n01440764", "n01443537", "n02012849")
TRAIN = 21
# As the development kit counts: other than by name, and not the first numbers.
NUMBERS = {7: "n02012849", 2: "n01440764", 9: "n01443537"}
VAL = (9, 7, 2, 7, 9)


@pytest.fixture(autouse=True)
def three(monkeypatch):
    monkeypatch.setattr(imagenet, "CLASSES", 3)


def png(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "made.png"
    Image.fromarray(pixels).save(path)
    path.rename(folder / name)


@pytest.fixture(scope="module")
def pixels():
    """An image of each class; its shorter side stays as it is at S = 64."""
    rng = np.random.default_rng(0)
    return dict(
        zip(CLASSES, rng.integers(0, 256, (3, 73, 146, 3), np.uint8),
            strict=True)
    )  # fmt: skip


def train(root, pixels):
    for name, image in pixels.items():
        folder = root / "imagenet" / "train" / name
        png(folder, f"{name}_0.JPEG", image)
        content = (folder / f"{name}_0.JPEG").read_bytes()
        for i in range(1, TRAIN):
            (folder / f"{name}_{i}.JPEG").write_bytes(content)


def flat(root, pixels):
    for i, number in enumerate(VAL, 1):
        name = f"ILSVRC2012_val_{i:08d}.JPEG"
        png(root / "imagenet" / "val", name, pixels[NUMBERS[number]])


def kit(root, numbers=VAL, synsets=NUMBERS):
    """With a synset that has others below it, which is no class."""
    folder = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    text = "".join(f"{number}\n" for number in numbers)
    (folder / imagenet.LABELS).write_text(text, encoding="ascii")
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"),
             ("num_children", "O")]  # fmt: skip
    rows = [(i, name, "a, b", 0) for i, name in synsets.items()]
    rows.append((1001, "n00001740", "entity", 2))
    table = np.array(rows, kinds)[:, None]
    io.savemat(folder / imagenet.META, {"synsets": table})


@pytest.fixture
def root(tmp_path, pixels):
    train(tmp_path, pixels)
    flat(tmp_path, pixels)
    kit(tmp_path)
    return tmp_path


def test_flat_validation_images_have_the_classes_of_the_kit(root, pixels):
    source = data.load("imagenet", "test", root)
    assert source.classes == CLASSES and source.name == "imagenet"
    assert source.x.shape == (5, 224, 224, 3)
    want = [CLASSES.index(NUMBERS[number]) for number in VAL]
    np.testing.assert_array_equal(source.y, want)
    small = imagenet.read("test", root, side=64)
    # 64 of 73 rows and of 146 columns: 4.5 (to even) and 41 are left over.
    images = np.stack([pixels[CLASSES[label]] for label in source.y])
    np.testing.assert_array_equal(
        small.x[:], images[:, 4:68, 41:105].astype(np.float32) / 255
    )


def test_validation_images_in_folders_need_no_kit(tmp_path, pixels):
    train(tmp_path, pixels)
    for name, image in pixels.items():
        png(tmp_path / "imagenet" / "val" / name, "a.JPEG", image)
    source = data.load("imagenet", "test", tmp_path)
    np.testing.assert_array_equal(source.y, [0, 1, 2])
    (tmp_path / "imagenet" / "val" / CLASSES[2]).rename(tmp_path / "gone")
    with pytest.raises(UsageError, match="such as 'n02012849'"):
        data.load("imagenet", "test", tmp_path)


def test_splits_share_no_image_and_leave_none(root):
    parts = [data.load("imagenet", split, root) for split in ("train", "valid")]
    names = [path.name for part in parts for path in part.x.paths]  # pyright: ignore
    assert len({*names}) == len(names) == 3 * TRAIN
    np.testing.assert_array_equal(np.bincount(parts[1].y), [1, 1, 1])
    for part in parts:
        own = [p.name.split("_")[0] for p in part.x.paths]  # pyright: ignore
        assert own == [CLASSES[label] for label in part.y]


def test_the_whole_of_an_image_is_squeezed_and_decoded_once(
    root, pixels, monkeypatch
):
    source = imagenet.read("test", root, side=64)
    middle, whole = source.x.with_whole(32)  # pyright: ignore
    decoded = []
    decode = image_folders._decode
    monkeypatch.setattr(
        image_folders, "_decode", lambda f: decoded.append(f) or decode(f)
    )
    rows = np.array([3, 1])
    np.testing.assert_array_equal(middle[rows], source.x[rows])
    assert len(decoded) == 4  # Of both, for `source` keeps none.
    found = whole[rows]
    assert len(decoded) == 4 and whole.shape == (5, 32, 32, 3)
    image = Image.fromarray(pixels["n02012849"])
    want = image.resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        found, np.float32(2 * [np.asarray(want)]) / 255
    )
    whole[np.array([0])]
    assert len(decoded) == 5


def spoil_class(root):
    (root / "imagenet" / "train" / "n01440764").rename(
        root / "imagenet" / "train" / "tench"
    )


def spoil_count(root):
    (root / "imagenet" / "train" / CLASSES[0]).rename(root / "gone")


def spoil_val(root):
    (root / "imagenet" / "val").rename(root / "gone")


def spoil_name(root):
    folder = root / "imagenet" / "val"
    (folder / "ILSVRC2012_val_00000003.JPEG").rename(
        folder / "ILSVRC2012_val_00000013.JPEG"
    )


def remake(root, **changes):
    folder = root / "imagenet" / "ILSVRC2012_devkit_t12"
    folder.rename(root / "old")
    if changes:
        kit(root, **changes)


def spoil_meta(root):
    folder = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    content = (folder / "meta.mat").read_bytes()
    (folder / "meta.mat").write_bytes(content[:200])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (spoil_class, "the folder 'tench'.*named as n01440764"),
        (spoil_count, "2 classes, but ImageNet-1k has 3"),
        (spoil_val, "val is missing"),
        (spoil_name, "val_00000004.JPEG is image 3 .*_00000003"),
        (remake, "no class folders.*development kit at .*devkit_t12"),
        (lambda r: remake(r, numbers=(9, 7, 2)), "3 images, but .* holds 5"),
        (lambda r: remake(r, numbers=("a",) * 5), "no list of classes"),
        (lambda r: remake(r, numbers=(9, 7, 2, 7, 8)), "the class 8, which"),
        (
            lambda r: remake(r, synsets=NUMBERS | {4: "n09999999"}),
            "'n09999999', which .*train lacks",
        ),
        (
            lambda r: remake(
                r,
                numbers=(9, 7, 9, 7, 9),
                synsets={number: NUMBERS[number] for number in (9, 7)},
            ),
            "train has the class .*meta.mat lacks",
        ),
        (spoil_meta, "does not tell the synsets"),
    ],
)
def test_bad_folders_are_told(root, spoil, message):
    spoil(root)
    with pytest.raises(UsageError, match=message) as error:
        data.load("imagenet", "test", root)
    assert "\n" not in str(error.value)


def test_a_teachers_outputs_are_of_files_in_their_order(tmp_path):
    """Of images on disk, none of which is read to compare them."""
    files, rng = [], np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 256, (6, 9, 3), np.uint8)
        png(tmp_path / f"c{i % 2}", f"{i}.png", image)
        files.append(tmp_path / f"c{i % 2}" / f"{i}.png")
    x = image_folders.Images(files, 4)
    y = np.int32([0, 1, 0, 1])
    source = data.Source(x, y, ("c0", "c1"), "toy", "train")  # pyright: ignore
    told = teacher.write(
        tmp_path / "told",
        source,
        lambda x: x.mean((1, 2))[:, :2],
        crops=2,
        k=1,
        key=jax.random.key(0),
    )
    found = teacher.open(tmp_path / "told", source)
    np.testing.assert_array_equal(found.stored.boxes, told.stored.boxes)
    other = source._replace(x=image_folders.Images(files[::-1], 4))  # pyright: ignore
    with pytest.raises(UsageError, match="holds the outputs of another.*files"):
        teacher.open(tmp_path / "told", other)
