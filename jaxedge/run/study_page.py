"""What a report says of chips: their yield, what stresses them, other studies.

Letters: C chips, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import figures, page, results, statistics, stress, text

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

# Sweeps that share one bar chart, and what their bars stand for.
_LAYERS = {
    "only_layer": "this layer alone on hardware",
    "all_but_layer": "all but this layer",
}


def chips(summary: Json, study: Arrays) -> str:
    """The chips at the config's hardware: histogram and yield curve.

    Raises:
        UsageError: if the study is not the summary's.
    """
    said = summary.get("chips")
    if not said or "accuracy" not in study:
        return page.missing("No chips were studied", "jaxedge chips")
    accuracy_C, threshold = study["accuracy"], said["threshold"]
    n, share = accuracy_C.size, figures.chip_yield(accuracy_C, threshold)
    if n != said["n"] or abs(share - said["yield"]) > 0.5 / n:
        raise checks.UsageError(
            f"study.npz has {n} chips and a yield of {share:.4f}, summary.json"
            f" {said['n']} and {said['yield']}; repeat `jaxedge chips` with"
            " this workdir, so that both come from one study."
        )
    return page.columns(
        page.picture(
            figures.accuracy_histogram(accuracy_C, threshold),
            f"Histogram of the accuracy of {n:,} chips with the yield shaded",
            text.reached(accuracy_C, threshold, share)
            + text.sampled(said.get("images")),
        ),
        page.picture(
            stress.yield_curve(accuracy_C, threshold),
            "Yield against the accuracy asked of a chip, with its interval",
            text.sure(statistics.describe(accuracy_C, threshold)),
        ),
    )


def stressed(study: Arrays, summary: Json) -> str:
    """A picture of every sweep, and a table behind them.

    Args:
        study: its arrays.
        summary: with the threshold of the chips, if there are sweeps.
    """
    names = [
        name.removesuffix("_levels")
        for name in study
        if name.endswith("_levels")
    ]
    if not names:
        return page.missing(
            "No sweep was studied", "jaxedge chips --config.study=all"
        )
    threshold = summary["chips"]["threshold"]
    pictures = [_sweep(study, name) for name in names if name not in _LAYERS]
    if found := [name for name in _LAYERS if name in names]:
        pictures.append(_layers(study, found))
    tables = [_table(study, name, threshold) for name in names]
    title = f"The same in numbers; yield at {text.percent(threshold)}"
    return page.columns(*pictures) + page.details(title, "".join(tables))


def others(folder: Path, summary: Json) -> str:
    """The finished studies of a run but the one of its summary.

    Raises:
        UsageError: for a record that cannot be read.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        found = _record(path)
        if found["study"] == summary.get("study"):
            continue
        title = text.differing(
            found["words"], found["hardware"], summary["config"]["hardware"]
        )
        parts.append(
            f"<h3>{page.escape(title)}</h3>"
            f"<p>{page.escape(text.yielded(found['chips']))}</p>"
        )
        if found["sweeps"]:
            archive = results.Archive(path.with_suffix(".npz"))
            parts.append(stressed(archive, found))
    return page.section("Other studies", "".join(parts)) if parts else ""


def _sweep(study: Arrays, name: str) -> str:
    levels, accuracy_LxC = study[f"{name}_levels"], study[f"{name}_accuracy"]
    return page.picture(
        stress.against(name, levels, accuracy_LxC),
        f"Accuracy of chips against: {stress.axis(name).title}",
        stress.sentence(name, levels, accuracy_LxC),
    )


def _layers(study: Arrays, found: Sequence[str]) -> str:
    """One bar chart, of the layers of the first sweep and who shares them."""
    names = study[f"{found[0]}_levels"].tolist()
    accuracy = {
        _LAYERS[name]: study[f"{name}_accuracy"]
        for name in found
        if study[f"{name}_levels"].tolist() == names
    }
    return page.picture(
        stress.layer_errors(names, accuracy),
        "Test error of chips, by layer",
        stress.worst_layer(names, accuracy),
    )


def _table(study: Arrays, name: str, threshold: float) -> str:
    accuracy_LxC = study[f"{name}_accuracy"]
    return page.table(
        f"{stress.axis(name).title}, {accuracy_LxC.shape[1]:,} chips a level",
        stress.HEAD,
        stress.rows(name, study[f"{name}_levels"], accuracy_LxC, threshold),
    )


def _record(path: Path) -> Json:
    """What `jaxedge chips` noted of a study."""
    parts = ("study", "words", "hardware", "chips", "sweeps")
    try:
        found = json.loads(path.read_bytes())
        return {part: found[part] for part in parts}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise checks.UsageError(
            f"{str(path)!r} is no record of a study ({error!r}); delete it and"
            " repeat `jaxedge chips` with its config."
        ) from error
