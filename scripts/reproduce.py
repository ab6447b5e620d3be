"""Repeats a comparison over seeds; called by `scripts/reproduce`.

Edge pruning trains the mask of a random network and the weights of the same
network, and puts the masked one on a thousand chips. Training in memory trains
the same network in digital weights and in cells. An entry of
`reproduce_pruning.ENTRIES` repeats edge pruning at several settings, one of
`reproduce_tables.ENTRIES` tells the scores of vessels and of point sets, one of
`reproduce_resnet.CONFIGS` puts a published network on a hundred chips;
`half_sparse` compares pairs of cells under read noise, `fp4_resnets` published
networks in number formats of few bits, an entry of
`reproduce_llm_fp4.ENTRIES` a transformer in small numbers, one of
`reproduce_qat.ENTRIES` trains low-bit networks, one of
`reproduce_fronts.ENTRIES` puts them on hardware against its energy, one of
`reproduce_feal.ENTRIES` clients that choose what to annotate, `radiomics`
compares features with those of pyradiomics and the IBSI, `ridl_phantoms` a
network that is informed by them with its parts, `complexity` measures by which
modalities are ordered, one of `reproduce_foodwise.ENTRIES` grades plates,
`matrix` puts together what there is, `hardware_study` compares all hardware on
common tasks, `devices` runs every recipe on several, `faults` kills and damages
runs, `fuzz` damages files, and one of
`reproduce_bench.BENCHES` is a measurement of speed.
"""

from collections.abc import Callable, Mapping, Sequence
import datetime
import functools
import os
from pathlib import Path
import platform
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import reproduce_bench
import reproduce_complexity
import reproduce_devices
import reproduce_faults
import reproduce_feal
import reproduce_foodwise
import reproduce_fp4
import reproduce_fronts
import reproduce_half_sparse
import reproduce_hardware
import reproduce_llm_fp4
import reproduce_matrix
import reproduce_pruning
import reproduce_qat
import reproduce_radiomics
import reproduce_resnet
import reproduce_ridl
import reproduce_sequential
import reproduce_tables
from reproduce_tables import spread

from jaxedge.core import checks
from jaxedge.run import job, loop, main, spread_over_cores, workdir

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
CONFIGS = {
    "edge_pruning_digits": "configs/edge_pruning.py:digits",
    "edge_pruning_fashion_mnist": "configs/edge_pruning.py:fashion_mnist",
    "edge_pruning_spoken_digits": "configs/edge_pruning.py:spoken_digits",
    "in_memory_digits": "configs/in_memory.py:digits",
}
_PRUNING = ("mask", "weights")
# The same mask without its dead-band.
NO_BAND = "mask_without_band"
# What is trained, by the config's `learn.rule` but for NO_BAND; the first is
# the baseline of an entry without a mask.
RULES = {
    "edge_pruning_digits": _PRUNING,
    "edge_pruning_fashion_mnist": _PRUNING,
    "edge_pruning_spoken_digits": (*_PRUNING, NO_BAND),
    "in_memory_digits": ("float", "sgd", "tiki_taka", "tiki_taka_v2"),
}

# Parts of this program that run, tell and draw entries of their own.
DRAWN = {
    name: part
    for part in (
        reproduce_llm_fp4,
        reproduce_qat,
        reproduce_fronts,
        reproduce_feal,
        reproduce_ridl,
        reproduce_sequential,
        reproduce_foodwise,
        reproduce_matrix,
        reproduce_hardware,
        reproduce_devices,
        reproduce_faults,
    )
    for name in part.ENTRIES
}


def console(arguments: Sequence[str]) -> int:
    """Runs one entry."""
    sparse = reproduce_half_sparse.NAME
    compared = reproduce_pruning.ENTRIES
    tables = reproduce_tables.ENTRIES
    published, benches = reproduce_resnet.CONFIGS, reproduce_bench.BENCHES
    digital = reproduce_fp4.NAME
    names = [
        *CONFIGS, *compared, *tables, *published, digital, sparse,
        reproduce_radiomics.NAME, reproduce_complexity.NAME, *DRAWN, *benches,
    ]  # fmt: skip
    if not arguments or arguments[0] not in names:
        print(f"usage: scripts/reproduce NAME, NAME of {', '.join(names)}")
        return 0 if not arguments else 2
    name, seeds, rest = arguments[0], 3, []
    for argument in arguments[1:]:
        seeded = name not in published and name not in benches
        if seeded and argument.startswith("--seeds="):
            seeds = int(argument.removeprefix("--seeds="))
        else:
            rest.append(argument)
    if name not in benches:  # They run in a process of their own.
        spread_over_cores()
    try:
        with loop.Stop().listening() as stop:
            if name in CONFIGS:
                reproduce(name, seeds, rest, stop)
            elif name == sparse:
                reproduce_pairs(rest, stop)
            elif name == digital:
                reproduce_digital(rest, stop)
            elif name == reproduce_radiomics.NAME:
                reproduce_features(reproduce_radiomics, rest)
            elif name == reproduce_complexity.NAME:
                reproduce_features(reproduce_complexity, rest)
            elif name in DRAWN:
                drawn(DRAWN[name], name, seeds, rest, stop)
            elif name in benches:
                measure(name, rest)
            elif name in compared:
                compare(name, seeds, rest, stop)
            elif name in tables:
                tabulate(name, seeds, rest, stop)
            else:
                reproduce_published(name, rest, stop)
    except checks.UsageError as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return 2
    except loop.Preempted as stopped:
        print(f"reproduce: {stopped}; the same command goes on from there.")
    return 0


def reproduce(
    name: str, seeds: int, rest: Sequence[str], stop: loop.Stop
) -> None:
    """All seeds and rules; writes docs/results/NAME.{json,md}."""
    rows, started = [], commit()
    for seed in range(seeds):
        for rule in RULES[name]:
            print(f"{name}: seed {seed}, {rule}", flush=True)
            rows.append(
                {"seed": seed, "rule": rule} | one(name, seed, rule, rest, stop)
            )
    found = {"summary": summary(name, rows), "runs": rows}
    write(name, [f"--seeds={seeds}", *rest], started, found, page)


def compare(
    name: str, seeds: int, rest: Sequence[str], stop: loop.Stop
) -> None:
    """Settings of edge pruning; writes docs/results/NAME.{json,md,svg}."""
    started = commit()
    folder = ROOT / "runs" / "reproduce" / name
    found = reproduce_pruning.reproduce(name, seeds, rest, folder, stop)
    RESULTS.mkdir(parents=True, exist_ok=True)
    drawn = reproduce_pruning.draw(name, found, RESULTS / f"{name}.svg")

    def page(content: Mapping[str, Any]) -> list[str]:
        picture = ["", f"![{name}]({name}.svg)"] if drawn else []
        return [*reproduce_pruning.page(content), *picture]

    write(name, [f"--seeds={seeds}", *rest], started, found, page)


def tabulate(
    name: str, seeds: int, rest: Sequence[str], stop: loop.Stop
) -> None:
    """Experiments side by side; writes docs/results/NAME.{json,md}."""
    started, tables = commit(), reproduce_tables
    folder = ROOT / "runs" / "reproduce" / name
    found = tables.reproduce(name, seeds, rest, folder, stop)
    page = functools.partial(tables.page, tables.ENTRIES[name])
    write(name, [f"--seeds={seeds}", *rest], started, found, page)


def reproduce_published(
    name: str, rest: Sequence[str], stop: loop.Stop
) -> None:
    """A published network; writes docs/results/NAME.{json,md}."""
    started = commit()
    folder = ROOT / "runs" / "reproduce" / name
    found = reproduce_resnet.reproduce(name, rest, folder, stop)
    write(name, rest, started, found, reproduce_resnet.page)


def reproduce_digital(rest: Sequence[str], stop: loop.Stop) -> None:
    """Networks in few bits; writes docs/results/fp4_resnets.{json,md}."""
    started, fp4 = commit(), reproduce_fp4
    folder = ROOT / "runs" / "reproduce" / fp4.NAME
    found = fp4.reproduce(rest, folder, stop)
    write(fp4.NAME, rest, started, found, fp4.page)


def reproduce_pairs(rest: Sequence[str], stop: loop.Stop) -> None:
    """Pairs under read noise; writes docs/results/half_sparse.{json,md,svg}."""
    half, started = reproduce_half_sparse, commit()
    folder = ROOT / "runs" / "reproduce" / half.NAME
    found = half.reproduce(rest, folder, stop)
    write(half.NAME, rest, started, found, half.page)
    half.draw(found, ROOT / "docs" / "results" / f"{half.NAME}.svg")


def reproduce_features(part: Any, rest: Sequence[str]) -> None:
    """Features of images; writes docs/results/NAME.{json,md,svg}."""
    started = commit()
    found = part.reproduce(rest)
    write(part.NAME, rest, started, found, part.page)
    part.draw(found, RESULTS / f"{part.NAME}.svg")


def drawn(
    part: Any, name: str, seeds: int, rest: Sequence[str], stop: loop.Stop
) -> None:
    """Rows of a part of this program; writes docs/results/NAME.*."""
    started = commit()
    folder = ROOT / "runs" / "reproduce" / name
    found = part.reproduce(name, seeds, rest, folder, stop)
    for rows in ("runs", "cells"):
        if found.get(rows, True) == []:  # It must not replace a result.
            raise checks.UsageError(
                f"nothing of {name} is left by {' '.join(rest) or 'no seed'};"
                " give words of its table in --only, or leave it out."
            )
    page = functools.partial(part.page, name)
    write(name, [f"--seeds={seeds}", *rest], started, found, page)
    if hasattr(part, "draw"):
        part.draw(name, found, RESULTS / f"{name}.svg")


def measure(name: str, rest: Sequence[str]) -> None:
    """Speed beside a floor or a peer; writes docs/results/NAME.{json,md}."""
    started = commit()
    found = reproduce_bench.reproduce(name, rest)
    write(name, rest, started, found, reproduce_bench.page)


def write(
    name: str,
    flags: Sequence[str],
    started: str,
    found: Mapping[str, Any],
    page: Callable[[Mapping[str, Any]], list[str]],
) -> None:
    """Writes a result with its command and machine, as JSON and markdown."""
    places = ("--data_root", "--peer_python")  # Of one machine.
    shown = [a for a in flags if not a.startswith(places)]
    content = {
        "command": " ".join(["scripts/reproduce", name, *shown]),
        "date": datetime.date.today().isoformat(),
        "commit": started,
        "machine": machine(),
        **found,
    }
    text = "\n".join([*head(name, content), *page(content)]) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    workdir.write_json(RESULTS / f"{name}.json", content)
    (RESULTS / f"{name}.md").write_text(text, "utf-8")
    print(text)


def one(
    name: str, seed: int, rule: str, rest: Sequence[str], stop: loop.Stop
) -> dict[str, Any]:
    """One run in runs/reproduce; only a mask is put on chips."""
    folder = ROOT / "runs" / "reproduce" / name / f"{rule}-{seed}"
    flags = [f"--config={CONFIGS[name]}", f"--workdir={folder}", *rest]
    learned = "mask" if rule == NO_BAND else rule
    own = [f"--config.seed={seed}", f"--config.learn.rule={learned}"]
    if rule == NO_BAND:
        own += [f"--config.learn.dead_band_{s}=0.0" for s in ("start", "stop")]
    if rule == "weights":  # A cell that is set or reset holds no such weight.
        own.append("--config.train.hardware=ideal")
    options = main.parse([*flags, *own])
    resolved = job.resolve(options.config, options.data_root)
    if rule == "mask":
        job.run(resolved, folder, stop)
        return reproduce_pruning.figures(folder)
    found, state = reproduce_tables.trained(resolved, folder, stop)
    counts = jax.device_get(resolved.recipe.summary(state))
    return {
        "test_accuracy": found["test"]["accuracy"],
        **reproduce_pruning.flips(folder, counts),
        "seconds": found["seconds"],
    }


def summary(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, in accuracy."""
    if RULES[name][:2] != _PRUNING:
        return by_rule(RULES[name], rows)
    mask = [r for r in rows if r["rule"] == "mask"]
    ideal = np.array([r["test_accuracy"] for r in mask])
    trained = np.array(
        [r["test_accuracy"] for r in rows if r["rule"] == "weights"]
    )
    chips = np.array([r["chips_mean"] for r in mask])
    return {
        "mask_only": spread(ideal),
        "trained_weights": spread(trained),
        "mask_below_weights": spread(trained - ideal),
        "chips_mean": spread(chips),
        "chips_below_ideal": spread(ideal - chips),
        "yield": spread(np.array([r["yield"] for r in mask])),
        **of_band(mask, [r for r in rows if r["rule"] == NO_BAND]),
    }


def of_band(
    mask: Sequence[Mapping[str, Any]], free: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the dead-band costs in accuracy and saves in programming."""
    if not free:
        return {}
    lost, share = [], []
    for with_band, without in zip(mask, free, strict=True):
        lost.append(without["test_accuracy"] - with_band["test_accuracy"])
        flips = (row["flips_per_weight_in_all"] for row in (with_band, without))
        share.append(np.divide(*flips))
    return {
        "accuracy_lost_to_dead_band": spread(np.array(lost)),
        "flips_left_by_dead_band": spread(np.array(share)),
    }


def by_rule(
    rules: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Every rule, and how far it stays below the first."""
    found = {
        rule: np.array([r["test_accuracy"] for r in rows if r["rule"] == rule])
        for rule in rules
    }
    base = rules[0]
    below = {
        f"{rule}_below_{base}": spread(found[base] - found[rule])
        for rule in rules[1:]
    }
    return {rule: spread(values) for rule, values in found.items()} | below


def commit() -> str:
    """The commit that was run, marked if the tree differed from it."""
    run = lambda *a: subprocess.run(  # noqa: E731
        ["git", *a], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = run("status", "--porcelain", "--", "jaxedge", "configs")
    return run("rev-parse", "HEAD") + (" (changed)" if changed else "")


def machine() -> dict[str, Any]:
    """What it ran on, without naming the machine."""
    lines = Path("/proc/cpuinfo")
    models = (
        [
            line.split(":")[1].strip()
            for line in lines.read_text("utf-8").splitlines()
            if line.startswith("model name")
        ]
        if lines.exists()
        else [platform.processor()]
    )
    return {
        "backend": jax.default_backend(),
        "devices": [d.device_kind for d in jax.devices()],
        "processor": models[0],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def head(name: str, content: Mapping[str, Any]) -> list[str]:
    """The first lines of a result: what was run where."""
    # A tree that differed from its commit is told.
    at, _, changed = content["commit"].partition(" ")
    shown = " ".join([at[:12], changed]).strip()
    return [
        f"# {name}",
        "",
        f"`{content['command']}`, {content['date']}, commit {shown},"
        f" {content['machine']['cores']} cores of"
        f" {content['machine']['processor']}, jax"
        f" {content['machine']['jax']}.",
        "",
    ]


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    percent = lambda v: f"{100 * v:.2f}"  # noqa: E731
    lines = [
        "| figure | mean over seeds | sd |",
        "|---|--:|--:|",
    ]
    for key, value in content["summary"].items():
        lines.append(
            f"| {key.replace('_', ' ')} (%) | {percent(value['mean'])} |"
            f" {percent(value['sd']) if 'sd' in value else '-'} |"
        )
    lines += [
        "",
        "| seed | rule | ideal test (%) | chips mean | sd | 5th percentile |"
        " worst | flips per weight | training (s) |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in content["runs"]:
        told = [row.get(f"chips_{k}") for k in ("mean", "std", "p05", "min")]
        figures = ["-" if value is None else percent(value) for value in told]
        flips = row.get("flips_per_weight_in_all")
        figures.append(f"{flips:.2f}" if flips else "-")
        lines.append(
            f"| {row['seed']} | {row['rule']} |"
            f" {percent(row['test_accuracy'])} | {' | '.join(figures)} |"
            f" {row['seconds']['train']:.0f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(console(sys.argv[1:]))
