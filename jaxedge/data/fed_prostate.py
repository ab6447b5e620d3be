"""Fed-Prostate: MR volumes of six sites with the prostate (Liu et al. 2020).

It is read from `fed_prostate/SITE/` as the owners of SAML ship it: volumes
`CaseNN.nii.gz` and, beside each, `CaseNN_segmentation.nii.gz` (in either case
of letters), of 384 x 384 pixels a slice. Above 0 is prostate. Other names of
the original download are unknown.

Letters: N slices, H height, W width.
"""

import importlib
from pathlib import Path
from typing import Any
import zlib

import numpy as np

from jaxedge.core import checks
from jaxedge.data import sites
from jaxedge.data.source import Source, make_source

CLASSES = ("background", "prostate")
SITES = ("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL")
SHAPE = (384, 384)
CLIP = 0.99


def read(split: str, root: Path) -> Source:
    """Slices with some prostate, x [N, 384, 384, 1] float32; `aux["site"]`.

    As of FEAL every slice is clipped at the value of rank floor(0.99 n) of its
    n pixels, and is then (x - min) / max, which lies in [0, 1] where nothing
    is negative. y is [N, 384, 384].

    Args:
        split: "train", "valid" or "test": ours, by site and whole cases, see
            `sites.split_rows` (the paper's is 80 % and 20 % by case).
        root: the folder that holds `fed_prostate/`.

    Returns:
        The source; all of it is in memory.

    Raises:
        UsageError: for a missing site or volume, another size, labels that are
            no whole numbers from 0, an empty slice, or without nibabel.
    """
    found = [
        (site, *pair)
        for site in range(len(SITES))
        for pair in _cases(root / "fed_prostate" / SITES[site])
    ]
    strata = [SITES[site] for site, *_ in found]
    rows = sites.split_rows(split, "fed_prostate", strata)
    x, y, site_N = [], [], []
    for site, image, mask in (found[row] for row in rows):
        slices, labels = _case(image, mask)
        x.append(slices)
        y.append(labels)
        site_N += [site] * len(labels)
    source = make_source(
        np.concatenate(x)[..., None],
        np.concatenate(y),
        classes=CLASSES,
        name="fed_prostate",
        split=split,
    )
    return sites.tagged(source, np.array(site_N), SITES)


def _cases(folder: Path) -> list[tuple[Path, Path]]:
    """Volumes and their masks."""
    masks = sorted(folder.glob("*_[sS]egmentation.nii.gz"))
    if not masks:
        raise checks.UsageError(
            f"{folder} holds no CaseNN_segmentation.nii.gz; put the site's"
            " volumes there."
        )
    return [(p.with_name(f"{p.name.split('_')[0]}.nii.gz"), p) for p in masks]


def _case(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """The slices of a volume that show the prostate, [N, H, W] each."""
    volume, labels = _volume(image), _volume(mask)
    if volume.shape != labels.shape or volume.shape[1:] != SHAPE:
        raise checks.UsageError(
            f"{image} has the shape {volume.shape} and its mask"
            f" {labels.shape}, but both must be slices of {SHAPE[0]} x"
            f" {SHAPE[1]}; fetch them again."
        )
    whole = np.isfinite(labels) & (labels >= 0) & (labels == np.rint(labels))
    if not whole.all():
        raise checks.UsageError(
            f"{mask} holds {labels[~whole][0]}, but labels are whole numbers"
            " from 0; fetch it again."
        )
    shown = np.flatnonzero((labels > 0).any((1, 2)))
    if not shown.size:
        raise checks.UsageError(f"{mask} marks no prostate; leave it out.")
    slices = [_scaled(f"slice {i} of {image}", volume[i]) for i in shown]
    return np.stack(slices), (labels[shown] > 0).astype(np.int32)


def _scaled(what: str, x_HxW: np.ndarray) -> np.ndarray:
    checks.finite(what, x_HxW)
    ranked = np.sort(x_HxW, axis=None)
    low, high = ranked[0], ranked[int(ranked.size * CLIP)]
    if high <= 0:
        raise checks.UsageError(
            f"{what} has {high} at its 99th percentile, by which it is divided;"
            " give an image that is not empty."
        )
    return ((np.clip(x_HxW, low, high) - low) / high).astype(np.float32)


def _volume(path: Path) -> np.ndarray:
    """A NIfTI volume as slices, [Z, Y, X] float32."""
    if not path.is_file():
        raise checks.UsageError(f"{path} is missing; put the volume there.")
    try:
        nibabel: Any = importlib.import_module("nibabel")
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with nibabel, which cannot be imported ({error});"
            " pip install nibabel."
        ) from None
    known = (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
    )
    try:
        array = np.asarray(nibabel.load(path).dataobj, np.float32)
    except (OSError, EOFError, ValueError, zlib.error, *known) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise checks.UsageError(
            f"{path} is no readable NIfTI volume ({reason}); fetch it again."
        ) from None
    return np.transpose(array)
