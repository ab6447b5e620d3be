"""Shape of volumes against pyradiomics, the IBSI and float64 loops."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxedge.core import UsageError
from jaxedge.features.radiomics import diameters, mesh, moments, shape

HERE = Path(__file__).parent
SHAPE, SPACING = (4, 5, 6), np.array([1.0, 1.7, 0.6])
VOLUMES = (
    "ibsi1_ct_phantom", "ibsi1_digital_phantom", "pyradiomics_brain1",
    "pyradiomics_brain2", "pyradiomics_breast1", "pyradiomics_prostate_phantom",
)  # fmt: skip
ROOM = (26, 99, 100)  # The largest box of them.
NAMES = (
    "SurfaceArea", "MeshVolume", "Maximum2DDiameterSlice",
    "Maximum2DDiameterColumn", "Maximum2DDiameterRow", "Maximum3DDiameter",
)  # fmt: skip
# cShape.calculate_coefficients of pyradiomics 3.0.1 for `noise(seed)`, cut to
# its box and padded by one voxel.
MEASURED = np.array([
    (54.293782964, 5.355000000, 8.688498144, 5.0, 9.013878189, 9.191844211),
    (127.929790707, 21.590000000, 9.013878189, 5.0, 9.013878189, 9.191844211),
    (164.609610136, 47.132500000, 9.013878189, 5.0, 9.013878189, 9.5),
    (181.419500881, 68.765000000, 9.013878189, 5.0, 9.013878189, 9.5),
    (165.420790090, 97.622500000, 9.013878189, 5.0, 9.013878189, 9.5),
    (40.987898998, 3.485, 8.521150157, 4.386342440, 8.732124598, 8.888756943),
    (117.574717658, 21.505000000, 9.013878189, 5.0, 8.732124598, 9.327915094),
    (164.141872915, 41.055000000, 9.013878189, 5.0, 9.013878189, 9.327915094),
    (171.339582191, 85.510000000, 9.013878189, 5.0, 9.013878189, 9.5),
    (152.761568361, 105.187500000, 9.013878189, 5.0, 9.013878189, 9.5),
])  # fmt: skip
# The class RadiomicsShape of pyradiomics 3.0.1 for boxes of so many voxels.
BOXES = {
    (1, 1, 1): {
        "Elongation": np.nan, "Flatness": np.nan, "LeastAxisLength": 0.0,
        "MajorAxisLength": 0.0, "Maximum2DDiameterColumn": 1.0,
        "Maximum2DDiameterRow": 1.7, "Maximum2DDiameterSlice": 1.7,
        "Maximum3DDiameter": 1.7, "MeshVolume": 0.17, "MinorAxisLength": 0.0,
        "Sphericity": 0.7164752292447529, "SurfaceArea": 2.0713280763799826,
        "SurfaceVolumeRatio": 12.184282802235192, "VoxelVolume": 1.02,
    },
    (1, 1, 4): {
        "Elongation": 0.0, "Flatness": 0.0, "LeastAxisLength": 0.0,
        "MajorAxisLength": 2.6832815729997477, "Maximum2DDiameterColumn": 2.4,
        "Maximum2DDiameterRow": 1.7,
        "Maximum2DDiameterSlice": 2.475883680627989,
        "Maximum3DDiameter": 2.475883680627989, "MeshVolume": 1.7,
        "MinorAxisLength": 0.0, "Sphericity": 0.7510517062696928,
        "SurfaceArea": 9.17163792877375,
        "SurfaceVolumeRatio": 5.395081134572797, "VoxelVolume": 4.08,
    },
    (1, 3, 4): {
        "Elongation": 0.4832846095633819, "Flatness": 0.0,
        "LeastAxisLength": 0.0, "MajorAxisLength": 5.552176750308537,
        "Maximum2DDiameterColumn": 2.4, "Maximum2DDiameterRow": 5.1,
        "Maximum2DDiameterSlice": 5.408326913195984,
        "Maximum3DDiameter": 5.408326913195984, "MeshVolume": 8.84,
        "MinorAxisLength": 2.6832815729997477,
        "Sphericity": 0.7046387907272741, "SurfaceArea": 29.34173250576339,
        "SurfaceVolumeRatio": 3.3192005097017403, "VoxelVolume": 12.24,
    },
}  # fmt: skip
compiled = jax.jit(shape.features)


@jax.jit
def of_values(mask, spacing, values):
    return shape.features(
        mask, spacing, values_ZxYxX=values, definitions="ibsi"
    )


def noise(seed):
    """Of every configuration of a cube, and with many holes in the mesh."""
    rng = np.random.default_rng(seed)
    return rng.random(SHAPE) < (0.15, 0.35, 0.5, 0.65, 0.9)[seed % 5]


def placed(mask, room, at=(0, 0, 0)):
    out = np.zeros(room, bool)
    out[tuple(slice(a, a + n) for a, n in zip(at, mask.shape, strict=True))] = (
        mask
    )
    return out


def cropped(mask, *others):
    inside = np.argwhere(mask)
    box = tuple(
        slice(a, b + 1)
        for a, b in zip(inside.min(0), inside.max(0), strict=True)
    )
    return [array[box] for array in (mask, *others)]


def points(mask):
    """Middles of the faces between inside and outside, in voxels."""
    padded, found = np.pad(mask, 1), []
    for axis in range(3):
        at = np.argwhere(np.diff(padded, axis=axis)) - 1.0
        at[:, axis] += 0.5
        found.append(at)
    return np.concatenate(found)


def assert_close(found, expected, rtol=1e-6, atol=1e-6):
    for name, value in expected.items():
        np.testing.assert_allclose(
            float(found[name]), value, rtol, atol, err_msg=name
        )


# Against pyradiomics.


@pytest.mark.parametrize("at", [(0, 0, 0), (2, 1, 0), (4, 4, 4)])
def test_noise_is_measured_as_pyradiomics_does(at):
    """Of holes too, the volume does not depend on the margins."""
    for seed, expected in enumerate(MEASURED):
        mask = placed(noise(seed), (8, 9, 10), at)
        found = compiled(mask, SPACING)
        assert_close(found, dict(zip(NAMES, expected, strict=True)))


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_measured_as_pyradiomics_does(name, real_file):
    data = np.load(real_file(f"radiomics/{name}.npz"))
    (mask,) = cropped(data["mask"] == 1)
    cases = json.loads((HERE / "pyradiomics.json").read_text())
    expected = {
        key.removeprefix("original_shape_"): value
        for key, value in cases[name]["features"].items()
        if key.startswith("original_shape_")
    }
    found = compiled(placed(mask, ROOM), data["spacing_xyz"][::-1])
    assert {*found} == {*expected}
    # The largest deviation is 2e-7; the file has ten digits.
    assert_close(found, expected, 1e-6, 0)


@pytest.mark.parametrize("size", BOXES)
def test_lone_and_flat_regions_are_as_in_pyradiomics(size):
    mask = placed(np.ones(size, bool), (8, 9, 10))
    found = compiled(mask, SPACING)
    assert_close(found, BOXES[size])


# Against loops and formulas in float64.


def test_volume_is_that_of_tetrahedra_above_a_corner_of_the_box():
    for seed in range(5):
        mask = noise(seed)
        padded, total = np.pad(cropped(mask)[0], 1), 0.0
        for at in np.ndindex(*(n - 1 for n in padded.shape)):
            bits = [
                int(padded[tuple(at + corner)]) << b
                for b, corner in enumerate(mesh._CORNERS_8x3)
            ]
            triangles = np.array(at) + mesh._TRIANGLES_256[sum(bits)] / 2
            total += np.linalg.det(triangles).sum() / 6
        found = compiled(mask, np.ones(3))["MeshVolume"]
        np.testing.assert_allclose(found, total, rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_diameters_are_those_of_all_pairs(order):
    """Whatever axis is the longest."""
    base = np.zeros((9, 8, 10), bool)
    base[:4, :5, :6] = noise(1)
    base[5, 6] = base[3, 4]
    mask = base.transpose(order)
    at = points(mask)
    apart = (((at[:, None] - at) * SPACING) ** 2).sum(-1)
    found = jax.jit(diameters.diameters)(mask, jnp.float32(SPACING))
    np.testing.assert_allclose(found.largest, np.sqrt(apart.max()), rtol=1e-6)
    for axis in range(3):
        same = at[:, None, axis] == at[:, axis]
        np.testing.assert_allclose(
            found.across_3[axis], np.sqrt(apart[same].max()), rtol=1e-6
        )


def test_diameter_between_two_slices():
    """The faces between two slices that touch at a corner are a plane too."""
    mask = np.zeros(SHAPE, bool)
    mask[1, 0, 0] = mask[2, 4, 5] = True
    found = compiled(mask, SPACING)["Maximum2DDiameterSlice"]
    np.testing.assert_allclose(found, np.hypot(4 * 1.7, 5 * 0.6), rtol=1e-6)


def rod(n, radius, direction, spacing):
    """A cylinder across a cube of n^3 voxels."""
    at = (np.indices((n, n, n)).reshape(3, -1).T - (n - 1) / 2) * spacing
    direction = np.array(direction) / np.linalg.norm(direction)
    along = at @ direction
    away = (at**2).sum(1) - along**2
    return (away <= radius**2).reshape(n, n, n)


@pytest.mark.parametrize("direction", [(1, 1, 1), (0.1, 1, 0.7), (0, 0, 1)])
def test_axes_of_a_thin_rod_are_exact(direction):
    spacing = np.array([1.0, 0.9, 1.1])
    mask = rod(60, 2.0, direction, spacing)
    at = np.argwhere(mask) * spacing
    variances = np.linalg.eigvalsh(np.cov(at.T, bias=True))
    assert variances[2] / variances[0] > 200
    found = jax.jit(moments.axis_lengths)(mask, jnp.float32(spacing))
    np.testing.assert_allclose(found, 4 * np.sqrt(variances), rtol=1e-6)


@pytest.mark.parametrize("axes", [(2, 2, 2), (1.5, 2, 3), (1, 1, 7), (0, 2, 3)])
def test_area_of_an_ellipsoid_is_the_series_of_the_ibsi(axes):
    c, b, a = axes
    alpha, beta = np.sqrt(1 - (b / a) ** 2), np.sqrt(1 - (c / a) ** 2)
    product = max(
        alpha * beta, 1e-12
    )  # Of a ball, only the first term is left.
    v = np.arange(21)
    point = (alpha**2 + beta**2) / (2 * product)
    terms = product**v / (1 - 4.0 * v**2) * special.eval_legendre(v, point)
    found = shape._ellipsoid_area(2 * jnp.array([c, b, a], jnp.float32))
    np.testing.assert_allclose(
        found, 4 * np.pi * a * b * terms.sum(), rtol=1e-6
    )


# The definitions of the IBSI.


def test_the_digital_phantom_has_its_published_values(real_file):
    data = np.load(real_file("radiomics/ibsi1_digital_phantom.npz"))
    margins = ((0, 0), (0, 1), (0, 1))
    mask, image = (np.pad(data[k], margins) for k in ("mask", "image"))
    spacing = data["spacing_xyz"][::-1]
    found = of_values(mask == 1, spacing, image.astype(np.float32))
    found |= shape.hull_densities(mask == 1, spacing)
    with open(HERE / "ibsi_digital_phantom.csv", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["tag"].startswith("morph")]
    assert {*found} == {row["tag"] for row in rows} and len(rows) == 25
    for row in rows:
        value, tolerance = float(row["value"]), float(row["tolerance"])
        assert abs(float(found[row["tag"]]) - value) <= tolerance, row["tag"]


def test_intensities_are_weighed_as_pairs_are():
    rng = np.random.default_rng(0)
    mask = noise(3)
    values = rng.normal(1000, 3, SHAPE)
    with_nan = np.where(mask, values, np.nan)
    found = of_values(mask, SPACING, np.float32(with_nan))
    at, x = np.argwhere(mask) * SPACING, values[mask].astype(np.float32)
    n, away = len(x), x - x.mean(dtype=np.float64)
    distance = np.linalg.norm(at[:, None] - at, axis=-1)
    w = 1 / np.where(distance > 0, distance, np.inf)
    varied = w.sum() * (away**2).sum()
    pairs = (w * (away[:, None] - away) ** 2).sum()
    shift = at.mean(0) - (at * x[:, None]).sum(0) / x.sum(dtype=np.float64)
    volume = MEASURED[3][1]
    expected = {
        "morph_moran_i": n * (away @ w @ away) / varied,
        "morph_geary_c": (n - 1) * pairs / (2 * varied),
        "morph_integ_int": volume * x.mean(dtype=np.float64),
        "morph_com": np.linalg.norm(shift),
    }
    # The centres are 1e-3 mm apart: no digit of 1,000 may go lost.
    assert_close(found, expected, 1e-5, 0)


def test_constant_intensities_are_not_correlated():
    found = of_values(noise(2), SPACING, np.full(SHAPE, 0.1, np.float32))
    expected = {"morph_moran_i": 0, "morph_geary_c": 1, "morph_com": 0}
    assert_close(found, expected)


@pytest.mark.parametrize("size", BOXES)
def test_flat_regions_have_no_nan_but_that_of_a_voxel(size):
    mask = placed(np.ones(size, bool), SHAPE)
    found = of_values(mask, SPACING, np.ones(SHAPE, np.float32))
    missing = {name for name, value in found.items() if np.isnan(value)}
    lone = {"morph_pca_elongation", "morph_pca_flatness"}
    assert missing == (lone if size == (1, 1, 1) else set())
    assert np.isposinf(found["morph_vol_dens_aee"])


def test_hulls_are_octahedra_drawn_out():
    """Half a voxel around what is between the centres."""
    mask = np.zeros(SHAPE, bool)
    mask[1, 2, 1] = True
    one = shape.hull_densities(mask, SPACING)
    assert_close(one, dict.fromkeys(one, 1.0))
    mask[1, 2, 4] = True
    two = shape.hull_densities(mask, np.ones(3))
    hull = 1 / 6 + 3 * 0.5, np.sqrt(3) + 3 * 4 * np.sqrt(0.5)
    expected = {
        "morph_vol_dens_conv_hull": 2 / 6 / hull[0],
        "morph_area_dens_conv_hull": 2 * np.sqrt(3) / hull[1],
    }
    assert_close(two, expected)


# What every function keeps.


def test_vmap_changes_nothing():
    masks = np.stack([noise(seed) for seed in range(3)])
    spacings = np.float32([SPACING, 2 * SPACING, SPACING[::-1]])
    mapped = jax.jit(jax.vmap(shape.features))(masks, spacings)
    for i in range(3):
        found = compiled(masks[i], spacings[i])
        row = {name: value[i] for name, value in mapped.items()}
        assert_close(found, row)
        assert all(value.dtype == jnp.float32 for value in found.values())


def test_new_values_compile_nothing(compilations):
    shape.features(jnp.asarray(noise(0)), jnp.float32(SPACING))
    other = jnp.asarray(noise(1)), jnp.float32(SPACING[::-1])
    with compilations() as names:
        shape.features(*other)
    assert not names


def test_an_empty_region_is_finite():
    empty = np.zeros(SHAPE, bool)
    found = compiled(empty, SPACING)
    found |= of_values(empty, SPACING, np.ones(SHAPE, np.float32))
    for name, value in found.items():
        assert np.isfinite(value), name


def test_the_gradient_follows_the_spacing():
    """A feature of dimension k has the slope k along a common scale."""
    mask = noise(4)
    mask[1:] = False  # Flat: two axes have no length, and no NaN.
    spacing = jnp.float32(SPACING)
    found, slopes = jax.jit(
        lambda s: jax.jvp(lambda s: shape.features(mask, s), (s,), (s,))
    )(spacing)
    powers = dict.fromkeys(found, 1) | {
        "Elongation": 0, "Flatness": 0, "Sphericity": 0, "SurfaceArea": 2,
        "MeshVolume": 3, "VoxelVolume": 3, "SurfaceVolumeRatio": -1,
    }  # fmt: skip
    expected = {name: powers[name] * float(found[name]) for name in found}
    assert_close(slopes, expected, 1e-5, 1e-5)
    grad = jax.jit(jax.grad(lambda s: diameters.diameters(mask, s).largest))
    np.testing.assert_allclose(
        grad(spacing) @ spacing, found["Maximum3DDiameter"], rtol=1e-6
    )


MISUSES = {
    r"mask has shape \(4, 5\)": lambda: shape.features(
        noise(0)[:, :, 0], (1, 1)
    ),
    r"spacing \(2,\)": lambda: shape.features(noise(0), (1.0, 1.0)),
    "spacing is 0.0": lambda: shape.features(noise(0), (1.0, 0.0, 1.0)),
    "spacing is -1": lambda: shape.hull_densities(noise(0), (1.0, -1.0, 1.0)),
    "unknown definitions 'ISBI'": lambda: shape.features(
        noise(0), SPACING, definitions="ISBI"
    ),
    r"values have shape \(4, 5\)": lambda: shape.features(
        noise(0), SPACING, values_ZxYxX=np.ones((4, 5)), definitions="ibsi"
    ),
    "values inside the mask holds": lambda: shape.features(
        noise(0),
        SPACING,
        values_ZxYxX=np.full(SHAPE, np.nan),
        definitions="ibsi",
    ),
    "mask is empty": lambda: shape.hull_densities(np.zeros(SHAPE), SPACING),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
