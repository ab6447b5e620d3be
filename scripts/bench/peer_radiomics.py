"""The work of scripts/bench/radiomic_features.py, as pyradiomics does it.

    PEER_PYTHON scripts/bench/peer_radiomics.py TASK.npz RESULT.npz

PEER_PYTHON has pyradiomics 3.0.1, which wants numpy below 2; the first lines of
scripts/peers/radiomics_reference.py tell how to make it. Seconds are those of
the processor, of `execute` alone: images are SimpleITK's before, and nothing is
written down about them (additionalInfo=False).
"""

import json
import logging
import sys
import time
from typing import Any

import numpy as np
import radiomics  # type: ignore
from radiomics import featureextractor  # type: ignore
import SimpleITK as sitk


def volume(given: Any, name: str) -> list[Any]:
    """Image and mask of SimpleITK."""
    spacing = given[f"spacing/{name}"][::-1].tolist()
    found = []
    for kind in ("image", "mask"):
        image = sitk.GetImageFromArray(given[f"{kind}/{name}"])
        image.SetSpacing(spacing)
        found.append(image)
    return found


def extractor(task: dict[str, Any]) -> Any:
    """With the classes or features of a task, all for none."""
    made = featureextractor.RadiomicsFeatureExtractor(
        additionalInfo=False, binWidth=25, kernelRadius=task.get("radius", 1)
    )
    if task["features"]:
        made.disableAllFeatures()
        made.enableFeaturesByName(**task["features"])
    return made


def timed(made: Any, pair: list[Any], maps: bool) -> tuple[float, Any]:
    """Seconds of the processor, and what was found."""
    start = time.process_time()
    found = made.execute(*pair, voxelBased=maps)
    return time.process_time() - start, found


def whole(found: Any, image: Any) -> np.ndarray:
    """A map, which pyradiomics crops, in its place in the image."""
    place = image.TransformPhysicalPointToIndex(found.GetOrigin())[::-1]
    part = sitk.GetArrayFromImage(found)
    full = np.zeros(image.GetSize()[::-1], np.float32)
    pairs = zip(place, part.shape, strict=True)
    full[tuple(slice(a, a + n) for a, n in pairs)] = part
    return full


def console() -> None:
    """Does the task and leaves the seconds and what was found."""
    radiomics.logger.setLevel(logging.ERROR)
    with np.load(sys.argv[1]) as given:
        task = json.loads(str(given["task"]))
        pairs = [volume(given, name) for name in task["volumes"]]
    made, maps = extractor(task), task["maps"]
    seconds: list[float] = []
    result: dict[str, Any] = {"version": radiomics.__version__}
    values: dict[str, list[Any]] = {}
    if not maps:
        timed(made, pairs[0], maps)  # Loads what is loaded once.
    for pair in pairs:
        best = []
        for _ in range(task["repeats"]):
            took, found = timed(made, pair, maps)
            best.append(took)
        seconds.append(min(best))
        for name, value in found.items():
            key = name.removeprefix("original_")
            value = whole(value, pair[0]) if maps else float(value)
            values.setdefault(key, []).append(value)
    result |= {f"found/{key}": np.stack(rows) for key, rows in values.items()}
    np.savez(sys.argv[2], seconds=np.array(seconds), **result)


if __name__ == "__main__":
    console()
