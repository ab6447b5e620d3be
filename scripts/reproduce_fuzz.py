"""Damaged files before every reader; called by `reproduce_faults`.

A small sound file of each format (`reproduce_fuzz_readers`) is damaged by a
seed and read, in a process that has little memory and little time. A reader may
refuse it by a `UsageError`, or read what is still legal; another exception, a
crash, a hang, or a result that its contract excludes is a finding.

    echo '{"name": READER, "first": 7, "count": 1, "folder": DIR}' |
        python scripts/reproduce_fuzz.py

reads that input again, and says what became of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import json
import logging
import os
from pathlib import Path
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Literal, NamedTuple
import warnings

import numpy as np
import reproduce_fuzz_damage as damage
import reproduce_fuzz_readers as readers

from jaxedge.core import checks
from jaxedge.run import loop, workdir

NAME = "fuzz"
# Of a process beyond what it has once all is imported, bytes; of an input, in
# seconds of its own, and of as many as a process reads, by the clock.
MEMORY, SECONDS, PATIENCE = 2 << 30, 10.0, 1800.0
# What may become of an input.
_LEGAL = ("refused", "read")
# Inputs a process.
_BLOCK = 2_500


class Hung(BaseException):
    """An input took too long; no reader's `except Exception` hides it."""


def outcome(read: Callable[[], Any], seconds: float = SECONDS) -> str:
    """What became of one input.

    Args:
        read: reads it, and checks what it got.
        seconds: of this process, that it may take.

    Returns:
        "refused", "read", or the finding.
    """
    try:
        with _limited(seconds):
            read()
    except checks.UsageError as error:
        return "refused" if "\n" not in str(error) else f"lines: {error!r}"
    except readers.Accepted as error:
        return f"accepted: {error}"
    except Hung:
        return f"more than {seconds:g} s"
    except BaseException as error:  # noqa: BLE001 - it is what is looked for
        last = traceback.extract_tb(error.__traceback__)
        own = [f for f in last if "jaxedge" in f.filename] or last
        place = f"{Path(own[-1].filename).name}:{own[-1].name}"
        return f"{type(error).__name__} in {place}: {str(error)[:160]}"
    return "read"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises `Hung` in a block that computes for longer."""

    def ring(number: int, frame: Any) -> None:
        del number, frame
        raise Hung

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def worker(name: str, first: int, count: int, folder: Path) -> None:
    """Reads inputs, and prints a line of JSON for each that is a finding."""
    reader = readers.READERS[name]
    logging.disable()
    warnings.simplefilter("ignore")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = reader.make(folder)
    sound = [path.read_bytes() for path in files]
    reader.read(folder)  # It is, and all is imported.
    _bound()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # What libraries say.
    # Not through the pipe: a process for each input would be woken.
    told = _counts(folder, "w+")
    for number in range(first, first + count):
        told[0] = number
        given = damage.made(name, number, sound)
        files[given.file].write_bytes(given.content)
        found = outcome(lambda: reader.read(folder))
        files[given.file].write_bytes(sound[given.file])
        if found in _LEGAL:
            told[_LEGAL.index(found) + 1] += 1
        else:
            _say({"number": number, "fault": found})


def _counts(folder: Path, mode: Literal["w+", "r"]) -> np.ndarray:
    """The input under way, and how many were refused and read, beside it."""
    path = folder.with_suffix(".counts")
    return np.memmap(path, np.int64, mode, shape=(1 + len(_LEGAL),))


def _bound() -> None:
    """No more memory than what is in use now and a little."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _say(row: Mapping[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def serve(jobs: Iterator[str]) -> None:
    """Does what it is asked for, each in a copy of this process.

    So that all is imported once, and a reader that ends the process ends no
    more than that.

    Args:
        jobs: lines of JSON, the arguments of `worker`.
    """
    for line in jobs:
        job = json.loads(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX has no threads yet.
            child = os.fork()
        if not child:
            _work(job)
        limit = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > limit:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)
        _say({"ended": os.waitstatus_to_exitcode(ended[1])})


def _work(job: Mapping[str, Any]) -> None:
    """A whole process."""
    status = 1
    try:
        worker(**{**job, "folder": Path(job["folder"])})
        status = 0
    except BaseException:  # noqa: BLE001 - the copy must not go on as this
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


# All of them.


def reproduce(
    seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All readers; goes on where it was stopped.

    Args:
        seeds: not looked at: the inputs are those of their numbers.
        rest: `--inputs=N`, of each reader, 10,000 unless given; and
            `--only=A,B`, which keeps these readers.
        folder: where what is done is kept.
        stop: looked at before every block of inputs.

    Returns:
        "readers", a row a reader: inputs, how many were refused and read, and
        the findings by number; the same finding is listed once.
    """
    del seeds
    given = dict(a[2:].split("=", 1) for a in rest if "=" in a)
    inputs = int(given.get("inputs", 10_000))
    only = set(filter(None, given.get("only", "").split(",")))
    with contextlib.closing(Server(folder / ".inputs")) as server:
        rows = [
            _row(server, name, inputs, folder, stop)
            for name in readers.READERS
            if not only or name in only
        ]
    return {"readers": rows}


def _row(
    server: "Server", name: str, inputs: int, folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """One reader."""
    row = {"reader": name, "inputs": 0, "refused": 0, "read": 0}
    findings: dict[str, Any] = {}
    for first in range(0, inputs, _BLOCK):
        count = min(_BLOCK, inputs - first)
        path = folder / f"{name.replace(' ', '-')}-{first}-{count}.json"
        if not path.exists():
            if stop.asked:
                raise loop.Preempted(f"stopped before {name}, {first}")
            print(f"{NAME}: {name} {first}", flush=True)
            workdir.write_json(path, _block(server, name, first, count))
        found = json.loads(path.read_text("utf-8"))
        for key in ("inputs", "refused", "read"):
            row[key] += found[key]
        for one in found["findings"]:
            same = findings.setdefault(_alike(one["fault"]), dict(one))
            same["times"] = same.get("times", 0) + 1
    return row | {"findings": [*findings.values()]}


def _alike(fault: str) -> str:
    """Without numbers and quotations, which differ from input to input."""
    return re.sub(r"\d+|'[^']*'|\"[^\"]*\"|\(.*", "", fault)[:80]


class Done(NamedTuple):
    """What a process did.

    Attributes:
        findings: number and fault.
        status: of its end.
        last: the last input that it began.
        refused: how many of the others were.
        read: likewise.
    """

    findings: list[dict[str, Any]]
    status: int
    last: int
    refused: int
    read: int


class Server:
    """A process of `serve`, which begins with the first job.

    Args:
        folder: of the files that are read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._process = folder, None

    def ask(self, name: str, first: int, count: int) -> "Done":
        """Some inputs, or as many as come before the process ends."""
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=pipe, stdout=pipe, text=True
            )
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        _counts(self._folder, "w+")[0] = -1
        job = {"name": name, "first": first, "count": count}
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None
        into.write(json.dumps(job | {"folder": str(self._folder)}) + "\n")
        into.flush()
        findings = []
        for line in out:
            row: Any = None
            with contextlib.suppress(ValueError):  # A library prints, too.
                row = json.loads(line)
            if isinstance(row, dict) and "fault" in row:
                findings.append(row)
            if isinstance(row, dict) and "ended" in row:
                numbers = _counts(self._folder, "r").tolist()
                return Done(findings, row["ended"], *numbers)
        raise RuntimeError("the readers cannot be imported")

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.with_suffix(".counts").unlink(missing_ok=True)


def _block(server: Server, name: str, first: int, count: int) -> dict[str, Any]:
    """Some inputs; what ends the process is a finding, and another goes on."""
    row = {"inputs": count, "refused": 0, "read": 0}
    findings, end = [], first + count
    while first < end:
        done = server.ask(name, first, end - first)
        if done.last < first:
            raise RuntimeError(f"the file of {name} is not sound")
        findings += done.findings
        row["refused"] += done.refused
        row["read"] += done.read
        first = done.last + 1
        if done.status:
            fault = f"the process ended with {done.status}"
            findings.append({"number": done.last, "fault": fault})
    return row | {"findings": findings}


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    rows = content["readers"]
    total = sum(row["inputs"] for row in rows)
    lines = [
        f"{total:,} damaged files: bits flipped, blocks cut off, left out,"
        " repeated or swapped, numbers and words replaced by extreme ones, in"
        " packed files most often before packing. A file is refused by a"
        " message that names it, or is read if what it holds is still legal. A"
        " finding is anything else.",
        "",
        "| reader | inputs | refused | read | findings |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        times = sum(one["times"] for one in row["findings"])
        numbers = (row["inputs"], row["refused"], row["read"], times)
        lines.append(
            f"| {row['reader']} | {' | '.join(f'{n:,}' for n in numbers)} |"
        )
    odd = [(row["reader"], one) for row in rows for one in row["findings"]]
    if odd:
        lines += [
            "",
            "| reader | input | times | finding |",
            "|---|--:|--:|---|",
        ]
    for name, one in odd:
        text = " ".join(one["fault"].split()).replace("|", "\\|")
        lines.append(f"| {name} | {one['number']} | {one['times']} | {text} |")
    return lines


__all__ = ["outcome", "page", "reproduce", "serve"]

if __name__ == "__main__":
    serve(sys.stdin)
