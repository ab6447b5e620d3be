"""The network of RIDL beside numpy's float64, and its published counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import radiomics_net, volume_layers
from jaxedge.models.radiomics_net import RadiomicsNet

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, SIDES, L, G = 2, (8, 4, 8), 3, 2
WIDTHS, DILATIONS = (2, 3, 4, 6), ((1, 2), (3, 1, 2))
MODEL = RadiomicsNet(L, G, WIDTHS, DILATIONS, dropout=0.5, reduction=2)
SHORT = RadiomicsNet(L, G, (5, 3, 4), ((1,),), dropout=0.5)


def inputs(seed=0, sides=SIDES, local=L, radiomic=G):
    rng = np.random.default_rng(seed)
    shapes = {
        "volume": (B, *sides, 2),
        "local": (B, *sides, local),
        "global": (B, radiomic),
    }
    return {k: rng.normal(size=s).astype("f4") for k, s in shapes.items()}


@pytest.mark.parametrize(
    ("local", "radiomic", "count"),
    # ridl 3.
    [(4, 4, 9_287_599), (0, 4, 9_286_145), (0, 0, 9_284_073)],
)
def test_the_published_counts(local, radiomic, count):
    x = inputs(sides=(8, 8, 8), local=4, radiomic=4)
    model = RadiomicsNet(local, radiomic)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def lively(model):
    """As after some training, by which examples still differ in the end."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, std, leaf.shape).astype("f4")
        centre = float(name in ("scale", "var"))
        return rng.uniform(centre - 0.4, centre + 0.4, leaf.shape).astype("f4")

    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs())
    shapes.pop("counts")
    return jax.tree_util.tree_map_with_path(draw, shapes)


def conv(x, params, dilation=1):
    """Padded correlation, or one of 2 x 2 x 2 in steps of 2."""
    w = np.float64(params["kernel"])
    k = len(w)
    if k == 2:
        z, y, n = (s // 2 for s in x.shape[1:4])
        blocks = x.reshape(len(x), z, 2, y, 2, n, 2, -1)
        out = np.einsum("bzcydnei,cdeio->bzyno", blocks, w)
    else:
        edge = (k - 1) // 2 * dilation
        padded = np.pad(x, [(0, 0), *[(edge, edge)] * 3, (0, 0)])
        out = 0
        for place in np.ndindex(k, k, k):
            cut = [
                slice(i * dilation, i * dilation + n)
                for i, n in zip(place, x.shape[1:4], strict=True)
            ]
            out = out + padded[(slice(None), *cut)] @ w[place]
    return out + np.float64(params.get("bias", 0.0))


def prelu(x, params):
    return np.where(x > 0, x, x * np.float64(params["slope"]))


def dense(x, params):
    return x @ np.float64(params["kernel"]) + np.float64(params["bias"])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stage(x, params, dilations):
    for i, dilation in enumerate(dilations):
        x = conv(x, params[f"VolumeConv_{i}"], dilation)
        x = prelu(x, params[f"Prelu_{i}"])
    return x


def gate(x, params):
    """One network of the mean and of the maximum of every channel."""
    total = 0
    for pooled in (x.mean((1, 2, 3)), x.max((1, 2, 3))):
        hidden = np.maximum(dense(pooled, params["Dense_0"]), 0)
        total = total + dense(hidden, params["Dense_1"])
    return x * sigmoid(total)[:, None, None, None]


def cbam(x, params, stats):
    x = gate(x, params["ChannelGate_0"])
    params, stats = (tree["SpatialGate_0"] | {} for tree in (params, stats))
    pooled = np.stack([x.max(-1), x.mean(-1)], -1)
    y = conv(pooled, params["VolumeConv_0"])
    norm = {k: np.float64(v) for k, v in stats["BatchNorm_0"].items()}
    norm |= {k: np.float64(v) for k, v in params["BatchNorm_0"].items()}
    y = (y - norm["mean"]) / np.sqrt(norm["var"] + 1e-5)
    return x * sigmoid(y * norm["scale"] + norm["bias"])


def doubled(x, params):
    """Every voxel becomes eight, the first of their three axes outermost."""
    w = np.float64(params["kernel"]).reshape(x.shape[-1], 2, 2, 2, -1)
    y = np.einsum("bzyxi,icdeo->bzcydxeo", x, w)
    z, h, n = (2 * s for s in x.shape[1:4])
    return y.reshape(len(x), z, h, n, -1) + np.float64(params["bias"])


def enlarged(x, factor):
    """Linear between centres, axis by axis, the ends going on."""
    for axis in (1, 2, 3):
        n = x.shape[axis]
        at = (np.arange(factor * n) + 0.5) / factor - 0.5
        at = np.clip(at, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        high = np.minimum(low + 1, n - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(5)])
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def by_hand(variables, x):
    """ridl 3, level by level."""
    p, stats = variables["params"], variables["batch_stats"]
    volume, local, radiomic = (np.float64(x[k]) for k in x)
    a = stage(volume, p["level_0"], (1, 1))
    a = gate(np.concatenate([a, local], -1), p["local_gate"])
    for i, dilations in enumerate(DILATIONS, 1):
        around = prelu(conv(a, p[f"down_{i}"]), p[f"down_{i}_prelu"])
        a = stage(around, p[f"level_{i}"], dilations) + around
    around = prelu(conv(a, p["down_deep"]), p["down_deep_prelu"])
    a = stage(a, p["level_deep"], (1, 1, 1)) + around
    deep = cbam(a, p["cbam"], stats["cbam"]).mean((1, 2, 3))
    seen = np.concatenate([deep, radiomic], -1)
    hidden = np.maximum(dense(seen, p["hidden"]), 0)
    logits = dense(hidden, p["head"])[:, 0]
    maps = [enlarged(conv(a, p["map_2"]), 4)]
    for i, convs in ((1, 3), (0, 2)):
        around = prelu(doubled(a, p[f"double_{i}"]), p[f"double_{i}_prelu"])
        a = stage(around, p[f"up_{i}"], (1,) * convs) + around
        maps.append(enlarged(conv(a, p[f"map_{i}"]), 2**i))
    return logits, deep, maps


def test_the_network_is_that_of_the_release(compilations):
    x, variables = inputs(), lively(MODEL)
    logits, deep, maps = by_hand(variables, x)

    @jax.jit
    def run(variables, x):
        full = MODEL.apply(variables, x, reconstruct=True)
        return full, MODEL.apply(variables, x)

    found, brief = run(variables, x)
    # The decoder has no part in the logits.
    assert brief.reconstructions == ()
    np.testing.assert_allclose(brief.logits_B, found.logits_B, rtol=1e-5)
    assert len(found.reconstructions) == 3
    for got, want in zip(
        jax.tree.leaves(found), [logits, deep, *maps], strict=True
    ):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-4 * np.ptp(want))
    assert maps[-1].shape == x["volume"].shape
    assert deep.shape == (B, WIDTHS[-1])
    # The network looks at its volumes, or the rest would tell nothing.
    assert abs(logits[0] - logits[1]) > 0.01
    with compilations() as names:
        run(jax.tree.map(lambda a: 2 * a, variables), inputs(1))
    assert not names


def test_training_drops_normalises_and_reaches_every_parameter():
    x, variables = inputs(), lively(SHORT)

    @jax.jit
    def train(params, key):
        def value(params):
            found, changed = SHORT.apply(
                {**variables, "params": params},
                x,
                train=True,
                reconstruct=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            total = sum((a**2).mean() for a in jax.tree.leaves(found))
            return total, (found.deep_BxF, changed["batch_stats"])

        return jax.value_and_grad(value, has_aux=True)(params)

    keys = jax.random.split(jax.random.key(0))
    (_, (deep, stats)), slope = train(variables["params"], keys[0])
    (_, (other, _)), _ = train(variables["params"], keys[1])
    assert (deep != other).all()
    before, after = (
        tree["cbam"]["SpatialGate_0"]["BatchNorm_0"]
        for tree in (variables["batch_stats"], stats)
    )
    # One step of a hundredth towards what the batch has.
    moved = np.abs(after["mean"] - before["mean"])
    assert 0 < moved < 0.1
    for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
        assert np.isfinite(leaf).all() and np.any(leaf), path


def test_without_radiomics_they_are_not_looked_at(trained):
    model = SHORT.clone(local_maps=0, global_features=0)
    x = inputs()
    own = trained(model, x)
    assert "local_gate" not in own["params"]
    assert own["params"]["hidden"]["kernel"].shape == (4, 4)
    apply = jax.jit(model.apply)
    alone, beside = apply(own, x["volume"]), apply(own, x)
    np.testing.assert_array_equal(alone.logits_B, beside.logits_B)


def test_half_precision_is_kept():
    variables = lively(SHORT)
    x = {k: jnp.asarray(v, jnp.bfloat16) for k, v in inputs().items()}
    found = jax.eval_shape(
        lambda v, x: SHORT.apply(v, x, reconstruct=True), variables, x
    )
    assert all(a.dtype == jnp.bfloat16 for a in jax.tree.leaves(found))


@pytest.mark.parametrize("layer", ["VolumeConv", "Doubling"])
def test_kernels_start_as_kaimings(layer, key):
    module = getattr(volume_layers, layer)(40)
    x = np.zeros((1, 2, 2, 2, 50), np.float32)
    params = module.init(key, x)["params"]
    # The fan of a transposed convolution is 8 times its outputs, in PyTorch.
    fan = 27 * 50 if layer == "VolumeConv" else 8 * 40
    want = np.sqrt(2 / (1 + 0.25**2) / fan)
    # n = 16,000 normal draws or more: a standard error of 0.6 %.
    np.testing.assert_allclose(params["kernel"].std(), want, rtol=0.03)
    assert not params["bias"].any()
    start = volume_layers.Prelu().init(key, x)["params"]["slope"]
    np.testing.assert_array_equal(start, np.full(50, 0.25, np.float32))


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"local_maps": -1}, {}, "local_maps is -1"),
        ({"dropout": 1.0}, {}, "dropout is 1.0"),
        ({"reduction": 0}, {}, "reduction is 0"),
        ({"widths": (2, 0, 4, 6)}, {}, "widths is 0"),
        ({"dilations": ((1,), (0,))}, {}, "dilations is 0"),
        ({"dilations": ((1,),)}, {}, "dilations for all levels but"),
        ({"widths": (2, 3), "dilations": ()}, {}, "3 widths or more"),
        ({}, {"local": None}, "needs 'local', but its inputs are volume"),
        ({}, {"volume": np.zeros((1, 8, 4, 8))}, r"must be \[Z, Y, X, C\]"),
        ({}, {"volume": np.zeros((1, 8, 6, 8, 2))}, "multiples of 4"),
        ({}, {"local": np.zeros((2, 8, 4, 8, 1))}, r"local .* \(2, 8, 4, 8, 3"),
        ({}, {"global": np.zeros((2, 4))}, r"global .* \(2, 4\).* \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(changes, given, message):
    model = MODEL.clone(**changes)
    with pytest.raises(UsageError, match=message) as error:
        model.init(jax.random.key(0), inputs() | given)
    assert "\n" not in str(error.value)


def test_a_volume_alone_is_not_enough_for_radiomics():
    assert (radiomics_net.LOCAL, radiomics_net.GLOBAL) == ("local", "global")
    with pytest.raises(UsageError, match="needs 'local' and 'global', but"):
        MODEL.init(jax.random.key(0), inputs()["volume"])
