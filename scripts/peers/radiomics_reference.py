"""Radiomic features as pyradiomics computes them, for the tests.

Run in an environment of its own (pyradiomics 3.0.1 wants numpy below 2), with
the data root as JAXEDGE_DATA:

    python3.11 -m venv pyradiomics
    pyradiomics/bin/pip install "numpy<2" SimpleITK PyWavelets pykwalify six \
        "setuptools<80" wheel cython
    pyradiomics/bin/pip install --no-build-isolation pyradiomics==3.0.1
    pyradiomics/bin/python scripts/peers/radiomics_reference.py OUT.json
"""

import json
import logging
import os
import pathlib
import sys

import numpy as np
import radiomics  # type: ignore
from radiomics import featureextractor  # type: ignore
import SimpleITK as sitk

VOLUMES = (
    "ibsi1_ct_phantom",
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_breast1",
    "pyradiomics_prostate_phantom",
)
SMALL = "pyradiomics_breast1"
# Of one small volume: what else the settings of pyradiomics change.
VARIANTS = {
    "bin_count": {"binCount": 16},
    "fine_bins": {"binWidth": 5},
    "distances": {"distances": [1, 2]},
    "manhattan": {"weightingNorm": "manhattan"},
    "euclidean": {"weightingNorm": "euclidean"},
    "infinity": {"weightingNorm": "infinity"},
    "no_weighting": {"weightingNorm": "no_weighting"},
    "asymmetric": {"symmetricalGLCM": False},
    "alpha": {"gldm_a": 1, "binWidth": 5},
    "plane": {"force2D": True, "force2Ddimension": 0},
    "plane_x": {"force2D": True, "force2Ddimension": 2},
    "shift": {"voxelArrayShift": 300},
    "resegment": {"resegmentRange": [100, 300]},
    "resegment_sigma": {"resegmentRange": [-1, 2], "resegmentMode": "sigma"},
    "resegment_shape": {"resegmentRange": [100, 300], "resegmentShape": True},
    "normalise": {"normalize": True, "normalizeScale": 100, "binWidth": 5},
    "outliers": {
        "normalize": True,
        "removeOutliers": 2,
        "normalizeScale": 100,
        "binWidth": 5,
    },
    "resample": {"resampledPixelSpacing": [2, 2, 2]},
    "resample_linear": {
        "resampledPixelSpacing": [3, 3, 3],
        "interpolator": "sitkLinear",
    },
    "resample_plane": {"resampledPixelSpacing": [1.5, 1.5, 0]},
}
IMAGES = {
    "LoG": {"sigma": [1.0, 3.0]},
    "Wavelet": {},
    "Square": {},
    "SquareRoot": {},
    "Logarithm": {},
    "Exponential": {},
    "Gradient": {},
}
MAPS = (
    ("firstorder", None, 1),
    ("glcm", None, 1),
    ("glrlm", None, 1),
    ("glszm", None, 1),
    ("gldm", None, 1),
    ("ngtdm", None, 1),
    ("glcm", ["Idn"], 2),
    ("glcm", ["Idn"], 5),
    ("glcm", ["Idn"], 10),
    ("firstorder", ["Mean", "Variance", "Entropy", "Median"], 3),
)


def main(out: str) -> None:
    """Writes every case."""
    radiomics.logger.setLevel(logging.ERROR)
    root = pathlib.Path(os.environ["JAXEDGE_DATA"]) / "radiomics"
    cases = {}
    for name in VOLUMES:
        cases[name] = case(root, name, {"binWidth": 25})
    cases["ibsi1_digital_phantom"] = case(
        root, "ibsi1_digital_phantom", {"binWidth": 1}
    )
    for name, settings in VARIANTS.items():
        cases[f"{SMALL}/{name}"] = case(
            root, SMALL, {"binWidth": 25, **settings}
        )
    for name, settings in IMAGES.items():
        cases[f"{SMALL}/{name}"] = case(
            root, SMALL, {"binWidth": 25}, images={name: settings}
        )
    for features, names, radius in MAPS:
        key = f"voxelwise/{features}/{radius}"
        cases[key] = maps(root, features, names, radius)
    cases["slice"] = flat(root)
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    pathlib.Path(out).write_text(text, "utf-8")


def case(root, name, settings, images=None):
    """All default features of one volume, label 1."""
    image, mask = load(root / f"{name}.npz")
    extractor = featureextractor.RadiomicsFeatureExtractor(
        additionalInfo=False, **settings
    )
    if images:
        extractor.disableAllImageTypes()
        for kind, custom in images.items():
            extractor.enableImageTypeByName(kind, customArgs=custom)
    found = extractor.execute(image, mask)
    return {
        "volume": name,
        "settings": settings,
        "images": images or {"Original": {}},
        "features": numbers(found),
    }


def maps(root, features, names, radius):
    """Voxel-wise values at some voxels of the small volume."""
    image, mask = load(root / f"{SMALL}.npz")
    extractor = featureextractor.RadiomicsFeatureExtractor(
        additionalInfo=False, binWidth=25, kernelRadius=radius
    )
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**{features: names or []})
    found = extractor.execute(image, mask, voxelBased=True)
    inside = np.argwhere(sitk.GetArrayFromImage(mask) == 1)
    some = inside[:: max(len(inside) // 40, 1)]
    values = {}
    for key, volume in found.items():
        array = sitk.GetArrayFromImage(volume)
        start = np.round(
            image.TransformPhysicalPointToContinuousIndex(volume.GetOrigin())
        ).astype(int)[::-1]
        values[key] = [rounded(array[tuple(at - start)]) for at in some]
    return {
        "volume": SMALL,
        "radius": radius,
        "voxels": some.tolist(),
        "features": values,
    }


def flat(root):
    """Shape in two dimensions: the slice of brain1 with the largest region."""
    image, mask = load(root / "pyradiomics_brain1.npz")
    array = sitk.GetArrayFromImage(mask) == 1
    best = int(array.sum((1, 2)).argmax())
    extractor = featureextractor.RadiomicsFeatureExtractor(
        additionalInfo=False, binWidth=25, force2D=True
    )
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(shape2D=[], firstorder=[], glcm=[])
    at = [0, 0, best]
    size = [*image.GetSize()[:2], 1]
    cut = [sitk.RegionOfInterest(v, size, at) for v in (image, mask)]
    return {
        "volume": "pyradiomics_brain1",
        "slice": best,
        "settings": {"binWidth": 25, "force2D": True},
        "features": numbers(extractor.execute(*cut)),
    }


def load(path):
    """Image and mask with their geometry."""
    stored = np.load(path)
    found = []
    for key in ("image", "mask"):
        array = stored[key]
        if key == "mask":
            array = (array == 1).astype(np.uint8)
        volume = sitk.GetImageFromArray(array)
        volume.SetSpacing(stored["spacing_xyz"].astype(float).tolist())
        volume.SetOrigin(stored["origin_xyz"].astype(float).tolist())
        volume.SetDirection(stored["direction"].astype(float).ravel().tolist())
        found.append(volume)
    return found


def numbers(found):
    """Features as Python numbers."""
    return {key: rounded(value) for key, value in found.items()}


def rounded(value):
    """To ten digits, which is more than single precision tells apart."""
    return float(f"{float(value):.10g}")


if __name__ == "__main__":
    main(sys.argv[1])
