"""Runs of a sweep as processes of this machine, which share its cores."""

from collections.abc import Mapping, Sequence
import contextlib
import os
import signal
import subprocess

from jaxedge.core import checks
from jaxedge.run import search_plan, search_tasks
from jaxedge.run.search_tasks import Task

# Of the memory of an accelerator, what JAX takes by itself.
_MEMORY = 0.75


class Local:
    """Some processes at once, each with a share of cores and accelerators.

    Args:
        jobs: how many, at least 1.
    """

    def __init__(self, jobs: int):
        checks.whole("--jobs", jobs, 1)
        self._jobs = jobs
        self._taken: dict[int, subprocess.Popen] = {}
        self._waiting: list[_Waiting] = []
        self.stopping = False

    def start(self, task: Task) -> search_tasks.Handle:
        """Starts a task, or waits for the process that has its lock."""
        lock = search_tasks.take(task)
        if lock is None:
            self._waiting.append(_Waiting(self, task))
            return self._waiting[-1]
        free = (
            slot
            for slot in range(self._jobs)
            if slot not in self._taken or self._taken[slot].poll() is not None
        )
        slot = next(free)
        env = {**surroundings(slot, self._jobs, os.environ), **task.env}
        with lock:  # The process has it too, and keeps it.
            process = search_tasks.launch(task._replace(env=env), lock)
        with contextlib.suppress(OSError, AttributeError):
            mine = cores(slot, self._jobs, sorted(os.sched_getaffinity(0)))
            os.sched_setaffinity(process.pid, mine)
        self._taken[slot] = process
        return process

    def stop(self) -> None:
        """Sends SIGTERM: to processes of its own, and those it waits for."""
        self.stopping = True
        for process in self._taken.values():
            if process.poll() is None:
                process.terminate()
        for other in self._waiting:
            pid = search_tasks.holder(other.task)
            if pid is not None and other.held():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """Tells what is left to save and end."""
        self.stop()


class _Waiting:
    """A run that a process of an earlier sweep has: its turn comes after."""

    def __init__(self, engine: Local, task: Task):
        self._engine, self.task = engine, task
        self._own: search_tasks.Handle | None = None

    def poll(self) -> int | None:
        """0 when the other has finished it; else the status of its own."""
        if self._own is not None:
            return self._own.poll()
        if self.held():
            return None
        if self._engine.stopping or search_plan.finished(self.task.folder):
            return 0
        self._own = self._engine.start(self.task)
        return None

    def held(self) -> bool:
        """Whether the other process is at work."""
        lock = search_tasks.take(self.task)
        if lock is not None:
            lock.close()
        return lock is None


def cores(slot: int, jobs: int, known: Sequence[int]) -> list[int]:
    """The cores of one of `jobs` processes: equal shares, none without one."""
    if jobs >= len(known):
        return [known[slot % len(known)]]
    size = len(known) / jobs
    return list(known[round(slot * size) : round((slot + 1) * size)])


def surroundings(
    slot: int, jobs: int, known: Mapping[str, str]
) -> dict[str, str]:
    """Variables by which processes share accelerators.

    Each has its own of those that CUDA_VISIBLE_DEVICES names, if they suffice;
    else all share the memory of one. What the user has set stays.

    Args:
        slot: which process, from 0.
        jobs: how many there are at once.
        known: the variables of this process.
    """
    if jobs == 1:
        return {}
    devices = [
        device
        for device in known.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if device
    ]
    if len(devices) >= jobs:
        return {"CUDA_VISIBLE_DEVICES": ",".join(devices[slot::jobs])}
    name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    return {} if name in known else {name: f"{_MEMORY / jobs:.3f}"}
