"""Reductions over boxes against those over lists of voxels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.features.radiomics import boxes

SHAPE = (5, 6, 7)
PLACE = np.stack(np.indices(SHAPE), -1)


@pytest.mark.parametrize("radius", [1, 9])
def test_sums_over_boxes_are_exact(radius):
    values = np.random.default_rng(1).integers(-99, 99, SHAPE)
    frame = boxes.frame(SHAPE, radius)

    @jax.jit
    def sums(array):
        row = boxes.flatten(array, frame)
        return boxes.unflatten(boxes.sums(row, frame), frame)

    found = sums(jnp.asarray(values, jnp.float32))
    for voxel in np.ndindex(*SHAPE):
        near = np.abs(PLACE - voxel).max(-1) <= radius
        assert found[voxel] == values[near].sum()


def test_pairs_lie_in_the_box_with_both_voxels():
    values = np.random.default_rng(2).integers(1, 99, SHAPE)
    frame = boxes.frame(SHAPE, 2, reach=2)

    @jax.jit
    def sums(array, step):
        row = boxes.flatten(array, frame)
        return boxes.unflatten(boxes.sums(row, frame, step), frame)

    for step in [(0, 0, 1), (1, -1, 2), (2, 0, -2)]:
        found = sums(jnp.asarray(values, jnp.float32), jnp.asarray(step))
        for voxel in np.ndindex(*SHAPE):
            near = np.abs(PLACE - voxel).max(-1) <= 2
            beside = np.abs(PLACE + step - voxel).max(-1) <= 2
            assert found[voxel] == values[near & beside].sum()


def test_moments_of_whole_numbers_keep_their_digits():
    # 1,331 numbers far from 0; of the longer span, sums of fourth powers are
    # thousands of times 2^32.
    shape = (11, 11, 11)
    frame = boxes.frame(shape, 10)

    @jax.jit
    def moments(array):
        valid = boxes.flatten(jnp.ones(shape, bool), frame, False)
        row = boxes.flatten(array, frame)
        found = boxes.whole_moments(row, valid, frame, order=4)
        return found.mean[0], [found.central(power)[0] for power in (2, 3, 4)]

    for span in (1, 600):
        rng = np.random.default_rng(3)
        x = rng.integers(300 - span, 300, shape, endpoint=True)
        mean, central = moments(jnp.asarray(x, jnp.int32))
        away = x - x.mean()
        np.testing.assert_allclose(mean, x.mean(), rtol=1e-6)
        for power, value in zip((2, 3, 4), central, strict=True):
            size = np.abs(away**power).mean()
            expected = (away**power).mean()
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=1e-6 * size
            )


def test_moments_of_numbers_far_from_zero_keep_their_digits():
    # Neighbours of float32 are 2^-14 apart there.
    shape = (3, 3, 3)
    x = 1000 + np.random.default_rng(4).integers(0, 5, shape) * 2.0**-13
    frame = boxes.frame(shape, 6)

    @jax.jit
    def moments(array):
        valid = boxes.flatten(jnp.ones(shape, bool), frame, False)
        row = boxes.flatten(array, frame)
        found = boxes.moments(row, valid, frame, order=4)
        return [found.central(power)[0] for power in (2, 3, 4)]

    away = x - x.mean()
    central = moments(jnp.asarray(x, jnp.float32))
    for power, value in zip((2, 3, 4), central, strict=True):
        size, expected = np.abs(away**power).mean(), (away**power).mean()
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * size)
