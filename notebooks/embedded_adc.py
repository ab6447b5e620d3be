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
# # Why an ADC made of memory cells is linear
#
# The macro of arXiv:2307.05944 multiplies, adds and converts with the same
# branches of the same memory cells on the same two bit lines. We look at why
# that makes a straight converter out of bent lines, what still bends it, and
# what folding and clipping buy. All of it runs on a CPU in a minute.

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

import dataclasses

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np

from jaxedge import core, data
from jaxedge.hardware import sram
from jaxedge.run import chip_map, macros, spread_over_cores

spread_over_cores()
print(jaxedge.__version__, jax.devices())

# %% [markdown]
# ## Two lines that bend
#
# A product discharges one of two lines for a time: by its sign the positive or
# the negative one. How far a line falls with time is up to the transistors,
# and they are not linear.

# %%
config = sram.Config(fold=8, lsb_units=14)
units = np.linspace(0, float(config.swing), 200)
figure = Figure(figsize=(4.6, 3.2), layout="constrained")
axes = figure.subplots()
for curve in sram.CURVES:
    bent = dataclasses.replace(config, line_f=curve)
    axes.plot(units, bent.volts(units), label=curve)
axes.set(xlabel="discharges of a line (units)", ylabel="fall of its voltage")
axes.legend(frameon=False)
figure  # noqa: B018

# %% [markdown]
# ## A conversion, step by step
#
# A comparator tells which line is higher; that line is discharged by 128 LSB,
# they are compared again, then by 64, 32 and so on. Every decision compares two
# voltages on one and the same curve. The curve is monotone: whichever it is,
# the decision is the one that the units themselves would give.


# %%
def conversion(plus, minus, config):
    """The fall of both lines before every decision, and the code."""
    lsb, code, seen = float(config.lsb_units), 0, []
    for k in range(config.steps, -1, -1):
        fall = np.asarray(config.volts(np.array([plus, minus])))
        seen.append(fall)
        positive = fall[0] > fall[1]
        if k == 0:  # The last decision adds nothing or takes one.
            return np.array(seen), code - (not positive)
        step = 2 ** (k - 1)
        code += step if positive else -step
        # The line that has fallen less is the higher one.
        plus += 0 if positive else step * lsb
        minus += step * lsb if positive else 0


figure = Figure(figsize=(9, 3.2), layout="constrained")
for axes, curve in zip(figure.subplots(1, 2), ("linear", "steep"), strict=True):
    bent = dataclasses.replace(config, line_f=curve)
    falls, code = conversion(1312.5, 470.0, bent)
    axes.step(range(len(falls)), -falls[:, 0], where="post", label="positive")
    axes.step(range(len(falls)), -falls[:, 1], where="post", label="negative")
    axes.set(title=f"{curve}: code {code}", xlabel="decision")
    axes.legend(frameon=False)
    print(f"{curve}: code {code}, of {(1312.5 - 470) / 14:.2f} LSB")
figure  # noqa: B018

# %% [markdown]
# ## A rival with a reference of its own
#
# A converter that compares the lines with a linear reference sees every bend,
# and every drift of the current too.

# %%
rng = np.random.default_rng(0)
x, w = rng.integers(0, 16, (2048, 64)), rng.integers(-7, 8, (64, 64))
silent = config.without_errors()
ideal = np.asarray(sram.convert(x, w, silent, path="floor"))
figure = Figure(figsize=(9, 3.2), layout="constrained")
for axes, adc in zip(
    figure.subplots(1, 2), ("embedded", "external"), strict=True
):
    for curve in ("exponential", "steep", "root"):
        bent = dataclasses.replace(silent, adc=adc, line_f=curve)
        code = np.asarray(sram.convert(x, w, bent))
        off = np.sqrt(np.mean((code - ideal) ** 2))
        print(f"{adc}, {curve}: codes off by {off:.2f} (rms)")
        axes.plot(ideal[:100].ravel(), code[:100].ravel(), ".", ms=2)
    axes.set(title=adc, xlabel="ideal code", ylabel="code")
figure  # noqa: B018

# %%
for current in (0.7, 1.0, 1.3):
    codes = [
        np.asarray(
            sram.convert(
                x, w, dataclasses.replace(silent, adc=adc, current=current)
            )
        )
        for adc in ("embedded", "external")
    ]
    off = [np.sqrt(np.mean((code - ideal) ** 2)) for code in codes]
    print(f"current x {current}: embedded {off[0]:.2f}, external {off[1]:.2f}")

# %% [markdown]
# ## What still bends it
#
# Branches differ from one another. A step of 64 branches averages their
# mismatch; the bands show a population of columns.

# %%
found = sram.characterise(config, jax.random.key(1), columns=200)
shown = found._asdict() | {"one_sigma_percent": found.one_sigma_percent}
print(macros.caption(shown))
macros.picture(found.codes, found.inl, found.dnl)

# %% [markdown]
# ## A thousand macros
#
# A chip is a key, and a study is a map over keys. How good is one array?


# %%
@jax.jit
def error(key, x, w, config):
    """Of one array, root mean square in units of x w."""
    code = sram.convert(
        x,
        w,
        config,
        chip_key=core.stream(key, "chip"),
        read_key=core.stream(key, "read"),
        path="fast",
    )
    return jnp.sqrt(jnp.mean((sram.decode(code, w, config) - x @ w) ** 2))


keys = core.chip_keys(jax.random.key(2), 1000)
some, matrix = jnp.asarray(x[:64], jnp.float32), jnp.asarray(w, jnp.float32)
modes = {"base": (0, 27), "fold": (8, 14), "fold and clip": (8, 7)}
figure = Figure(figsize=(5.4, 3.2), layout="constrained")
axes = figure.subplots()
for name, (fold, lsb) in modes.items():
    mode = dataclasses.replace(
        config, fold=jnp.float32(fold), lsb_units=jnp.float32(lsb)
    )
    chips = np.asarray(chip_map(error, keys, args=(some, matrix, mode)))
    axes.hist(chips, bins=30, label=name, alpha=0.8)
    print(f"{name}: error {chips.mean():.1f} +- {chips.std():.1f}")
axes.set(xlabel="error of an array (units of x w)", ylabel="macros")
axes.legend(frameon=False)
figure  # noqa: B018

# %% [markdown]
# ## Where to fold and clip
#
# Folding halves the range of inputs that are spread evenly, but drives the rows
# of inputs that are mostly zero. `explore` predicts every choice, `choose`
# takes the best that clips rarely enough; `calibration.fit` does it layer by
# layer, and `configs/sram.py` for a whole network.

# %%
images = data.load("digits", "train").x[:500].reshape(500, -1)
pixels = np.rint(15 * images / images.max())
sparse = np.where(rng.random(pixels.shape) < 0.7, 0, pixels)
for name, inputs in {
    "even": x[:500],
    "digits": pixels,
    "mostly zero": sparse,
}.items():
    best = sram.choose(inputs, w, config)
    print(
        f"{name}: fold at {best.fold}, LSB of {best.lsb_units} units,"
        f" error {best.error:.1f}, {best.clipped:.2%} clipped,"
        f" lines fall by {best.line:.0%}"
    )
