"""Experiments beside each other, by any score; called by `scripts/reproduce`.

Each setting is a run of its own, of which all scores on the test set are told
and those of its chips; a killed call goes on where it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import json
from pathlib import Path
import re
import time
from typing import Any, NamedTuple

import numpy as np

from jaxedge.run import job, loop, main, workdir

DEPLM = "configs/deplm.py"
DRIVE = "configs/edge_pruning.py:drive"


def only(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of every `--only=A,B`, and the other flags."""
    given = [a for a in rest if a.startswith("--only=")]
    words = [w for a in given for w in a.partition("=")[2].split(",") if w]
    return words, [a for a in rest if a not in given]


class Setting(NamedTuple):
    """One experiment.

    Attributes:
        config: its config.
        flags: what differs from it.
        on_chips: whether it is put on chips.
    """

    config: str
    flags: Sequence[str] = ()
    on_chips: bool = True


class Entry(NamedTuple):
    """Experiments that share a table.

    Attributes:
        settings: by name.
        scores: what is told of the test set; chips are judged by the first.
        differ: two settings whose difference in every score is told, if any.
    """

    settings: Mapping[str, Setting]
    scores: Sequence[str] = ("accuracy",)
    differ: tuple[str, str] | None = None


def _vessels(config: str) -> Entry:
    # A cell that is set or reset holds no trained weight: on no chip.
    weights = (
        "--config.learn.rule=weights",
        "--config.train.hardware=ideal",
        "--config.optimizer.learning_rate=0.1",  # Better for them than .3.
    )
    return Entry(
        {
            "mask": Setting(config, ("--config.study=",)),
            "weights": Setting(config, weights, on_chips=False),
        },
        scores=("roc_auc", "pr_auc", "average_precision", "accuracy"),
        differ=("weights", "mask"),
    )


def _points(*variants: str) -> Entry:
    study = ("--config.study=", "--config.chips.sweep=0")
    return Entry({v: Setting(f"{DEPLM}:{v}", study) for v in variants})


def _macro(clip_rate: float | None = None, **fields: Any) -> list[str]:
    """Flags of a macro; without a clip rate no layer is calibrated."""
    given = {"clip_rate": clip_rate, **fields}
    return [f"--config.hardware.macro.{k}={v}" for k, v in given.items()]


def _macros(config: str, modes: Iterable[str], **more: Sequence[str]) -> Entry:
    """One network on the modes of a macro, on the same chips.

    Args:
        config: of the network.
        modes: names of `_MODES`.
        **more: flags of further settings, by name.
    """
    study = ("--config.study=", "--config.chips.sweep=0")
    flags = {mode: _macro(**_MODES[mode]) for mode in modes}
    flags |= {name.replace("_", " "): row for name, row in more.items()}
    return Entry(
        {name: Setting(config, (*study, *row)) for name, row in flags.items()}
    )


_SILENT = dict.fromkeys(
    ("sigma_cell", "sigma_pulse", "sigma_line", "sigma_cmp", "sigma_off"), 0.0
)
# All noises at one LSB and cells at 5 % (sram_cim 6).
_LOUD = {"sigma_line": 1.0, "sigma_cmp": 1.0, "sigma_off": 1.0} | {
    "sigma_cell": 0.05
}
# Modes of the macro (sram_cim 6); "exact" has no converter to speak of.
_MODES: dict[str, dict[str, Any]] = {
    "exact": {**_SILENT, "fold": 0, "lsb_units": 1, "out_bits": 14},
    "base": {"fold": 0, "lsb_units": 27},
    "fold": {"fold": 8, "lsb_units": 14},
    "fold, clip 2": {"fold": 8, "lsb_units": 7},
    "fold, clip 4": {"fold": 8, "lsb_units": 4},
    "clip 4": {"fold": 0, "lsb_units": 7},
    "calibrated": {"clip_rate": 1e-3},
}
_ON_CHIPS = "--config.train.hardware=fresh_chips"


ENTRIES = {
    "sram_digits": _macros(
        "configs/sram.py:digits",
        _MODES,
        loud_fold=_macro(**_MODES["fold"], **_LOUD),
        loud_fold_trained_on_chips=[
            *_macro(**_MODES["fold"], **_LOUD),
            _ON_CHIPS,
        ],
        loud_calibrated=_macro(**_MODES["calibrated"], **_LOUD),
    ),
    "sram_resnet20": _macros(
        "configs/sram.py:resnet20",
        ("exact", "calibrated", "fold, clip 2", "fold", "base"),
        calibrated_step_by_step=_macro(1e-3, path="exact"),
    ),
    "edge_pruning_drive": _vessels(DRIVE),
    "edge_pruning_drive_small": _vessels(f"{DRIVE}_small"),
    "deplm_fashion_mnist": _points("fashion_mnist"),
    "deplm_beyond": _points("fashion_mnist_large"),
    "deplm_adam": _points("fashion_mnist_adam"),
    "deplm_small": _points("digits", "nmnist", "adrenal", "geometric_shapes"),
}


def reproduce(
    name: str,
    seeds: int,
    rest: Sequence[str],
    folder: Path,
    stop: loop.Stop,
) -> dict[str, Any]:
    """All settings of an entry; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: of each setting.
        rest: further flags, for every setting.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run: scores of the test set and, of a setting on chips,
        what the summary of its run says of them.
    """
    rows, settings = [], ENTRIES[name].settings
    for seed, label, place in each(name, seeds, settings, folder):
        config, flags, with_chips = settings[label]
        options = main.parse((f"--config={config}", *flags, *place, *rest))
        resolved = job.resolve(options.config, options.data_root)
        workdir_of = Path(options.workdir)
        if with_chips:
            found = on_chips(resolved, workdir_of, stop)
        else:
            found = trained(resolved, workdir_of, stop)[0]
        rows.append({"seed": seed, "setting": label} | found)
    return {"runs": rows}


def each(
    name: str, seeds: int, labels: Iterable[str], folder: Path
) -> Iterator[tuple[int, str, tuple[str, str]]]:
    """Every run of an entry: its seed, its label, and the flags of both."""
    for seed in range(seeds):
        for label in labels:
            print(f"{name}: seed {seed}, {label}", flush=True)
            workdir_of = folder / f"{slug(label)}-{seed}"
            place = f"--workdir={workdir_of}", f"--config.seed={seed}"
            yield seed, label, place


def on_chips(
    resolved: job.Job, folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """A whole run: scores of the test set, chips, seconds."""
    job.run(resolved, folder, stop)
    found = json.loads((folder / "summary.json").read_text())
    return {
        "test": of_test(found["metrics"]),
        "chips": found["chips"],
        "seconds": found["seconds"],
    }


def trained(
    resolved: job.Job, folder: Path, stop: loop.Stop
) -> tuple[dict[str, Any], Any]:
    """Trains and tests without a chip: scores and seconds, and the state."""
    workdir.check(folder, resolved.config, study=False)
    workdir.create(folder, resolved.config)
    start = time.monotonic()
    state = job.train(resolved, folder, stop)
    seconds = time.monotonic() - start
    # A call that only restores does not hide what training took.
    record = folder / "seconds.json"
    with contextlib.suppress(Exception):  # None, or damaged: written anew.
        seconds = max(seconds, float(json.loads(record.read_text())["train"]))
    workdir.write_json(record, {"train": round(seconds, 1)})
    metrics = job.test(resolved, resolved.recipe.finish(state))
    found = {
        "test": of_test(metrics),
        "seconds": {"train": round(seconds, 1)},
    }
    return found, state


def of_test(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores of the test set, by their own name."""
    return {
        name.removeprefix("test_"): float(value)
        for name, value in metrics.items()
        if name.startswith("test_")
    }


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^._0-9a-z]+", "-", label)


def spread(values: Any) -> dict[str, float] | None:
    """Mean, and of several numbers their sd; None if one is None."""
    if any(value is None for value in values):
        return None
    found = np.array(values, float)
    mean = {"mean": round(float(found.mean()), 5)}
    if found.size == 1:
        return mean
    return {**mean, "sd": round(float(found.std(ddof=1)), 5)}


def shown(said: Mapping[str, float] | None, factor: float) -> str:
    """A spread as text: the mean and, in brackets, the sd."""
    if said is None:
        return "-"
    mean = f"{factor * said['mean']:.2f}"
    return f"{mean} ({factor * said['sd']:.2f})" if "sd" in said else mean


def page(entry: Entry, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    seeds = 1 + max(row["seed"] for row in runs)
    over = f"Mean over {seeds} seeds and, in brackets, their sd"
    judge = entry.scores[0].replace("_", " ")
    lines = [
        f"{'Of one seed' if seeds == 1 else over}; all scores in %. Chips are"
        f" judged by {judge}.",
        "",
        f"| setting |{''.join(f' {s} |' for s in _names(entry))} chips | their"
        " mean | their sd | worst | training (s) |",
        f"|---|{'--:|' * (len(entry.scores) + 5)}",
    ]
    for label in entry.settings:
        rows = [row for row in runs if row["setting"] == label]
        tested = [_scores(rows, name) for name in entry.scores]
        cells = [shown(spread(values), 100) for values in tested]
        chips = [row.get("chips") for row in rows]
        cells.append(f"{chips[0]['n']:,}" if chips[0] else "-")
        for name in ("score_mean", "score_std", "score_min"):
            values = [c and c[name] for c in chips]
            cells.append(shown(spread(values), 100))
        seconds = np.mean([row["seconds"]["train"] for row in rows])
        lines.append(f"| {label} | {' | '.join(cells)} | {seconds:.0f} |")
    if entry.differ:
        more, less = (
            [row for row in runs if row["setting"] == label]
            for label in entry.differ
        )
        apart = {
            name: np.subtract(_scores(more, name), _scores(less, name))
            for name in entry.scores
        }
        cells = [shown(spread(values), 100) for values in apart.values()]
        name = f"{entry.differ[0]} above {entry.differ[1]}"
        lines.append(f"| {name} | {' | '.join(cells)} | - | - | - | - | - |")
    return lines


def _names(entry: Entry) -> list[str]:
    return [name.replace("_", " ") for name in entry.scores]


def _scores(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [row["test"][name] for row in rows]
