"""What a report shows of learned grids: sensitivity, oscillation, levels.

Letters: M modules, K groups of them, B bins, S statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.quantize.variation import Fluctuation
from jaxedge.run import page, text, variation, variation_figures
from jaxedge.run.variation_figures import Change
from jaxedge.run.variation_modules import FAMILIES

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

# Modules of a picture, at most; the table has all.
MOST = 40
_MODULES = (
    "names", "kinds", "bits", "input_bits", "count", "step", "distances",
    "clipped", "fluctuation", "oscillating", "rate", "score/alone",
    "score/spared", "loss/alone", "loss/spared",
)  # fmt: skip
_GROUPS = (
    "groups", "score/group_alone", "score/group_spared", "loss/group_alone",
    "loss/group_spared",
)  # fmt: skip
_LONE = ("examples", "score/all", "score/none")
# The part of the bins that counts as the middle between two levels.
_MIDDLE = 0.2


def section(pictures: Arrays, rows: Sequence[Json], summary: Json) -> str:
    """Whatever can be shown of learned grids, as one section; else nothing.

    Args:
        pictures: with the arrays of `variation.collect`.
        rows: of the run's metrics.
        summary: of the run.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    home = variation.HOME
    if f"{home}names" not in pictures:
        return ""
    found = {
        name.removeprefix(home): pictures[name]
        for name in pictures
        if name.startswith(home)
    }
    _check(found)
    content = (
        _sensitivity(found, summary["score"])
        + _oscillation(found, rows, summary)
        + _distances(found)
        + page.details("Every module", _table(found, summary["score"]))
    )
    return page.section("Learned grids", content)


def _check(found: Arrays) -> None:
    """Raises unless all is there, and arrays of the same things fit."""
    needed = {name for name in (*_MODULES, *_GROUPS) if "loss" not in name}
    lacking = sorted({*needed, *_LONE} - found.keys())
    sizes = [
        {found[name].shape[:1] for name in part if name in found}
        for part in (_MODULES, _GROUPS)
    ]
    if lacking or any(len(size) > 1 for size in sizes):
        shapes = {name: array.shape for name, array in found.items()}
        raise checks.UsageError(
            f"the arrays {variation.HOME}... of pictures.npz have the shapes"
            f" {shapes}, which do not fit, or lack {lacking}; delete it and"
            " repeat `jaxedge chips` with this workdir."
        )


# Sensitivity.


def _sensitivity(found: Arrays, score: str) -> str:
    names = _strings(found["names"])
    made = changes(found, score)
    if not made:
        return page.paragraph(
            "Sensitivity", "It is unknown: not all scores are finite numbers."
        )
    shown = _shown(made[-1].alone + made[-1].spared)
    some = [Change(c.label, c.alone[shown], c.spared[shown]) for c in made]
    picture = page.picture(
        variation_figures.sensitivity([names[i] for i in shown], some),
        f"{text.metric_title(score)} and loss that the grids of each module"
        " cost",
        _sensitive(found, score) + _left_out(shown, names),
    )
    together = _strings(found["groups"])
    of_groups = changes(found, score, "group_")
    if not (together and of_groups):
        return picture
    return picture + page.picture(
        variation_figures.sensitivity(together, of_groups),
        "The same of all modules of a kind at once",
        f"The same of all modules of a kind at once.{_families(together)}",
    )


def _families(together: Sequence[str]) -> str:
    """What the names of families stand for, where there are any."""
    told = [
        f"{name} is {', '.join(kinds)}"
        for name, kinds in FAMILIES.items()
        if name in together
    ]
    if not told:
        return ""
    said = "; ".join(told)
    return f" {said[:1].upper()}{said[1:]}."


def changes(found: Arrays, score: str, of: str = "") -> list[Change]:
    """What grids cost, in the metric that judges and in the loss.

    Args:
        found: arrays of `variation.collect`, by their own names.
        score: the metric.
        of: "" for modules, "group_" for groups.

    Returns:
        One a measure of which all is known and finite.
    """
    made = []
    for said, sign, label in (
        ("score", -100.0, f"{text.metric_title(score)} (points)"),
        ("loss", 1.0, "Loss (nats)"),
    ):
        if f"{said}/all" not in found:
            continue
        every, none, alone, spared = (
            sign * np.asarray(found[f"{said}/{name}"], float)
            for name in ("all", "none", f"{of}alone", f"{of}spared")
        )
        change = Change(label, alone - none, every - spared)
        if np.isfinite(change.alone).all() and np.isfinite(change.spared).all():
            made.append(change)
    return made


def _sensitive(found: Arrays, score: str) -> str:
    every, none = (
        text.percent(float(found[f"score/{name}"])) for name in ("all", "none")
    )
    count = int(found["examples"])
    one = f" One example is {100 / count:.2g} points."
    return (
        f"What grids cost on the first {count:,} validation examples:"
        f" {text.metric(score)} is {every} with all of them, and {none} with"
        " none, weights as they are trained and inputs as they come. Blue:"
        " what is lost where a module is the only one on its grids; orange:"
        " what is won back where it is the only one off them. A module is a"
        " layer's weights and inputs, and the grid of what they make. Other"
        " parameters and running statistics stay those of the network with"
        " grids, so that a network off them may do worse."
        f"{one if score == 'accuracy' else ''}"
    )


# Oscillation.


def _oscillation(found: Arrays, rows: Sequence[Json], summary: Json) -> str:
    names, kinds = _strings(found["names"]), _strings(found["kinds"])
    share = np.asarray(found["oscillating"], float)
    known = np.flatnonzero(np.isfinite(share))
    if not len(known):
        return page.paragraph(
            "Oscillation",
            "It was not followed (quantize.track), or no weights have grids.",
        )
    shown = known[_shown(share[known])]
    return page.picture(
        variation_figures.oscillation(
            [names[i] for i in shown],
            [kinds[i] for i in shown],
            share[shown],
        ),
        "Share of oscillating weights, by module",
        _oscillating(found, summary) + _left_out(shown, known),
    ) + _curve(rows)


def _oscillating(found: Arrays, summary: Json) -> str:
    share, rate, count = (
        np.asarray(found[name], float)
        for name in ("oscillating", "rate", "count")
    )
    known = np.isfinite(share)
    total = _mean(share[known], count[known])
    turns = _mean(rate[known], count[known])
    frozen = summary["metrics"].get("frozen")
    held = f" {text.percent(frozen)} are held for good." if frozen else ""
    often = f" On average a weight turns once in {1 / turns:,.0f} steps."
    return (
        f"Of the weights of the network that was kept {text.percent(total)}"
        " oscillate: their codes change against the direction of their last"
        f" change in more than {text.percent_short(variation.THRESHOLD)} of"
        " the steps, by a moving average over about a thousand, as the code of"
        f" arXiv:2307.00331 counts.{often if turns else ''}{held}"
    )


def _curve(rows: Sequence[Json]) -> str:
    made = curves(rows)
    if not made:
        return ""
    return page.picture(
        variation_figures.training(made),
        "Share of oscillating weights and changes of codes over training",
        "Over training: the share of oscillating weights at the end of each"
        " epoch, and how often the code of a weight changed in it, on average.",
    )


def curves(rows: Sequence[Json]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves over training, by their label: epochs and values.

    Args:
        rows: of `metrics.read`; those of training tell of each epoch by how
            much the share rose, and how many codes changed.
    """
    told = [
        row
        for row in rows
        if row.get("phase") == "train" and "oscillating_rise" in row
    ]
    if not told:
        return {}
    epochs = np.array([row["epoch"] for row in told], float)
    rises = np.array([row["oscillating_rise"] for row in told], float)
    flips = np.array([row.get("flips", np.nan) for row in told], float)
    # Rounding may leave a little less than nothing.
    share = np.maximum(np.cumsum(rises), 0)
    return {
        "Oscillating weights (%)": (epochs, 100 * share),
        "Changes of a code": (epochs, flips),
    }


# Levels.


def _distances(found: Arrays) -> str:
    names = _strings(found["names"])
    share = np.asarray(found["distances"], float)
    known = np.flatnonzero(np.isfinite(share).all(1))
    if not len(known):
        return ""
    shown = known[_shown(middle(share)[known])]
    clipped = np.asarray(found["clipped"], float)[known]
    count = np.asarray(found["count"], float)[known]
    near = middle(share)[known]
    return page.picture(
        variation_figures.distances([names[i] for i in shown], share[shown]),
        "How far the weights of each module are from the nearest level",
        "Where weights lie between two levels; ideal is all at the left."
        f" {text.percent(_mean(near, count))} lie in the fifth nearest to the"
        " middle, where an even spread has"
        f" {text.percent_short(_MIDDLE)}. Not drawn:"
        f" {text.percent(_mean(clipped, count))} outside of the range, which"
        f" are clipped.{_left_out(shown, known)}",
    )


def middle(distances_MxB: np.ndarray) -> np.ndarray:
    """Share of the weights in the fifth that is nearest to the middle, [M]."""
    bins = distances_MxB.shape[1]
    return distances_MxB[:, -round(_MIDDLE * bins) :].sum(1)


# All.


def _table(found: Arrays, score: str) -> str:
    fluctuation = np.asarray(found["fluctuation"], float)
    size = {n: i for i, n in enumerate(Fluctuation._fields)}
    near = middle(np.asarray(found["distances"], float))
    lost = changes(found, score)
    head = ["Module", "Kind", "Weights", "Bits", "Inputs' bits", "Step"]
    head += [f"{c.label.split(' (')[0]} {w}" for c in lost for w in _WORDS]
    head += ["Oscillating (%)", "Turns in 1,000 steps", "Near the middle (%)"]
    head += ["Clipped (%)", "Mean |w| (steps)", "Spread of outputs"]
    head += ["Kurtosis", "Outliers (%)"]
    rows = []
    for i, name in enumerate(_strings(found["names"])):
        told = fluctuation[i]
        costs = [v[i] for change in lost for v in change[1:]]
        numbers = [
            found["step"][i], *costs, 100 * found["oscillating"][i],
            1000 * found["rate"][i], 100 * near[i], 100 * found["clipped"][i],
            told[size["mean"]], told[size["relative"]], told[size["kurtosis"]],
            100 * told[size["outliers"]],
        ]  # fmt: skip
        rows.append(
            [
                name,
                str(found["kinds"][i]),
                f"{int(found['count'][i]):,}",
                *(_whole(found[key][i]) for key in ("bits", "input_bits")),
                *(_number(value) for value in numbers),
            ]
        )
    return page.table(
        "Grids of each module; what they cost as in the pictures, and how the"
        " weights vary (quantize.variation.fluctuation, ours: the paper's"
        " statistics are unknown)",
        head,
        rows,
    )


_WORDS = ("lost alone", "won back")


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "–"


def _whole(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "–"


def _mean(values: np.ndarray, count: np.ndarray) -> float:
    return float((values * count).sum() / count.sum())


def _strings(names: np.ndarray) -> list[str]:
    return [str(name) for name in names]


def _shown(values: np.ndarray) -> np.ndarray:
    """Which modules are drawn: the largest ones, in their order."""
    return np.sort(np.argsort(-np.asarray(values), kind="stable")[:MOST])


def _left_out(shown: Sized, known: Sized) -> str:
    """How many modules a picture lacks."""
    rest = len(known) - len(shown)
    return f" {rest} modules of smaller ones are not drawn." if rest else ""
