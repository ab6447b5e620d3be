"""Tests of regions as padded arrays, and of grey levels."""

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.features.radiomics import bins, names, neighbours, options, regions


def test_one_of_each_two_opposite_neighbours():
    for distances, plane, number in (
        ((1,), None, 13),
        ((1,), 0, 4),
        ((1, 2), None, 62),
        ((2,), 1, 8),
    ):
        steps = neighbours.offsets(distances, plane)
        both = {tuple(s) for s in steps} | {tuple(-s) for s in steps}
        assert len(steps) == number and len(both) == 2 * number
        assert all(max(map(abs, step)) in distances for step in both)
        assert plane is None or not steps[:, plane].any()


def test_shifted_is_the_value_a_step_away():
    array = np.arange(1, 25).reshape(2, 3, 4)
    around = np.zeros((14, 15, 16), int)
    around[6:8, 6:9, 6:10] = array
    for step in neighbours.offsets((1, 2, 5)):
        z, y, x = 6 + step
        expected = around[z : z + 2, y : y + 3, x : x + 4]
        found = neighbours.shifted(array, step)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", (25.0, 0.5, 0.1, 7))
@pytest.mark.parametrize("low", (0.0, -1013.25, 12.5))
def test_bins_of_one_width(low, width):
    rng = np.random.default_rng(0)
    values = rng.uniform(low, low + 20 * width, 500)
    # The edges are multiples of the width: level k holds [edge, edge + width).
    found = bins.on_host(values, bin_width=width)
    first = np.floor(values.min() / width)
    expected = np.floor(values / width) - first + 1
    np.testing.assert_array_equal(found, expected)
    ibsi = bins.on_host(values, bin_width=width, definitions="ibsi")
    expected = np.floor((values - values.min()) / width) + 1
    np.testing.assert_array_equal(ibsi, expected)


def test_bins_of_one_number():
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8])
    found = bins.on_host(values, bin_count=4)
    np.testing.assert_array_equal(found, [1, 1, 2, 2, 3, 3, 4, 4, 4])
    np.testing.assert_array_equal(bins.on_host(np.ones(3), bin_count=4), 3)


def test_compiled_bins_are_those_of_the_host():
    rng = np.random.default_rng(1)
    values = rng.integers(-1000, 1000, (4, 3, 5, 6)).astype(np.float32)
    mask = rng.random(values.shape) < 0.6
    width = jax.jit(jax.vmap(lambda v, m: bins.by_width(v, m, 25.0)))
    ibsi = jax.jit(
        jax.vmap(lambda v, m: bins.by_width(v, m, 25.0, definitions="ibsi"))
    )
    count = jax.jit(jax.vmap(lambda v, m: bins.by_count(v, m, 16)))
    for program, settings in (
        (width, {"bin_width": 25.0}),
        (ibsi, {"bin_width": 25.0, "definitions": "ibsi"}),
        (count, {"bin_count": 16}),
    ):
        found = np.asarray(program(values, mask))
        assert not found[~mask].any()
        for i in range(4):
            expected = bins.on_host(values[i][mask[i]], **settings)
            np.testing.assert_array_equal(found[i][mask[i]], expected)


def test_a_region_is_cropped_and_padded():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 200, (9, 20, 30))
    mask = np.zeros(image.shape, np.uint8)
    mask[2:7, 3:16, 4:27] = 7
    made = regions.prepare(image, mask, spacing=(3, 1, 0.5))
    n, inside = 5 * 13 * 23, image[2:7, 3:16, 4:27]
    assert made.shape_ZxYxX.shape == (6, 16, 24)
    assert made.shape_ZxYxX[:5, :13, :23].all() and made.shape_ZxYxX.sum() == n
    assert made.place_V.shape == (1536,) and (made.place_V[n:] == -1).all()
    boxed = np.asarray(made.boxed(made.values_V))
    np.testing.assert_array_equal(boxed[:5, :13, :23], inside)
    assert not boxed[~made.shape_ZxYxX].any()
    # Grey levels are told by row: here 8, each of 25.
    levels = made.grey_G[made.levels_V[:n] - 1]
    np.testing.assert_array_equal(levels, inside.ravel() // 25 + 1)
    assert made.n_levels == 8 and made.n_grey == 8


def test_only_levels_that_occur_have_rows():
    image = np.array([[[0, 1000, 0, 1000]]])
    made = regions.prepare(image, np.ones_like(image), n_levels=3)
    np.testing.assert_array_equal(made.grey_G, [1, 41, 0])
    np.testing.assert_array_equal(made.levels_V, [1, 2, 1, 2])
    assert made.n_grey == 41


@pytest.mark.parametrize(
    "size, padded",
    [(1, 1), (2, 2), (3, 3), (5, 6), (7, 8), (9, 12), (13, 16), (100, 128)],
)
def test_sizes(size, padded):
    assert regions.padded_size((size,)) == (padded,)


def test_rows_are_at_most_a_quarter_too_many():
    for found in range(9, 3000):
        rows = regions.padded_levels(found)
        assert found <= rows <= max(1.25 * found + 8, 16)


IMAGE = np.arange(24.0).reshape(2, 3, 4)
ONES = np.ones((2, 3, 4), int)
NANS = np.where(IMAGE == 5, np.nan, IMAGE)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"mask": np.zeros_like(ONES)}, "mask is empty"),
        ({"mask": IMAGE == 5}, "single voxel"),
        ({"mask": ONES[:1]}, "resample"),
        ({"mask": ONES * 0.5}, "no labels"),
        ({"mask": np.where(IMAGE > 9, 2, 5)}, r"labels \[2, 5\]"),
        ({"label": 4}, r"label is 4, but the mask has \[1\]"),
        ({"image": NANS}, "holds 1 NaN"),
        ({"image": IMAGE + 1j}, "complex"),
        ({"image": IMAGE[None], "mask": ONES[None]}, r"\[Z, Y, X\]"),
        ({"spacing": (0.0, 1, 1)}, "millimetres|mm along"),
        ({"spacing": (5e-4, 5e-4, 5e-4)}, "multiply metres"),
        ({"spacing": (1, 1)}, "three numbers"),
        ({"bin_width": 0.0}, "bin_width"),
        ({"bin_width": 1e-9}, "larger bin_width"),
        ({"bin_count": 0}, "bin_count"),
        ({"size": (2, 2, 2)}, "size is"),
        ({"n_levels": 1, "bin_width": 1.0}, "n_levels is 1"),
    ],
)
def test_bad_input_is_named(change, told):
    given = {"image": IMAGE, "mask": ONES, "spacing": (1, 1, 1)} | change
    with pytest.raises(UsageError, match=told):
        regions.prepare(given.pop("image"), given.pop("mask"), **given)


def test_nan_outside_the_region_does_not_matter():
    made = regions.prepare(NANS, IMAGE != 5)
    assert np.isfinite(made.values_V).all()


def test_one_bin_for_all_is_told():
    with pytest.warns(UserWarning, match="fall into one bin of width 25"):
        regions.prepare(IMAGE / 100, ONES)


def test_a_slice_is_a_volume_of_one():
    made = regions.prepare(IMAGE[0], ONES[0], spacing=(2, 3))
    np.testing.assert_array_equal(made.spacing_3, [1, 2, 3])
    assert made.shape_ZxYxX.shape == (1, 3, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"distances": ()},
        {"distances": (0,)},
        {"distances": (1, 1)},
        {"weighting": "eucledian"},
        {"plane": 3},
        {"alpha": -1.0},
    ],
)
def test_bad_options_are_named(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        options.check(options.Options(**change))


def test_names():
    counts = {k: len(v) for k, v in names.PYRADIOMICS.items()}
    assert sum(counts.values()) - counts["shape2D"] == 107
    assert names.ibsi_id("cm_contrast_3D_avg") == "ACUI"
    assert names.ibsi_id("morph_volume") == "RNU0"
    with pytest.raises(UsageError, match="cm_contrast"):
        names.ibsi_id("cm_contrasts")
