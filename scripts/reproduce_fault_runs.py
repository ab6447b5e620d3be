"""Runs of the command line that can be stopped, and what they leave.

Used by `reproduce_faults`.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple
import zlib

import numpy as np
import reproduce_devices

from jaxedge.models import arrays
from jaxedge.run import loop, metrics, workdir

# Seconds after which a process that does not end is a finding.
PATIENCE = 3600.0
# What is known of an undisturbed run.
NOTE = "whole.json"
# Columns of metrics that tell of a clock.
_CLOCK = ("seconds", "time", "images_per_second", "examples_per_second")
# What the names of arrays of a study begin with that do.
_RATE = "rate/"


class Place(NamedTuple):
    """Where a recipe runs.

    Attributes:
        recipe: its name.
        folder: of all its runs.
        flags: of the command line beyond those of the case.
    """

    recipe: str
    folder: Path
    flags: Sequence[str]

    @property
    def whole(self) -> Path:
        """The undisturbed run."""
        return self.folder / "whole"


class Process:
    """A `jaxedge run`.

    Args:
        command: of the run.
        log: where it writes what it says.
        most: bytes that a file may have; None is no limit.
        env: its environment; None is this one.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        most: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._log, self._from = log, log.stat().st_size if log.exists() else 0
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

        def limit() -> None:
            if most is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))

        # What it says goes through a pipe: its own log may not grow, either.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=limit, env=env,
        )  # fmt: skip
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def status(self) -> int | None:
        """Of its end; None while it runs."""
        self._drain()
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its status, once it has ended."""
        limit = time.monotonic() + PATIENCE
        while (status := self.status()) is None:
            if time.monotonic() > limit:
                raise RuntimeError(f"a run does not end, see {self._log}")
            time.sleep(0.02)
        self._drain()
        return status

    def said(self) -> str:
        """All that it wrote to the console."""
        content = self._log.read_bytes()[self._from :]
        return content.decode("utf-8", "replace")

    def end(self) -> None:
        """Leaves nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _drain(self) -> None:
        assert self._process.stdout is not None
        while part := self._process.stdout.read1(1 << 16):  # type: ignore
            with self._log.open("ab") as file:
                file.write(part)


@contextlib.contextmanager
def started(
    place: Place,
    at: Path,
    most: int | None = None,
    more: Sequence[str] = (),
    devices: int = 1,
) -> Iterator[Process]:
    """A run in a workdir, which does not outlive the block.

    Args:
        place: of the recipe.
        at: the workdir.
        most: as of `Process`.
        more: flags.
        devices: of the process.
    """
    case = reproduce_devices.CASES[place.recipe]
    command = [sys.executable, "-m", "jaxedge", "run"]
    command += [f"--config={case.config}", *case.flags]
    command += [*reproduce_devices.STUDY, *place.flags, *more]
    env = dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices))
    log = at.with_suffix(".log")
    process = Process([*command, f"--workdir={at}"], log, most, env)
    try:
        yield process
    finally:
        process.end()


def whole(place: Place, stop: loop.Stop) -> float:
    """Seconds of an undisturbed run whose programs were compiled before.

    The folder has a note of what the second run left otherwise than the first.

    Raises:
        RuntimeError: if it fails.
    """
    note = place.folder / NOTE
    if note.exists():
        return json.loads(note.read_text("utf-8"))["seconds"]
    seconds = 0.0
    for name in (place.whole.name, "again"):
        look(stop, place)
        at = fresh(place, name)
        begun = time.monotonic()
        with started(place, at) as process:
            if process.wait():
                raise RuntimeError(f"{at} failed: {process.said()[-2000:]}")
        seconds = time.monotonic() - begun
    faults = differences(place.whole, place.folder / "again")
    workdir.write_json(note, {"seconds": round(seconds, 2), "faults": faults})
    return seconds


def fresh(place: Place, name: str) -> Path:
    """A workdir that does not exist; what a stopped call left there goes."""
    at = place.folder / name
    shutil.rmtree(at, ignore_errors=True)
    at.with_suffix(".log").unlink(missing_ok=True)
    place.folder.mkdir(parents=True, exist_ok=True)
    return at


def look(stop: loop.Stop, place: Place) -> None:
    if stop.asked:
        raise loop.Preempted(f"stopped at {place.recipe}")


def drawn(*words: object) -> np.random.Generator:
    """Numbers of a fault, the same at every call."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


# What is compared.


def point(at: Path) -> str:
    """How far a run has come, by the files of its workdir."""
    if (at / "report.html").exists():
        return "done"
    if (at / "study.npz").exists():
        return "report"
    if any((at / "studies").rglob("*.jsonl")):
        return "chips"
    if (at / arrays.FILE).exists():
        return "test"
    step = _step(at / "metrics.jsonl")
    if step is not None:
        return f"step {step}"
    return "training" if (at / "config.json").exists() else "start"


def _step(path: Path) -> int | None:
    """Of the last row that is whole."""
    if not path.is_file():
        return None
    rows = metrics.read(path)
    return rows[-1]["step"] if rows else None


def differences(whole: Path, at: Path) -> list[str]:
    """In what a run differs from another.

    Args:
        whole: workdir of a run.
        at: of the same run, that was disturbed.

    Returns:
        Names of arrays of the network and of the study whose bits are not the
        same, and rows of metrics that are not, each but for times and rates;
        none if the runs are equal.
    """
    faults = []
    for name in (arrays.FILE, "study.npz"):
        ours, theirs = _bits(at / name), _bits(whole / name)
        faults += [
            f"{name}: {key}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
    ours, theirs = (_rows(p / "metrics.jsonl") for p in (at, whole))
    if len(ours) != len(theirs):
        faults.append(f"metrics: {len(ours)} rows for {len(theirs)}")
    faults += [
        f"metrics: row {i}"
        for i, pair in enumerate(zip(ours, theirs, strict=False))
        if pair[0] != pair[1]
    ]
    return faults


def _bits(path: Path) -> dict[str, tuple[Any, ...]]:
    """Every array as type, shape and bytes; nothing where there is no file."""
    if not path.is_file():
        return {}
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    return {
        name: (str(a.dtype), a.shape, a.tobytes())
        for name, a in found.items()
        if not name.startswith(_RATE)
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [
        {key: value for key, value in row.items() if key not in _CLOCK}
        for row in metrics.read(path)
    ]


def damage(at: Path, rng: np.random.Generator) -> list[str]:
    """Spoils some files of checkpoints and of scores of chips.

    Args:
        at: a workdir.
        rng: which, and how.

    Returns:
        What was done.
    """
    places = (at / "checkpoints", at / "studies")
    files = sorted(p for top in places for p in top.rglob("*") if p.is_file())
    files = [p for p in files if p.stat().st_size]
    chosen = rng.permutation(len(files))[: int(rng.integers(1, 4))]
    done = []
    for i in chosen:
        content = bytearray(files[i].read_bytes())
        if rng.random() < 0.5:
            kind = "cut"
            content = content[: int(rng.integers(len(content)))]
        else:
            kind = "flipped"
            for _ in range(int(rng.integers(1, 9))):
                bit = int(rng.integers(8 * len(content)))
                content[bit // 8] ^= 1 << bit % 8
        files[i].write_bytes(content)
        done.append(f"{kind} {files[i].relative_to(at).parts[0]}")
    return done


__all__ = [
    "Place",
    "Process",
    "damage",
    "differences",
    "drawn",
    "fresh",
    "look",
    "point",
    "started",
    "whole",
]
