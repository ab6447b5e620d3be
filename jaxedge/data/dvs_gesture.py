"""DVS128 Gesture: ten gestures seen by an event camera (Amir et al. 2017).

It is read from the folder that its owners ship, `DvsGesture/`:
`trials_to_train.txt` and `trials_to_test.txt` with names of trials such as
user01_lab.aedat, each an AEDAT 3.1 file beside user01_lab_labels.csv with a
header and a line "class,startTime_usec,endTime_usec" a gesture.

Letters: N windows, P points, E events.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import aedat, clouds, tables
from jaxedge.data.source import Source, make_source
from jaxedge.features.events import Events

CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
)
OTHER = 11  # "other gestures", which the paper drops
SIZE = (128, 128)
WINDOW, STEP = 500_000, 250_000  # microseconds
VALID = 0.1


def read(split: str, root: Path) -> Source:
    """Windows of the gestures as points (t, x, y), x [N, 1024, 3] in [0, 1].

    As arXiv:2312.09262 (deplm 2): gestures 1 to 10, windows of 0.5 s every
    0.25 s within a gesture, 1,024 events of each at random, time over the
    window and pixels over 127, no polarity. Here a window's drawn events are
    always the same. The paper removes noise by a filter that is unknown: here
    is none. What it does with windows of fewer events is unknown: here the
    drawn ones are taken again.

    Args:
        split: "test" (the trials of `trials_to_test.txt`), "valid" (those
            training trials of the last tenth of the subjects, at least one) or
            "train" (the others). Classes take turns.
        root: the folder that holds `DvsGesture/`, or `dvs_gesture/` with it or
            its content.

    Returns:
        The source.

    Raises:
        UsageError: for missing or damaged files, or a gesture that is shorter
            than a window.
    """
    folder = _folder(root)
    drawn, y = [], []
    for name in _trials(folder, split):
        rows, labels = _windows(folder / name)
        seeds = clouds.draw_keys(f"dvs_gesture/{Path(name).stem}", len(rows))
        drawn.append(clouds.of_events(seeds, rows, size=SIZE))
        y += labels
    order = clouds.in_turn(np.array(y))
    return make_source(
        np.concatenate(drawn)[order],
        np.array(y)[order],
        classes=CLASSES,
        name="dvs_gesture",
        split=split,
    )


def _folder(root: Path) -> Path:
    mine = root / "dvs_gesture"
    for folder in (mine / "DvsGesture", mine, root / "DvsGesture"):
        if (folder / "trials_to_train.txt").is_file():
            return folder
    raise checks.UsageError(
        f"{mine} holds no DVS128 Gesture; put the owners' folder DvsGesture/"
        " there, with trials_to_train.txt in it."
    )


def _trials(folder: Path, split: str) -> list[str]:
    """The names of a split's trials."""
    if split == "test":
        return tables.lines(folder / "trials_to_test.txt")
    path = folder / "trials_to_train.txt"
    trials = tables.lines(path)
    subjects = sorted({name.partition("_")[0] for name in trials})
    if len(subjects) < 2:
        raise checks.UsageError(
            f"{path} names trials of one subject, {subjects[0]}; 'valid' needs"
            " another than 'train'."
        )
    kept_out = {*subjects[-max(1, round(VALID * len(subjects))) :]}
    return [
        name
        for name in trials
        if (name.partition("_")[0] in kept_out) == (split == "valid")
    ]


def _windows(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Events [E, 3] of every window of a trial, from its start, and labels."""
    events = aedat.read(path)
    rows, labels = [], []
    for gesture, start, stop in _gestures(path):
        for begin in range(start, stop - WINDOW + 1, STEP):
            rows.append(_between(path, events, begin))
            labels.append(gesture - 1)
    if not rows:
        raise checks.UsageError(
            f"{path} has no gesture of classes 1 to {len(CLASSES)}; leave it"
            " out of the list of trials."
        )
    return rows, labels


def _gestures(path: Path) -> Iterator[tuple[int, int, int]]:
    """Class, start and stop (microseconds) of a trial's gestures."""
    labels = path.with_name(f"{path.stem}_labels.csv")
    lines = tables.lines(labels)[1:]
    table = tables.read(
        lines, str(labels), columns=3, delimiter=",", dtype=np.int64
    )
    for row, (gesture, start, stop) in enumerate(table.tolist(), 2):
        if not 1 <= gesture <= OTHER or start < 0:
            raise checks.UsageError(
                f"line {row} of {labels} has class {gesture} from {start} us;"
                f" classes are 1 to {OTHER} and times from 0."
            )
        if gesture == OTHER:
            continue
        if stop - start < WINDOW:
            raise checks.UsageError(
                f"line {row} of {labels} is a gesture of {stop - start} us,"
                f" shorter than a window of {WINDOW} us; remove the line."
            )
        yield gesture, start, stop


def _between(path: Path, events: Events, start: int) -> np.ndarray:
    """The events of a window, [E, 3] int32, times from its start."""
    t = np.asarray(events.t)
    first, last = np.searchsorted(t, [start, start + WINDOW])
    if first == last:
        raise checks.UsageError(
            f"{path} has no event from {start} to {start + WINDOW} us, within a"
            " gesture; fetch it again."
        )
    part = slice(first, last)
    x, y = np.asarray(events.x), np.asarray(events.y)
    return np.stack([t[part] - start, x[part], y[part]], -1, dtype=np.int32)
