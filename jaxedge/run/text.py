"""The numbers of a run as text: units, and the sentences under a picture.

Letters: C chips, L levels, I word lines (inputs), O bit lines (outputs).
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

Json = Mapping[str, Any]

# Below this a cell counts as not formed, in siemens.
_OFF = 1e-6
# A no-break space between a number and its unit.
_SPACE = "\u00a0"

UNTRAINED = "Nothing was trained: the network is as it was given."
UNMASKED = "No layer has a mask: all of its weights are in use."
_UNPRICED = "It is unpriced: the energy of SET and RESET is unknown."
# Metrics that a recipe may be judged by, in words.
_METRICS = {
    "roc_auc": "area under the ROC curve",
    "pr_auc": "area under the precision-recall curve",
    "instance_iou": "mean IoU over instances",
}


# Names.


def metric(name: str) -> str:
    """A metric in words, such as "area under the ROC curve"."""
    return _METRICS.get(name, name.replace("_", " "))


def metric_title(name: str) -> str:
    """The same to begin a line with."""
    words = metric(name)
    return words[:1].upper() + words[1:]


# Numbers.


def percent(share: float | None) -> str:
    """A share in [0, 1] as "85.5 %", a dash if there is none."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.1f}{_SPACE}%"


def percent_short(share: float) -> str:
    """A share as "0.2 %", without digits that say nothing."""
    return f"{100 * share:g}{_SPACE}%"


def number(value: float) -> str:
    """A number as "0.05" or "1e-05"."""
    return f"{value:g}"


def between(low: float, high: float) -> str:
    """Two shares as "84.1-86.9 %", a dash if they are unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{100 * low:.1f}-{100 * high:.1f}{_SPACE}%"


def joules(value: float | None) -> str:
    """An energy in joules as "7.6 nJ", a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    factor, letter = prefix(value)
    return f"{factor * value:.3g}{_SPACE}{letter}J"


def prefix(value: float) -> tuple[float, str]:
    """The factor and letter that make `value` readable, as (1e9, "n")."""
    letters = {0: "", 1: "m", 2: "µ", 3: "n", 4: "p", 5: "f", 6: "a"}
    if value <= 0 or not np.isfinite(value):
        return 1.0, ""
    thousands = int(np.clip(np.ceil(-np.log10(value) / 3), 0, 6))
    return 1000.0**thousands, letters[thousands]


def flat(value: Any) -> str:
    """Any entry of a summary in one line; None is "unknown"."""
    if value is None:
        return "unknown"
    if isinstance(value, Mapping):
        return ", ".join(
            flat(part) if name == "value" else f"{name}: {flat(part)}"
            for name, part in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(flat(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Sentences.


def learned(rows: Sequence[Json], score: str) -> str:
    """How validation went by a metric, from the rows of `metrics.read`."""
    scored = [
        row
        for row in rows
        if row.get("phase") == "valid" and row.get(score) is not None
    ]
    if not scored:
        return f"Training wrote {len(rows):,} rows and was never validated."
    best = max(scored, key=lambda row: row[score])
    return (
        f"Validation: the {metric(score)} ends at"
        f" {percent(scored[-1][score])} after"
        f" {scored[-1]['step']:,} steps and was best at step"
        f" {best['step']:,} with {percent(best[score])}."
    )


def reached(
    score_C: np.ndarray, threshold: float, share: float, score: str
) -> str:
    """How many chips, a `share` in [0, 1], reach the threshold of a metric."""
    return (
        f"{int((score_C >= threshold).sum()):,} of {score_C.size:,} chips"
        f" ({percent(share)}) reach the threshold of {percent(threshold)}"
        f" ({metric(score)});"
        f" the mean is {percent(score_C.mean(dtype=float))}, the worst chip"
        f" has {percent(score_C.min())}."
    )


def sampled(images: int | None) -> str:
    """How many test examples a chip has read; nothing where that is unknown."""
    return f" Each has read {images:,} test examples." if images else ""


def sure(said: Json) -> str:
    """How sure yield and mean are, from `statistics.describe`."""
    return (
        f"With 95{_SPACE}% confidence the yield lies in"
        f" {between(said['yield_low'], said['yield_high'])} (exact binomial"
        " interval) and the mean over chips in"
        f" {between(said['score_mean_low'], said['score_mean_high'])}"
        " (Student's t)."
    )


def yielded(chips: Json, score: str) -> str:
    """The chips of another study, which a metric judges, in one sentence."""
    return (
        f"Over its {chips['n']:,} chips the {metric(score)} is on average"
        f" {percent(chips['score_mean'])}; the yield at"
        f" {percent(chips['threshold'])} is {percent(chips['yield'])}."
    )


def differing(words: str, there: Json, here: Json) -> str:
    """The words of a study, and where its hardware is not this one."""
    fields, current = _fields(there), _fields(here)
    differ = [
        f"{name} {flat(fields[name])}"
        for name in sorted(fields)
        if fields[name] != current.get(name)
    ]
    return f"{words or 'chips'} ({', '.join(differ) or 'the same hardware'})"


def _fields(section: Json, prefix: str = "") -> dict[str, Any]:
    """A section with the fields of its sections beside its own.

    Those of a device stand for themselves; others have a crossbar's names.
    """
    found = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            below = "" if name == "overrides" else f"{prefix}{name}."
            found |= _fields(value, below)
        else:
            found[prefix + name] = value
    return found


def kept(names: Sequence[str], share_L: np.ndarray) -> str:
    """Where the mask keeps the fewest and the most weights, in [0, 1]."""
    least, most = int(np.argmin(share_L)), int(np.argmax(share_L))
    if percent(share_L[least]) == percent(share_L[most]):
        return f"The mask keeps {percent(share_L[0])} of every layer."
    return (
        f"The mask keeps the fewest weights in {names[least]}"
        f" ({percent(share_L[least])}) and the most in {names[most]}"
        f" ({percent(share_L[most])})."
    )


def conducting(g_IxO: np.ndarray, side: int) -> str:
    """The cells in siemens, of which a map shows `side` lines at most."""
    rows, columns = g_IxO.shape
    cropped = (
        f" (lines up to {side} shown)" if max(rows, columns) > side else ""
    )
    return (
        f"Of {rows:,} × {columns:,} cells{cropped}"
        f" {percent((g_IxO < _OFF).mean())} conduct less than 1{_SPACE}µS; the"
        f" mean is {1e6 * g_IxO.mean():.1f}{_SPACE}µS."
    )


def spent(layers: Sequence[Json]) -> str:
    """What one input costs, and what costs the most of it."""
    adc = sum(layer["joules_adc"] for layer in layers)
    total = sum(layer["joules"] for layer in layers)
    most = max(layers, key=lambda layer: layer["joules"])
    return (
        f"One input costs {joules(total)}, of which the ADCs take"
        f" {percent(_ratio(adc, total))} and {most['name']}"
        f" {percent(_ratio(most['joules'], total))}."
    )


def programmed(counts: Json) -> str:
    """How often a mask search switched cells.

    Args:
        counts: `sets`, `resets` (weights reinstated, pruned while learning),
            `initial_resets` (pruned before), `flips_per_weight` of the first
            two.
    """
    sets, resets = counts["sets"], counts["resets"]
    start, share = counts["initial_resets"], counts["flips_per_weight"]
    # The number of weights is not stored: it is flips / flips_per_weight.
    whole = (
        f", or {share * (1 + start / (sets + resets)):.3g} with the"
        if sets + resets
        else ", not counting the"
    )
    return (
        f"Learning the mask reinstated {sets:,} weights and pruned {resets:,}:"
        f" {share:.3g} flips per weight{whole} {start:,} pruned at the start."
    )


def priced(value: float | None) -> str:
    """What programming cost in joules, None while a price is unknown."""
    return _UNPRICED if value is None else f"All of it cost {joules(value)}."


def confused(counts_KxK: np.ndarray, classes: Sequence[str], where: str) -> str:
    """How many answers are right, and the commonest error.

    Args:
        counts_KxK: rows are true, columns answered.
        classes: their names, [K].
        where: "on the first chip".
    """
    total, right = int(counts_KxK.sum()), int(np.trace(counts_KxK))
    wrong = counts_KxK - np.diag(np.diag(counts_KxK))
    said = (
        f"{where[:1].upper()}{where[1:]} {right:,} of {total:,} test examples"
        f" ({percent(_ratio(right, total))}) are answered right"
    )
    if not wrong.any():
        return f"{said}."
    true, answered = divmod(int(wrong.argmax()), len(classes))
    return (
        f"{said}; the commonest error is {classes[answered]} for"
        f" {classes[true]}, {int(wrong.max()):,} times."
    )


def example(row: int, ideal: float, chip: float, score: str) -> str:
    """The score of one example by itself."""
    return (
        f"Test example {row:,}: {metric(score)} {percent(ideal)} on ideal"
        f" hardware and {percent(chip)} on the first chip."
    )


def ignoring(labels: np.ndarray) -> str:
    """What grey stands for, where some positions count nowhere."""
    share = float((labels < 0).mean())
    return f" Grey ({percent(share)}) counts nowhere." if share else ""


def sets_right(
    truth_E: np.ndarray, ideal_E: np.ndarray, chip_E: np.ndarray
) -> str:
    """How many of the point sets shown are answered right."""
    ideal, chip = ((a == truth_E).sum() for a in (ideal_E, chip_E))
    return (
        f"Of these {len(truth_E)} test examples {ideal} are answered right on"
        f" ideal hardware and {chip} on the first chip. Each has the colour of"
        " the chip's answer."
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
