"""The networks of the sequential GAN beside numpy's float64, and its counts."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models.gan import PlainGan, SequentialGan
from jaxedge.models.gan_networks import Shared, to_pixels

pytestmark = pytest.mark.usefixtures("compile_quickly")

SMALL: dict[str, Any] = dict(
    sides=(16, 32),
    channels=(1, 2),
    latent=5,
    convs=(4, 6),
    dense=(9,),
    critic_dense=(8, 7),
    latent_dense=(7, 8),
)
GANS = {
    "shared": SequentialGan(
        **SMALL,
        shared_features=(8, 4),
        first_dense=(6, 9),
        first_up=(),
        down=(4, 5, 6, 7),
        second_up=(6,),
    ),
    "apart": SequentialGan(
        **SMALL,
        shared=False,
        shared_features=(6, 8),
        first_dense=(7,),
        first_up=(),
        down=(4, 5, 7),
        second_up=(),
        critics=("second", "latent"),
    ),
    "plain": PlainGan(
        **SMALL,
        start=6,
        first_dense=(9,),
        first_up=(5, 4),
        down=(4, 5, 6),
        second_up=(7, 5),
    ),
}
IDEAL = crossbar.Spec(devices.get("ideal"))
NOISY = crossbar.Spec(devices.get("ideal", program_noise=0.1, read_noise=0.1))
every = pytest.mark.parametrize("name", GANS)


def images(n, sides=(16, 32), channels=1):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (n, *sides, channels)).astype(np.float32)


def lively(model, x):
    """Variables by which images still differ behind all layers."""
    rng = np.random.default_rng(3)

    def draw(path, leaf):
        if path[-1].key == "bias":
            return rng.uniform(-0.1, 0.1, leaf.shape).astype(np.float32)
        # A transposed convolution adds four of its windows.
        std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        std = std / 2 if "ConvTranspose" in path[-2].key else std
        return rng.normal(0, std, leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree_util.tree_map_with_path(draw, shapes["params"])


def counts(model, x):
    """Parameters of each network; nothing is allocated."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in shapes.items()
    }


def test_the_papers_counts():
    """sequential_gan 3."""
    x = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    found = counts(SequentialGan(), x)
    assert found == {
        "encoder": 33_818_944,
        "first_generator": 2_772_737,
        "shared_block": 6_292_224,
        "second_generator": 10_359_681,
        "first_critic": 33_819_073,
        "second_critic": 33_819_073,
    }
    assert sum(found.values()) == 120_881_732
    apart = counts(SequentialGan(shared=False), x)
    assert apart["first_generator"] == 2_772_737 + 6_292_224
    assert apart["second_generator"] == 10_359_681 + 6_292_224
    assert sum(apart.values()) == 120_881_732 + 6_292_224


def test_counts_of_the_other_variants():
    """From inputs and outputs of each layer, in their order."""
    dense = [(128, 1024), (1024, 16 * 16 * 128)]
    first = sum(i * o + o for i, o in dense)
    first += sum(16 * i * o + o for i, o in [(128, 64), (64, 1)])
    down = [1, 64, 128, 256, 512, 512, 512]
    up = [(512, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 1)]
    layers = [*zip(down[:-1], down[1:], strict=True), *up]
    second = sum(16 * i * o + o for i, o in layers)
    latent = sum(i * o + o for i, o in [(128, 128), (128, 1024), (1024, 1)])

    x = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    assert counts(PlainGan(), x) == {
        "encoder": 33_818_944,
        "first_generator": first,
        "second_generator": second,
        "latent_critic": latent,
    }
    z = jax.ShapeDtypeStruct((1, 128), jnp.float32)
    model = PlainGan(critics=("first", "second"), encodes=False)
    assert counts(model, z) == {
        "first_generator": first,
        "second_generator": second,
        "first_critic": 33_819_073,
        "second_critic": 33_819_073,
    }


class Numpy:
    """The networks in numpy's float64, given their parameters."""

    def __init__(self, reference, model, params):
        self.ref, self.model = reference, model
        self.params = jax.tree.map(np.float64, params)

    def layers(self, part, kind):
        """Of a network, in their order."""
        names = [name for name in part if name.startswith(f"{kind}_")]
        return [part[f"{kind}_{i}"] for i in range(len(names))]

    def relu(self, x):
        return self.ref.relu(x)

    def halve(self, x, layer):
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        y = self.ref.conv(x, layer["kernel"], (2, 2))
        return self.relu(y + layer["bias"])

    def double(self, x, layer):
        batch, height, width, inputs = x.shape
        w = layer["kernel"].reshape(inputs, 4, 4, -1)
        y = np.zeros((batch, 2 * height + 2, 2 * width + 2, w.shape[-1]))
        for i, j in np.ndindex(height, width):
            window = np.tensordot(x[:, i, j], w, 1)
            y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += window
        return y[:, 1:-1, 1:-1] + layer["bias"]

    def vectors(self, x, part):
        for layer in self.layers(part, "Conv"):
            x = self.halve(x, layer)
        x = x.reshape(len(x), -1)
        *hidden, last = self.layers(part, "Dense")
        for layer in hidden:
            x = self.relu(x @ layer["kernel"] + layer["bias"])
        return x @ last["kernel"] + last["bias"]

    def shared(self, x, part):
        block = self.params.get("shared_block") or part["shared"]
        for layer in self.layers(block, "ConvTranspose"):
            x = self.relu(self.double(x, layer))
        return x

    def first(self, z):
        part, (height, width) = self.params["first_generator"], SMALL["sides"]
        for layer in self.layers(part, "Dense"):
            z = self.relu(z @ layer["kernel"] + layer["bias"])
        *ups, last = self.layers(part, "ConvTranspose")
        if isinstance(self.model, PlainGan):
            x = z.reshape(len(z), height // 8, width // 8, -1)
        else:
            x = z.reshape(len(z), height // 16, width // 16, -1)
            x = self.shared(x, part)
        for layer in ups:
            x = self.relu(self.double(x, layer))
        if not isinstance(self.model, PlainGan):
            wide = x.shape[-1] // 4
            y = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2], wide))
            for a, b, c in np.ndindex(2, 2, wide):
                y[:, a::2, b::2, c] = x[..., (2 * a + b) * wide + c]
            x = y
        return np.tanh(self.double(x, last))

    def second(self, x):
        part, maps = self.params["second_generator"], []
        for layer in self.layers(part, "Conv"):
            x = self.halve(x, layer)
            maps.append(x)
        own, *ups = self.layers(part, "ConvTranspose")
        if isinstance(self.model, PlainGan):
            x = self.relu(self.double(maps[-1], own))
            maps = maps[:-1]
        else:
            x = self.shared(maps[-1], part)
            x = x + self.relu(self.double(maps[-2], own))
            maps = maps[:-2]
        for i, layer in enumerate(ups):
            x = np.concatenate([x, maps[-1 - i]], -1)
            x = self.double(x, layer)
            x = np.tanh(x) if i == len(ups) - 1 else self.relu(x)
        return x


@every
def test_every_network_is_the_papers(name, reference):
    model, x = GANS[name], images(3)
    params = lively(model, x)
    numpy = Numpy(reference, model, params)

    @jax.jit
    def run(params, x):
        variables = {"params": params}
        out = model.apply(variables, x)
        back = model.apply(variables, x, method="reconstruct")
        pairs = [
            model.apply(variables, x, method="translate"),
            model.apply(variables, x, encoded=True, method="translate"),
            model.apply(variables, out.latent, method="generate")[1],
        ]
        return out, back, pairs

    out, back, (direct, encoded, generated) = run(params, x)
    z = numpy.vectors(np.float64(x), numpy.params["encoder"])
    first = numpy.first(z)
    second = numpy.second(first)
    seen = {"first": first, "second": second, "latent": z}
    scores = [
        numpy.vectors(seen[name], numpy.params[f"{name}_critic"])[:, 0]
        for name in model.critics
    ]
    got = [out.latent, out.first, out.second, *out.scores, direct]
    want = [z, first, second, *scores, numpy.second(np.float64(x))]
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
        # The networks look at their inputs, or the rest would tell nothing.
        assert np.ptp(b, 0).max() > 1e-3 * np.abs(b).max()
    assert (first.shape[-1], second.shape[-1]) == SMALL["channels"]
    np.testing.assert_allclose(back, out.first, atol=1e-5)
    np.testing.assert_allclose(encoded, out.second, atol=1e-5)
    np.testing.assert_allclose(generated, out.second, atol=1e-5)


def test_chips_and_gradients(key, compilations):
    """Of images behind every layer, some of which are on noisy arrays."""
    model, x = GANS["shared"], images(2)
    params = lively(model, x)
    plan = "shared_block|second_generator/Conv_0"

    def run(params, key: Any = None, spec=None):
        if spec is not None:
            params = hardware.deploy(key, params, {plan: spec})
        return model.apply(
            {"params": params}, x, encoded=True, key=key, method="translate"
        )

    def loss(params, key):
        images = run(params, key, NOISY)
        return (images**2).sum(), images

    @jax.jit
    def alone(params, key):
        chips = run(params, key, IDEAL), run(params, key, NOISY)
        return run(params), *chips

    chips = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0)))
    keys = jax.random.split(key, 2)
    grads, seconds = chips(params, keys)
    plain, ideal, first = alone(params, keys[0])
    np.testing.assert_allclose(seconds[0], first, atol=1e-4)
    np.testing.assert_allclose(ideal, plain, atol=1e-4)
    # Every chip makes another image, and every layer has a gradient.
    for one, other in ((first, plain), (seconds[1], plain), (*seconds,)):
        assert np.isfinite(one).all()
        assert (np.abs(one - other) > 1e-5).mean() > 0.9
    for name, part in grads.items():
        for leaf in jax.tree.leaves(part):
            assert np.isfinite(leaf).all()
            reached = [of_chip.any() for of_chip in np.asarray(leaf)]
            assert all(reached) != name.endswith("critic")
    doubled, turned = jax.tree.map(lambda a: 2 * a, params), keys[::-1]
    with compilations() as names:
        chips(doubled, turned)
    assert not names


def test_the_generators_read_the_shared_block_apart(key):
    """The same arrays with other noise: two reads, though of one key."""
    model, x = GANS["shared"], images(1)
    params = lively(model, x)

    @jax.jit
    def run(params, key):
        keys = []

        def record(following, args, kwargs, context):
            if isinstance(context.module, Shared):
                keys.append(jax.random.key_data(args[1]))
            return following(*args, **kwargs)

        with nn.intercept_methods(record):
            model.apply({"params": params}, x, key=key)
        return keys

    one, other = run(params, key)
    assert (one != other).any()


def test_a_slope_of_a_critic_has_gradients():
    """As a gradient penalty needs them."""
    model, x = GANS["apart"], images(2, channels=2)
    params = lively(model, images(1))

    @jax.jit
    @jax.grad
    def slopes(params):
        def score(x):
            variables = {"params": params}
            return model.apply(variables, x, method="criticise_second").sum()

        return jnp.sum(jnp.sqrt(jnp.sum(jax.grad(score)(x) ** 2, (1, 2, 3))))

    grads = slopes(params)["second_critic"]
    for layer in grads.values():
        assert np.isfinite(layer["kernel"]).all() and layer["kernel"].any()


def test_initialisation_is_xaviers(key):
    params = jax.jit(Shared((40, 8)).init)(key, images(1, (1, 1), 24))["params"]
    for i, (inputs, outputs) in enumerate([(24, 40), (40, 8)]):
        layer = params[f"ConvTranspose_{i}"]
        # Uniform: 5,120 draws come within 2 % of the bound but for a chance of
        # 0.98 ** 5120.
        bound = np.sqrt(6 / (16 * (inputs + outputs)))
        assert 0.98 * bound < np.abs(layer["kernel"]).max() <= bound
        assert not layer["bias"].any()


def apply(model, x, method=None, **params):
    return lambda: model.apply({"params": params}, x, method=method)


def init(model, x):
    return lambda: jax.eval_shape(model.init, jax.random.key(0), x)


BAD = {
    "sides": (
        init(SequentialGan(sides=(64, 48)), images(1, (64, 48))),
        r"\(64, 48\), but down.*multiples of 32; resize images to \(64, 64\)",
    ),
    "sides of doublings": (
        init(SequentialGan(sides=(48, 48), down=(4, 4, 4, 4), second_up=(4,)),
             images(1, (48, 48))),
        r"but first_up.*of 32; resize images to \(64, 64\), or give first_up",
    ),
    "u-net": (
        init(SequentialGan(second_up=(128,)), images(1, (64, 64))),
        "3 fewer doublings than halvings",
    ),
    "plain u-net": (
        init(PlainGan(second_up=(128, 4)), images(1, (64, 64))),
        "1 fewer doublings than halvings",
    ),
    "critic": (
        init(PlainGan(critics=("frist",)), images(1, (64, 64))),
        "unknown critic 'frist'. Did you mean 'first'",
    ),
    "images": (
        apply(GANS["plain"], images(2, (16, 16)), "encode"),
        r"first modality have shape \(2, 16, 16, 1\).*\(16, 32\) and 1 channel",
    ),
    "channels": (
        apply(GANS["shared"], images(2), "criticise_second"),
        r"second modality have shape \(2, 16, 32, 1\).* and 2 channel",
    ),
    "latent": (
        apply(GANS["plain"], jnp.ones((2, 4)), "first"),
        r"shape \(2, 4\), but must be \[B, 5\]",
    ),
    "no critic": (
        apply(GANS["plain"], images(2), "criticise_first"),
        r"critics are \('latent',\), without 'first'",
    ),
    "no encoder": (
        apply(PlainGan(encodes=False), images(2, (64, 64)), "reconstruct"),
        "with encodes=True",
    ),
    "pixels": (
        lambda: to_pixels(jnp.ones((1, 2, 2, 6))),
        "6 channels do not become 2 x 2 pixels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    run, words = BAD[case]
    with pytest.raises(UsageError, match=words):
        run()
