"""Pairs from folders as owners ship them, made of tiny files."""

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import pair_folder, volumes

sitk = pytest.importorskip("SimpleITK", reason="needs the extra medical")

N, SIDE = 10, 8


def image(i, shape=(SIDE, SIDE)):
    """Values in [-1, 1] that tell i by their mean."""
    ramp = np.linspace(-0.05, 0.05, np.prod(shape)).reshape(shape)
    return (i / 20 + ramp).astype(np.float32)


def table(path, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))


def folders(root, ids=range(N), others=range(N), labels=True):
    """Arrays of two modalities; the second is the negative of the first."""
    folder = root / "pair_folder"
    for name, chosen, sign in (("a", ids, 1), ("b", others, -1)):
        (folder / name).mkdir(parents=True)
        for i in chosen:
            np.save(folder / name / f"case{i}.npy", sign * image(i))
    if labels:
        known = sorted({*ids, *others})
        rows = [(f"case{i}", "no", i % 2) for i in known]
        table(folder / "labels.csv", [("id", "spare", "label"), *rows])
    return root


def load(root, split="train", name="pair_folder", **options):
    fitted = {"modalities": ("a", "b"), "side": SIDE} | options
    return data.load(name, split, root, **fitted)


def fails(match, *args, **options):
    with pytest.raises(UsageError, match=match) as error:
        load(*args, **options)
    assert "\n" not in str(error.value)


def test_two_folders(tmp_path):
    seen = []
    for split in data.SPLITS:
        source = load(folders(tmp_path) if not seen else tmp_path, split)
        # Of ten ids sorted by text the place of case i is i.
        id_N = source.aux["id"]
        want = np.stack([image(i) for i in id_N])
        np.testing.assert_allclose(source.x[..., 0], want, atol=1e-6)
        np.testing.assert_allclose(source.x[..., 1], -want, atol=1e-6)
        np.testing.assert_array_equal(source.y, id_N % 2)
        assert source.classes == ("0", "1") and source.aux["paired"].all()
        assert source.name == "pair_folder_a_b"
        seen += id_N.tolist()
        assert len(id_N) == {"train": 7, "valid": 1, "test": 2}[split]
    assert sorted(seen) == list(range(N))


def test_without_labels_there_is_one_class(tmp_path):
    source = load(folders(tmp_path, labels=False), pairs=0.5, seed=2)
    assert source.classes == ("unlabelled",) and not source.y.any()
    assert source.aux["paired"].sum() == 4
    lone = source.aux["has_first"] == 0
    assert lone.any() and (source.x[lone, ..., 0] == -1).all()


def test_images_without_a_partner(tmp_path):
    root = folders(tmp_path, range(N + 2), [*range(N), 13])
    fails("ids do not match: only the first modality has 'case10'", root)
    source = load(root, unpaired=True)
    lone = source.aux["paired"] == 0
    assert source.aux["has_first"][lone].tolist() == [1, 1, 0]
    assert lone.sum() == 3 and len(lone) == 10
    # Of the images 10, 11 and 13 what there is.
    np.testing.assert_allclose(source.x[-3, ..., 0], image(10), atol=1e-6)
    np.testing.assert_allclose(source.x[-1, ..., 1], -image(13), atol=1e-6)
    assert (source.x[-1, ..., 0] == -1).all()
    assert load(root, "test", unpaired=True).aux["paired"].all()


def test_pictures_of_8_and_16_bits(tmp_path):
    """They are padded to squares and averaged."""
    for name, kind in (("adc", np.uint8), ("t2", np.uint16)):
        folder = tmp_path / "prostatex" / name
        folder.mkdir(parents=True)
        for i in range(N):
            pixels = np.full((4, 6), 10 * i, kind)
            pixels[:2, :2] = 255
            picture = sitk.GetImageFromArray(pixels)
            path = folder / f"ProstateX-{i // 2:04}_{i}.png"
            sitk.WriteImage(picture, str(path))
    rows = [("ProxID", "fid", "ClinSig")]
    rows += [(f"ProstateX-{i:04}", 1, "FALSE") for i in range(5)]
    rows += [("ProstateX-0001", 2, "TRUE"), ("ProstateX-0001", 3, "FALSE")]
    table(tmp_path / "prostatex" / "ProstateX-Findings-Train.csv", rows)
    options = dict(name="prostatex", modalities=None, side=3)
    fails(
        r"case 'ProstateX-000\d_\d': modality t2 has values .*to 255.*wind",
        tmp_path,
        **options,
    )
    windows = (None, (0, 510))
    counts = {}
    for split in ("train", "test"):
        source = load(tmp_path, split, windows=windows, **options)
        i = source.aux["id"]
        counts[split] = len(i)
        np.testing.assert_array_equal(source.aux["patient"], i // 2)
        np.testing.assert_array_equal(source.y, i // 2 == 1)
        assert source.classes == ("FALSE", "TRUE")
        # One row of padding on either side, 2 x 2 pixels each.
        for channel, most in ((0, 255), (1, 510)):
            even = 2 * 10 * i / most - 1
            bright = 2 * 255 / most - 1
            want = np.empty((len(i), 3, 3))
            want[:] = even[:, None, None]
            want[:, 0] = (even[:, None] - 1) / 2
            want[:, 2] = (even[:, None] - 1) / 2
            want[:, 0, 0] = (bright - 1) / 2
            want[:, 1, 0] = (bright + even) / 2
            np.testing.assert_allclose(source.x[..., channel], want, atol=1e-5)
    # Both slices of a patient are in one split: four patients and one.
    assert counts == {"train": 8, "test": 2}


def volume(path, array, spacing=(1.0, 1.0, 1.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    volumes.write(path, volumes.make(array.astype(np.float32), spacing))


DEPTH = 8


def brats(root, ids=range(N), masks=range(N)):
    """Cases as of 2020; slice z has 100 + z, and above half of them tumour."""
    nested = root / "brats" / "MICCAI_BraTS2020_TrainingData"
    for i in ids:
        name = f"BraTS20_Training_{i + 1:03}"
        for kind, scale in (("t1", 1), ("t1ce", 7), ("flair", 3)):
            array = np.zeros((DEPTH, SIDE, SIDE))
            array[:, 2:] = scale * (100 + np.arange(DEPTH)[:, None, None])
            volume(nested / name / f"{name}_{kind}.nii.gz", array)
        if i in masks:
            mask = np.zeros((DEPTH, SIDE, SIDE))
            mask[4:, 3, 3] = 2
            volume(nested / name / f"{name}_seg.nii.gz", mask)
    return root, nested


def test_brats(tmp_path):
    root, nested = brats(tmp_path)
    options = dict(name="brats", modalities=("flair", "t1"), slices=2)
    source = load(root, **options)
    assert source.x.shape == (14, SIDE, SIDE, 2)
    assert source.classes == ("no tumour", "tumour")
    # Of the middle half of 8 slices, 2 to 5, the middles of two parts.
    np.testing.assert_array_equal(source.aux["slice"], [3, 5] * 7)
    np.testing.assert_array_equal(source.y, [0, 1] * 7)
    # From 0 to the 99th percentile of 100 to 107, each 48 times.
    top = np.quantile(np.repeat(100.0 + np.arange(DEPTH), 48), 0.99)
    want = np.repeat([2 * (100 + z) / top - 1 for z in (3, 5)], 48)
    got = source.x[:2, 2:, :, 1].reshape(-1)
    np.testing.assert_allclose(got, np.minimum(want, 1), atol=1e-5)
    assert (source.x[:, :2] == -1).all()
    np.testing.assert_allclose(source.x[..., 0], source.x[..., 1], atol=1e-5)
    # The grade is in a table of the owners.
    rows = [("Grade", "BraTS_2020_subject_ID")]
    rows += [
        ("LGG" if i < 5 else "HGG", f"BraTS20_Training_{i:03}")
        for i in range(1, N + 1)
    ]
    table(nested / "name_mapping.csv", rows)
    where = f"{nested.name}/name_mapping.csv"
    named = (where, "BraTS_2020_subject_ID", "Grade")
    graded = load(root, **options | {"table": named})
    assert graded.classes == ("HGG", "LGG")
    np.testing.assert_array_equal(graded.y, graded.aux["id"] < 4)


def test_a_mask_that_is_missing(tmp_path):
    root, nested = brats(tmp_path, range(3), range(2))
    options = dict(name="brats", modalities=("t1", "flair"))
    fails("no BraTS20_Training_003_seg.*case 355", root, **options)
    fails("'t3'", root, name="brats", modalities=("t1", "t3"))
    fails(r"files named ID_t2.nii.gz", root, name="brats", modalities=None)


def ixi(root, spacing=1.0):
    for i in range(N):
        name = f"IXI{i:03}-{('Guys', 'HH', 'IOP')[i % 3]}-{1000 + i}"
        for kind, wide in (("PD", 1.0), ("T2", spacing)):
            array = np.arange(2 * SIDE * SIDE).reshape(2, SIDE, SIDE)
            path = root / "ixi" / f"IXI-{kind}" / f"{name}-{kind}.nii.gz"
            volume(path, array, (1.0, 1.0, wide))
    return root


def test_ixi(tmp_path):
    source = load(ixi(tmp_path), name="ixi", modalities=None)
    assert source.classes == ("Guys", "HH", "IOP")
    np.testing.assert_array_equal(source.y, source.aux["id"] % 3)
    np.testing.assert_array_equal(source.aux["patient"], source.aux["id"])
    # The middle of two slices is the second.
    np.testing.assert_array_equal(source.aux["slice"], 1)
    assert source.name == "ixi_pd_t2" and source.x.max() == 1


def test_grids_that_differ(tmp_path):
    root = ixi(tmp_path, spacing=1.1)
    fails(
        "case 'IXI.*pd and t2 do not lie on one grid .spacing.*register",
        root,
        name="ixi",
        modalities=None,
    )


def break_file(name, value):
    def change(folder):
        path = folder / "b" / f"{name}.npy"
        path.unlink(missing_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            np.save(path, value)

    return change


NAN = np.full((SIDE, SIDE), np.nan, np.float32)
EVERY = [f"case{i}" for i in range(N)]


@pytest.mark.parametrize(
    "value, match",
    [
        (
            np.zeros((SIDE, 9), np.float32),
            r"case 'case.*modality a has.*and b \(1, 8, 9\)",
        ),
        (NAN, "modality b holds 64 NaN"),
        (np.full((SIDE, SIDE), 300.0), "from 300 to 300.*window"),
        (np.zeros((2, 2, SIDE, SIDE)), "axes"),
        (np.full((SIDE, SIDE), "x"), "must hold real numbers"),
        (b"\x93NUMPY", "no readable array"),
        (b"\x93NUMPY\x01\x00\x0a\x00{'descr': (", "no readable array"),
    ],
)
def test_bad_files_are_named(tmp_path, value, match):
    root = folders(tmp_path)
    for name in EVERY:
        break_file(name, value)(root / "pair_folder")
    fails(match, root)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"modalities": ("a", "c")}, "pair_folder/c holds no image"),
        ({"modalities": ("a", "a")}, "two different names"),
        ({"modalities": "ab"}, "two different names"),
        ({"side": 9}, "8 x 8 pixels.*9 x 9"),
        ({"slices": 2}, "middle half of 1 slices"),
        ({"windows": ("own",)}, "windows is .*two"),
        ({"windows": ("owned", None)}, "unknown window of a, 'owned'.*own"),
        ({"windows": ((1, 0), None)}, r"window of a is \(1, 0\)"),
        ({"pairs": 0}, "pairs is 0"),
        ({"layout": "bids"}, "layout 'bids'.*brats, folders, ixi"),
        ({"table": ("labels.csv", "id")}, "must be three names"),
        ({"table": ("labels.csv", "case", "label")}, "column 'case', but id"),
        ({"table": ("none.csv", "id", "label")}, "none.csv cannot be read"),
    ],
)
def test_options_out_of_range(tmp_path, options, match):
    fails(match, folders(tmp_path), **options)


@pytest.mark.parametrize(
    "rows, match",
    [
        ([("case0", "x")], "has no id 'case1'"),
        ([("case0", "x"), ("case0", "y")], "labels 'x' and 'y' of 'case0'"),
        ([("case0", "")], "line 2 of .*labels.csv has no id or no label"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, rows, match):
    root = folders(tmp_path, labels=False)
    table(root / "pair_folder" / "labels.csv", [("id", "label"), *rows])
    fails(match, root)


def test_names_that_do_not_fit(tmp_path):
    root = folders(tmp_path)
    np.save(root / "pair_folder" / "a" / "case1.nii.npy", image(1))
    fails("only the first modality has 'case1.nii'", root)
    (root / "pair_folder" / "a" / "case1.nii.npy").rename(
        root / "pair_folder" / "a" / "case1.png"
    )
    fails("same id 'case1'; keep one", root)
    (root / "pair_folder").rename(root / "prostatex")
    (root / "prostatex" / "a" / "case1.png").unlink()
    fails("'case0' of prostatex/ does not begin", root, name="prostatex")


def test_slices_are_of_the_middle_half():
    for depth, count in ((155, 4), (16, 8), (1, 1), (3, 1)):
        got = pair_folder.chosen(depth, count)
        parts = np.linspace(depth / 4, 3 * depth / 4, count + 1)
        middles = (parts[1:] + parts[:-1]) / 2
        assert ((got <= middles) & (middles < got + 1)).all()
        assert len(np.unique(got)) == count
