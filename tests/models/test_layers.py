import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware, models
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices

EXACT = crossbar.Spec(devices.get("ideal"))
NOISY = crossbar.Spec(devices.get("ideal", read_noise=0.2))
CONVERTED = crossbar.Spec(
    devices.get("ideal"), rows=5, columns=8, input_bits=8, adc_bits=14
)
NETWORKS = {
    "mlp": (models.Mlp((6, 5)), (3, 4)),
    "cnn": (models.Cnn(3, (4, 3), 5, bits=None), (2, 14, 14, 1)),
}


@pytest.fixture(params=NETWORKS)
def network(request, trained):
    """(model, variables, x)"""
    model, shape = NETWORKS[request.param]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return model, trained(model, x), x


def test_every_layer_runs_on_any_leaf(network, key, watched):
    model, variables, x = network
    params = variables["params"]
    rng = np.random.default_rng(1)
    mask = jax.tree.map(
        lambda w: rng.integers(0, 2, w.shape).astype(np.float32), params
    )
    pruned = jax.tree.map(np.multiply, params, mask)

    def run(params, key=None):
        return watched(model)({**variables, "params": params}, x, key)

    @jax.jit
    def everything(key):
        def chip(spec):
            return hardware.deploy(key, params, spec)

        return {
            "array": run(params)[0],
            "exact": run(chip(EXACT))[0],
            "converted": run(chip(CONVERTED))[0],
            "one": run(chip({"Dense_0": EXACT}))[0],
            "pruned": run(pruned)[0],
            "masked": run(jax.tree.map(hardware.MaskedRandom, params, mask))[0],
            "noisy": run(chip(NOISY), key)[1],
        }

    y = everything(key)
    for name, base, tolerance in (
        ("exact", "array", 1e-4),
        ("one", "array", 1e-4),
        ("masked", "pruned", 1e-5),
        # 8 bits going in and 14 coming out of every tile.
        ("converted", "array", 0.1),
    ):
        tolerance *= np.abs(y[base]).max()
        np.testing.assert_allclose(y[name], y[base], atol=tolerance)
    assert (y["converted"] != y["array"]).any()
    # Read noise is in the output of every single layer.
    for name, (seen, got) in y["noisy"].items():
        kernel = params[name]["kernel"]
        quiet = (hardware.conv if kernel.ndim == 4 else hardware.dot)(
            seen, kernel, **({"padding": "VALID"} if kernel.ndim == 4 else {})
        )
        assert (np.abs(got - quiet) > 1e-3).mean() > 0.5


@pytest.mark.parametrize("kind", ["array", "crossbar", "masked"])
def test_a_kernel_of_the_wrong_shape_is_named(network, key, kind):
    model, variables, x = network

    def run(name):
        wrong = jnp.concatenate([variables["params"][name]["kernel"]] * 2, -1)
        if kind == "crossbar":
            wrong = hardware.program(key, wrong, EXACT)
        if kind == "masked":
            wrong = hardware.MaskedRandom(wrong, jnp.ones_like(wrong))
        params = {**variables["params"], name: {"kernel": wrong}}
        return model.apply({**variables, "params": params}, x)

    for name, layer in variables["params"].items():
        shape = layer["kernel"].shape
        with pytest.raises(UsageError) as error:
            jax.eval_shape(functools.partial(run, name))
        for part in (name, shape, (*shape[:-1], 2 * shape[-1])):
            assert str(part) in str(error.value)


class Side(nn.Module):
    """Layers side by side, under free names."""

    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x, key=None):
        return {name: models.Dense(4, name=name)(x, key) for name in self.names}


def test_a_layers_noise_follows_its_name(key):
    x = jnp.ones((3, 5))

    @jax.jit
    def read(key):
        # All layers hold the same cells, so only their noise can differ.
        leaf = hardware.program(key, jnp.ones((5, 4)), NOISY)
        side = lambda names, key: Side(names).apply(  # noqa: E731
            {"params": {name: {"kernel": leaf} for name in names}}, x, key
        )
        return (
            side(("a", "b"), key),
            side(("b", "a"), key),  # moved
            side(("c", "a", "b"), key),  # joined by one more
            side(("a", "d"), key),  # renamed
            side(("a", "b"), None),
        )

    before, *others, quiet = read(key)
    assert (before["a"] != before["b"]).all()
    for after in others:
        for name in before.keys() & after.keys():
            np.testing.assert_array_equal(after[name], before[name])
    assert (others[2]["d"] != before["b"]).all()
    np.testing.assert_allclose(quiet["a"], 5, rtol=1e-5)
    again = read(jax.random.key(1))[0]
    assert (again["a"] != before["a"]).all()


def test_a_longer_mlp_keeps_the_noise_of_its_first_layer(key, watched, trained):
    x = np.ones((2, 5), np.float32)

    def first(widths):
        model = models.Mlp(widths)
        variables = trained(model, x)
        params = {**variables["params"], "Dense_0": {"kernel": np.ones((5, 4))}}
        chip = hardware.deploy(key, params, NOISY)
        run = watched(model)({**variables, "params": chip}, x, key)
        return run[1]["Dense_0"][1]

    short, long = jax.jit(lambda: (first((4, 3)), first((4, 6, 3))))()
    np.testing.assert_array_equal(short, long)
    assert (short != 5).all()


@pytest.mark.parametrize(
    "strides, padding, pads",
    [
        (1, "VALID", [(0, 0), (0, 0)]),
        (2, "SAME", [(1, 1), (0, 0)]),
        ((2, 1), ((1, 0), (0, 2)), [(1, 0), (0, 2)]),
    ],
)
def test_conv_strides_and_padding(strides, padding, pads, reference):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(3, 2, 3, 4)).astype(np.float32)
    layer = models.Conv(4, (3, 2), strides, padding)
    y, changed = layer.apply(
        {"params": {"kernel": w}}, x, mutable=[models.layers.COUNTS]
    )
    down, right = (strides, strides) if isinstance(strides, int) else strides
    padded = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)])
    want = reference.conv(padded, w.astype(np.float64))[:, ::down, ::right]
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    assert int(changed["counts"]["vectors"][0]) == np.prod(want.shape[1:3])


def test_dense_counts_the_vectors_of_a_sequence():
    variables = {"params": {"kernel": np.ones((3, 4), np.float32)}}
    y, changed = models.Dense(4).apply(
        variables, jnp.ones((2, 6, 5, 3)), mutable=["counts"]
    )
    assert y.shape == (2, 6, 5, 4)
    assert int(changed["counts"]["vectors"][0]) == 30


@pytest.mark.parametrize("layer", [models.Dense(4), models.Conv(4)])
def test_a_layer_alone_can_be_initialised(layer, key):
    jax.eval_shape(layer.init, key, jnp.ones((1, 6, 6, 3)))


def test_whole_number_inputs_are_refused():
    variables = {"params": {"kernel": np.ones((3, 4), np.float32)}}
    with pytest.raises(UsageError, match="floating-point inputs, got int32"):
        models.Dense(4).apply(variables, jnp.ones((2, 3), jnp.int32))


@pytest.mark.parametrize(
    "layer, shape", [(models.Dense(4, bias=True), (2, 3)),
                     (models.Conv(4, bias=True), (1, 5, 5, 3))]
)  # fmt: skip
def test_a_bias_is_added_outside_of_the_array(layer, shape, key):
    x = jnp.ones(shape)
    params = dict(layer.init(key, x)["params"])
    assert not params["bias"].any()
    before = layer.apply({"params": params}, x)
    params["bias"] = jnp.arange(4.0)
    chip = hardware.deploy(key, params, EXACT)
    assert isinstance(chip["bias"], jax.Array)
    after = layer.apply({"params": chip}, x)
    want = np.broadcast_to(np.arange(4.0), before.shape)
    np.testing.assert_allclose(after - before, want, atol=1e-5)
