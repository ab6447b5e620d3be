"""Runs that are killed, cut short and damaged; called by `scripts/reproduce`.

`faults` stops a small run of every recipe (those of `reproduce_devices`) at
random moments, by SIGKILL or SIGTERM, and starts it again, until it ends: what
it leaves has to be what an undisturbed run leaves, to the bit. Likewise where
the disk is full, where checkpoints are damaged in between, and where one of two
processes is lost. `fuzz` reads damaged files, see `reproduce_fuzz`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import shutil
import signal
import socket
import sys
import time
from typing import Any

import numpy as np
import reproduce_devices
import reproduce_fault_runs as runs
import reproduce_fuzz

from jaxedge.run import loop, workdir

NAME = "faults"
ENTRIES = (NAME, reproduce_fuzz.NAME)
# Of all kills, SIGTERM; others are SIGKILL.
TERMS = 0.25
# Kills of one run, at most; after them it is left to end.
MOST = 3
# Of each recipe: runs on a disk that is full, and with damaged checkpoints.
FULL, DAMAGED = 2, 3
_SAME = "same"
# What a run writes at its end.
_LAST = "report.html"
# The recipe of which one of two processes is lost, and a config that reads a
# table, with its place below the root of data sets.
_SHARED = "classifier"
_CONFIG, _TABLE = "configs/feal.py:heart", "uci_heart_4sites/heart_disease.csv"
# What a run says that it stops for, or goes on without.
_WORDS = ("error:", "the same command goes on", "damaged", "stopped at")


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All faults, or all damaged files; goes on where it was stopped.

    Args:
        name: of `ENTRIES`.
        seeds: not looked at: a fault is that of its number.
        rest: `--kills=N` in all, 200 unless given; `--only=A,B`, which keeps
            these recipes or readers; `--inputs=N` of "fuzz"; `--data_root`.
        folder: where the runs are kept.
        stop: looked at before every run.

    Returns:
        "kills", a row a signal; "others", a row a fault of another kind. Each
        has its recipe, the point at which it came and the outcome.
    """
    if name == reproduce_fuzz.NAME:
        return reproduce_fuzz.reproduce(seeds, rest, folder, stop)
    given = dict(a[2:].split("=", 1) for a in rest if "=" in a)
    only = set(filter(None, given.get("only", "").split(",")))
    own = ("--kills=", "--only=", "--inputs=")
    flags = [a for a in rest if not a.startswith(own)]
    recipes = [r for r in reproduce_devices.CASES if not only or r in only]
    kills = int(given.get("kills", 200))
    rows, others = [], []
    for i, recipe in enumerate(recipes):
        place = runs.Place(recipe, folder / recipe, flags)
        share = kills // len(recipes) + (i < kills % len(recipes))
        rows += _killed(place, share, stop)
        others += _others(place, stop)
    others += _elsewhere(folder, flags, stop)
    return {"kills": rows, "others": others}


def _killed(
    place: runs.Place, share: int, stop: loop.Stop
) -> list[dict[str, Any]]:
    """As many kills of a recipe, in as many runs as it takes."""
    rows: list[dict[str, Any]] = []
    number = early = 0
    while len(rows) < share:
        most = min(MOST, share - len(rows))
        path = place.folder / f"kill-{number}-{most}.json"
        if not path.exists():
            runs.look(stop, place)
            print(f"{NAME}: {place.recipe}, kill {len(rows)}", flush=True)
            seconds = runs.whole(place, stop)
            # A machine that does less else than it did ends sooner.
            found = _chain(place, number, most, seconds / 2**early)
            workdir.write_json(path, {"kills": found})
        found = json.loads(path.read_text("utf-8"))["kills"]
        rows += found
        number, early = number + 1, 0 if found else early + 1
        if number > 4 * share + 8:
            raise RuntimeError(f"{place.recipe} ends before it can be killed")
    return rows


def _chain(
    place: runs.Place, number: int, most: int, seconds: float
) -> list[dict[str, Any]]:
    """A run that is killed, and again, until it ends."""
    rng = runs.drawn(place.recipe, "kill", number)
    at = runs.fresh(place, f"kill-{number}")
    rows = []
    going = True
    status = None
    while going and len(rows) < most:
        term = rng.random() < TERMS
        sent = signal.SIGTERM if term else signal.SIGKILL
        delay = float(rng.uniform(0, seconds))
        with runs.started(place, at) as process:
            came, before = _sent(process, at, sent, delay)
            status = process.wait()
        if came:
            rows.append(
                {
                    "recipe": place.recipe,
                    "run": number,
                    "signal": sent.name,
                    "delay": round(delay, 2),
                    "point": before,
                }
            )
        # SIGTERM before anybody listens ends a process as SIGKILL does.
        stopped = status in (-sent, 0) and not (at / _LAST).exists()
        going = came and stopped
    outcome = _ended(place, at, None if going else status)
    return [row | {"outcome": outcome} for row in rows]


def _sent(
    process: runs.Process, at: Path, sent: signal.Signals, delay: float
) -> tuple[bool, str]:
    """Sends a signal after a while.

    Returns:
        Whether it came before the end; and where the run was.
    """
    limit = time.monotonic() + delay
    while time.monotonic() < limit and process.status() is None:
        time.sleep(0.01)
    before, came = runs.point(at), process.status() is None
    if came:
        process.send(sent)
    return came, before


def _ended(place: runs.Place, at: Path, status: int | None) -> str:
    """Lets a run go on to its end, and says what it left."""
    if status is None:
        with runs.started(place, at) as process:
            status = process.wait()
            said = process.said()
    else:
        said = f"ended with {status}"
    if status:
        return f"failed ({status}): {said[-300:]}"
    faults = runs.differences(place.whole, at)
    if not faults:
        shutil.rmtree(at)
        return _SAME
    return "; ".join(faults[:3])


# Other faults.


def _elsewhere(
    folder: Path, flags: Sequence[str], stop: loop.Stop
) -> list[dict[str, Any]]:
    """What does not depend on the recipe."""
    rows = []
    for fault, run in (
        ("lost process", _lost),
        ("NaN in the data", _with_nan),
        ("data cut short", _cut_short),
    ):
        path = folder / f"{fault.replace(' ', '-')}.json"
        if not path.exists():
            place = runs.Place(_SHARED, folder / "elsewhere", flags)
            runs.look(stop, place)
            print(f"{NAME}: {fault}", flush=True)
            row = {"recipe": _SHARED, "fault": fault}
            workdir.write_json(path, row | run(place))
        rows.append(json.loads(path.read_text("utf-8")))
    clock = "skipped: it needs a clock of its own, as faketime gives"
    row = {"recipe": "all", "fault": "clock set back", "point": "-"}
    return [*rows, row | {"said": "-", "outcome": clock}]


def _lost(place: runs.Place) -> dict[str, Any]:
    """One of two processes is killed; both begin again."""
    with _two(place, runs.fresh(place, place.whole.name)) as both:
        begun = time.monotonic()
        if any(_all_of(both)):
            raise RuntimeError(f"two processes failed: {both[0].said()}")
        seconds = time.monotonic() - begun
    at = runs.fresh(place, "lost")
    with _two(place, at) as both:
        delay = runs.drawn("lost").uniform(0.5, 1) * seconds
        _, before = _sent(both[1], at, signal.SIGKILL, float(delay))
        left = _all_of(both)[0]
        said = both[0].said()
    with _two(place, at) as both:
        status = _all_of(both)
    faults = runs.differences(place.whole, at)
    outcome = "; ".join(faults[:3]) or _SAME
    return {
        "point": before,
        "said": f"the other ended with {left}: {_word(said) or said[-120:]}",
        "clear": left != 0 or before == "done",
        "outcome": f"failed ({status})" if any(status) else outcome,
    }


def _all_of(both: Sequence[runs.Process]) -> list[int]:
    """Their status; what any of them says is read meanwhile."""
    while None in [process.status() for process in both]:
        time.sleep(0.02)
    return [process.wait() for process in both]


@contextlib.contextmanager
def _two(place: runs.Place, at: Path) -> Iterator[list[runs.Process]]:
    """A run of two processes of two devices each."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                runs.started(
                    place, at, None,
                    (
                        "--config.train.devices=all",
                        f"--distributed=localhost:{port},{i},2",
                    ),
                    devices=2,
                )
            )
            for i in range(2)
        ]  # fmt: skip


def _with_nan(place: runs.Place) -> dict[str, Any]:
    return _of_table(place, lambda rows: [*rows[:9], _nan(rows[9]), *rows[10:]])


def _nan(row: str) -> str:
    cells = row.split(",")
    return ",".join([*cells[:4], "nan", *cells[5:]])


def _cut_short(place: runs.Place) -> dict[str, Any]:
    return _of_table(place, lambda rows: [*rows[:9], rows[9][:12]])


def _of_table(
    place: runs.Place, spoil: Callable[[list[str]], list[str]]
) -> dict[str, Any]:
    """A run on a spoilt table, that has to be refused before it begins."""
    given = [a.partition("=")[2] for a in place.flags if "data_root" in a]
    root = Path((given or [os.environ.get("JAXEDGE_DATA", "")])[-1])
    table = root / _TABLE
    row = {"point": "start", "said": "-"}
    if not table.is_file():
        return row | {"outcome": f"skipped: no {_TABLE}; give --data_root"}
    at = runs.fresh(place, "spoilt")
    (place.folder / "data" / _TABLE).parent.mkdir(parents=True, exist_ok=True)
    rows = table.read_text("utf-8").splitlines()
    text = "\n".join(spoil(rows)) + "\n"
    (place.folder / "data" / _TABLE).write_text(text, "utf-8")
    command = [sys.executable, "-m", "jaxedge", "run", f"--workdir={at}"]
    command += [f"--config={_CONFIG}", f"--data_root={place.folder / 'data'}"]
    process = runs.Process(command, at.with_suffix(".log"))
    try:
        status = process.wait()
    finally:
        process.end()
    said = process.said()
    refused = status == 2 and "Traceback" not in said and not at.exists()
    return {
        **row,
        "said": _word(said),
        "clear": refused,
        "outcome": "refused" if refused else f"ended with {status}",
    }


def _others(place: runs.Place, stop: loop.Stop) -> list[dict[str, Any]]:
    kinds: list[tuple[str, int, Callable[..., dict[str, Any]]]] = [
        ("full disk", FULL, _full),
        ("damaged checkpoint", DAMAGED, _damaged),
    ]
    runs.whole(place, stop)
    note = json.loads((place.folder / runs.NOTE).read_text("utf-8"))
    again = "; ".join(note["faults"][:3]) or _SAME
    row = {"recipe": place.recipe, "fault": "none, run twice", "point": "-"}
    rows: list[dict[str, Any]] = [row | {"said": "-", "outcome": again}]
    for fault, count, run in kinds:
        for number in range(count):
            name = f"{fault.replace(' ', '-')}-{number}"
            path = place.folder / f"{name}.json"
            if not path.exists():
                runs.look(stop, place)
                print(f"{NAME}: {place.recipe}, {fault} {number}", flush=True)
                seconds = runs.whole(place, stop)
                rng = runs.drawn(place.recipe, fault, number)
                at = runs.fresh(place, name)
                row = {"recipe": place.recipe, "fault": fault}
                workdir.write_json(path, row | run(place, at, rng, seconds))
            rows.append(json.loads(path.read_text("utf-8")))
    return rows


def _full(
    place: runs.Place, at: Path, rng: np.random.Generator, seconds: float
) -> dict[str, Any]:
    """No file may be larger than some bytes, and then any may."""
    del seconds
    files = [p.stat().st_size for p in place.whole.rglob("*") if p.is_file()]
    most = int(np.exp(rng.uniform(np.log(256), np.log(max(*files, 512)))))
    with runs.started(place, at, most) as process:
        status = process.wait()
        said = process.said()
    clear = status == 0 or ("Traceback" not in said and bool(_word(said)))
    return {
        "point": f"{most:,} bytes a file; {runs.point(at)}",
        "said": _word(said) or said[-200:],
        "clear": clear,
        "outcome": _ended(place, at, None),
    }


def _damaged(
    place: runs.Place, at: Path, rng: np.random.Generator, seconds: float
) -> dict[str, Any]:
    """Killed, and what it had saved is damaged before it goes on."""
    with runs.started(place, at) as process:
        delay = float(rng.uniform(0.4, 1) * seconds)
        _, before = _sent(process, at, signal.SIGKILL, delay)
        process.wait()
    spoilt = runs.damage(at, rng)
    with runs.started(place, at) as process:
        status = process.wait()
        said = process.said()
    outcome = _ended(place, at, status) if not status else _mended(place, at)
    return {
        "point": f"{before}; {', '.join(spoilt) or 'nothing to damage'}",
        "said": _word(said),
        "clear": status == 0 or bool(_word(said)),
        "outcome": outcome,
    }


def _mended(place: runs.Place, at: Path) -> str:
    """What it was told to do: to begin anew."""
    shutil.rmtree(at)
    return f"{_ended(place, at, None)}, anew"


def _word(said: str) -> str:
    """The last line that tells what is the matter."""
    lines = [line for line in said.splitlines() if any(map(line.count, _WORDS))]
    return lines[-1][:200] if lines else ""


# The page.


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    if name == reproduce_fuzz.NAME:
        return reproduce_fuzz.page(content)
    kills, others = content["kills"], content["others"]
    same = sum(row["outcome"] == _SAME for row in kills)
    lines = [
        f"{len(kills)} signals to small runs of every recipe, each at a moment"
        " drawn evenly over an undisturbed run; the run was started again, and"
        f" at times stopped again, until it ended. After {same} of them it left"
        " the network, the scores of all chips and the metrics of an"
        " undisturbed run, to the bit.",
        "",
        "| recipe | SIGKILL | SIGTERM | start | training | test, chips, report"
        " | same |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for recipe in dict.fromkeys(row["recipe"] for row in kills):
        own = [row for row in kills if row["recipe"] == recipe]
        cells = [
            sum(row["signal"] == s for row in own)
            for s in ("SIGKILL", "SIGTERM")
        ]
        stages = [_stage(row["point"]) for row in own]
        cells += [stages.count(s) for s in ("start", "training", "after")]
        cells.append(sum(row["outcome"] == _SAME for row in own))
        lines.append(f"| `{recipe}` | {' | '.join(map(str, cells))} |")
    lines += ["", "| recipe | fault | at | said | outcome |"]
    lines.append("|---|---|---|---|---|")
    for row in others:
        cells = [row[k] for k in ("fault", "point", "said", "outcome")]
        if not row.get("clear", True):
            cells[2] = f"**unclear**: {cells[2]}"
        shown = [" ".join(c.split()).replace("|", "\\|") for c in cells]
        lines.append(f"| `{row['recipe']}` | {' | '.join(shown)} |")
    wrong = [row for row in kills if row["outcome"] != _SAME]
    if wrong:
        lines += ["", "| recipe | signal | at | outcome |", "|---|---|---|---|"]
    for row in wrong:
        cells = [row[k] for k in ("signal", "point", "outcome")]
        shown = [" ".join(c.split()).replace("|", "\\|") for c in cells]
        lines.append(f"| `{row['recipe']}` | {' | '.join(shown)} |")
    return lines


def _stage(where: str) -> str:
    if where == "start":
        return "start"
    return "training" if where.startswith(("training", "step")) else "after"


__all__ = ["ENTRIES", "page", "reproduce"]
