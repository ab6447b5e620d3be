"""A published CIFAR-10 network on chips; called by `scripts/reproduce`.

Its accuracy on ideal hardware over the whole test set, chips at the config's
hardware, two of them over the whole test set, and a grid of ADC bits and
device noise. A killed call goes on where it was.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core.keys import stream
from jaxedge.models import checkpoints
from jaxedge.run import job, loop, main, study

CONFIGS = {
    "resnet20_cifar10": "configs/resnet.py:resnet20",
    "resnet56_cifar10": "configs/resnet.py:resnet56",
}
ADC_BITS = (4, 5, 6, 7, 8, 9, 10)
# All published noise of the device times these: `write_error`, `read_noise`.
NOISE = (0.0, 0.5, 1.0, 2.0)
# Chips that read the whole test set.
WHOLE = 2


def reproduce(
    name: str, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All figures of one network; goes on where it was stopped.

    Args:
        name: a key of `CONFIGS`.
        rest: further flags. `chips.n`, `chips.images` and, for a cell of the
            grid, `chips.sweep` say how much is computed.
        folder: where the parts are kept.
        stop: looked at between chunks of chips.
    """
    flags = [f"--config={CONFIGS[name]}", f"--workdir={folder}", *rest]
    options = main.parse(flags)
    resolved = job.resolve(options.config, options.data_root)
    job.run(resolved, folder, stop)
    variables = resolved.recipe.finish(job.train(resolved, folder, stop))
    found = json.loads((folder / "summary.json").read_text())
    with np.load(folder / "study.npz") as file:
        sweeps = {k: file[k].tolist() for k in file if k.endswith("_levels")}
        for key in list(sweeps):
            score = key.replace("_levels", "_score")
            mean = file[score].mean(1, dtype=float)
            sweeps[score] = mean.round(5).tolist()
    known = checkpoints.CHECKPOINTS[resolved.given.model.checkpoint]
    return {
        "checkpoint": resolved.given.model.checkpoint,
        "source": known.source,
        "published_error": known.error,
        "test_accuracy": found["metrics"]["test_accuracy"],
        "hardware": found["config"]["hardware"],
        "chips": found["chips"],
        "sweeps": sweeps,
        "whole": whole(resolved, variables, folder, stop),
        "grid": grid(resolved, variables, folder, stop),
        "joules_hardware": found["energy"]["joules_hardware"],
        "seconds": found["seconds"],
    }


def whole(
    resolved: job.Job, variables: Any, folder: Path, stop: loop.Stop
) -> dict[str, list[float]]:
    """The first chips again, over some and over all test images."""
    first = resolved.chips._replace(n=WHOLE, sweep=0, chunk=WHOLE)
    found = {}
    for part, images in (("images", first.images), ("all", None)):
        part_of = resolved._replace(chips=first._replace(images=images))
        found[part] = measure(part_of, variables, folder, stop).tolist()
    return found


def grid(
    resolved: job.Job, variables: Any, folder: Path, stop: loop.Stop
) -> list[dict[str, Any]]:
    """Mean and spread over chips for every ADC resolution and noise."""
    base: Any = resolved.spec
    device = base.device
    chips = resolved.chips
    chips = chips._replace(n=max(chips.sweep, 1), sweep=0)
    rows = []
    for bits in ADC_BITS:
        for noise in NOISE:
            print(f"ADC of {bits} bits, noise x {noise}", flush=True)
            spec = dataclasses.replace(
                base,
                adc_bits=bits,
                device=device.replace(
                    write_error=noise * device.write_error,
                    read_noise=noise * device.read_noise,
                ),
            )
            cell = resolved._replace(spec=spec, chips=chips)
            accuracy = measure(cell, variables, folder, stop)
            rows.append(
                {
                    "adc_bits": bits,
                    "noise": noise,
                    "mean": round(float(accuracy.mean()), 5),
                    "sd": round(float(accuracy.std()), 5),
                    "chips": chips.n,
                }
            )
    return rows


def measure(
    resolved: job.Job, variables: Any, folder: Path, stop: loop.Stop
) -> np.ndarray:
    """Accuracy of each chip of a job's study, [n], with five digits."""
    found = study.run(
        resolved.recipe,
        variables,
        resolved.splits["test"],
        resolved.spec,
        resolved.chips,
        (),
        stream(resolved.key, "study"),
        folder / "studies",
        stop,
        resolved.samples,
    )
    return found.arrays["score"].astype(float).round(5)


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    chips, images = content["chips"], content["chips"]["images"]
    mean = chips["score_mean"]
    error = math.sqrt(mean * (1 - mean) / images)
    stated = content["published_error"]
    published = "unknown" if stated is None else percent(1 - stated)
    lines = [
        "| figure | accuracy (%) |",
        "|---|--:|",
        f"| published ({content['source']}) | {published} |",
        "| ideal hardware, 10,000 test images |"
        f" {percent(content['test_accuracy'])} |",
        f"| {chips['n']} chips, first {images:,} images: mean |"
        f" {percent(mean)} |",
        f"| sd over chips | {percent(chips['score_std'])} |",
        f"| 5th percentile | {percent(chips['score_p05'])} |",
        f"| worst | {percent(chips['score_min'])} |",
    ]
    for part, count in (("images", f"first {images:,}"), ("all", "10,000")):
        row = ", ".join(percent(v) for v in content["whole"][part])
        lines.append(f"| {WHOLE} of these chips, {count} images | {row} |")
    lines += [
        "",
        f"The standard error from {images:,} instead of all images is"
        f" {percent(error)} points; every chip reads the same ones.",
        "",
        f"Hardware: `{described(content['hardware'])}`.",
        "",
        f"Mean accuracy (%) of {content['grid'][0]['chips']} chips, and in"
        " brackets their sd. Noise 1 is the device as published (programming"
        " error and read noise), 0 is none.",
        "",
        f"| ADC bits | {' | '.join(f'noise {n:g}' for n in NOISE)} |",
        f"|--:|{'--:|' * len(NOISE)}",
    ]
    for bits in ADC_BITS:
        cells = [
            f"{percent(row['mean'])} ({percent(row['sd'])})"
            for row in content["grid"]
            if row["adc_bits"] == bits
        ]
        lines.append(f"| {bits} | {' | '.join(cells)} |")
    return lines


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def described(hardware: Mapping[str, Any]) -> str:
    """The fields that are set, as text."""
    fields = {**hardware, **hardware["overrides"]}
    for part in ("overrides", "macro"):
        fields.pop(part, None)
    return ", ".join(f"{k}={v}" for k, v in fields.items() if v is not None)
