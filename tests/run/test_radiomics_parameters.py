"""Parameter files of pyradiomics: kept to, or refused by name."""

import json

import pytest

from jaxedge.core.checks import UsageError
from jaxedge.features.radiomics.options import Options
from jaxedge.run import radiomics_parameters

pytest.importorskip("pywt")

# As its users write them: comments, an empty list for all, numbers in words.
MR = """\
# Settings of an MR study.
imageType:
  Original: {}
  LoG:
    sigma: [2.0, 3, 4.5]  # mm
  Wavelet:
    binWidth: 10
    wavelet: db2

featureClass:
  shape:
  firstorder: []
  glcm:
    - 'Idn'
    - Contrast

setting:
  normalize: true
  normalizeScale: 100
  interpolator: 'sitkLinear'
  resampledPixelSpacing: [2, 2, 0]
  binWidth: 5
  geometryTolerance: 1e-3
  weightingNorm: null
  voxelArrayShift: 300
  label: 2

voxelSetting:
  kernelRadius: 2
  maskedKernel: true
  initValue: .nan
"""


def write(tmp_path, text, name="params.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_is_kept_to(tmp_path):
    found = radiomics_parameters.read(write(tmp_path, MR))
    assert found.setting["geometryTolerance"] == 1e-3
    assert found.setting["resampledPixelSpacing"] == [2, 2, 0]
    assert (
        found.setting["normalizeScale"] == 100 and found.setting["label"] == 2
    )
    assert list(found.images) == ["Original", "LoG", "Wavelet"]
    assert found.classes == {
        "shape": (),
        "firstorder": (),
        "glcm": ("Idn", "Contrast"),
    }
    # What an image type says goes before what all are told.
    assert found.of_image("Wavelet")["binWidth"] == 10
    assert found.of_image("LoG")["binWidth"] == 5
    assert found.of_image("LoG")["sigma"] == [2.0, 3, 4.5]
    assert found.voxels["kernelRadius"] == 2
    assert found.voxels["initValue"] != found.voxels["initValue"]
    # What is not said is pyradiomics' default.
    assert found.setting["padDistance"] == 5
    assert found.setting["minimumROIDimensions"] == 2
    assert found.setting["additionalInfo"] is True


def test_json_and_an_empty_file(tmp_path):
    text = json.dumps({"setting": {"binCount": 32, "binWidth": None}})
    found = radiomics_parameters.read(write(tmp_path, text, "params.json"))
    assert found.setting["binCount"] == 32 and found.setting["binWidth"] == 25
    empty = radiomics_parameters.read(write(tmp_path, "# nothing\n"))
    assert empty == radiomics_parameters.parse({})
    assert empty.images == {"Original": {}} and empty.classes is None


def test_options_of_the_matrices():
    found = radiomics_parameters.parse(
        {
            "setting": {
                "distances": [1, 2],
                "symmetricalGLCM": False,
                "weightingNorm": "euclidean",
                "force2D": True,
                "force2Ddimension": 2,
                "gldm_a": 3,
            }
        }
    )
    assert radiomics_parameters.options(found.setting) == Options(
        (1, 2), False, "euclidean", 2, 3.0
    )
    assert radiomics_parameters.filters(found.setting).plane == 2


def test_interpolators_have_numbers():
    for number, name in ((1, "sitkNearestNeighbor"), (3, "sitkBSpline")):
        found = radiomics_parameters.parse(
            {"setting": {"interpolator": number}}
        )
        assert found.setting["interpolator"] == name
    none = radiomics_parameters.parse({"setting": {"interpolator": None}})
    assert none.setting["interpolator"] is None


def test_an_anchor_may_be_overridden(tmp_path):
    text = """
setting: &all
  binWidth: 10
imageType:
  Original: {}
  Wavelet:
    <<: *all
    level: 2
"""
    found = radiomics_parameters.read(write(tmp_path, text))
    assert found.of_image("Wavelet")["binWidth"] == 10


SETTING = "setting:\n  "
MISTAKES = {
    "section": ("settings:\n  binWidth: 5", "'settings'", "'setting'"),
    "key": (f"{SETTING}binwidth: 5", "'binwidth'", "mean 'binWidth'"),
    "no mapping": ("setting: 5", "setting is 5", "names with values"),
    "empty section": ("setting:", "setting is None", "{}"),
    "text": (f"{SETTING}binWidth: '5'", "setting.binWidth is '5'", "a number"),
    "flag": (f"{SETTING}force2D: 1", "force2D is 1", "true or false"),
    "truth": (f"{SETTING}binWidth: true", "binWidth is True", "a number"),
    "fraction": (f"{SETTING}label: 1.5", "label is 1.5", "a whole number"),
    "list": (f"{SETTING}distances: 1", "distances is 1", "such as [1]"),
    "range": (f"{SETTING}binWidth: 0", "setting.binWidth is 0", "(0, inf]"),
    "entry": (f"{SETTING}distances: [0]", "setting.distances is 0"),
    "twice in a list": (f"{SETTING}distances: [1, 1]", "distances is (1, 1)"),
    "length": (
        f"{SETTING}resampledPixelSpacing: [1]",
        "resampledPixelSpacing is [1]",
        "2 or 3 numbers",
    ),
    "choice": (
        f"{SETTING}resegmentMode: absolut",
        "'absolut'",
        "Did you mean 'absolute'",
    ),
    "interpolator": (f"{SETTING}interpolator: sitkSpline", "'sitkBSpline'"),
    "norm": (f"{SETTING}weightingNorm: euclid", "mean 'euclidean'"),
    "kernel": (
        "voxelSetting:\n  maskedKernel: false",
        "maskedKernel is false",
        "voxels of the region",
    ),
    "voxels elsewhere": (f"{SETTING}kernelRadius: 2", "'kernelRadius'"),
    "refused": (f"{SETTING}lbp2DRadius: 2", "lbp2DRadius", "not built"),
    "refused image": ("imageType:\n  LBP3D: {}", "LBP3D is not built"),
    "image": ("imageType:\n  Log: {}", "'Log'", "Did you mean 'LoG'"),
    "image without braces": (
        "imageType:\n  Original:",
        "imageType.Original is None",
        "{}",
    ),
    "setting of an image": (
        "imageType:\n  Original:\n    normalize: true",
        "imageType.Original.normalize has no effect",
        "in setting",
    ),
    "wavelet": (
        "imageType:\n  Wavelet:\n    wavelet: coiff1",
        "Did you mean 'coif1'",
    ),
    "class": ("featureClass:\n  glc: []", "'glc'", "Did you mean 'glcm'"),
    "feature": (
        "featureClass:\n  glcm: [Idnn]",
        "feature of glcm 'Idnn'",
        "Did you mean 'Idn'",
    ),
    "features": ("featureClass:\n  glcm: Idn", "'Idn'", "a list of"),
    "no names": ("featureClass:\n  glcm: [[Idn]]", "has ['Idn']", "names of"),
    "deprecated": (
        "featureClass:\n  glcm: [Dissimilarity]",
        "equal to DifferenceAverage",
    ),
    "twice": (
        f"{SETTING}binWidth: 1\n  binWidth: 2",
        "binWidth is there twice",
    ),
    "a list as a name": (f"{SETTING}? [a]\n  : 1", "no YAML", "unhashable"),
    "no date": (f"{SETTING}binWidth: 2001-99-99", "no YAML", "month"),
    "no number": (f"{SETTING}binWidth: 0x_", "no YAML", "base 16"),
    "nested": (f"{SETTING}binWidth: {'[' * 5_000}", "no YAML", "recursion"),
    "no yaml": ("setting: [", "no YAML or JSON", "line 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(tmp_path, mistake):
    text, *parts = MISTAKES[mistake]
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        radiomics_parameters.read(path)
    message = str(caught.value)
    assert message.startswith(f"parameter file {path}") and "\n" not in message
    for part in parts:
        assert part in message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        radiomics_parameters.read(tmp_path / "no.yaml")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        radiomics_parameters.read(tmp_path / "a.yaml")
    deep = write(tmp_path, "[" * 100_000, "deep.json")
    with pytest.raises(UsageError, match="no YAML or JSON .*recursion"):
        radiomics_parameters.read(deep)
    twice = write(tmp_path, '{"setting": {}, "setting": {}}', "twice.json")
    with pytest.raises(UsageError, match="setting is there twice"):
        radiomics_parameters.read(twice)
