"""Pairs of two modalities of the soft-tissue sarcoma slices, see `sarcoma`.

The label tells whether the tumour is longer than 5 cm in the slice, from one
end of its outline to the other. That length of the whole tumour parts T1 from
T2 in the staging of the AJCC (7th edition; in the 8th, T1 from T2 to T4), every
modality shows it, and it needs no statistic of the training set. It is not the
stage: this is one slice of a tumour. What is beyond a slice, 94 mm wide, is not
counted; the 13 % of the outlines that reach its edge are longer than 5 cm all
the same.

Letters: N slices, S side.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives, paired, sarcoma, sites
from jaxedge.data.source import Source

CLASSES = ("tumour up to 5 cm", "tumour longer than 5 cm")
MODALITIES = sarcoma.SITES
SIDES = (32, 48, 64, 96)
PIXEL = 0.976562  # mm, of the 96 x 96 slices.
LONG = 50.0  # mm


def read(
    split: str,
    root: Path,
    *,
    modalities: Sequence[str] = ("t1", "pet"),
    side: int = 64,
    pairs: float = 1.0,
    seed: int = 0,
) -> Source:
    """Pairs of slices, x [N, S, S, 2] float32 in [-1, 1].

    The windows are those of `sarcoma.WINDOWS`; a pixel is the mean of the area
    that it covers of the 96 x 96 ones.

    Args:
        split: as of `sarcoma.read`, with the same patients.
        root: the folder that holds `sts_trimodal/`.
        modalities: two of "t1", "ct" and "pet", the first one in channel 0.
        side: S, 32, 48, 64 or 96 pixels.
        pairs: share of the training patients whose pairs are kept, in (0, 1],
            see `paired.drawn`; other splits keep all.
        seed: of that choice, at least 0.

    Returns:
        The source; its `aux` has, beside those of `paired`, "patient", the
        owners' number, and "length" of the tumour in mm, [N] each.

    Raises:
        UsageError: for an option out of range, or as `sarcoma.read`.
    """
    paired.check_modalities(modalities, MODALITIES)
    checks.whole("side", side)
    if side not in SIDES:
        raise checks.UsageError(
            f"side is {side}, but must be one of {', '.join(map(str, SIDES))}."
        )
    paired.check_draw(pairs, seed)
    slices = sarcoma.read(split, root)
    patient_N = _patients(split, root)
    length_N = np.array([longest(mask) for mask in slices.y]) * PIXEL
    channels = [MODALITIES.index(name) for name in modalities]
    images = 2 * np.moveaxis(slices.x[..., channels], -1, 0) - 1
    first, second = paired.area_averaged(images, side)
    return paired.make(
        first,
        second,
        (length_N > LONG).astype(np.int32),
        paired.drawn(patient_N, pairs, seed)
        if split == "train"
        else paired.complete(len(patient_N)),
        aux={"patient": patient_N, "length": length_N.astype(np.float32)},
        classes=CLASSES,
        name=f"sarcoma_pairs_{modalities[0]}_{modalities[1]}",
        split=split,
    )


def _patients(split: str, root: Path) -> np.ndarray:
    """The patient of each slice of a split, [N] int32, as `sarcoma` splits."""
    path = root / "sts_trimodal" / "sts_trimodal_96.npz"
    (patient,) = archives.read(path, ["patient"], "sarcoma slices")
    everyone = [int(p) for p in patient]
    rows = sites.split_rows(split, "sarcoma", ["all"] * len(patient), everyone)
    return patient[rows].astype(np.int32)


def longest(mask_HxW: np.ndarray) -> float:
    """The longest distance between two pixels of a region, in pixels.

    From centre to centre; 0 for a single pixel or none.
    """
    rows = np.flatnonzero(mask_HxW.any(1))
    if not rows.size:
        return 0.0
    # The ends of a row are further from any place than what is between them.
    left = mask_HxW[rows].argmax(1)
    right = mask_HxW.shape[1] - 1 - mask_HxW[rows, ::-1].argmax(1)
    ends = np.stack([np.tile(rows, 2), np.concatenate([left, right])], 1)
    gaps = ends[:, None] - ends
    return float(np.sqrt((gaps**2).sum(-1).max()))
