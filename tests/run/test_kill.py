"""A run that is killed or stopped, and started again, ends as any other.

These are real processes of the command line, watched through the files that
they write.
"""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

ROOT = Path(__file__).resolve().parents[2]
# 20 steps an epoch. The study has a hundred chunks, long enough to be caught.
EPOCHS, STEPS, CHIPS = 12, 240, 3_000
FLAGS = (
    f"--config={ROOT}/configs/edge_pruning.py:quick",
    "--config.model.widths=(8,)",
    f"--config.train.epochs={EPOCHS}",
    f"--config.chips.n={CHIPS}",
    "--config.chips.chunk=30",
    "--config.chips.sweep=0",
)


class Process:
    """A `jaxedge run` in a workdir."""

    def __init__(self, workdir, cache):
        self.workdir = workdir
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            **os.environ,
            "JAX_ENABLE_COMPILATION_CACHE": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._log = workdir.with_suffix(".log")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jaxedge", "run", *FLAGS,
                 f"--workdir={workdir}"],
                cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self):
        """The exit status."""
        return self._process.wait(timeout=200)

    def send(self, number, when: Callable[[Path], bool]):
        """Sends a signal as soon as the workdir looks so; the exit status."""
        limit = time.monotonic() + 200
        while not when(self.workdir):
            if self._process.poll() == 0:
                pytest.skip("this machine is done before it can be stopped")
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < limit, self.log()
            time.sleep(0.002)
        self._process.send_signal(number)
        return self.wait()

    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")

    def end(self):
        """Leaves no process behind."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A function that starts a process; they share what they compiled."""
    cache = tmp_path_factory.mktemp("cache")
    processes = []

    def start(workdir):
        processes.append(Process(workdir, cache))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


def left(workdir):
    """Metrics, checkpoints and chips of a finished run, as bytes."""
    checkpoints = workdir / "checkpoints"
    names = sorted(p.name for p in checkpoints.iterdir() if p.name.isdigit())
    found = {"metrics": (workdir / "metrics.jsonl").read_bytes()}
    assert str(STEPS) in names
    with ocp.PyTreeCheckpointer() as checkpointer:
        for name in names:
            tree = checkpointer.restore(checkpoints / name / "state")
            found |= flat(tree, f"{name}/")
    with np.load(workdir / "study.npz") as file:
        assert file["score"].shape == (CHIPS,)
        found["score"] = file["score"].tobytes()
    return found


def flat(tree, prefix):
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        return {prefix: None if tree is None else np.asarray(tree).tobytes()}
    return {k: v for i, x in items for k, v in flat(x, f"{prefix}{i}/").items()}


def assert_same(found, expected):
    """Names what differs; the bytes would tell nobody anything."""
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert len(found) > 20  # states are in it


def steps(workdir):
    folder = workdir / "checkpoints"
    if not folder.exists():
        return []
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()]


def training_began(workdir):
    return (workdir / "metrics.jsonl").exists()


def well_into_training(workdir):
    return max(steps(workdir), default=0) >= STEPS // 4


def half_trained(workdir):
    return max(steps(workdir), default=0) >= STEPS // 2


def studying(workdir):
    return any((workdir / "studies" / "chips").glob("*.jsonl"))


@pytest.mark.slow
def test_a_run_killed_and_stopped_ends_as_one_that_was_not(tmp_path, start):
    """Killed three times, and told to stop once: each goes on from the last."""
    undisturbed, workdir = tmp_path / "whole", tmp_path / "run"
    whole = start(undisturbed)
    assert whole.wait() == 0, whole.log()
    for when in (training_began, well_into_training):
        killed = start(workdir)
        assert killed.send(signal.SIGKILL, when) == -signal.SIGKILL
        assert max(steps(workdir), default=0) < STEPS  # It came in time.
    stopped = start(workdir)
    assert stopped.send(signal.SIGTERM, half_trained) == 0, stopped.log()
    assert "the same command goes on" in stopped.log()
    # It saved where it was.
    assert f"stopped at step {max(steps(workdir))};" in stopped.log()
    killed = start(workdir)
    assert killed.send(signal.SIGKILL, studying) == -signal.SIGKILL
    assert max(steps(workdir)) == STEPS
    assert not (workdir / "summary.json").exists()
    again = start(workdir)
    assert again.wait() == 0, again.log()
    assert_same(left(workdir), left(undisturbed))
    assert "damaged" not in again.log() and "Traceback" not in again.log()
