"""Edge pruning at several settings; called by `scripts/reproduce`.

A mask for one chip against a mask for any chip, how much of a network is kept,
and memories of every preset. Each setting is a run of its own; a killed call
goes on where it was.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import each, shown, spread

from jaxedge import hardware
from jaxedge.hardware import devices
from jaxedge.run import canvas, job, loop, main

DIGITS = "configs/edge_pruning.py:digits"
# The config's noise and stuck cells are those of one macro, not of a preset.
_PRESET = tuple(
    f"--config.hardware.overrides.{name}=None"
    for name in ("read_noise", "stuck_on", "stuck_off")
)
_ONE = "--config.train.hardware=one_chip"
_ANY = "--config.train.hardware=fresh_chips"
PAIRS = ("kept_pair", "pruned_pair", "pruned_cell")
KEEP = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Entry(NamedTuple):
    """A comparison of settings.

    Attributes:
        points: flags of each setting, by its name.
        chips: how many chips a setting is put on.
        axis: what the names are numbers of, for a figure; None draws none.
        pairs: whether to tell what a kept and a pruned pair of cells hold.
        config: the experiment.
    """

    points: Mapping[str, Sequence[str]]
    chips: int
    axis: str | None = None
    pairs: bool = False
    config: str = DIGITS


def _both(label: str, *flags: str) -> dict[str, tuple[str, ...]]:
    """A hardware, with a mask for one of its chips and for any of them."""
    return {
        f"{label}, mask for one chip": (*flags, _ONE),
        f"{label}, mask for any chip": (*flags, _ANY),
    }


def _device(name: str) -> str:
    return f"--config.hardware.device={name}"


ENTRIES = {
    "edge_pruning_one_chip": Entry(
        {
            **_both("set and reset, as the config"),
            **_both(
                "set and reset, levels that spread by half",
                "--config.hardware.overrides.lrs_std=17e-6",
            ),
            **_both("as formed", _device("rram_40nm_random"), *_PRESET),
            **_both(
                "programmed with an error of 30 %",
                _device("ideal"),
                *_PRESET,
                "--config.hardware.overrides.program_noise=0.3",
            ),
        },
        chips=100,
    ),
    "edge_pruning_sparsity": Entry(
        {f"{keep:g}": (f"--config.learn.keep={keep}", _ANY) for keep in KEEP},
        chips=100,
        axis="weights kept (%)",
    ),
    "edge_pruning_memories": Entry(
        {
            label: flags
            for name in devices.PRESETS
            for label, flags in _both(name, _device(name), *_PRESET).items()
        },
        chips=100,
        pairs=True,
    ),
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
        "runs", a row a run, and "summary", the mean and the standard deviation
        over seeds of what `figures` tells of each setting.
    """
    entry, rows = ENTRIES[name], []
    for seed, label, place in each(name, seeds, entry.points, folder):
        flags = (
            f"--config={entry.config}",
            "--config.study=",
            f"--config.chips.n={entry.chips}",
            *entry.points[label],
            *place,
            *rest,
        )
        found = one(flags, entry.pairs, stop)
        rows.append({"seed": seed, "setting": label} | found)
    return {"summary": summary(entry.points, rows), "runs": rows}


def one(
    flags: Sequence[str], with_pairs: bool, stop: loop.Stop
) -> dict[str, Any]:
    """Trains and studies one setting; what `figures` tells of it."""
    options = main.parse(flags)
    folder = Path(options.workdir)
    resolved = job.resolve(options.config, options.data_root)
    job.run(resolved, folder, stop)
    found = figures(folder)
    if with_pairs:
        network = resolved.recipe.finish(job.train(resolved, folder, stop))
        chip = job.one_chip(resolved, network)
        found |= pairs(network["params"], chip)
    return found


def pairs(network: Any, chip: Any) -> dict[str, float]:
    """What the first chip holds for a kept and for a pruned weight.

    Args:
        network: parameters with masks.
        chip: the same on a chip.

    Returns:
        Means over all layers, uS: the difference of a pair that is kept and of
        one that is pruned, without its sign, and a cell of a pruned pair.
    """
    kept, pruned, off = [], [], []
    for trained, leaf in zip(
        *(
            jax.tree.leaves(params, is_leaf=hardware.is_weight)
            for params in (network, chip)
        ),
        strict=True,
    ):
        g_2xIxO = np.asarray(leaf.conductance())
        mask_IxO = np.asarray(trained.mask).reshape(g_2xIxO.shape[1:]) > 0
        apart_IxO = np.abs(g_2xIxO[0] - g_2xIxO[1])
        kept.append(apart_IxO[mask_IxO])
        pruned.append(apart_IxO[~mask_IxO])
        off.append(g_2xIxO[:, ~mask_IxO].ravel())
    means = [np.concatenate(part).mean() for part in (kept, pruned, off)]
    micro = [round(float(mean) / devices.MICRO, 4) for mean in means]
    return dict(zip(PAIRS, micro, strict=True))


def figures(folder: Path) -> dict[str, Any]:
    """What a run has reached, from its files.

    Returns:
        Accuracy on ideal hardware; mean, sd, 5th percentile, least and yield of
        the chips; the score of the chip it was trained for, None if for none;
        mask flips per weight until the chosen epoch and in all epochs, without
        the initial pruning.
    """
    found = json.loads((folder / "summary.json").read_text())
    chips, metrics = found["chips"], found["metrics"]
    told = ("mean", "std", "p05", "min")
    return {
        "test_accuracy": metrics["test_accuracy"],
        "chips": chips["n"],
        **{f"chips_{name}": chips[f"score_{name}"] for name in told},
        "yield": chips["yield"],
        "threshold": chips["threshold"],
        "trained_chip": chips.get("trained_chip"),
        **flips(folder, metrics),
        "joules_hardware": found["energy"]["joules_hardware"],
        "seconds": found["seconds"],
    }


def flips(folder: Path, counts: Mapping[str, Any]) -> dict[str, float]:
    """Mask flips per weight until the chosen epoch, and in all epochs.

    Args:
        folder: of the run.
        counts: what the recipe tells of its state; nothing without a mask.
    """
    chosen = float(counts.get("flips_per_weight", 0))
    if not chosen:
        return {"flips_per_weight": 0.0, "flips_per_weight_in_all": 0.0}
    size = float(counts["sets"] + counts["resets"]) / chosen
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    total = sum(row["flips"] for row in rows if row["phase"] == "train")
    return {
        "flips_per_weight": round(chosen, 4),
        "flips_per_weight_in_all": round(total / size, 4),
    }


def summary(
    labels: Sequence[str] | Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation over seeds, by setting."""
    told = ("test_accuracy", "chips_mean", "chips_min", "trained_chip")
    return {
        label: {
            name: spread([row[name] for row in rows if row["setting"] == label])
            for name in (*told, "flips_per_weight_in_all", *PAIRS)
            if name in rows[0]
        }
        for label in labels
    }


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    seeds = 1 + max(row["seed"] for row in content["runs"])
    chips = content["runs"][0]["chips"]
    over = f"mean over {seeds} seeds and, in brackets, their sd"
    lines = [
        f"Accuracy (%): {'of one seed' if seeds == 1 else over}; {chips} chips"
        " a seed. Flips: switched weights per weight over the whole training,"
        " without the initial pruning.",
    ]
    # The presets of as-formed cells, and the setting of that name.
    words = ("formed", "random", "measured")
    if any(word in label for label in content["summary"] for word in words):
        lines += [
            "",
            "As-formed cells are random weights themselves: what the network is"
            " on ideal hardware means nothing for them, and a mask is one for"
            " the chip whose weights it has seen.",
        ]
    more = [name for name in PAIRS if name in content["runs"][0]]
    if more:
        lines += [
            "",
            "A weight is a pair of cells. Of the first chip: the difference of"
            " the two where the weight is kept and where it is pruned (both"
            " cells reset), and a cell of a pruned pair, in microsiemens.",
        ]
    lines += [
        "",
        "| setting | ideal hardware | all chips, mean | worst chip | the chip"
        " that it was trained for | flips |"
        + "".join(f" {name.replace('_', ' ')} |" for name in more),
        f"|---|{'--:|' * (5 + len(more))}",
    ]
    for label, said in content["summary"].items():
        cells = [
            shown(said[name], 100)
            for name in (
                "test_accuracy", "chips_mean", "chips_min", "trained_chip"
            )
        ]  # fmt: skip
        cells.append(shown(said["flips_per_weight_in_all"], 1))
        cells += [shown(said[name], 1) for name in more]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def draw(name: str, content: Mapping[str, Any], path: Path) -> bool:
    """Draws the figure of an entry that has one; says whether it has."""
    entry = ENTRIES[name]
    if entry.axis is None:
        return False
    fig, (ax,) = canvas.figure(5.6, 3.4)
    x = [100 * float(label) for label in content["summary"]]
    for key, label, colour in (
        ("test_accuracy", "ideal hardware", canvas.ORANGE),
        ("chips_mean", "mean over chips", canvas.BLUE),
        ("chips_min", "worst chip", canvas.VERMILION),
    ):
        said = [point[key] for point in content["summary"].values()]
        mean = np.array([100 * point["mean"] for point in said])
        sd = np.array([100 * point.get("sd", 0) for point in said])
        ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.2, lw=0)
        ax.plot(x, mean, color=colour, marker="o", ms=4, label=label)
    ax.set_xlabel(entry.axis)
    ax.set_ylabel("Test accuracy (%)")
    canvas.legend(ax, loc="best")
    fig.savefig(path, metadata={"Date": None})
    return True
