"""Published CIFAR-10 networks in few bits; called by `scripts/reproduce`.

Each network on a digital chip of each number format, weights and inputs of all
layers, the first and the last too: accuracy over the test set beside float32.
Nothing is trained or calibrated, and nothing is drawn: one chip is all chips. A
killed call goes on where it was.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import time
from typing import Any
import warnings

import reproduce_resnet

from jaxedge.core import checks
from jaxedge.hardware import digital, formats
from jaxedge.models import checkpoints
from jaxedge.run import job, loop, main, workdir

NAME = "fp4_resnets"
CONFIG = "configs/resnet.py:resnet20"
NETWORKS = tuple(checkpoints.CHECKPOINTS)
FORMATS = (
    "int8", "fp8_e4m3", "mxfp6_e2m3",
    "nvfp4", "mxfp4", "fp4_e2m1", "int4",
    "nvfp4_w4a8", "int4_w4a8",
    "nvfp4_w4a16", "mxfp4_w4a16", "fp4_e2m1_w4a16", "int4_w4a16",
)  # fmt: skip
FLOAT = "float32"


def reproduce(
    rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All networks in all formats; goes on where it was stopped.

    Args:
        rest: `--data_root=DIR` and, for a quick look, `--images=N`.
        folder: where the figures are kept.
        stop: looked at between them.

    Returns:
        "images", N; "rows", one a network and format with its `accuracy`,
        in float32 too, and `seconds`; "published", the authors' accuracies.
    """
    flags, images = [], None
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag == "--images" and value.isdigit() and int(value):
            images = int(value)
        elif flag == "--data_root":
            flags.append(argument)
        else:
            raise checks.UsageError(
                f"{argument!r} is no flag of {NAME}; use --data_root=DIR or"
                " --images=N."
            )
    rows = []
    for network in NETWORKS:
        given = _resolved(network, flags, images)
        for form in (FLOAT, *FORMATS):
            if stop.asked:
                raise loop.Preempted(f"stopped before {network} in {form}")
            path = folder / f"{network}-{form}-{images or 'all'}.json"
            row = json.loads(path.read_text()) if path.exists() else None
            if row is None:
                row = {"network": network, "format": form}
                row |= _measured(given, form, folder / network, stop)
                folder.mkdir(parents=True, exist_ok=True)
                workdir.write_json(path, row)
            print(f"{network} {form}: {100 * row['accuracy']:.2f}", flush=True)
            rows.append(row)
    known = checkpoints.CHECKPOINTS
    return {
        "images": images or 10_000,
        "published": {
            name: None if (error := known[name].error) is None else 1 - error
            for name in NETWORKS
        },
        "sources": {name: known[name].source for name in NETWORKS},
        "rows": rows,
    }


def _resolved(
    network: str, flags: Sequence[str], images: int | None
) -> job.Job:
    """A network and the test images, as one chip reads them."""
    options = main.parse(
        [
            f"--config={CONFIG}",
            f"--config.model.checkpoint={network}",
            "--config.hardware.device=nvfp4",
            "--config.study=",
            f"--workdir={network}",  # Not written to.
            *flags,
        ]
    )
    with warnings.catch_warnings():  # Of fields of the config's crossbar.
        warnings.simplefilter("ignore")
        given = job.resolve(options.config, options.data_root)
    chips = given.chips._replace(n=1, sweep=0, images=images, batch=50)
    return given._replace(chips=chips)


def _measured(
    given: job.Job, form: str, folder: Path, stop: loop.Stop
) -> dict[str, float]:
    """Accuracy, in [0, 1], and how long that took."""
    start = time.monotonic()
    variables = given.recipe.finish(given.recipe.init(given.key))
    if form == FLOAT:
        test = given.splits["test"]
        n = given.chips.images
        some = test._replace(x=test.x[:n], y=test.y[:n])
        found = loop.evaluator(given.recipe, 500)(variables, some)["accuracy"]
    else:
        given = given._replace(spec=digital.get(form))
        (found,) = reproduce_resnet.measure(given, variables, folder, stop)
    return {
        "accuracy": round(float(found), 5),
        "seconds": round(time.monotonic() - start, 1),
    }


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    found = {(r["network"], r["format"]): r for r in content["rows"]}
    head = " | ".join(name.replace("_", " ") for name in NETWORKS)
    told = [content["published"][name] for name in NETWORKS]
    lines = [
        f"Accuracy (%) over the first {content['images']:,} test images, and in"
        " brackets what that is above float32. Weights and inputs of every"
        " layer are in the format, the first and the last too; batch"
        " normalisation is folded into the kernels; sums are float32. Scales"
        " are those of the largest number (of a block, of an output, of an"
        " input vector): nothing is trained, searched or calibrated.",
        "",
        f"| weights | inputs | {head} |",
        f"|---|---|{'--:|' * len(NETWORKS)}",
        "| published | |"
        + "".join(f" {_percent(v) if v else 'unknown'} |" for v in told),
        "| float32 | float32 |"
        + "".join(
            f" {_percent(found[name, FLOAT]['accuracy'])} |"
            for name in NETWORKS
        ),
    ]
    for form in FORMATS:
        spec = digital.get(form)
        cells = []
        for name in NETWORKS:
            value = found[name, form]["accuracy"]
            above = 100 * (value - found[name, FLOAT]["accuracy"])
            cells.append(f"{_percent(value)} ({above:+.2f})")
        inputs = spec.inputs or "as they are"
        lines.append(f"| {spec.weights} | {inputs} | {' | '.join(cells)} |")
    lines += [
        "",
        "Bits a weight with its scales, of a matrix of 576 inputs and 64"
        " outputs: "
        + ", ".join(
            f"{form} {_bits(form):.2f}"
            for form in FORMATS
            if form in formats.FORMATS
        )
        + ".",
        "",
        "Sources: "
        + "; ".join(f"{k} of {v}" for k, v in content["sources"].items())
        + ".",
    ]
    return lines


def _bits(form: str) -> float:
    return formats.stored_bits(form, 576, 64, "vector") / (576 * 64)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
