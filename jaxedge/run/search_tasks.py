"""Processes of a sweep: what is started, and a lock that outlives who started.

A process holds the lock of its run until it ends, also when whoever started it
was killed: a second process in the same workdir would spoil what the first one
writes.
"""

from collections.abc import Mapping, Sequence
import contextlib
import os
from pathlib import Path
import subprocess
from typing import IO, NamedTuple, Protocol

from jaxedge.run import search_plan


class Task(NamedTuple):
    """A run as a process; can be sent to another machine.

    Attributes:
        folder: its workdir.
        argv: the command.
        cwd: where it is started.
        log: takes its output, after what is there.
        env: variables beside those of the process that starts it.
        stop: a file that, once it is there, tells it to save and end.
    """

    folder: Path
    argv: Sequence[str]
    cwd: Path
    log: Path
    env: Mapping[str, str]
    stop: Path


class Handle(Protocol):
    """A task that was started."""

    def poll(self) -> int | None:
        """Its exit status; None while it is at work."""
        ...


class Engine(Protocol):
    """Something that runs tasks."""

    def start(self, task: Task) -> Handle:
        """Starts a task, or waits for the one that has its lock."""
        ...

    def stop(self) -> None:
        """Tells all that is at work to save and end."""
        ...

    def close(self) -> None:
        """Gives back what the engine holds."""
        ...


def take(task: Task, wait: bool = False) -> IO[str] | None:
    """The lock of a task; None if another process has it and none waits."""
    import fcntl

    file = task.log.with_suffix(".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # A file system without locks.
        pass
    return file


def launch(task: Task, lock: IO[str]) -> subprocess.Popen:
    """Starts the process of a task, which keeps the lock until it ends."""
    with task.log.open("ab") as log:
        process = subprocess.Popen(
            list(task.argv),
            cwd=task.cwd,
            env={**os.environ, **task.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the sweep, which tells the process to save.
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
    lock.seek(0)
    lock.truncate()
    lock.write(str(process.pid))
    lock.flush()
    return process


def holder(task: Task) -> int | None:
    """The process that has the lock of a task, as it was noted."""
    path = task.log.with_suffix(".lock")
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="utf-8"))
    return None


def execute(task: Task) -> int:
    """Runs a task here, to its end; its exit status.

    Whoever has its lock comes first; what is finished then is not run again.
    """
    # A task may come to a machine that has not seen the folder yet.
    task.log.parent.mkdir(parents=True, exist_ok=True)
    lock = take(task, wait=True)
    assert lock is not None
    with lock:
        if task.stop.exists() or search_plan.finished(task.folder):
            return 0
        process = launch(task, lock)
        told = False
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if not told and task.stop.exists():
                    process.terminate()
                    told = True
            except BaseException:
                # The engine ends this process: its child saves first.
                process.terminate()
                process.wait()
                raise
