"""Pairs from files as their owners ship them, or from two folders of one's own.

The layouts and what is known of them are in `pair_layouts`: "folders" (data set
pair_folder), "brats", "ixi" and "prostatex". Read are pictures (.png, .npy) and
volumes (.nii, .nii.gz, .mha, .nrrd, .npy of three axes), the latter slice by
slice along their first axis, which of a NIfTI file is the third one. SimpleITK
reads all but .npy; a pixel has one number.

Letters: N rows, S side, Z slices, H height, W width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import pair_layouts, paired, sites, volumes
from jaxedge.data.pair_layouts import LAYOUTS, Case
from jaxedge.data.paired import LOW
from jaxedge.data.source import Source
from jaxedge.data.volume_files import read as read_file

SPLITS = ("train", "valid", "test")
OWN = "own"
# Of the voxels above the smallest one, a share that is within an own window.
BRIGHT = 0.99
REGIONS = ("no tumour", "tumour")  # Of a slice, by its mask.


class _Plan(NamedTuple):
    """What is made of every case.

    Attributes:
        names: of the two modalities.
        windows: of each, see `read`.
        slices: how many.
        side: S.
    """

    names: Sequence[str]
    windows: dict[str, Any]
    slices: int
    side: int


def read(
    split: str,
    root: Path,
    *,
    layout: str = "folders",
    modalities: Sequence[str] | None = None,
    side: int = 64,
    windows: Sequence[Any] | None = None,
    slices: int = 1,
    table: tuple[str, str, str] | None = None,
    unpaired: bool = False,
    pairs: float = 1.0,
    seed: int = 0,
) -> Source:
    """Pairs of slices, x [N, S, S, 2] float32 in [-1, 1].

    Slices are padded to squares with what is -1, evenly, and a pixel is the
    mean of the area that it covers. The class is that of a table, else of
    "brats" whether the slice shows tumour and of "ixi" the hospital.

    Args:
        split: "train", "valid" or "test": ours, by patients that have pairs,
            see `sites.split_rows`.
        root: the folder that holds that of the layout.
        layout: of `pair_layouts.LAYOUTS`.
        modalities: two, the first one in channel 0; None takes the layout's.
        side: S, at most that of the images.
        windows: of each modality, what becomes -1 and what 1, and values beyond
            go to the nearer end; or "own", from the smallest value of a file to
            the 99th percentile of the greater ones; or None for pictures of
            8 bits, all of whose range is taken, and values in [-1, 1]. None
            takes the layout's: "own" of "brats" and "ixi", whose units are
            arbitrary.
        slices: how many of a volume: the middles of so many equal parts of the
            middle half of its slices.
        table: as of `pair_layouts.labels`.
        unpaired: whether files without a partner are rows of training, which
            then have one modality; else they are an error.
        pairs: share of the training patients whose pairs are kept, in (0, 1],
            see `paired.drawn`; other splits keep all.
        seed: of that choice, in [0, 2^32).

    Returns:
        The source; its `aux` has, beside those of `paired`, [N] int32 each,
        "id" and "patient", places among the sorted ones, and "slice".

    Raises:
        UsageError: naming the file or option, for a missing or damaged file,
            ids that do not match, unequal sizes or grids of a pair, values out
            of range, or a table that `pair_layouts.labels` refuses.
    """
    checks.choice("split", split, SPLITS)
    checks.choice("layout", layout, LAYOUTS)
    kind = LAYOUTS[layout]
    names = kind.modalities if modalities is None else modalities
    paired.check_modalities(names, kind.known)
    checks.whole("side", side, 1)
    checks.whole("slices", slices, 1)
    paired.check_draw(pairs, seed)
    shown = _windows(names, kind.windows if windows is None else windows)
    found = pair_layouts.cases(layout, root, names, unpaired=unpaired)
    told = pair_layouts.labels(layout, root, found, table)
    labels, classes = told or (None, REGIONS)
    rows = _rows(split, kind.folder, found)
    plan = _Plan(names, shown, slices, side)
    parts = [_named(found[i], plan) for i in rows]
    row_N = np.repeat(rows, [len(part[0]) for part in parts])
    first, second, place, tumour = map(np.concatenate, zip(*parts, strict=True))
    y = tumour if labels is None else np.asarray(labels)[row_N]
    patients = np.unique([c.patient for c in found], return_inverse=True)[1]
    return paired.make(
        first,
        second,
        y,
        _pairing(split, [found[i] for i in row_N], pairs, seed),
        aux={
            "id": row_N.astype(np.int32),
            "patient": patients[row_N].astype(np.int32),
            "slice": place.astype(np.int32),
        },
        classes=classes,
        name=f"{kind.folder}_{names[0]}_{names[1]}",
        split=split,
    )


def _windows(names: Sequence[str], windows: Sequence[Any]) -> dict[str, Any]:
    """The window of each modality."""
    if isinstance(windows, str) or len(windows) != 2:
        raise checks.UsageError(
            f"windows is {windows!r}, but must be two, of the modalities"
            f" {' and '.join(map(str, names))}."
        )
    for name, window in zip(names, windows, strict=False):
        if isinstance(window, str):
            checks.choice(f"window of {name},", window, (OWN,))
        elif window is not None:
            paired.check_window(name, window)
    return dict(zip(names, windows, strict=False))


def _rows(split: str, name: str, found: Sequence[Case]) -> np.ndarray:
    """The cases of a split; what lacks a modality is for training alone."""
    whole = np.flatnonzero([case.whole for case in found])
    if not whole.size:
        raise checks.UsageError(
            f"{name}/ has no case with both modalities; give some pairs."
        )
    patients = [case.patient for case in found if case.whole]
    strata = ["all"] * len(whole)
    rows = whole[sites.split_rows(split, name, strata, patients)]
    if split != "train":
        return rows
    ours = {found[i].patient for i in rows}
    others = {*patients} - ours
    alone = [
        i
        for i, case in enumerate(found)
        if not case.whole and case.patient not in others
    ]
    return np.concatenate([rows, np.array(alone, int)])


def _pairing(
    split: str, rows: Sequence[Case], share: float, seed: int
) -> paired.Pairing:
    """Of all slices; those of whole cases are in front."""
    whole = [case for case in rows if case.whole]
    if split == "train":
        known = paired.drawn([case.patient for case in whole], share, seed)
    else:
        known = paired.complete(len(whole))
    alone = [case.first is not None for case in rows if not case.whole]
    return known.then(paired.lone(alone))


def _named(case: Case, plan: _Plan) -> tuple[np.ndarray, ...]:
    """As `_case`, whose errors name the case."""
    try:
        return _case(case, plan)
    except checks.UsageError as error:
        raise checks.UsageError(f"case {case.id!r}: {error}") from None


def _case(case: Case, plan: _Plan) -> tuple[np.ndarray, ...]:
    """The slices of a case.

    Returns:
        First and second, [n, S, S], -1 where not given; places of the slices
        and whether they show tumour, [n] each.
    """
    given = {
        name: _volume(path)
        for name, path in zip(
            plan.names, (case.first, case.second), strict=True
        )
        if path is not None
    }
    name, one = next(iter(given.items()))
    masks = {"mask": _volume(case.region)} if case.region else {}
    for other, volume in {**given, **masks}.items():
        _check_grids(name, one, other, volume)
    place = chosen(len(one.array_ZxYxX), plan.slices)
    images = [
        _slices(name, given[name].array_ZxYxX, place, plan)
        if name in given
        else np.full((len(place), plan.side, plan.side), LOW, np.float32)
        for name in plan.names
    ]
    tumour = np.zeros(len(place), np.int32)
    if masks:
        tumour |= (masks["mask"].array_ZxYxX[place] > 0).any((1, 2))
    return *images, place, tumour


def _slices(
    name: str, array_ZxYxX: np.ndarray, place: np.ndarray, plan: _Plan
) -> np.ndarray:
    """[n, S, S] in [-1, 1]."""
    window = plan.windows[name]
    x = windowed(f"modality {name}", array_ZxYxX, window, place)
    return paired.area_averaged(_squared(x), plan.side)


def _volume(path: Path) -> volumes.Volume:
    """A file of any ending, a picture with Z = 1."""
    if path.suffix != ".npy":
        return read_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} is no readable array ({npz.reason(error)}); store it"
            " again."
        ) from None
    if not isinstance(array, np.ndarray):
        raise checks.UsageError(
            f"{path} is an archive of arrays; store a single one."
        )
    if array.dtype.kind not in "biuf":
        raise checks.UsageError(
            f"{path} holds {array.dtype}, but must hold real numbers."
        )
    return volumes.make(array)


def _check_grids(
    name: str, one: volumes.Volume, other_name: str, other: volumes.Volume
) -> None:
    shapes = one.array_ZxYxX.shape, other.array_ZxYxX.shape
    paired.check_sizes(name, shapes[0], other_name, shapes[1])
    apart = volumes.differences(one, other, 1e-3)
    if one.dimensions == other.dimensions == 3 and apart:
        raise checks.UsageError(
            f"{name} and {other_name} do not lie on one grid"
            f" ({'; '.join(apart)}); register and resample one onto the other."
        )


def chosen(depth: int, count: int) -> np.ndarray:
    """The slices that are taken of a volume, [count] int.

    Args:
        depth: Z.
        count: at most half of them; a picture has one.

    Raises:
        UsageError: if there are fewer.
    """
    middle = (np.arange(count) + 0.5) / count / 2 + 0.25
    place = np.floor(middle * depth).astype(int)
    if len(np.unique(place)) < count:
        raise checks.UsageError(
            f"slices is {count}, but the middle half of {depth} slices has"
            " fewer; take fewer."
        )
    return place


def windowed(
    what: str, array_ZxYxX: np.ndarray, window: Any, place: np.ndarray
) -> np.ndarray:
    """Some slices of a volume in [-1, 1], [n, Y, X] float32.

    Args:
        what: for messages.
        array_ZxYxX: the volume.
        window: one of `read`.
        place: of the slices, [n].

    Raises:
        UsageError: for NaN, values out of range, or a volume of one value whose
            own window is asked for.
    """
    x = array_ZxYxX[place]
    if window is None and array_ZxYxX.dtype == np.uint8:
        window = (0, 255)
    if isinstance(window, str):
        checks.finite(what, array_ZxYxX)
        low = array_ZxYxX.min()
        above = array_ZxYxX[array_ZxYxX > low]
        if not above.size:
            raise checks.UsageError(
                f"{what} is {low} everywhere; leave the case out."
            )
        window = (float(low), float(np.quantile(above, BRIGHT)))
    return paired.scaled(what, x, window)


def _squared(x: np.ndarray) -> np.ndarray:
    """Padded to [n, S, S], the odd pixel below or on the right."""
    height, width = x.shape[1:]
    most = max(height, width)
    pads = [((most - n) // 2, (most - n + 1) // 2) for n in (height, width)]
    return np.pad(x, [(0, 0), *pads], constant_values=LOW)
