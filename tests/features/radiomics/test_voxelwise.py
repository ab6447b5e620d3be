"""Maps of features against loops over kernels in float64, and pyradiomics."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import (
    maps,
    voxelwise_pairs,
    voxelwise_values,
)
from jaxedge.features.radiomics.options import Options

SHAPE, LEVELS, SPACING = (5, 6, 7), 9, (3.0, 0.5, 1.0)
VALUES = tuple(f"firstorder_{name}" for name in voxelwise_values.KNOWN)


def volume(seed=0):
    """Intensities, grey levels and a region with holes and a lone voxel."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 3, SHAPE).astype(np.float32)
    inside = rng.random(SHAPE) < 0.6
    inside[3:] = False
    inside[4, 5, 6] = True
    levels = np.clip(np.floor((values - 991) / 2) + 1, 1, LEVELS)
    return values, np.where(inside, levels, 0).astype(np.int32)


def kernels(levels, radius, plane=None):
    """Slices of the kernel of each voxel that counts."""
    for voxel in np.argwhere(levels > 0):
        yield (
            tuple(voxel),
            tuple(
                slice(at, at + 1)
                if axis == plane
                else slice(max(at - radius, 0), at + radius + 1)
                for axis, at in enumerate(voxel)
            ),
        )


def steps(options):
    reach = range(-max(options.distances), max(options.distances) + 1)
    for step in itertools.product(reach, repeat=3):
        flat = options.plane is None or step[options.plane] == 0
        if (
            step > (0, 0, 0)
            and flat
            and max(map(abs, step)) in (options.distances)
        ):
            yield step


def ends(shape, step):
    """Slices of the first and the second voxels of all pairs."""
    pairs = list(zip(shape, step, strict=True))
    first = [slice(max(-o, 0), max(min(n, n - o), 0)) for n, o in pairs]
    second = [slice(max(o, 0), max(min(n, n + o), 0)) for n, o in pairs]
    return tuple(first), tuple(second)


def matrices(kernel, options):
    """P [A, G, G] of a small volume, and the squared distance of each."""
    found, squares = [], []
    for step in steps(options):
        here, there = ends(kernel.shape, step)
        first, second = kernel[here].ravel(), kernel[there].ravel()
        both = (first > 0) & (second > 0)
        counts = np.zeros((LEVELS, LEVELS))
        np.add.at(counts, (first[both] - 1, second[both] - 1), 1)
        found.append(counts + counts.T if options.symmetric else counts)
        squares.append(np.sum(np.multiply(step, SPACING) ** 2))
    return np.array(found), np.array(squares)


def of_matrix(counts, grey, n_grey):
    """Features of one matrix, by their formulas."""
    p = counts / counts.sum()
    i, j = np.meshgrid(grey, grey, indexing="ij")

    def mean(x):
        return (p * x).sum()

    mi, mj, d = mean(i), mean(j), np.abs(i - j)
    si, sj = mean((i - mi) ** 2) ** 0.5, mean((j - mj) ** 2) ** 0.5
    total = i + j - mi - mj
    near = np.where(d == 0, 1, d)
    return {
        "Autocorrelation": mean(i * j),
        "ClusterProminence": mean(total**4),
        "ClusterShade": mean(total**3),
        "ClusterTendency": mean(total**2),
        "Contrast": mean(d**2),
        "Correlation": mean((i - mi) * (j - mj)) / (si * sj) if si * sj else 1,
        "DifferenceAverage": mean(d),
        "DifferenceVariance": mean((d - mean(d)) ** 2),
        "Id": mean(1 / (1 + d)),
        "Idm": mean(1 / (1 + d**2)),
        "Idmn": mean(1 / (1 + (d / n_grey) ** 2)),
        "Idn": mean(1 / (1 + d / n_grey)),
        "InverseVariance": mean((d > 0) / near**2),
        "JointAverage": mi,
        "JointEnergy": (p**2).sum(),
        "MaximumProbability": p.max(),
        "SumAverage": mean(i + j),
        "SumSquares": mean((i - mi) ** 2),
    }


def glcm(levels, radius, options, grey=None):
    """Name -> {voxel: value}, the mean over directions or merged matrices."""
    grey = np.arange(1.0, LEVELS + 1) if grey is None else grey
    n_grey = grey[levels.max() - 1]
    found = {}
    for voxel, here in kernels(levels, radius, options.plane):
        counts, squares = matrices(levels[here], options)
        if options.weighting:
            counts = (counts * np.exp(-squares)[:, None, None]).sum(0)[None]
        each = [of_matrix(c, grey, n_grey) for c in counts if c.any()]
        for name in of_matrix(np.eye(LEVELS), grey, n_grey):
            value = np.mean([e[name] for e in each]) if each else np.nan
            found.setdefault(f"glcm_{name}", {})[voxel] = value
    return found


def firstorder(values, levels, radius):
    found = {}
    for voxel, here in kernels(levels, radius):
        x = values[here][levels[here] > 0].astype(np.float64)
        share = np.bincount(levels[here][levels[here] > 0]) / len(x)
        share = share[share > 0]
        away = x - x.mean()
        spread = (away**2).mean() or 1
        for name, value in {
            "Energy": (x**2).sum(),
            "Entropy": -(share * np.log2(share)).sum(),
            "Kurtosis": (away**4).mean() / spread**2,
            "Maximum": x.max(),
            "Mean": x.mean(),
            "Minimum": x.min(),
            "Range": np.ptp(x),
            "RootMeanSquared": (x**2).mean() ** 0.5,
            "Skewness": (away**3).mean() / spread**1.5,
            "TotalEnergy": (x**2).sum() * np.prod(SPACING),
            "Uniformity": (share**2).sum(),
            "Variance": (away**2).mean(),
        }.items():
            found.setdefault(f"firstorder_{name}", {})[voxel] = value
    return found


def check(maps, expected, names):
    """1e-5 of each value, or of 1e-5 of the largest where terms cancel."""
    for name in names:
        voxels = tuple(np.array(list(expected[name])).T)
        values = np.array(list(expected[name].values()))
        scale = np.nanmax(np.abs(values)) * 1e-6
        np.testing.assert_allclose(
            maps[name][voxels], values, rtol=1e-5, atol=scale, err_msg=name
        )
        outside = np.ones(maps[name].shape, bool)
        outside[voxels] = False
        assert not np.any(np.asarray(maps[name])[outside])


@pytest.mark.parametrize(
    "radius, options, features",
    [
        (2, Options(distances=(1, 2)), "Idn ClusterTendency"),
        (9, Options(plane=0), "Idn ClusterShade"),
        (1, Options(weighting="euclidean"), "Idn Autocorrelation"),
        (1, Options(symmetric=False), "Id DifferenceVariance"),
        (1, Options(), " ".join(voxelwise_pairs.RULES)),
    ],
)
def test_sums_of_pairs_are_the_matrices(radius, options, features):
    values, levels = volume()
    names = [f"glcm_{feature}" for feature in features.split()]
    assert all(voxelwise_pairs.known(n, options) for n in features.split())
    found = maps.maps(
        values, levels, LEVELS, names=names, radius=radius, spacing=SPACING,
        options=options,
    )  # fmt: skip
    check(found, glcm(levels, radius, options), names)


def test_rows_stand_for_grey_levels():
    values, levels = volume()
    grey = np.array([2, 3, 5, 9, 10, 14, 20, 40, 41], float)
    names = ["glcm_Idn", "glcm_ClusterShade", "glcm_JointEnergy"]
    found = maps.maps(values, levels, LEVELS, names=names, grey_G=grey)
    check(found, glcm(levels, 1, Options(), grey), names)


def test_sums_of_voxels_are_the_statistics():
    values, levels = volume()
    found = maps.maps(
        values, levels, LEVELS, names=VALUES, radius=2, spacing=SPACING
    )
    check(found, firstorder(values, levels, 2), VALUES)


def test_energies_are_of_shifted_intensities():
    values, levels = volume()

    def energy(x, shift):
        name = "firstorder_Energy"
        return maps.maps(x, levels, LEVELS, names=[name], voxel_shift=shift)[
            name
        ]

    moved = energy(values + 24, 0.0)
    np.testing.assert_allclose(energy(values, 24.0), moved, rtol=1e-6)


@pytest.fixture(scope="module")
def phantom():
    """The digital phantom of the IBSI (arXiv:1612.07003); 0 is outside."""
    text = """
        14411 14611 41641 44641 14411 11611 01311 44611
        14400 11111 11011 11611 14400 11111 11111 11611
    """
    image = np.array([list(line) for line in text.split()], int)
    mask = (image > 0).reshape(4, 4, 5)
    # What the region leaves out.
    image = np.where(image > 0, image, 1).reshape(4, 4, 5)
    image[2, 2, 2] = 9
    return image, mask


# The mean over the digital phantom of the IBSI, and voxels (0, 0, 0),
# (1, 2, 3) and (3, 3, 1), by pyradiomics 3.0.1 with voxelBased, kernelRadius=1
# and binWidth=1; masked kernels, or with the whole image in kernels.
PEER = {
    (True, "glcm_JointEntropy"): (
        1.356431722, 1.197021394, 2.179131068, 0.835171346,
    ),
    (True, "glcm_Imc1"): (
        -0.309506103, -0.55002203, -0.39297907, -0.134022945,
    ),
    (True, "glcm_Idn"): (0.859351344, 0.801282051, 0.844787401, 0.898518149),
    (True, "gldm_DependenceEntropy"): (
        2.206641647, 0.954434003, 3.921029622, 1.823067982,
    ),
    (True, "glrlm_RunEntropy"): (
        1.573105263, 1.357891203, 2.215413563, 1.373850638,
    ),
    (True, "glszm_ZonePercentage"): (
        0.190298777, 0.25, 0.153846154, 0.181818182,
    ),
    (True, "ngtdm_Busyness"): (
        5.497501843, 3.673469388, 1.577359576, 11.277777778,
    ),
    (True, "firstorder_90Percentile"): (4.178378378, 4.0, 6.0, 6.0),
    (True, "firstorder_MeanAbsoluteDeviation"): (
        1.214797328, 1.40625, 1.911242604, 1.487603306,
    ),
    (False, "glcm_MCC"): (0.478961765, 0.656410256, 0.708662667, 0.392898709),
    (False, "glcm_Correlation"): (
        0.107052288, -0.282051282, 0.084240978, 0.029179731,
    ),
    (False, "firstorder_Kurtosis"): (
        3.060502556, 1.266666667, 2.639289866, 3.378121284,
    ),
}  # fmt: skip


@pytest.mark.parametrize("masked", [True, False])
def test_the_peer_says_the_same_of_a_phantom(masked, phantom):
    image, mask = phantom
    names = [name for kind, name in PEER if kind == masked]
    levels = (image if not masked else image * mask).astype(np.int32)
    found = maps.maps(image, levels, 9, names=names, where_ZxYxX=mask, block=32)
    for name in names:
        here = np.asarray(found[name], np.float64)
        told = [here[mask].mean(), here[0, 0, 0], here[1, 2, 3], here[3, 3, 1]]
        np.testing.assert_allclose(
            told, PEER[masked, name], rtol=1e-5, err_msg=name
        )


def test_few_voxels_of_many_levels_are_the_same_kernels():
    # 27 voxels of 40 levels, whose rows are counted anew in every kernel.
    values, levels = volume()
    names = ["glcm_JointEnergy", "gldm_HighGrayLevelEmphasis"]
    many = maps.maps(
        values, levels * 4, 40, names=names, grey_G=np.arange(40) // 4 + 1
    )
    few = maps.maps(values, levels, LEVELS, names=names)
    for name in names:
        np.testing.assert_allclose(many[name], few[name], rtol=1e-6)


def test_other_blocks_and_room_around_change_nothing():
    values, levels = volume()
    names = ["firstorder_Median", "glcm_Idn"]

    def mapped(*pair, block):
        return maps.maps(*pair, LEVELS, names=names, block=block)

    found = mapped(values, levels, block=None)
    wide = mapped(np.pad(values, 2), np.pad(levels, 2), block=7)
    for name in names:
        np.testing.assert_allclose(
            wide[name][2:-2, 2:-2, 2:-2], found[name], rtol=1e-6
        )


def test_a_voxel_without_a_pair_is_told_apart():
    values, levels = volume()
    names = ["glcm_Contrast", "glcm_JointEnergy", "firstorder_Variance"]
    lone = (4, 5, 6)
    for empty in (np.nan, -1.0):
        found = maps.maps(values, levels, LEVELS, names=names, empty=empty)
        np.testing.assert_equal(float(found[names[0]][lone]), empty)
        np.testing.assert_equal(float(found[names[1]][lone]), empty)
        assert found[names[2]][lone] == 0
    assert np.isfinite(found[names[0]]).all()


def test_a_flat_region_has_no_contrast():
    levels = np.ones(SHAPE, np.int32)
    names = ["glcm_Correlation", "glcm_ClusterShade", "firstorder_Kurtosis"]
    found = maps.maps(np.full(SHAPE, 0.1), levels, 1, names=names)
    for name, value in zip(names, (1, 0, 0), strict=True):
        np.testing.assert_array_equal(found[name], np.full(SHAPE, value))


def test_one_program_serves_a_batch_and_other_values(compilations):
    pairs = [volume(seed) for seed in range(3)]
    values, levels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    names = ("glcm_Idn", "glcm_ClusterTendency", "firstorder_Median")
    mapped = jax.jit(lambda x, g: maps.maps(x, g, LEVELS, names=names))
    batch = jax.jit(jax.vmap(mapped))(values, levels)
    each = [mapped(values[0], levels[0])]
    with compilations() as found:
        each += [
            mapped(x, g) for x, g in zip(values[1:], levels[1:], strict=True)
        ]
    assert not found
    for name in names:
        np.testing.assert_allclose(
            batch[name], np.stack([one[name] for one in each]), rtol=1e-6
        )


def test_the_mean_passes_a_gradient():
    values, levels = volume()

    def total(x):
        name = "firstorder_Mean"
        return maps.maps(x, levels, LEVELS, names=[name])[name].sum()

    slope = jax.grad(total)(jnp.asarray(values))
    inside = levels > 0
    # Each voxel has a share of the mean of every kernel that it is in.
    expected = np.zeros(SHAPE)
    for _, here in kernels(levels, 1):
        expected[here] += inside[here] / inside[here].sum()
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(names=["glcm_Idm2"]), "unknown feature of a voxel 'glcm_Idm2'"),
        (dict(names=["shape_Sphericity"]), "unknown feature of a voxel"),
        (dict(names=[]), "names is empty"),
        (dict(radius=0), "radius is 0"),
        (dict(grey_G=np.ones(2)), "each of the 9 rows"),
        (dict(where_ZxYxX=np.ones((2, 2, 2), bool)), "where has shape"),
        (dict(options=Options(plane=3)), "plane is 3"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    values, levels = volume()
    known = dict(names=["glcm_Idn"])
    with pytest.raises(UsageError, match=message):
        maps.maps(values, levels, LEVELS, **{**known, **change})


def test_nan_in_the_region_is_named():
    values, levels = volume()
    bad = np.where(levels > 0, values, np.nan)
    maps.maps(bad, levels, LEVELS, names=["firstorder_Maximum"])
    with pytest.raises(UsageError, match="values holds"):
        maps.maps(
            np.full(SHAPE, np.nan), levels, LEVELS, names=["firstorder_Mean"]
        )
