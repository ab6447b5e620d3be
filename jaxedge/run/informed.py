"""What a report tells of a network that radiomics informs.

Letters: F frames, B batch, N examples, C channels, L local maps, G global
features, D deep features, E examples shown, S slices, H height, W width,
T points of a curve.
"""

from collections.abc import Mapping
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.learn import decorrelate, roc
from jaxedge.recipes import radiomic_inputs, ridl
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.exhibits import PLACES
from jaxedge.run.frames import Frames

HOME = "informed/"
# Test volumes of each class that are shown, their slices, and the longest side
# of these in voxels; otherwise so many times that of the largest region.
EACH, SLICES, SIDE, AROUND = 2, 3, 160, 1.5
# Points of a curve and of its band, at most.
POINTS, BAND = 400, 101
_COLLECTION = "intermediates"


class Networks(NamedTuple):
    """The variables of a network before training, after it, and on a chip."""

    start: Any
    ideal: Any
    chip: Any


class Told(NamedTuple):
    """What a network tells of the examples that count.

    Attributes:
        score_N: log-odds of the second class.
        deep_NxD: deep features.
        radiomic_NxG: the global features that it was given.
    """

    score_N: np.ndarray
    deep_NxD: np.ndarray
    radiomic_NxG: np.ndarray


def collect(
    recipe: Recipe,
    networks: Networks,
    test: Frames,
    splits: Mapping[str, data.Source],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """The arrays of what a report shows of radiomics.

    Args:
        recipe: of `recipes.ridl`.
        networks: of it.
        test: what the chips of a study read.
        splits: from its `prepare`.
        key: of the chip, read as in the study, and of the bootstrap.

    Returns:
        Under "informed/": "classes" [2] and "counts" [2], test examples of
        each; what `features`, `volumes`, `curves` and `correlations` find.
    """
    table = radiomic_inputs.known(splits["test"])
    y_N = np.ravel(test.y)[_counts(test)]
    look = _look(recipe)
    trained = look(networks.ideal, test)
    started = look(networks.start, test)
    scores = {
        "ideal": trained.score_N,
        "chip": read(recipe, networks.chip, test, key),
    }
    known = radiomic_inputs.known(splits["train"])
    first = table._replace(values_NxF=table.values_NxF[: len(y_N)])
    arrays = {
        "classes": np.array(splits["test"].classes, dtype=str),
        "counts": np.bincount(y_N, minlength=2),
        **features(known, splits["train"].y, first, y_N),
        **volumes(test, y_N, len(table.names), scores),
        **curves(scores, y_N, stream(key, "bootstrap")),
        **correlations(started, trained),
    }
    return {f"{HOME}{name}": array for name, array in arrays.items()}


# What networks tell.


def read(
    recipe: Recipe, variables: Any, test: Frames, key: jax.Array
) -> np.ndarray:
    """Log-odds of the second class on a chip, [N]; `key` as in a study."""
    # A program of its own, which whoever else wants outputs shares.
    forward = jax.jit(recipe.forward)
    found = [
        _log_odds(forward(variables, x, stream(key, "read", i)))
        for i, x in enumerate(test.x)
    ]
    return np.concatenate(found)[_counts(test)]


def _look(recipe: Recipe) -> Any:
    """A function (variables, test) -> what a network tells without noise."""
    forward = jax.jit(functools.partial(recipe.forward, mutable=[_COLLECTION]))

    def look(variables: Any, test: Frames) -> Told:
        found = []
        for x in test.x:
            out, more = forward(variables, x)
            more = more[_COLLECTION]
            (deep,), (radiomic,) = more[ridl.DEEP], more[ridl.GLOBAL]
            found.append((_log_odds(out), np.array(deep), np.array(radiomic)))
        counts = _counts(test)
        rows = zip(*found, strict=True)
        return Told(*(np.concatenate(row)[counts] for row in rows))

    return look


def _log_odds(out_BxK: jax.Array) -> np.ndarray:
    out = np.asarray(out_BxK, np.float32)
    return out[:, 1] - out[:, 0]


def _counts(test: Frames) -> np.ndarray:
    return np.ravel(np.asarray(test.weight) > 0)


# What is shown.


def features(
    train: radiomic_inputs.Table,
    train_y_N: np.ndarray,
    test: radiomic_inputs.Table,
    test_y_N: np.ndarray,
) -> dict[str, np.ndarray]:
    """How the global features differ between the classes.

    Args:
        train: features of the training set.
        train_y_N: its labels, 0 and 1.
        test: the same features of other examples.
        test_y_N: their labels.

    Returns:
        "names" [G]; "mean" and "spread" [G, 2], by class of the training set,
        NaN where it has too few; "alone" [G, 3], the area under the ROC curve
        of the feature by itself on the test set, and its interval (see
        `roc.areas`), cut to [0, 1]; NaN where a class has less than two.
        Nothing without features.
    """
    if not train.names:
        return {}
    mean, spread = (np.full((len(train.names), 2), np.nan) for _ in range(2))
    for k in range(2):
        values = np.asarray(train.values_NxF[train_y_N == k], float)
        if len(values):
            mean[:, k] = values.mean(0)
        if len(values) > 1:
            spread[:, k] = values.std(0, ddof=1)
    found = _areas(test.values_NxF.T, test_y_N)
    return {
        "names": np.array(train.names, dtype=str),
        "mean": mean,
        "spread": spread,
        "alone": np.full((len(mean), 3), np.nan) if found is None else found[0],
    }


def curves(
    scores: Mapping[str, np.ndarray], y_N: np.ndarray, key: jax.Array
) -> dict[str, np.ndarray]:
    """ROC curves of a network, and how sure they are.

    Args:
        scores: by place, [N]; a place with a score that is no finite number is
            left out.
        y_N: labels, 0 and 1.
        key: of the bootstrap, the same in all places.

    Returns:
        By place "roc/<place>/false" and ".../true" [T], points of the curve;
        ".../at", ".../low" and ".../high" [T'], its band (see `roc.band`) at
        some shares of false alarms; ".../area" [3], the area under it and its
        interval, cut to [0, 1]. With both places "roc/change" [3], by how much
        the area on the chip differs from the ideal one, from the same examples,
        and its interval. Nothing if a class has less than two examples.
    """
    sound = {k: s for k, s in scores.items() if np.isfinite(s).all()}
    if not sound:
        return {}
    found = _areas(np.stack([*sound.values()]), y_N)
    if found is None:
        return {}
    arrays = {}
    for place, score, area in zip(sound, sound.values(), found[0], strict=True):
        sides = score[y_N == 1], score[y_N == 0]
        points = [np.asarray(a) for a in jax.jit(roc.curve)(*sides)]
        alarms = _some(len(sides[1]) + 1, BAND)
        band = roc.band(key, *sides, alarms)
        rows = _some(len(points[0]), POINTS)
        arrays |= {
            f"roc/{place}/false": points[0][rows],
            f"roc/{place}/true": points[1][rows],
            f"roc/{place}/at": (alarms / len(sides[1])).astype(np.float32),
            f"roc/{place}/low": np.asarray(band.low),
            f"roc/{place}/high": np.asarray(band.high),
            f"roc/{place}/area": area,
        }
    if set(PLACES) <= sound.keys():
        arrays["roc/change"] = found[1]
    return arrays


def _areas(
    score_CxN: np.ndarray, y_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Areas with intervals [C, 3], and that of the last less the first, [3].

    None if a class has less than two examples.
    """
    sides = score_CxN[:, y_N == 1], score_CxN[:, y_N == 0]
    if min(side.shape[1] for side in sides) < 2:
        return None
    each, change = jax.device_get(_measured(*sides))
    return np.clip(np.stack(each, -1), 0, 1), np.stack(change)


@jax.jit
def _measured(
    positive_CxP: jax.Array, negative_CxQ: jax.Array
) -> tuple[roc.Interval, roc.Interval]:
    area, covariance = roc.areas(positive_CxP, negative_CxQ)
    each = roc.interval(area, jnp.diag(covariance))
    variance = covariance[0, 0] + covariance[-1, -1] - 2 * covariance[0, -1]
    # Of equal detectors it is 0 but for rounding errors.
    return each, roc.interval(area[-1] - area[0], jnp.maximum(variance, 0))


def correlations(started: Told, trained: Told) -> dict[str, np.ndarray]:
    """How far deep features repeat the radiomic ones.

    Args:
        started: what a network told before it was trained.
        trained: and after.

    Returns:
        "correlation/start" and "correlation/trained" [D, G], Pearson's, 0 for
        what is constant. Nothing without global features, or with less than
        two examples, or features that are no finite numbers.
    """
    arrays = {}
    for name, told in (("start", started), ("trained", trained)):
        pair = told.deep_NxD, told.radiomic_NxG
        enough = len(pair[0]) > 1 and pair[1].shape[1] > 0
        if enough and all(np.isfinite(a).all() for a in pair):
            found = jax.jit(decorrelate.correlation)(*pair)
            arrays[f"correlation/{name}"] = np.asarray(found)
    return arrays


def volumes(
    test: Frames,
    y_N: np.ndarray,
    global_features: int,
    scores: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Slices of some test volumes, with their local maps.

    Args:
        test: frames of volumes.
        y_N: labels, 0 and 1, of the examples that count.
        global_features: G, channels that are not shown.
        scores: log-odds of the second class, by place, [N] each.

    Returns:
        "rows" [E] of the test split, the first of each class; "label" [E];
        "said" [E, 2], the probability of the second class, ideal and on the
        chip; "depth" [], slices of a volume; "slices" [E, S], which are shown:
        a quarter, half and three quarters of the way through the region; and of
        these, around the region, "image" [E, S, H, W], "region", bool, and
        "maps" [E, S, H, W, L].
    """
    rows = np.concatenate([np.flatnonzero(y_N == k)[:EACH] for k in range(2)])
    rows = np.sort(rows).astype(int)
    batch = test.y.shape[1]  # Padding comes last, so that rows are places.
    found = [np.asarray(test.x[row // batch, row % batch]) for row in rows]
    boxes = [_box(volume) for volume in found]
    widest = max(int((high - low)[1:].max()) + 1 for low, high in boxes)
    side = min(math.ceil(AROUND * widest), SIDE)
    pairs = [
        _slices(volume, box, side)
        for volume, box in zip(found, boxes, strict=True)
    ]
    cut, slices = (np.stack(part) for part in zip(*pairs, strict=True))
    cut = cut[..., : cut.shape[-1] - global_features]
    odds = np.stack([scores[place][rows] for place in PLACES], -1)
    return {
        "rows": rows,
        "label": y_N[rows],
        "said": np.asarray(jax.nn.sigmoid(odds)),
        "depth": np.array(test.x.shape[2]),
        "slices": slices,
        "image": cut[..., 0],
        "region": cut[..., 1] > 0,
        "maps": cut[..., radiomic_inputs.CHANNELS :],
    }


def _box(volume_ZxYxXxC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxels of the region along each axis, [3] each."""
    spots = np.argwhere(volume_ZxYxXxC[..., 1] > 0)
    return spots.min(0), spots.max(0)


def _slices(
    volume_ZxYxXxC: np.ndarray, box: tuple[np.ndarray, np.ndarray], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slices through the region, [S, H, W, C], and which these are, [S]."""
    low, high = box
    part = np.arange(1, SLICES + 1) / (SLICES + 1)
    z = np.rint(low[0] + (high[0] - low[0]) * part).astype(int)
    size = np.array(volume_ZxYxXxC.shape[1:3])
    span = np.minimum(size, side)
    middle = (low + high)[1:] // 2
    top, left = np.clip(middle - span // 2, 0, size - span)
    return volume_ZxYxXxC[z, top : top + span[0], left : left + span[1]], z


def _some(size: int, most: int) -> np.ndarray:
    """At most so many of [0, size), evenly, with both ends."""
    return np.unique(np.linspace(0, size - 1, most).astype(int))
