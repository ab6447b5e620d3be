import jax
import numpy as np
import pytest

from jaxedge import models

WIDTHS = (12, 9, 5)


def inputs(n):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (n, 4, 3, 1)).astype(np.float32)


@pytest.mark.parametrize("bits", [None, 3])
def test_forward_matches_float64(bits, reference, trained, watched):
    x = inputs(40)
    model = models.Mlp(WIDTHS, bits=bits)
    variables = trained(model, x)
    logits, layers, counts = watched(model)(variables, x)
    assert sorted(layers) == ["Dense_0", "Dense_1", "Dense_2"]
    y = x.reshape(40, -1).astype(np.float64)
    for i in range(3):
        if i:
            stats = variables["batch_stats"][f"Norm_{i - 1}"]["BatchNorm_0"]
            y = reference.relu(reference.norm(y, stats))
        want = reference.quantise(y, bits, signed=not i)
        seen, y = layers[f"Dense_{i}"]
        # From what the layer before gave, so a tie that falls the other way
        # does not spread; here none does.
        np.testing.assert_allclose(seen, want, rtol=1e-4, atol=1e-5)
        kernel = variables["params"][f"Dense_{i}"]["kernel"]
        want = np.asarray(seen, np.float64) @ kernel.astype(np.float64)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
        y = np.asarray(y, np.float64)
    assert logits.shape == (40, 5)
    np.testing.assert_array_equal(logits, y.astype(np.float32))
    assert [int(v["vectors"][0]) for v in counts.values()] == [1, 1, 1]


def test_training_uses_and_collects_the_batchs_statistics(trained):
    x = inputs(50)
    model = models.Mlp((6, 3))
    variables = trained(model, x)
    y, changed = jax.jit(
        lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])
    )(variables, x)
    kernels = [
        variables["params"][f"Dense_{i}"]["kernel"].astype(np.float64)
        for i in range(2)
    ]
    hidden = x.reshape(50, -1) @ kernels[0]
    mean, var = hidden.mean(0), hidden.var(0)
    active = np.maximum((hidden - mean) / np.sqrt(var + 1e-5), 0)
    np.testing.assert_allclose(y, active @ kernels[1], rtol=1e-4, atol=1e-5)
    before = variables["batch_stats"]["Norm_0"]["BatchNorm_0"]
    after = changed["batch_stats"]["Norm_0"]["BatchNorm_0"]
    for name, batch in (("mean", mean), ("var", var)):
        want = 0.9 * before[name] + 0.1 * batch
        np.testing.assert_allclose(after[name], want, rtol=1e-4, atol=1e-6)
