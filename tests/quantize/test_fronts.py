"""Factors and rotations against the papers' formulas in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxedge.core.checks import UsageError
from jaxedge.quantize import fronts, minifloat, search

pytestmark = pytest.mark.usefixtures("compile_quickly")
INPUTS = 48


@pytest.fixture(scope="module")
def layer():
    """Vectors with outlier channels and two dead ones, and weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, INPUTS)) * np.exp(rng.normal(size=INPUTS))
    x[:, :3] *= 30
    w = rng.normal(size=(INPUTS, 10))
    x[:, 5], w[7] = 0, 0
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, w))


def rounded(w):
    most = jnp.abs(w).max(0, keepdims=True)
    return minifloat.fake_quant(w, minifloat.E2M1, most)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.8])
def test_smoothing_is_that_of_the_paper(layer, strength):
    """Eq. 4: s_j = max|X_j|^a / max|W_j|^(1 - a)."""
    found = fronts.smooth(*layer, strength)
    x, w = (np.asarray(a, np.float64) for a in layer)
    live = np.ones(INPUTS, bool)
    live[[5, 7]] = False
    of_x, of_w = np.abs(x).max(0)[live], np.abs(w).max(1)[live]
    want = of_x**strength / of_w ** (1 - strength)
    np.testing.assert_allclose(found[live], want, rtol=1e-5)
    np.testing.assert_array_equal(found[~live], 1)


def test_smoothing_levels_what_is_tiny(layer):
    """Halfway both have the same range, in any unit."""
    x, w = 1e-20 * layer[0], 1e-20 * layer[1]
    s = fronts.smooth(x, w)
    of_x, of_w = jnp.abs(x / s[None]).max(0), jnp.abs(w * s[:, None]).max(1)
    live = np.delete(np.arange(INPUTS), [5, 7])
    np.testing.assert_allclose(of_x[live], of_w[live], rtol=1e-5)


def test_awareness_is_that_of_the_authors_code(layer):
    """The best of 20 powers of the mean size, by hand."""
    found = fronts.aware(*layer, rounded)
    x, w = (np.asarray(a, np.float64) for a in layer)
    size = np.abs(x).mean(0)
    size[5] = size.mean()
    grid = minifloat.grid(minifloat.E2M1)
    errors, factors = [], []
    for i in range(20):
        s = size ** (i / 20)
        s = s / np.sqrt(s.max() * s.min())
        scale = np.abs(w * s[:, None]).max(0) / grid[-1]
        at = np.abs((w * s[:, None] / scale)[..., None] - grid).argmin(-1)
        off = grid[at] * scale / s[:, None] - w
        errors.append(np.sum((x @ off) ** 2))
        factors.append(s)
    best = int(np.argmin(errors))
    np.testing.assert_allclose(found, factors[best], rtol=1e-4)
    assert best > 0 and errors[best] < 0.6 * errors[0]


def test_awareness_of_blocks_is_no_worse_than_none(layer):
    x, w = layer
    for grain in ("tensor", "mxfp4"):
        with_it, without = (
            search.linear(x, w, bits=(4, 16), method=m, grain=grain)
            for m in ("awq", "minmax")
        )
        ours, theirs = (
            np.sum(np.square(np.float64(f.apply(x)) - x @ w))
            for f in (with_it, without)
        )
        assert ours < 0.9 * theirs, grain


@pytest.mark.parametrize("method", ["smoothquant", "awq", "hadamard"])
def test_an_exact_product_stays(layer, method):
    x, w = layer
    found = search.linear(x, w, method=method)
    unit = fronts.prepare(jnp.eye(INPUTS), found.factor_I, found.turn)
    # Inputs as they come, and weights that undo it.
    inverse = np.linalg.inv(np.float64(unit))
    front = np.float64(fronts.prepare(x, found.factor_I, found.turn))
    want = np.float64(x) @ np.float64(w)
    np.testing.assert_allclose(front @ inverse @ w, want, rtol=1e-4, atol=1e-3)
    # Of many bits the layer's weights are those.
    fine = search.linear(x, w, method=method, bits=(8, 16))
    np.testing.assert_allclose(
        fine.apply(x), want, atol=0.05 * np.abs(want).max()
    )
    if method == "hadamard":
        assert found.turn == 16 and found.factor_I is None
    else:
        assert found.turn == 1 and (found.factor_I > 0).all()


@pytest.mark.parametrize("size", [1, 2, 64, 128])
def test_a_rotation_is_a_hadamard_matrix_in_groups(size):
    h = scipy.linalg.hadamard(size) / size**0.5
    want = np.kron(np.eye(3), h)
    found = fronts.rotate(jnp.eye(3 * size), size)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    np.testing.assert_allclose(
        fronts.rotate(found, size), np.eye(3 * size), atol=1e-6
    )


def test_a_long_rotation_has_three_factors():
    at = np.array([1, 4097, 8191])
    found = fronts.rotate(
        jnp.zeros((3, 8192)).at[np.arange(3), at].set(1), 8192
    )
    two, many = (scipy.linalg.hadamard(n) for n in (2, 64))
    for row, i in zip(found, at, strict=True):
        want = np.kron(
            np.kron(two[i // 4096], many[i // 64 % 64]), many[i % 64]
        )
        np.testing.assert_allclose(row, want / 8192**0.5, rtol=1e-6)


def test_a_rotation_of_half_precision_keeps_the_size():
    """1 / sqrt(2) is 0.7070 in bfloat16, half a per mille short of it."""
    x = np.random.default_rng(0).normal(size=(4096, 2))
    y = fronts.rotate(jnp.asarray(x, jnp.bfloat16), 2)
    assert y.dtype == jnp.bfloat16
    x = np.float64(jnp.asarray(x, jnp.bfloat16))
    slope = np.sum(np.float64(y) * (x @ scipy.linalg.hadamard(2)))
    assert slope / np.sum(x**2) == pytest.approx(2**0.5, rel=1e-4)


def test_sizes_of_rotations():
    sizes = [fronts.rotation_size(n) for n in (1, 7, 12, 4096, 11008)]
    assert sizes == [1, 1, 4, 4096, 256]


def test_a_strength_beyond_its_range_is_named(layer):
    with pytest.raises(UsageError, match="strength is 1.5"):
        fronts.smooth(*layer, 1.5)
