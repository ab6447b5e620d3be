"""The same tasks on every hardware; called by `scripts/reproduce`.

`hardware_study` trains `configs/matrix.py` on ideal hardware and for each
hardware, puts it on chips, and compares accuracy, yield, energy, latency, and
what noise and a year do.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import only, shown, spread

from jaxedge.run import canvas, job, loop, main, workdir

NAME = "hardware_study"
ENTRIES = (NAME,)
CONFIG = "configs/matrix.py"
YEAR = 31536000.0


class Hardware(NamedTuple):
    """Rows of the table.

    Attributes:
        label: of the rows.
        word: of the matrix.
        rules: by which networks learn that go on it: the first for no hardware,
            the second for this one.
        flags: of its converters.
        study: what is swept.
    """

    label: str
    word: str
    rules: tuple[str, ...] = ("weights", "chips")
    flags: tuple[str, ...] = ()
    study: str = ""


_CONVERTERS = tuple(
    f"--config.hardware.{name}=8" for name in ("input_bits", "adc_bits")
)
_MACRO = (
    # Ranges by layer, as configs/sram.py has them.
    "--config.hardware.macro.clip_rate=0.001",
    "--config.hardware.macro.scaling=column",
    "--config.hardware.macro.input_percentile=100.0",
)
_LEVELS = (
    # At the design, at ten and at thirty times the noise of one preset.
    "--config.chips.read_noise=(0.0, 0.02, 0.1, 0.3)",
    "--config.chips.seconds=(25.0, 86400.0, 31536000.0)",
    "--config.chips.sigma=(0.0, 1.0, 3.0)",
)
_SWEPT = "noise time"
HARDWARE = (
    Hardware("ideal", "ideal", ("weights",)),
    Hardware("INT8", "int8"),
    Hardware("INT4", "int4"),
    Hardware("MXFP4", "mxfp4"),
    Hardware("NVFP4", "fp4"),
    Hardware("in-SRAM macro", "sram", flags=_MACRO, study="noise"),
    Hardware("PCM", "pcm", flags=_CONVERTERS, study=_SWEPT),
    Hardware("SONOS", "sonos", flags=_CONVERTERS, study=_SWEPT),
    Hardware(
        "analogue RRAM", "rram_analogue", flags=_CONVERTERS, study=_SWEPT
    ),
    Hardware(
        "switched RRAM, mask", "rram", ("mask", "mask_chips"), _CONVERTERS,
        "noise",
    ),
)  # fmt: skip
# Flags of a task beside those of the matrix.
TASKS: Mapping[str, tuple[str, ...]] = {
    "digits": ("--config.chips.threshold=0.95",),
    "fashion_mnist": (
        "--config.chips.threshold=0.85",
        "--config.chips.n=50",
        "--config.chips.sweep=10",
        "--config.chips.images=500",
        "--config.chips.batch=250",
        "--config.train.epochs=6",
        "--config.train.batch=128",
    ),
}


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All rows; goes on where it was stopped.

    Args:
        name: `NAME`.
        seeds: of each row.
        rest: further flags of every run; `--only=A,B` keeps the rows whose
            task, hardware or rule is one of these words.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run.
    """
    del name
    kept, rest = only(rest)
    rows = []
    for seed in range(seeds):
        for task in TASKS:
            for hardware in HARDWARE:
                for rule in hardware.rules:
                    named = {task, hardware.word, rule}
                    if kept and not named & {*kept}:
                        continue
                    place = folder / f"{task}-{hardware.word}-{rule}-{seed}"
                    print(f"{NAME}: {place.name}", flush=True)
                    flags = [*TASKS[task], *hardware.flags, *_LEVELS]
                    flags += [f"--config.study={hardware.study}", *rest]
                    words = f"model=mlp,data={task},hardware={hardware.word}"
                    config = f"--config={CONFIG}:{words},learn={rule}"
                    given = (config, *flags, f"--config.seed={seed}")
                    options = main.parse((*given, f"--workdir={place}"))
                    _run(options, place, stop)
                    row = {
                        "task": task,
                        "hardware": hardware.label,
                        "rule": rule,
                        "seed": seed,
                        **figures(place),
                    }
                    if hardware.word == "ideal":  # No such thing has a price.
                        row |= {"joules": None, "latency": None}
                    rows.append(row)
    return {"runs": rows}


def _run(options: Any, place: Path, stop: loop.Stop) -> None:
    """A job, unless it is finished."""
    if (place / "report.html").exists():
        workdir.check(place, workdir.plain(options.config), study=False)
        return
    job.run(job.resolve(options.config, options.data_root), place, stop)
    # A process may hold so many compiled programs and no more.
    jax.clear_caches()


def figures(place: Path) -> dict[str, Any]:
    """What a run tells, of its summary."""
    found = json.loads((place / "summary.json").read_text("utf-8"))
    chips, energy, sweeps = found["chips"], found["energy"], found["sweeps"]
    swept = {
        name: {
            "levels": sweep["levels"],
            "mean": [round(float(v), 5) for v in sweep["score_mean"]],
        }
        for name, sweep in sweeps.items()
    }
    return {
        "test": found["metrics"]["test_accuracy"],
        "chips": chips["n"],
        "mean": chips["score_mean"],
        "sd": chips["score_std"],
        "p05": chips["score_p05"],
        "yield": chips["yield"],
        "threshold": chips["threshold"],
        # That of digital sums is a part of it.
        "joules": energy["joules_hardware"],
        "latency": energy["seconds_hardware"],
        "swept": swept,
    }


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    lines = [
        "The same perceptron (256-128 hidden units) on every hardware:"
        " trained on ideal hardware (`weights`, `mask`), or on a new chip at"
        " every step (`chips`, `mask_chips`). Crossbars have 8-bit inputs and"
        " ADCs and the read noise of their preset; the macro chooses its"
        " ranges layer by layer; every number format is one chip. Means over"
        " seeds, in brackets their sd; what a paper does not tell of energy"
        " and latency is a labelled default (`summary.json` of a run names"
        " the source of each price), so that they compare designs at these"
        " prices, not products; that of a number format is two operations a"
        " product at one price, whatever its bits. A year is the time since"
        " programming, without compensation; analogue RRAM is known for two"
        " days and SONOS for five, after which their models stay as they are."
        " Noise is a read noise of .1 of each cell's conductance, in place of"
        " the preset's (beside the flicker of PCM and SONOS), and three times"
        " all spreads of the macro. Chips read the first 500 images of"
        " Fashion-MNIST, `ideal` is of all; the latency of a number format is"
        " that of a busy accelerator (`op_rate`).",
    ]
    for task in dict.fromkeys(row["task"] for row in runs):
        own = [row for row in runs if row["task"] == task]
        threshold = own[0]["threshold"]
        lines += [
            "",
            f"## {task}",
            "",
            f"| hardware | rule | seeds | ideal (%) | chips (%) | sd of chips |"
            f" 5th percentile | yield above {threshold:.0%} (%) |"
            " energy (nJ) | latency (us) | a year (%) | noise (%) |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for rows in _grouped(own):
            lines.append(_row(rows))
    return [*lines, "", f"![{name}]({name}.svg)"]


def _grouped(runs: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Runs of each hardware and rule."""
    found: dict[tuple[str, str], list[Any]] = {}
    for row in runs:
        found.setdefault((row["hardware"], row["rule"]), []).append(row)
    return list(found.values())


def _row(rows: Sequence[Mapping[str, Any]]) -> str:
    def percent(name: str) -> str:
        return shown(spread([row[name] for row in rows]), 100)

    cells = [
        rows[0]["hardware"],
        f"`{rows[0]['rule']}`",
        str(len(rows)),
        percent("test"),
        percent("mean"),
        f"{100 * np.mean([row['sd'] for row in rows]):.2f}",
        percent("p05"),
        percent("yield"),
        _priced(rows, "joules", 1e9),
        _priced(rows, "latency", 1e6),
        shown(spread([_at(row, "seconds", YEAR) for row in rows]), 100),
        shown(spread([_noisy(row) for row in rows]), 100),
    ]
    return f"| {' | '.join(cells)} |"


def _priced(rows: Sequence[Mapping[str, Any]], name: str, unit: float) -> str:
    """A price in a unit; "-" where there is none, as on ideal hardware."""
    values = [row[name] for row in rows]
    if None in values:
        return "-"
    return f"{np.mean(values) * unit:.3g}"


def _noisy(row: Mapping[str, Any]) -> float | None:
    found = _at(row, "read_noise", 0.1)
    return _at(row, "sigma", 3.0) if found is None else found


def _at(row: Mapping[str, Any], sweep: str, level: float) -> float | None:
    """The mean score at a level of a sweep; None where it was not swept."""
    found = row["swept"].get(sweep)
    if found is None:
        return None
    near = int(np.argmin(np.abs(np.array(found["levels"]) - level)))
    if not np.isclose(found["levels"][near], level):
        return None
    return found["mean"][near]


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """Accuracy of chips against energy, a panel a task."""
    del name
    tasks = list(dict.fromkeys(row["task"] for row in content["runs"]))
    fig, axes = canvas.figure(6.0 * len(tasks), 4.4, len(tasks))
    for ax, task in zip(axes, tasks, strict=True):
        own = [r for r in content["runs"] if r["task"] == task and r["joules"]]
        names = list(dict.fromkeys(row["hardware"] for row in own))
        for rows in _grouped(own):
            colour = _colours(names)[rows[0]["hardware"]]
            adapted = rows[0]["rule"].endswith("chips")
            joules = np.mean([row["joules"] for row in rows]) * 1e9
            mean = 100 * np.mean([row["mean"] for row in rows])
            low = 100 * np.mean([row["p05"] for row in rows])
            ax.errorbar(
                joules,
                mean,
                yerr=np.array([[max(mean - low, 0.0)], [0.0]]),
                fmt="o" if adapted else "s",
                ms=7,
                color=colour,
                mfc=colour if adapted else "white",
                label=rows[0]["hardware"] if adapted else None,
            )
        ax.set_xscale("log")
        ax.set_xlabel("energy of an inference, nJ")
        ax.set_ylabel("accuracy of chips, %")
        ax.set_title(task, fontsize=10, color=canvas.INK, loc="left")
    canvas.legend(axes[-1], loc="lower right")
    axes[0].annotate(
        "filled: trained on chips; open: on ideal hardware;\n"
        "lines reach down to the 5th percentile of the chips",
        (0.02, 0.02),
        xycoords="axes fraction",
        fontsize=8,
        color=canvas.MUTED,
    )
    canvas.save(fig, path)


def _colours(names: Sequence[str]) -> dict[str, str]:
    colours = (*canvas.PALETTE, canvas.MUTED, canvas.GREY)
    return dict(zip(names, colours, strict=False))


__all__ = ["ENTRIES", "draw", "page", "reproduce"]
