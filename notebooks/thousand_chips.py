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
# # A thousand chips in five minutes
#
# We learn which edges of a randomly weighted network to keep, put the result
# on a thousand simulated chips of random resistive memory, and look at how
# they differ. All of it runs on a CPU; an accelerator is used where there is
# one.

# %%
try:
    import jaxedge
except ImportError:
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxedge"], check=True
    )
    import jaxedge

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import optax

from jaxedge import core, data, hardware, models
from jaxedge.hardware import crossbar, devices
from jaxedge.learn import masks
from jaxedge.run import chip_map, spread_over_cores

spread_over_cores()
print(jaxedge.__version__, jax.devices())

# %% [markdown]
# ## A chip is a key
#
# A device is a value. Its key decides everything that differs from one chip to
# the next: the same key is the same chip, today and next year.

# %%
rram = devices.get("rram_40nm_random")
cells = rram.program(jax.random.key(7), jnp.zeros((64, 64)))
g = 1e6 * np.asarray(rram.conductance(cells))
formed = g > 1
print(f"{formed.mean():.1%} of the cells are formed,")
print(f"at {g[formed].mean():.2f} +- {g[formed].std():.2f} microsiemens")

# %%
figure = Figure(figsize=(4, 3.4), layout="constrained")
axes = figure.subplots()
image = axes.imshow(g, cmap="viridis")
axes.set(title="one chip, as formed", xlabel="column", ylabel="row")
figure.colorbar(image, label="conductance (uS)")
figure  # noqa: B018

# %% [markdown]
# ## Learn the edges, not the weights
#
# Weights are random signs and stay. Each has a score; the larger half of the
# scores decides which edges exist.

# %%
train, test = data.load("digits", "train"), data.load("digits", "test")
model = models.Mlp((256, 128, 10), bits=4)
variables = jax.jit(model.init)(jax.random.key(0), train.x[:1])
kernels, stats = variables["params"], variables["batch_stats"]
signs = jax.tree.map(lambda w: jnp.sign(w) * 2 / np.sqrt(w.shape[0]), kernels)
scores = kernels


def network(scores):
    """Parameters in which half of the edges exist."""
    return jax.tree.map(
        lambda s, w: hardware.MaskedRandom(
            w, masks.attach(s, masks.top_fraction(s, keep=0.5))
        ),
        scores,
        signs,
    )


@jax.jit
def step(scores, stats, opt, batch):
    def loss(scores):
        logits, changed = model.apply(
            {"params": network(scores), "batch_stats": stats},
            batch.x,
            train=True,
            mutable=["batch_stats"],
        )
        errors = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch.y
        )
        return errors.mean(), changed["batch_stats"]

    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(scores)
    delta, opt = optimiser.update(grads, opt, scores)
    return optax.apply_updates(scores, delta), stats, opt, value


optimiser = optax.sgd(0.1, momentum=0.9)
opt = optimiser.init(scores)
for epoch in range(20):
    for batch in data.epoch(train, 60, jax.random.key(1), epoch):
        scores, stats, opt, value = step(scores, stats, opt, batch)
trained = network(scores)


@jax.jit
def accuracy(params, key=None):
    logits = model.apply(
        {"params": params, "batch_stats": stats}, test.x, key=key
    )
    return (logits.argmax(-1) == test.y).mean()


print(f"on ideal hardware: {accuracy(trained):.1%}")

# %% [markdown]
# ## A study is a map
#
# `deploy` programs one chip; `chip_map` does it for a thousand keys in one
# compiled program.

# %%
pairs = devices.get("rram_40nm_set_reset", stuck_on=0.001, stuck_off=0.001)
spec = crossbar.Spec(pairs)


def one_chip(key, params, spec):
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    return accuracy(chip, core.stream(key, "read"))


keys = core.chip_keys(jax.random.key(2), 1000)
found = np.asarray(chip_map(one_chip, keys, args=(trained, spec)))
print(f"mean {found.mean():.2%}, worst {found.min():.2%},")
print(f"yield above 95 %: {(found > 0.95).mean():.1%}")

# %% [markdown]
# Another hardware is another value of the same pytree, so that a sweep compiles
# nothing new.

# %%
levels = [0.0, 0.02, 0.1, 0.2, 0.5, 1.0]


def noisy(level):
    device = devices.get("rram_40nm_set_reset", read_noise=level)
    return crossbar.Spec(device)


sweep = np.stack(
    [
        np.asarray(chip_map(one_chip, keys[:50], args=(trained, noisy(s))))
        for s in levels
    ]
)
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2)
left.hist(100 * found, bins=20)
left.set(xlabel="accuracy (%)", ylabel="chips", title="1,000 chips")
right.plot(100 * np.array(levels), 100 * sweep.mean(1), "o-")
right.fill_between(
    100 * np.array(levels),
    *100 * np.percentile(sweep, [5, 95], axis=1),
    alpha=0.3,
)
right.set(xlabel="read noise (%)", ylabel="accuracy (%)", title="5-95 %")
figure  # noqa: B018
