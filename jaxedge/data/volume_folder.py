"""One's own volumes: a folder of images with masks, and a table of labels.

`volume_folder/cases.csv` of the data root has the columns id, image, mask and
label, and may have fold; others are not looked at. Paths are relative to the
table, and name what `volumes.read` reads.

Letters: N cases, Z, Y, X axes of a volume.
"""

from collections.abc import Sequence
import csv
from pathlib import Path
from typing import NamedTuple
import zlib

import numpy as np

from jaxedge.core import checks
from jaxedge.data import volumes
from jaxedge.data.source import Source, make_source

TABLE = "volume_folder/cases.csv"
COLUMNS = ("id", "image", "mask", "label")
FOLD = "fold"
SPLITS = ("train", "valid", "test")
# As in RIDL (ridl 3): voxels of the crop, and how many folds there are.
SIZE, FOLDS = (96, 128, 128), 5


class Case(NamedTuple):
    """A row of the table.

    Attributes:
        id: of the case, unlike all others.
        image: its file, or a folder of DICOM.
        mask: likewise.
        label: its class, as in the table.
        fold: counted from 0.
        place: among the rows of the table, counted from 0.
    """

    id: str
    image: Path
    mask: Path
    label: str
    fold: int
    place: int


def read(
    split: str,
    root: Path,
    *,
    size: Sequence[int] = SIZE,
    fold: int = 0,
    classes: Sequence[str] | None = None,
    label: int | None = 1,
    resample: bool = False,
) -> Source:
    """Volumes and their regions, x [N, Z, Y, X, 2] float32.

    Each is cut to `size` around the middle of its region; what is beyond the
    image has its smallest intensity. Intensities are those of the file.

    Args:
        split: "test" is the fold `fold`, "valid" the next one, "train" all
            others (ridl 4).
        root: the folder that holds `volume_folder/`.
        size: Z, Y and X of the crop.
        fold: see `split`.
        classes: the labels in their order; None takes those of the table,
            sorted.
        label: number of the region in the masks; None for the only one.
        resample: whether masks on another grid are put onto their image's.

    Returns:
        The source; its `aux` has "spacing", mm along (z, y, x), [N, 3], and
        "case", the row of the table, [N].

    Raises:
        UsageError: naming the case, for a table that `cases` refuses, a file
            that is missing or damaged, a mask on another grid, without the
            region or larger than the crop, or NaN.
    """
    checks.choice("split", split, SPLITS)
    found = cases(root / TABLE, classes)
    known = (
        tuple(classes) if classes else tuple(sorted({c.label for c in found}))
    )
    folds = 1 + max(case.fold for case in found)
    checks.whole("fold", fold)
    checks.in_range("fold", fold, 0, folds - 1)
    if len(size) != 3:
        raise checks.UsageError(
            f"size is {tuple(size)}, but must be three numbers, of Z, Y and X."
        )
    for side in size:
        checks.whole("size", side, 1)
    test, valid = fold, (fold + 1) % folds
    part = {test: "test", valid: "valid"}
    chosen = [c for c in found if part.get(c.fold, "train") == split]
    x = np.empty((len(chosen), *size, 2), np.float32)
    spacing = np.empty((len(chosen), 3), np.float32)
    for i, case in enumerate(chosen):
        try:
            image, region = volumes.read_pair(
                case.image, case.mask, label=label, resample=resample
            )
            x[i] = cropped(image.array_ZxYxX, region.array_ZxYxX, size)
        except checks.UsageError as error:
            raise checks.UsageError(f"case {case.id!r}: {error}") from None
        spacing[i] = image.spacing
    source = make_source(
        x,
        np.array([known.index(case.label) for case in chosen]),
        classes=known,
        name="volume_folder",
        split=split,
    )
    places = np.array([case.place for case in chosen], np.int32)
    return source._replace(aux={"spacing": spacing, "case": places})


def cropped(
    image_ZxYxX: np.ndarray, mask_ZxYxX: np.ndarray, size: Sequence[int]
) -> np.ndarray:
    """Intensities and 1 in the region, [*size, 2] float32, around the region.

    Args:
        image_ZxYxX: intensities.
        mask_ZxYxX: bool, its region.
        size: of the crop.

    Raises:
        UsageError: for a region that does not fit, or NaN in the crop.
    """
    low, high = volumes.box(mask_ZxYxX)
    spans = high - low + 1
    if (spans > size).any():
        raise checks.UsageError(
            f"the region spans {tuple(spans.tolist())} voxels, but the crop has"
            f" {tuple(size)}; take a larger size, or resample the volume."
        )
    # Such that the middle of the region is that of the crop.
    start = (low + high + 1) // 2 - np.array(size) // 2
    pads = [
        (max(-s, 0), max(s + n - whole, 0))
        for s, n, whole in zip(start, size, image_ZxYxX.shape, strict=True)
    ]
    cut = tuple(
        slice(s + before, s + before + n)
        for s, n, (before, _) in zip(start, size, pads, strict=True)
    )
    image = np.pad(image_ZxYxX, pads, constant_values=image_ZxYxX.min())[
        cut
    ].astype(np.float32)
    checks.finite("the image around the region", image)
    mask = np.pad(mask_ZxYxX, pads)[cut]
    return np.stack([image, mask], -1, dtype=np.float32)


def cases(path: Path, classes: Sequence[str] | None = None) -> list[Case]:
    """The rows of a table, with a fold each.

    Without the column fold there are five folds, among which the cases of every
    class are dealt out in an order that their ids alone determine.

    Args:
        path: of the table, comma-separated text with a line of names.
        classes: labels that are known; None allows all.

    Raises:
        UsageError: for a missing file or column, a row with other cells than
            columns, an empty cell, an id that is there twice, an unknown label,
            fewer than two classes, or folds that are not 0, 1, 2, ... of which
            there must be 3 at least.
    """
    names, rows = _rows(path)
    found: list[Case] = []
    seen: dict[str, int] = {}
    for place, (line, cells) in enumerate(rows):
        row = dict(zip(names, cells, strict=True))
        needed = [n for n in (*COLUMNS, FOLD) if n in row]
        empty = [name for name in needed if not row[name]]
        if empty:
            raise checks.UsageError(
                f"line {line} of {path} has no {empty[0]}; fill it in, or"
                " delete the row."
            )
        if row["id"] in seen:
            raise checks.UsageError(
                f"lines {seen[row['id']]} and {line} of {path} have the same id"
                f" {row['id']!r}; give each case its own."
            )
        seen[row["id"]] = line
        if classes is not None and row["label"] not in classes:
            what = f"label on line {line} of {path}:"
            raise checks.unknown(what, row["label"], classes)
        found.append(
            Case(
                row["id"],
                path.parent / row["image"],
                path.parent / row["mask"],
                row["label"],
                _fold(row[FOLD], line, path) if FOLD in row else -1,
                place,
            )
        )
    labels = sorted({case.label for case in found})
    if len(labels) < 2:
        raise checks.UsageError(
            f"all {len(found)} cases of {path} have the label {labels[0]!r},"
            " but there must be two classes or more."
        )
    if FOLD not in names:
        found = _dealt(found, labels)
    _check_folds(found, path)
    return found


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and cells of the rows with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [
                (reader.line_num, [cell.strip() for cell in cells])
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise checks.UsageError(
            f"{path} cannot be read ({reason}); put a table of comma-separated"
            f" values there, with the columns {', '.join(COLUMNS)}."
        ) from None
    names = lines[0][1] if lines else []
    missing = [name for name in COLUMNS if name not in names]
    if missing or len(set(names)) < len(names):
        fault = f"lacks the column {missing[0]}" if missing else "repeats one"
        raise checks.UsageError(
            f"{path} {fault}: its first line is {', '.join(names)!r}, but must"
            f" name {', '.join(COLUMNS)}, and {FOLD} where there are folds."
        )
    for line, cells in lines[1:]:
        if len(cells) != len(names):
            raise checks.UsageError(
                f"line {line} of {path} has {len(cells)} cells, but there are"
                f" {len(names)} columns; quote what holds a comma."
            )
    if len(lines) < 2:
        raise checks.UsageError(f"{path} names no case; add a row for each.")
    return names, lines[1:]


def _fold(cell: str, line: int, path: Path) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise checks.UsageError(
            f"line {line} of {path} has the fold {cell!r}, but folds are whole"
            " numbers from 0 on."
        )
    return int(cell)


def _dealt(found: Sequence[Case], labels: Sequence[str]) -> list[Case]:
    """The cases with folds, every class spread evenly over them."""
    folds, turn = {}, 0
    for label in labels:
        ids = [case.id for case in found if case.label == label]
        for name in sorted(ids, key=lambda i: (zlib.crc32(i.encode()), i)):
            folds[name] = turn % FOLDS
            turn += 1
    return [case._replace(fold=folds[case.id]) for case in found]


def _check_folds(found: Sequence[Case], path: Path) -> None:
    used = sorted({case.fold for case in found})
    if used != list(range(len(used))) or len(used) < 3:
        raise checks.UsageError(
            f"the {len(found)} cases of {path} are in the folds"
            f" {', '.join(map(str, used))}, but there must be 3 or more,"
            " counted from 0: for testing, for validation and for training."
        )
