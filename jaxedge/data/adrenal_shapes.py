"""AdrenalMNIST3D: 1,584 adrenal glands as clouds (MedMNIST, Yang et al. 2023).

Masks of 28 x 28 x 28 voxels, read from `adrenalmnist3d/adrenalmnist3d.npz` as
its owners ship it, with their split.
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives, clouds
from jaxedge.data.source import Source, make_source
from jaxedge.features import points

CLASSES = ("normal", "hyperplasia")
PARTS = {"train": "train", "valid": "val", "test": "test"}


def read(split: str, root: Path) -> Source:
    """Points of the glands' surfaces, x [N, 1024, 3] float32, radius at most 1.

    The surface is that of the voxels, faces between a voxel inside and one
    outside; points are uniform over it and always the same, centred on their
    mean and divided by their largest radius (deplm 2). The number of points is
    our choice: no paper runs this network on these shapes.

    Args:
        split: "train" (1,188 glands), "valid" (98) or "test" (298), as of the
            owners; no patient is in two of them. 78 % of "train" are normal.
        root: the folder that holds `adrenalmnist3d/`.

    Returns:
        The source.

    Raises:
        UsageError: for a missing or damaged archive, or an empty mask.
    """
    path = root / "adrenalmnist3d" / "adrenalmnist3d.npz"
    part = PARTS[split]
    masks, labels = archives.read(
        path, [f"{part}_images", f"{part}_labels"], "AdrenalMNIST3D"
    )
    if masks.ndim != 4 or labels.shape != (len(masks), 1):
        raise checks.UsageError(
            f"{path} holds masks of shape {masks.shape} and labels of shape"
            f" {labels.shape}, but must hold [N, D, H, W] and [N, 1]."
        )
    empty = np.flatnonzero(~masks.any((1, 2, 3)))
    if empty.size:
        raise checks.UsageError(
            f"mask {empty[0]} of {path} ({part}) is empty, so it has no"
            " surface; drop it."
        )
    surfaces = [voxel_surface(mask > 0) for mask in masks]
    drawn = clouds.draw_keys(f"adrenal_shapes/{part}", len(masks))
    return make_source(
        np.asarray(points.normalise(clouds.of_surfaces(drawn, surfaces))),
        labels[:, 0],
        classes=CLASSES,
        name="adrenal_shapes",
        split=split,
    )


def voxel_surface(mask: np.ndarray) -> np.ndarray:
    """The faces between voxels inside and outside of a mask, as triangles.

    Args:
        mask: [D, H, W] bool; outside of the array nothing is inside.

    Returns:
        [F, 3, 3] float32, two triangles a face; a voxel is one unit wide and
        voxel (0, 0, 0) lies between 0 and 1 on every axis.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    found = []
    for axis in range(3):
        # Index k is the face between the voxels k - 1 and k.
        at = np.argwhere(np.diff(padded, axis=axis)).astype(np.float32)
        at[:, [a for a in range(3) if a != axis]] -= 1
        u, v = np.eye(3, dtype=np.float32)[[(axis + 1) % 3, (axis + 2) % 3]]
        a, b, c, d = at, at + u, at + u + v, at + v
        found += [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    return np.concatenate(found)
