"""Versions of the grader on disk.

A version is a folder with the network (orbax) and `metrics.json`; beside the
versions lies `base.npz`, the synthetic plates that all of them learned from.
"""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import re
import shutil
import tempfile
from typing import Any, NamedTuple
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.data import plates
from jaxedge.features.plates import BITS
from jaxedge.foodwise.grading import judged, learning
from jaxedge.foodwise.grading.learning import Labelled
from jaxedge.run import workdir
from jaxedge.run.checkpoint import Checkpoints

METRICS, NETWORK, BASE = "metrics.json", "network", "base.npz"
_LEVELS = 2**BITS - 1
_VERSION = re.compile(r"v(\d{4,})")


class Version(NamedTuple):
    """A taught network.

    Attributes:
        version: its name, such as "v0001".
        folder: where it lies.
        metrics: numbers by name, of test plates on chips of `DESIGN`.
    """

    version: str
    folder: Path
    metrics: dict[str, float]


def versions(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the versions of a folder, the oldest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = {}
    for place in folder.iterdir():
        match = _VERSION.fullmatch(place.name)
        if match and (place / METRICS).is_file():
            found[int(match[1])] = place.name
    return [found[number] for number in sorted(found)]


def keep(folder: Path, variables: Any, content: Mapping[str, Any]) -> str:
    """Writes a version under the next free name, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as temporary:
        place = Path(temporary) / "version"
        place.mkdir()
        checkpoints = Checkpoints(place / NETWORK, "accuracy")
        checkpoints.save(0, variables, content["metrics"])
        checkpoints.close()
        workdir.write_json(place / METRICS, content)
        number = int((versions(folder) or ["v0000"])[-1][1:]) + 1
        while True:
            name = f"v{number:04d}"
            try:
                os.rename(place, folder / name)
            except OSError:
                if not (folder / name).exists():
                    raise
                number += 1  # Somebody else was faster.
            else:
                return name


def place_of(folder: Path) -> Path:
    """The folder of a version, of those in a folder of the newest one.

    Raises:
        UsageError: if there is none.
    """
    if (folder / METRICS).is_file():
        return folder.resolve()
    found = versions(folder)
    if not found:
        raise checks.UsageError(
            f"{folder} has no version of a grader; train one first."
        )
    return (folder / found[-1]).resolve()


def note_of(place: Path) -> dict[str, Any]:
    """What grading needs of a version's `metrics.json`.

    Raises:
        UsageError: for a damaged one.
    """
    path = place / METRICS
    try:
        note = json.loads(path.read_text("utf-8"))
        judged.Threshold(**note["threshold"])
        return {
            k: note[k] for k in ("threshold", "design", "accuracy", "ranged")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}); train or"
            " restore that version again."
        ) from None


def restored(place: Path, note: Mapping[str, Any]) -> Any:
    """Variables of a version, given `note_of`.

    Raises:
        UsageError: if they are missing or damaged.
    """
    shapes = learning.like(ranged=note["ranged"])
    found = None
    if (place / NETWORK).is_dir():
        checkpoints = Checkpoints(place / NETWORK, "accuracy")
        found = checkpoints.best(shapes)
        checkpoints.close()
    if found is None:
        raise checks.UsageError(
            f"{place / NETWORK} holds no sound network; train or restore that"
            " version again."
        )
    return jax.tree.map(jnp.asarray, found[1])


def keep_base(folder: Path, base: Mapping[str, Labelled]) -> None:
    """Writes the plates, features as levels of 4 bits."""
    arrays = {}
    for split, part in base.items():
        levels = np.round(part.x_NxF * _LEVELS).astype(np.uint8)
        arrays |= {f"{split}_x": levels, f"{split}_y": part.y_N}
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as place:
        file = Path(place) / BASE
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        shutil.move(file, folder / BASE)


def base_of(folder: Path) -> dict[str, Labelled]:
    """The plates of all versions of a folder, by split.

    Raises:
        UsageError: if they are missing or damaged.
    """
    path = folder / BASE
    try:
        with np.load(path, allow_pickle=False) as file:
            return {
                split: learning.labelled(
                    file[f"{split}_x"].astype(np.float32) / _LEVELS,
                    file[f"{split}_y"],
                )
                for split in plates.SPLITS
            }
    except (OSError, ValueError, KeyError, zlib.error, EOFError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); train a version again."
        ) from None
