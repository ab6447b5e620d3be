"""GPTQ against eliminations of an inverse, one input at a time, in float64."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import blocks, compensate, minifloat, search
from jaxedge.quantize.blocks import Blocks

pytestmark = pytest.mark.usefixtures("compile_quickly")
INPUTS, OUTPUTS = 21, 6
# Positive values of E2M1 at a bias of zero (llm_fp4 4.1).
E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12])
ROWS = search.OfRows(minifloat.E2M1)
# Both end with a short block.
KINDS = {
    "float32": Blocks(minifloat.E2M1, 8, "float32"),
    "e8m0": Blocks(minifloat.E2M1, 8, "e8m0"),
}


@pytest.fixture(scope="module")
def layer():
    """Inputs that go together [64, I], and weights [I, O]."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(INPUTS, INPUTS)) + 2 * np.eye(INPUTS)
    x = rng.normal(size=(64, INPUTS)) @ mix
    w = rng.normal(size=(INPUTS, OUTPUTS))
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, w))


def nearest(w, scale):
    """Values of E2M1 that are nearest to w, float64."""
    at = np.abs(np.abs(w / scale)[..., None] - E2M1).argmin(-1)
    return np.sign(w) * E2M1[at] * scale


def by_elimination(w, gram, scale_at, damp=compensate.DAMP):
    """Optimal brain quantisation in a fixed order (arXiv:2208.11580).

    Args:
        w: [I, O].
        gram: [I, I].
        scale_at: scale [O] at an input, by weights as they are by then.
        damp: of the diagonal.

    Returns:
        Values, and of each input the entry of the inverse of the Gram matrix of
        those from it on.
    """
    w, gram = (np.array(a, np.float64) for a in (w, gram))
    gram += damp * np.diagonal(gram).mean() * np.eye(len(gram))
    inverse = np.linalg.inv(gram)
    values, left = np.empty_like(w), np.empty(len(w))
    for i in range(len(w)):
        left[i] = inverse[i, i]
        values[i] = nearest(w[i], scale_at(i, w))
        w -= np.outer(inverse[:, i], (w[i] - values[i]) / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return values, left


def row_scale(w):
    return minifloat.scale_of(minifloat.E2M1, jnp.abs(w).max(0))


def test_rows_are_those_of_an_elimination(layer):
    x, w = layer
    scale = row_scale(w)
    want, _ = by_elimination(w, x.T @ x, lambda i, w: np.float64(scale))
    # Groups are for speed; the second length ends with a short one.
    for size in (INPUTS, 8, 1):
        got, _ = compensate.rounding(w, x.T @ x, ROWS, size, scale)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    # It moves many weights, to the benefit of the outputs.
    plain = nearest(np.float64(w), np.float64(scale))
    assert np.mean(want != plain) > 0.2
    x, w = (np.float64(a) for a in (x, w))
    ours, theirs = (np.sum((x @ (q - w)) ** 2) for q in (want, plain))
    assert ours < 0.7 * theirs


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_blocks_are_those_of_an_elimination(layer, kind):
    x, w = layer
    found = {}

    def scale_at(i, w):
        if i % kind.size == 0:  # With what the weights before have left.
            most = np.abs(w[i : i + kind.size]).max(0)
            power = 2.0 ** (np.floor(np.log2(most)) - 3)
            found["scale"] = power if kind.scale == "e8m0" else most / E2M1[-1]
        return found["scale"]

    want, _ = by_elimination(w, x.T @ x, scale_at)
    packed = search.compensated(w, x.T @ x, kind)
    np.testing.assert_allclose(
        blocks.unpack(packed).T, want, rtol=1e-5, atol=1e-6
    )
    assert packed.shape == (OUTPUTS, INPUTS)


def test_bytes_hold_what_was_rounded(layer):
    """NVFP4 with all that its blocks may choose."""
    x, w = layer
    kind = blocks.NVFP4.searched
    packed = search.compensated(w, x.T @ x, kind)
    parts = blocks.split(w.T, kind.size)
    whole = blocks.whole_of(parts, kind)
    values, stored = compensate.rounding(
        w, x.T @ x, search.OfBlocks(kind), kind.size, whole
    )
    np.testing.assert_array_equal(packed.scales, stored.T)
    np.testing.assert_array_equal(blocks.unpack(packed).T, values)


def test_inputs_that_do_not_go_together_are_rounded_each(layer):
    _, w = layer
    gram = jnp.diag(jnp.arange(1.0, INPUTS + 1))
    scale = row_scale(w)
    got, _ = compensate.rounding(w, gram, ROWS, 8, scale)
    want = nearest(np.float64(w), np.float64(scale))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    # Nor is there a difference for inputs of zeros.
    got, _ = compensate.rounding(w, 0 * gram, ROWS, 8, scale)
    np.testing.assert_allclose(got, want, rtol=1e-6)


class Seen(NamedTuple):
    """A grid whose scales are the importances it is told."""

    def choose(self, given, parts, importance):
        return jnp.broadcast_to(importance[None], parts.shape)

    def round(self, given, w, scale):
        return jnp.round(w)


def test_importance_is_the_error_that_others_cannot_mend(layer):
    x, w = layer
    _, left = by_elimination(w, x.T @ x, lambda i, w: np.ones(OUTPUTS))
    _, seen = compensate.rounding(w, x.T @ x, Seen(), 8)
    assert seen.shape == (3, OUTPUTS, 8)
    got = seen[:, 0].reshape(-1)[:INPUTS]
    np.testing.assert_allclose(got, 1 / left, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"damp": 0.0}, r"damp is 0.0, but must lie in \(0"),
        ({"damp": -1.0}, "damp is -1.0"),
        ({"damp": 1e-12}, "damp = 1e-12 the inputs go together.*0.01 is usual"),
        ({"size": 0}, "size is 0"),
        ({"gram": jnp.ones((3, 3))}, r"\(2, 1\) and gram \(3, 3\) must be"),
    ],
)
def test_bad_input_is_named(given, message):
    usual = {"w": jnp.ones((2, 1)), "gram": jnp.ones((2, 2)), "size": 2}
    with pytest.raises(UsageError, match=message):
        compensate.rounding(**usual | given, grid=Seen())
