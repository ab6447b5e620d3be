"""The work of scripts/bench/peers.py in AIHWKit; knows nothing of jaxedge.

    PEER_PYTHON scripts/bench/peer_aihwkit.py TASK.npz RESULT.npz

Started by peers.py and answer.py with the Python that has aihwkit and torch.
What a task holds is told in peers.py.
"""

from collections.abc import Callable
import itertools
import json
import os
import sys
import time
from typing import Any

from aihwkit.inference import PCMLikeNoiseModel  # type: ignore
from aihwkit.inference.noise import reram  # type: ignore
from aihwkit.nn import AnalogLinear, AnalogSequential  # type: ignore
from aihwkit.simulator import configs  # type: ignore
from aihwkit.simulator.parameters import enums  # type: ignore
import numpy as np
import torch  # type: ignore


class Steady(PCMLikeNoiseModel):
    """A programming error of one size and no drift: no draw is wasted."""

    def generate_drift_coefficients(self, g_target: Any) -> None:
        del g_target


def design(law: dict[str, Any], work: dict[str, Any]) -> Any:
    """The configuration of a work, everything else ideal.

    aihwkit's torch tiles have no read noise.
    """
    kind = "TorchInferenceRPUConfig" if work["torch"] else "InferenceRPUConfig"
    config = getattr(configs, kind)()
    config.mapping.weight_scaling_omega = 1.0  # Weights fill the range.
    config.mapping.max_input_size = config.mapping.max_output_size = 0
    config.drift_compensation = None
    io = config.forward
    io.inp_bound = io.out_bound = 0.0
    io.inp_res = io.out_res = -1.0
    io.out_noise = 0.0
    io.bound_management = enums.BoundManagementType.NONE
    if work["bits"]:
        io.inp_bound, io.out_bound = 1.0, work["bound"]
        io.inp_res = io.out_res = 1 / (2 ** work["bits"] - 2)
    else:
        io.noise_management = enums.NoiseManagementType.NONE
    if not work["torch"] and work["read"]:
        io.w_noise_type = enums.WeightNoiseType.ADDITIVE_CONSTANT
        io.w_noise = law["read_noise"]
    if work["pcm"]:
        config.noise_model = PCMLikeNoiseModel()
    else:
        config.noise_model = Steady(
            prog_coeff=[law["program_noise"] * 25], g_max=25.0
        )
    return config


def network(config: Any, matrices: list[np.ndarray]) -> Any:
    """A network without biases, ReLU between its layers."""
    layers: list[Any] = []
    for w in matrices:
        layer = AnalogLinear(*w.shape, bias=False, rpu_config=config)
        layer.set_weights(torch.tensor(w.T.copy()))
        layers += [layer, torch.nn.ReLU()]
    return AnalogSequential(*layers[:-1]).eval()


def timed(f: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call after the first."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def chips(net: Any, x: Any, n: int) -> None:
    """The studied work: a loop that programs anew and reads."""
    for _ in range(n):
        net.program_analog_weights()
        if x is not None:
            net(x).sum()


def outputs(net: Any, x: Any, n: int) -> np.ndarray:
    """Outputs of `n` chips, [n, B, O]."""
    found = []
    for _ in range(n):
        net.program_analog_weights()
        found.append(net(x).numpy().copy())
    return np.stack(found)


def answer(net: Any, x: Any, y: Any, half_width: float) -> list[float]:
    """Chips until the mean accuracy has an interval of this half-width.

    Returns the seconds, the mean and the number of chips.
    """
    start = time.perf_counter()
    found: list[float] = []
    while True:
        net.program_analog_weights()
        found.append(float((net(x).argmax(-1) == y).float().mean()))
        n = len(found)
        error = np.std(found, ddof=1) / np.sqrt(n) if n > 1 else np.inf
        if n >= 64 and 1.96 * error <= half_width:
            return [time.perf_counter() - start, float(np.mean(found)), n]


def cells(preset: str, targets: np.ndarray, seconds: float) -> np.ndarray:
    """One read of every cell, uS, after `seconds` since programming."""
    models = {
        "pcm_nandakumar2019": PCMLikeNoiseModel,
        "rram_wan2022": lambda: reram.ReRamWan2022NoiseModel(g_max=40.0),
        "rram_cmo_hfox_falcone": reram.ReRamCMONoiseModel,
    }
    model = models[preset]()
    target = torch.tensor(targets)
    g = model.apply_programming_noise_to_conductance(target.clone())
    if seconds > 0:
        course = model.generate_drift_coefficients(target)
        g = model.apply_drift_noise_to_conductance(g, course, seconds)
    return g.numpy()


def measured(task: dict[str, Any], arrays: Any, name: str) -> list[float]:
    """Seconds of one work."""
    work = task["works"][name]
    if work["tile"]:
        net = network(design(task["law"], work), [arrays["tile"]])
        net.program_analog_weights()
        x = torch.tensor(arrays["tile_x"])
        return timed(lambda: net(x), task["repeats"])
    net = network(design(task["law"], work), matrices(task, arrays))
    given = torch.tensor(arrays["x"]) if work["forward"] else None
    return timed(lambda: chips(net, given, task["chips"]), task["repeats"])


def matrices(task: dict[str, Any], arrays: Any) -> list[np.ndarray]:
    """The network's parameters, [I, O] each."""
    return [arrays[f"w{i}"] for i in range(task["layers"])]


def run(task: dict[str, Any], arrays: Any) -> dict[str, np.ndarray]:
    """Results of a task by name."""
    found: dict[str, np.ndarray] = {}
    x, shapes = torch.tensor(arrays["x"]), matrices(task, arrays)
    for name in task["works"]:
        found[f"seconds/{name}"] = np.array(measured(task, arrays, name))
    noisy = {"torch": 0, "read": 1, "bits": 0, "pcm": 0}
    if task["agree"]:
        net = network(design(task["law"], noisy), shapes[:1])
        found["outputs"] = outputs(net, x[:1], task["agree"])[:, 0]
    if task["half_width"]:
        net = network(design(task["law"], noisy), shapes)
        y = torch.tensor(arrays["y"])
        found["answer"] = np.array(answer(net, x, y, task["half_width"]))
    for preset, ages in task["presets"].items():
        for i, seconds in enumerate(ages):
            targets = arrays[f"targets/{preset}"]
            read = [
                cells(preset, np.full(task["cells"], t, np.float32), seconds)
                for t in targets
            ]
            found[f"cells/{preset}/{i}"] = np.stack(read)
    return found


def main() -> None:
    """Reads the task, writes the result."""
    given, wanted = itertools.islice(sys.argv, 1, 3)
    arrays = np.load(given)
    task = json.loads(str(arrays["task"]))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(task["seed"])
    with torch.no_grad():
        np.savez(wanted, **run(task, arrays))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
