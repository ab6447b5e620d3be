"""Dependence of neighbours against float64 loops, pyradiomics and the IBSI."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import gldm
from jaxedge.features.radiomics.options import Options

G = 5
BREAST = "pyradiomics_breast1"
CASES = {
    BREAST: Options(),
    f"{BREAST}/alpha": Options(alpha=1),
    f"{BREAST}/distances": Options(distances=(1, 2)),
    f"{BREAST}/plane": Options(plane=0),
    f"{BREAST}/plane_x": Options(plane=2),
    "ibsi1_ct_phantom": Options(),
    "pyradiomics_brain1": Options(),
    "pyradiomics_brain2": Options(),
    "pyradiomics_prostate_phantom": Options(),
}


def noise(seed, shape=(4, 5, 6)):
    """Levels with holes; level 2 does not occur."""
    levels = np.random.default_rng(seed).integers(0, G + 1, shape)
    return np.where(levels == 2, 0, levels).astype(np.int32)


def around(levels, options):
    """Places inside, and for each the places of its neighbours inside."""
    inside = np.argwhere(levels)
    for place in inside:
        away = inside - place
        near = np.isin(np.abs(away).max(1), options.distances)
        if options.plane is not None:
            near &= away[:, options.plane] == 0
        yield tuple(place), [tuple(other) for other in inside[near]]


def counted(levels, options, columns, grey=None):
    """Voxel by voxel."""
    grey = np.arange(1, G + 1) if grey is None else grey
    counts = np.zeros((G, columns))
    for place, others in around(levels, options):
        own = grey[levels[place] - 1]
        like = sum(
            abs(grey[levels[other] - 1] - own) <= options.alpha
            for other in others
        )
        counts[levels[place] - 1, like] += 1
    return counts


def described(counts, grey):
    """All features, those of the IBSI alone included, by their formulas."""
    p, n = counts / counts.sum(), counts.sum()
    j = np.arange(1, counts.shape[1] + 1)[None] + 0 * p
    i = np.asarray(grey, float)[:, None] + 0 * p
    i[p == 0] = 1  # rows that stand for no level
    by_grey, by_size = counts.sum(1), counts.sum(0)
    return {
        "SmallDependenceEmphasis": (p / j**2).sum(),
        "LargeDependenceEmphasis": (p * j**2).sum(),
        "LowGrayLevelEmphasis": (p / i**2).sum(),
        "HighGrayLevelEmphasis": (p * i**2).sum(),
        "SmallDependenceLowGrayLevelEmphasis": (p / i**2 / j**2).sum(),
        "SmallDependenceHighGrayLevelEmphasis": (p * i**2 / j**2).sum(),
        "LargeDependenceLowGrayLevelEmphasis": (p / i**2 * j**2).sum(),
        "LargeDependenceHighGrayLevelEmphasis": (p * i**2 * j**2).sum(),
        "GrayLevelNonUniformity": (by_grey**2).sum() / n,
        "DependenceNonUniformity": (by_size**2).sum() / n,
        "DependenceNonUniformityNormalized": (by_size**2).sum() / n**2,
        "GrayLevelVariance": (p * (i - (p * i).sum()) ** 2).sum(),
        "DependenceVariance": (p * (j - (p * j).sum()) ** 2).sum(),
        "DependenceEntropy": -(p[p > 0] * np.log2(p[p > 0])).sum(),
    }


def assert_close(found, expected, rtol=1e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize(
    "options, columns",
    [
        (Options(), 27),
        (Options(alpha=1.5), 27),
        (Options(distances=(2,), alpha=1), 99),
        (Options(distances=(1, 3), plane=1), 33),
    ],
)
def test_the_matrix_is_counted(options, columns, product):
    volumes = np.stack([noise(seed) for seed in range(3)])
    run = functools.partial(
        gldm.matrix, n_levels=G, options=options, product=product
    )
    found = jax.vmap(run)(volumes)
    assert found.dtype == jnp.int32
    expected = [counted(v, options, columns) for v in volumes]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("alpha", [0, 3])
def test_alpha_compares_grey_levels(alpha):
    grey = np.array([2, 0, 5, 7, 11])
    options = Options(alpha=alpha)
    found = gldm.matrix(noise(0), G, grey_G=grey, options=options)
    expected = counted(noise(0), options, 27, grey)
    np.testing.assert_array_equal(found, expected)
    features = gldm.features(noise(0), G, grey_G=grey, options=options)
    assert_close(features, described(expected, grey))


def test_rows_that_do_not_occur_and_margins_change_nothing():
    levels = noise(1)
    wide = np.pad(levels, ((1, 2), (0, 3), (2, 0)))
    found = gldm.features(wide, 12)
    assert_close(found, described(counted(levels, Options(), 27), range(1, 6)))


def test_regions_without_texture():
    one = np.zeros((3, 3, 3), np.int32)
    one[1, 1, 1] = 4
    found = gldm.features(one, 4)
    expected = {
        "SmallDependenceEmphasis": 1, "LargeDependenceEmphasis": 1,
        "HighGrayLevelEmphasis": 16, "DependenceEntropy": 0,
        "GrayLevelVariance": 0, "DependenceVariance": 0,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == value, name
    assert all(v == 0 for v in gldm.features(0 * one, 4).values())


@pytest.mark.parametrize("case", CASES)
def test_volumes_of_pyradiomics(case, peer):
    told = peer(case, "gldm")
    found = gldm.features(
        told.rows_ZxYxX,
        len(told.grey_G),
        grey_G=told.grey_G,
        options=CASES[case],
    )
    assert_close(found, told.expected)


def test_the_digital_phantom_of_the_ibsi(phantom):
    told = phantom("ngl_")
    found = gldm.features(told.levels_ZxYxX, 6, definitions="ibsi")
    assert set(found) == set(told.expected) and len(found) == 17
    for tag, value in told.expected.items():
        assert f"{float(found[tag]):.3g}" == f"{value:.3g}", tag


def test_values_do_not_compile_anew(compilations):
    run = jax.jit(lambda v, g: gldm.features(v, G, grey_G=g))
    run(noise(0), np.arange(1.0, 6))
    with compilations() as names:
        run(noise(1), np.arange(2.0, 7))
    assert not names


@pytest.mark.parametrize(
    "change, match",
    [
        ({"levels_ZxYxX": np.full((2, 2, 2), 9)}, "levels is 9"),
        ({"definitions": "ibis"}, "ibsi"),
        ({"options": Options(alpha=-1)}, "alpha is -1"),
    ],
)
def test_what_is_not_legal_is_named(change, match):
    given = {"levels_ZxYxX": np.ones((2, 2, 2), int), "n_levels": 3, **change}
    with pytest.raises(UsageError, match=match):
        gldm.features(**given)


def test_a_matrix_of_another_shape_is_named():
    with pytest.raises(UsageError, match=r"must be \[G, D\]"):
        gldm.from_matrix(np.ones(3))
