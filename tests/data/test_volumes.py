"""Medical volumes: what is read is what was written, or one line says why."""

import gzip
import importlib
import sys

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import volumes

sitk = pytest.importorskip("SimpleITK")

# An oblique frame, and no two numbers alike.
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
SPACING, ORIGIN = (3.0, 0.7, 0.5), (-12.5, 40.0, 7.25)
SHAPE = (4, 5, 6)


def volume(array=None):
    if array is None:
        array = np.arange(120, dtype=np.int16).reshape(SHAPE) - 50
    return volumes.make(array, SPACING, ORIGIN, TURN)


def region(*where):
    """Bool, with a box of voxels marked."""
    array = np.zeros(SHAPE, bool)
    array[where or (slice(1, 3), slice(1, 4), slice(2, 5))] = True
    return volume(array)


@pytest.fixture
def pair(tmp_path):
    """Paths of an image and a mask with the labels 1 and 7."""
    labels = region().array_ZxYxX.astype(np.uint8)
    labels[0, 0, :2] = 7
    for name, array in (("image", None), ("mask", labels)):
        volumes.write(tmp_path / f"{name}.nrrd", volume(array))
    return tmp_path / "image.nrrd", tmp_path / "mask.nrrd"


def same(one, other, tolerance=1e-12):
    np.testing.assert_array_equal(one.array_ZxYxX, other.array_ZxYxX)
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), atol=tolerance
        )
    assert one.dimensions == other.dimensions


@pytest.mark.parametrize("ending", ["nrrd", "nii", "nii.gz", "mha", "npz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_what_is_written_is_read(tmp_path, ending, dtype):
    path = tmp_path / f"a.{ending}"
    given = volume().of(volume().array_ZxYxX.astype(dtype))
    volumes.write(path, given)
    found = volumes.read(path)
    assert found.array_ZxYxX.dtype == dtype
    # NIfTI stores its geometry in single precision.
    same(found, given, 1e-6 if "nii" in ending else 1e-12)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_frame_is_that_of_simpleitk(tmp_path):
    path = tmp_path / "a.nrrd"
    volumes.write(path, volume())
    image = sitk.ReadImage(str(path))
    assert image.GetSpacing() == SPACING[::-1]
    assert image.GetPixel(5, 0, 2) == volume().array_ZxYxX[2, 0, 5]
    # Voxel (z, y, x) = (2, 0, 5): 2.5 mm along the first column, 6 mm up.
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((5, 0, 2)),
        ORIGIN + 2.5 * TURN[:, 0] + 6 * TURN[:, 2],
    )


@pytest.mark.parametrize("ending", ["nrrd", "mha", "npz"])
def test_a_picture_is_one_slice_and_stays_a_picture(tmp_path, ending):
    given = volumes.make(np.arange(6.0).reshape(2, 3), (1, 2, 3))
    volumes.write(tmp_path / f"a.{ending}", given)
    found = volumes.read(tmp_path / f"a.{ending}")
    assert found.array_ZxYxX.shape == (1, 2, 3) and found.dimensions == 2
    same(found, given)


def test_npz_of_the_data_folder(real_file):
    path = real_file("radiomics/pyradiomics_brain1.npz")
    image, mask = volumes.read_pair(path, path)
    assert image.array_ZxYxX.shape == (25, 256, 256)
    stored = np.load(path)
    np.testing.assert_array_equal(image.spacing, stored["spacing_xyz"][::-1])
    assert mask.array_ZxYxX.dtype == bool
    assert mask.array_ZxYxX.sum() == (stored["mask"] == 1).sum() == 4137


def write_series(folder, places, series="1.2.3", first=0):
    """A DICOM series with a slice at each place, mm; pixels are numbered."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i, place in enumerate(places):
        pixels = np.full((5, 6), 10 * place, np.int16)
        image = sitk.GetImageFromArray(pixels[None])
        image.SetSpacing((0.5, 0.7, 1))
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{i + 1}",
            "0020|000d": "1.2",
            "0020|000e": series,
            "0020|0013": str(i + 1),
            "0020|0032": f"-1\\2\\{place}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        # The order of names is not the order in space.
        writer.SetFileName(str(folder / f"{first + 9 - i}.dcm"))
        writer.Execute(image)


def test_a_folder_with_a_dicom_series(tmp_path):
    write_series(tmp_path / "a", (0, 2.5, 5, 7.5))
    found = volumes.read(tmp_path / "a")
    np.testing.assert_array_equal(found.array_ZxYxX[:, 0, 0], (0, 25, 50, 75))
    np.testing.assert_allclose(found.spacing, (2.5, 0.7, 0.5))
    np.testing.assert_allclose(found.origin, (-1, 2, 0))
    one = volumes.read(tmp_path / "a" / "8.dcm")
    assert one.array_ZxYxX.shape == (1, 5, 6) and one.dimensions == 3


def test_a_folder_that_is_no_series_is_told(tmp_path):
    write_series(tmp_path / "gap", (0, 2.5, 7.5, 10))
    with pytest.raises(UsageError, match=r"2.5 mm apart, but.*5 mm; add"):
        volumes.read(tmp_path / "gap")
    write_series(tmp_path / "two", (0, 2), "1.2.3")
    write_series(tmp_path / "two", (0, 2, 4), "1.2.4", first=50)
    with pytest.raises(UsageError, match="2 DICOM series.*1.2.3.*3 files"):
        volumes.read(tmp_path / "two")
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="holds no DICOM series"):
        volumes.read(tmp_path / "none")


@pytest.mark.parametrize("ending", ["nrrd", "nii", "nii.gz", "mha", "npz"])
def test_half_a_file_is_told(tmp_path, ending, capfd):
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(0, 999, SHAPE).astype(np.int16)
    volumes.write(path, volume(noise))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UsageError, match="again"):
        volumes.read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="again"):
        volumes.read(path)
    # A well packed part of a volume, which the packing does not tell.
    if ending == "nii.gz":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:-40]))
        with pytest.raises(UsageError, match="552 bytes, where 592 are"):
            volumes.read(path)
        path.write_bytes(content)
        assert volumes.read(path).array_ZxYxX.shape == SHAPE
    capfd.readouterr()  # The libraries behind speak up too.


def test_places_that_are_no_numbers_are_told(tmp_path):
    zeros = np.zeros(SHAPE, np.int16)
    for place, message in (
        ({"spacing": (1, np.nan, 1)}, "spacing .mm. is nan"),
        ({"spacing": (1, 1)}, "spacing .mm. is .1, 1., but must be 3 numbers"),
        ({"origin": (0, np.inf, 0)}, "origin .mm. is inf"),
        ({"origin": ("a", 0, 0)}, "origin .mm. is .*must be 3 numbers"),
        ({"direction": np.eye(2)}, "must be 9 numbers"),
        ({"direction": np.full((3, 3), np.nan)}, "direction is nan"),
    ):
        with pytest.raises(UsageError, match=message):
            volumes.make(zeros, **place)
    path = tmp_path / "a.nii"
    volumes.write(path, volume(zeros))
    content = bytearray(path.read_bytes())
    for offset in (np.nan, np.inf):  # Of the data, a float.
        content[108:112] = np.float32(offset).tobytes()
        path.write_bytes(content)
        with pytest.raises(UsageError, match="a.nii is no whole NIfTI file"):
            volumes.read(path)
    np.savez(tmp_path / "a.npz", image=np.array("x"), spacing_xyz=np.ones(3))
    with pytest.raises(UsageError, match="must hold real numbers"):
        volumes.read(tmp_path / "a.npz")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match="no.nrrd is missing"):
        volumes.read(tmp_path / "no.nrrd")
    np.savez(tmp_path / "a.npz", image=np.zeros(SHAPE))
    with pytest.raises(UsageError, match="holds image, but lacks spacing_xyz"):
        volumes.read(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="lacks mask"):
        volumes.read_region(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="a.txt has no known ending"):
        volumes.write(tmp_path / "a.txt", volume())
    with pytest.raises(UsageError, match="cannot be written"):
        volumes.write(tmp_path / "no" / "a.npz", volume())


def test_images_that_are_no_volume_are_told(tmp_path):
    for name, shape, vector in (
        ("colour", (*SHAPE, 3), True),
        ("film", (2, *SHAPE), False),
    ):
        image = sitk.GetImageFromArray(np.zeros(shape, np.uint8), vector)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    with pytest.raises(UsageError, match="3 numbers a voxel.*label_channel"):
        volumes.read(tmp_path / "colour.nrrd")
    assert volumes.read(
        tmp_path / "colour.nrrd", channel=2
    ).array_ZxYxX.shape == (SHAPE)
    with pytest.raises(UsageError, match=r"channel.*is 3.*\[0, 2\]"):
        volumes.read(tmp_path / "colour.nrrd", channel=3)
    with pytest.raises(UsageError, match=r"4 axes of the sizes \(6, 5, 4, 2"):
        volumes.read(tmp_path / "film.nrrd")
    wave = sitk.GetImageFromArray(np.zeros(SHAPE, np.complex64))
    sitk.WriteImage(wave, str(tmp_path / "wave.nii"))
    with pytest.raises(UsageError, match="complex64"):
        volumes.read(tmp_path / "wave.nii")


def test_a_spacing_that_is_hardly_in_millimetres_is_warned_of(tmp_path, caplog):
    volumes.write(tmp_path / "a.npz", volume())
    volumes.read(tmp_path / "a.npz")
    assert not caplog.records
    metres = volume()._replace(spacing=np.array(SPACING) / 1000)
    volumes.write(tmp_path / "a.nrrd", metres)
    volumes.read(tmp_path / "a.nrrd")
    assert "is it in millimetres?" in caplog.text
    volumes.write(tmp_path / "b.npz", metres)
    with pytest.raises(UsageError, match="spacing"):
        volumes.make(np.zeros(SHAPE), (1, 0, 1))


def test_a_pair(pair):
    image, mask = volumes.read_pair(*pair)
    same(image, volume())
    same(mask, region())
    assert volumes.read_pair(*pair, label=7)[1].array_ZxYxX.sum() == 2


def test_labels_that_cannot_be_meant(tmp_path, pair):
    image, mask = pair
    with pytest.raises(UsageError, match="no label 3; choose from 1, 7"):
        volumes.read_pair(image, mask, label=3)
    with pytest.raises(UsageError, match="labels 1, 7; choose one"):
        volumes.read_pair(image, mask, label=None)
    only = tmp_path / "only.nrrd"
    volumes.write(only, region())
    same(volumes.read_pair(image, only, label=None)[1], region())
    for name, array, message in (
        ("empty", np.zeros(SHAPE, np.uint8), "is empty: every voxel is 0"),
        ("half", np.full(SHAPE, 0.5), "holds 0.5, but labels are whole"),
        ("one", region(1, 2, 3).array_ZxYxX, "is a single voxel"),
    ):
        volumes.write(tmp_path / f"{name}.nrrd", volume(array))
        with pytest.raises(UsageError, match=message):
            volumes.read_pair(image, tmp_path / f"{name}.nrrd")


def test_nan_counts_inside_the_region_alone(tmp_path):
    array = volume().array_ZxYxX.astype(np.float32)
    array[0, 0, 0] = np.nan
    image, mask = tmp_path / "image.nrrd", tmp_path / "mask.nrrd"
    volumes.write(image, volume(array))
    volumes.write(mask, region())
    volumes.read_pair(image, mask)
    array[1, 1, 2:4] = np.nan, np.inf
    volumes.write(image, volume(array))
    with pytest.raises(UsageError, match="2 NaN or infinite.*of 18 voxels"):
        volumes.read_pair(image, mask)


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("origin", (1e-3, 0, 0), r"origin \(-12.5, 40, 7.25\) and \(-12.499"),
        ("spacing", (0, 1e-3, 0), r"spacing \(3, 0.7, 0.5\) and \(3, 0.701"),
    ],
)
def test_another_grid_is_told(tmp_path, pair, what, change, message):
    moved = region()
    moved = moved._replace(**{what: getattr(moved, what) + np.array(change)})
    path = tmp_path / "moved.nrrd"
    volumes.write(path, moved)
    with pytest.raises(UsageError, match=f"{message}.*--resample_mask"):
        volumes.read_pair(pair[0], path)
    # A thousandth of a millimetre is two of the spacing's of 0.5 mm.
    same(volumes.read_pair(pair[0], path, tolerance=2.1e-3)[1], moved)
    same(volumes.read_pair(pair[0], path, resample=True)[1], region())


def test_another_size_or_direction_is_told(tmp_path, pair):
    path = tmp_path / "other.nrrd"
    volumes.write(path, region().of(np.ones((4, 5, 5), bool)))
    with pytest.raises(UsageError, match=r"\(4, 5, 6\) and \(4, 5, 5\) voxels"):
        volumes.read_pair(pair[0], path)
    volumes.write(path, region()._replace(direction=np.eye(3)))
    with pytest.raises(UsageError, match="direction"):
        volumes.read_pair(pair[0], path)


def test_a_mask_is_put_onto_the_image_by_the_nearest_voxel(tmp_path, pair):
    # Twice as fine along x and turned round along z, at the same place.
    fine = np.repeat(region().array_ZxYxX, 2, 2)[::-1]
    shift = TURN @ np.array([-SPACING[2] / 4, 0, SPACING[0] * 3])
    other = volumes.make(
        fine,
        (SPACING[0], SPACING[1], SPACING[2] / 2),
        ORIGIN + shift,
        TURN @ np.diag([1, 1, -1.0]),
    )
    volumes.write(tmp_path / "fine.nrrd", other)
    same(
        volumes.read_pair(pair[0], tmp_path / "fine.nrrd", resample=True)[1],
        region(),
    )


def test_a_region_beyond_the_image_is_told(tmp_path, pair):
    far = region()._replace(origin=np.array(ORIGIN) + TURN[:, 0] * 1.0)
    volumes.write(tmp_path / "far.nrrd", far)
    # Moved by two voxels of x: its last, 4, lies at 6.5 of 0 to 5.5.
    with pytest.raises(UsageError, match=r"0.5, 0.5, 3.5\) to \(2.5, 3.5, 6.5"):
        volumes.read_pair(pair[0], tmp_path / "far.nrrd", resample=True)


def test_without_simpleitk_the_remedy_is_told(tmp_path, monkeypatch):
    volumes.write(tmp_path / "a.nrrd", volume())
    volumes.write(tmp_path / "a.npz", volume())
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UsageError, match=r'pip install "jaxedge\[medical\]"'):
        volumes.read(tmp_path / "a.nrrd")
    same(volumes.read(tmp_path / "a.npz"), volume())  # Numpy alone reads it.
    importlib.import_module("jaxedge.data.volumes")
