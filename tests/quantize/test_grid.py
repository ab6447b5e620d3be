"""Tests of grids whose groups have steps of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize.grid import Grid

STEP = np.array([0.5, 0.2], np.float32)
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def reference(x, step, low, high, offset=0.0):
    """In float64, for steps broadcast to x."""
    v = np.clip((np.float64(x) - offset) / step, low, high)
    return np.round(v) * step + offset


@pytest.mark.parametrize("axis", [-1, -2])
def test_groups_divide_an_axis(axis):
    grid = Grid(jnp.asarray(STEP), jnp.float32(-2), jnp.float32(1), axis=axis)
    x = X if axis == -1 else X.T
    wide = np.repeat(STEP, 2)
    want = reference(x, wide if axis == -1 else wide[:, None], -2, 1)
    np.testing.assert_allclose(grid.apply(jnp.asarray(x)), want, rtol=1e-6)
    codes = np.asarray(grid.codes(jnp.asarray(x)))
    assert set(np.unique(codes)) <= {-2, -1, 0, 1} and codes.dtype == np.int32
    scaled = codes * (wide if axis == -1 else wide[:, None])
    np.testing.assert_allclose(scaled, want, atol=1e-6)


def test_an_offset_moves_the_levels_and_the_limits():
    grid = Grid(
        jnp.asarray(STEP[:1]), jnp.float32(0), jnp.float32(7), jnp.float32(-0.4)
    )
    want = reference(X, STEP[0], 0, 7, np.float32(-0.4))
    np.testing.assert_allclose(grid.apply(jnp.asarray(X)), want, rtol=1e-6)
    low, high = grid.limits
    np.testing.assert_allclose([low, high], [-0.4, 3.1], rtol=1e-6)


def test_every_group_has_its_own_scaled_gradient():
    """d step = scale * sum over the group of round(v) - v, or the limit."""
    weight = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)

    def loss(step):
        grid = Grid(step, jnp.float32(-2), jnp.float32(1))
        return jnp.sum(weight * grid.apply(jnp.asarray(X)))

    found = jax.grad(loss)(jnp.asarray(STEP))
    v = np.float64(X) / np.repeat(STEP, 2)
    slope = np.where(v < -2, -2, np.where(v > 1, 1, np.round(v) - v))
    # Six numbers a group, largest code 1.
    want = (slope * weight).reshape(3, 2, 2).sum((0, 2)) / np.sqrt(6)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_other_limits_compile_nothing(compilations):
    apply = jax.jit(Grid.apply)
    grids = [
        Grid(jnp.asarray(STEP), jnp.float32(-n), jnp.float32(n - 1))
        for n in (8, 2)
    ]
    x = jnp.asarray(X)
    apply(grids[0], x)
    with compilations() as names:
        found = apply(grids[1], x)
    assert not names
    want = reference(X, np.repeat(STEP, 2), -2, 1)
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_groups_that_do_not_divide_are_told():
    grid = Grid(jnp.ones(3), jnp.float32(-2), jnp.float32(1))
    with pytest.raises(UsageError, match=r"3 groups along axis -1.*\(3, 4\)"):
        grid.apply(jnp.asarray(X))
