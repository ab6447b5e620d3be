"""What a report shows of a network's answers: counts, images, point sets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxedge.core import checks
from jaxedge.run import exhibit_figures, exhibits, page, text

Arrays = Mapping[str, np.ndarray]

_PLACES = {"ideal": "on ideal hardware", "chip": "on the first chip"}
# Axes of the inputs of some examples: [E, H, W, C] and [E, P, 3].
_RANKS = {"images": 4, "clouds": 3}
# Matrices of more classes do not fit beside each other.
_BESIDE = 16


def section(pictures: Arrays, score: str) -> str:
    """Whatever can be shown of a task, as one section; else nothing.

    Args:
        pictures: from `exhibits.collect`, or a file that lacks some of it.
        score: the metric that the examples' scores are.

    Raises:
        UsageError: for arrays that do not fit each other.
    """
    if "classes" not in pictures:
        return ""
    classes = [str(name) for name in pictures["classes"]]
    parts = (
        _confusion(pictures, classes),
        _images(pictures, classes, score),
        _clouds(pictures, classes, score),
    )
    content = "".join(parts)
    return page.section("Answers", content) if content else ""


def _confusion(pictures: Arrays, classes: list[str]) -> str:
    shown = [
        page.picture(
            exhibit_figures.confusion(counts, classes),
            f"Confusion matrix {where}: true classes against answered ones",
            text.confused(counts, classes, where),
        )
        for place, where in _PLACES.items()
        if (counts := pictures.get(f"confusion/{place}")) is not None
    ]
    beside = len(classes) <= _BESIDE
    return page.columns(*shown) if beside and shown else "".join(shown)


def _images(pictures: Arrays, classes: list[str], score: str) -> str:
    if not _whole(pictures, "images"):
        return ""
    return "".join(
        page.picture(
            exhibit_figures.segmented(exhibit_figures.Shown(*arrays), classes),
            "An image of the test split, its labels, and the answers on ideal"
            " hardware and on the first chip",
            said,
        )
        for *arrays, said in zip(
            *_shown(pictures, "images"),
            _said(pictures, "images", score),
            strict=True,
        )
    )


def _clouds(pictures: Arrays, classes: list[str], score: str) -> str:
    if not _whole(pictures, "clouds"):
        return ""
    shown = _shown(pictures, "clouds")
    if shown.truth.ndim == 1:
        return page.picture(
            exhibit_figures.clouds(shown, classes),
            "Point sets of the test split, with their true and their answered"
            " classes",
            text.sets_right(shown.truth, shown.ideal, shown.chip),
        )
    return "".join(
        page.picture(
            exhibit_figures.parts(exhibit_figures.Shown(*arrays), classes),
            "A point set of the test split, coloured by its parts and by the"
            " answers on ideal hardware and on the first chip",
            said,
        )
        for *arrays, said in zip(
            *shown, _said(pictures, "clouds", score), strict=True
        )
    )


def _shown(pictures: Arrays, kind: str) -> exhibit_figures.Shown:
    names = ("x", "y", *exhibits.PLACES)
    return exhibit_figures.Shown(*(pictures[f"{kind}/{n}"] for n in names))


def _whole(pictures: Arrays, kind: str) -> bool:
    """Whether a file holds every array of a kind of example."""
    names = ["x", "y", "rows", *exhibits.PLACES]
    names += [f"{place}_score" for place in exhibits.PLACES]
    if not {f"{kind}/{name}" for name in names} <= pictures.keys():
        return False
    shapes = {name: pictures[f"{kind}/{name}"].shape for name in names}
    inner = shapes["x"][-1:] == (3,) if kind == "clouds" else True
    rank = _RANKS[kind] == len(shapes["x"])
    if (
        not (inner and rank)
        or len({shape[:1] for shape in shapes.values()}) > 1
    ):
        raise checks.UsageError(
            f"the arrays {kind}/... of pictures.npz have the shapes {shapes},"
            " which do not fit; delete it and repeat `jaxedge chips` with this"
            " workdir."
        )
    return True


def _said(pictures: Arrays, kind: str, score: str) -> list[str]:
    """The sentence under each example."""
    known = pictures[f"{kind}/y"]
    numbers = zip(
        pictures[f"{kind}/rows"],
        *(pictures[f"{kind}/{place}_score"] for place in exhibits.PLACES),
        strict=True,
    )
    return [
        text.example(int(row), float(ideal), float(chip), score)
        + text.ignoring(labels)
        for labels, (row, ideal, chip) in zip(known, numbers, strict=True)
    ]
