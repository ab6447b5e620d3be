"""Tests of studies that several processes share, as several hosts would."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxedge.run import results

# A network of one layer; what it finds depends on every draw of a chip.
PROGRAM = """
import json, pathlib, sys
import jax
rank, count, port, folder = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", 4 // int(count))
if count != "1":
    jax.distributed.initialize(f"localhost:{port}", int(count), int(rank))
import jax.numpy as jnp
import numpy as np
import optax
from jaxedge import core, data, hardware, models
from jaxedge.hardware import crossbar, devices
from jaxedge.recipes import supervised
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import chip_map, loop, study, sweeps
from jaxedge.run.checkpoint import Checkpoints

def evaluate(variables, batch, key=None):
    logits = hardware.dot(batch.x, variables["params"]["kernel"], key=key)
    right = (logits.argmax(1) == batch.y) * batch.weight
    return {"count": batch.weight.sum(), "accuracy": right.sum()}

rng = np.random.default_rng(0)
kernel = rng.normal(size=(6, 4)).astype(np.float32)
x = rng.normal(size=(101, 6)).astype(np.float32)
source = data.make_source(
    x, (x @ kernel).argmax(1), classes=tuple("abcd"), name="toy", split="test"
)
recipe = Recipe(
    **{
        **dict.fromkeys(Recipe._fields),
        **Recipe._field_defaults,
        "evaluate": evaluate,
    }
)
spec = crossbar.Spec(devices.get("ideal", program_noise=0.2))
chips = study.Chips(
    n=11, threshold=0.8, sweep=3, read_noise=(0.0, 0.5), faults=(),
    seconds=(), adc_bits=(), array=(), r_wire=(), images=None, batch=40,
    chunk=6, mode="map", block=None,
)
swept = sweeps.parse("noise", chips.levels, spec, tuple)

def run(stop=None):
    return study.run(
        recipe, {"params": {"kernel": jnp.asarray(kernel)}}, source, spec,
        chips, swept, jax.random.key(0), pathlib.Path(folder), stop,
    )

class Stop:
    looks = 2
    @property
    def asked(self):  # by the last process alone
        Stop.looks -= 1
        return Stop.looks < 0 and jax.process_index() == int(count) - 1

try:
    run(Stop())
except loop.Preempted as stopped:
    said = str(stopped)
found = run()
drawn = chip_map(
    lambda key: {"pair": jax.random.normal(key, (2,))},
    core.chip_keys(jax.random.key(1), 7),
)

class Silent:
    def write(self, step, scalars): pass
    def close(self): pass

def train(stop):
    checkpoints = Checkpoints(
        pathlib.Path(folder, "train"), "accuracy", jax.process_index() == 0
    )
    try:
        return loop.train(
            learner, {"train": source, "select": source},
            loop.Plan(2, 20, devices="all"), jax.random.key(2), checkpoints,
            lambda step: Silent(), stop,
        )
    finally:
        checkpoints.close()

learner = supervised.make(
    models.Mlp((8, 4)), jnp.asarray(x[:1]), supervised.weights_rule(),
    optax.sgd(0.1),
)
Stop.looks = 7
try:
    train(Stop())
except loop.Preempted as stopped:
    trained = str(stopped)
learned = jax.tree.map(np.ravel, jax.device_get(train(None).learned))
print(json.dumps({
    "said": said,
    "trained": trained,
    "learned": np.concatenate(jax.tree.leaves(learned)).tolist(),
    "devices": len(jax.devices()),
    "drawn": np.asarray(drawn["pair"]).tolist(),
    **{name: np.asarray(found.arrays[name]).tolist() for name in found.arrays},
}))
"""


def start(*arguments, **more):
    env = dict(os.environ, JAX_PLATFORMS="cpu", **more)
    env.pop("JAX_NUM_CPU_DEVICES", None)
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(processes):
    """What each process printed; all of them have to end well."""
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(processes), said
    return [out for out, _ in said]


@pytest.fixture
def port():
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, port):
    one, two = tmp_path / "one", tmp_path / "two"
    printed = finish(
        [
            start("-c", PROGRAM, 0, 1, port, one),
            start("-c", PROGRAM, 0, 2, port, two),
            start("-c", PROGRAM, 1, 2, port, two),
        ]
    )
    alone, first, second = (json.loads(out.splitlines()[-1]) for out in printed)
    assert alone["devices"] == first["devices"] == 4
    # Both stop where one was asked to, after two chunks; the first level
    # of noise is the base.
    assert alone["said"] == "stopped after 11 of 14 chips"
    # Training stops likewise, in its second epoch, and goes on to the same end;
    # sums over a batch that four devices share are rounded alike.
    assert alone["trained"] == "stopped at step 7"
    learned = alone.pop("learned")
    assert len(learned) == 6 * 8 + 8 * 4
    np.testing.assert_allclose(first["learned"], learned, rtol=1e-5, atol=1e-6)
    assert second.pop("learned") == first.pop("learned")
    assert first == alone and second == alone
    assert len(np.unique(first["score"])) > 2
    # One process wrote, once: the same files with the same chips.
    for folder in (one, two):
        shutil.rmtree(folder / "train")
    names = sorted(p.name for p in one.rglob("*.*"))
    assert sorted(p.name for p in two.rglob("*.*")) == names
    for path in one.glob("chips/*"):
        assert path.read_bytes() == (two / "chips" / path.name).read_bytes()
    (archive,) = two.glob("*.npz")
    assert results.Archive(archive)["score"].tolist() == alone["score"]


@pytest.fixture
def slurm():
    """What SLURM tells each of two tasks; it makes the port of the number."""
    first = 2**16 - 2**12  # Of the ports among which JAX chooses.
    for job in range(os.getpid() % 2**12, 2**12):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", first + job)):  # Nobody is there.
                break
    told = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2}
    return [
        {f"SLURM_{k}": str(v) for k, v in (told | own).items()}
        for own in ({"PROCID": i, "LOCALID": i} for i in range(2))
    ]


@pytest.mark.slow
def test_a_command_is_shared_by_the_tasks_of_a_cluster(workdir, small, slurm):
    """What one process found in `trained`, two of them find anew."""
    before = results.Archive(workdir / "study.npz")["score"]
    shutil.rmtree(workdir / "studies")
    arguments = ["chips", *small, f"--workdir={workdir}", "--config.study="]
    command = ["-m", "jaxedge", *arguments, "--distributed=auto"]
    finish([start(*command, **task) for task in slurm])
    after = results.Archive(workdir / "study.npz")
    assert set(after) == {"score", "rate/chips"}
    np.testing.assert_array_equal(after["score"], before)
