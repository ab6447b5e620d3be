"""Cohorts: every region as if it were alone, whatever it is stacked with."""

import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import radiomics
from jaxedge.features.radiomics import cohorts, regions

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


def test_regions_are_stacked_and_listed():
    images, masks, _ = cohort()
    cut = [regions.cut(*pair) for pair in zip(images, masks, strict=True)]
    whole = regions.stacked(cut, (8, 12, 16), 24)
    assert whole.values_ZxYxX.shape == (3, 8, 12, 16)
    assert whole.grey_G.shape == (3, 24) and whole.n_grey.shape == (3,)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        inside = whole.mask_ZxYxX[i]
        np.testing.assert_array_equal(
            whole.values_ZxYxX[i][inside], image[mask]
        )
        # Places and order are those of the volume.
        z, y, x = mask.shape
        np.testing.assert_array_equal(inside[:z, :y, :x], mask)
        assert inside.sum() == mask.sum()
        # The grey level is told by its row.
        levels = whole.levels_ZxYxX[i][inside]
        first = image[mask].min() // 25
        np.testing.assert_array_equal(
            whole.grey_G[i][levels - 1], image[mask] // 25 - first + 1
        )
        row = regions.listed(cut[i])
        np.testing.assert_array_equal(row.values_ZxYxX[0, 0], image[mask])
        np.testing.assert_array_equal(row.levels_ZxYxX[0, 0], levels)
        assert row.mask_ZxYxX.all()


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
    whole, listed = room.stacked(made)
    assert whole.values_ZxYxX.shape == (3, 8, 12, 16)
    assert listed.mask_ZxYxX.shape == (3, 1, 1, room.voxels)
    np.testing.assert_array_equal(
        listed.mask_ZxYxX.sum((1, 2, 3)), whole.mask_ZxYxX.sum((1, 2, 3))
    )
    assert room.block >= 1


@pytest.mark.parametrize("found, side", [(1, 4), (13, 16), (33, 40), (65, 80)])
def test_sides_of_boxes(found, side):
    assert regions.padded_side(found) == side
