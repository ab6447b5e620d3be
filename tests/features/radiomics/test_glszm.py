"""Zones against scipy's labels, pyradiomics and the IBSI."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxedge.core import UsageError
from jaxedge.features.radiomics import gldzm, glszm, names, zones
from jaxedge.features.radiomics.options import Options

HERE = Path(__file__).parent
SHAPE, LEVELS = (5, 9, 11), 4
REAL = (
    "ibsi1_digital_phantom",
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_breast1",
    "pyradiomics_prostate_phantom",
    "ibsi1_ct_phantom",
)


def spiral():
    """A path one voxel wide, wound through every other slice."""
    levels = np.zeros(SHAPE, np.int32)
    for z in range(0, SHAPE[0], 2):
        flat = np.zeros(SHAPE[1:], np.int32)
        place, way = np.array([0, 0]), np.array([0, 1])
        flat[0, 0] = 1
        for _ in range(100):
            for _ in range(2):
                ahead, after = place + way, place + 2 * way
                inside = (ahead >= 0).all() and (ahead < flat.shape).all()
                there = (after >= 0).all() and (after < flat.shape).all()
                if inside and not flat[tuple(ahead)]:
                    if not (there and flat[tuple(after)]):
                        break
                way = np.array([way[1], -way[0]])
            else:
                break
            place = place + way
            flat[tuple(place)] = 1
        levels[z] = flat
        if z:  # To the slice before: outside ends and inner ends in turn.
            end = (0, 0) if z % 4 else tuple(place)
            levels[z - 1][end] = 1
    return levels


def volumes():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(8, *SHAPE))
    levels = rng.integers(0, 4, noise.shape)
    for i in (1, 2):
        smooth = ndimage.gaussian_filter(noise[i], 0.3 + i / 2)
        levels[i] = np.digitize(smooth / smooth.std(), [-1, 0, 1])
    levels[3] = rng.integers(0, 2, SHAPE)
    levels[4] = spiral()
    levels[5] = 0
    levels[5, 2, 3, 4] = 4
    levels[6] = 2
    levels[7] = np.where(spiral() > 0, 1, 3)  # and all around it
    return levels.astype(np.int32)


def structure(plane, corners=True):
    shape = ndimage.generate_binary_structure(3, 3 if corners else 1)
    if plane is not None:
        around = [slice(None)] * 3
        for side in (0, 2):
            around[plane] = side
            shape[tuple(around)] = False
    return shape


def scipy_zones(levels, plane):
    """Level and bool volume of each zone."""
    for level in np.unique(levels[levels > 0]):
        labels, n = ndimage.label(levels == level, structure(plane))
        for k in range(1, n + 1):
            yield level, labels == k


@pytest.mark.parametrize("plane", (None, 0, 1))
def test_zones_are_those_of_scipy(plane):
    levels = volumes()
    run = jax.jit(jax.vmap(lambda v: zones.label(v, plane).reshape(v.shape)))
    for volume, roots in zip(levels, np.asarray(run(levels)), strict=True):
        for level, zone in scipy_zones(volume, plane):
            # The same label in all of the zone: the place of its first voxel.
            first = np.flatnonzero(zone)[0]
            assert (roots[zone] == first).all() and volume.flat[first] == level
    single = zones.label(levels[0], plane).reshape(levels[0].shape)
    inside = levels[0] > 0
    np.testing.assert_array_equal(single[inside], run(levels)[0][inside])


def test_a_path_through_a_large_volume_is_one_zone():
    # Ends that are 5,000 steps apart: a snake through rows, then slices.
    levels = np.zeros((21, 21, 43), np.int32)
    levels[::2, ::2] = 1
    levels[::2, 1::4, -1], levels[::2, 3::4, 0] = 1, 1
    levels[1::4, -1, -1], levels[3::4, 0, 0] = 1, 1
    assert ndimage.label(levels, structure(None))[1] == 1
    roots = np.asarray(zones.label(levels)).reshape(levels.shape)
    assert (roots[levels > 0] == 0).all() and levels.sum() > 5000


@pytest.mark.parametrize("plane", (None, 0))
def test_counts_are_those_of_scipy(plane):
    levels, options = volumes(), Options(plane=plane)
    run = jax.vmap(lambda v: glszm.matrix(v, LEVELS, options=options))
    counts_BxGxS, size_BxS = jax.jit(run)(levels)
    for i, volume in enumerate(levels):
        wanted = {}
        for level, zone in scipy_zones(volume, plane):
            place = int(level), int(zone.sum())
            wanted[place] = wanted.get(place, 0) + 1
        found = {
            (g + 1, int(size_BxS[i, s])): int(counts_BxGxS[i, g, s])
            for g, s in np.argwhere(counts_BxGxS[i])
        }
        assert found == wanted


@pytest.mark.parametrize("plane", (None, 2))
def test_depths_are_those_of_scipy(plane):
    rng = np.random.default_rng(1)
    inside = rng.random((3, 7, 8, 9)) < 0.9
    inside[2] = True
    run = jax.jit(jax.vmap(lambda v: zones.depths(v, plane)))
    found = np.asarray(run(inside))
    for volume, depth in zip(inside, found, strict=True):
        # Peeled layer by layer; beyond the array is outside.
        wanted, left = np.zeros(volume.shape, int), volume
        while left.any():
            wanted += left
            left = ndimage.binary_erosion(left, structure(plane, False))
        np.testing.assert_array_equal(depth, wanted)


def test_distances_of_zones_are_those_of_scipy():
    levels = volumes()
    run = jax.vmap(lambda v: gldzm.matrix(v, LEVELS))
    counts = np.asarray(jax.jit(run)(levels))
    assert counts.shape == (8, LEVELS, 3)
    for i, volume in enumerate(levels):
        padded = np.pad(volume > 0, 1)
        depth = ndimage.distance_transform_cdt(padded, "taxicab")
        depth, wanted = depth[1:-1, 1:-1, 1:-1], np.zeros((LEVELS, 3), int)
        for level, zone in scipy_zones(volume, None):
            wanted[level - 1, depth[zone].min() - 1] += 1
        np.testing.assert_array_equal(counts[i], wanted)


def crop(path, width, box=None):
    """Grey levels of the region in its box, or in a wider one."""
    with np.load(path) as file:
        image, mask = file["image"], file["mask"] == 1
    levels = np.where(mask, image // width, 0).astype(np.int32)
    levels[mask] += 1 - levels[mask].min()
    at = np.argwhere(mask)
    low, high = at.min(0), at.max(0) + 1
    cut = levels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if box is None:
        return cut
    return np.pad(
        cut, [(0, b - n) for b, n in zip(box, cut.shape, strict=True)]
    )


@pytest.mark.parametrize("name", REAL)
def test_features_are_those_of_pyradiomics(name, real_file):
    case = json.loads((HERE / "pyradiomics.json").read_text())[name]
    width = case["settings"]["binWidth"]
    path = real_file(f"radiomics/{name}.npz")
    # The box of the largest for all, so that one program is compiled.
    found = glszm.features(crop(path, width, (26, 99, 100)), 72)
    assert set(found) == set(names.PYRADIOMICS["glszm"])
    for feature, value in found.items():
        wanted = case["features"][f"original_glszm_{feature}"]
        np.testing.assert_allclose(value, wanted, 1e-5, err_msg=feature)


@pytest.mark.parametrize("name, plane", [("plane", 0), ("plane_x", 2)])
def test_planes_are_those_of_pyradiomics(name, plane, real_file):
    case = json.loads((HERE / "pyradiomics.json").read_text())
    wanted = case[f"pyradiomics_breast1/{name}"]["features"]
    path = real_file("radiomics/pyradiomics_breast1.npz")
    options = Options(plane=plane)
    found = glszm.features(crop(path, 25), 3, options=options)
    for feature, value in found.items():
        reference = wanted[f"original_glszm_{feature}"]
        np.testing.assert_allclose(value, reference, 1e-5, err_msg=feature)


@pytest.mark.parametrize("kind", ("glszm", "gldzm"))
def test_features_are_those_of_the_ibsi(kind, real_file):
    levels = crop(real_file("radiomics/ibsi1_digital_phantom.npz"), 1)
    module = {"glszm": glszm, "gldzm": gldzm}[kind]
    found = module.features(levels, 6, definitions="ibsi")
    assert set(found) == set(names.IBSI[kind])
    with (HERE / "ibsi_digital_phantom.csv").open() as file:
        rows = {row["tag"]: row for row in csv.DictReader(file)}
    for tag, value in found.items():
        wanted = float(rows[tag]["value"])
        # Three significant digits are given.
        unit = 10.0 ** (np.floor(np.log10(abs(wanted) or 1.0)) - 2)
        tolerance = max(float(rows[tag]["tolerance"]), 0.5001 * unit)
        np.testing.assert_allclose(value, wanted, 0, tolerance, err_msg=tag)


def test_one_voxel_and_a_constant_are_one_zone():
    run = jax.jit(jax.vmap(lambda v: glszm.features(v, LEVELS)))
    levels = np.append(volumes(), np.zeros((1, *SHAPE), np.int32), 0)
    found = run(levels)
    assert all(np.isfinite(value).all() for value in found.values())
    n = np.prod(SHAPE)
    for i, size in ((5, 1), (6, n)):
        np.testing.assert_allclose(found["LargeAreaEmphasis"][i], size**2, 1e-6)
        np.testing.assert_allclose(found["ZonePercentage"][i], 1 / size, 1e-6)
        assert found["ZoneEntropy"][i] == 0 == found["ZoneVariance"][i]


def test_values_do_not_compile_again(compilations):
    levels = volumes()
    glszm.features(levels[0], LEVELS)
    with compilations() as found:
        glszm.features(levels[1], LEVELS)
    assert not found


def test_wrong_input_is_named():
    levels = volumes()[0]
    with pytest.raises(UsageError, match="plane is 3"):
        glszm.features(levels, LEVELS, options=Options(plane=3))
    with pytest.raises(UsageError, match="'ibs'"):
        glszm.features(levels, LEVELS, definitions="ibs")
    with pytest.raises(UsageError, match="definitions of gldzm 'pyradiomics'"):
        gldzm.features(levels, LEVELS, definitions="pyradiomics")
