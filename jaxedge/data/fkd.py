"""A teacher's outputs in the files of FKD (Shen and Xing, arXiv:2112.01528).

One file an image, which `torch.save` wrote of three things: M boxes (top, left,
height, width) in shares of the image, [M, 4]; whether each crop is mirrored,
[M]; and what the teacher said of it, [M, 2, k]: the likeliest classes, stored
as numbers of the values' kind, and their probabilities. Files lie as the images
do: that of `train/CLASS/NAME.JPEG` is `train/CLASS/NAME.tar` (a torch file, in
spite of its name).

This is what the project's programs write and read (szq0214/FKD,
`generate_soft_label.py`, `utils_FKD.py`); their files of 500 crops that
arXiv:2307.00331 learns from were not at hand. Unknown of these: the teacher,
the side of the crops that it saw (the files do not tell it), whether tensors or
numpy arrays were saved (both are read), and whether they have PyTorch's form of
before 1.6 (which is not).

Letters: N images, M crops of each, k classes of each; B rows that are asked
for, U different ones.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import torch_files
from jaxedge.data.image_folders import ENDINGS, Images
from jaxedge.data.source import Source
from jaxedge.data.teacher import Rows, Teacher

ENDING = ".tar"
# What the classes that are not stored get: the rest, evenly ("marginal
# smoothing"), or nothing, where the stored ones are scaled to sum 1 ("marginal
# renorm").
RESTS = ("even", "none")
# Files, evenly over all, whose contents are looked at before training begins.
_LOOKED_AT = 8
_ABOVE = 2e-3  # By which float16 may take a sum above 1; our choice.
_OUTSIDE = 1e-5  # By which float32 may take a box's far side out.


def is_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has such files, by their names."""
    return _top(Path(folder).expanduser()) is not None


def open(
    folder: str | os.PathLike[str], source: Source, *, rest: str = "even"
) -> Teacher:
    """The outputs of a folder, once its files are those of the images.

    All names are compared, and the contents of some files checked; those of the
    others when they are read.

    Args:
        folder: that has `train/CLASS/NAME.tar`, or the like one folder further
            up or down.
        source: of images in folders, see `data.imagenet`.
        rest: of `RESTS`.

    Returns:
        The outputs, still on disk: arrays of `stored` are read by rows. Its
        size is that of the source's images, for that of the crops is unknown.

    Raises:
        UsageError: for a folder without such files; a source whose images are
            not in files; classes that have no folder, or folders no class;
            images without a file, or files without an image; and for a file
            that is damaged, or has another number of crops or classes, boxes
            out of the image, classes that do not exist or appear twice,
            probabilities outside [0, 1] or of a sum above 1.
    """
    checks.choice("rest", rest, RESTS)
    folder = Path(folder).expanduser()
    top = _top(folder)
    if top is None:
        raise checks.UsageError(
            f"{folder} holds no outputs of a teacher as files *{ENDING} in a"
            " folder a class; name their folder."
        )
    files = _files(top, source)
    count = len(source.classes)
    first = _read(files[0], count, rest)
    stored = _Stored(files, first, count, rest)
    few = np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files)))
    stored.rows(np.unique(few.astype(int)))
    columns: Any = (_Column(stored, name) for name in Rows._fields)
    size = (source.x.shape[1], source.x.shape[2])
    return Teacher(size, count, Rows(*columns))


class _Stored:
    """The files of all images; what was read last is kept."""

    def __init__(
        self, files: Sequence[str], first: Rows, classes: int, rest: str
    ) -> None:
        self.files, self.first = tuple(files), first
        self._classes, self._rest = classes, rest
        self._last: tuple[bytes, Rows] | None = None

    def rows(self, rows_U: np.ndarray) -> Rows:
        """[U, M, ...] each.

        Every array of a batch asks for the same rows, one after the other.
        """
        key, last = rows_U.tobytes(), self._last
        if last is not None and last[0] == key:
            return last[1]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            each = list(pool.map(self._one, [self.files[i] for i in rows_U]))
        found = Rows(*(np.stack(a) for a in zip(*each, strict=True)))
        self._last = (key, found)
        return found

    def _one(self, file: str) -> Rows:
        found = _read(file, self._classes, self._rest)
        if found.index.shape != self.first.index.shape:
            m, k = found.index.shape
            wanted = "{} crops of {} classes".format(*self.first.index.shape)
            raise checks.UsageError(
                f"{file} has {m} crops of {k} classes, but {self.files[0]} has"
                f" {wanted}; all files must be of one call."
            )
        return found


class _Column:
    """One array of all files, [N, M, ...], of which rows can be asked for."""

    def __init__(self, stored: _Stored, name: str) -> None:
        self._stored, self._name = stored, name
        one = getattr(stored.first, name)
        self.shape, self.dtype = (len(stored.files), *one.shape), one.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Rows, and of these what else of the key says."""
        rows, *rest = key if isinstance(key, tuple) else (key,)
        chosen = np.arange(len(self))[rows]
        unique_U, place = np.unique(chosen, return_inverse=True)
        if not unique_U.size:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        array = getattr(self._stored.rows(unique_U), self._name)
        return array[(place.reshape(chosen.shape), *rest)]


# Which files.


def _top(folder: Path) -> Path | None:
    """The folder with a folder a class, of which one has a file."""
    places = [folder / "train", folder]
    if folder.is_dir():
        below = sorted(p for p in folder.iterdir() if p.is_dir())
        places += [p for name in below for p in (name / "train", name)]
    found = [
        place
        for place in places
        if any(next(p.glob(f"*{ENDING}"), None) for p in _folders(place))
    ]
    if len(found) > 1 and found[0] not in places[:2]:
        raise checks.UsageError(
            f"{folder} holds outputs in {found[0].relative_to(folder)} and in"
            f" {found[1].relative_to(folder)}; name one of them."
        )
    return found[0] if found else None


def _folders(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (p for p in sorted(place.iterdir()) if p.is_dir())


def _files(top: Path, source: Source) -> list[str]:
    """The file of each image, in their order."""
    images: Any = source.x
    if not isinstance(images, Images):
        raise checks.UsageError(
            f"{top} has outputs by names of images, but the images of"
            f" {source.name} are in no folders of their own; write its outputs"
            " with `jaxedge teach`."
        )
    _compare_classes(top, source)
    known: dict[str, set[str]] = defaultdict(set)
    for name in source.classes:
        known[name] = _stems(top / name, (ENDING,))
    found, lost = [], []
    for file in images.files:
        place, _, name = file.rpartition(os.sep)
        label, stem = place.rpartition(os.sep)[2], name.split(".")[0]
        if stem not in known[label]:
            lost.append(file)
        found.append(str(top / label / f"{stem}{ENDING}"))
    if lost:
        raise checks.UsageError(
            f"{top} lacks the outputs of {len(lost)} of {len(found)} images,"
            f" such as {lost[0]}; fetch the missing files."
        )
    _compare_files(Path(images.files[0]).parents[1], top, known)
    return found


def _compare_classes(top: Path, source: Source) -> None:
    """Stored classes are numbers, by the order of all folders."""
    names = {p.name for p in _folders(top)}
    odd = sorted(names ^ {*source.classes})
    if odd:
        where, other = (top, source.name)
        if odd[0] in names:
            where, other = (source.name, top)
        raise checks.UsageError(
            f"{where} lacks the class {odd[0]!r} of {other}: {len(names)}"
            f" folders of outputs, {len(source.classes)} classes of"
            f" {source.name}; use the outputs of this data set."
        )


def _compare_files(images: Path, top: Path, known: dict[str, set[str]]) -> None:
    """Every file needs its image, which another split may have."""
    for name, stems in known.items():
        odd = sorted(stems - _stems(images / name, ENDINGS))
        if odd:
            raise checks.UsageError(
                f"{top / name / odd[0]}{ENDING} is of no image: {images / name}"
                f" has {len(stems) - len(odd)} of {len(stems)}; use the outputs"
                " of this data set, or put the images there."
            )


def _stems(folder: Path, endings: tuple[str, ...]) -> set[str]:
    """Names up to the first dot, as the files are named."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(endings)]
    return {name.split(".")[0] for name in names}


# What a file holds.


def _read(file: str, classes: int, rest: str) -> Rows:
    """The outputs of one image, [M, ...] each, checked."""
    content = torch_files.read(Path(file))
    if not isinstance(content, (list, tuple)) or len(content) != 3:
        raise _bad(file, "does not hold boxes, flips and labels")
    boxes, flips, labels = (
        _array(file, name, value)
        for name, value in zip(
            ("boxes", "flips", "labels"), content, strict=True
        )
    )
    count = len(flips) if flips.ndim == 1 else -1
    if boxes.shape != (count, 4) or not count:
        raise _bad(
            file,
            f"has boxes {boxes.shape} and flips {flips.shape}, but needs"
            " [M, 4] and [M]",
        )
    if labels.ndim != 3 or labels.shape[:2] != (count, 2):
        raise _bad(
            file,
            f"has labels {labels.shape}, but needs [{count}, 2, k]: classes and"
            " probabilities (marginal smoothing)",
        )
    if not np.isin(flips, (0, 1)).all():
        raise _bad(file, "has flips that are neither true nor false")
    index, value = labels[:, 0].astype(np.float64), labels[:, 1]
    _check_boxes(file, boxes)
    _check_labels(file, index, value, classes)
    value = value.astype(np.float32)
    if rest == "none":
        value = value / value.sum(1, keepdims=True)
    return Rows(
        boxes.astype(np.float32),
        flips.astype(bool),
        index.astype(np.uint16 if classes <= 2**16 else np.uint32),
        value.astype(np.float16),
    )


def _array(file: str, name: str, value: Any) -> np.ndarray:
    """An array, or a list of them, as one of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.zeros(0, object)
    if array.dtype.kind not in "biuf":
        raise _bad(file, f"has {name} that are no array of numbers")
    return array


def _check_boxes(file: str, boxes_Mx4: np.ndarray) -> None:
    start, side = boxes_Mx4[:, :2], boxes_Mx4[:, 2:]
    fits = (start >= 0) & (side > 0) & (start + side <= 1 + _OUTSIDE)
    crop = _first(~fits.all(1))  # NaN does not fit.
    if crop is not None:
        raise _bad(
            file,
            f"has the box {boxes_Mx4[crop].tolist()} of crop {crop}, which is"
            " not inside [0, 1]",
        )


def _check_labels(
    file: str, index_Mxk: np.ndarray, value_Mxk: np.ndarray, classes: int
) -> None:
    whole = (index_Mxk >= 0) & (index_Mxk < classes) & (index_Mxk % 1 == 0)
    crop = _first(~whole.all(1))
    if crop is not None:
        raise _bad(
            file,
            f"has the classes {index_Mxk[crop].tolist()} of crop {crop}, of"
            f" {classes} from 0",
        )
    order = np.sort(index_Mxk, 1)
    crop = _first((order[:, 1:] == order[:, :-1]).any(1))
    if crop is not None:
        raise _bad(file, f"has a class twice in crop {crop}")
    inside = (value_Mxk >= 0) & (value_Mxk <= 1)
    crop = _first(~inside.all(1))
    if crop is not None:
        raise _bad(
            file,
            f"has the probabilities {value_Mxk[crop].tolist()} of crop {crop},"
            " which are not in [0, 1]",
        )
    total = value_Mxk.sum(1, dtype=np.float64)
    crop = _first((total > 1 + _ABOVE) | (total == 0))
    if crop is not None:
        raise _bad(
            file,
            f"has probabilities of sum {total[crop]:.4g} in crop {crop}, which"
            " is not in (0, 1]",
        )


def _first(wrong: Any) -> int | None:
    """Where the first true entry is."""
    found = np.flatnonzero(wrong)
    return int(found[0]) if found.size else None


def _bad(file: str, fault: str) -> checks.UsageError:
    return checks.UsageError(
        f"{file} {fault}; fetch it again, or write it anew."
    )
