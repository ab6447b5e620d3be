"""Quantization-aware training, method beside method.

Called by `scripts/reproduce`: a vision transformer with and without what
"Quantization Variation" adds to learned steps, and low-bit networks that learn
from parts of their examples, chosen by every method of the coreset paper's
plots. All runs of a seed start from the same network in full precision.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import statistics
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import only, shown, slug, spread, trained

from jaxedge.models import arrays
from jaxedge.run import canvas, job, loop, main, teach, workdir

VARIATION = "configs/vit_variation.py"
CORESET = "configs/coreset_qat.py"
TEACHER = "resnet20_cifar10_akamaster"
# Of an image, and the share of its area that they have at least: our choices. A
# small network that does not fit its images learns less from smaller ones.
CROPS, LEAST = 8, 0.9
ROW = "row.json"
BITS = (4, 3, 2)
METHODS = (
    "random",
    "adaptive",
    "el2n",
    "grand",
    "forgetting",
    "glister",
    "moderate",
    "contextual_diversity",
    "k_center_greedy",
    "herding",
    "craig",
    "grad_match",
    "least_confidence",
    "entropy",
    "margin",
)
# These have the seeds that are asked for; the others, to save time, `FEW`.
PAIRED = ("random", "adaptive")
FEW = 1


class Case(NamedTuple):
    """A row of a table.

    Attributes:
        label: of the row.
        config: which experiment.
        flags: what differs from it.
        seeds: how many it has; 0 for as many as are asked for.
    """

    label: str
    config: str
    flags: tuple[str, ...]
    seeds: int = 0


def _widths() -> list[Case]:
    cases = []
    for bits in BITS:
        flags = tuple(
            f"--config.quantize.{name}={bits}" for name in ("weights", "inputs")
        )
        for variant in ("lsq", "cifar10"):
            name = "plain LSQ" if variant == "lsq" else "all three"
            cases.append(
                Case(f"W{bits}A{bits} {name}", f"{VARIATION}:{variant}", flags)
            )
    return cases


def _parts(variant: str, fractions: Sequence[float]) -> list[Case]:
    cases = []
    for fraction in fractions:
        part = f"--config.coreset.fraction={fraction}"
        for method in METHODS:
            flags = (f"--config.coreset.method={method}", part)
            label = f"{method} {fraction:.0%}"
            seeds = 0 if method in PAIRED else FEW
            cases.append(Case(label, f"{CORESET}:{variant}", flags, seeds))
        # As the released code has its baselines: it chooses anew for none.
        flags = (
            "--config.coreset.method=random",
            "--config.coreset.every=0",
            part,
        )
        label = f"random, drawn once {fraction:.0%}"
        cases.append(Case(label, f"{CORESET}:{variant}", flags))
    every = ("--config.coreset.method=all", "--config.coreset.fraction=1")
    return [*cases, Case("all examples", f"{CORESET}:{variant}", every)]


class Entry(NamedTuple):
    """An experiment.

    Attributes:
        title: of the page.
        full: config of the network in full precision that all start from; None
            where they start from a published one.
        teacher: whether stored outputs of `TEACHER` are needed.
        cases: rows of the table.
    """

    title: str
    full: str | None
    teacher: bool
    cases: Sequence[Case]


ENTRIES = {
    "vit_variation": Entry(
        "A vision transformer (patches of 8, 64 x 4, 2 heads) on CIFAR-10's"
        " first 9,000 images. Plain LSQ learns by labels, with a step a matrix"
        " and scales by count; all three: soft labels of a published ResNet-20"
        f" for {CROPS} stored crops an image, of {LEAST:.0%} of its area or"
        " more, steps by head with scales by the l1 norm, and the bin"
        " regulariser with a weight of 1 (published: .01)",
        f"{VARIATION}:float",
        True,
        _widths(),
    ),
    "coreset_resnet": Entry(
        "A published ResNet-8 at W4A4, taught by itself in full precision, on"
        " parts of CIFAR-10's first 9,000 images, chosen anew every 5 of 40"
        " epochs; the last epoch is the one that is tested",
        None,
        False,
        _parts("resnet", (0.1, 0.3)),
    ),
    "coreset_mobilenet": Entry(
        "MobileNetV2 of half width, weights at 2 bits, on parts of CIFAR-10's"
        " first 9,000 images, chosen anew every 5 of 20 epochs",
        f"{CORESET}:float",
        False,
        _parts("mobilenet", (0.1, 0.3)),
    ),
}


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All rows of an entry; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: of each row.
        rest: further flags of every run; `--only=A,B` keeps the rows whose
            labels hold one of these words.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "full", a row a seed, and "runs", a row a run.
    """
    entry = ENTRIES[name]
    words, rest = only(rest)
    told = _teacher(folder, rest, stop) if entry.teacher else None
    full, rows = [], []
    for seed in range(seeds):
        start = None
        if entry.full is not None:
            place = folder / f"full-{seed}"
            found = _run(entry.full, (), seed, rest, place, stop)
            full.append({"seed": seed} | found)
            start = place
        for case in entry.cases:
            if words and not any(word in case.label for word in words):
                continue
            if case.seeds and seed >= case.seeds:
                continue
            print(f"{name}: seed {seed}, {case.label}", flush=True)
            flags = [*case.flags]
            if start is not None:
                flags.append(f"--config.model.start={start}")
            # The configs' own rows name a folder of their own.
            if told is not None and not case.config.endswith(":lsq"):
                flags.append(f"--config.distill.teacher={told}")
            place = folder / f"{slug(case.label.lower())}-{seed}"
            found = _run(case.config, flags, seed, rest, place, stop)
            rows.append({"seed": seed, "row": case.label} | found)
    return {"title": entry.title, "full": full, "runs": rows}


def _run(
    config: str,
    flags: Sequence[str],
    seed: int,
    rest: Sequence[str],
    folder: Path,
    stop: loop.Stop,
) -> dict[str, Any]:
    """Trains, tests the best state, and keeps the network and its row."""
    given = (f"--config={config}", *flags, f"--config.seed={seed}")
    options = main.parse((*given, f"--workdir={folder}", *rest))
    if (folder / ROW).exists():  # A finished run is not tested again.
        workdir.check(folder, workdir.plain(options.config), study=False)
        return json.loads((folder / ROW).read_text())
    resolved = job.resolve(options.config, options.data_root)
    found, state = trained(resolved, folder, stop)
    variables = jax.jit(resolved.recipe.finish)(state)
    arrays.save(folder / arrays.FILE, variables)
    summary = jax.device_get(resolved.recipe.summary(state))
    steps = [json.loads(row) for row in (folder / "metrics.jsonl").open()]
    last = [row for row in steps if row["phase"] == "valid"][-1]
    choices = [row for row in steps if row["phase"] == "choose"]
    row = {
        "accuracy": found["test"]["accuracy"],
        "last_valid": last["accuracy"],
        **{k: round(float(v), 5) for k, v in summary.items()},
        **({"rows": choices[0]["rows"]} if choices else {}),
        **({"read": choices[-1]["read"]} if choices else {}),
        "seconds": found["seconds"],
    }
    workdir.write_json(folder / ROW, row)
    return row


def _teacher(folder: Path, rest: Sequence[str], stop: loop.Stop) -> Path:
    """Stored outputs of the teacher, made once."""
    places = [a for a in rest if a.startswith("--data_root")]
    flags = (f"--config={VARIATION}:float", "--workdir=none", *places)
    options = main.parse(flags)
    return teach.teach(
        options.config,
        TEACHER,
        str(folder / "teacher"),
        crops=CROPS,
        least=LEAST,
        data_root=options.data_root,
        stop=stop,
    )


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    labels = list(dict.fromkeys(row["row"] for row in runs))
    lines = [
        f"{content['title']}. Accuracy of the test images, %, mean over seeds"
        " and, in brackets, their sd; of the epoch that the validation split"
        " chose among those that were looked at.",
        "",
    ]
    if content["full"]:
        values = [row["accuracy"] for row in content["full"]]
        lines += [f"In full precision: {shown(spread(values), 100)}.", ""]
    lines += [
        "| row | seeds | accuracy | above the row it is paired with | its sd |"
        " oscillating (%) | images an epoch | images read to choose |"
        " training (s) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for label in labels:
        rows = [row for row in runs if row["row"] == label]
        paired = pairs(label, runs)
        apart = spread(paired) if paired else None
        told = [row.get("oscillating") for row in rows]
        cells = [
            str(len(rows)),
            shown(spread([row["accuracy"] for row in rows]), 100),
            f"{100 * apart['mean']:+.2f}" if apart else "-",
            f"{100 * apart['sd']:.2f}" if apart and "sd" in apart else "-",
            shown(spread(told), 100),
            str(rows[0].get("rows", "all")),
            f"{rows[0].get('read', 0):,}",
            f"{np.mean([row['seconds']['train'] for row in rows]):.0f}",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, "", f"![{name}]({name}.svg)"]


def pairs(label: str, runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Differences to the row of the same seed that is its baseline."""
    if label.endswith("all three"):
        base = label.replace("all three", "plain LSQ")
    elif "%" in label:
        base = f"random {label.split()[-1]}"
    else:
        return []
    if base == label:
        return []
    other = {r["seed"]: r["accuracy"] for r in runs if r["row"] == base}
    own = [r for r in runs if r["row"] == label and r["seed"] in other]
    return [row["accuracy"] - other[row["seed"]] for row in own]


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """A picture of the table: a point a run, a bar at the mean."""
    runs = content["runs"]
    labels = list(dict.fromkeys(row["row"] for row in runs))
    fig, ax = canvas.bars(labels)
    for place, label in enumerate(labels):
        values = [100 * r["accuracy"] for r in runs if r["row"] == label]
        ax.plot(values, [place] * len(values), "o", color=canvas.SKY, ms=4)
        ax.plot(np.mean(values), place, "|", color=canvas.INK, ms=14, mew=2)
    if content["full"]:
        mean = statistics.mean(
            [100 * row["accuracy"] for row in content["full"]]
        )
        ax.axvline(mean, color=canvas.VERMILION, lw=1.2)
    ax.set_xlabel(f"{name}: test accuracy, %; a point a seed, a bar their mean")
    canvas.save(fig, path)


__all__ = ["ENTRIES", "draw", "page", "reproduce"]
