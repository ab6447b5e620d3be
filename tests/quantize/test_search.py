"""The search of formats and scales against brute force in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import minifloat, search

pytestmark = pytest.mark.usefixtures("compile_quickly")
# Factors by which the data's unit changes.
UNITS = (1 / 64, 1, 64)


def layer(seed=0, sizes=(128, 48, 12), spread=1.2):
    """Vectors with unequal channels, and weights with unequal outputs."""
    rng = np.random.default_rng(seed)
    b, i, o = sizes
    x = rng.normal(size=(b, i)) * np.exp(spread * rng.normal(size=i))
    w = rng.normal(size=(i, o)) * np.exp(0.5 * rng.normal(size=o)) / i**0.5
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)


def error(found, x, w):
    """Mean square error of the outputs over their mean square, float64."""
    want = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
    got = np.asarray(found.apply(x), np.float64)
    return np.mean((got - want) ** 2) / np.mean(want**2)


def nearest(x, grid):
    """The nearest of sorted values, float64."""
    at = np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)
    lower = x - grid[at - 1] < grid[at] - x
    return np.where(lower, grid[at - 1], grid[at])


@pytest.mark.parametrize("of", search.SEARCHES)
def test_weights_are_those_of_a_search_by_hand(of):
    """W4A16: all formats and candidates, output by output, float64."""
    x, w = layer()
    found = search.linear(x, w, bits=(4, 16), method="fpq", search=of)
    x, w = (np.asarray(a, np.float64) for a in (x, w))
    best = {}
    for format in minifloat.formats(4):
        grid = minifloat.grid(format)
        errors = np.full(w.shape[1], np.inf)
        for o, column in enumerate(w.T):
            first = np.log2(grid[-1]) - np.log2(np.abs(column).max())
            if of == "paper":
                biases = first * (0.01 + 0.0119 * np.arange(100))
            else:  # Finer than the search, whose steps end at 1/200.
                biases = first + np.arange(-0.3, 1.8, 1 / 400)
            for bias in biases:
                off = x @ (column - nearest(column, grid / 2**bias))
                errors[o] = min(errors[o], off @ off)
        best[format] = errors.sum()
    chosen = min(best, key=best.__getitem__)
    y = x @ w
    got = np.sum((x @ np.asarray(found.weights, np.float64) - y) ** 2)
    assert found.weight_format == chosen
    # The paper's candidates are the same; others were tried finer here.
    slack = 1e-4 if of == "paper" else 0.03
    assert best[chosen] * (1 - 1e-4) <= got <= best[chosen] * (1 + slack)


@pytest.mark.parametrize("method", ["fpq_baseline", "fpq"])
@pytest.mark.parametrize("seed", [0, 1])
def test_offsets_are_no_worse_than_the_papers_search_in_any_unit(method, seed):
    x, w = layer(seed)
    chosen, ratios = set(), []
    for unit in UNITS:
        one = unit * x
        ours, theirs = (
            search.linear(one, w, method=method, search=of)
            for of in search.SEARCHES
        )
        ratios.append(error(ours, one, w) / error(theirs, one, w))
        chosen.add((ours.weight_format, ours.act_format))
    # Both end in local optima, which may differ by chance in a unit.
    assert max(ratios) < 1.01 and np.mean(ratios) < 1.002
    # A unit of a power of two changes nothing.
    assert len(chosen) == 1


def test_the_papers_search_finds_nothing_at_a_bias_of_zero():
    """llm_fp4 7, trap 2: all candidates are near zero then."""
    x, w = layer(spread=0.0)
    # Every format of the activations has its first bias near zero.
    at = 12 / float(jnp.abs(x).max())

    def found(unit, of):
        one = unit * x
        layer = search.linear(
            one, w, bits=(8, 4), method="fpq_baseline", search=of
        )
        return error(layer, one, w)

    near, far = (found(unit, "paper") for unit in (at, at / 64))
    assert near > 1.05 * far and found(at, "offset") < 1.001 * far


def test_each_part_of_the_method_pays():
    x, w = layer()
    kinds = [search.linear(x, w, method=m) for m in search.METHODS]
    minmax, baseline, shifted = (error(kind, x, w) for kind in kinds)
    # The order of the paper's tables (llm_fp4 5).
    assert minmax > 1.5 * baseline and baseline > 1.5 * shifted
    # With exact activations no shift is needed.
    wide = [
        error(search.linear(x, w, bits=(4, 16), method=m), x, w)
        for m in search.METHODS
    ]
    assert wide[0] > wide[1] == pytest.approx(wide[2])
    eight = error(search.linear(x, w, bits=(8, 8)), x, w)
    assert eight < 0.05 * shifted


def test_shifts_are_those_of_the_paper():
    x, w = layer()
    found = search.linear(x, w)
    format = found.act_format
    assert format is not None
    # Eq. 14 and 15, float64, with the bias that was chosen.
    rho = np.log2(format.top) - np.log2(float(found.act_scale) * format.top)
    most = np.abs(np.asarray(x, np.float64)).max(0)
    channels = np.log2(format.top) - np.log2(most)
    want = np.clip(np.rint(channels - rho), 0, 2**format.exponent_bits - 1)
    np.testing.assert_array_equal(found.shift_I, want)
    assert found.shift_I.dtype == jnp.int8 and found.shift_I.max() > 0
    # Eq. 18 and 19: a shift is a power of two on the other operand.
    codes = found.activations(x) * 2.0 ** found.shift_I.astype(
        jnp.float32
    ).reshape(1, -1)
    moved = 2.0 ** -found.shift_I.astype(jnp.float32)[:, None] * found.weights
    np.testing.assert_allclose(
        codes @ moved, found.apply(x), rtol=2e-5, atol=1e-4
    )
    # What multiplies them lies on one grid.
    grid = minifloat.grid(format) * float(found.act_scale)
    off = np.abs(np.asarray(codes)[..., None] - grid).min(-1)
    assert off.max() < 1e-5 * grid.max()


def test_minmax_is_a_product_of_two_grids():
    x, w = layer()
    found = search.linear(x, w, method="minmax")
    assert found.weight_format == found.act_format == minifloat.E2M1
    assert not found.shift_I.any()
    qx = minifloat.fake_quant(x, minifloat.E2M1, jnp.abs(x).max())
    qw = minifloat.fake_quant(w, minifloat.E2M1, jnp.abs(w).max(0))
    np.testing.assert_allclose(found.apply(x), qx @ qw, rtol=1e-5, atol=1e-4)
    # Two codes a byte, along the inputs of an output.
    assert found.codes.shape == (12, 24) and found.codes.dtype == jnp.uint8
    odd = search.linear(x[:, :47], w[:47], method="minmax")
    assert odd.codes.shape == (12, 24) and odd.weights.shape == (47, 12)


def test_a_layer_is_a_pytree_that_compiles_once(compilations):
    x, w = layer()
    apply = jax.jit(lambda layer, x: layer.apply(x))
    first, second = (search.linear(x, s * w, method="minmax") for s in (1, 3))
    y = apply(first, x)
    np.testing.assert_allclose(y, first.apply(x), rtol=1e-5, atol=1e-5)
    with compilations() as names:
        other = apply(second, x)
    assert not names
    np.testing.assert_allclose(other, 3 * y, rtol=1e-4, atol=1e-4)
    assert apply(first, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    stacked = jax.vmap(first.apply)(x[:4].reshape(2, 2, -1))
    np.testing.assert_allclose(
        stacked.reshape(4, -1), y[:4], rtol=1e-5, atol=1e-5
    )


def test_channels_and_outputs_of_zeros_are_no_matter():
    x, w = layer()
    x, w = x.at[:, 3].set(0), w.at[:, 5].set(0)
    found = search.linear(x, w)
    assert np.isfinite(error(found, x, w))
    assert not found.apply(x)[:, 5].any()


X, W = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("x", "w", "given", "message"),
    [
        (X, W, {"method": "fqp"}, "unknown method 'fqp'. Did you mean 'fpq'"),
        (X, W, {"search": "papers"}, "unknown search 'papers'"),
        (X, W, {"bits": (9, 4)}, "bits of weights are 9"),
        (X, W, {"bits": (16, 16)}, "bits of weights are 16"),
        (X, W, {"bits": (4, 12)}, "bits of activations are 12.*16 leaves"),
        (X, W, {"bits": (1, 4)}, "bits of weights is 1"),
        (X[:, :2], W, {}, r"\(4, 2\) and w \(3, 2\) must be"),
        (X[0], W, {}, "must be .B, I. and .I, O."),
        (X[:0], W, {}, "nothing to calibrate with"),
        (0 * X, W, {}, "all calibration vectors are zero"),
        (X * np.nan, W, {}, "calibration vectors.*NaN"),
        (X, W * np.inf, {}, "the weights.*infinite"),
    ],
)
def test_bad_input_is_named(x, w, given, message):
    with pytest.raises(UsageError, match=message):
        search.linear(jnp.asarray(x), jnp.asarray(w), **given)


def test_inputs_of_another_layer_are_refused():
    x, w = layer()
    found = search.linear(x, w, method="minmax")
    with pytest.raises(UsageError, match="but the layer has 48 inputs"):
        found.apply(x[:, :5])
