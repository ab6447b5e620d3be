"""Fed-Camelyon: patches of lymph nodes from five hospitals (Camelyon17-WILDS).

It is read from `fed_camelyon/` as WILDS ships version 1.0: `metadata.csv`, of
which patient, node, x_coord, y_coord, tumor, slide and center are read, and
`patches/patient_P_node_N/patch_patient_P_node_N_x_X_y_Y.png` of 96 x 96 pixels.
If HarmoFL's split `data.pkl` lies beside them, it is used: a dictionary
"hospital1" to "hospital5" of "train" and "test", each the paths below
`fed_camelyon/` and the labels. Which hospital of HarmoFL is which center of
WILDS is unknown.
"""

import csv
import functools
from pathlib import Path
import pickle
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import pictures, sites, tables
from jaxedge.data.source import Source

CLASSES = ("normal", "tumour")
SITES = tuple(f"hospital{i}" for i in range(1, 6))
SIDE = 96
_COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "slide", "center")
# All that arrays of numbers and of text are made of. A pickle may run any
# program when it is read, so nothing else is looked up.
_HARMLESS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


class Patch(NamedTuple):
    """One patch: its path, label, site and what is split as a whole."""

    path: str
    label: int
    site: int
    group: str


def read(split: str, root: Path) -> Source:
    """Patches, x `Pictures` [N, 96, 96, 3], pixel / 255; `aux["site"]`.

    The label tells whether the middle 32 x 32 pixels hold any tumour.

    Args:
        split: of HarmoFL's split "test" is as it is there, and "valid" a tenth
            of each hospital's and class's training patches. Without it, splits
            are ours, by site and whole slides, see `sites.split_rows`. (WILDS's
            own holds out hospitals, so that its clients have no test set.)
        root: the folder that holds `fed_camelyon/`.

    Returns:
        The source.

    Raises:
        UsageError: for a missing or damaged table, an unknown hospital, or a
            label out of range. A missing patch, or one of another size, raises
            it when it is read.
    """
    folder = root / "fed_camelyon"
    if (folder / "data.pkl").is_file():
        part = "test" if split == "test" else "train"
        patches = _of_harmofl(folder / "data.pkl", part)
        if split != "test":
            strata = [f"{SITES[p.site]}/{p.label}" for p in patches]
            rows = sites.split_rows(split, "fed_camelyon", strata, tested=False)
            patches = [patches[i] for i in rows]
    else:
        patches = _of_wilds(folder / "metadata.csv")
        strata = [SITES[p.site] for p in patches]
        groups = [p.group for p in patches]
        rows = sites.split_rows(split, "fed_camelyon", strata, groups)
        patches = [patches[i] for i in rows]
    x: Any = pictures.Pictures(
        [folder / p.path for p in patches], _decode, (SIDE, SIDE, 3)
    )
    y_N = np.array([p.label for p in patches], np.int32)
    source = Source(x, y_N, CLASSES, "fed_camelyon", split)
    return sites.tagged(source, np.array([p.site for p in patches]), SITES)


def _decode(path: Path) -> np.ndarray:
    pixels = np.asarray(pictures.opened(path))
    if pixels.shape != (SIDE, SIDE, 3):
        raise checks.UsageError(
            f"{path} has {pixels.shape[0]} x {pixels.shape[1]} pixels, but"
            f" patches have {SIDE} x {SIDE}; fetch it again."
        )
    return pixels.astype(np.float32) / 255


def _of_wilds(path: Path) -> list[Patch]:
    reader = csv.DictReader(tables.lines(path))
    missing = {*_COLUMNS} - {*(reader.fieldnames or ())}
    if missing:
        raise checks.UsageError(
            f"{path} has no column {sorted(missing)[0]!r}; put the metadata of"
            " Camelyon17-WILDS 1.0 there."
        )
    return [_patch(f"{path}, row {i}", row) for i, row in enumerate(reader, 1)]


def _patch(where: str, row: dict[str, str]) -> Patch:
    label = _number(where, "tumor", row["tumor"], len(CLASSES))
    site = _number(where, "center", row["center"], len(SITES))
    # Patients are numbered with leading zeros, which a spreadsheet would drop.
    case = f"patient_{row['patient'].zfill(3)}_node_{row['node']}"
    place = f"x_{row['x_coord']}_y_{row['y_coord']}"
    path = f"patches/{case}/patch_{case}_{place}.png"
    return Patch(path, label, site, f"{site}/{row['slide']}")


def _number(where: str, name: str, value: Any, count: int) -> int:
    if str(value) not in map(str, range(count)):
        raise checks.UsageError(
            f"{where} has {value} as {name}, but it must lie in [0,"
            f" {count - 1}]."
        )
    return int(value)


class _Arrays(pickle.Unpickler):
    """Reads arrays in plain containers, and nothing that could be run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _of_harmofl(path: Path, part: str) -> list[Patch]:
    try:
        with path.open("rb") as file:
            content = _Arrays(file).load()
        found = [content[name][part] for name in SITES]
        listed = [
            (np.ravel(paths).tolist(), np.ravel(labels).tolist())
            for paths, labels in found
        ]
    except Exception as error:  # A damaged pickle may raise any.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise checks.UsageError(
            f"{path} is no split of HarmoFL ({reason}); it needs hospital1 to"
            f" hospital5, each with the paths and labels of {part!r}."
        ) from None
    number = functools.partial(_number, count=len(CLASSES))
    patches = []
    for site, (paths, labels) in enumerate(listed):
        if len(paths) != len(labels) or not paths:
            raise checks.UsageError(
                f"{path} has {len(paths)} paths and {len(labels)} labels of"
                f" {SITES[site]}; fetch it again."
            )
        where = f"{path}, {SITES[site]},"
        for name, label in zip(paths, labels, strict=True):
            label = int(label) if label == int(label) else label
            kind = number(where, "label", label)
            patches.append(Patch(str(name), kind, site, str(name)))
    return patches
