"""`jaxedge radiomics`: from files to a table, and what may go wrong."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import volumes
from jaxedge.features import radiomics as features
from jaxedge.run import (
    loop,
    main,
    radiomics,
    radiomics_case,
    radiomics_flags,
    radiomics_parameters,
    radiomics_prepare,
)

pytest.importorskip("SimpleITK")
pytest.importorskip("pywt")
pytestmark = pytest.mark.usefixtures("compile_quickly")

REFERENCE = (
    Path(__file__).parents[1] / "features" / "radiomics" / "pyradiomics.json"
)

SHAPE, SPACING = (5, 8, 9), (2.0, 1.0, 0.5)


def texture(seed=0):
    noise = np.random.default_rng(seed).normal(100, 40, SHAPE)
    return volumes.make(noise.astype(np.float32), SPACING, (1, 2, 3))


def marked(label=1):
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:7, 1:8] = label
    return volumes.make(array, SPACING, (1, 2, 3))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with three images, their masks, and a table of them."""
    monkeypatch.chdir(tmp_path)
    lines = ["ID,Image,Mask,Label,Ward"]
    for i, name in enumerate("abc"):
        volumes.write(tmp_path / f"{name}.nrrd", texture(i))
        volumes.write(tmp_path / f"{name}_mask.nrrd", marked(i + 1))
        lines.append(f"P {i},{name}.nrrd,{name}_mask.nrrd,{i + 1},north")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Computes one feature alone, by numpy, and lists the calls."""
    made = []

    def extract(image, mask, *, classes, prefix, **how):
        made.append({"classes": classes, "prefix": prefix, **how})
        mean = float(np.mean(image[mask]))
        return {f"{prefix}_{kind}_Mean": mean for kind in classes}

    def voxelwise(image, mask, feature, *, radius, **how):
        made.append({"feature": feature, "radius": radius, **how})
        return np.where(mask, image * radius, 0)

    monkeypatch.setattr(features, "extract", extract, raising=False)
    monkeypatch.setattr(features, "voxelwise", voxelwise, raising=False)
    return made


def rows(path="out.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def note(path="out.json"):
    with open(path) as file:
        return json.load(file)


def call(*arguments, out="--out=out.csv"):
    return main.console(["radiomics", *arguments, out])


def test_one_case(here, calls, capsys):
    assert call("a.nrrd", "a_mask.nrrd") == 0
    assert capsys.readouterr().out == "features: out.csv\n"
    (row,) = rows()
    assert row["Image"] == "a.nrrd" and row["Mask"] == "a_mask.nrrd"
    inside = texture(0).array_ZxYxX[marked().array_ZxYxX > 0]
    mean = float(row["original_glcm_Mean"])
    np.testing.assert_allclose(mean, inside.mean(), rtol=1e-6)
    assert "original_shape_Mean" in row and "original_shape2D_Mean" not in row
    assert calls[0]["spacing"] == SPACING and calls[0]["bin_width"] == 25
    told = note()
    assert told["versions"]["SimpleITK"] != "absent"
    assert told["settings"]["setting"]["binWidth"] == 25
    (case,) = told["cases"]
    assert case["region_voxels"] == inside.size and case["warnings"] == []
    assert case["spacing_zyx_mm"] == list(SPACING)


def test_a_table_of_cases_keeps_its_columns(here, calls, capsys):
    assert call("cases.csv") == 0
    found = rows()
    assert [row["ID"] for row in found] == ["P 0", "P 1", "P 2"]
    assert list(found[0])[:5] == ["ID", "Image", "Mask", "Label", "Ward"]
    assert {row["Ward"] for row in found} == {"north"}
    means = [float(row["original_firstorder_Mean"]) for row in found]
    expected = [texture(i).array_ZxYxX[1:4, 2:7, 1:8].mean() for i in range(3)]
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    assert "3 of 3 cases" in capsys.readouterr().err


def test_paths_are_relative_to_the_table(here, calls, monkeypatch):
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert call("../cases.csv") == 0
    assert len(rows()) == 3


def test_a_bad_case_does_not_lose_the_others(here, calls, capsys):
    (here / "b.nrrd").write_text("nothing")
    assert call("cases.csv") == 1
    err = capsys.readouterr().err
    assert "case2_P-1 failed: b.nrrd is no readable volume" in err
    assert "2 of 3 cases" in err
    assert [row["ID"] for row in rows()] == ["P 0", "P 2"]
    failed = [case for case in note()["cases"] if "error" in case]
    assert [case["case"]["ID"] for case in failed] == ["P 1"]
    # Once mended, it alone is computed, and stands in its place.
    volumes.write(here / "b.nrrd", texture(1))
    calls.clear()
    assert call("cases.csv") == 0
    assert len(calls) == 2  # Its shape, and its other classes.
    assert [row["ID"] for row in rows()] == ["P 0", "P 1", "P 2"]
    assert not [case for case in note()["cases"] if "error" in case]


def test_cases_that_are_done_are_kept(here, calls):
    assert call("cases.csv") == 0
    before = (here / "out.csv").read_text()
    calls.clear()
    assert call("cases.csv") == 0
    assert not calls and (here / "out.csv").read_text() == before
    # A file that has changed is read again.
    volumes.write(here / "c.nrrd", texture(7))
    assert call("cases.csv") == 0
    assert len(calls) == 2
    assert rows()[2] != list(csv.DictReader(before.splitlines()))[2]
    assert rows()[:2] == list(csv.DictReader(before.splitlines()))[:2]


def test_a_stopped_job_goes_on(here, calls):
    job = radiomics_flags.parse(["cases.csv", "--out=out.csv"])
    stop = loop.Stop()
    stop.asked = True
    with pytest.raises(loop.Preempted, match="stopped after case1_P-0"):
        radiomics.run(job, stop)
    assert [row["ID"] for row in rows()] == ["P 0"]
    calls.clear()
    assert radiomics.run(job) == 0
    assert len(rows()) == 3 and len(calls) == 4


def test_a_fault_of_a_library_is_one_of_its_case(
    here, calls, monkeypatch, capsys
):
    real = radiomics_case.features

    def odd(*arguments):
        if len(calls) == 2:
            calls.append({})
            raise RuntimeError("out of\nmemory")
        return real(*arguments)

    monkeypatch.setattr(radiomics_case, "features", odd)
    assert call("cases.csv") == 1
    err = capsys.readouterr().err
    assert "case2_P-1 failed: RuntimeError: out of memory\n" in err
    assert [row["ID"] for row in rows()] == ["P 0", "P 2"]


def test_a_crash_keeps_what_is_done(here, calls, monkeypatch):
    real = radiomics_case.features
    monkeypatch.setattr(
        radiomics_case,
        "features",
        lambda *a: real(*a) if len(calls) < 3 else 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        call("cases.csv")
    assert [row["ID"] for row in rows()] == ["P 0", "P 1"]


def test_other_settings_are_not_mixed(here, calls, capsys):
    assert call("cases.csv") == 0
    (here / "fine.yaml").write_text("setting:\n  binWidth: 5\n")
    assert call("cases.csv", "--param=fine.yaml") == 2
    err = capsys.readouterr().err
    assert "setting.binWidth: 25 there, 5 now" in err
    assert "choose another --out" in err
    # A table that is not ours stays as it is.
    (here / "mine.csv").write_text("a,b\n1,2\n")
    assert call("cases.csv", out="--out=mine.csv") == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (here / "mine.csv").read_text() == "a,b\n1,2\n"


def test_cases_of_another_call_stay_in_the_table(here, calls):
    assert call("a.nrrd", "a_mask.nrrd") == 0
    assert call("b.nrrd", "a_mask.nrrd") == 0
    assert [row["Image"] for row in rows()] == ["b.nrrd", "a.nrrd"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image,Label\na.nrrd,1\n", "needs Image and Mask"),
        ("image,Mask\na.nrrd,b\n", "rename 'image'"),
        ("Image,Mask\n", "has no case"),
        ("Image,Mask\na,b\nc,d\na,b\n", "lines 2 and 4"),
    ],
)
def test_a_bad_table_is_told(here, calls, capsys, text, message):
    (here / "bad.csv").write_text(text)
    assert call("bad.csv") == 2
    assert message in capsys.readouterr().err
    assert not (here / "out.csv").exists()


def test_bad_lines_of_a_table_are_bad_cases(here, calls, capsys):
    lines = (
        "Image,Mask,Label",
        "a.nrrd,a_mask.nrrd,1.0",
        ",a_mask.nrrd,1",
        "a.nrrd,a_mask.nrrd,x",
        "a.nrrd,a_mask.nrrd,9",
        "a.nrrd,a_mask.nrrd,1,2",
    )
    (here / "bad.csv").write_text("\n".join(lines))
    assert call("bad.csv") == 1
    err = capsys.readouterr().err
    for message in (
        "line 3 of bad.csv names no Image",
        "line 4 of bad.csv: Label 'x' is no number",
        "holds no label 9; choose from 1",
        "line 6 of bad.csv has more values than columns",
    ):
        assert message in err
    assert len(rows()) == 1


MISTAKES = {
    "one file": (["a.nrrd"], "1 files are named", "IMAGE and MASK"),
    "three files": (["a", "b", "c"], "3 files are named"),
    "table and mask": (["cases.csv", "a_mask.nrrd"], "2 files are named"),
    "flag": (["a.nrrd", "a_mask.nrrd", "--parm=x"], "Did you mean: param"),
    "label": (["a.nrrd", "a_mask.nrrd", "--label=x"], "label"),
    "no such label": (["a.nrrd", "a_mask.nrrd", "--label=2"], "no label 2"),
    "definitions": (
        ["a.nrrd", "a_mask.nrrd", "--definitions=isbi"],
        "pyradiomics|ibsi",
    ),
    "map": (
        ["a.nrrd", "a_mask.nrrd", "--maps=glcm_Idnn"],
        "'glcm_Idnn'",
        "Did you mean 'glcm_Idn'",
    ),
    "map of a shape": (
        ["a.nrrd", "a_mask.nrrd", "--maps=shape_Flatness"],
        "shape_Flatness",
    ),
    "radius": (
        ["a.nrrd", "a_mask.nrrd", "--maps=glcm_Idn", "--radius=1,x"],
        "'x'",
        "whole numbers from 1",
    ),
    "radius alone": (["a.nrrd", "a_mask.nrrd", "--radius=1"], "no --maps"),
    "radius twice": (
        ["a.nrrd", "a_mask.nrrd", "--maps=glcm_Idn", "--radius=1,1"],
        "names one twice",
    ),
    "param": (["a.nrrd", "a_mask.nrrd", "--param=no.yaml"], "no.yaml"),
    "image": (["no.nrrd", "a_mask.nrrd"], "no.nrrd is missing"),
    "table": (["no.csv"], "the table no.csv cannot be read"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_creates_nothing(here, capsys, mistake):
    arguments, *parts = MISTAKES[mistake]
    before = sorted(here.iterdir())
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("jaxedge: error: ")
    assert err.count("\n") == 1 and "Traceback" not in err
    for part in parts:
        assert part in err
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("out", ["--out=", "--out=x.txt", "--out=no/x.csv"])
def test_a_table_needs_a_place(here, capsys, out):
    assert call("a.nrrd", "a_mask.nrrd", out=out) == 2
    assert "--out" in capsys.readouterr().err


def test_maps_lie_beside_the_table(here, calls):
    (here / "p.yaml").write_text("voxelSetting:\n  initValue: -1\n")
    flags = ("--maps=glcm_Idn,firstorder_Mean", "--radius=1,2")
    assert call("a.nrrd", "a_mask.nrrd", "--param=p.yaml", *flags) == 0
    image, mask = texture().array_ZxYxX, marked().array_ZxYxX > 0
    for feature in ("glcm_Idn", "firstorder_Mean"):
        for radius in (1, 2):
            found = volumes.read(
                f"out_a_original_{feature}_radius{radius}.nrrd"
            )
            assert not volumes.differences(found, texture())
            expected = np.where(mask, image * radius, -1)
            np.testing.assert_allclose(found.array_ZxYxX, expected, rtol=1e-6)
    png = (here / "out_a_maps.png").read_bytes()
    assert png[:4] == b"\x89PNG"
    size = np.frombuffer(png[16:24], ">u4")
    assert (size > 300).all()
    assert note()["settings"]["radius"] == [1, 2]


def test_a_mask_on_another_grid(here, calls, capsys):
    moved = marked()._replace(origin=np.array([1, 2, 5.0]))
    volumes.write(here / "moved.nrrd", moved)
    assert call("a.nrrd", "moved.nrrd") == 2
    assert "origin (1, 2, 3) and (1, 2, 5)" in capsys.readouterr().err
    assert call("a.nrrd", "moved.nrrd", "--resample_mask") == 0
    # It lies one slice higher.
    expected = texture().array_ZxYxX[2:5, 2:7, 1:8].mean()
    found = float(rows()[0]["original_glcm_Mean"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def prepared(image=None, mask=None, **setting):
    parameters = radiomics_parameters.parse({"setting": setting})
    region = (mask or marked()).of((mask or marked()).array_ZxYxX > 0)
    return radiomics_prepare.prepare(image or texture(), region, parameters)


def test_the_shape_of_a_resegmented_region():
    found = prepared(resegmentRange=[90, 130])
    inside = (marked().array_ZxYxX > 0) & (texture().array_ZxYxX >= 90)
    inside &= texture().array_ZxYxX <= 130
    np.testing.assert_array_equal(found.region.array_ZxYxX, inside)
    assert found.shape.array_ZxYxX.sum() == 105  # The whole box of 3 x 5 x 7.
    both = prepared(resegmentRange=[90, 130], resegmentShape=True)
    np.testing.assert_array_equal(both.shape.array_ZxYxX, inside)


def test_regions_that_are_too_small():
    line = marked().of(np.zeros(SHAPE, bool))
    line.array_ZxYxX[2, 3, 2:6] = True
    with pytest.raises(UsageError, match="along 1 axes.*Dimensions is 2"):
        prepared(mask=line)
    prepared(mask=line, minimumROIDimensions=1)
    with pytest.raises(UsageError, match="105 voxels.*minimumROISize, 105"):
        prepared(minimumROISize=105)
    prepared(minimumROISize=104)


def test_the_order_of_spacings_and_the_crop():
    found = prepared(resampledPixelSpacing=[1, 2, 0], padDistance=0)
    np.testing.assert_array_equal(found.image.spacing, (2, 2, 1))
    with pytest.raises(UsageError, match="has 3 axes; give one number each"):
        prepared(resampledPixelSpacing=[1, 2])
    cropped = prepared(preCrop=True, padDistance=1)
    assert cropped.image.array_ZxYxX.shape == (5, 7, 9)
    assert cropped.read_size == SHAPE


def test_a_filter_that_spreads_nan_is_told(here, calls):
    image = texture()
    image.array_ZxYxX[0, 0, 0] = np.nan
    volumes.write(here / "a.nrrd", image)
    assert call("a.nrrd", "a_mask.nrrd") == 0  # Outside, it does no harm.
    parameters = radiomics_parameters.parse({"imageType": {"Wavelet": {}}})
    found = radiomics_prepare.prepare(
        image, marked().of(marked().array_ZxYxX > 0), parameters
    )
    with pytest.raises(UsageError, match="wavelet-LLH is not finite"):
        radiomics_case.features(found, parameters)


def test_image_types_have_settings_of_their_own(calls, caplog):
    parameters = radiomics_parameters.parse(
        {
            "imageType": {
                "Original": {},
                "Square": {"binWidth": 3, "distances": [2]},
                "LoG": {},
            },
            "featureClass": {"shape": [], "glcm": ["Idn"]},
        }
    )
    found = radiomics_case.features(prepared(), parameters)
    assert list(found) == [
        "original_shape_Mean", "original_glcm_Mean", "square_glcm_Mean",
    ]  # fmt: skip
    assert [one["bin_width"] for one in calls] == [25, 25, 3]
    assert calls[2]["options"].distances == (2,)
    assert "LoG has no sigma" in caplog.text


def test_which_shape_a_slice_has(calls, caplog):
    one = marked().of(np.zeros(SHAPE, bool))
    one.array_ZxYxX[2, 2:7, 1:8] = True
    flat = prepared(mask=one)
    classes = {"shape2D": [], "firstorder": []}
    given = {"setting": {"force2D": True}, "featureClass": classes}
    parameters = radiomics_parameters.parse(given)
    found = radiomics_case.features(flat, parameters)
    assert list(found) == ["original_shape2D_Mean", "original_firstorder_Mean"]
    assert calls[0]["shape_mask"].shape == SHAPE[1:]
    assert calls[0]["spacing"] == SPACING
    # Not asked for by name, it is there where it can be.
    default = radiomics_parameters.parse({"setting": {"force2D": True}})
    assert "original_shape2D_Mean" in radiomics_case.features(flat, default)
    found = radiomics_case.features(prepared(), default)
    assert "original_shape2D_Mean" not in found
    with pytest.raises(UsageError, match="region has 3 along axis 0"):
        radiomics_case.features(prepared(), parameters)
    radiomics_case.features(
        flat, radiomics_parameters.parse({"featureClass": classes})
    )
    assert "shape2D needs force2D" in caplog.text


def test_a_slice_across_another_axis(calls):
    one = marked().of(np.zeros(SHAPE, bool))
    one.array_ZxYxX[1:4, 2:7, 4] = True
    given = {"setting": {"force2D": True, "force2Ddimension": 2}}
    found = radiomics_case.features(
        prepared(mask=one), radiomics_parameters.parse(given)
    )
    assert "original_shape2D_Mean" in found
    flat = next(one for one in calls if "shape2D" in one["classes"])
    # (x, z, y), as the image is [z, y].
    assert flat["spacing"] == (0.5, 2.0, 1.0)
    assert flat["shape_mask"].shape == SHAPE[:2]


def test_definitions_of_the_ibsi_have_other_names(here, calls, capsys):
    (here / "p.yaml").write_text("featureClass:\n  glcm: [Idn]\n")
    flags = ("--definitions=ibsi", "--param=p.yaml")
    assert call("a.nrrd", "a_mask.nrrd", *flags) == 2
    assert "name classes alone" in capsys.readouterr().err


def test_definitions_of_the_ibsi(here, calls):
    (here / "p.yaml").write_text("featureClass:\n  glcm:\n  gldm: []\n")
    flags = ("--definitions=ibsi", "--param=p.yaml")
    assert call("a.nrrd", "a_mask.nrrd", *flags) == 0
    (made,) = calls
    assert made["definitions"] == "ibsi"
    assert made["classes"] == {"glcm": [], "gldm": []}
    assert note()["settings"]["definitions"] == "ibsi"


def test_deprecated_features_follow_from_others(monkeypatch):
    # Of a sphere of radius 3.
    known = {
        "Variance": 4.0,
        "Mean": 7.0,
        "MeshVolume": 36 * np.pi,
        "SurfaceArea": 36 * np.pi,
        "Sphericity": 1.0,
    }
    monkeypatch.setattr(
        features,
        "extract",
        lambda *_, classes, prefix, **__: {
            f"{prefix}_{kind}_{name}": known[name]
            for kind, wanted in classes.items()
            for name in wanted
        },
        raising=False,
    )
    wanted = {
        "firstorder": ["StandardDeviation", "Mean"],
        "shape": ["Compactness1", "Compactness2", "SphericalDisproportion"],
    }
    parameters = radiomics_parameters.parse({"featureClass": wanted})
    found = radiomics_case.features(prepared(), parameters)
    expected = {
        "original_firstorder_StandardDeviation": 2,
        "original_firstorder_Mean": 7,
        # As pyradiomics' documentation has it of a sphere.
        "original_shape_Compactness1": 1 / (6 * np.pi),
        "original_shape_Compactness2": 1,
        "original_shape_SphericalDisproportion": 1,
    }
    assert found == pytest.approx(expected, rel=1e-12)


# What follows computes features in earnest.

SMALL = "pyradiomics_breast1"


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


def params(case, **classes):
    """A parameter file's content for a case of the reference."""
    return {
        "setting": case["settings"],
        "imageType": case.get("images", {}),
        "featureClass": classes,
    }


def assert_as_peer(found, case):
    expected = case["features"]
    assert found
    for name, value in found.items():
        np.testing.assert_allclose(
            float(value), expected[name], rtol=1e-5, err_msg=name
        )


# Of one size and number of grey levels, so that all are one program a class.
@pytest.mark.parametrize(
    "name", ["resegment", "resegment_shape", "LoG", "Wavelet"]
)
def test_a_parameter_file_gives_the_numbers_of_pyradiomics(
    tmp_path, monkeypatch, real_file, reference, name
):
    path = real_file(f"radiomics/{SMALL}.npz")
    monkeypatch.chdir(tmp_path)
    case = reference[f"{SMALL}/{name}"]
    content = params(
        case,
        shape=["MeshVolume", "Flatness"],
        firstorder=[],
        ngtdm=["Contrast"],
    )
    (tmp_path / "params.json").write_text(json.dumps(content))
    assert call(str(path), str(path), "--param=params.json") == 0
    (row,) = rows()
    found = {n: v for n, v in row.items() if n in case["features"]}
    images = {"LoG": 2, "Wavelet": 8}.get(name, 1)
    assert len(found) == len(row) - 2 == 2 + images * 19
    assert_as_peer(found, case)


def test_a_slice_has_the_numbers_of_pyradiomics(real_file, reference):
    path = real_file("radiomics/pyradiomics_brain1.npz")
    case = reference["slice"]
    image, region = volumes.read_pair(path, path)
    part = slice(case["slice"], case["slice"] + 1)
    cut = [v.of(v.array_ZxYxX[part]) for v in (image, region)]
    content = params(case, shape2D=[], firstorder=["Mean", "TotalEnergy"])
    parameters = radiomics_parameters.parse(content)
    ready = radiomics_prepare.prepare(*cut, parameters)
    found = radiomics_case.features(ready, parameters)
    assert len(found) == 9 + 2
    assert_as_peer(found, case)
    # As a picture of two axes it has them without being asked for.
    flat = [
        volumes.make(v.array_ZxYxX[0], v.spacing, v.origin, v.direction)
        for v in cut
    ]
    default = radiomics_parameters.parse({})
    ready = radiomics_prepare.prepare(*flat, default)
    classes = radiomics_case.wanted(ready, default, "pyradiomics")
    assert "shape2D" in classes and "shape" not in classes


def test_maps_have_the_numbers_of_pyradiomics(real_file, reference):
    path = real_file(f"radiomics/{SMALL}.npz")
    case = reference["voxelwise/glcm/2"]
    parameters = radiomics_parameters.parse({})
    ready = radiomics_prepare.read(path, path, parameters)
    (made,) = radiomics_case.maps(ready, parameters, ["glcm_Idn"], [2])
    assert made.name == "original_glcm_Idn" and made.radius == 2
    assert not volumes.differences(made.volume, ready.image)
    at = tuple(np.array(case["voxels"]).T)
    np.testing.assert_allclose(
        made.volume.array_ZxYxX[at], case["features"][made.name], rtol=1e-5
    )
    assert (made.volume.array_ZxYxX[~ready.region.array_ZxYxX] == 0).all()
