"""What a report shows of radiomics: features, maps, curves, correlations.

Letters: E examples shown, S slices, G global features, D deep features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.learn import roc
from jaxedge.run import informed_figures, page, text

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

_HOME = "informed/"
_PLACES = {"ideal": "Ideal hardware", "chip": "First chip"}
_WHEN = {"start": "At its start", "trained": "Trained"}
_CURVE = ("false", "true", "at", "low", "high")
_FEATURES = ("names", "mean", "spread", "alone")
_SHOWN = ("rows", "label", "said", "slices", "image", "region", "maps")
_SURE = text.percent_short(roc.CONFIDENCE)
# How features were chosen, in words that follow "They are".
_CHOSEN = {
    "fixed": "those of the config (radiomics.names)",
    "lasso": "those of the largest weights in a LASSO of the training split",
    "mrmr": "chosen on the training split by minimal redundancy and maximal"
    " relevance (mRMR)",
}
_DELONG = (
    f"Intervals of areas are normal ones of {_SURE} with the variance of DeLong"
    " et al. (Biometrics 44:837, 1988), cut to [0, 1]; where examples are told"
    " apart without an error they have no width."
)


def section(pictures: Arrays, summary: Json) -> str:
    """Whatever can be shown of radiomics, as one section; else nothing.

    Args:
        pictures: with the arrays of `informed.collect`, or some of them.
        summary: of the run.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    if not {f"{_HOME}classes", f"{_HOME}counts"} <= pictures.keys():
        return ""
    found = {
        name.removeprefix(_HOME): pictures[name]
        for name in pictures
        if name.startswith(_HOME)
    }
    _check(found)
    config = summary["config"]
    content = (
        _curves(found)
        + _features(found, config["radiomics"])
        + _volumes(found, config["radiomics"])
        + _correlations(found, config)
    )
    return page.section("Radiomics", content)


def _check(found: Arrays) -> None:
    """Raises unless arrays of the same things have the same size."""
    shapes = {name: array.shape for name, array in found.items()}
    two = shapes["classes"] == (2,) == shapes["counts"]
    sizes = {
        "G": {shapes[name][:1] for name in _FEATURES if name in found},
        "E": {shapes[name][:1] for name in _SHOWN if name in found},
        "S": {
            shapes[name][1:2]
            for name in ("slices", "image", "region", "maps")
            if name in found
        },
    }
    if not two or any(len(size) > 1 for size in sizes.values()):
        raise checks.UsageError(
            f"the arrays {_HOME}... of pictures.npz have the shapes {shapes},"
            " which do not fit; delete it and repeat `jaxedge chips` with this"
            " workdir."
        )


# Curves.


def _curves(found: Arrays) -> str:
    places = {
        place: name
        for place, name in _PLACES.items()
        if {f"roc/{place}/{part}" for part in (*_CURVE, "area")} <= found.keys()
    }
    no, yes = (int(count) for count in found["counts"])
    if not places:
        why = f"the test split has {no:,} and {yes:,} examples of the classes"
        if min(no, yes) > 1:
            why = "some of the network's answers are no finite numbers"
        return page.paragraph("ROC curves", f"There are none: {why}.")
    curves = {
        f"{name}, {_area(found[f'roc/{place}/area'])}": informed_figures.Curve(
            *(found[f"roc/{place}/{part}"] for part in _CURVE)
        )
        for place, name in places.items()
    }
    second = str(found["classes"][1])
    said = (
        f"Found are examples of class {second} ({yes:,} of the test split),"
        f" false alarms others ({no:,}) that are taken for it. The bands hold"
        f" each point by itself with {_SURE}: percentiles of a bootstrap of"
        " either class by itself (Efron and Tibshirani, An Introduction to the"
        " Bootstrap, 1993). Beside the names, areas under the curves and their"
        " intervals."
    )
    return page.picture(
        informed_figures.curves(curves),
        "ROC curves of the test split on ideal hardware and on the first chip",
        " ".join([said, _change(found), _DELONG]).replace("  ", " "),
    )


def _change(found: Arrays) -> str:
    """By how much the chip is worse, or better."""
    if "roc/change" not in found:
        return ""
    # Areas are float32; + 0 makes 0 of -0.
    value, low, high = np.round(found["roc/change"].astype(float), 4) + 0
    if value == low == high == 0:
        return "On the first chip the area is the same."
    return (
        f"On the first chip the area changes by {value:+.3f}; as the examples"
        f" are the same, the interval of this is {low:+.3f} to {high:+.3f}."
    )


def _area(numbers: Sequence[float] | np.ndarray) -> str:
    """An area and its interval, "0.912 (0.854 to 0.970)"."""
    value, low, high = (float(x) for x in numbers)
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


# Features.


def _features(found: Arrays, given: Json) -> str:
    if not set(_FEATURES) <= found.keys():
        said = "The network is given no global features."
        return page.paragraph("Global features", said)
    classes = [str(name) for name in found["classes"]]
    rows = [
        [str(name), *(_spread(*pair) for pair in by_class), _area(alone)]
        for name, by_class, alone in zip(
            found["names"],
            np.stack([found["mean"], found["spread"]], -1),
            found["alone"],
            strict=True,
        )
    ]
    total = []
    if "roc/ideal/area" in found:
        total = ["The network, ideal", "", "", _area(found["roc/ideal/area"])]
    head = ["Feature", *(f"{name}, training split" for name in classes)]
    head += [f"Area under its ROC curve, test split ({_SURE})"]
    return page.table(
        "Global features of the network: mean ± standard deviation by class,"
        " and what each tells alone",
        head,
        rows,
        total,
    ) + page.paragraph(
        "Global features",
        f"They are {_CHOSEN[given['select']]}. An area below 0.5 is that of a"
        f" feature which is smaller in class {classes[1]}.",
    )


def _spread(mean: float, spread: float) -> str:
    if not math.isfinite(mean):
        return "–"
    reach = f" ± {spread:.2g}" if math.isfinite(spread) else ""
    return f"{mean:.4g}{reach}"


# Volumes.


def _volumes(found: Arrays, given: Json) -> str:
    if not {*_SHOWN, "depth"} <= found.keys():
        return ""
    names = [f"radius {radius}" for radius in given["radii"]]
    return "".join(
        _volume(found, e, names, given["local"])
        for e in range(len(found["rows"]))
    )


def _volume(found: Arrays, e: int, names: Sequence[str], local: str) -> str:
    # A thin region has fewer slices than are wanted.
    slices, first = np.unique(found["slices"][e], return_index=True)
    shown = informed_figures.Slices(
        *(found[name][e][first] for name in ("image", "region", "maps"))
    )
    classes = [str(name) for name in found["classes"]]
    label = classes[int(found["label"][e])]
    ideal, chip = (float(p) for p in found["said"][e])
    said = (
        f"Test volume {int(found['rows'][e]):,}, of class {label}: the"
        f" probability of {classes[1]} is {text.percent(ideal)} on ideal"
        f" hardware and {text.percent(chip)} on the first chip. Slices are"
        f" counted from 0, of {int(found['depth']):,}; the line is the outline"
        " of the region."
    )
    if names:
        said += (
            f" The maps are {local} within cubes of that radius in voxels, on"
            " one scale; grey is outside of the region."
        )
    return page.picture(
        informed_figures.slices(shown, [f"slice {z}" for z in slices], names),
        f"Slices of a test volume of class {label} with the outline of its"
        " region, and its local maps",
        said,
    )


# Correlations.


def _correlations(found: Arrays, config: Json) -> str:
    matrices = {
        words: found[f"correlation/{when}"]
        for when, words in _WHEN.items()
        if f"correlation/{when}" in found
    }
    if not matrices or "names" not in found:
        return ""
    names = [str(n).removeprefix("original_") for n in found["names"]]
    return page.picture(
        informed_figures.correlations(matrices, names),
        "Absolute correlations of the network's deep features with the global"
        " radiomic features, at its start and trained",
        _repeated(found, matrices, config),
    )


def _repeated(
    found: Arrays, matrices: Mapping[str, np.ndarray], config: Json
) -> str:
    n = int(found["counts"].sum())
    weight = config["losses"]["decorrelate"]
    said = (
        "Pearson's correlations of each deep feature with each radiomic one,"
        f" over {n:,} test examples on ideal hardware."
    )
    said += (
        f" The weight of the de-correlation loss was {weight:g}."
        if weight
        else " There was no de-correlation loss."
    )
    if n > 2:
        said += (
            " Normal features that are independent have a mean |r| of"
            f" {_by_chance(n):.3f} over as many examples."
        )
    if "At its start" in matrices and config["model"]["start"]:
        said += (
            " At its start the network has the weights of the run without"
            " radiomics that it goes on from (model.start)."
        )
    for words, r in matrices.items():
        if dead := int((r == 0).all(1).sum()):
            said += (
                f" {words}, {dead:,} of {len(r):,} deep features are constant"
                " and count as 0."
            )
    return said


def _by_chance(n: int) -> float:
    """The mean |r| of n pairs of independent normal numbers, n > 2.

    r^2 is Beta(1/2, n/2 - 1), the law of Fisher (Biometrika 10:507, 1915), and
    the mean of its root Gamma((n - 1) / 2) / (sqrt(pi) Gamma(n / 2)).
    """
    logs = math.lgamma((n - 1) / 2) - math.lgamma(n / 2)
    return math.exp(logs) / math.sqrt(math.pi)
