"""Real photos of plates from a folder of one's own.

Either `plate_folder/CLASS/*.jpg`, where CLASS is of `plates.CLASSES`, or
`plate_folder/plates.csv` with the columns file and class, and with canteen
where photos are of several. A file is named from the folder on and must lie in
it. The middle square of each photo is taken, as it is of those that the
application grades.

Letters: N photos.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import pictures, plates, sites
from jaxedge.data.source import Source, make_source

FOLDER, TABLE = "plate_folder", "plates.csv"
ONE = "canteen"  # The name of the canteen where none is told.


class _Photo(NamedTuple):
    """A file, its class and its canteen."""

    path: Path
    label: str
    canteen: str


def read(split: str, root: Path, *, features: bool = True) -> Source:
    """Photos, x [N, 128] or [N, 96, 96, 3] float32 in [0, 1]; `aux["site"]`.

    Splits are ours, see `sites.split_rows`, by canteen and class.

    Args:
        split: "train", "valid" or "test".
        root: the folder that holds `plate_folder/`.
        features: as of `plates.read`.

    Returns:
        The source; `aux["site"]` is the place of a photo's canteen among
        `names`.

    Raises:
        UsageError: naming the file or line, for a missing or damaged photo, a
            class that is not known, or a table without the columns.
    """
    checks.choice("split", split, plates.SPLITS)
    found = _found(root)
    strata = [f"{photo.canteen}/{photo.label}" for photo in found]
    rows = sites.split_rows(split, FOLDER, strata)
    known = names(root)
    image = _images([found[i].path for i in rows])
    x = plates.of_photos(image) if features else image.astype("f4") / 255
    label = [plates.CLASSES.index(found[i].label) for i in rows]
    source = make_source(
        x, np.array(label), classes=plates.CLASSES, name=FOLDER, split=split
    )
    site = np.array([known.index(found[i].canteen) for i in rows])
    return sites.tagged(source, site, known)


def names(root: Path) -> tuple[str, ...]:
    """The canteens of the folder, sorted.

    Raises:
        UsageError: as `read`.
    """
    return tuple(sorted({photo.canteen for photo in _found(root)}))


def _images(paths: list[Path]) -> np.ndarray:
    """The middle squares of photos, [N, 96, 96, 3] uint8."""

    def one(path: Path) -> np.ndarray:
        return plates.square(np.asarray(pictures.opened(path)))

    return pictures.every(paths, one)


def _found(root: Path) -> list[_Photo]:
    folder = Path(root) / FOLDER
    if not folder.is_dir():
        raise checks.UsageError(
            f"there is no {folder}; put photos there as CLASS/*.jpg, or with"
            f" {TABLE}."
        )
    table = folder / TABLE
    found = _of_table(table) if table.exists() else _of_folders(folder)
    if not found:
        raise checks.UsageError(
            f"{folder} holds no photo; put them there as CLASS/*.jpg, CLASS of"
            f" {', '.join(plates.CLASSES)}, or with {TABLE}."
        )
    return found


def _of_folders(folder: Path) -> list[_Photo]:
    found = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        if place.name not in plates.CLASSES:
            raise checks.unknown(
                f"folder of {folder}, a class of plates,",
                place.name,
                plates.CLASSES,
            )
        found += [_Photo(p, place.name, ONE) for p in pictures.listed(place)]
    return found


def _of_table(table: Path) -> list[_Photo]:
    found, seen = [], {}
    for line, row in _lines(table):
        where = f"{table}, line {line}"
        name, label = row["file"], row["class"]
        if label not in plates.CLASSES:
            raise checks.unknown(f"class in {where},", label, plates.CLASSES)
        path = (table.parent / name).resolve()
        if not path.is_relative_to(table.parent.resolve()):
            raise checks.UsageError(
                f"{where} names {name!r}, which is outside of its folder; put"
                " the photo below it."
            )
        if not path.is_file():
            raise checks.UsageError(
                f"{where} names {name!r}, but there is no such file; add the"
                " photo, or remove the line."
            )
        if path in seen:
            raise checks.UsageError(
                f"{where} names {name!r} as line {seen[path]} does; remove one."
            )
        seen[path] = line
        found.append(_Photo(path, label, row.get("canteen") or ONE))
    return found


def _lines(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of the table with their lines, without space around."""
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise checks.UsageError(
            f"{table} cannot be read ({error}); save it as UTF-8."
        ) from None
    reader = csv.DictReader(text.splitlines())
    columns = [str(name).strip() for name in reader.fieldnames or ()]
    missing = [name for name in ("file", "class") if name not in columns]
    if missing:
        raise checks.UsageError(
            f"{table} lacks the column {missing[0]!r}; its first line must"
            " name file, class and, if photos are of several, canteen."
        )
    rows = []
    for row in reader:
        values = [str(v or "").strip() for k, v in row.items() if k is not None]
        rows.append((reader.line_num, dict(zip(columns, values, strict=False))))
    return rows
