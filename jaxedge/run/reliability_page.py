"""What a report shows of a network's confidence, ideal and on a chip.

Letters: M bins, T points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import page, reliability_figures, statistics, text

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

_HOME = "reliability/"
_PLACES = {"ideal": "Ideal hardware", "chip": "First chip"}
_WHERE = {"ideal": "on ideal hardware", "chip": "on the first chip"}
_BINS = ("weight", "confidence", "accuracy")
_CURVE = ("coverage", "risk")
_NUMBERS = ("examples", "ece", "brier", "nll", "aurc", "auroc")


def section(pictures: Arrays, summary: Json) -> str:
    """Whatever can be shown of confidence, as one section; else nothing.

    Args:
        pictures: with the arrays of `reliability.collect`, or some of them.
        summary: of the run.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    found = {place: _read(pictures, place) for place in _PLACES}
    found = {place: arrays for place, arrays in found.items() if arrays}
    if not found or not summary.get("chips"):
        return ""
    content = (
        page.columns(*(_diagram(*pair) for pair in found.items()))
        + _risk(found)
        + _table(found)
        + page.paragraph(
            "Probabilities",
            *_probabilities(
                pictures.get(f"{_HOME}softmax"),
                found,
                summary["config"].get("evidence", {}),
            ),
        )
    )
    return page.section("Confidence", content)


def _read(pictures: Arrays, place: str) -> dict[str, np.ndarray]:
    """The arrays of a place; nothing where one of them is not there."""
    names = [*_BINS, *_CURVE, *_NUMBERS]
    paths = {name: f"{_HOME}{place}/{name}" for name in names}
    if not set(paths.values()) <= pictures.keys():
        return {}
    found = {name: pictures[path] for name, path in paths.items()}
    shapes = {name: array.shape for name, array in found.items()}
    whole = all(len(shapes[name]) == 1 for name in (*_BINS, *_CURVE))
    same = [{shapes[name] for name in part} for part in (_BINS, _CURVE)]
    lone = all(shapes[name] == () for name in _NUMBERS)
    if not (whole and lone) or any(len(part) > 1 for part in same):
        raise checks.UsageError(
            f"the arrays {_HOME}{place}/... of pictures.npz have the shapes"
            f" {shapes}, which do not fit; delete it and repeat `jaxedge chips`"
            " with this workdir."
        )
    return found


# Pictures.


def _diagram(place: str, found: Arrays) -> str:
    bins = [found[name] for name in _BINS]
    return page.picture(
        reliability_figures.reliability(*bins),
        f"Reliability diagram {_WHERE[place]}: right answers against"
        " confidence, and how many examples have which confidence",
        _sure(place, found),
    )


def _sure(place: str, found: Arrays) -> str:
    where = _WHERE[place]
    return (
        f"{where[:1].upper()}{where[1:]} the confidence, which is the"
        " probability of the class that is answered, is on average"
        f" {text.percent(_mean(found, 'confidence'))}, and"
        f" {text.percent(_mean(found, 'accuracy'))} of the answers are right."
        f" A bar is one of {len(found['weight'])} ranges of confidence, its"
        " dot the mean of what is in it, with the exact binomial interval of"
        f" {text.percent_short(statistics.CONFIDENCE)}; on the dashed line as"
        " many are right as the confidence says."
    )


def _risk(found: Mapping[str, Arrays]) -> str:
    curves = {
        _PLACES[place]: (arrays["coverage"], arrays["risk"])
        for place, arrays in found.items()
    }
    return page.picture(
        reliability_figures.risk_coverage(curves),
        "Risk-coverage curves: wrong answers against the share of the test"
        " examples that are answered",
        _risked(found),
    )


def _risked(found: Mapping[str, Arrays]) -> str:
    parts = []
    for place, arrays in found.items():
        half = int(np.searchsorted(arrays["coverage"], 0.5))
        half = min(half, len(arrays["risk"]) - 1)
        few, all_ = (text.percent(arrays["risk"][i]) for i in (half, -1))
        parts.append(f"{few} instead of {all_} {_WHERE[place]}")
    return (
        "How many answers are wrong if only the surest are given. Of the surer"
        f" half it is {' and '.join(parts)}."
    )


# Numbers.


def _table(found: Mapping[str, Arrays]) -> str:
    bins = {len(arrays["weight"]) for arrays in found.values()}
    counts = {int(arrays["examples"]) for arrays in found.values()}
    sizes = ", ".join(f"{count:,}" for count in sorted(counts))
    number = ", ".join(map(str, sorted(bins)))
    lines = [
        ("Right answers", "accuracy", "higher"),
        ("Mean confidence", "confidence", "equal to right answers"),
        (f"Expected calibration error, {number} bins", "ece", "lower"),
        ("Brier score, 0 to 2", "brier", "lower"),
        ("Negative log-likelihood, nats", "nll", "lower"),
        ("Area under the risk-coverage curve", "aurc", "lower"),
        ("AUROC of right against wrong answers", "auroc", "higher"),
    ]
    rows = [
        [words, *(_cell(arrays, name) for arrays in found.values()), better]
        for words, name, better in lines
    ]
    return page.table(
        f"How far confidence can be trusted, over {sizes} test examples",
        ["Measure", *(_PLACES[place] for place in found), "Better"],
        rows,
    )


def _cell(found: Arrays, name: str) -> str:
    if name in _BINS:
        return text.percent(_mean(found, name))
    value = float(found[name])
    if name == "ece":
        return text.percent(value)
    if np.isnan(value):
        return "–"
    return "∞" if np.isinf(value) else f"{value:.3g}"


def _mean(found: Arrays, name: str) -> float:
    """Over all examples, of a mean over those of each bin."""
    weight = np.asarray(found["weight"], float)
    return float((weight * found[name]).sum() / max(weight.sum(), 1))


def _probabilities(
    softmax: np.ndarray | None, found: Mapping[str, Arrays], told: Json
) -> list[str]:
    """What probabilities are, and why something lacks."""
    said = []
    if softmax is not None:
        said.append(f"They are {_origin(bool(softmax), told)}.")
    said += [
        f"Those {where} are not shown: not all are finite numbers."
        for place, where in _WHERE.items()
        if place not in found
    ]
    same = [_WHERE[p] for p, a in found.items() if np.isnan(a["auroc"])]
    if same:
        said.append(
            f"Where answers are all right or all wrong ({', '.join(same)}),"
            " AUROC has nothing to tell apart."
        )
    return said


def _origin(softmax: bool, told: Json) -> str:
    if softmax:
        return "the softmax of the network's outputs"
    if "activation" in told:
        return (
            "those that are expected under the evidence in the network's"
            f" outputs, alpha / S ({told['activation']})"
        )
    return "those that the recipe makes of the network's outputs"
