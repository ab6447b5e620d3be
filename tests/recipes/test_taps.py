"""The leaf that tells what both sides of a matrix met."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, hardware
from jaxedge.recipes.taps import Tapped

BATCH, INPUTS, OUTPUTS = 5, 4, 3


@pytest.fixture(scope="module")
def given():
    """Inputs and a matrix, two of each."""
    x, w = (
        jax.random.normal(core.stream(jax.random.key(0), name), shape)
        for name, shape in (
            ("x", (2, BATCH, INPUTS)),
            ("w", (2, INPUTS, OUTPUTS)),
        )
    )
    return x, w


def slopes(x, w):
    """Slopes of a loss by the inputs and by the leaf, and the outputs."""
    leaf = Tapped(w, jnp.zeros((BATCH, INPUTS)), jnp.zeros((BATCH, OUTPUTS)))

    def loss(x, leaf):
        y = hardware.dot(x, leaf)
        return jnp.sum(jnp.sin(y)), y

    return jax.grad(loss, (0, 1), has_aux=True)(x, leaf)


compiled = jax.jit(jax.vmap(slopes))


def test_both_sides_are_told_under_every_transformation(given):
    x, w = given
    batch = compiled(x, w)
    for row in range(2):
        alone = slopes(x[row], w[row])
        for a, b in zip(*map(jax.tree.leaves, (alone, batch)), strict=True):
            np.testing.assert_allclose(a, b[row], rtol=1e-5, atol=1e-6)
        (slope, leaf), y = alone
        expected = np.float64(x[row]) @ np.float64(w[row])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(leaf.x_BxI, x[row])
        d = np.cos(expected)
        np.testing.assert_allclose(leaf.d_BxO, d, rtol=1e-4, atol=1e-5)
        back = d @ np.float64(w[row]).T
        np.testing.assert_allclose(slope, back, rtol=1e-4, atol=1e-5)


def test_new_numbers_compile_nothing(given, compilations):
    x, w = given
    compiled(x, w)
    other = 2 * x, 3 * w
    with compilations() as names:
        compiled(*other)
    assert not names
