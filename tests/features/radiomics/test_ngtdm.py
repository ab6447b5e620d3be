"""Differences to neighbours: float64 loops, pyradiomics and the IBSI."""

import functools

import jax
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import ngtdm
from jaxedge.features.radiomics.options import Options

G = 5
BREAST = "pyradiomics_breast1"
CASES = {
    BREAST: Options(),
    f"{BREAST}/fine_bins": Options(),
    f"{BREAST}/distances": Options(distances=(1, 2)),
    f"{BREAST}/plane": Options(plane=0),
    f"{BREAST}/plane_x": Options(plane=2),
    "ibsi1_ct_phantom": Options(),
    "pyradiomics_brain1": Options(),
    "pyradiomics_brain2": Options(),
    "pyradiomics_prostate_phantom": Options(),
}


def noise(seed, shape=(4, 5, 6), holes=0.8):
    """Levels with so many holes that some are alone; level 2 does not occur."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, G + 1, shape) * (rng.random(shape) > holes)
    return np.where(levels == 2, 0, levels).astype(np.int32)


def counted(levels, options, grey, alone=True):
    """n_i and s_i, voxel by voxel."""
    found, inside = np.zeros((G, 2)), np.argwhere(levels)
    for place in inside:
        away = inside - place
        near = np.isin(np.abs(away).max(1), options.distances)
        if options.plane is not None:
            near &= away[:, options.plane] == 0
        level = levels[tuple(place)] - 1
        others = [grey[levels[tuple(other)] - 1] for other in inside[near]]
        found[level, 0] += alone or bool(others)
        if others:
            found[level, 1] += abs(grey[level] - np.mean(others))
    return found


def described(counts, grey):
    """All features by their formulas, level by level."""
    here = np.flatnonzero(counts[:, 0])
    n, s, g = counts[here, 0], counts[here, 1], np.asarray(grey, float)[here]
    p, kinds = n / n.sum(), len(here)
    each = [(a, b) for a in range(kinds) for b in range(kinds)]
    return {
        "Coarseness": 1 / (p * s).sum(),
        "Contrast": sum(p[a] * p[b] * (g[a] - g[b]) ** 2 for a, b in each)
        / (kinds * (kinds - 1))
        * s.sum()
        / n.sum(),
        "Busyness": (p * s).sum()
        / sum(abs(g[a] * p[a] - g[b] * p[b]) for a, b in each),
        "Complexity": sum(
            abs(g[a] - g[b]) * (p[a] * s[a] + p[b] * s[b]) / (p[a] + p[b])
            for a, b in each
        )
        / n.sum(),
        "Strength": sum((p[a] + p[b]) * (g[a] - g[b]) ** 2 for a, b in each)
        / s.sum(),
    }


def assert_close(found, expected, rtol=1e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("definitions", ["pyradiomics", "ibsi"])
@pytest.mark.parametrize(
    "options",
    [Options(), Options(distances=(2,)), Options(distances=(1, 3), plane=1)],
)
@pytest.mark.parametrize("grey", [None, np.array([3, 0, 40, 41, 90])])
def test_the_matrix_is_counted(options, definitions, grey):
    volumes = np.stack([noise(seed) for seed in range(3)])
    greys = np.arange(1, G + 1) if grey is None else grey
    run = functools.partial(
        ngtdm.matrix,
        n_levels=G,
        grey_G=grey,
        options=options,
        definitions=definitions,
    )
    found = jax.vmap(run)(volumes)
    expected = [
        counted(v, options, greys, definitions != "ibsi") for v in volumes
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_blocks_of_sums_that_would_overflow(monkeypatch):
    monkeypatch.setattr(ngtdm, "_MOST", 26 * 5 * 7)  # blocks of 7 voxels
    levels = noise(3, (3, 7, 5), holes=0.1)  # a shape of its own: traced here
    found = ngtdm.matrix(levels, G)
    expected = counted(levels, Options(), range(1, G + 1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_large_levels_add_up_exactly():
    # 40 voxels of level 60,000 between others of level 1: sums beyond 2^24.
    levels = np.indices((5, 4, 4)).sum(0).astype(np.int32) % 2 + 1
    grey = np.array([1, 60_000, 0, 0, 0])
    found = ngtdm.matrix(levels, G, grey_G=grey)
    np.testing.assert_allclose(
        found, counted(levels, Options(), grey), rtol=2e-7
    )


def test_rows_that_do_not_occur_and_margins_change_nothing():
    levels = noise(1)
    wide = np.pad(levels, ((1, 2), (0, 3), (2, 0)))
    counts = counted(levels, Options(), range(1, G + 1))
    assert_close(ngtdm.features(wide, 12), described(counts, range(1, G + 1)))


def test_regions_without_texture():
    flat = np.zeros((3, 4, 4), np.int32)
    flat[1, 1:3, 1:3] = 3
    nothing = {"Contrast": 0, "Busyness": 0, "Complexity": 0, "Strength": 0}
    for levels in (flat, flat * (np.arange(48).reshape(flat.shape) == 21)):
        found = ngtdm.features(levels, 3)
        assert {k: float(v) for k, v in found.items()} == {
            "Coarseness": 1e6, **nothing,
        }  # fmt: skip
    assert all(np.isfinite(v) for v in ngtdm.features(0 * flat, 3).values())


@pytest.mark.parametrize("case", CASES)
def test_volumes_of_pyradiomics(case, peer):
    told = peer(case, "ngtdm")
    found = ngtdm.features(
        told.rows_ZxYxX,
        len(told.grey_G),
        grey_G=told.grey_G,
        options=CASES[case],
    )
    assert_close(found, told.expected)


def test_the_digital_phantom_of_the_ibsi(phantom):
    told = phantom("ngt_")
    found = ngtdm.features(told.levels_ZxYxX, 6, definitions="ibsi")
    assert set(found) == set(told.expected) and len(found) == 5
    for tag, value in told.expected.items():
        assert f"{float(found[tag]):.3g}" == f"{value:.3g}", tag


def test_values_do_not_compile_anew(compilations):
    run = jax.jit(lambda v, g: ngtdm.features(v, G, grey_G=g))
    run(noise(0), np.arange(1.0, 6))
    with compilations() as names:
        run(noise(1), np.arange(2.0, 7))
    assert not names


@pytest.mark.parametrize(
    "change, match",
    [
        ({"levels_ZxYxX": np.full((2, 2, 2), 9)}, "levels is 9"),
        ({"definitions": "ibis"}, "ibsi"),
        ({"options": Options(plane=3)}, "plane is 3"),
    ],
)
def test_what_is_not_legal_is_named(change, match):
    given = {"levels_ZxYxX": np.ones((2, 2, 2), int), "n_levels": 3, **change}
    with pytest.raises(UsageError, match=match):
        ngtdm.features(**given)


def test_a_matrix_of_another_shape_is_named():
    with pytest.raises(UsageError, match=r"must be \[G, 2\]"):
        ngtdm.from_matrix(np.ones(3))
