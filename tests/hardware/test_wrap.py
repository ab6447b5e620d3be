"""Functions that know of no hardware, on hardware."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, models
from jaxedge import hardware as hw
from jaxedge.hardware.crossbar import Spec

IDEAL = Spec(hw.devices.get("ideal"))
# 2^16 levels make converters as good as none, but they see vectors.
FINE = Spec(IDEAL.device, input_bits=16, adc_bits=16, rows=5)
CHIP = Spec(hw.devices.get("ideal", program_noise=0.05))
NOISY = Spec(hw.devices.get("ideal", read_noise=0.1))
KEY = jax.random.key(0)


def normal(name, *shape):
    return jax.random.normal(core.stream(KEY, name), shape)


X, W = normal("x", 3, 4), normal("w", 4, 5)


class Case(NamedTuple):
    """A function of a weight and inputs, and how the weight is mounted."""

    fn: Any
    w: jax.Array
    x: jax.Array
    matrix: Any = None  # the weight as rows and columns; None is as it is


def scanned(w, x):
    """A recurrent network, whose weight no step changes."""

    def step(h, x):
        h = jnp.tanh(x + h @ w)
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x, reverse=True)


def stacked(w, x):
    """A stack of layers, whose weights are slices."""

    def layer(x, w):
        return jnp.tanh(w @ x), x[0]

    return jax.lax.scan(layer, x, w)


def counted(w, x):
    """Steps until a sum that the weight enters is large."""

    def going(state):
        return (state[1] @ w).sum() < 9

    def step(state):
        return state[0] + 1, state[1] + jnp.abs(state[1] @ w)

    return jax.lax.while_loop(going, step, (0, jnp.ones_like(x)))


def branched(w, x):
    def some(w, x):
        return x @ w

    def other(w, x):
        return (w.T @ x.T).T * 2

    first = jax.lax.cond(x[0, 0] > 0, some, other, w, x)
    return first, jax.lax.cond(x[0, 0] < 0, some, other, w, x)


@jax.custom_vjp
def marked(w, x):
    return x @ w


marked.defvjp(lambda w, x: (x @ w, None), lambda *_: None)


def conv(numbers, **options):
    def fn(w, x):
        options.setdefault("window_strides", (1,) * (x.ndim - 2))
        options.setdefault("padding", "SAME")
        return jax.lax.conv_general_dilated(
            x, w, dimension_numbers=numbers, **options
        )

    return fn


def torch_matrix(w):
    """A kernel [O, I, h, w] as rows of patches and columns of outputs."""
    return np.moveaxis(np.moveaxis(w, 0, -1), 0, -2).reshape(-1, len(w))


HEADS = normal("heads", 4, 2, 3)
CASES = {
    "product": Case(lambda w, x: x @ w, W, X),
    "left": Case(lambda w, x: w @ x.T, W.T, X, np.transpose),
    "torch": Case(lambda w, x: x @ w.T, W.T, X, np.transpose),
    "vector": Case(lambda w, x: x[0] @ w, W, X),
    "one output": Case(lambda w, x: x @ w, W[:, 0], X, lambda w: w[:, None]),
    "heads": Case(
        lambda w, x: jnp.einsum("td,dhk->thk", x, w),
        HEADS,
        X,
        lambda w: w.reshape(4, 6),
    ),
    "heads first": Case(
        lambda w, x: jnp.einsum("hdk,td->hkt", w, x),
        HEADS.transpose(1, 0, 2),
        X,
        lambda w: w.transpose(1, 0, 2).reshape(4, 6),
    ),
    "heads joined": Case(
        lambda w, x: jnp.einsum("bthk,hkd->btd", x, w),
        normal("joined", 2, 3, 4),
        normal("x of heads", 2, 3, 2, 3),
        lambda w: w.reshape(6, 4),
    ),
    "on its way": Case(
        lambda w, x: (
            x.astype(jnp.bfloat16)
            @ jax.lax.stop_gradient(w[None].reshape(5, 4))
            .T.copy()
            .astype(jnp.bfloat16)
        ),
        W.T,
        X,
        np.transpose,
    ),
    "whole numbers": Case(
        lambda w, x: jax.lax.dot_general(
            (x > 0).astype(jnp.int32),
            w,
            (((1,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        ),
        W,
        X,
    ),
    "mapped": Case(
        jax.vmap(jax.vmap(lambda w, x: w @ x, (None, 0)), (None, 1), 2),
        W.T,
        normal("x mapped", 2, 3, 4),
        np.transpose,
    ),
    "jit": Case(jax.jit(lambda w, x: x @ w), W, X),
    "remat": Case(jax.checkpoint(lambda w, x: jnp.sin(x @ w)), W, X),
    "custom": Case(marked, W, X),
    "branches": Case(branched, W, X),
    "recurrent": Case(scanned, W[:, :4], X),
    "while": Case(counted, W[:, :4], X[0]),
    "grouped": Case(
        lambda w, x: jnp.einsum("btgi,gio->btgo", x, w),
        normal("groups", 3, 4, 2),
        normal("x of groups", 2, 5, 3, 4),
        lambda w: w,
    ),
    "stacked": Case(
        stacked, normal("stack", 3, 4, 4), X[0], lambda w: w.transpose(0, 2, 1)
    ),
    "image": Case(
        conv(("NHWC", "HWIO", "NHWC")),
        normal("kernel", 3, 2, 4, 5),
        normal("image", 2, 5, 4, 4),
        lambda w: w.reshape(-1, 5),
    ),
    "torch image": Case(
        conv(("NCHW", "OIHW", "NCHW"), rhs_dilation=(2, 1)),
        normal("torch", 5, 4, 3, 2),
        normal("torch image", 2, 4, 5, 4),
        torch_matrix,
    ),
    "line": Case(
        conv(("NWC", "WIO", "CNW"), padding=[(3, 0)]),
        normal("line kernel", 4, 2, 3),
        normal("line", 2, 6, 2),
        lambda w: w.reshape(8, 3),
    ),
    "volume": Case(
        conv(("NDHWC", "DHWIO", "NDHWC"), padding="VALID"),
        normal("volume kernel", 2, 1, 2, 2, 3),
        normal("volume", 1, 3, 2, 3, 2),
        lambda w: w.reshape(8, 3),
    ),
    "depthwise": Case(
        conv(("NHWC", "HWIO", "NHWC"), feature_group_count=4),
        normal("depthwise", 3, 2, 1, 8),
        normal("image", 2, 5, 4, 4),
        lambda w: w.reshape(-1, 8),
    ),
    "transposed": Case(
        conv(
            ("NHWC", "HWIO", "NHWC"),
            lhs_dilation=(2, 3),
            padding=[(1, 2), (0, -1)],
        ),
        normal("kernel", 3, 2, 4, 5),
        normal("image", 2, 5, 4, 4),
        lambda w: w.reshape(-1, 5),
    ),
}
every = pytest.mark.parametrize("name", CASES)


@functools.cache
def wrapped(name, spec):
    case = CASES[name]
    return hw.wrap(case.fn, case.w, spec, case.x)


@functools.cache
def outputs(name):
    """Of the function, on hardware without and with converters; a chip."""
    case = CASES[name]

    @jax.jit
    def run(key, w, x):
        linear, fine = (wrapped(name, spec) for spec in (IDEAL, FINE))
        chip = linear.program(key, w)
        y = linear(chip, x), fine(fine.program(key, w), x)
        return case.fn(w, x), *y, chip

    return run(KEY, case.w, case.x)


def assert_close(tree, expected, limit):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (tree, expected)), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=limit * np.abs(b).max())


@every
def test_ideal_hardware_is_the_function(name):
    ideal, linear, fine, _ = outputs(name)
    half = CASES[name].fn is CASES["on its way"].fn
    assert_close(linear, ideal, 1e-2 if half else 2e-6)
    assert_close(fine, ideal, 1e-2 if half else 1e-3)


@every
def test_inputs_are_rows_and_outputs_are_columns(name):
    case = CASES[name]
    matrix = case.w if case.matrix is None else case.matrix(np.asarray(case.w))
    *_, leaf = outputs(name)
    if not isinstance(leaf, hw.Crossbar):
        leaf = leaf.leaf
    positive, negative = np.moveaxis(leaf.cells.g, -3, 0)
    scale = np.asarray(leaf.scale)[..., None, None]
    held = scale * (positive - negative)
    np.testing.assert_allclose(held, matrix, rtol=1e-5, atol=1e-6)


def test_without_examples_weights_lie_as_deploy_lays_them(key):
    params = {"a": W, "b": {"c": jnp.ones((1, 1, 5))}}
    plain = hw.wrap(lambda p, x: x @ p["a"] + p["b"]["c"], params, CHIP)

    @jax.jit
    def both(key):
        return hw.deploy(key, params, CHIP), plain.program(key)

    same, chip = both(key)
    jax.tree.map(np.testing.assert_array_equal, chip, same)
    y = plain(chip, X[None])[0]
    np.testing.assert_allclose(y, hw.dot(X, same["a"]) + 1, rtol=1e-6)
    # Either way round where the hardware is linear.
    turned = hw.wrap(lambda w, x: w @ x.T, W.T, IDEAL)
    y = turned(turned.program(key), X)
    np.testing.assert_allclose(y, W.T @ X.T, rtol=1e-5, atol=1e-6)


def test_a_linear_array_is_read_in_both_directions(key):
    both = hw.wrap(lambda w, x: jnp.tanh(x @ w) @ w.T, W, IDEAL, X)
    y = both(both.program(key), X)
    np.testing.assert_allclose(y, jnp.tanh(X @ W) @ W.T, rtol=1e-5, atol=1e-6)


# Keys.


def test_a_chip_is_that_of_deploy(key):
    """For weights that lie as `deploy` lays them, bit for bit."""
    params = {"Dense_0": {"kernel": W}, "torch": W.T}

    def fn(params, x):
        return x @ params["Dense_0"]["kernel"] + x @ params["torch"].T

    chip = hw.wrap(fn, params, CHIP, X).program(key)
    same = hw.deploy(key, params, CHIP)["Dense_0"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, chip["Dense_0"]["kernel"], same)
    alone = hw.program(core.stream(key, "torch"), W, CHIP)
    jax.tree.map(np.testing.assert_array_equal, chip["torch"].leaf, alone)


def test_each_array_of_a_stack_has_its_own_cells(key):
    w = jnp.broadcast_to(W[:, :4], (3, 4, 4))
    chip = jax.jit(hw.wrap(stacked, w, CHIP, X[0]).program)(key)
    g = np.asarray(chip.leaf.cells.g)
    assert g.shape == (3, 2, 4, 4)
    assert (g[0] != g[1]).any() and (g[1] != g[2]).any()


def test_the_package_s_own_networks_agree_with_deploy(key):
    x = normal("digits", 2, 12, 12, 1)
    converted = Spec(CHIP.device, input_bits=6, adc_bits=6)
    for model, spec in (
        (models.Mlp((16, 10), bits=4), converted),
        (models.Cnn(channels=(4, 3)), CHIP),
    ):
        variables = jax.jit(model.init)(key, x)
        params = variables["params"]

        def fn(params, x, *, model=model, variables=variables):
            return model.apply({**variables, "params": params}, x)

        @jax.jit
        def run(params, x, *, fn=fn, spec=spec):
            network = hw.wrap(fn, params, spec, x)
            chip, same = network.program(key), hw.deploy(key, params, spec)
            return (chip, network(chip, x)), (same, fn(same, x))

        jax.tree.map(np.testing.assert_array_equal, *run(params, x))


def test_every_step_reads_anew(key):
    """The noise of a constant input: sqrt(sum x^2 (0.1 w)^2) at each step."""
    n = 4000

    def fn(w, x):
        return jax.lax.scan(lambda c, _: (c, x @ w), None, None, n)[1]

    noisy = hw.wrap(fn, W, NOISY, X[0])
    y = jax.jit(noisy)(noisy.program(key), X[0], read_key=key)
    y = np.asarray(y, np.float64) - np.asarray(X[0] @ W, np.float64)
    expected = np.sqrt(0.01 * np.asarray(X[0] ** 2) @ np.asarray(W**2))
    # The standard errors of a std and of a mean, four times over.
    np.testing.assert_allclose(y.std(0), expected, rtol=4 / np.sqrt(2 * n))
    assert (np.abs(y.mean(0)) < 4 * expected / np.sqrt(n)).all()
    lag = (y[1:] * y[:-1]).mean(0) / expected**2
    assert (np.abs(lag) < 4 / np.sqrt(n)).all()


def test_each_product_reads_anew(key):
    def fn(w, x):
        return x @ w, x @ w, jax.lax.cond(True, jnp.matmul, jnp.matmul, x, w)

    noisy = hw.wrap(fn, W, NOISY, X)
    chip = noisy.program(key)
    read = jax.jit(noisy)
    first, second, third = read(chip, X, read_key=key)
    assert (first != second).all() and (second != third).all()
    again = read(chip, X, read_key=key)
    jax.tree.map(np.testing.assert_array_equal, again, (first, second, third))
    quiet = read(chip, X)
    np.testing.assert_array_equal(quiet[0], quiet[1])


def test_another_layer_changes_no_draw(key):
    params = {"a": W, "b": W, "c": W}

    def few(params, x):
        return x @ params["b"]

    def more(params, x):
        def step(carry, _):
            return carry, x @ params["c"]

        jax.lax.scan(step, 0, None, 2)
        return x @ params["b"] + 0 * (x @ params["a"])

    for fn, network in ((few, {"b": W}), (more, params)):
        noisy = hw.wrap(fn, network, Spec(NOISY.device), X)
        y = jax.jit(lambda key, f=noisy: f(f.program(key), X, read_key=key))(
            key
        )
        if fn is few:
            expected = y
    # Two programs may add in another order; another draw is off by 1e-3 at
    # least.
    np.testing.assert_allclose(y, expected, rtol=1e-6)


# Transformations.


def test_jit_vmap_and_new_values(key, compilations):
    f = hw.wrap(scanned, W[:, :4], CHIP, X)
    keys = core.chip_keys(key, 3)
    chips = jax.jit(jax.vmap(f.program))(keys)
    run = jax.jit(
        jax.vmap(lambda chip, x, key: f(chip, x, read_key=key)[1], (0, None, 0))
    )
    y = run(chips, X, keys)
    alone = f(f.program(keys[1]), X, read_key=keys[1])[1]
    np.testing.assert_allclose(y[1], alone, rtol=2e-5, atol=1e-6)
    assert (y[0] != y[1]).any()
    new = X + 1
    with compilations() as names:
        run(chips, new, keys)
    assert not names


def test_a_gradient_goes_through_programming(key):
    def fn(params, x):
        return jnp.sin(x @ params["w"] + params["b"])

    params = {"w": W, "b": normal("b", 1, 5)}
    f = hw.wrap(fn, params, CHIP, X)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(params, x):
        return (f(f.program(key, params), x, read_key=key) ** 2).sum()

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def expected(params, x):
        leaf = hw.program(core.stream(key, "w"), params["w"], CHIP)
        return (jnp.sin(hw.dot(x, leaf) + params["b"]) ** 2).sum()

    found = slopes(params, X)
    assert_close(found, expected(params, X), 1e-5)
    assert all(np.abs(slope).max() > 0.1 for slope in jax.tree.leaves(found))


def test_a_stopped_gradient_stays_stopped(key):
    def fn(w, x):
        return x @ jax.lax.stop_gradient(w)

    f = hw.wrap(fn, W, CHIP, X)
    slope = jax.jit(jax.grad(lambda w: f(f.program(key, w), X).sum()))(W)
    assert not np.asarray(slope).any()


def test_a_plan_is_swept(key):
    @jax.jit
    @jax.vmap
    def spread(noise):
        device = hw.devices.get("ideal").replace(program_noise=noise)
        f = hw.wrap(lambda w, x: x @ w, W, Spec(device), X)
        return jnp.std(f(f.program(key), X) - X @ W)

    small, large = spread(jnp.array([0.01, 0.1]))
    np.testing.assert_allclose(large, 10 * small, rtol=0.1)


def test_flags_stay_flags_and_shapes_are_enough(key):
    def fn(w, x, *, name, double=False):
        assert name == "x" and isinstance(double, bool)
        return {name: x @ w * (2 if double else 1), "none": None}

    shape = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    f = hw.wrap(fn, W, IDEAL, shape, name="x")
    y = f(f.program(key), X, name="x", double=True)
    assert y["none"] is None
    np.testing.assert_allclose(y["x"], 2 * X @ W, rtol=1e-5)


def test_masks_are_programmed_as_they_lie(key):
    mask = (W > 0).astype(W.dtype)
    leaf = hw.MaskedRandom(W.T, mask.T)
    f = hw.wrap(lambda w, x: x @ w.T, leaf, IDEAL, X)
    expected = X @ (W * mask)
    np.testing.assert_allclose(f(leaf, X), expected, rtol=1e-5, atol=1e-6)
    y = f(f.program(key), X)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_plain_parameters_are_ideal_hardware():
    f = hw.wrap(lambda w, x: x @ w + w[0, 0], W, {}, X)
    np.testing.assert_array_equal(f(W, X), X @ W + W[0, 0])
    np.testing.assert_array_equal(f.program(KEY), W)


# Plans and uses that cannot be.

TABLE = {"table": W.T, "out": {"kernel": W, "bias": W[:1]}}


def tied(params, x):
    rows = params["table"][jnp.array([0, 2, 1])]
    out = params["out"]
    return (rows @ out["kernel"] + out["bias"]) @ params["table"]


def refused(call, *words):
    with pytest.raises(core.UsageError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_tied_weights_are_no_array_unless_left_out(key):
    words = ("'table' on hardware", "in gather (", "{'table': None, ...}")
    refused(lambda: hw.wrap(tied, TABLE, IDEAL, X), *words)
    plan = {"table": None, "kernel": IDEAL}
    f = hw.wrap(tied, TABLE, plan, X)
    y, expected = jax.jit(lambda k: (f(f.program(k), X), tied(TABLE, X)))(key)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    # Programmed without examples, it is found when it is used.
    blind = hw.wrap(tied, TABLE, IDEAL)
    late = jax.jit(lambda key: blind(blind.program(key), X))
    refused(lambda: late(key), *words)


@pytest.mark.parametrize(
    "fn, words",
    [
        (lambda w, x: x @ w + w.sum(), "reduce_sum"),
        (lambda w, x: (x @ w, w), "returns it"),
        (lambda w, x: x @ (w @ w.T) @ w, "dot_general"),
        (lambda w, x: x @ w.astype(jnp.int32) + x @ w, "convert_element"),
        (lambda w, x: (x @ w, jnp.broadcast_to(w, (2, 4, 5))), "broadcast"),
        (
            lambda w, x: (
                x @ w,
                jax.lax.scan(lambda c, _: (2 * c, 0), w, None, 2),
            ),
            "scan",
        ),
    ],
)
def test_a_use_that_is_no_product_is_named(fn, words):
    refused(lambda: hw.wrap(fn, W, IDEAL, X), "puts '' on", words)


def test_plans_that_fit_no_product():
    fn = lambda p, x: x @ p["a"] + p["b"]  # noqa: E731
    params = {"a": W, "b": jnp.zeros((1, 5)), "unused": W}
    wrap = functools.partial(hw.wrap, fn, params)
    refused(lambda: wrap({"Dense": IDEAL}, X), "'Dense'", "a, b, unused")
    for name in ("b", "unused"):
        words = (f"pattern {name!r}", "never multiplies", f"{{{name!r}: None")
        refused(lambda name=name: wrap({name: IDEAL}, X), *words)
    refused(lambda: wrap({"a": None, "": IDEAL}, X), "none of: b, unused")
    chip = wrap(IDEAL, X).program(KEY)
    assert hw.is_weight(chip["a"])
    assert not hw.is_weight(chip["b"]) and not hw.is_weight(chip["unused"])


def test_a_stack_is_not_used_whole_as_well():
    def fn(w, x):
        return stacked(w, x), jnp.einsum("lij,j->li", w, x)

    w = normal("stack", 3, 4, 4)
    refused(lambda: hw.wrap(fn, w, IDEAL, X[0]), "as a whole", "slices")


def test_arrays_that_lie_the_other_way_round(key):
    fn = CASES["torch"].fn
    blind = hw.wrap(fn, W.T, FINE)
    words = ("4 inputs and 5 outputs", "dot_general", "pass example inputs")
    refused(lambda: blind(blind.program(key), X), *words)

    def rows(w, x):
        return jax.lax.scan(lambda c, w: (c, w @ x), 0, w)[1]

    blind = hw.wrap(rows, W.T, IDEAL)
    refused(lambda: blind(blind.program(key), X[0]), "slice by slice")


def test_a_mounted_leaf_is_for_its_function(key):
    leaf = wrapped("torch", IDEAL).program(key)
    refused(lambda: hw.dot(normal("x", 5), leaf), "only that function")


def test_bad_values_and_keys(key):
    refused(lambda: wrapped("product", IDEAL).program(0), "jax.random.key")
    chip = wrapped("product", IDEAL).program(key)
    refused(
        lambda: wrapped("product", IDEAL)(chip, X, read_key=0),
        "jax.random.key",
    )
    bad = normal("stack", 3, 4, 4).at[1, 2, 3].set(jnp.nan)
    refused(lambda: wrapped("stacked", IDEAL).program(key, bad), "1 NaN")
