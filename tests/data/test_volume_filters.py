"""Preparation and filters: laws of their own, and pyradiomics' numbers.

The reference holds features of one volume; those that numpy computes from a
filtered image in a line show that the image is the peer's.
"""

import json
from pathlib import Path
import sys

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import volume_filters, volumes
from jaxedge.data.volume_filters import Filters

sitk = pytest.importorskip("SimpleITK")
pytest.importorskip("pywt")

REFERENCE = (
    Path(__file__).parents[1] / "features" / "radiomics" / "pyradiomics.json"
)
SMALL = "pyradiomics_breast1"


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


@pytest.fixture(scope="module")
def small(real_file):
    path = real_file(f"radiomics/{SMALL}.npz")
    return volumes.read_pair(path, path)


def statistics(image, region, shift=0.0):
    """Features that tell one image from another, by numpy in float64."""
    x = image.array_ZxYxX[region.array_ZxYxX].astype(np.float64)
    return {
        "Mean": x.mean(),
        "Variance": x.var(),
        "Minimum": x.min(),
        "Maximum": x.max(),
        "Median": np.median(x),
        "90Percentile": np.percentile(x, 90),
        "Energy": ((x + shift) ** 2).sum(),
    }


def assert_as_peer(reference, case, name, image, region):
    features = reference[f"{SMALL}/{case}"]["features"]
    for feature, value in statistics(image, region).items():
        expected = features[f"{name}_firstorder_{feature}"]
        # The reference has ten digits; of a difference, less are left.
        np.testing.assert_allclose(
            value, expected, rtol=1e-8, atol=1e-8, err_msg=f"{name} {feature}"
        )


@pytest.mark.parametrize("kind", volume_filters.IMAGE_TYPES[1:])
def test_image_types_are_those_of_pyradiomics(reference, small, kind):
    image, region = small
    filters = Filters(sigma=(1.0, 3.0))
    found = dict(volume_filters.images(image, kind, filters))
    features = reference[f"{SMALL}/{kind}"]["features"]
    named = {name.split("_")[0] for name in features} - {"original"}
    assert set(found) == named
    for name, filtered in found.items():
        assert_as_peer(reference, kind, name, filtered, region)


@pytest.mark.parametrize(
    ("case", "how"),
    [
        ("normalise", {"scale": 100}),
        ("outliers", {"scale": 100, "outliers": 2}),
    ],
)
def test_normalised_as_pyradiomics(reference, small, case, how):
    image, region = small
    done = volume_filters.normalise(image, **how)
    assert_as_peer(reference, case, "original", done, region)


@pytest.mark.parametrize(
    ("case", "how"),
    [
        ("resample", {"spacing": (2, 2, 2)}),
        (
            "resample_linear",
            {"spacing": (3, 3, 3), "interpolator": "sitkLinear"},
        ),
        ("resample_plane", {"spacing": (0, 1.5, 1.5)}),
    ],
)
def test_resampled_as_pyradiomics(reference, small, case, how):
    image, region = volume_filters.resample(*small, **how)
    assert image.array_ZxYxX.dtype == np.int16
    assert_as_peer(reference, case, "original", image, region)
    # The volume of a region is its voxels', which says that the mask agrees.
    volume = region.array_ZxYxX.sum() * region.spacing.prod()
    features = reference[f"{SMALL}/{case}"]["features"]
    np.testing.assert_allclose(
        volume, features["original_shape_VoxelVolume"], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("case", "how"),
    [
        ("resegment", {"limits": (300, 100)}),
        ("resegment_sigma", {"limits": (-1, 2), "mode": "sigma"}),
    ],
)
def test_resegmented_as_pyradiomics(reference, small, case, how):
    image, region = small
    kept = volume_filters.resegment(image, region, **how)
    assert_as_peer(reference, case, "original", image, kept)


SPACING, ORIGIN = (2.0, 1.0, 0.5), (3.0, -4.0, 5.0)


def ramp(slopes=(0.0, 0.0, 0.0), shape=(6, 8, 10), turn=None):
    """Intensities that rise by so much a millimetre along (z, y, x)."""
    at = np.indices(shape) * np.reshape(SPACING, (3, 1, 1, 1))
    array = np.tensordot(np.array(slopes), at, 1)
    return volumes.make(array, SPACING, ORIGIN, turn)


def boxed(image, low, high):
    """A region from one voxel to another."""
    array = np.zeros(image.array_ZxYxX.shape, bool)
    array[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return image.of(array)


TURNED = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("turn", [None, TURNED])
def test_the_new_grid_begins_at_the_corner_of_the_first_voxel(turn):
    image = ramp((3.0, -2.0, 5.0), turn=turn)
    region = boxed(image, (1, 2, 3), (4, 6, 7))
    fine = (1.0, 0.8, 0.4)
    moved, put = volume_filters.resample(
        image, region, fine, interpolator="sitkLinear", pad=1
    )
    # Of the first new voxel, from the outer corner of the old first one, which
    # lies at -spacing / 2: floor((low - 1/2) old / new - pad), at least 0.
    low = np.array((1, 2, 3))
    first = np.floor((low - 0.5) * np.array(SPACING) / fine - 1).clip(0)
    corner = -np.array(SPACING) / 2
    place = corner + (first + 0.5) * fine
    frame = np.eye(3) if turn is None else turn
    np.testing.assert_allclose(moved.origin, ORIGIN + frame @ place[::-1])
    np.testing.assert_array_equal(moved.spacing, fine)
    # A ramp is itself on any grid, and goes on flat beyond its outer centres.
    at = np.indices(moved.array_ZxYxX.shape) * np.reshape(fine, (3, 1, 1, 1))
    most = (np.array((6, 8, 10)) - 1) * SPACING
    at = np.clip(at + place.reshape(3, 1, 1, 1), 0, most.reshape(3, 1, 1, 1))
    expected = np.tensordot((3.0, -2.0, 5.0), at, 1)
    np.testing.assert_allclose(moved.array_ZxYxX, expected, atol=1e-9)
    # Of the mask, those whose centre is nearest to a marked voxel.
    nearest = np.rint(at / np.reshape(SPACING, (3, 1, 1, 1))).astype(int)
    np.testing.assert_array_equal(
        put.array_ZxYxX, region.array_ZxYxX[tuple(nearest)]
    )


def test_no_new_spacing_is_a_crop_with_a_margin():
    image = ramp((3.0, -2.0, 5.0))
    region = boxed(image, (2, 3, 4), (3, 3, 8))
    for spacing in ((0, 0, 0), SPACING):
        moved, put = volume_filters.resample(image, region, spacing, pad=1)
        np.testing.assert_array_equal(
            moved.array_ZxYxX, image.array_ZxYxX[1:5, 2:5, 3:10]
        )
        assert put.array_ZxYxX.sum() == region.array_ZxYxX.sum()
        np.testing.assert_allclose(moved.origin, ORIGIN + np.array([1.5, 2, 2]))


def test_one_slice_keeps_its_spacing():
    image = ramp((3.0, -2.0, 5.0))
    region = boxed(image, (2, 1, 1), (2, 6, 6))
    moved, put = volume_filters.resample(image, region, (1, 1, 1), pad=0)
    np.testing.assert_array_equal(moved.spacing, (2, 1, 1))
    assert put.array_ZxYxX.any((1, 2)).sum() == 1


def test_a_picture_is_resampled_in_its_plane():
    image = volumes.make(np.arange(80.0).reshape(8, 10), (1, 1, 0.5))
    region = image.of(np.ones((1, 8, 10), bool))
    moved, put = volume_filters.resample(image, region, (0, 2, 1), pad=0)
    assert moved.dimensions == 2 and moved.array_ZxYxX.shape == (1, 4, 5)
    assert put.array_ZxYxX.all()


def test_normalising_by_hand():
    array = np.random.default_rng(0).normal(50, 9, (4, 5, 6))
    image = ramp().of(array)
    score = (array - array.mean()) / array.std(ddof=1)
    done = volume_filters.normalise(image, scale=10, outliers=1.5)
    np.testing.assert_allclose(
        done.array_ZxYxX, 10 * np.clip(score, -1.5, 1.5), rtol=1e-12
    )
    flat = volume_filters.normalise(image.of(np.full((4, 5, 6), 7)))
    assert (flat.array_ZxYxX == 0).all()


def test_limits_are_closed_and_of_each_mode():
    array = np.arange(10.0).reshape(1, 1, 10)
    image = ramp().of(array)
    region = image.of(array < 9)  # 0 to 8: mean 4, variance 60 / 9.

    def kept(*args):
        found = volume_filters.resegment(image, region, *args)
        return found.array_ZxYxX.ravel().nonzero()[0].tolist()

    assert kept((5, 2)) == [2, 3, 4, 5]
    assert kept((7,)) == [7, 8]
    assert kept((0.5, 0.75), "relative") == [4, 5, 6]
    assert kept((-0.5, 2), "sigma") == [3, 4, 5, 6, 7, 8]
    with pytest.raises(UsageError, match=r"1 of 9.*\(8\).*spans \(0, 8\)"):
        kept((8,))
    with pytest.raises(UsageError, match=r"\[lower, upper\]"):
        kept((1, 2, 3))
    with pytest.raises(UsageError, match="Did you mean 'relative'"):
        kept((1,), "relativ")


def test_functions_of_an_intensity_keep_the_largest():
    # By hand for -4, 1 and 9, whose largest is 9.
    image = ramp().of(np.array([[[-4.0, 1.0, 9.0]]]))
    for kind, expected in {
        "Square": (16 / 9, 1 / 9, 9),
        "SquareRoot": (-6, 3, 9),
        "Logarithm": (
            -9 * np.log(5) / np.log(10), 9 * np.log(2) / np.log(10), 9,
        ),
        "Exponential": (9 ** (-4 / 9), 9 ** (1 / 9), 9),
    }.items():  # fmt: skip
        ((name, found),) = volume_filters.images(image, kind)
        assert name == kind.lower()
        np.testing.assert_allclose(found.array_ZxYxX.ravel(), expected)
        with pytest.raises(UsageError, match="largest intensity, which is 0"):
            volume_filters.pointwise(ramp(), kind)


def test_the_gradient_of_a_ramp_is_its_slope():
    image = ramp((3.0, -2.0, 5.0))
    inner = (slice(1, -1),) * 3
    found = volume_filters.gradient(image).array_ZxYxX[inner]
    np.testing.assert_allclose(found, np.sqrt(9 + 4 + 25), rtol=1e-6)
    found = volume_filters.gradient(image, use_spacing=False)
    voxel = np.sqrt(6**2 + 2**2 + 2.5**2)
    np.testing.assert_allclose(found.array_ZxYxX[inner], voxel, rtol=1e-6)


def test_the_laplacian_of_a_gaussian_at_a_blob():
    # Of a Gaussian of variance s^2 smoothed by one of t^2 the Laplacian in its
    # middle is -3 s^3 / (s^2 + t^2)^(5/2), and t^2 times that across scales.
    s, t, size = 4.0, 2.0, 41
    at = (np.indices((size,) * 3) - size // 2) ** 2
    blob = np.exp(-at.sum(0) / (2 * s**2))
    image = volumes.make(blob)
    found = volume_filters.laplacian(image, t).array_ZxYxX
    expected = -3 * t**2 * s**3 / (s**2 + t**2) ** 2.5
    # The recursive filter is an approximation, of a percent or so.
    middle = found[(size // 2,) * 3]
    np.testing.assert_allclose(middle, expected, rtol=0.03)


def test_a_laplacian_for_which_the_image_is_too_small(caplog):
    image = ramp(shape=(4, 8, 10))  # 8, 8 and 5 mm.
    names = [
        name
        for name, _ in volume_filters.images(
            image, "LoG", Filters(sigma=(2, 4.5, 7.0))
        )
    ]
    # ceil(4.5 / 0.5) + 1 = 10 voxels along x are just there, for 7 mm not.
    assert names == ["log-sigma-2-mm-3D", "log-sigma-4-5-mm-3D"]
    assert "sigma 7.0 mm needs (5, 8, 15) voxels, but" in caplog.text
    with pytest.raises(UsageError, match="smaller sigma"):
        volume_filters.laplacian(image, 7.0)
    with pytest.raises(UsageError, match="sigma is 0"):
        volume_filters.laplacian(image, 0)


def haar(image, **how):
    filters = Filters(wavelet="haar", **how)
    return dict(volume_filters.wavelets(image, filters))


def test_wavelets_of_haar_by_hand():
    # One level of Haar is (x[i] + x[i+1]) / sqrt(2) and their difference, with
    # the axis closed to a ring; of an odd axis with its first slice again.
    array = np.random.default_rng(1).normal(size=(3, 4, 5))
    image = ramp().of(array)
    found = haar(image)
    assert list(found) == [
        f"wavelet-{a}{b}{c}" for a in "LH" for b in "LH" for c in "LH"
    ][1:] + ["wavelet-LLL"]
    ring = np.pad(array, [(0, n % 2) for n in array.shape], mode="wrap")
    signs = {"L": 1, "H": -1}
    for name, filtered in found.items():
        expected = ring
        for axis, letter in zip((2, 1, 0), name[-3:], strict=True):
            after = np.roll(expected, -1, axis)
            expected = (expected + signs[letter] * after) / np.sqrt(2)
        np.testing.assert_allclose(
            filtered.array_ZxYxX, expected[:3, :4, :5], atol=1e-12
        )


def test_wavelets_of_later_levels_and_of_a_plane():
    image = ramp().of(np.random.default_rng(2).normal(size=(4, 4, 6)))
    low = haar(image)["wavelet-LLL"]
    two = haar(image, level=2)
    assert set(two) == {
        f"{n}-{a}{b}{c}"
        for n in ("wavelet", "wavelet2")
        for a in "LH"
        for b in "LH"
        for c in "LH"
    } - {"wavelet-LLL"}
    late = haar(image, start_level=1)
    for name, again in haar(low).items():
        second = two[name.replace("wavelet", "wavelet2")]
        np.testing.assert_array_equal(second.array_ZxYxX, again.array_ZxYxX)
        np.testing.assert_array_equal(late[name].array_ZxYxX, again.array_ZxYxX)
    flat = haar(image, plane=0)
    assert list(flat) == [f"wavelet-{x}" for x in ("LH", "HL", "HH", "LL")]
    picture = volumes.make(image.array_ZxYxX[1])
    for name, filtered in haar(picture).items():
        np.testing.assert_array_equal(
            filtered.array_ZxYxX[0], flat[name].array_ZxYxX[1]
        )


def test_what_is_not_there_is_told(monkeypatch):
    image = ramp()
    for name, message in (
        ("LBP2D", "'LBP2D' is not built.*scikit-image.*use some of Original"),
        ("LBP3D", "trimesh"),
        ("Wavelets", "Did you mean 'Wavelet'"),
    ):
        with pytest.raises(UsageError, match=message):
            list(volume_filters.images(image, name))
    with pytest.raises(UsageError, match="Did you mean 'coif1'"):
        list(volume_filters.wavelets(image, Filters(wavelet="coiff1")))
    with pytest.raises(UsageError, match="Did you mean 'sitkLinear'"):
        volume_filters.resample(
            image, boxed(image, (1, 1, 1), (2, 2, 2)), (1, 1, 1),
            interpolator="linear",
        )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(UsageError, match=r'pip install "jaxedge\[medical\]"'):
        list(volume_filters.images(image, "Wavelet"))


def test_nan_that_would_spread_is_told():
    array = ramp().array_ZxYxX
    array[0, 0, 0] = np.nan
    image = ramp().of(array)
    region = boxed(image, (2, 2, 2), (3, 3, 3))
    with pytest.raises(UsageError, match="1 NaN.*normalising would spread"):
        volume_filters.normalise(image)
    with pytest.raises(UsageError, match="1 NaN.*resampling would spread"):
        volume_filters.resample(image, region, (1, 1, 1))


def test_a_region_that_is_lost_is_told():
    image = ramp()
    with pytest.raises(UsageError, match="no voxel of the region is left"):
        # New voxels of 20 mm along x have their centres far from the mark.
        volume_filters.resample(
            image, boxed(image, (1, 1, 8), (2, 2, 9)), (0, 0, 20.0), pad=0
        )
