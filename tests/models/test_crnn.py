import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware, models
from jaxedge.hardware import crossbar, devices

SMALL = functools.partial(models.Crnn, 4, (5, 3), 6, 7)


def sounds(n):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (n, 23, 20, 1)).astype(np.float32)


def test_the_papers_counts():
    shapes = jax.eval_shape(models.Crnn().init, jax.random.key(0), sounds(1))
    sizes = {k: v["kernel"].size for k, v in shapes["params"].items()}
    assert sizes == {
        "Conv_0": 384,
        "Conv_1": 12288,
        "input": 4096,
        "recurrent": 16384,
        "Dense_0": 32768,
        "Dense_1": 2560,
    }
    assert sum(sizes.values()) == 68480
    assert all(set(v) == {"kernel"} for v in shapes["params"].values())


def test_the_papers_shapes(watched, trained):
    model = models.Crnn()
    logits, layers, _ = jax.eval_shape(
        watched(model), trained(model, sounds(2)), sounds(2)
    )
    assert logits.shape == (2, 10)
    assert {k: (x.shape[1:], y.shape[1:]) for k, (x, y) in layers.items()} == {
        "Conv_0": ((23, 20, 1), (11, 19, 64)),
        "Conv_1": ((5, 9, 64), (2, 8, 32)),
        "input": ((4, 32), (4, 128)),
        "recurrent": ((128,), (128,)),
        "Dense_0": ((128,), (256,)),
        "Dense_1": ((256,), (10,)),
    }


@pytest.mark.parametrize("bits", [None, 3])
def test_the_network_is_the_papers(reference, trained, bits):
    """Against numpy in float64."""
    ref, model, x = reference, SMALL(bits=bits), sounds(40)
    variables = trained(model, x)
    kernels = {
        name: np.asarray(layer["kernel"], np.float64)
        for name, layer in variables["params"].items()
    }
    stats = variables["batch_stats"]
    y = ref.quantise(x.astype(np.float64), bits, signed=True)
    for i in range(2):
        y = ref.pool(ref.conv(y, kernels[f"Conv_{i}"], strides=(2, 1)))
        y = ref.norm(y, stats[f"Norm_{i}"]["BatchNorm_0"])
        y = ref.quantise(ref.relu(y), bits)
    assert y.shape == (40, 1, 4, 3)
    states = [np.zeros((40, 6))]
    for t in range(4):
        held = ref.quantise(states[-1], bits) if t else states[-1]
        again = held @ kernels["recurrent"]
        states.append(ref.relu(y[:, 0, t] @ kernels["input"] + again))
    y = ref.quantise(np.mean(states[1:], 0), bits)
    y = ref.quantise(ref.relu(y @ kernels["Dense_0"]), bits)
    expected = y @ kernels["Dense_1"]
    got = jax.jit(model.apply)(variables, x)
    off = np.abs(got - expected).max(1) / np.abs(expected).max()
    # An activation near a tie of the quantiser may move by a whole step.
    assert np.quantile(off, 1 if bits is None else 0.8) < 1e-5


def test_every_moment_is_read_anew(watched, trained):
    model, x = SMALL(bits=None), sounds(1)
    variables = trained(model, x)
    spec = crossbar.Spec(devices.get("ideal", read_noise=0.3))
    params = dict(variables["params"])
    key = jax.random.key(0)
    kernel = hardware.program(key, params["input"]["kernel"], spec)
    params["input"] = {"kernel": kernel}
    # Equal inputs at all moments, and no state: reads alone tell them apart.
    params["recurrent"] = {"kernel": jnp.zeros((6, 6))}
    noisy = {**variables, "params": params}
    flat = jnp.broadcast_to(x.mean(2, keepdims=True), x.shape)
    _, layers, _ = watched(model)(noisy, flat, key)
    sent = layers["input"][1]
    assert (sent[0, 1:] != sent[0, :-1]).any(1).all()
