"""Seconds to the mean accuracy over chips, to a given confidence interval.

    .venv/bin/python scripts/bench/answer.py [--peer_python=PATH]
        [--half_width=0.0005] [--noise=0.03] [--out=FILE.json]

The network of the simulators' table, 784-512-256-10 without biases, is trained
briefly on Fashion-MNIST (under the data root JAXEDGE_DATA) and read on the
first 1,000 examples of its test set, with the hardware law of peers.py. Every
way is run once to compile and once, from another key, to be measured, with
whatever it prepares. With a Python that has aihwkit, its C++ tiles sample chips
one by one to the same half-width; the sides run one after the other.
"""

import argparse
import json
from pathlib import Path
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peer_jaxedge
import peers
from rich.console import Console
from rich.table import Table

from jaxedge import core, data, hardware
from jaxedge.hardware import crossbar, ensemble
from jaxedge.run import chips, estimate

STEPS, BATCH = 1200, 128
TEMPERATURE = 0.3
WAYS = (
    "chips, plain",
    "chips, antithetic",
    "chips, control",
    "ensemble, plain",
    "ensemble, antithetic",
)


def forward(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
    """Logits of a network or of a chip."""
    for i, name in enumerate(sorted(params)):
        x = jax.nn.relu(x) if i else x
        read = None if key is None else core.stream(key, f"read {name}")
        x = hardware.dot(x, params[name], key=read)
    return x


def flat(source: data.Source, n: int | None = None) -> tuple[Any, Any]:
    """The first examples as vectors, and their classes."""
    x = np.asarray(source.x[:n], np.float32)
    return x.reshape(len(x), -1), np.asarray(source.y[:n])


def trained() -> dict[str, jax.Array]:
    """The network after a few epochs of Adam."""
    x, y = flat(data.load("fashion_mnist", "train"))
    key = jax.random.key(0)
    shapes = zip(peers.WIDTHS, peers.WIDTHS[1:], strict=False)
    params = {
        f"layer {i}": jax.random.normal(core.stream(key, f"w{i}"), shape)
        * np.sqrt(2 / shape[0])
        for i, shape in enumerate(shapes)
    }
    optimiser = optax.adam(1e-3)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        z = forward(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()

    @jax.jit
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        slope = jax.grad(loss)(params, x, y)
        change, state = optimiser.update(slope, state, params)
        return optax.apply_updates(params, change), state

    state = optimiser.init(params)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = rng.integers(0, len(x), BATCH)
        params, state = step(params, state, x[rows], y[rows])
    return params


def read(key: jax.Array, chip: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Accuracy of a chip."""
    return jnp.mean(forward(chip, x, key).argmax(-1) == y)


def made(key: jax.Array, params: Any, spec: Any, x: Any, y: Any) -> jax.Array:
    """Accuracy of a chip that is programmed first."""
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    return read(key, chip, x, y)


def controlled(
    key: jax.Array, params: Any, spec: Any, x: Any, y: Any, linear: Any
) -> tuple[jax.Array, jax.Array]:
    """The same, beside what the linearised network says of the chip."""
    chip = hardware.deploy(core.stream(key, "chip"), params, spec)
    return read(key, chip, x, y), estimate.control(linear, chip)


def answer(
    way: str,
    key: jax.Array,
    half_width: float,
    given: tuple[Any, crossbar.Spec, jax.Array, jax.Array],
) -> estimate.Estimate:
    """The estimate of one way, from a trained network and its hardware."""
    params, spec, x, y = given
    method = way.split()[-1]
    if "ensemble" in way:
        whole = ensemble.ensemble(spec)
        chip = hardware.deploy(key, params, whole)
        args = (chip, x, y)
        return estimate.estimate(
            read, key, half_width, args=args, method=method
        )
    if method != "control":
        return estimate.estimate(
            made, key, half_width, args=given, method=method
        )

    def score(params: Any) -> jax.Array:
        z = jax.nn.log_softmax(forward(params, x) / TEMPERATURE)
        return jnp.exp(jnp.take_along_axis(z, y[:, None], 1)).mean()

    args = (*given, estimate.linearise(score, params, spec))
    return estimate.estimate(
        controlled, key, half_width, args=args, method=method
    )


def timed(way: str, half_width: float, given: Any) -> dict[str, float]:
    """A second run of a way: its seconds, mean, chips and variance ratio."""
    answer(way, jax.random.key(0), 1.0, given)
    start = time.perf_counter()
    found = answer(way, jax.random.key(1), half_width, given)
    seconds = time.perf_counter() - start
    return {**found._asdict(), "seconds": seconds}


def theirs(
    python: str, params: Any, x: Any, y: Any, law: Any, half_width: float
) -> tuple[float, float, int]:
    """Seconds, mean and chips of aihwkit's plain sampling."""
    arrays = {f"w{i}": np.asarray(params[n]) for i, n in enumerate(params)}
    task = {
        "layers": len(params),
        "works": {},
        "law": law,
        "agree": 0,
        "half_width": half_width,
        "presets": {},
        "seed": 1,
    }
    given = {**arrays, "x": np.asarray(x), "y": np.asarray(y)}
    seconds, mean, n = peers.side(python, "peer_aihwkit.py", task, given)[
        "answer"
    ]
    return seconds, mean, int(n)


def console() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_python", default="")
    parser.add_argument("--half_width", type=float, default=0.0005)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    chips.spread_over_cores()
    law = {**peers.LAW, "program_noise": given.noise}
    params = trained()
    x, y = map(jnp.asarray, flat(data.load("fashion_mnist", "test"), 1000))
    spec = peer_jaxedge.spec(law, peers.WORKS["chips"])
    rows = {
        way: timed(way, given.half_width, (params, spec, x, y)) for way in WAYS
    }
    if given.peer_python:
        seconds, mean, n = theirs(
            given.peer_python, params, x, y, law, given.half_width
        )
        rows["aihwkit, plain"] = {"seconds": seconds, "mean": mean, "chips": n}
    slowest = rows.get("aihwkit, plain", rows[WAYS[0]])["seconds"]
    table = Table(title=f"mean accuracy to +- {given.half_width}")
    for column in ("way", "mean", "chips", "seconds", "times faster"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['mean']:.5f}",
            f"{row['chips']}",
            f"{row['seconds']:.2f}",
            f"{slowest / row['seconds']:.1f}",
        )
    Console().print(table)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(console())
