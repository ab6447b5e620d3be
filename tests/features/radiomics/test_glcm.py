"""Co-occurrence of grey levels against loops in float64 and pyradiomics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import glcm, histogram
from jaxedge.features.radiomics.options import Options

SPACING = (2.5, 0.7, 0.8)
G = 5
# Of the small volume of pyradiomics.json.
CASES = {
    "pyradiomics_breast1": Options(),
    "pyradiomics_breast1/distances": Options(distances=(1, 2)),
    "pyradiomics_breast1/manhattan": Options(weighting="manhattan"),
    "pyradiomics_breast1/euclidean": Options(weighting="euclidean"),
    "pyradiomics_breast1/infinity": Options(weighting="infinity"),
    "pyradiomics_breast1/no_weighting": Options(weighting="no_weighting"),
    "pyradiomics_breast1/asymmetric": Options(symmetric=False),
    "pyradiomics_breast1/plane_x": Options(plane=2),
    "pyradiomics_breast1/fine_bins": Options(),
}
LARGE = (
    "ibsi1_ct_phantom",
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_prostate_phantom",
)


def noise(seed, shape=(4, 5, 6), n_levels=G):
    """Levels with holes; level 2 does not occur."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, n_levels + 1, shape)
    return np.where(levels == 2, 0, levels).astype(np.int32)


def steps(options):
    """Offsets of one of each two opposite directions, by their definition."""
    far = max(options.distances)
    found = []
    for step in np.ndindex(*(2 * far + 1,) * 3):
        step = tuple(int(s) - far for s in step)
        flat = options.plane is None or not step[options.plane]
        near = max(map(abs, step)) in options.distances
        if flat and near and step > (0, 0, 0):
            found.append(step)
    return found


def counted(levels, options, n_levels=G):
    """Pairs, voxel by voxel."""
    counts = np.zeros((len(steps(options)), n_levels, n_levels))
    for a, step in enumerate(steps(options)):
        for place in np.argwhere(levels):
            other = place + step
            if (other < 0).any() or (other >= levels.shape).any():
                continue
            if levels[tuple(other)]:
                i, j = levels[tuple(place)] - 1, levels[tuple(other)] - 1
                counts[a, i, j] += 1
                counts[a, j, i] += options.symmetric
    return counts


def bits(q):
    """Entropy."""
    return -(q[q > 0] * np.log2(q[q > 0])).sum()


def described(counts, grey, n_grey):
    """All features of one matrix, by their formulas."""
    p = counts / counts.sum()
    here = np.flatnonzero(p.sum(0) + p.sum(1))
    p, g = p[np.ix_(here, here)], np.asarray(grey, float)[here]
    i, j = np.meshgrid(g, g, indexing="ij")
    px, py = p.sum(1), p.sum(0)
    mx, my = (p * i).sum(), (p * j).sum()
    sx = np.sqrt((p * (i - mx) ** 2).sum())
    sy = np.sqrt((p * (j - my) ** 2).sum())
    gap, away = np.abs(i - j), i + j - mx - my
    by_gap, by_sum = (
        np.array([p[of == k].sum() for k in np.unique(of)])
        for of in (gap, i + j)
    )
    both = np.outer(px, py)
    hxy1 = -(p[p > 0] * np.log2(both[p > 0])).sum()
    hx, hy, hxy, hxy2 = bits(px), bits(py), bits(p), bits(both)
    q = (p / np.where(px > 0, px, 1)[:, None]) @ (p / np.where(py > 0, py, 1)).T
    ranked = np.sort(np.linalg.eigvals(q).real)
    return {
        "Autocorrelation": (p * i * j).sum(),
        "ClusterProminence": (p * away**4).sum(),
        "ClusterShade": (p * away**3).sum(),
        "ClusterTendency": (p * away**2).sum(),
        "Contrast": (p * gap**2).sum(),
        "Correlation": (
            (p * (i - mx) * (j - my)).sum() / (sx * sy) if sx * sy else 1.0
        ),
        "DifferenceAverage": (p * gap).sum(),
        "DifferenceEntropy": bits(by_gap),
        "DifferenceVariance": (p * (gap - (p * gap).sum()) ** 2).sum(),
        "Id": (p / (1 + gap)).sum(),
        "Idm": (p / (1 + gap**2)).sum(),
        "Idmn": (p / (1 + gap**2 / n_grey**2)).sum(),
        "Idn": (p / (1 + gap / n_grey)).sum(),
        "Imc1": (hxy - hxy1) / max(hx, hy) if max(hx, hy) else 0.0,
        "Imc2": np.sqrt(max(1 - np.exp(-2 * (hxy2 - hxy)), 0)),
        "InverseVariance": (p[gap > 0] / gap[gap > 0] ** 2).sum(),
        "JointAverage": mx,
        "JointEnergy": (p**2).sum(),
        "JointEntropy": hxy,
        "MCC": np.sqrt(max(ranked[-2], 0)) if len(g) > 1 else 0.0,
        "MaximumProbability": p.max(),
        "SumAverage": mx + my,
        "SumEntropy": bits(by_sum),
        "SumSquares": sx**2,
    }


def averaged(counts, grey, n_grey):
    each = [described(c, grey, n_grey) for c in counts if c.sum()]
    return {name: np.mean([e[name] for e in each]) for name in each[0]}


def ranked(levels, n_rows):
    """Rows of the levels that occur, and the level of each; 0 of spare rows."""
    present = np.unique(levels[levels > 0])
    rows = np.searchsorted(present, levels) + 1
    grey = np.pad(present, (0, n_rows - len(present))).astype(np.float32)
    return np.where(levels > 0, rows, 0).astype(np.int32), grey


def assert_close(found, expected, rtol=1e-5, atol=0.0):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=rtol, atol=atol, err_msg=name
        )


# Matrices.


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(distances=(2,), symmetric=False),
        Options(distances=(1, 3), plane=1),
    ],
)
def test_the_matrix_is_counted(options, product):
    volumes = np.stack([noise(seed) for seed in range(3)])
    run = functools.partial(
        glcm.matrix, n_levels=G, options=options, product=product
    )
    found = jax.jit(jax.vmap(run))(volumes)
    assert found.dtype == jnp.int32
    expected = [counted(v, options) for v in volumes]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "norm, length",
    [
        ("manhattan", lambda legs: legs.sum(-1)),
        ("euclidean", lambda legs: np.sqrt((legs**2).sum(-1))),
        ("infinity", lambda legs: legs.max(-1)),
        ("no_weighting", lambda legs: np.zeros(len(legs))),
    ],
)
def test_weights_fall_with_the_distance(norm, length):
    options = Options(weighting=norm)
    levels = noise(0)
    distance = length(np.abs(steps(options)) * np.array(SPACING))
    weights = np.exp(-(distance**2))
    expected = (counted(levels, options) * weights[:, None, None]).sum(0)

    def run(s):
        return glcm.matrix(levels, G, spacing=s, options=options)

    # Known when it compiles, and not.
    for found in (run(SPACING)[0], jax.jit(run)(jnp.array(SPACING))[0]):
        np.testing.assert_allclose(
            found / found.sum(), expected / expected.sum(), rtol=2e-6
        )


def test_far_slices_still_have_weights():
    # exp(-30^2) is 0 in float32; only steps across slices have a pair.
    levels = np.zeros((3, 3, 3), np.int32)
    levels[:, 1, 1] = 1, 2, 3
    options = Options(weighting="euclidean")
    found = glcm.matrix(levels, 3, spacing=(30, 1, 1), options=options)
    expected = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(found[0], expected)


# Features.


@pytest.mark.parametrize("options", [Options(), Options(symmetric=False)])
def test_features_are_their_formulas(options):
    volumes = np.stack([noise(seed) for seed in range(4)])
    run = functools.partial(glcm.features, n_levels=G, options=options)
    found = jax.vmap(run)(volumes)
    for i, volume in enumerate(volumes):
        counts = counted(volume, options)
        expected = averaged(counts, np.arange(1, G + 1), volume.max())
        assert_close({k: v[i] for k, v in found.items()}, expected, atol=1e-6)


@pytest.mark.parametrize("grey", [(1, 2, 4, 8, 9, 0), (3, 40, 41, 900, 901, 0)])
def test_rows_stand_for_grey_levels(grey):
    # The highest is a level that does not fit the table of groups in one case.
    volumes = np.stack([noise(seed) for seed in range(3)])
    grey = np.array(grey, np.float32)
    run = functools.partial(
        glcm.features, n_levels=6, grey_G=grey, n_grey=1000.0
    )
    found = jax.vmap(run)(volumes)
    one = run(volumes[0])
    assert_close(one, {k: v[0] for k, v in found.items()}, rtol=2e-6)
    for i, volume in enumerate(volumes):
        counts = counted(volume, Options(), 6)
        expected = averaged(counts, grey, 1000)
        assert_close(
            {k: v[i] for k, v in found.items()}, expected, rtol=2e-5, atol=1e-6
        )


def test_rows_that_do_not_occur_and_margins_change_nothing():
    levels = noise(1)
    wide = np.pad(levels, ((1, 2), (0, 3), (2, 0)))
    assert_close(
        glcm.features(wide, 12),
        jax.tree.map(np.asarray, glcm.features(levels, G)),
        rtol=2e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("competing", [0.9, 0.9999])
def test_mcc_where_two_values_compete(competing):
    # Two blocks of two levels, with coefficients 1 (of the blocks), c and 0.9.
    blocks = np.zeros((1, 4, 4), np.float32)
    for at, c in ((0, 0.9), (2, competing)):
        blocks[0, at : at + 2, at : at + 2] = [[1 + c, 1 - c], [1 - c, 1 + c]]
    joined = 0.999 * blocks + 0.001 * blocks.sum() / 16
    found = glcm.from_matrix(joined, None, 4)["MCC"]
    # All margins are equal, so it is the second singular value of 4 p.
    exact = np.linalg.svd(joined[0].astype(np.float64) * 4 / joined.sum())[1]
    np.testing.assert_allclose(found, exact[1], rtol=3e-6)


def test_flat_regions_and_regions_without_a_pair():
    flat = np.zeros((3, 4, 4), np.int32)
    flat[1, 1:3, 1:3] = 1
    expected = {
        "Correlation": 1, "Imc1": 0, "Imc2": 0, "MCC": 1, "JointEnergy": 1,
        "JointEntropy": 0, "Contrast": 0, "Idn": 1, "SumSquares": 0,
        "ClusterShade": 0, "InverseVariance": 0, "Autocorrelation": 1,
    }  # fmt: skip
    run = functools.partial(glcm.features, n_levels=3)
    found = run(flat)
    for name, value in expected.items():
        assert found[name] == value, name
    one = np.zeros_like(flat)
    one[1, 1, 1] = 1
    assert np.isnan(run(one)["Idn"]) and run(one)["MCC"] == 1
    assert all(v == 0 for v in run(np.zeros_like(flat)).values())


def test_a_window_of_one_level_is_not_a_flat_region():
    window, grey = np.ones((1, 2, 2), np.int32), np.array([5.0, 0.0])
    found = glcm.features(window, 2, grey_G=grey, n_grey=7.0)
    assert found["MCC"] == 0 and found["Correlation"] == 1
    assert glcm.features(window, 2, grey_G=grey, n_grey=1.0)["MCC"] == 1


# Peers.


@pytest.mark.parametrize("case", CASES)
def test_settings_of_pyradiomics(case, peer):
    # Few numbers of rows, so that cases share a program.
    expect_pyradiomics(peer(case, "glcm"), CASES[case], 16)


@pytest.mark.parametrize("case", LARGE)
def test_volumes_of_pyradiomics(case, peer):
    expect_pyradiomics(peer(case, "glcm"), Options())


def expect_pyradiomics(told, options, n_rows=72):
    rows, grey = ranked(told.levels_ZxYxX, n_rows)
    found = glcm.features(
        rows,
        len(grey),
        spacing=told.spacing_3,
        grey_G=grey,
        n_grey=told.levels_ZxYxX.max(),
        options=options,
    )
    assert_close(found, told.expected, rtol=1e-5)


def test_the_digital_phantom_of_the_ibsi(phantom):
    told = phantom("cm_")
    found = glcm.features(
        told.levels_ZxYxX, 6, spacing=told.spacing_3, definitions="ibsi"
    )
    assert set(found) == set(told.expected) and len(found) == 50
    for tag, value in told.expected.items():
        assert f"{float(found[tag]):.3g}" == f"{value:.3g}", tag


# Use.


def test_the_gradient_reaches_the_spacing_and_is_finite():
    options = Options(weighting="euclidean")

    def mean(spacing, levels):
        found = glcm.features(levels, 3, spacing=spacing, options=options)
        return sum(found.values()) / len(found), found["MCC"]

    slope, of_mcc = jax.jit(jax.jacrev(mean))(jnp.ones(3), noise(0) % 4)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-2
        high, low = (
            averaged(
                (
                    counted(noise(0) % 4, options, 3)
                    * np.exp(-((steps(options) * (1 + s)) ** 2).sum(-1))[
                        :, None, None
                    ]
                ).sum(0, keepdims=True),
                (1, 2, 3),
                3,
            )
            for s in (step, -step)
        )
        exact = {k: (high[k] - low[k]) / 2e-2 for k in high}
        np.testing.assert_allclose(
            slope[axis], np.mean(list(exact.values())), rtol=2e-3
        )
        np.testing.assert_allclose(of_mcc[axis], exact["MCC"], rtol=2e-3)
    flat = np.ones((4, 5, 6), np.int32)
    assert np.isfinite(jax.jit(jax.jacrev(mean))(jnp.ones(3), flat)).all()


def test_values_do_not_compile_anew(compilations):
    run = jax.jit(lambda v, s: glcm.features(v, G, spacing=s))
    run(noise(0), np.array(SPACING))
    with compilations() as names:
        run(noise(1), np.array(SPACING) + 1)
    assert not names


def test_nested_vmaps_count_every_volume():
    volumes = np.stack([noise(seed) for seed in range(4)])
    run = functools.partial(glcm.matrix, n_levels=G)
    found = jax.vmap(jax.vmap(run))(volumes.reshape(2, 2, *volumes[0].shape))
    flat = [counted(v, Options()) for v in volumes]
    np.testing.assert_array_equal(found.reshape(4, 13, G, G), flat)


def test_totals_of_cells_shared_by_a_batch():
    cells, values = jnp.array([0, 2, 2, 1]), jnp.arange(8.0).reshape(2, 4)
    run = functools.partial(histogram.totals, size=4)
    found = jax.vmap(run, in_axes=(None, 0))(cells, values)
    np.testing.assert_array_equal(found, [[0, 3, 3, 0], [4, 7, 11, 0]])


@pytest.mark.parametrize(
    "change, match",
    [
        ({"levels_ZxYxX": np.ones((2, 2), int)}, "levels has shape"),
        ({"levels_ZxYxX": np.ones((2, 2, 2))}, "whole numbers"),
        ({"levels_ZxYxX": np.full((2, 2, 2), 9)}, "levels is 9"),
        ({"n_levels": 0}, "n_levels is 0"),
        ({"definitions": "ibis"}, "ibsi"),
        ({"options": Options(distances=())}, "distances is empty"),
        ({"options": Options(weighting="euclid")}, "euclidean"),
        (
            {"options": Options(weighting="infinity"), "spacing": (0, 1, 1)},
            "spacing is 0",
        ),
    ],
)
def test_what_is_not_legal_is_named(change, match):
    given = {"levels_ZxYxX": np.ones((2, 2, 2), int), "n_levels": 3, **change}
    with pytest.raises(UsageError, match=match):
        glcm.features(**given)


def test_a_matrix_of_another_shape_is_named():
    with pytest.raises(UsageError, match=r"must be \[A, G, G\]"):
        glcm.from_matrix(np.ones((3, 3)), None, 3)
