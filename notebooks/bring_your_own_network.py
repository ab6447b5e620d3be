# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own network
#
# A network of any framework runs on simulated hardware as it is, if it can be
# called as a pure function of its parameters. Here three do: a convolutional
# network of Flax, a multi-layer perceptron of Equinox and an LSTM of Haiku.

# %%
import functools

try:
    import equinox as eqx
    import haiku as hk

    import jaxedge
except ImportError:
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxedge[notebooks]"],
        check=True,
    )
    import equinox as eqx
    import haiku as hk

    import jaxedge

import flax.linen as nn
import jax
from matplotlib.figure import Figure
import numpy as np
import optax

from jaxedge import core, data, hardware
from jaxedge.hardware import crossbar, devices
from jaxedge.run import chip_map, spread_over_cores

spread_over_cores()
train, test = data.load("digits", "train"), data.load("digits", "test")
print(jaxedge.__version__, jax.devices(), train.x.shape)

# %% [markdown]
# ## Three networks
#
# Nothing in this section knows of hardware. Each network ends as a function
# `fn(params, images)` and its parameters.


# %%
class Cnn(nn.Module):
    """Flax linen: a depthwise separable convolution and two dense layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3))(x))
        x = nn.Conv(16, (3, 3), strides=2, feature_group_count=16)(x)
        x = nn.relu(nn.Conv(16, (1, 1))(x))
        x = nn.relu(nn.Dense(32)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


cnn = Cnn()
cnn_params = jax.jit(cnn.init)(jax.random.key(0), train.x[:1])

# %%
# Equinox keeps weights as [outputs, inputs], and maps over examples.
mlp_params, mlp_static = eqx.partition(
    eqx.nn.MLP(64, 10, 64, depth=2, key=jax.random.key(0)), eqx.is_array
)


def mlp(params, x):
    network = eqx.combine(params, mlp_static)
    return jax.vmap(network)(x.reshape(x.shape[0], -1))


# %%
@hk.without_apply_rng
@hk.transform
def lstm(x):
    """Haiku: reads an image row by row; its weights stay in a scan."""
    cell = hk.LSTM(32)
    rows = x[..., 0].swapaxes(0, 1)
    outputs, _ = hk.dynamic_unroll(cell, rows, cell.initial_state(len(x)))
    return hk.Linear(10)(outputs[-1])


lstm_params = jax.jit(lstm.init)(jax.random.key(0), train.x[:1])

# %%
networks = {
    "Flax CNN": (cnn.apply, cnn_params),
    "Equinox MLP": (mlp, mlp_params),
    "Haiku LSTM": (lstm.apply, lstm_params),
}


def fit(loss, params, rate=1e-2, epochs=20):
    """Minimises loss(params, batch, key) over the training digits."""
    optimiser = optax.adam(rate)

    @jax.jit
    def step(params, state, batch, key):
        grads = jax.grad(loss)(params, batch, key)
        delta, state = optimiser.update(grads, state)
        return optax.apply_updates(params, delta), state

    state = optimiser.init(params)
    for epoch in range(epochs):
        for i, batch in enumerate(
            data.epoch(train, 64, jax.random.key(1), epoch)
        ):
            key = core.stream(jax.random.key(epoch), "step", i)
            params, state = step(params, state, batch, key)
    return params


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, batch.y
    ).mean()


def accuracy(logits):
    return (logits.argmax(-1) == test.y).mean()


for name, (fn, params) in networks.items():
    params = fit(
        lambda params, batch, key, fn=fn: cross_entropy(
            fn(params, batch.x), batch
        ),
        params,
    )
    networks[name] = fn, params
    print(f"{name}: {accuracy(jax.jit(fn)(params, test.x)):.1%}")

# %% [markdown]
# ## One line
#
# `hardware.wrap` traces the function once on an example input, finds the
# products and convolutions that its parameters enter, and lets the hardware
# compute them: phase-change memory here, a month after it was programmed, with
# 8-bit converters. Biases and everything else stay digital.

# %%
pcm = crossbar.Spec(
    devices.get("pcm_nandakumar2019"),
    seconds=30 * 86400.0,
    compensate=True,
    input_bits=8,
    adc_bits=8,
    rows=128,
)
fn, params = networks["Equinox MLP"]
network = hardware.wrap(fn, params, pcm, test.x[:1])
chip = jax.jit(network.program)(jax.random.key(7))
logits = jax.jit(network)(chip, test.x, read_key=jax.random.key(8))
print(f"{accuracy(logits):.1%} on one chip")

# %% [markdown]
# A chip is a key, and a study is a map over keys.

# %%
keys = core.chip_keys(jax.random.key(2), 100)


@functools.cache
def chip_of(fn):
    """Made once a network: another spec or parameters compile nothing new."""

    def one_chip(key, params, spec, x):
        network = hardware.wrap(fn, params, spec, x)
        chip = network.program(core.stream(key, "chip"))
        return accuracy(network(chip, x, read_key=core.stream(key, "read")))

    return one_chip


def study(fn, params, spec):
    """Accuracy on a hundred chips."""
    args = (params, spec, test.x)
    return np.asarray(chip_map(chip_of(fn), keys, args=args))


found = {
    name: study(fn, params, pcm) for name, (fn, params) in networks.items()
}
for name, values in found.items():
    print(f"{name}: mean {values.mean():.2%}, worst {values.min():.2%}")

# %%
figure = Figure(figsize=(6, 3), layout="constrained")
axes = figure.subplots()
low = min(values.min() for values in found.values())
for name, values in found.items():
    bins = np.linspace(100 * low, 100, 30)
    axes.hist(100 * values, bins=bins, alpha=0.6, label=name)
axes.set(xlabel="accuracy (%)", ylabel="chips", title="100 chips, one month")
axes.legend()
figure  # noqa: B018

# %% [markdown]
# ## A plan
#
# Patterns choose what goes where: here the first and the last layer of the CNN
# stay digital, and the others lie on resistive memory whose cells are written
# with an error of a tenth of their range.

# %%
rough = crossbar.Spec(
    devices.get("ideal", program_noise=0.1, read_noise=0.05), input_bits=8
)
plan = {"Conv_0": None, "Dense_1": None, "kernel": rough}
fn, params = networks["Flax CNN"]
mixed = hardware.wrap(fn, params, plan, test.x[:1])
print(", ".join(mixed.chosen))

# %% [markdown]
# ## Train for the hardware
#
# Programming is differentiable. A fresh chip at each step teaches the network
# to live with any.

# %%
aware = hardware.wrap(mlp, mlp_params, rough, test.x[:1])


def on_a_fresh_chip(params, batch, key):
    chip = aware.program(core.stream(key, "chip"), params)
    logits = aware(chip, batch.x, read_key=core.stream(key, "read"))
    return cross_entropy(logits, batch)


plain = networks["Equinox MLP"][1]
trained = fit(on_a_fresh_chip, plain, rate=2e-3)
before, after = study(mlp, plain, rough), study(mlp, trained, rough)
print(f"as trained: mean {before.mean():.2%}, worst {before.min():.2%}")
print(f"for the hardware: mean {after.mean():.2%}, worst {after.min():.2%}")
