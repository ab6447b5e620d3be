"""One device, many, and many processes; called by `scripts/reproduce`.

`devices` runs a small config of every recipe four times: on one CPU device; on
eight, of which one trains; on eight that share every batch; and in two
processes of two devices each, which do too. Draws are the same on all of them;
sums may be rounded otherwise, and the table tells how far that goes.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
from reproduce_tables import only

from jaxedge.models import arrays
from jaxedge.run import loop, results

NAME = "devices"
ENTRIES = (NAME,)
STUDY = (
    "--config.study=",
    "--config.chips.n=8",
    "--config.chips.sweep=0",
    "--config.chips.chunk=8",
)
# Seconds of a run, at most.
_LONGEST = 3600
_STEPS = ("--config.train.epochs=1", "--config.train.batch=32")


class Case(NamedTuple):
    """A recipe.

    Attributes:
        config: a small one of it.
        flags: what differs from it.
        shares: whether its batches can be shared.
    """

    config: str
    flags: tuple[str, ...] = _STEPS
    shares: bool = True


CASES: Mapping[str, Case] = {
    "classifier": Case("configs/sram.py:quick"),
    "edge_pruning": Case("configs/edge_pruning.py:quick"),
    "in_memory": Case("configs/in_memory.py:quick"),
    "deplm": Case(
        "configs/deplm.py:quick", ("--config.train.batch=96",), shares=False
    ),
    "language": Case("configs/language.py:quick", ()),
    "quantization_aware": Case("configs/coreset_qat.py:quick"),
    "federated": Case("configs/matrix.py:learn=federated,size=small", ()),
    "ridl": Case(
        "configs/ridl.py:quick",
        ("--config.train.epochs=1", "--config.train.batch=8"),
    ),
    "sequential_gan": Case("configs/sequential_gan.py:quick", ()),
    "pretrained": Case(
        "configs/sram.py:resnet20",
        ("--config.chips.images=20", "--config.chips.batch=20"),
        shares=False,
    ),
}


class Setting(NamedTuple):
    """A way to run.

    Attributes:
        label: of the column.
        devices: of each process.
        processes: how many.
        train: the devices that train.
    """

    label: str
    devices: int
    processes: int = 1
    train: str = "one"


SETTINGS = (
    Setting("1 device", 1),
    Setting("8, one trains", 8),
    Setting("8, all train", 8, train="all"),
    Setting("2 x 2, all train", 2, 2, "all"),
)


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """Every recipe in every setting; goes on where it was stopped.

    Args:
        name: `NAME`.
        seeds: not looked at.
        rest: `--data_root`, and `--only=A,B`, which keeps these recipes.
        folder: where the runs are kept.
        stop: looked at before every run.

    Returns:
        "runs", a row a recipe and setting: by how much its network differs from
        that of one device, over its largest weight, and the scores of its
        chips.
    """
    del name, seeds
    kept, places = only(rest)
    rows = []
    for recipe, case in CASES.items():
        if kept and recipe not in kept:
            continue
        for setting in SETTINGS:
            if setting.train == "all" and not case.shares:
                continue
            if stop.asked:
                raise loop.Preempted(f"stopped before {recipe}")
            print(f"{NAME}: {recipe}, {setting.label}", flush=True)
            place = folder / recipe / setting.label.replace(" ", "-")
            if not (place / "report.html").exists():
                shutil.rmtree(place, ignore_errors=True)
                _run(case, setting, place, places)
            base = folder / recipe / SETTINGS[0].label.replace(" ", "-")
            row = {"recipe": recipe, "setting": setting.label}
            rows.append(row | compared(base, place))
    return {"runs": rows}


def _run(
    case: Case, setting: Setting, place: Path, places: Sequence[str]
) -> None:
    command = [sys.executable, "-m", "jaxedge", "run"]
    command += [f"--config={case.config}", *case.flags, *STUDY, *places]
    command += [f"--workdir={place}"]
    if setting.train == "all":
        command += ["--config.train.devices=all"]
    env = dict(os.environ, JAX_NUM_CPU_DEVICES=str(setting.devices))
    env["JAX_PLATFORMS"] = "cpu"
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        at = f"localhost:{probe.getsockname()[1]}"
    count = setting.processes
    each = [
        [*command, f"--distributed={at},{i},{count}"] if count > 1 else command
        for i in range(count)
    ]
    place.parent.mkdir(parents=True, exist_ok=True)
    log = place.parent / f"{place.name}.log"
    with log.open("wb") as file, _started(each, env, file) as processes:
        codes = [process.wait(_LONGEST) for process in processes]
    if any(codes):
        said = log.read_text("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} failed: {said}")


@contextlib.contextmanager
def _started(
    commands: Sequence[Sequence[str]], env: Mapping[str, str], log: Any
) -> Iterator[list[Any]]:
    """Processes, none of which outlives the block."""
    processes = [
        subprocess.Popen(c, env=env, stdout=log, stderr=log) for c in commands
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def compared(base: Path, place: Path) -> dict[str, Any]:
    """How far a run is from another.

    Args:
        base: folder of a run.
        place: of the same run elsewhere.

    Returns:
        "same", whether network and chips are equal to the bit; "apart", the
        largest difference of a weight over the largest weight of its array;
        "scores", the largest of a chip's score; "test", the score on ideal
        hardware.
    """
    ours, theirs = (_flat(path / arrays.FILE) for path in (place, base))
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{place} and {base} hold different networks")
    apart, same = 0.0, True
    for name, a in ours.items():
        b = theirs[name]
        same &= bool(np.array_equal(a, b))
        if a.dtype.kind == "f" and a.size:
            scale = max(float(np.abs(b).max()), 1e-30)
            far = np.abs(a.astype(float) - b.astype(float)).max()
            apart = max(apart, float(far) / scale)
    own, other = (
        np.asarray(results.Archive(path / "study.npz")["score"], float)
        for path in (place, base)
    )
    same &= bool(np.array_equal(own, other))
    return {
        "same": same,
        "apart": apart,
        "scores": float(np.abs(own - other).max()),
        "chips": len(own),
        "test": _score(place),
    }


def _flat(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _score(place: Path) -> float:

    found = json.loads((place / "summary.json").read_text("utf-8"))
    return found["metrics"][f"test_{found['score']}"]


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    del name
    rows = content["runs"]
    labels = [setting.label for setting in SETTINGS]
    lines = [
        "A small config of every recipe on CPU devices that are simulated by"
        " one machine: on one; on eight of which one trains and all study"
        " chips; on eight that share every batch; in two processes of two"
        " devices that do, over gloo. `same`: weights and scores of all chips"
        " are equal to the bit to those of one device. Else the largest"
        " difference of a weight over the largest weight of its array, and"
        " after the slash of a chip's score: a mask or a code may flip where"
        ' a sum is rounded otherwise. "-": a recipe that learns no batches.',
        "",
        f"| recipe | {' | '.join(labels[1:])} |",
        f"|---|{'---|' * len(labels[1:])}",
    ]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = {r["setting"]: r for r in rows if r["recipe"] == recipe}
        cells = [_told(own.get(label)) for label in labels[1:]]
        lines.append(f"| `{recipe}` | {' | '.join(cells)} |")
    return lines


def _told(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    if row["same"]:
        return "same"
    return f"{row['apart']:.1e} / {row['scores']:.3f}"


__all__ = ["ENTRIES", "compared", "page", "reproduce"]
