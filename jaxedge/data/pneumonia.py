"""PneumoniaMNIST: 5,856 chest X-rays of children, 28 x 28 (MedMNIST v2).

Read from `pneumoniamnist/pneumoniamnist_28.npz`, or `pneumoniamnist.npz` as
its owners ship it: {train,val,test}_images, [N, 28, 28] uint8, and _labels,
[N, 1].
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives
from jaxedge.data.source import Source, make_source

CLASSES = ("normal", "pneumonia")
PARTS = {"train": "train", "valid": "val", "test": "test"}
FILES = ("pneumoniamnist_28.npz", "pneumoniamnist.npz")
SIDE = 28


def read(split: str, root: Path) -> Source:
    """X-rays, x [N, 28, 28, 1] float32, pixel / 255 in [0, 1].

    Args:
        split: "train" (4,708 images), "valid" (524) or "test" (624), as of the
            owners; 74, 74 and 62 % show pneumonia.
        root: the folder that holds `pneumoniamnist/`.

    Returns:
        The source; there is one site.

    Raises:
        UsageError: for a missing or damaged archive.
    """
    paths = [root / "pneumoniamnist" / name for name in FILES]
    path = next((p for p in paths if p.is_file()), paths[0])
    part = PARTS[split]
    images, labels = archives.read(
        path, [f"{part}_images", f"{part}_labels"], "PneumoniaMNIST"
    )
    shape = (len(labels), SIDE, SIDE)
    whole = images.shape == shape and labels.shape == (len(labels), 1)
    if not whole or images.dtype != np.uint8:
        raise checks.UsageError(
            f"{path} holds images of shape {images.shape}, {images.dtype}, and"
            f" labels of shape {labels.shape}, but must hold"
            f" [N, {SIDE}, {SIDE}] uint8 and [N, 1]; fetch it again."
        )
    return make_source(
        images[..., None].astype(np.float32) / 255,
        labels[:, 0],
        classes=CLASSES,
        name="pneumonia",
        split=split,
    )
