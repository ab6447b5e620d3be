"""Soft-tissue sarcoma of 36 patients in MR, CT and PET (Vallieres et al. 2015).

570 slices of 96 x 96 pixels, 0.977 mm each, resampled onto the MR grid, of
The Cancer Imaging Archive (CC BY 3.0). They are read from
`sts_trimodal/sts_trimodal_96.npz`: t1, uint16 (bias-corrected and normalised
by fat, without a unit); ct_hu, int16; pet_suv_x100, uint16; gtv, the tumour
packed by `numpy.packbits` along its last axis; patient, [N].

Letters: N slices, H height, W width.
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives, sites
from jaxedge.data.source import Source, make_source

CLASSES = ("background", "tumour")
SITES = ("t1", "ct", "pet")
# What becomes 0 and what 1, the same for every image; values beyond are set to
# the nearer end. Our choice: the 99.9th percentile of the MR images is 1182
# [normalised units]; 400 Hounsfield units around 40, where soft tissue is; a
# standardised uptake value of 10, below which are 98 % of the PET pixels.
WINDOWS = {"t1": (0, 1200), "ct": (-160, 240), "pet": (0, 10)}
SIDE = 96
_STORED = {"t1": ("t1", 1), "ct": ("ct_hu", 1), "pet": ("pet_suv_x100", 100)}


def read(split: str, root: Path, *, apart: bool = False) -> Source:
    """Slices and a label for every pixel, y [N, 96, 96].

    Values are scaled by `WINDOWS` to [0, 1]. PET is natively 3.9 to 5.5 mm, so
    it is smooth; pixels outside of a volume are 0 everywhere.

    Args:
        split: "train" (26 patients), "valid" (3) or "test" (7), see
            `sites.split_rows`: ours, by patient, and the same with `apart`.
        root: the folder that holds `sts_trimodal/`.
        apart: False has the three as channels, x [N, 96, 96, 3] float32. True
            has each as a site of its own with all slices, one after another:
            x [3 N, 96, 96, 1] and `aux["site"]`; patients are at all sites.

    Returns:
        The source, named "sarcoma", or "sarcoma_modalities" if apart.

    Raises:
        UsageError: for a missing or damaged archive.
    """
    path = root / "sts_trimodal" / "sts_trimodal_96.npz"
    stored, scales = zip(*(_STORED[name] for name in SITES), strict=True)
    *images, packed, patient = archives.read(
        path, [*stored, "gtv", "patient"], "sarcoma slices"
    )
    for name, image in zip(stored, images, strict=True):
        _check(path, name, image, (len(patient), SIDE, SIDE))
    _check(path, "gtv", packed, (len(patient), SIDE, -(-SIDE // 8)))
    rows = sites.split_rows(
        split, "sarcoma", ["all"] * len(patient), [int(p) for p in patient]
    )
    scaled = [
        _scaled(image[rows] / np.float32(scale), *WINDOWS[name])
        for name, image, scale in zip(SITES, images, scales, strict=True)
    ]
    y = np.unpackbits(packed[rows], axis=-1)[..., :SIDE]
    if not apart:
        return make_source(
            np.stack(scaled, -1),
            y,
            classes=CLASSES,
            name="sarcoma",
            split=split,
        )
    source = make_source(
        np.concatenate(scaled)[..., None],
        np.concatenate([y] * len(SITES)),
        classes=CLASSES,
        name="sarcoma_modalities",
        split=split,
    )
    return sites.tagged(source, np.repeat(range(len(SITES)), len(rows)), SITES)


def _check(
    path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]
) -> None:
    if array.shape != shape or array.dtype.kind not in "iu":
        raise checks.UsageError(
            f"{path} holds {name} of shape {array.shape}, {array.dtype}, but"
            f" must hold whole numbers of shape {shape}; fetch it again."
        )


def _scaled(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((x - low) / np.float32(high - low), 0, 1).astype(np.float32)
