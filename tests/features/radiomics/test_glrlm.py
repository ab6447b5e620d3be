"""Run lengths against walks along lines, pyradiomics and the IBSI."""

import csv
import functools
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import glrlm, names, neighbours
from jaxedge.features.radiomics.options import Options

HERE = Path(__file__).parent
SHAPE, LEVELS = (4, 5, 6), 5
SPACING = (3.0, 0.5, 1.0)
CASES = {
    "manhattan": Options(weighting="manhattan"),
    "euclidean": Options(weighting="euclidean"),
    "infinity": Options(weighting="infinity"),
    "no_weighting": Options(weighting="no_weighting"),
    "plane": Options(plane=0),
    "plane_x": Options(plane=2),
}
REAL = (
    "ibsi1_digital_phantom",
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_breast1",
    "pyradiomics_prostate_phantom",
    "ibsi1_ct_phantom",
)


def volumes():
    """Few levels, so that runs are long; holes; thin regions; one voxel."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 4, (8, *SHAPE))
    levels[1] = np.minimum(levels[1], 1)
    levels[2] = 2
    levels[3, :3], levels[3, 3] = 0, 4
    levels[4] = 0
    levels[4, 1, 2, 3] = 3
    levels[5] = 0
    # Two voxels apart on one line of one direction.
    levels[5, 0, 0, 0], levels[5, 3, 3, 3] = 1, 1
    levels[6, :, 1:4, 2] = 3
    levels[7] = 0
    return levels.astype(np.int32)


def walk(levels, step):
    """Runs along one direction, line by line: counts, and voxels of lines."""

    def inside(voxel):
        return all(0 <= a < n for a, n in zip(voxel, SHAPE, strict=True))

    counts, most = np.zeros((LEVELS, max(SHAPE)), int), 0
    for first in itertools.product(*map(range, SHAPE)):
        if inside(np.subtract(first, step)):
            continue
        line, voxel = [], np.array(first)
        while inside(voxel):
            line.append(int(levels[tuple(voxel)]))
            voxel = voxel + step
        most = max(most, sum(level > 0 for level in line))
        for level, run in itertools.groupby(line):
            if level:
                counts[level - 1, len(list(run)) - 1] += 1
    return counts, most


@pytest.mark.parametrize("plane", (None, 1))
def test_counts_are_those_of_walks_along_lines(plane):
    levels, options = volumes(), Options(plane=plane)

    def run(definitions):
        settings = {"options": options, "definitions": definitions}
        one = functools.partial(glrlm.matrix, n_levels=LEVELS, **settings)
        return jax.jit(jax.vmap(one))(levels)

    all_runs, paired = run("ibsi"), run("pyradiomics")
    steps = neighbours.offsets((1,), plane)
    assert all_runs.shape == (8, len(steps), LEVELS, max(SHAPE))
    for i, (a, step) in itertools.product(range(8), enumerate(steps)):
        counts, most = walk(levels[i], step)
        np.testing.assert_array_equal(all_runs[i, a], counts)
        np.testing.assert_array_equal(paired[i, a], counts * (most > 1))


@pytest.mark.parametrize("norm", ("manhattan", "euclidean", "infinity"))
def test_a_weighting_adds_directions(norm):
    levels = volumes()[0]
    counts = glrlm.matrix(levels, LEVELS)
    leg = np.abs(neighbours.offsets()) * SPACING
    order = {"manhattan": 1, "euclidean": 2, "infinity": np.inf}[norm]
    weight = np.linalg.norm(leg, order, axis=1)
    found = glrlm.matrix(
        levels, LEVELS, spacing=SPACING, options=Options(weighting=norm)
    )
    wanted = np.tensordot(weight, counts, 1)[None]
    np.testing.assert_allclose(found, wanted, 1e-6)


def crop(path, width, box=None):
    """Grey levels of the region in its box, or in a wider one."""
    with np.load(path) as file:
        image, mask = file["image"], file["mask"] == 1
        spacing = file["spacing_xyz"][::-1]
    levels = np.where(mask, image // width, 0).astype(np.int32)
    levels[mask] += 1 - levels[mask].min()
    at = np.argwhere(mask)
    low, high = at.min(0), at.max(0) + 1
    cut = levels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if box is not None:
        cut = np.pad(
            cut, [(0, b - n) for b, n in zip(box, cut.shape, strict=True)]
        )
    return cut, tuple(map(float, spacing))


@pytest.mark.parametrize("name", REAL)
def test_features_are_those_of_pyradiomics(name, real_file):
    case = json.loads((HERE / "pyradiomics.json").read_text())[name]
    width = case["settings"]["binWidth"]
    path = real_file(f"radiomics/{name}.npz")
    # The box of the largest for all, so that one program is compiled.
    levels, _ = crop(path, width, (26, 99, 100))
    found = glrlm.features(levels, 72)
    assert set(found) == set(names.PYRADIOMICS["glrlm"])
    for feature, value in found.items():
        wanted = case["features"][f"original_glrlm_{feature}"]
        np.testing.assert_allclose(value, wanted, 1e-5, err_msg=feature)


@pytest.mark.parametrize("name", CASES)
def test_options_are_those_of_pyradiomics(name, real_file):
    case = json.loads((HERE / "pyradiomics.json").read_text())
    wanted = case[f"pyradiomics_breast1/{name}"]["features"]
    path = real_file("radiomics/pyradiomics_breast1.npz")
    levels, spacing = crop(path, 25)
    found = glrlm.features(levels, 3, spacing=spacing, options=CASES[name])
    for feature, value in found.items():
        reference = wanted[f"original_glrlm_{feature}"]
        np.testing.assert_allclose(value, reference, 1e-5, err_msg=feature)


def test_features_are_those_of_the_ibsi(real_file):
    levels, _ = crop(real_file("radiomics/ibsi1_digital_phantom.npz"), 1)
    found = glrlm.features(levels, 6, definitions="ibsi")
    assert set(found) == set(names.IBSI["glrlm"])
    with (HERE / "ibsi_digital_phantom.csv").open() as file:
        rows = {row["tag"]: row for row in csv.DictReader(file)}
    for tag, value in found.items():
        wanted = float(rows[tag]["value"])
        # Three significant digits are given.
        unit = 10.0 ** (np.floor(np.log10(abs(wanted))) - 2)
        tolerance = max(float(rows[tag]["tolerance"]), 0.5001 * unit)
        np.testing.assert_allclose(value, wanted, 0, tolerance, err_msg=tag)


def test_one_voxel_has_no_runs_as_of_pyradiomics():
    run = jax.vmap(lambda v: glrlm.features(v, LEVELS))
    found = jax.jit(run)(volumes())
    for value in found.values():
        # Volume 4 is one voxel, 7 is empty; two voxels on a line are enough.
        np.testing.assert_array_equal(
            np.isnan(value), np.isin(range(8), (4, 7))
        )
    np.testing.assert_allclose(found["LongRunEmphasis"][5], 1)


def test_levels_that_do_not_occur_need_no_row():
    levels = volumes()[6]
    rows = np.unique(levels)[1:]
    packed = np.searchsorted(rows, levels).astype(np.int32)
    grey = np.zeros(LEVELS)
    grey[: len(rows)] = 10 * rows
    full, found = np.zeros(50, int), glrlm.matrix(packed, LEVELS)
    full[10 * rows - 1] = 1
    wide = np.zeros((13, 50, max(SHAPE)), np.int32)
    wide[:, full > 0] = found[:, : len(rows)]
    wanted = glrlm.from_matrix(wide)
    for name, value in glrlm.from_matrix(found, grey).items():
        np.testing.assert_allclose(value, wanted[name], 1e-6, err_msg=name)


def test_values_do_not_compile_again(compilations):
    levels = volumes()
    glrlm.features(levels[0], LEVELS)
    with compilations() as found:
        glrlm.features(levels[1], LEVELS)
    assert not found


def test_wrong_input_is_named():
    levels = volumes()[0]
    with pytest.raises(UsageError, match="euclid"):
        glrlm.features(levels, LEVELS, options=Options(weighting="euclid"))
    with pytest.raises(UsageError, match="'IBSI'"):
        glrlm.features(levels, LEVELS, definitions="IBSI")
    with pytest.raises(UsageError, match="levels"):
        glrlm.features(levels, 2)
    with pytest.raises(UsageError, match=r"\(5, 6\).*\[A, G, L\]"):
        glrlm.from_matrix(np.ones((5, 6)))
