"""What a report shows of made pairs of images.

Letters: E examples shown, N pairs compared, T times, L lines, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import (
    judge,
    page,
    synthesis_figures,
    synthesis_scores,
    text,
)

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

_HOME = "synthesis/"
_SHOWN = ("real", "ideal", "chip", "second/ideal", "second/chip")
_NEAR = ("near/made", "near/test", "near/known", "near/shown", "near/found")
_SCORE = ("score/names", "score/values", "score/counts")
_JUDGE = ("judge/pairs", "judge/task", "judge/accuracy", "judge/taught")
# Of the rows of a table, in words, and their decimals.
_WORDS = {
    "mae": ("MAE of {second} made of {first}", 4),
    "psnr": ("PSNR of {second} made of {first}, dB", 2),
    "ssim": ("SSIM of {second} made of {first}", 4),
    "first_mae": ("MAE of {first}, encoded and made again", 4),
    "first_psnr": ("PSNR of {first}, encoded and made again, dB", 2),
    "first_ssim": ("SSIM of {first}, encoded and made again", 4),
    "diversity": ("MS-SSIM between pairs of a set (lower: more diverse)", 4),
    "precision": ("Precision", 3),
    "recall": ("Recall", 3),
    "fid": ("FID", 4),
    "kid": ("KID", 4),
    "information": ("Mutual information of the modalities, nats", 3),
    "summary_information": ("The same, of the two numbers of a pair", 3),
    "accuracy": ("Accuracy on test pairs of a network taught by the pairs", 3),
}
# Of test pairs, the share that is nearer to training than what counts as near.
_NEAREST = 0.01


def section(pictures: Arrays, summary: Json) -> str:
    """Whatever can be shown of made pairs, as one section; else nothing.

    Args:
        pictures: with the arrays of `synthesis.collect`, or some of them.
        summary: of the run.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    needed = {"modalities", "classes", "conditional"}
    if not {f"{_HOME}{name}" for name in needed} <= pictures.keys():
        return ""
    found = {
        name.removeprefix(_HOME): pictures[name]
        for name in pictures
        if name.startswith(_HOME)
    }
    _check(found)
    content = (
        _scores(found)
        + _pairs(found)
        + _seconds(found)
        + _times(found, summary)
        + _between(found)
        + _copies(found)
    )
    return page.section("Synthesis", content)


def _check(found: Arrays) -> None:
    """Raises unless arrays of the same things have the same size."""
    shapes = {name: array.shape for name, array in found.items()}

    def sizes(names: Sequence[str], axes: int = 1) -> set[Any]:
        return {shapes[name][:axes] for name in names if name in found}

    groups = (
        sizes((*_SHOWN, "label")),
        sizes(("real", "ideal", "chip"), 4),
        sizes(("near/made", "near/test")),
        sizes(("near/shown", "near/found"), 4),
        sizes(("time/steps", "time/pairs")),
        sizes(_SCORE),
    )
    two = shapes["modalities"] == (2,)
    if not two or any(len(group) > 1 for group in groups):
        raise checks.UsageError(
            f"the arrays {_HOME}... of pictures.npz have the shapes {shapes},"
            " which do not fit; delete it and repeat `jaxedge chips` with this"
            " workdir."
        )


def _names(found: Arrays) -> tuple[str, str]:
    first, second = (str(name) for name in found["modalities"])
    return first, second


def _has(found: Arrays, names: Sequence[str]) -> bool:
    return set(names) <= found.keys()


# Numbers.


def _scores(found: Arrays) -> str:
    if not _has(found, (*_SCORE, *_JUDGE)):
        return ""
    first, second = _names(found)
    names = [str(name) for name in found["score/names"]]
    values = found["score/values"]
    # The law of the data is known of few.
    known = np.isfinite(values[:, synthesis_scores.PLACES.index("truth")])
    columns = 4 if known.any() else 3
    rows = []
    for name, row, count in zip(
        names, values, found["score/counts"], strict=True
    ):
        words, digits = _WORDS.get(name, (name.replace("_", " "), 4))
        cells = [_number(value, digits) for value in row[:columns]]
        title = words.format(first=first, second=second)
        rows.append([title, *cells, f"{int(count):,}"])
    head = ["Measure", "Ideal hardware", "First chip", "Real pairs", "Truth"]
    return page.table(
        "Made pairs, measured",
        [*head[: columns + 1], "Images"],
        rows,
    ) + page.paragraph("How", *_how(found, names))


def _how(found: Arrays, names: Sequence[str]) -> list[str]:
    """What the numbers mean, so far as there are such."""
    taught, task = int(found["judge/pairs"]), str(found["judge/task"])
    what = (
        f"learned their {len(found['classes'])} classes"
        if task == judge.LABELS
        else "learned how they were mirrored, as there is one class only,"
    )
    said = [
        "Images lie in [-1, 1]; what is made of normal vectors has the labels"
        " of as many test pairs."
        if found["conditional"]
        else "Images lie in [-1, 1]."
    ]
    if "fid" in names:
        said += [
            "Precision, recall (arXiv:1904.06991, k = 3), FID and KID compare"
            " made and test pairs, equally many, by the features of a network"
            f" that was trained on {taught:,} real pairs of this data set: it"
            f" {what} from both modalities, and is right for"
            f" {text.percent(float(found['judge/accuracy']))} of the test"
            " pairs. They compare runs on this data set alone, of one seed and"
            " one order of the modalities.",
            "Real pairs are as many training pairs there, which that network"
            " has seen; elsewhere they are the test pairs.",
        ]
    if "diversity" in names:
        said += [
            "MS-SSIM is of both modalities, with as many scales as fit and"
            " weights that sum to 1."
        ]
    if "information" in names:
        said += [
            "Mutual information is that of normal numbers with the same"
            f" covariances, of {synthesis_scores.COMPONENTS} principal axes of"
            " either modality's coarse pixels, found from training pairs."
        ]
    if "accuracy" in names:
        said += [_taught(found)]
    return said


def _taught(found: Arrays) -> str:
    count = int(found["judge/taught"])
    if not count:
        return (
            "Nothing can be taught by the made pairs, which have no labels"
            " (gan.conditional is False)."
        )
    return (
        f"The same network was trained on {count:,} made pairs, and on as many"
        " real ones; the last epoch's counts, none is chosen by the test pairs."
    )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


# Pictures.


def _pairs(found: Arrays) -> str:
    if not _has(found, ("real", "ideal", "chip")):
        return ""
    modalities = _names(found)
    places = {"real": "real", "ideal": "made, ideal", "chip": "made, chip"}
    lines = {
        f"{name}, {words}": found[place][..., channel]
        for place, words in places.items()
        for channel, name in enumerate(modalities)
    }
    titles = _labels(found) if found["conditional"] else ()
    said = (
        f"Test pairs above, and below pairs that were made of normal vectors:"
        f" {modalities[0]} first, {modalities[1]} of it. On the chip of the"
        " same vectors as on ideal hardware; they have nothing to do with the"
        " real pairs above them"
    )
    said += " but their class." if found["conditional"] else "."
    return page.picture(
        synthesis_figures.grid(lines, titles),
        "Real pairs of both modalities, and made ones on ideal hardware and on"
        " the first chip",
        said,
    )


def _labels(found: Arrays) -> list[str]:
    classes = [str(name) for name in found["classes"]]
    # Long names would run into each other.
    shown = [
        name if len(name) <= 12 else f"class {i}"
        for i, name in enumerate(classes)
    ]
    return [shown[int(y)] for y in found["label"]]


def _seconds(found: Arrays) -> str:
    if not _has(found, ("real", "second/ideal", "second/chip")):
        return ""
    first, second = _names(found)
    true = found["real"][..., 1]
    lines = {f"{first}, given": found["real"][..., 0], f"{second}, true": true}
    apart, differences = {}, []
    for place, words in (("ideal", "ideal"), ("chip", "chip")):
        made = found[f"second/{place}"]
        lines[f"made, {words}"] = made
        differences.append(f"difference, {words}")
        lines[differences[-1]] = made - true
        apart[words] = float(np.abs(made - true).mean())
    return page.picture(
        synthesis_figures.grid(lines, (), differences),
        f"{second} made of {first} of test pairs, the true one, and the"
        " difference",
        f"{second} made of the {first} of test pairs. Differences are made less"
        " true, blue where too low and red where too high, and white is none;"
        " the mean absolute difference of the images shown is"
        f" {apart['ideal']:.3f} on ideal hardware and {apart['chip']:.3f} on"
        " the first chip, of a range of 2.",
    )


def _times(found: Arrays, summary: Json) -> str:
    if not _has(found, ("time/steps", "time/pairs")):
        return ""
    modalities = _names(found)
    lines = {
        f"step {int(step):,}, {name}": pairs[..., channel]
        for step, pairs in zip(
            found["time/steps"], found["time/pairs"], strict=True
        )
        for channel, name in enumerate(modalities)
    }
    chosen = summary["config"].get("train", {}).get("select_on", "valid")
    return page.picture(
        synthesis_figures.grid(lines),
        "Pairs that were made of the same normal vectors in the course of"
        " training",
        "The same normal vectors in the course of training, at the start and"
        " at some of the evaluations that left a checkpoint. The last line is"
        " that of the end; the network of this report is that of the best"
        f" evaluation on the {chosen} split.",
    )


def _between(found: Arrays) -> str:
    if "between" not in found:
        return ""
    lines = {
        f"way {i + 1}, {name}": pairs[..., channel]
        for i, pairs in enumerate(found["between"])
        for channel, name in enumerate(_names(found))
    }
    fixed = ", with the class held fixed" if found["conditional"] else ""
    return page.picture(
        synthesis_figures.grid(lines),
        "Pairs along ways from one normal vector to another",
        "On ideal hardware, along ways from one normal vector to another,"
        f" cos(t) a + sin(t) b{fixed}: every point of it is as likely as the"
        " ends. Jumps tell of few kinds of pairs that were learned by heart.",
    )


def _copies(found: Arrays) -> str:
    if not _has(found, _NEAR):
        return ""
    made, test = found["near/made"], found["near/test"]
    lines = {
        f"{name}, {words}": found[f"near/{kind}"][..., channel]
        for kind, words in (("shown", "made"), ("found", "training"))
        for channel, name in enumerate(_names(found))
    }
    titles = [f"{d:.3f}" for d in np.sort(made)[: len(found["near/shown"])]]
    limit = float(np.quantile(test, _NEAREST))
    share = float((made < limit).mean())
    return page.picture(
        synthesis_figures.grid(lines, titles),
        "The made pairs that are nearest to a training pair, and these",
        f"Of {len(made):,} made pairs (ideal hardware) those that come nearest"
        f" to one of {int(found['near/known']):,} training pairs, and these"
        " below them; above, the root of the mean squared difference over the"
        " pixels of both modalities.",
    ) + page.picture(
        synthesis_figures.distances(
            {
                f"made ({len(made):,})": made,
                f"test ({len(test):,})": test,
            }
        ),
        "Shares of made and of test pairs that are nearer than a distance to a"
        " training pair",
        "Copies would lie left of the test pairs, which training has not seen."
        f" Of the made pairs {text.percent(share)} are nearer to training than"
        f" {limit:.3f}, of the test pairs {text.percent_short(_NEAREST)}; the"
        f" medians are {np.median(made):.3f} and {np.median(test):.3f}.",
    )
