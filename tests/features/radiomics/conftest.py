"""What the tests of textures share: regions of the peers, and their values."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

HERE = Path(__file__).parent


class Measured(NamedTuple):
    """A region as pyradiomics bins it, and what was found of it.

    Attributes:
        levels_ZxYxX: grey levels of the smallest box.
        rows_ZxYxX: the rows of those that occur.
        grey_G: the level of each row; one row is spare, and 0.
        spacing_3: mm along (z, y, x).
        expected: values by name within the class, or by the tag of the IBSI.
    """

    levels_ZxYxX: np.ndarray
    rows_ZxYxX: np.ndarray
    grey_G: np.ndarray
    spacing_3: np.ndarray
    expected: dict[str, Any]


def region(path, width, expected):
    """Independent of `radiomics.bins` and `regions`, which have own tests."""
    stored = np.load(path)
    mask = stored["mask"] == 1
    axes = [np.flatnonzero(mask.any(a)) for a in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(at[0], at[-1] + 1) for at in axes)
    mask, image = mask[box], stored["image"][box].astype(np.float64)
    levels = np.floor(image / width) - np.floor(image[mask].min() / width) + 1
    levels = np.where(mask, levels, 0).astype(np.int32)
    present = np.unique(levels[mask])
    rows = np.where(mask, np.searchsorted(present, levels) + 1, 0)
    return Measured(
        levels,
        rows.astype(np.int32),
        np.append(present, 0).astype(np.float32),
        stored["spacing_xyz"][::-1].astype(np.float32),
        expected,
    )


@pytest.fixture
def peer(real_file):
    """A function of a case of pyradiomics.json and a class -> `Measured`."""

    def find(case, kind):
        stored = json.loads((HERE / "pyradiomics.json").read_text())[case]
        prefix = f"original_{kind}_"
        return region(
            real_file(f"radiomics/{stored['volume']}.npz"),
            stored["settings"]["binWidth"],
            {
                key.removeprefix(prefix): value
                for key, value in stored["features"].items()
                if key.startswith(prefix)
            },
        )

    return find


@pytest.fixture
def phantom(real_file):
    """A function of a prefix of tags -> the digital phantom of the IBSI."""

    def find(prefix):
        with (HERE / "ibsi_digital_phantom.csv").open() as file:
            values = {row["tag"]: row["value"] for row in csv.DictReader(file)}
        return region(
            real_file("radiomics/ibsi1_digital_phantom.npz"),
            1,
            {k: float(v) for k, v in values.items() if k.startswith(prefix)},
        )

    return find
