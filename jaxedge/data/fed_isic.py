"""Fed-ISIC2019: 23,247 skin lesions of six centres (FLamby, du Terrail 2022).

It is read from `fed_isic/` as FLamby leaves it: the table `train_test_split`
(also with the ending .csv; between commas, or between tabs as of FEAL), of
which image, target, center and fold are read, and the folder
`ISIC_2019_Training_Input_preprocessed/` with IMAGE.jpg, whose shorter side is
224 pixels and whose colours FLamby's script has made constant.
"""

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import pictures, sites, tables
from jaxedge.data.source import Source

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
# In the order of their numbers in the table. arXiv:2312.02567 has the first 4.
SITES = (
    "BCN",
    "HAM_vidir_molemax",
    "HAM_vidir_modern",
    "HAM_rosendahl",
    "MSK",
    "HAM_vienna_dias",
)
FEAL_CENTRES = 4
FOLDER = "ISIC_2019_Training_Input_preprocessed"
SIDE = 224


def read(
    split: str, root: Path, *, centres: int = len(SITES), side: int = SIDE
) -> Source:
    """The named split, x `Pictures` [N, S, S, 3] in [0, 1]; `aux["site"]`.

    The middle of each image is cut out, see `pictures.middle`, for training
    too; nothing is normalised, turned or flipped here.

    Args:
        split: "test" is the fold "test" of the table, 4,398 images of the first
            four centres; of its fold "train" (17,591) every class of a centre
            gives a tenth to "valid", see `sites.split_rows`.
        root: the folder that holds `fed_isic/`.
        centres: the first so many centres take part.
        side: S, pixels.

    Returns:
        The source, named "fed_isic", or "fed_isic2019" with all centres.

    Raises:
        UsageError: for a missing table or image, an unknown fold or centre, or
            a label out of range. An image that cannot be decoded raises it
            when it is read.
    """
    checks.whole("side", side, 1)
    checks.whole("centres", centres, 1)
    checks.in_range("centres", centres, 1, len(SITES))
    folder = root / "fed_isic"
    name = "fed_isic2019" if centres == len(SITES) else "fed_isic"
    fold = "test" if split == "test" else "train"
    rows = [
        row for row in _table(folder) if row[3] == fold and row[2] < centres
    ]
    if split != "test":
        strata = [f"{SITES[c]}/{CLASSES[k]}" for _, k, c, _ in rows]
        kept = sites.split_rows(split, "fed_isic", strata, tested=False)
        rows = [rows[i] for i in kept]
    if not rows:
        raise checks.UsageError(
            f"the table in {folder} has no image of the fold {fold!r}; fetch it"
            " again."
        )
    paths = [folder / FOLDER / f"{row[0]}.jpg" for row in rows]
    _check_files(folder / FOLDER, paths)
    x: Any = pictures.Pictures(
        paths, functools.partial(pictures.middle, side=side), (side, side, 3)
    )
    y_N = np.array([row[1] for row in rows], np.int32)
    source = Source(x, y_N, CLASSES, name, split)
    return sites.tagged(source, np.array([r[2] for r in rows]), SITES[:centres])


def _table(folder: Path) -> list[tuple[str, int, int, str]]:
    """Image, class, centre and fold of every row."""
    names = ("train_test_split", "train_test_split.csv")
    path = next(
        (folder / n for n in names if (folder / n).is_file()), folder / names[0]
    )
    lines = tables.lines(path)
    delimiter = "\t" if "\t" in lines[0] else ","
    reader = csv.DictReader(lines, delimiter=delimiter)
    missing = {"image", "target", "center", "fold"} - {
        *(reader.fieldnames or ())
    }
    if missing:
        raise checks.UsageError(
            f"{path} has no column {sorted(missing)[0]!r}; put FLamby's table"
            " train_test_split there."
        )
    return [_row(f"{path}, row {i}", row) for i, row in enumerate(reader, 1)]


def _row(where: str, row: dict[str, str]) -> tuple[str, int, int, str]:
    fold = row["fold"]
    checks.choice(f"fold in {where},", fold, ("train", "test"))
    target = _number(where, "target", row["target"], len(CLASSES))
    return row["image"], target, _centre(where, row["center"]), fold


def _centre(where: str, text: str) -> int:
    return _number(where, "center", text, len(SITES))


def _number(where: str, name: str, text: str, count: int) -> int:
    known = [str(i) for i in range(count)]
    if text not in known:
        raise checks.UsageError(
            f"{where} has {text!r} as {name}, but it must lie in [0,"
            f" {count - 1}]."
        )
    return known.index(text)


def _check_files(folder: Path, paths: list[Path]) -> None:
    there = {path.name for path in folder.glob("*.jpg")}
    missing = [path for path in paths if path.name not in there]
    if missing:
        raise checks.UsageError(
            f"{missing[0]} is missing, and {len(missing) - 1} others of the"
            " split; put FLamby's preprocessed images there."
        )
