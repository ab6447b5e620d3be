import jax
import numpy as np
import pytest

from jaxedge import models


def images(n, size=28):
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 2, (n, size, size, 1)).astype(np.float32)


def stages(ref, stats, bits):
    """The network between its layers: layer -> (what came before -> input)."""

    def norm(x, i):
        return ref.norm(x, stats[f"Norm_{i}"]["BatchNorm_0"])

    def active(x):
        return ref.quantise(ref.relu(x), bits)

    return {
        "Conv_0": lambda x: ref.quantise(ref.pool(x), bits, signed=True),
        "Conv_1": lambda x: active(norm(x, 0)),
        "Dense_0": lambda x: active(norm(ref.pool(x), 1)).reshape(len(x), -1),
        "Dense_1": active,
    }


def product(ref, x, kernel):
    kernel = np.asarray(kernel, np.float64)
    return ref.conv(x, kernel) if kernel.ndim == 4 else x @ kernel


def assert_near(got, want):
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(want).max()}
    np.testing.assert_allclose(got, want, **tolerance)


def test_the_papers_counts():
    shapes = jax.eval_shape(models.Cnn().init, jax.random.key(0), images(1))
    sizes = {k: v["kernel"].size for k, v in shapes["params"].items()}
    assert list(sizes.values()) == [576, 9216, 51200, 1280]
    assert sum(sizes.values()) == 62272
    # No bias, and no scale or bias in the normalisation.
    assert all(set(v) == {"kernel"} for v in shapes["params"].values())


def test_the_papers_shapes(watched, trained):
    model = models.Cnn()
    logits, layers, _ = jax.eval_shape(
        watched(model), trained(model, images(2)), images(2)
    )
    assert logits.shape == (2, 10)
    assert {k: (x.shape[1:], y.shape[1:]) for k, (x, y) in layers.items()} == {
        "Conv_0": ((14, 14, 1), (12, 12, 64)),
        "Conv_1": ((12, 12, 64), (10, 10, 16)),
        "Dense_0": ((400,), (128,)),
        "Dense_1": ((128,), (10,)),
    }


def test_initial_weights_are_torchs_default(key):
    init = jax.jit(lambda key: models.Cnn().init(key, images(1))["params"])
    params = init(key)
    for layer in params.values():
        kernel = np.asarray(layer["kernel"])
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        assert bound * 0.95 < np.abs(kernel).max() <= bound
        # Of n uniform numbers the std is known to .45 / sqrt(n) of itself.
        std = bound / np.sqrt(3)
        few = 4.5 / np.sqrt(kernel.size)
        np.testing.assert_allclose(kernel.std(), std, rtol=0.45 * few)
        assert abs(kernel.mean()) < few * std


def test_forward_matches_float64(reference, trained, watched):
    x = images(3)
    model = models.Cnn(bits=None)
    variables = trained(model, x)
    logits, _, counts = watched(model)(variables, x)
    y = x.astype(np.float64)
    for name, prepare in stages(
        reference, variables["batch_stats"], None
    ).items():
        kernel = variables["params"][name]["kernel"]
        y = product(reference, prepare(y), kernel)
    assert_near(logits, y)
    # Vectors that each array gets for one example, whatever the batch.
    vectors = [int(counts[name]["vectors"][0]) for name in counts]
    assert vectors == [144, 100, 1, 1]


def test_quantised_forward_matches_float64(reference, trained, watched):
    x, bits = images(3), 4
    model = models.Cnn(bits=bits)
    variables = trained(model, x)
    logits, layers, _ = watched(model)(variables, x)
    y = x.astype(np.float64)
    for name, prepare in stages(
        reference, variables["batch_stats"], bits
    ).items():
        # From the recorded output of the layer before, so that the rare
        # activation on the other side of a tie does not spread.
        want = prepare(y)
        seen, y = (np.asarray(a, np.float64) for a in layers[name])
        peak = np.abs(want).max(tuple(range(1, want.ndim)), keepdims=True)
        off = np.abs(seen - want) / peak
        assert (off > 1e-4).mean() < 2e-3, name
        assert off.max() < 1.01 / (2**bits - 1)
        assert len(np.unique(seen[0])) <= 2**bits
        kernel = variables["params"][name]["kernel"]
        assert_near(y, product(reference, seen, kernel))
    np.testing.assert_array_equal(logits, y.astype(np.float32))


@pytest.mark.parametrize("over, alone", [("example", True), ("tensor", False)])
def test_range_of_the_activations(over, alone, trained):
    a, b, c = images(3) * np.float32([1, 2, 3])[:, None, None, None]
    model = models.Cnn(channels=(4, 3), hidden=8, over=over)
    variables = trained(model, a[None])
    apply = jax.jit(model.apply)
    first, second = (
        apply(variables, np.stack(pair))[0] for pair in ((a, b), (a, c))
    )
    assert np.array_equal(first, second) == alone
