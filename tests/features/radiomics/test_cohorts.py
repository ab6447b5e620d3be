"""Cohorts: every region as if it were alone, whatever it is stacked with."""

import jax
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import radiomics
from jaxedge.features.radiomics import (
    cohorts,
    glcm,
    gldm,
    gldzm,
    glrlm,
    glszm,
    ngtdm,
    regions,
)

pytestmark = pytest.mark.usefixtures("compile_quickly")

CLASSES = ("shape", "firstorder", "glcm", "ngtdm")


def cohort():
    """Three regions of unlike sizes, levels and spacings."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for shape, spread in (((3, 4, 5), 20), ((5, 9, 7), 60), ((4, 6, 13), 40)):
        images.append(rng.normal(300, spread, shape).astype(np.float32))
        masks.append(rng.random(shape) < 0.8)
    return images, masks, [(3.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.0, 0.5, 0.7)]


def test_a_cohort_has_the_features_of_its_regions():
    images, masks, spacing = cohort()
    # The last of two blocks has room for one more.
    many = radiomics.extract_many(
        images, masks, spacing=spacing, classes=CLASSES, block=2
    )
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        one = radiomics.extract(
            image, mask, spacing=spacing[i], classes=CLASSES
        )
        assert list(one) == list(many)
        np.testing.assert_allclose(
            [column[i] for column in many.values()],
            list(one.values()),
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_bad_volume_is_named():
    images, masks, _ = cohort()
    masks[1] = np.zeros_like(masks[1])
    with pytest.raises(UsageError, match="volume 1: mask is empty"):
        radiomics.extract_many(images, masks)


def test_regions_are_stacked():
    images, masks, _ = cohort()
    cut = [regions.cut(*pair) for pair in zip(images, masks, strict=True)]
    whole = regions.stacked(cut, (8, 12, 16), 400, 24)
    assert whole.shape_ZxYxX.shape == (3, 8, 12, 16)
    assert whole.grey_G.shape == (3, 24) and whole.n_grey.shape == (3,)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        n = mask.sum()
        # In the order of the volume, then none.
        np.testing.assert_array_equal(whole.values_V[i, :n], image[mask])
        assert not whole.values_V[i, n:].any()
        assert not whole.levels_V[i, n:].any()
        assert (whole.place_V[i, n:] == -1).all()
        places = np.unravel_index(whole.place_V[i, :n], (8, 12, 16))
        np.testing.assert_array_equal(places, np.nonzero(mask))
        z, y, x = mask.shape
        np.testing.assert_array_equal(whole.shape_ZxYxX[i, :z, :y, :x], mask)
        assert whole.shape_ZxYxX[i].sum() == n
        # The grey level is told by its row, or is its number.
        wanted = image[mask] // 25 - image[mask].min() // 25 + 1
        levels = whole.levels_V[i, :n]
        np.testing.assert_array_equal(whole.grey_G[i][levels - 1], wanted)
        plain = regions.plain(cut[i])
        np.testing.assert_array_equal(plain.levels_V, wanted)
        np.testing.assert_array_equal(plain.grey_G, np.arange(wanted.max()) + 1)


def test_a_list_of_voxels_finds_what_all_voxels_do():
    rng = np.random.default_rng(3)
    # One region fills its box; the other, of two levels, has long runs.
    levels = rng.integers(1, 5, (2, 4, 5, 6)).astype(np.int32)
    levels[1] = (levels[1] + 1) // 2 * (rng.random((4, 5, 6)) < 0.7)
    places = np.full((2, 130), -1, np.int32)
    for place_V, volume in zip(places, levels, strict=True):
        found = np.flatnonzero(volume)
        place_V[: len(found)] = found

    def matrices(volume, place_V):
        return [
            kind.matrix(volume, 4, place_V=place_V)
            for kind in (glcm, glrlm, gldm, gldzm, ngtdm)
        ] + [glszm.matrix(volume, 4, place_V=place_V).counts_GxS.sum(1)]

    by_list = jax.jit(jax.vmap(matrices))(levels, places)
    of_all = jax.jit(jax.vmap(lambda v: matrices(v, None)))(levels)
    for ours, wanted in zip(by_list, of_all, strict=True):
        assert np.asarray(wanted).any()
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("spacing", [(1, 1), np.ones((2, 3))])
def test_spacings_are_one_or_one_a_volume(spacing):
    images, masks, _ = cohort()
    with pytest.raises(UsageError, match="spacing has shape"):
        radiomics.extract_many(images, masks, spacing=spacing)


def test_a_room_holds_every_region():
    images, masks, _ = cohort()
    made = cohorts.cut(images, masks, (1, 1, 1), {"bin_width": 1.0})
    room = cohorts.room_of(made)
    assert room.size == (8, 12, 16)
    assert room.rows >= max(region.n_levels for region in made)
    whole = room.stacked(made)
    assert whole.shape_ZxYxX.shape == (3, 8, 12, 16)
    assert whole.place_V.shape == (3, room.voxels)
    np.testing.assert_array_equal(
        (whole.place_V >= 0).sum(1), [mask.sum() for mask in masks]
    )
    assert room.block >= 1


@pytest.mark.parametrize("width, plain", [(1.0, False), (25.0, True)])
def test_rows_for_all_levels_where_they_cost_nothing(width, plain):
    images, masks, _ = cohort()
    made = cohorts.cut(images, masks, (1, 1, 1), {"bin_width": width})
    room = cohorts.room_of(made)
    assert room.plain == plain
    whole = room.stacked(made)
    used = np.take_along_axis(
        whole.grey_G, np.maximum(whole.levels_V - 1, 0), 1
    )
    same = (used == whole.levels_V)[whole.levels_V > 0]
    assert same.all() == plain


@pytest.mark.parametrize("found, side", [(1, 4), (13, 16), (33, 40), (65, 80)])
def test_sides_of_boxes(found, side):
    assert regions.padded_side(found) == side
