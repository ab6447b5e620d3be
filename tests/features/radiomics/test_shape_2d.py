"""Shape of slices against pyradiomics' shape2D and float64 loops."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import shape_2d

CASES = Path(__file__).parent / "pyradiomics.json"
SHAPE, SPACING = (5, 6), np.array([1.7, 0.6])
NAMES = ("Perimeter", "MeshSurface", "MaximumDiameter")
# cShape.calculate_coefficients2D of pyradiomics 3.0.1 for `noise(seed)`, padded
# by one pixel.
MEASURED = np.array([
    (16.822205102, 4.080000000, 6.826419266),
    (33.444410204, 7.650000000, 8.584287973),
    (37.136083291, 14.790000000, 9.013878189),
    (37.222205102, 20.400000000, 8.832326987),
    (38.833307653, 21.420000000, 9.013878189),
    (19.022205102, 4.080000000, 8.521150157),
    (29.136083291, 9.180000000, 8.688498144),
    (31.536083291, 10.710000000, 8.832326987),
    (35.022205102, 25.500000000, 9.013878189),
    (35.433307653, 22.950000000, 9.013878189),
])  # fmt: skip
# The class RadiomicsShape2D of pyradiomics 3.0.1 for boxes of so many pixels.
BOXES = {
    (1, 1): {
        "Elongation": np.nan, "MajorAxisLength": 0.0, "MaximumDiameter": 1.7,
        "MeshSurface": 0.51, "MinorAxisLength": 0.0,
        "Perimeter": 3.6055512754639887,
        "PerimeterSurfaceRatio": 7.069708383262726, "PixelSurface": 1.02,
        "Sphericity": 0.702131316521521,
    },
    (1, 4): {
        "Elongation": 0.0, "MajorAxisLength": 2.6832815729997477,
        "MaximumDiameter": 2.475883680627989, "MeshSurface": 3.57,
        "MinorAxisLength": 0.0, "Perimeter": 7.205551275463987,
        "PerimeterSurfaceRatio": 2.0183617018106412, "PixelSurface": 4.08,
        "Sphericity": 0.9295480134228018,
    },
}  # fmt: skip
compiled = jax.jit(shape_2d.features)


def noise(seed):
    rng = np.random.default_rng(seed)
    return rng.random(SHAPE) < (0.15, 0.35, 0.5, 0.65, 0.9)[seed % 5]


def placed(mask, at=(0, 0), room=(9, 8)):
    out = np.zeros(room, bool)
    out[at[0] : at[0] + len(mask), at[1] : at[1] + mask.shape[1]] = mask
    return out


def assert_close(found, expected, rtol=1e-6, atol=1e-6):
    for name, value in expected.items():
        np.testing.assert_allclose(
            float(found[name]), value, rtol, atol, err_msg=name
        )


@pytest.mark.parametrize("at", [(0, 0), (2, 1), (4, 2)])
def test_noise_is_measured_as_pyradiomics_does(at):
    for seed, expected in enumerate(MEASURED):
        found = compiled(placed(noise(seed), at), SPACING)
        assert_close(found, dict(zip(NAMES, expected, strict=True)))


def test_a_slice_is_measured_as_pyradiomics_does(real_file):
    case = json.loads(CASES.read_text())["slice"]
    data = np.load(real_file(f"radiomics/{case['volume']}.npz"))
    mask = data["mask"][case["slice"]] == 1
    expected = {
        key.removeprefix("original_shape2D_"): value
        for key, value in case["features"].items()
        if key.startswith("original_shape2D_")
    }
    found = shape_2d.features(mask, data["spacing_xyz"][1::-1])
    assert {*found} == {*expected} and len(found) == 9
    assert_close(found, expected, 1e-6, 0)


@pytest.mark.parametrize("size", BOXES)
def test_lone_and_flat_regions_are_as_in_pyradiomics(size):
    found = compiled(placed(np.ones(size, bool)), SPACING)
    assert {*found} == {*BOXES[size]}
    assert_close(found, BOXES[size])


def test_axes_are_those_of_the_covariance():
    y, x = np.indices((40, 90))
    mask = np.abs(y - 20 - 0.2 * (x - 45)) < 1.2
    at = np.argwhere(mask) * SPACING
    variances = np.linalg.eigvalsh(np.cov(at.T, bias=True))
    minor, major = 4 * np.sqrt(variances)
    assert major > 10 * minor
    expected = {
        "MinorAxisLength": minor,
        "MajorAxisLength": major,
        "Elongation": minor / major,
    }
    assert_close(shape_2d.features(mask, SPACING), expected, 1e-6, 0)


def test_vmap_changes_nothing():
    masks = np.stack([placed(noise(seed)) for seed in range(3)])
    spacings = np.float32([SPACING, 2 * SPACING, SPACING[::-1]])
    mapped = jax.jit(jax.vmap(shape_2d.features))(masks, spacings)
    for i in range(3):
        row = {name: value[i] for name, value in mapped.items()}
        assert_close(compiled(masks[i], spacings[i]), row)
        assert all(value.dtype == jnp.float32 for value in row.values())


def test_an_empty_region_is_finite():
    found = compiled(np.zeros((9, 8), bool), SPACING)
    assert all(np.isfinite(value) for value in found.values())


MISUSES = {
    r"mask has shape \(1, 5, 6\)": lambda: shape_2d.features(
        noise(0)[None], SPACING
    ),
    r"spacing \(3,\)": lambda: shape_2d.features(noise(0), (1.0, 1.0, 1.0)),
    "spacing is nan": lambda: shape_2d.features(noise(0), (1.0, np.nan)),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
