"""Sets of several centres in the layouts of their owners, in miniature."""

import functools
import pickle
import struct
import sys

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import (
    fed_camelyon,
    fed_fundus,
    fed_isic,
    fed_polyp,
    fed_prostate,
    pictures,
)

Image = pytest.importorskip("PIL.Image", reason="needs the extra vision")
RNG = np.random.default_rng(0)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def fails(match, call, *args, **kwargs):
    with pytest.raises(UsageError, match=match) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)


def sizes(source):
    """Examples of each site."""
    count = len(data.SITES[source.name])
    return np.bincount(source.aux["site"], minlength=count).tolist()


# Pictures of any size.


def test_a_kept_aspect_is_padded_evenly(tmp_path):
    pixels = RNG.integers(1, 256, (3, 8, 3))
    save(tmp_path / "a.png", pixels)
    got = pictures.fitted(tmp_path / "a.png", 8, keep=True, exact=True)
    # Five rows are left over: two above and three below.
    np.testing.assert_array_equal(got[2:5], pixels)
    assert not got[:2].any() and not got[5:].any()
    save(tmp_path / "b.png", pixels.transpose(1, 0, 2))
    turned = pictures.fitted(tmp_path / "b.png", 8, keep=True, exact=True)
    np.testing.assert_array_equal(turned, got.transpose(1, 0, 2))
    wide = pictures.fitted(tmp_path / "a.png", 4, keep=True, exact=True)
    assert wide.any((0, 2)).all() and wide.any((1, 2)).sum() == 1


def test_the_nearest_pixel_is_one_of_the_mask(tmp_path):
    pixels = RNG.integers(0, 2, (9, 6, 3)) * 255
    save(tmp_path / "a.png", pixels)
    got = pictures.fitted(tmp_path / "a.png", 3, keep=False, exact=True)
    # The middle of 3 x 2 pixels; of the two columns it is the right one.
    np.testing.assert_array_equal(got, pixels[1::3, 1::2])
    soft = pictures.fitted(tmp_path / "a.png", 3, keep=False, exact=False)
    assert ({*soft.ravel().tolist()} - {0, 255}) and soft.shape == (3, 3, 3)


@pytest.mark.parametrize("size", [(8, 13), (13, 8), (8, 8)])
def test_the_middle_of_a_picture(tmp_path, size):
    pixels = RNG.integers(0, 256, (*size, 3))
    save(tmp_path / "a.png", pixels)
    top, left = (n // 2 - 4 for n in size)
    want = pixels[top : top + 8, left : left + 8] / 255
    got = pictures.middle(tmp_path / "a.png", 8)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    # Twice as large, an even grey stays what it is.
    save(tmp_path / "b.png", np.full((16, 30), 90))
    grey = pictures.middle(tmp_path / "b.png", 8)
    np.testing.assert_allclose(grey, np.full((8, 8, 3), 90 / 255), rtol=1e-6)


def test_a_picture_of_no_size_is_named(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<2i", 2**24, 2**24)  # Width and height.
    path.write_bytes(content)
    for read in (pictures.opened, pictures._size):
        with pytest.raises(UsageError, match="a.bmp is no readable image"):
            read(path)


def test_pictures_stand_for_an_array(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        save(path, np.full((5, 5, 3), 10 * i))
    found = pictures.images(paths, 5, keep=True)
    assert found.shape == (4, 5, 5, 3) and len(found) == 4
    want = (10 * np.arange(4)).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(found[:][:, 0, 0, 0], want)
    np.testing.assert_array_equal(
        found[np.array([3, 1])][:, 2, 1, 1], want[[3, 1]]
    )
    assert found[2].shape == (5, 5, 3) and found[:0].shape == (0, 5, 5, 3)
    paths[1].write_bytes(b"no image")
    fails("1.png is no readable image", lambda: found[:])


def test_without_pillow(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((2, 2)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    fails(r"jaxedge\[vision\]", pictures.opened, tmp_path / "a.png")


# Fed-ISIC2019.


def isic_rows():
    """Of a centre 10 training images of class 1, 2 of class 7, 3 for test."""
    rows = []
    for centre in range(6):
        for kind, fold, count in (
            (1, "train", 10),
            (7, "train", 2),
            (3, "test", 3),
        ):
            for i in range(count):
                name = f"ISIC_{centre}{kind}{i:03d}"
                rows.append([name, "0.0", str(kind), str(centre), fold, "-"])
    return rows


def write_isic(root, rows, delimiter=",", file="train_test_split"):
    header = ["image", "MEL", "target", "center", "fold", "fold2"]
    folder = root / "fed_isic"
    images = folder / fed_isic.FOLDER
    images.mkdir(parents=True)
    text = "\n".join(delimiter.join(row) for row in [header, *rows])
    (folder / file).write_text(text)
    save(images / "one.jpg", np.full((6, 8, 3), 200))
    content = (images / "one.jpg").read_bytes()
    for row in rows:
        (images / f"{row[0]}.jpg").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "delimiter, file",
    [(",", "train_test_split"), ("\t", "train_test_split.csv")],
)
def test_isic_by_centre_and_fold(tmp_path, delimiter, file):
    write_isic(tmp_path, isic_rows(), delimiter, file)
    names = []
    for split, each in (("train", 11), ("valid", 1), ("test", 3)):
        source = data.load("fed_isic", split, tmp_path)
        assert sizes(source) == [each] * 4 and source.name == "fed_isic"
        every = data.load("fed_isic2019", split, tmp_path)
        assert sizes(every) == [each] * 6
        # The first four centres have the same rows in both.
        paths = [path.stem for path in source.x.paths]
        assert paths == [path.stem for path in every.x.paths][: len(paths)]
        names += paths
        for name, label, site in zip(
            paths, source.y, source.aux["site"], strict=True
        ):
            assert name[5:7] == f"{site}{label}"
        # Of a class of two, none is for validation.
        assert (source.y == 7).sum() == (8 if split == "train" else 0)
    assert len({*names}) == len(names) == 60
    small = fed_isic.read("test", tmp_path, side=6)
    assert small.x.shape == (18, 6, 6, 3)
    np.testing.assert_allclose(small.x[:3], 200 / 255, atol=0.02)


@pytest.mark.parametrize(
    "row, match",
    [
        (["a", "0", "8", "0", "test"], r"row 1 has '8' as target.*\[0, 7\]"),
        (["a", "0", "1", "6", "test"], r"'6' as center.*\[0, 5\]"),
        (["a", "0", "1", "-1", "test"], "'-1' as center"),
        (["a", "0", "1", "0", "tests"], "fold in .*row 1.*'tests'.*'test'"),
        (["a", "0", "1", "0", "train"], "no image of the fold 'test'"),
    ],
)
def test_bad_rows_of_isic_are_named(tmp_path, row, match):
    write_isic(tmp_path, [[*row, "-"]])
    fails(match, data.load, "fed_isic", "test", tmp_path)


def test_missing_files_of_isic(tmp_path):
    load = functools.partial(data.load, "fed_isic", "test", tmp_path)
    fails("train_test_split cannot be read", load)
    rows = isic_rows()
    folder = write_isic(tmp_path, rows)
    (folder / fed_isic.FOLDER / "ISIC_23001.jpg").unlink()
    fails("ISIC_23001.jpg is missing, and 0 others", load)
    (folder / "train_test_split").write_text("image,target,fold\na,1,test")
    fails("no column 'center'", load)


# Fed-Camelyon.


def write_camelyon(root):
    """Ten slides a centre, a patch of tumour and one without on each."""
    folder = root / "fed_camelyon"
    lines = [",patient,node,x_coord,y_coord,tumor,slide,center,split"]
    for slide in range(50):
        for tumor in (0, 1):
            i, patient = len(lines) - 1, f"{slide + 4:03d}"
            lines.append(f"{i},{patient},2,{i},7,{tumor},{slide},{slide % 5},0")
            case = f"patient_{patient}_node_2"
            save(
                folder / "patches" / case / f"patch_{case}_x_{i}_y_7.png",
                np.full((8, 8, 4), i),
            )
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def small_patches(monkeypatch):
    monkeypatch.setattr(fed_camelyon, "SIDE", 8)


def test_whole_slides_are_in_one_split(tmp_path, small_patches):
    write_camelyon(tmp_path)
    slides = []
    for split, each in (("train", 14), ("valid", 2), ("test", 4)):
        source = data.load("fed_camelyon", split, tmp_path)
        assert sizes(source) == [each] * 5
        # The grey of a patch is its row: two a slide, the second with tumour.
        row = np.rint(source.x[:][:, 0, 0, 0] * 255).astype(int)
        np.testing.assert_array_equal(source.y, row % 2)
        np.testing.assert_array_equal(source.aux["site"], row // 2 % 5)
        slides.append({*(row // 2).tolist()})
    assert [len(s) for s in slides] == [35, 5, 10]
    assert len(set.union(*slides)) == 50


def harmofl(root, **changed):
    content = {}
    for i in range(1, 6):
        content[f"hospital{i}"] = {
            part: (
                np.array([f"patches/{i}/{part}{k}.png" for k in range(count)]),
                np.arange(count)[:, None] % 2,
            )
            for part, count in (("train", 40), ("test", 6))
        }
    (root / "fed_camelyon").mkdir()
    path = root / "fed_camelyon" / "data.pkl"
    path.write_bytes(pickle.dumps(content | changed))


def test_the_split_of_harmofl(tmp_path):
    harmofl(tmp_path)
    for split, each in (("train", 36), ("valid", 4), ("test", 6)):
        source = data.load("fed_camelyon", split, tmp_path)
        assert sizes(source) == [each] * 5
        part = "test" if split == "test" else "train"
        for path, label, site in zip(
            source.x.paths, source.y, source.aux["site"], strict=True
        ):
            folder, name = path.parts[-2:]
            assert folder == str(site + 1) and name.startswith(part)
            assert int(name[len(part) : -4]) % 2 == label
    # Half of each class, as of each hospital.
    assert np.bincount(source.y).tolist() == [15, 15]


class Harmful:
    def __reduce__(self):
        return exec, ("raise AssertionError('it ran')",)


@pytest.mark.parametrize(
    "changed, match",
    [
        (dict(hospital1=Harmful()), "it holds builtins.exec"),
        (dict(hospital1={}), "it needs hospital1"),
        (dict(hospital2={"test": (["a"], [2])}), "hospital2, has 2 as label"),
        (dict(hospital3={"test": (["a"], [0.5])}), "has 0.5 as label"),
        (dict(hospital4={"test": (["a"], [])}), "1 paths and 0 labels"),
    ],
)
def test_a_bad_split_of_harmofl_is_named(tmp_path, changed, match):
    harmofl(tmp_path, **changed)
    fails(match, data.load, "fed_camelyon", "test", tmp_path)


@pytest.mark.parametrize(
    "old, new, match",
    [
        (",1,0,0,0", ",2,0,0,0", r"row 2 has 2 as tumor.*\[0, 1\]"),
        (",0,1,1,0", ",0,1,5,0", r"5 as center.*\[0, 4\]"),
        ("slide", "glass", "no column 'slide'"),
    ],
)
def test_bad_metadata_of_camelyon(tmp_path, old, new, match):
    path = write_camelyon(tmp_path) / "metadata.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    fails(match, data.load, "fed_camelyon", "test", tmp_path)


def test_patches_have_one_size_and_are_there(tmp_path):
    folder = write_camelyon(tmp_path)
    source = data.load("fed_camelyon", "test", tmp_path)
    assert source.x.shape == (20, 96, 96, 3)
    fails("8 x 8 pixels, but patches have 96 x 96", lambda: source.x[0])
    source.x.paths[0].unlink()
    fails("no readable image", lambda: source.x[0])
    (folder / "metadata.csv").unlink()
    fails(
        "metadata.csv cannot be read",
        data.load,
        "fed_camelyon",
        "test",
        tmp_path,
    )


# Fed-Polyp.


def write_polyp(root, count=10, image="image", mask="mask", etis="ETIS"):
    for place, site in enumerate(
        ("Kvasir", etis, "CVC-ColonDB", "CVC-ClinicDB")
    ):
        folder = root / "fed_polyp" / site
        for i in range(count):
            save(
                folder / image / f"{i}.png", np.full((4, 8, 3), 20 * i + place)
            )
            polyp = np.zeros((4, 8))
            polyp[:, i % 8] = 128
            polyp[0, 0] = 127  # of a lossy mask
            save(folder / mask / f"{i}.png", polyp)


@pytest.mark.parametrize(
    "names", [{}, dict(image="images", mask="masks", etis="ETIS-LaribPolypDB")]
)
def test_polyps_are_padded_with_their_masks(tmp_path, names):
    write_polyp(tmp_path, **names)
    seen = []
    for split, each in (("train", 7), ("valid", 1), ("test", 2)):
        source = fed_polyp.read(split, tmp_path, side=8)
        assert sizes(source) == [each] * 4
        assert source.y.shape == source.x.shape[:3] == (4 * each, 8, 8)
        assert source.y.dtype == np.int32
        grey = np.rint(source.x[:][:, 4, 4, 0] * 255).astype(int)
        np.testing.assert_array_equal(grey % 20, source.aux["site"])
        # Two rows of nothing above and below the four of the picture.
        want = np.zeros((4 * each, 8, 8), int)
        want[np.arange(4 * each), 2:6, grey // 20 % 8] = 1
        want[grey // 20 % 8 == 0, 2, 0] = 0
        np.testing.assert_array_equal(source.y, want)
        assert not source.x[:][:, [0, 1, 6, 7]].any()
        seen += grey.tolist()
    assert len({*seen}) == len(seen) == 40
    assert data.load("fed_polyp", "test", tmp_path).x.shape[1:] == (384, 384, 3)


def test_bad_files_of_polyps(tmp_path):
    load = functools.partial(data.load, "fed_polyp", "test", tmp_path)
    fails("Kvasir/image holds no image", load)
    write_polyp(tmp_path, 1)
    fails("fed_polyp has nothing for 'test'", load)
    mask = tmp_path / "fed_polyp" / "CVC-ColonDB" / "mask" / "0.png"
    save(mask, np.zeros((4, 4)))
    fails("mask/0.png has 4 x 4 pixels, but its image has 8 x 4", load)
    mask.write_bytes(b"no image")
    fails("mask/0.png is no readable image", load)
    mask.rename(mask.with_name("1.png"))
    fails("CVC-ColonDB/mask has no 0, but its neighbour has", load)


# Fed-Fundus.


def write_fundus(root, shipped, count=10):
    for site in range(4):
        folders = [
            f"Domain{site + 1}/train/ROIs",
            f"Domain{site + 1}/test/ROIs",
        ]
        for place, name in enumerate(
            folders if shipped else [f"client{site + 1}"]
        ):
            folder = root / "fed_fundus" / name
            for i in range(count):
                grey = 20 * i + 5 * place + site
                save(folder / "image" / f"g{i}.png", np.full((6, 4, 3), grey))
                eye = np.full((6, 4, 3), 255)
                eye[2:5, 1:3] = 128
                eye[3, 2] = 0
                save(folder / "mask" / f"g{i}.png", eye)
    return root / "fed_fundus"


EYE = np.zeros((6, 4), int)
EYE[2:5, 1:3] = 1
EYE[3, 2] = 2


@pytest.mark.parametrize(
    "shipped, counts", [(False, (7, 1, 2)), (True, (9, 1, 10))]
)
def test_discs_and_cups(tmp_path, shipped, counts):
    write_fundus(tmp_path, shipped)
    seen = []
    for split, each in zip(data.SPLITS, counts, strict=True):
        source = fed_fundus.read(split, tmp_path, side=12)
        assert sizes(source) == [each] * 4
        want = np.kron(EYE, np.ones((2, 3), int))
        np.testing.assert_array_equal(source.y, np.stack([want] * 4 * each))
        grey = np.rint(source.x[:][:, 0, 0, 0] * 255).astype(int)
        np.testing.assert_array_equal(grey % 5, source.aux["site"])
        if shipped:
            assert ((grey % 20 >= 5) == (split == "test")).all()
        seen += grey.tolist()
    assert len({*seen}) == len(seen) == sum(counts) * 4


def test_bad_files_of_eyes(tmp_path):
    load = functools.partial(fed_fundus.read, "train", tmp_path, side=12)
    fails("client1/image holds no image", load)
    folder = write_fundus(tmp_path, False, 1)
    save(folder / "client2" / "mask" / "g0.png", np.full((6, 4, 3), 77))
    fails("client2/mask/g0.png has a pixel of 77.*255 beside", load)
    fails("side", fed_fundus.read, "train", tmp_path, side=0)


# Fed-Prostate.

SHAPE = (6, 5)  # rows and columns of a slice


def volume(site, case):
    """A volume of four slices, and its labels: none in the first and last."""
    rng = np.random.default_rng(10 * site + case)
    image = rng.integers(0, 2000, (4, *SHAPE)).astype(np.int16)
    image[:, 0, 0] = 100 * site + case  # tells them apart, unless clipped
    labels = np.zeros((4, *SHAPE), np.uint8)
    labels[1, 2, 1:3], labels[2, 4, 4] = 1, 2
    return image, labels


@pytest.fixture
def nibabel(monkeypatch):
    monkeypatch.setattr(fed_prostate, "SHAPE", SHAPE)
    return pytest.importorskip("nibabel")


def write_prostate(nibabel, root, count=10):
    for i, site in enumerate(fed_prostate.SITES):
        folder = root / "fed_prostate" / site
        folder.mkdir(parents=True)
        # The letter of BMC, in either case.
        ending = "_Segmentation" if site == "BMC" else "_segmentation"
        for case in range(count):
            for name, array in zip(("", ending), volume(i, case), strict=True):
                # NIfTI counts columns first.
                image = nibabel.Nifti1Image(array.transpose(), np.eye(4))
                image.to_filename(folder / f"Case{case:02d}{name}.nii.gz")
    return root / "fed_prostate"


def scaled(slice_):
    """Between the least value and that of rank 29 of 30, here the largest."""
    values = slice_.astype(np.float64)
    return (values - values.min()) / np.sort(values.ravel())[29]


def test_slices_with_some_prostate(tmp_path, nibabel):
    write_prostate(nibabel, tmp_path)
    wanted = {}
    for site in range(6):
        for case in range(10):
            image, labels = volume(site, case)
            for i in (1, 2):
                found = (site, case, labels[i] > 0)
                wanted[scaled(image[i]).astype(np.float32).tobytes()] = found
    seen = []
    for split, each in (("train", 14), ("valid", 2), ("test", 4)):
        source = data.load("fed_prostate", split, tmp_path)
        assert sizes(source) == [each] * 6
        assert source.x.shape == (6 * each, *SHAPE, 1)
        cases = set()
        for x, y, site in zip(
            source.x, source.y, source.aux["site"], strict=True
        ):
            near = min(
                wanted,
                key=lambda k: np.abs(np.frombuffer(k, "f4") - x.ravel()).max(),
            )
            np.testing.assert_allclose(
                x.ravel(), np.frombuffer(near, "f4"), atol=1e-6
            )
            owner, case, labels = wanted[near]
            assert owner == site
            np.testing.assert_array_equal(y, labels)
            cases.add((owner, case))
        assert len(cases) == 3 * each
        seen.append(cases)
    # No case is in two splits.
    assert len(set.union(*seen)) == 60 == sum(map(len, seen))


def test_bad_volumes_are_named(tmp_path, nibabel):
    load = functools.partial(data.load, "fed_prostate", "train", tmp_path)
    fails("BIDMC holds no CaseNN_segmentation.nii.gz", load)
    folder = write_prostate(nibabel, tmp_path, 1)
    path, mask = (
        folder / "HK" / f"Case00{name}.nii.gz" for name in ("", "_segmentation")
    )

    def put(target, array):
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(target)

    image, labels = (a.transpose().astype(np.float32) for a in volume(2, 0))
    for values, match in (
        (labels - 1, "holds -1.0, but labels are whole"),
        (labels / 4, "holds 0.25"),
        (labels * 0, "marks no prostate"),
        (labels[1:], r"mask \(4, 6, 4\)"),
    ):
        put(mask, values)
        fails(f"HK/Case00.*{match}", load)
    put(mask, labels)
    for values, match in (
        (image * 0, "slice 1 of .*Case00.nii.gz has 0.0 at its 99th"),
        (image * np.nan, "slice 1 of .* holds 30 NaN"),
    ):
        put(path, values)
        fails(match, load)
    path.write_bytes(path.read_bytes()[:50])
    fails("HK/Case00.nii.gz is no readable NIfTI volume", load)
    path.unlink()
    fails("HK/Case00.nii.gz is missing", load)


def test_without_nibabel(tmp_path, monkeypatch):
    for site in fed_prostate.SITES:
        folder = tmp_path / "fed_prostate" / site
        folder.mkdir(parents=True)
        for name in ("Case00.nii.gz", "Case00_segmentation.nii.gz"):
            (folder / name).touch()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    fails("pip install nibabel", data.load, "fed_prostate", "train", tmp_path)
