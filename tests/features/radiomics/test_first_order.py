"""First-order statistics against numpy in float64, pyradiomics and the IBSI."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import (
    first_order,
    intensity_histogram,
    names,
    order_statistics,
    sums,
)

HERE = Path(__file__).parent
SHAPE = (4, 9, 11)
PERCENT = (0, 10, 25, 50, 75, 90, 100)
REAL = (
    "ibsi1_digital_phantom",
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_breast1",
    "pyradiomics_prostate_phantom",
    "ibsi1_ct_phantom",
)


def volumes():
    """Intensities of several units, each with another region."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(7, *SHAPE))
    image = np.stack(
        [
            np.round(-1000 + 30 * normal[0]),  # Hounsfield units
            4000 + 50 * normal[1],  # magnetic resonance
            1e-3 * (1 + 0.1 * normal[2]),  # diffusion, mm^2/s
            1e12 * np.exp(normal[3]),
            rng.integers(0, 2, SHAPE) * 7.0,
            np.full(SHAPE, 0.1),
            normal[6],
        ]
    ).astype(np.float32)
    mask = rng.random(image.shape) < 0.6
    mask[6] = False
    mask[6, 2, 3, 4] = True
    levels = np.where(mask, rng.integers(1, 6, image.shape), 0)
    return image, mask, levels.astype(np.int32)


def expected(x, levels, shift=0.0, volume=1.0):
    """pyradiomics' names, and IBSI's tags of what it does not have."""
    x = np.asarray(x, np.float64)
    p10, p25, p50, p75, p90 = np.percentile(x, (10, 25, 50, 75, 90))
    flat = x.min() == x.max()
    z = np.zeros_like(x) if flat else x - x.mean()
    m2, m3, m4 = ((z**k).mean() for k in (2, 3, 4))
    scale = 1.0 if flat else m2
    kept = x[(x >= p10) & (x <= p90)]
    share = np.unique(levels, return_counts=True)[1] / len(levels)
    energy = ((x + shift) ** 2).sum()
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": -(share * np.log2(share)).sum(),
        "InterquartileRange": p75 - p25,
        "Kurtosis": m4 / scale**2,
        "Maximum": x.max(),
        "MeanAbsoluteDeviation": np.abs(z).mean(),
        "Mean": x.mean(),
        "Median": p50,
        "Minimum": x.min(),
        "Range": x.max() - x.min(),
        "RobustMeanAbsoluteDeviation": np.abs(kept - kept.mean()).mean(),
        "RootMeanSquared": np.sqrt(energy / len(x)),
        "Skewness": m3 / scale**1.5,
        "TotalEnergy": energy * volume,
        "Uniformity": (share**2).sum(),
        "Variance": m2,
        "stat_medad": np.abs(x - p50).mean(),
        "stat_cov": np.sqrt(m2) / x.mean(),
        "stat_qcod": (p75 - p25) / (p75 + p25),
        "stat_kurt": 0.0 if flat else m4 / scale**2 - 3,
    }


def read(path):
    """Image, region and the spacing along (z, y, x)."""
    with np.load(path) as file:
        return file["image"], file["mask"] == 1, file["spacing_xyz"][::-1]


def program(definitions, **settings):
    def one(image, mask, levels):
        return first_order.features(
            image, mask, levels, 8, definitions=definitions, **settings
        )

    return jax.jit(jax.vmap(one))


def test_statistics_are_those_of_numpy_in_double_precision():
    image, mask, levels = volumes()
    settings = {"shift": 250.0, "voxel_volume": 0.75}
    found = dict(program("pyradiomics", **settings)(image, mask, levels))
    assert set(found) == set(names.PYRADIOMICS["firstorder"])
    found |= program("ibsi")(image, mask, levels)
    for i in range(len(image)):
        wanted = expected(image[i][mask[i]], levels[i][mask[i]], 250.0, 0.75)
        for name, value in wanted.items():
            # The one value of a constant has no spread but what numpy rounds.
            np.testing.assert_allclose(
                found[name][i], value, 1e-5, 2e-7, err_msg=f"{name} of {i}"
            )


@pytest.mark.parametrize("name", REAL)
def test_features_are_those_of_pyradiomics(name, real_file):
    image, mask, spacing = read(real_file(f"radiomics/{name}.npz"))
    case = json.loads((HERE / "pyradiomics.json").read_text())[name]
    width = case["settings"]["binWidth"]
    # The place of a voxel does not matter: one shape for all but the largest.
    x = image[mask]
    size = 1 << 13 if len(x) < 1 << 13 else 1 << 17
    values, region = (
        np.zeros((1, 1, size), np.float32),
        np.arange(size) < len(x),
    )
    values[0, 0, : len(x)] = x
    levels = np.zeros(values.shape, np.int32)
    levels[0, 0, : len(x)] = x // width - x.min() // width + 1
    found = first_order.features(
        values,
        region[None, None],
        levels,
        80,
        voxel_volume=float(np.prod(spacing)),
    )
    for feature, value in found.items():
        wanted = case["features"][f"original_firstorder_{feature}"]
        np.testing.assert_allclose(value, wanted, 1e-5, err_msg=feature)


def phantom():
    """The IBSI's digital phantom by its counts; places do not matter here."""
    levels = np.repeat([1, 3, 4, 6], [50, 1, 16, 7]).astype(np.int32)
    return levels[None, None], np.ones((1, 1, 74), bool)


def test_features_are_those_of_the_ibsi():
    levels, mask = phantom()
    found = first_order.features(
        levels.astype(np.float32), mask, levels, 6, definitions="ibsi"
    )
    assert set(found) == set(names.IBSI["firstorder"])
    with (HERE / "ibsi_digital_phantom.csv").open() as file:
        rows = {row["tag"]: row for row in csv.DictReader(file)}
    for tag, value in found.items():
        wanted = float(rows[tag]["value"])
        # Three significant digits are given.
        unit = 10.0 ** (np.floor(np.log10(abs(wanted))) - 2)
        tolerance = max(float(rows[tag]["tolerance"]), 0.5001 * unit)
        np.testing.assert_allclose(value, wanted, 0, tolerance, err_msg=tag)


def test_levels_that_do_not_occur_need_no_row():
    levels, mask = phantom()
    values = levels.astype(np.float32)
    full = first_order.features(values, mask, levels, 6, definitions="ibsi")
    rows = np.searchsorted([1, 3, 4, 6], levels).astype(np.int32) + 1
    packed = first_order.features(
        values, mask, rows, 6, grey_G=[1, 3, 4, 6, 0, 0], definitions="ibsi"
    )
    for tag, value in full.items():
        np.testing.assert_array_equal(packed[tag], value, err_msg=tag)


def test_the_histogram_of_one_level_has_no_gradient():
    count, grey = jnp.array([0, 5, 0]), jnp.array([1, 2, 3])
    found = intensity_histogram.features(count, grey)
    # Both ends of levels 1 and 2 are as steep: the lower one is told.
    assert found["ih_max_grad"] == 5 and found["ih_max_grad_g"] == 1
    assert found["ih_mode"] == 2
    found = intensity_histogram.features(count[1:2], jnp.array([1]))
    assert found["ih_max_grad"] == 0 and found["ih_min_grad_g"] == 1
    # No level has at most a tenth, or nine, of the volume but the next.
    assert found["ivh_i10"] == 2 and found["ivh_v90"] == 1


def test_percentiles_are_those_of_numpy():
    rng = np.random.default_rng(1)
    x = np.round(rng.normal(size=(60, 60)) * 4).astype(np.float32) / 3
    mask = np.arange(60) <= np.arange(60)[:, None]  # 1 to 60 values

    def of_row(row, inside):
        return order_statistics.percentiles(row, inside, PERCENT)

    below, add = jax.jit(jax.vmap(of_row))(x, mask)
    for i in range(60):
        wanted = np.percentile(x[i, : i + 1].astype(np.float64), PERCENT)
        np.testing.assert_allclose(below[i] + add[i], wanted, 1e-6, 1e-7)


def test_sums_keep_what_plain_sums_lose():
    rng = np.random.default_rng(2)
    for n in (1, 63, 5000, 300_001):
        x = rng.normal(size=(2, n)).astype(np.float32)
        x[1] = np.abs(x[1]) + 1000
        wanted = x.astype(np.float64).sum(1)
        found = jax.jit(sums.total)(x)
        # Errors of short sums are random: a part in 1e8 of the magnitudes.
        limit = 1e-8 * np.abs(x).sum(1) + 6e-8 * np.abs(wanted)
        assert (np.abs(found - wanted) <= limit).all()


def test_slopes_are_those_of_differences_in_double_precision():
    image, mask, levels = (array[1] for array in volumes())
    rng = np.random.default_rng(3)
    way = rng.normal(size=SHAPE).astype(np.float32)

    def of_image(x):
        return first_order.features(x, mask, levels, 8)

    _, found = jax.jit(lambda x: jax.jvp(of_image, (x,), (way,)))(image)
    x, step = image[mask].astype(np.float64), 1e-5 * way[mask]
    after, before = (expected(x + s, levels[mask]) for s in (step, -step))
    for name, slope in found.items():
        wanted = (after[name] - before[name]) / 2e-5
        np.testing.assert_allclose(slope, wanted, 1e-3, 1e-5, err_msg=name)


def test_values_do_not_compile_again(compilations):
    image, mask, levels = volumes()

    def run(i):
        arrays = (jnp.asarray(array[i]) for array in (image, mask, levels))
        return first_order.features(*arrays, 8)

    run(0)
    with compilations() as found:
        run(1)
    assert not found


def test_an_empty_region_gives_finite_numbers():
    nothing = np.zeros((1, *SHAPE), np.int32)
    image = np.full((1, *SHAPE), np.nan, np.float32)
    for definitions in ("pyradiomics", "ibsi"):
        found = program(definitions)(image, nothing > 0, nothing)
        assert all(np.isfinite(value).all() for value in found.values())


def test_wrong_input_is_named():
    image, mask, levels = (array[0] for array in volumes())
    with pytest.raises(UsageError, match="pyradiomic'"):
        first_order.features(image, mask, levels, 8, definitions="pyradiomic")
    with pytest.raises(UsageError, match=r"mask has shape \(9, 11\)"):
        first_order.features(image, mask[0], levels, 8)
    with pytest.raises(UsageError, match="levels"):
        first_order.features(image, mask, levels, 2)
