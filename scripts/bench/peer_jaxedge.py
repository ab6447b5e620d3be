"""The work of scripts/bench/peers.py in jaxedge.

    .venv/bin/python scripts/bench/peer_jaxedge.py TASK.npz RESULT.npz

Started by peers.py and answer.py; what a task holds is told in peers.py.
"""

from collections.abc import Callable
import functools
import itertools
import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import core, hardware
from jaxedge.core.trees import pytree
from jaxedge.hardware import crossbar, devices
from jaxedge.run import chips


@pytree
class Steady(devices.Programmed):
    """Cells whose read noise does not depend on their conductance.

    What aihwkit calls additive constant weight noise; a pair has the relative
    std `read_noise` of the range.
    """

    def read_std(self, cells: devices.Level, seconds: Any = 0.0) -> jax.Array:
        del seconds
        std = jnp.multiply(self.read_noise, self.g_max) / np.sqrt(2)
        # Not full_like: XLA for CPU (jax 0.10.2) may read beyond a matrix of
        # one repeated number, and crash.
        return std + 0 * cells.g


def spec(law: dict[str, Any], work: dict[str, Any]) -> crossbar.Spec:
    """The hardware of a work, one tile a layer as in aihwkit."""
    device: Any = Steady(**law)
    if work["pcm"]:
        white = law["read_noise"]  # Of the conductance: no device is steady.
        device = devices.get(
            "pcm_nandakumar2019", flicker=0.0, read_noise=white
        )
    bits = work["bits"] or None
    return crossbar.Spec(
        device, rows=1024, columns=1024, input_bits=bits, adc_bits=bits
    )


def outputs(
    key: jax.Array, params: Any, x: jax.Array, s: Any, noisy: bool = True
) -> jax.Array:
    """What one chip computes, with read noise or without."""
    chip = hardware.deploy(core.stream(key, "chip"), params, s)
    for i, name in enumerate(sorted(chip)):
        x = jax.nn.relu(x) if i else x
        read = core.stream(key, f"read {name}") if noisy else None
        x = hardware.dot(x, chip[name], key=read)
    return x


def total(key: jax.Array, params: Any, x: jax.Array, s: Any) -> jax.Array:
    """The sum of a chip's outputs, so that results cost no memory."""
    return outputs(key, params, x, s).sum()


def silent(key: jax.Array, params: Any, x: jax.Array, s: Any) -> jax.Array:
    """The same without read noise."""
    return outputs(key, params, x, s, noisy=False).sum()


def programmed(key: jax.Array, params: Any, s: Any) -> jax.Array:
    """A number that depends on every programmed cell."""
    chip = hardware.deploy(core.stream(key, "chip"), params, s)
    leaves = [chip[name].conductance() for name in sorted(chip)]
    return sum((g.sum() for g in leaves), jnp.zeros(()))


def timed(f: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call after the first, which compiles."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(f())
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def fastest_normals() -> Callable[[tuple[int, ...]], np.ndarray]:
    """The fastest normal numbers of numpy."""
    rng = np.random.default_rng(0)
    return lambda shape: rng.standard_normal(shape, np.float32)


def crosssim_normals() -> Callable[[tuple[int, ...]], np.ndarray]:
    """Those of CrossSim 3.2: the global generator, in float64, then cast."""
    rng = np.random.RandomState(0)
    return lambda shape: rng.normal(scale=1.0, size=shape).astype(np.float32)


def sampled(w: np.ndarray, x: np.ndarray, std: float, normals) -> np.ndarray:
    """Products with a fresh draw for every device and vector, [B, O].

    Both cells of a pair are drawn, of conductance above 0 or not.

    Args:
        w: weights [I, O].
        x: vectors [B, I].
        std: of the noise of a weight.
        normals: shape -> normal numbers, float32.
    """
    pair = (np.maximum(w, 0), np.maximum(-w, 0))
    scale = np.float32(std / np.sqrt(2))
    rows = []
    for vector in x:
        noisy = [g + scale * normals(g.shape) for g in pair]
        rows.append(vector @ noisy[0] - vector @ noisy[1])
    return np.stack(rows)


NORMALS = {"fastest": fastest_normals, "crosssim": crosssim_normals}


def measured(task: dict[str, Any], arrays: Any, name: str) -> list[float]:
    """Seconds of one work."""
    work = task["works"][name]
    key = jax.random.key(task["seed"])
    design = spec(task["law"], work)
    if work["tile"]:
        leaf = design.program(key, jnp.asarray(arrays["tile"]))
        x = jnp.asarray(arrays["tile_x"])
        read = jax.jit(lambda leaf, x: hardware.dot(x, leaf, key=key))
        return timed(lambda: read(leaf, x), task["repeats"])
    keys = core.chip_keys(key, task["chips"])
    f: Callable[..., jax.Array] = programmed
    args: tuple[Any, ...] = (matrices(task, arrays), design)
    if work["forward"]:
        f = total if work["read"] else silent
        args = (args[0], jnp.asarray(arrays["x"]), design)
    return timed(lambda: chips.chip_map(f, keys, args=args), task["repeats"])


def matrices(task: dict[str, Any], arrays: Any) -> dict[str, jax.Array]:
    """The network's parameters."""
    return {
        f"layer {i}": jnp.asarray(arrays[f"w{i}"])
        for i in range(task["layers"])
    }


def first_layer(task: dict[str, Any], arrays: Any) -> np.ndarray:
    """Outputs of one vector on the first layer of many chips, [n, O]."""
    params = {"layer 0": jnp.asarray(arrays["w0"])}
    work = {"pcm": 0, "read": 1, "bits": 0}
    args = (params, jnp.asarray(arrays["x"])[:1], spec(task["law"], work))
    keys = core.chip_keys(jax.random.key(task["seed"]), task["agree"])
    return np.asarray(chips.chip_map(outputs, keys, args=args))[:, 0]


def cells(
    task: dict[str, Any], preset: str, targets: np.ndarray
) -> list[np.ndarray]:
    """One read of every cell, uS, at each age."""
    device = devices.get(preset, **task["overrides"].get(preset, {}))
    key = core.stream(jax.random.key(task["seed"]), preset)
    target = jnp.broadcast_to(
        1e-6 * jnp.asarray(targets)[:, None], (len(targets), task["cells"])
    )
    made = device.program(key, target)
    found = []
    for i, seconds in enumerate(task["presets"][preset]):
        g = device.read(core.stream(key, "read", i), made, seconds)
        if not seconds:  # aihwkit reads nothing at the end of programming.
            g = device.conductance(made, seconds)
        found.append(np.asarray(g) * 1e6)
    return found


def run(task: dict[str, Any], arrays: Any) -> dict[str, np.ndarray]:
    """Results of a task by name."""
    chips.spread_over_cores()
    found: dict[str, np.ndarray] = {}
    for name in task["works"]:
        found[f"seconds/{name}"] = np.array(measured(task, arrays, name))
    for name, kind in task["sampled"].items():
        tile, x = arrays["tile"], arrays["tile_x"]
        std = task["law"]["read_noise"] * np.abs(tile).max()
        normals = NORMALS[kind]()
        seconds = timed(functools.partial(sampled, tile, x, std, normals), 1)
        found[f"seconds/{name}"] = np.array(seconds)
    if task["agree"]:
        found["outputs"] = first_layer(task, arrays)
    for preset in task["presets"]:
        for i, g in enumerate(cells(task, preset, arrays[f"targets/{preset}"])):
            found[f"cells/{preset}/{i}"] = g
    return found


def main() -> None:
    """Reads the task, writes the result."""
    given, wanted = itertools.islice(sys.argv, 1, 3)
    arrays = np.load(given)
    task = json.loads(str(arrays["task"]))
    np.savez(wanted, **run(task, arrays))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
