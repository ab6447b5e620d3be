"""Tests of whole-region features against pyradiomics, the IBSI and each other.

The single classes have tests of their own; here it is the way from an image and
a mask to a name and a number.
"""

import csv
import json
import os
from pathlib import Path
import warnings

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.features import radiomics
from jaxedge.features.radiomics import Options, extraction, names

FOLDER = Path(__file__).parent
REFERENCE = json.loads((FOLDER / "pyradiomics.json").read_text())
ROOT = os.getenv("JAXEDGE_DATA")
needs_data = pytest.mark.skipif(
    not ROOT, reason="JAXEDGE_DATA does not name a data root"
)


def stored(name):
    """Image, mask and spacing (z, y, x) of a volume of the data root."""
    volume = np.load(Path(str(ROOT)) / "radiomics" / f"{name}.npz")
    return volume["image"], volume["mask"] == 1, volume["spacing_xyz"][::-1]


def made(seed=0, size=(6, 7, 8), levels=5):
    """A small volume with holes, its grey levels 25 apart."""
    rng = np.random.default_rng(seed)
    image = 25.0 * rng.integers(0, levels, size) + rng.uniform(0, 20, size)
    return image, rng.random(size) < 0.7


@needs_data
@pytest.mark.parametrize("name", ["pyradiomics_brain1", "pyradiomics_breast1"])
def test_all_features_of_pyradiomics(name):
    case = REFERENCE[name]
    image, mask, spacing = stored(name)
    found = radiomics.extract(image, mask, spacing=spacing, bin_width=25)
    assert len(found) == 107
    assert set(found) == set(case["features"])
    for key, value in case["features"].items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, err_msg=key)


@needs_data
def test_settings_of_pyradiomics():
    image, mask, spacing = stored("pyradiomics_breast1")
    for variant, how in (
        ("bin_count", {"bin_count": 16}),
        ("alpha", {"bin_width": 5, "options": Options(alpha=1.0)}),
        ("euclidean", {"options": Options(weighting="euclidean")}),
        ("shift", {"voxel_shift": 300.0}),
    ):
        case = REFERENCE[f"pyradiomics_breast1/{variant}"]["features"]
        kind = "firstorder" if variant == "shift" else "gldm"
        kinds = ["glcm"] if variant == "euclidean" else [kind]
        found = radiomics.extract(
            image, mask, spacing=spacing, classes=kinds, **how
        )
        for key, value in found.items():
            np.testing.assert_allclose(
                value, case[key], rtol=1e-5, err_msg=f"{variant} {key}"
            )


@needs_data
def test_a_slice_has_its_own_shape():
    case = REFERENCE["slice"]
    image, mask, spacing = stored("pyradiomics_brain1")
    at = case["slice"]
    found = radiomics.extract(
        image[at],
        mask[at],
        spacing=spacing[1:],
        classes=["shape2D", "firstorder", "glcm"],
    )
    # A slice has no volume; its voxels have the thickness of the volume's.
    del found["original_firstorder_TotalEnergy"]
    for key, value in found.items():
        np.testing.assert_allclose(
            value, case["features"][key], rtol=1e-5, err_msg=key
        )
    assert "original_shape2D_Perimeter" in found


@needs_data
def test_the_digital_phantom_of_the_ibsi():
    image, mask, spacing = stored("ibsi1_digital_phantom")
    found = radiomics.extract(
        image, mask, spacing=spacing, bin_width=1, definitions="ibsi"
    )
    with (FOLDER / "ibsi_digital_phantom.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 208 and {row["tag"] for row in rows} == set(found)
    for row in rows:
        assert names.ibsi_id(row["tag"]) == row["id"]
        value, within = float(row["value"]), float(row["tolerance"])
        # Published to three digits where there is no tolerance.
        digits = 0.5 * 10.0 ** (np.floor(np.log10(max(abs(value), 1e-9))) - 2)
        within = max(within, 1.001 * digits)
        assert abs(found[row["tag"]] - value) <= within, row


@pytest.fixture(scope="module")
def cohort():
    """Three volumes of different sizes, and the features of each alone."""
    kinds = {"firstorder": None, "glcm": ["Idn", "MCC"], "glszm": None}
    volumes = [made(i, (5 + i, 7, 8), 4 + i) for i in range(3)]
    legs = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (3.0, 1.0, 0.5)]
    alone = [
        radiomics.extract(*pair, spacing=leg, classes=kinds)
        for pair, leg in zip(volumes, legs, strict=True)
    ]
    return volumes, legs, kinds, alone


@pytest.mark.parametrize("block", [None, 2])
def test_a_cohort_is_its_volumes(cohort, block):
    volumes, legs, kinds, alone = cohort
    images, masks = zip(*volumes, strict=True)
    found = radiomics.extract_many(
        images, masks, spacing=legs, classes=kinds, block=block
    )
    assert set(found) == set(alone[0])
    for key, values in found.items():
        each = [one[key] for one in alone]
        np.testing.assert_allclose(values, each, rtol=2e-6, err_msg=key)


def test_other_values_compile_nothing(compilations):
    kinds = ["gldm", "ngtdm"]
    radiomics.extract(*made(0), classes=kinds)
    with compilations() as found:
        radiomics.extract(
            *made(1), classes=kinds, spacing=(2, 1, 1), bin_width=20.0
        )
        radiomics.extract(*made(2), classes=kinds, voxel_shift=5.0)
    assert not found


def test_a_constant_region_has_numbers():
    image, mask = np.full((4, 5, 6), 7.0), np.ones((4, 5, 6), bool)
    found = radiomics.extract(image, mask, classes=["glcm", "firstorder"])
    assert found["original_glcm_Idn"] == 1
    assert found["original_firstorder_Variance"] == 0
    assert np.isfinite(list(found.values())).all()


def test_classes_and_names_can_be_chosen():
    image, mask = made()
    found = radiomics.extract(
        image, mask, classes={"gldm": ["DependenceEntropy"]}
    )
    assert list(found) == ["original_gldm_DependenceEntropy"]
    told = radiomics.extract(image, mask, classes="ngtdm", prefix="wavelet-LLH")
    assert "wavelet-LLH_ngtdm_Busyness" in told
    ibsi = radiomics.extract(
        image, mask, classes={"ngtdm": ["ngt_busyness_3D"]}, definitions="ibsi"
    )
    assert list(ibsi) == ["ngt_busyness_3D"]


def test_labels_choose_the_region():
    image, mask = made()
    several = mask + 4 * (~mask)
    kinds = ["ngtdm"]
    found = radiomics.extract(image, several, label=1, classes=kinds)
    assert found == radiomics.extract(image, mask, classes=kinds)


def test_the_map_of_a_cube_is_its_feature():
    image, mask = made(size=(5, 5, 5), levels=4)
    mask[2, 2, 2] = True
    # One cube of radius 2 around the middle is the whole region; the grey
    # levels of both are binned over it.
    whole = radiomics.extract(
        image, mask, classes={"glcm": ["Idn", "Contrast"]}
    )
    maps = radiomics.voxelwise(
        image, mask, ["glcm_Idn", "glcm_Contrast"], radius=2
    )
    for name, found in maps.items():
        np.testing.assert_allclose(
            found[2, 2, 2], whole[f"original_{name}"], rtol=1e-5
        )
        assert not found[~mask].any()
    flat = radiomics.voxelwise(image[2], mask[2], radius=1)
    assert flat.shape == (5, 5) and flat[2, 2] > 0


@needs_data
@pytest.mark.parametrize("radius", [1, 2, 5, 10])
def test_maps_of_pyradiomics(radius):
    case = REFERENCE[f"voxelwise/glcm/{radius}"]
    image, mask, spacing = stored("pyradiomics_breast1")
    found = radiomics.voxelwise(image, mask, "glcm_Idn", radius=radius)
    assert found.shape == image.shape
    at = tuple(np.array(case["voxels"]).T)
    np.testing.assert_allclose(
        found[at], case["features"]["original_glcm_Idn"], rtol=1e-5
    )


def test_an_unmasked_kernel_sees_what_is_around():
    image, mask = made(3, (6, 6, 6))
    every = np.ones_like(mask)
    name = "firstorder_Maximum"
    found = radiomics.voxelwise(image, mask, name, masked_kernel=False)
    whole = radiomics.voxelwise(image, every, name)
    np.testing.assert_allclose(found[mask], whole[mask], rtol=1e-6)
    assert not found[~mask].any()


@pytest.mark.parametrize(
    "how, told",
    [
        ({"classes": ["glmc"]}, "glcm"),
        ({"classes": {"glcm": ["Idnn"]}}, "Idn"),
        ({"classes": []}, "classes is empty"),
        ({"classes": ["shape2D"]}, "one slice"),
        ({"definitions": "ibsy"}, "ibsi"),
        ({"definitions": "ibsi", "classes": ["shape2D"]}, "shape"),
        ({"options": Options(weighting="euclid")}, "euclidean"),
        ({"label": 3}, "label is 3"),
    ],
)
def test_bad_input_is_named(how, told):
    image, mask = made()
    with pytest.raises(UsageError, match=told):
        radiomics.extract(image, mask, **how)


def test_a_bad_volume_of_a_cohort_is_named():
    image, mask = made()
    with pytest.raises(UsageError, match="volume 1: mask is empty"):
        radiomics.extract_many([image, image], [mask, 0 * mask])
    with pytest.raises(UsageError, match="2 images and 1 masks"):
        radiomics.extract_many([image, image], [mask])
    with pytest.raises(UsageError, match="glcm_Idn"):
        radiomics.voxelwise(image, mask, "glcm_Idnn")
    with pytest.raises(UsageError, match="radius"):
        radiomics.voxelwise(image, mask, radius=0)


def test_features_are_a_pure_function():
    region = radiomics.regions.prepare(*made())
    pure = jax.jit(lambda r: extraction.features(r, "ngtdm"))(region)
    found = radiomics.extract(*made(), classes=["ngtdm"])
    for name, value in pure.items():
        key = f"original_ngtdm_{name}"
        np.testing.assert_allclose(value, found[key], rtol=1e-6)


def test_no_warning_on_ordinary_input():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        radiomics.extract(*made(), classes=["ngtdm"])
