"""What the report draws of a network's answers, ideal and on a chip.

Letters: E examples, F frames, B batch, H height, W width, C channels,
P positions (pixels, points), K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.study import Frames

# Where the network is: the names of its arrays.
PLACES = ("ideal", "chip")
# More classes than this cannot be told apart in a picture.
CLASSES = 64
# Examples that are kept, pixels of a side and points of each: a report is read.
IMAGES, CLOUDS = 3, 4
SIDE, POINTS = 640, 1024
# Columns of a point: its place, and its normal or colour if it has one.
_COLUMNS = (3, 6)


class Pair(NamedTuple):
    """The variables of a network on ideal hardware, and on a chip."""

    ideal: Any
    chip: Any


def collect(
    recipe: Recipe,
    pair: Pair,
    test: Frames,
    classes: Sequence[str],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """The arrays of what can be drawn of a task; none where nothing can.

    Args:
        recipe: how the network answers.
        pair: the network.
        test: what the chips of a study read.
        classes: the name of each label, [K].
        key: of the chip, whose noise is that of the study in the counts of
            answers, and a noise of its own in the examples.

    Returns:
        For labels one an example "confusion/ideal" and "confusion/chip",
        [K, K], see `confusion`. For images with labels one a pixel "images/x"
        [E, H, W, C], "images/y" [E, H, W], "images/ideal" and "images/chip",
        the probability of class 1 of two or else the answer, [E, H, W]. For
        point sets "clouds/x" [E, P, 3], "clouds/y" and answers, [E] or [E, P].
        With examples their rows of the test split "<kind>/rows" [E], and the
        score of each by itself, "<kind>/ideal_score" and "<kind>/chip_score"
        [E]. Beside any of them "classes" [K].
    """
    if len(classes) > CLASSES or not _answers(
        recipe, pair.ideal, test, classes
    ):
        return {}
    y, x = test.y, test.x
    arrays: dict[str, np.ndarray] = {}
    if y.ndim == 2:
        for place, variables in zip(PLACES, pair, strict=True):
            noise = key if place == "chip" else None
            arrays[f"confusion/{place}"] = confusion(
                recipe, variables, test, len(classes), noise
            )
    if y.ndim == 4 and y.shape == x.shape[:-1]:
        arrays |= _examples("images", IMAGES, recipe, pair, test, key)
    points = x.ndim == 4 and x.shape[-1] in _COLUMNS and y.ndim == 2
    parts = x.ndim == 4 and x.shape[-1] >= 3 and y.shape == x.shape[:-1]
    if points or parts:
        arrays |= _examples("clouds", CLOUDS, recipe, pair, test, key)
    if arrays:
        arrays["classes"] = np.array(classes, dtype=str)
    return arrays


def confusion(
    recipe: Recipe,
    variables: Any,
    test: Frames,
    classes: int,
    key: jax.Array | None,
) -> np.ndarray:
    """How often each class was answered for each: rows are true, [K, K].

    Args:
        recipe: how the network answers.
        variables: of the network.
        test: frames of labels one an example; padding does not count.
        classes: K.
        key: of a chip, read as in a study; None reads without noise.
    """
    # A program of its own, which whoever else wants outputs shares.
    forward = jax.jit(recipe.forward)
    total = np.zeros((classes, classes), np.int64)
    for i, (x, y, weight) in enumerate(zip(*test[:3], strict=True)):
        read = None if key is None else stream(key, "read", i)
        said = np.asarray(forward(variables, x, read)).argmax(-1)
        np.add.at(total, (y, said), np.asarray(weight > 0))
    return total


def _answers(
    recipe: Recipe, variables: Any, test: Frames, classes: Sequence[str]
) -> bool:
    """Whether the network has an output a class for every label."""
    found = jax.eval_shape(recipe.forward, variables, test.x[0])
    shape = (*test.y.shape[1:], len(classes))
    return getattr(found, "shape", None) == shape


def _examples(
    kind: str, most: int, recipe: Recipe, pair: Pair, test: Frames, key: Any
) -> dict[str, np.ndarray]:
    """Examples from all over the test split, one after the other."""
    x, y = (np.asarray(a).reshape(-1, *a.shape[2:]) for a in test[:2])
    count = int(np.asarray(test.weight > 0).sum())  # Padding comes last.
    rows = np.unique(np.linspace(0, count - 1, most).astype(int))
    cut = _middle if kind == "images" else _some
    shown = x[rows] if kind == "images" else x[rows][..., :3]
    arrays = {
        f"{kind}/rows": rows,
        f"{kind}/x": cut(shown).astype(np.float32),
        f"{kind}/y": cut(y[rows]) if y.ndim > 1 else y[rows],
    }
    look = _look(recipe)
    for place, variables in zip(PLACES, pair, strict=True):
        found = [
            look(
                variables,
                x[row : row + 1],
                y[row : row + 1],
                stream(key, "example", int(row)) if place == "chip" else None,
            )
            for row in rows
        ]
        said, scores = (np.stack(a) for a in zip(*found, strict=True))
        arrays[f"{kind}/{place}"] = cut(said) if y.ndim > 1 else said
        arrays[f"{kind}/{place}_score"] = scores.astype(np.float32)
    return arrays


def _look(recipe: Recipe) -> Callable[..., Any]:
    """A function (variables, x, y, key) of one example -> (answer, score)."""

    @jax.jit
    def look(variables, x, y, key):
        out = recipe.forward(variables, x, key)
        batch = data.Batch(x, y, jnp.ones(1))  # type: ignore[arg-type]
        sums = recipe.evaluate(variables, batch, key=key)
        two = out.shape[-1] == 2 and out.ndim == 4
        said = jax.nn.softmax(out)[..., 1] if two else out.argmax(-1)
        return said[0], recipe.measure(sums)[recipe.score]

    return look


def _middle(images: np.ndarray) -> np.ndarray:
    """The middle of images [E, H, W, ...], `SIDE` pixels a side at most."""
    height, width = images.shape[1:3]
    top, left = (max(size - SIDE, 0) // 2 for size in (height, width))
    return images[:, top : top + SIDE, left : left + SIDE]


def _some(points: np.ndarray) -> np.ndarray:
    """At most `POINTS` of the points [E, P, ...], evenly chosen."""
    size = points.shape[1]
    chosen = np.linspace(0, size - 1, min(size, POINTS)).astype(int)
    return points[:, chosen]
