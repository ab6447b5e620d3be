"""The search of formats and scales against brute force in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import fpq, minifloat, search

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


@pytest.mark.parametrize(
    ("of", "weighted"), [("offset", False), ("paper", False), ("paper", True)]
)
def test_weights_are_those_of_a_search_by_hand(of, weighted):
    """W4A16: all formats and candidates, output by output, float64."""
    x, w = layer()
    slopes = np.ones((len(x), w.shape[1]))
    if weighted:  # Eq. 24.
        slopes = np.exp(2 * np.random.default_rng(9).normal(size=slopes.shape))
    found = search.linear(
        x,
        w,
        bits=(4, 16),
        method="fpq",
        search=of,
        sensitivity_BxO=jnp.asarray(slopes**2) if weighted else None,
    )
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
                off *= slopes[:, o]
                errors[o] = min(errors[o], off @ off)
        best[format] = errors.sum()
    chosen = min(best, key=best.__getitem__)
    y = x @ w
    off = slopes * (x @ np.asarray(found.weights, np.float64) - y)
    got = np.sum(off**2)
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


GRAINS = ("tensor", "mxfp4", "nvfp4")


def outliers(seed):
    """Inputs that go together, with channels 20 times as large."""
    rng = np.random.default_rng(seed)
    b, i, o = 128, 48, 12
    x = rng.normal(size=(b, i)) @ (np.eye(i) + rng.normal(size=(i, i)) / 8)
    x[:, rng.choice(i, 4, replace=False)] *= 20
    w = rng.normal(size=(i, o)) / i**0.5
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)


def errors(methods, seeds, **how):
    """Errors of methods, each with those of layers with outliers."""
    layers = [outliers(seed) for seed in seeds]
    return {
        method: np.array(
            [error(search.linear(*a, method=method, **how), *a) for a in layers]
        )
        for method in methods
    }


@pytest.mark.parametrize("grain", ["tensor", "nvfp4"])
def test_every_method_makes_a_layer(grain, compilations):
    x, w = outliers(0)
    apply = jax.jit(lambda layer, x: layer.apply(x))
    for method in search.METHODS:
        found = search.linear(x, w, method=method, grain=grain)
        y = apply(found, x)
        want = np.float64(found.activations(x)) @ np.float64(found.weights)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-3)
        assert found.inputs == 48 and found.outputs == 12
        # Other bytes of the same kind are the same program.
        other = jax.tree.map(lambda leaf: leaf + 0, found)
        with compilations() as names:
            apply(other, x)
        assert not names, method


def test_methods_have_the_order_of_the_papers():
    found = errors(search.METHODS, range(3))
    minmax, fpq = found["minmax"], found["fpq"]
    for method in ("smoothquant", "awq", "hadamard", "fpq_baseline"):
        assert (found[method] < 0.95 * minmax).all(), method
    assert (fpq < 0.6 * found["fpq_baseline"]).all()
    assert (found["fpq_gptq"] < 1.01 * fpq).all()


@pytest.mark.parametrize("grain", GRAINS)
def test_weights_that_make_up_for_each_other_are_better(grain):
    """W4A16: nothing but weights is rounded."""
    methods = ("minmax", "gptq", "fpq", "fpq_gptq")
    found = errors(methods, range(3), bits=(4, 16), grain=grain)
    minmax, gptq, fpq, both = found.values()
    assert gptq.mean() < 0.8 * minmax.mean() and (both < 0.9 * fpq).all()
    assert fpq.mean() < 0.95 * minmax.mean() and (both < gptq).all()


def test_blocks_of_other_bits_have_the_format_that_a_search_starts_from():
    x, w = outliers(0)
    for grain in ("nvfp4", "nvfp4_searched"):
        found = search.linear(x, w, bits=(8, 6), method="minmax", grain=grain)
        assert found.weight_format == minifloat.of("e4m3")
        assert found.act_blocks.format == minifloat.of("e2m3")
        assert found.act_blocks.size == 16
        assert error(found, x, w) < 2e-3


def test_equal_sensitivities_are_none():
    x, w = outliers(0)
    one, none = (
        search.linear(x, w, sensitivity_BxO=s)
        for s in (3 * jnp.ones((128, 12)), None)
    )
    jax.tree.map(np.testing.assert_array_equal, one, none)
    assert jax.tree.structure(one) == jax.tree.structure(none)


@pytest.mark.parametrize("seed", range(3))
def test_a_sensitivity_of_one_output_is_to_its_benefit(seed):
    x, w = outliers(seed)
    only = jnp.zeros((128, 12)).at[:, 3].set(1e-3)
    y = np.float64(x) @ np.float64(w)

    def off(found):
        return np.mean((np.float64(found.apply(x)) - y) ** 2, 0)

    with_it, without = (
        off(search.linear(x, w, sensitivity_BxO=s)) for s in (only, None)
    )
    assert with_it[3] < 0.99 * without[3]
    # The others keep a sound scale all the same.
    assert with_it.sum() < 1.5 * without.sum()


def test_formats_of_many_bits_stay_below_five_of_the_exponent():
    """llm_fp4 4.2: M = 2 to 6 of 8 bits."""
    names = [[f.name for f in fpq.formats(bits)] for bits in (8, 7, 4)]
    assert names == [
        ["e1m6", "e2m5", "e3m4", "e4m3", "e5m2"],
        ["e1m5", "e2m4", "e3m3", "e4m2", "e5m1"],
        ["e1m2", "e2m1", "e3m0"],
    ]
    starts = [fpq.start_format(bits).name for bits in (2, 3, 4, 6, 8)]
    assert starts == ["e1m0", "e2m0", "e2m1", "e2m3", "e4m3"]


# Rows, inputs and columns of forms: by rows, by all of a Gram matrix, by its
# main part.
FORMS = {"rows": (20, 30, 4), "gram": (200, 30, 4), "part": (200, 150, 4)}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", FORMS.values(), ids=FORMS)
def test_a_form_is_the_error_itself(sizes, weighted):
    rng = np.random.default_rng(0)
    k, i, n = sizes
    g = rng.normal(size=(k, i))
    v, e = rng.normal(size=(2, i, n))
    fs = [g + 0.1 * rng.normal(size=(k, i)) for _ in range(2)]
    c = rng.exponential(size=(k, n)) if weighted else None
    want, got = [], []
    for f in fs:
        args = [jnp.asarray(a, jnp.float32) for a in (f, g, v)]
        of = fpq.form(*args, None if c is None else jnp.asarray(c))
        assert (of.rows is None) == (sizes == FORMS["gram"] and not weighted)
        for one in (0 * e, e, -0.1 * e):
            square = (f @ (v + one) - g @ v) ** 2
            want.append(np.sum(square if c is None else c * square))
            found = of.error(jnp.asarray(one, jnp.float32), full=True)
            assert found.shape == (n,)
            got.append(float(found.sum() + of.const))
    # One constant for all errors and both operands.
    off = np.array(got) - want
    assert np.ptp(off) < 1e-4 * np.mean((g @ v) ** 2) * k * n


def test_the_main_part_of_a_form_is_nearly_all():
    """Of vectors that go together, and of a few directions alone."""
    rng = np.random.default_rng(0)
    size = np.exp(-np.arange(150) / 8)
    e = rng.normal(size=(150, 5))
    # So few and so unlike that the rest is rounding, of either sign.
    few = np.where(np.arange(150) < 40, 100 * size**4, 0)
    for power in (size, few):
        f = rng.normal(size=(200, 150)) * power @ rng.normal(size=(150, 150))
        args = [jnp.asarray(a, jnp.float32) for a in (f, f, 0 * e)]
        of = fpq.form(*args, None)
        assert not of.exact
        found = of.error(jnp.asarray(e, jnp.float32), full=False)
        np.testing.assert_allclose(found, np.sum((f @ e) ** 2, 0), rtol=0.01)


def test_a_large_layer_is_searched_as_well_by_the_main_part(monkeypatch):
    x, w = outliers(0)
    exact = error(search.linear(x, w), x, w)
    fpq.form.clear_cache()
    monkeypatch.setattr(fpq, "_RANK", 8)
    assert not fpq.form(x, x, w, None).exact
    found = error(search.linear(x, w), x, w)
    fpq.form.clear_cache()
    assert found == pytest.approx(exact, rel=0.01)


def test_each_part_of_the_method_pays():
    x, w = layer()
    methods = ("minmax", "fpq_baseline", "fpq")
    kinds = [search.linear(x, w, method=m) for m in methods]
    minmax, baseline, shifted = (error(kind, x, w) for kind in kinds)
    # The order of the paper's tables (llm_fp4 5).
    assert minmax > 1.5 * baseline and baseline > 1.5 * shifted
    # With exact activations no shift is needed.
    wide = [
        error(search.linear(x, w, bits=(4, 16), method=m), x, w)
        for m in methods
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
    assert (
        found.coded.codes.shape == (12, 24)
        and found.coded.codes.dtype == jnp.uint8
    )
    odd = search.linear(x[:, :47], w[:47], method="minmax")
    assert odd.coded.codes.shape == (12, 24) and odd.weights.shape == (47, 12)


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


S = np.ones((4, 2), np.float32)
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
        (X, W, {"grain": "mxfp5"}, "unknown grain 'mxfp5'. Did you mean 'mxfp"),
        (X, W, {"damp": 0.0}, "damp is 0.0"),
        (
            X,
            W,
            {"sensitivity_BxO": S.T},
            r"\(2, 4\), but must be .B, O., \(4, 2",
        ),
        (X, W, {"sensitivity_BxO": -S}, "the sensitivity is -1"),
        (X, W, {"sensitivity_BxO": S * np.nan}, "the sensitivity is nan"),
        (X, W, {"sensitivity_BxO": 0 * S}, "sensitivity is zero everywhere"),
        (
            X,
            W,
            {"sensitivity_BxO": S, "method": "gptq"},
            "method 'gptq' with grain 'tensor' compares no outputs",
        ),
        (X, W, {"sensitivity_BxO": S, "grain": "mxfp4"}, "grain 'mxfp4' comp"),
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
