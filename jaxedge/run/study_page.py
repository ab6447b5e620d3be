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
    if not said or "score" not in study:
        return page.missing("No chips were studied", "jaxedge chips")
    score_C, threshold = study["score"], said["threshold"]
    score = summary["score"]
    n, share = score_C.size, figures.chip_yield(score_C, threshold)
    if n != said["n"] or abs(share - said["yield"]) > 0.5 / n:
        raise checks.UsageError(
            f"study.npz has {n} chips and a yield of {share:.4f}, summary.json"
            f" {said['n']} and {said['yield']}; repeat `jaxedge chips` with"
            " this workdir, so that both come from one study."
        )
    if said.get("alike"):
        return f"<p>{page.escape(_alike(said, score))}</p>"
    return page.columns(
        page.picture(
            figures.score_histogram(score_C, threshold, score),
            f"Histogram of the {text.metric(score)} of {n:,} chips with the"
            " yield shaded",
            text.reached(score_C, threshold, share, score)
            + text.sampled(said.get("images")),
        ),
        page.picture(
            stress.yield_curve(score_C, threshold, score),
            f"Yield against the {text.metric(score)} asked of a chip, with its"
            " interval",
            text.sure(statistics.describe(score_C, threshold)),
        ),
    )


def _alike(said: Json, score: str) -> str:
    """The chip that stands for all, in a sentence."""
    reached = said["score_mean"] >= said["threshold"]
    threshold = text.percent(said["threshold"])
    return (
        "All chips of this design are alike, so one stands for them: its"
        f" {text.metric(score)} is {text.percent(said['score_mean'])}, which"
        f" {'reaches' if reached else 'is below'} the threshold of {threshold}."
        f"{text.sampled(said.get('images')).replace('Each', 'It')}"
    )


def stressed(study: Arrays, summary: Json) -> str:
    """A picture of every sweep, and a table behind them.

    Args:
        study: its arrays.
        summary: with the score and the threshold of the chips, if there are
            sweeps.
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
    threshold, score = summary["chips"]["threshold"], summary["score"]
    pictures = [
        _sweep(study, name, score) for name in names if name not in _LAYERS
    ]
    if found := [name for name in _LAYERS if name in names]:
        pictures.append(_layers(study, found, score))
    alike = bool(summary["chips"].get("alike"))
    tables = [_table(study, name, threshold, alike) for name in names]
    title = f"The same in numbers: {text.metric(score)}"
    if not alike:
        title += f", and yield at {text.percent(threshold)}"
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
        tell = _alike if found["chips"].get("alike") else text.yielded
        said = tell(found["chips"], found["score"])
        parts.append(f"<h3>{page.escape(title)}</h3><p>{page.escape(said)}</p>")
        if found["sweeps"]:
            archive = results.Archive(path.with_suffix(".npz"))
            parts.append(stressed(archive, found))
    return page.section("Other studies", "".join(parts)) if parts else ""


def _sweep(study: Arrays, name: str, score: str) -> str:
    levels, score_LxC = study[f"{name}_levels"], study[f"{name}_score"]
    return page.picture(
        stress.against(name, levels, score_LxC, score),
        f"{text.metric_title(score)} of chips against:"
        f" {stress.axis(name).title}",
        stress.sentence(name, levels, score_LxC, score),
    )


def _layers(study: Arrays, found: Sequence[str], score: str) -> str:
    """One bar chart, of the layers of the first sweep and who shares them."""
    names = study[f"{found[0]}_levels"].tolist()
    scores = {
        _LAYERS[name]: study[f"{name}_score"]
        for name in found
        if study[f"{name}_levels"].tolist() == names
    }
    return page.picture(
        stress.layer_errors(names, scores, score),
        f"Test {text.metric(score)} that chips miss, by layer",
        stress.worst_layer(names, scores),
    )


def _table(study: Arrays, name: str, threshold: float, alike: bool) -> str:
    """A sweep in numbers; of chips that are alike nothing is spread."""
    score_LxC = study[f"{name}_score"]
    title = stress.axis(name).title
    rows = stress.rows(name, study[f"{name}_levels"], score_LxC, threshold)
    if alike:
        few = [row[:2] for row in rows]
        return page.table(title, [stress.HEAD[0], "Every chip"], few)
    count = f"{score_LxC.shape[1]:,} chips a level"
    return page.table(f"{title}, {count}", stress.HEAD, rows)


def _record(path: Path) -> Json:
    """What `jaxedge chips` noted of a study."""
    parts = ("study", "words", "hardware", "score", "chips", "sweeps")
    try:
        found = json.loads(path.read_bytes())
        return {part: found[part] for part in parts}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise checks.UsageError(
            f"{str(path)!r} is no record of a study ({error!r}); delete it and"
            " repeat `jaxedge chips` with its config."
        ) from error
