"""Grades a photo of a plate on a simulated chip, or says that it is unsure.

    made = grader.train("models")
    judge = grader.Grader(made.folder)
    judge.warm_up()
    grade = judge.grade(photo)

Versions are kept by `storage`. All that is known of the grader was found on
synthetic plates: on photos it will be worse, so it answers where it is sure
alone.

Letters: N plates, F features, K classes.
"""

from collections.abc import Sequence
import os
from pathlib import Path
import time
from typing import Any
import zlib

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import plates
from jaxedge.features import plates as features_of
from jaxedge.foodwise.grading import (
    experiment,
    judged,
    learning,
    quality,
    storage,
)
from jaxedge.foodwise.grading.learning import DESIGNS as DESIGNS
from jaxedge.foodwise.grading.learning import Labelled
from jaxedge.foodwise.grading.ordering import order_review as order_review
from jaxedge.foodwise.grading.predictor import Grade as Grade
from jaxedge.foodwise.grading.predictor import Predictor as Predictor
from jaxedge.foodwise.grading.storage import Version as Version
from jaxedge.foodwise.grading.storage import versions as versions
from jaxedge.run import workdir

# Of its answers where it gives one, on the validation plates; our choice. On
# others it is a little less, see docs/results/foodwise_grader.md.
ACCURACY = 0.99
DESIGN = "clip"
# Reviewed plates count as much as so many of the synthetic ones together, but
# each at most so often.
SHARE, MOST_OFTEN = 0.3, 20
_CHIPS = 5  # By which the threshold is chosen.


def train(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    n: int | None = None,
    epochs: int | None = None,
    accuracy: float = ACCURACY,
) -> Version:
    """Teaches a network on synthetic plates; makes the first or a new version.

    Args:
        folder: of all versions; it is made.
        seed: of plates, weights and chips.
        n: training plates, at least 10; None takes 3000.
        epochs: passes; None takes those of the config.
        accuracy: of answers, which the threshold is chosen for.

    Raises:
        UsageError: for an argument out of range.
    """
    checks.in_range("seed", seed, 0, 2**31 - 1)
    checks.in_range("accuracy", accuracy, 0, 1, open_low=True)
    base = learning.made_up(seed, n)
    config = _config(epochs)
    Path(folder).mkdir(parents=True, exist_ok=True)
    storage.keep_base(Path(folder), base)
    note = {"seed": seed, "parent": None, "canteens": {}}
    return _made(Path(folder), base, base["train"], config, accuracy, note)


def retrain(
    folder: str | os.PathLike[str],
    features_NxF: Any,
    labels_N: Any,
    canteens_N: Sequence[str],
    *,
    seed: int = 0,
    epochs: int | None = None,
    accuracy: float = ACCURACY,
) -> Version:
    """Teaches a network on synthetic plates and on reviewed ones together.

    It begins anew, so that what it learned from the reviewed ones before does
    not count twice. All canteens weigh alike, whatever they have reviewed, and
    all together as `SHARE` of the plates, so far as `MOST_OFTEN` lets them. The
    threshold and the metrics are those of synthetic plates. (The variant
    "canteens" of configs/foodwise.py does the same without bringing photos
    together: each canteen is a client of the recipe `federated`, which asks for
    labels by FEAL and sends what it learned.)

    Args:
        folder: of all versions, with one at least.
        features_NxF: of reviewed plates, in [0, 1], as a grade has them.
        labels_N: places in `plates.CLASSES`.
        canteens_N: whose each plate is, a name.
        seed: of weights and chips.
        epochs: as in `train`, and so is the next.
        accuracy: of answers.

    Raises:
        UsageError: for no version, no plates, or plates that are none.
    """
    folder = Path(folder)
    checks.in_range("seed", seed, 0, 2**31 - 1)
    checks.in_range("accuracy", accuracy, 0, 1, open_low=True)
    known = versions(folder)
    if not known:
        raise checks.UsageError(
            f"{folder} has no version to go on from; train one first."
        )
    reviewed = learning.labelled(features_NxF, labels_N)
    if not len(reviewed.y_N):
        raise checks.UsageError("there are no reviewed plates; label some.")
    base = storage.base_of(folder)
    often = times(canteens_N, len(base["train"].y_N))
    if len(often) != len(reviewed.y_N):
        raise checks.UsageError(
            f"there are {len(reviewed.y_N)} labels but {len(often)} canteens;"
            " name the canteen of every plate."
        )
    rows = np.repeat(np.arange(len(often)), often)
    repeated = Labelled(reviewed.x_NxF[rows], reviewed.y_N[rows])
    names, counts = np.unique(np.asarray(canteens_N, str), return_counts=True)
    note = {
        "seed": seed,
        "parent": known[-1],
        "canteens": dict(zip(names.tolist(), counts.tolist(), strict=True)),
    }
    learned = learning.together([base["train"], repeated])
    return _made(folder, base, learned, _config(epochs), accuracy, note)


def times(canteens_N: Sequence[str], base: int) -> np.ndarray:
    """How often each reviewed plate is learned, [N], at least once.

    Args:
        canteens_N: whose each plate is.
        base: synthetic plates.
    """
    names = np.asarray(canteens_N, str)
    known, which, count = np.unique(
        names, return_inverse=True, return_counts=True
    )
    wanted = SHARE / (1 - SHARE) * base / max(len(known), 1) / count
    return np.clip(np.round(wanted), 1, MOST_OFTEN).astype(int)[which]


class Grader:
    """A version on a chip, as a `Predictor`; threads may share it.

    The same photo always gets the same grade: what a read adds is drawn by the
    photo itself.

    Args:
        folder: of a version, or of all of them, of which it takes the newest.
        design: what it grades on, of `DESIGNS`.
        chip: which chip of that design, at least 0.
        accuracy: asked of its answers; None takes what the version was made
            for. Another one, as another design, is met on this chip by the
            validation plates that were kept.

    Attributes:
        version: the name of the version.
        design: as given.
        chip: likewise.
        threshold: `judged.Threshold`, from which doubt on it is unsure.

    Raises:
        UsageError: for a folder without a version, a damaged one, or an
            argument out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        design: str = DESIGN,
        chip: int = 0,
        accuracy: float | None = None,
    ) -> None:
        checks.choice("design", design, DESIGNS)
        checks.whole("chip", chip)
        checks.in_range("chip", chip, 0, 2**31 - 1)
        place = storage.place_of(Path(folder))
        note = storage.note_of(place)
        self.version, self.design, self.chip = place.name, design, chip
        self._key = stream(jax.random.key(chip), "foodwise chip")
        variables = storage.restored(place, note)
        program = jax.jit(learning.programmed, static_argnums=1)
        self._network = program(variables, design, stream(self._key, "chip"))
        if accuracy is None and design == note["design"]:
            self.threshold = judged.Threshold(**note["threshold"])
        else:
            asked = note["accuracy"] if accuracy is None else accuracy
            self.threshold = self._chosen(place.parent, asked)

    def grade(self, image_HxWx3: np.ndarray) -> Grade:
        """Of one photo, uint8 RGB.

        A photo that is not good enough is not graded: its parameters are those
        of no evidence.

        Raises:
            UsageError: for another shape or dtype.
        """
        image = quality.checked(image_HxWx3)
        square = quality.fitted(image)
        wrong = quality.problem(image, square)
        number = np.uint32(zlib.crc32(square.tobytes()))
        found = _graded(self._network, square, self._key, number)
        alpha, features = (np.asarray(a, np.float64) for a in found)
        if wrong:
            alpha = np.ones_like(alpha)
        u = float(judged.doubts(alpha))
        sure = not wrong and u <= self.threshold.u
        return Grade(
            probabilities=tuple(map(float, alpha / alpha.sum())),
            alpha=tuple(map(float, alpha)),
            uncertainty=u,
            decision=int(alpha.argmax()) if sure else None,
            quality=wrong or "",
            version=self.version,
            chip=self.chip,
            features=tuple(map(float, features)),
        )

    def warm_up(self) -> float:
        """Compiles what grades, and tells how long one photo takes then, s."""
        photo = plates.draw([0], split="test").image_NxSxSx3[0]
        self.grade(photo)
        start = time.perf_counter()
        self.grade(photo)
        return time.perf_counter() - start

    def _chosen(self, folder: Path, accuracy: float) -> judged.Threshold:
        valid = storage.base_of(folder)["valid"]
        key = stream(self._key, "threshold")
        alpha = jax.jit(learning.alphas)(self._network, valid.x_NxF, key)
        return judged.threshold(alpha, valid.y_N, accuracy)


@jax.jit
def _graded(chip: Any, square: Any, key: Any, number: Any) -> Any:
    """Parameters [K] and features [F] of one photo [S, S, 3] uint8."""
    features = features_of.of_pixels(square)
    read = stream(key, "read", number)
    return learning.alphas(chip, features[None], read)[0], features


def _config(epochs: int | None) -> Any:
    config: Any = experiment.config()
    if epochs is not None:
        checks.whole("epochs", epochs, 1)
        config.train.epochs = epochs
    return config


def _made(
    folder: Path,
    base: dict[str, Labelled],
    learned: Labelled,
    config: Any,
    accuracy: float,
    note: dict[str, Any],
) -> Version:
    """Trains, measures and keeps a new version."""
    start = time.monotonic()
    variables = learning.fit(learned, config, note["seed"])
    seconds = time.monotonic() - start
    key = stream(jax.random.key(note["seed"]), "chips")
    seen = learning.on_chips(
        variables,
        DESIGN,
        {split: base[split] for split in ("valid", "test")},
        key,
        _CHIPS,
    )
    valid, test = base["valid"], base["test"]
    # All chips together: one threshold for whichever chip grades.
    chosen = judged.threshold(
        seen["valid"].reshape(-1, len(plates.CLASSES)),
        np.tile(valid.y_N, _CHIPS),
        accuracy,
    )
    rows = [judged.scores(alpha, test.y_N) for alpha in seen["test"]]
    mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
    answered = judged.doubts(seen["test"]) <= chosen.u
    right = seen["test"].argmax(-1) == test.y_N
    metrics = {
        **{k: v for k, v in mean.items() if np.isfinite(v)},
        "threshold": chosen.u,
        "coverage": float(answered.mean()),
        "accuracy_answered": float(right[answered].mean())
        if answered.any()
        else 1.0,
        "plates": float(len(learned.y_N)),
        "seconds": round(seconds, 1),
    }
    content = {
        **note,
        "accuracy": accuracy,
        "design": DESIGN,
        "ranged": config.train.hardware != "ideal",
        "threshold": chosen._asdict(),
        "metrics": metrics,
        "config": workdir.plain(config),
        "of": "synthetic plates",
    }
    name = storage.keep(folder, variables, content)
    return Version(name, folder / name, metrics)


__all__ = [
    "ACCURACY",
    "DESIGN",
    "DESIGNS",
    "Grade",
    "Grader",
    "Predictor",
    "Version",
    "order_review",
    "retrain",
    "times",
    "train",
    "versions",
]
