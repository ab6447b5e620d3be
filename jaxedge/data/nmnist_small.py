"""N-MNIST small: digits seen by an event camera (Orchard et al. 2015).

1,100 recordings of a moving DVS before MNIST digits, 34 x 34 pixels, about
0.31 s with three turns each. It is read from `nmnist_small/nmnist_small.npz`:
for "train" and "test" the arrays x, y, p, dt_us (microseconds since the event
before), offsets of recordings, labels and ids.
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives, clouds
from jaxedge.data.source import Source, make_source

CLASSES = tuple("0123456789")
SIZE = (34, 34)
VALID = 0.1
COLUMNS = ("x", "y", "dt_us", "offsets", "labels", "ids")


def read(split: str, root: Path) -> Source:
    """Recordings as points (t, x, y), x [N, 1024, 3] float32 in [0, 1].

    The rule of arXiv:2312.09262 for DVS128 Gesture (deplm 2): 1,024 events of
    a window drawn at random, time over the window and pixels over the largest,
    no polarity. A recording is shorter than that window of 0.5 s, so it is
    taken whole. What is drawn is a function of a recording's id, so always the
    same. How the paper chooses and filters events beyond this is unknown.

    Args:
        split: "train" (900 of the 1,000 training recordings), "valid" (the
            last 100 of them) or "test" (100).
        root: the folder that holds `nmnist_small/`.

    Returns:
        The source.

    Raises:
        UsageError: for a missing or damaged archive, or a recording of fewer
            than 1,024 events.
    """
    part = "test" if split == "test" else "train"
    path = root / "nmnist_small" / "nmnist_small.npz"
    names = [f"{part}_{name}" for name in COLUMNS]
    x, y, dt, offsets, labels, ids = archives.read(
        path, names, "recordings of N-MNIST"
    )
    if not len(x) == len(y) == len(dt) or len(labels) != len(ids):
        raise checks.UsageError(
            f"{path} is damaged: its columns differ in length."
        )
    pieces = archives.cut(path, offsets, len(x), len(labels), "events")
    start = len(labels) - round(VALID * len(labels))
    rows = {
        "train": slice(start), "valid": slice(start, None), "test": slice(None)
    }[split]  # fmt: skip
    recordings = []
    for name, piece in zip(ids[rows], pieces[rows], strict=True):
        if piece.stop - piece.start < clouds.POINTS:
            raise checks.UsageError(
                f"recording {name} of {path} has {piece.stop - piece.start}"
                f" events, but {clouds.POINTS} are drawn; drop it."
            )
        t = np.cumsum(dt[piece], dtype=np.int32)
        recordings.append(np.stack([t, x[piece], y[piece]], -1, dtype=np.int32))
    drawn = clouds.draw_keys("nmnist_small", int(ids.max()) + 1)[ids[rows]]
    return make_source(
        clouds.of_events(drawn, recordings, size=SIZE),
        labels[rows],
        classes=CLASSES,
        name="nmnist_small",
        split=split,
    )
