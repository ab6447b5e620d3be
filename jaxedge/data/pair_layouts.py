"""Where the owners of two-modality data put their files, and their labels.

Known of each layout, from public code that reads it, and unknown:

- "folders", ours: `pair_folder/NAME/`, a folder a modality with equally named
  files, and `labels.csv` with the columns id and label where there are labels.
- "brats", BraTS 2020 and 2021: anywhere below `brats/`, ID_t1.nii.gz,
  ID_t1ce.nii.gz, ID_t2.nii.gz, ID_flair.nii.gz and, of training cases,
  ID_seg.nii.gz, in a folder ID each, where ID is BraTS20_Training_001 or
  BraTS2021_00000; copies of 2020 have .nii. One of them ships the mask of
  BraTS20_Training_355 under another name, W39_1998.09.19_Segm.nii, which has to
  be renamed. name_mapping.csv of 2020 has BraTS_2020_subject_ID and Grade (HGG,
  LGG). The volumes of a case share a grid. Later years are named otherwise.
- "ixi": anywhere below `ixi/`, IXI012-HH-1211-T1.nii.gz, and so T2 and PD:
  subject, hospital (Guys, HH, IOP), a number. Not every subject has each. T1 is
  sagittal and T2 axial, so they do not share a grid until somebody registers
  them. Whether PD and T2 do is assumed, and checked.
- "prostatex": the owners ship DICOM, in which T2 and ADC have different grids;
  there is no layout of pairs. Read is an export as of "folders" below
  `prostatex/`, such as adc/ and t2/, whose names are assumed to begin with the
  patient, ProstateX-0000, which is checked. ProstateX-Findings-Train.csv of the
  owners has ProxID and ClinSig, a row a finding; TRUE and FALSE are assumed,
  so that the last one in order of letters is what a patient has.
"""

from collections.abc import Sequence
import csv
from pathlib import Path
import re
from typing import NamedTuple

from jaxedge.core import checks
from jaxedge.data import paired, tables

ENDINGS = (".nii.gz", ".nii", ".npy", ".png", ".mha", ".nrrd")
HOSPITALS = ("Guys", "HH", "IOP")
UNLABELLED = ("unlabelled",)
_VOLUMES = (".nii.gz", ".nii")


class Layout(NamedTuple):
    """How a layout is read where nothing else is asked for.

    Attributes:
        folder: of the data root.
        modalities: names, as its files have them in small letters.
        known: names that there are; None for any.
        windows: of `pair_folder.read`.
        table: file, column of ids and column of labels.
        patient: what of an id is the patient; its group 0.
    """

    folder: str
    modalities: tuple[str, str]
    known: tuple[str, ...] | None
    windows: tuple[str | None, str | None]
    table: tuple[str, str, str] | None = None
    patient: str = ".+"


LAYOUTS = {
    "folders": Layout(
        "pair_folder",
        ("first", "second"),
        None,
        (None, None),
        ("labels.csv", "id", "label"),
    ),
    "brats": Layout(
        "brats", ("t1", "t2"), ("t1", "t1ce", "t2", "flair"), ("own", "own")
    ),
    "ixi": Layout(
        "ixi",
        ("pd", "t2"),
        ("t1", "t2", "pd"),
        ("own", "own"),
        patient=r"IXI\d+",
    ),
    "prostatex": Layout(
        "prostatex",
        ("adc", "t2"),
        None,
        (None, None),
        ("ProstateX-Findings-Train.csv", "ProxID", "ClinSig"),
        r"ProstateX-\d{4}",
    ),
}


class Case(NamedTuple):
    """A file of each modality.

    Attributes:
        id: unlike all others.
        patient: whose it is.
        first: of the first modality, None where it is not given.
        second: of the second one, likewise.
        region: mask of the tumour, None where there is none.
    """

    id: str
    patient: str
    first: Path | None
    second: Path | None
    region: Path | None

    @property
    def whole(self) -> bool:
        """Whether both modalities are given."""
        return self.first is not None and self.second is not None


def cases(
    layout: str, root: Path, modalities: Sequence[str], *, unpaired: bool
) -> list[Case]:
    """The cases of a folder, by id.

    Args:
        layout: of `LAYOUTS`.
        root: the folder that holds that of the layout.
        modalities: two of them.
        unpaired: whether a case may lack one of them.

    Raises:
        UsageError: for a modality without files, an id that is there twice or
            does not name its patient, or one that lacks a modality.
    """
    kind = LAYOUTS[layout]
    folder = root / kind.folder
    first, second = (_files(layout, folder, name) for name in modalities)
    if not unpaired:
        paired.check_pairs(sorted(first), sorted(second))
    masks = _masks(folder, {*first, *second}) if layout == "brats" else {}
    return [
        Case(
            name,
            _patient(kind, name),
            first.get(name),
            second.get(name),
            masks.get(name),
        )
        for name in sorted({*first, *second})
    ]


def _patient(kind: Layout, name: str) -> str:
    found = re.match(kind.patient, name)
    if not found:
        raise checks.UsageError(
            f"{name!r} of {kind.folder}/ does not begin with its patient"
            f" ({kind.patient}); name the files by their owners' ids."
        )
    return found[0]


def _files(layout: str, folder: Path, modality: str) -> dict[str, Path]:
    """The file of every id."""
    if layout == "brats":
        return _below(folder, f"_{modality}")
    if layout == "ixi":
        return _below(folder, f"-{modality.upper()}")
    place = folder / modality
    found = [
        (path.name[: -len(ending)], path)
        for ending in ENDINGS
        for path in (place.iterdir() if place.is_dir() else ())
        if path.name.endswith(ending) and path.is_file()
    ]
    return _alone(found, place, "the images of this modality")


def _below(folder: Path, suffix: str) -> dict[str, Path]:
    """Volumes below a folder whose names end so, by what is before."""
    found = [
        (path.name[: -len(suffix + ending)], path)
        for ending in _VOLUMES
        for path in folder.rglob(f"*{suffix}{ending}")
        if path.is_file()
    ]
    return _alone(found, folder, f"files named ID{suffix}.nii.gz")


def _alone(
    found: Sequence[tuple[str, Path]], folder: Path, what: str
) -> dict[str, Path]:
    if not found:
        raise checks.UsageError(f"{folder} holds no image; put {what} there.")
    files: dict[str, Path] = {}
    for name, path in found:
        if name in files:
            raise checks.UsageError(
                f"{files[name]} and {path} have the same id {name!r}; keep one."
            )
        files[name] = path
    return files


def _masks(folder: Path, names: set[str]) -> dict[str, Path]:
    """The tumour of every id, or of none where there are no masks."""
    paths = [p for e in _VOLUMES for p in folder.rglob(f"*_seg{e}")]
    if not paths:
        return {}
    masks = _below(folder, "_seg")
    missing = sorted(names - {*masks})
    if missing:
        raise checks.UsageError(
            f"{folder} has no {missing[0]}_seg.nii.gz, but other cases have"
            " their mask; add or rename it (a copy of BraTS 2020 calls that of"
            " case 355 W39_1998.09.19_Segm.nii), or leave out the case."
        )
    return masks


def labels(
    layout: str,
    root: Path,
    found: Sequence[Case],
    table: tuple[str, str, str] | None = None,
) -> tuple[list[int], tuple[str, ...]] | None:
    """A label of every case, and the classes; None where a mask tells it.

    Args:
        layout: of `LAYOUTS`.
        root: the folder that holds that of the layout.
        found: its cases.
        table: file below the folder of the layout, column of ids, which are
            those of cases or of patients, and column of labels. None takes that
            of the layout, if it is there.

    Returns:
        Labels in the order of the sorted classes, see the module's text; those
        of "ixi" are the hospitals. All 0, of one class, where nothing is known.

    Raises:
        UsageError: for a table that is missing or lacks a column or a case, two
            labels of one id, or an unknown hospital.
    """
    kind = LAYOUTS[layout]
    given = table or kind.table
    if given and (table or (root / kind.folder / given[0]).is_file()):
        rows = _table(root / kind.folder, given, several=layout == "prostatex")
        classes = tuple(sorted({*rows.values()}))
        return [classes.index(_of(rows, c, given)) for c in found], classes
    if layout == "ixi":
        return [_hospital(case.id) for case in found], HOSPITALS
    if any(case.region for case in found):
        return None
    return [0] * len(found), UNLABELLED


def _hospital(name: str) -> int:
    parts = name.split("-")
    if len(parts) != 3 or parts[1] not in HOSPITALS:
        raise checks.UsageError(
            f"{name!r} of ixi/ does not name its hospital, as IXI012-HH-1211"
            f" does; known are {', '.join(HOSPITALS)}."
        )
    return HOSPITALS.index(parts[1])


def _of(rows: dict[str, str], case: Case, table: tuple[str, str, str]) -> str:
    for name in (case.id, case.patient):
        if name in rows:
            return rows[name]
    raise checks.UsageError(
        f"{table[0]} has no {table[1]} {case.id!r}; add its row, or leave its"
        " images out."
    )


def _table(
    folder: Path, table: tuple[str, str, str], *, several: bool
) -> dict[str, str]:
    """The label of each id, of several the last one in order of letters."""
    if isinstance(table, str) or len(table) != 3:
        raise checks.UsageError(
            f"table is {table!r}, but must be three names: of a file, of its"
            " column of ids and of its column of labels."
        )
    file, name, label = table
    path = folder / file
    reader = csv.DictReader(tables.lines(path))
    for column in (name, label):
        if column not in (reader.fieldnames or ()):
            raise checks.UsageError(
                f"{path} has no column {column!r}, but"
                f" {', '.join(reader.fieldnames or ())}; name it in table."
            )
    rows: dict[str, str] = {}
    for row in reader:
        one, value = ((row[c] or "").strip() for c in (name, label))
        if not one or not value:
            raise checks.UsageError(
                f"line {reader.line_num} of {path} has no {name} or no"
                f" {label}; fill it in, or delete the row."
            )
        if rows.get(one, value) != value and not several:
            raise checks.UsageError(
                f"{path} has the labels {rows[one]!r} and {value!r} of"
                f" {one!r}; give it one."
            )
        rows[one] = max(value, rows.get(one, value))
    return rows
