"""White blood cells of three laboratories: stain, microscope and camera differ.

Sites: "tecom" and "cellavision" (Zheng et al. 2018, data sets 1 and 2) and
"bccd" (crops of the BCCD images that show one cell). They are read from
`wbc_3sites/wbc_3sites_64.npz`, which holds SITE_images, [N, 64, 64, 3] uint8,
and SITE_labels, [N].
"""

from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives, sites
from jaxedge.data.source import Source, make_source

CLASSES = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
SITES = ("tecom", "cellavision", "bccd")
SIDE = 64


def read(split: str, root: Path) -> Source:
    """Cells, x [N, 64, 64, 3] float32, pixel / 255 in [0, 1]; `aux["site"]`.

    Splits are ours, see `sites.split_rows`, by site and class. The sites have
    1, 3 and 2 basophils, so those are all in "train"; which cells are of one
    patient or one smear is unknown. Labels of "tecom" and "cellavision" are
    partly their authors' own, not double-checked by experts.

    Args:
        split: "train" (530 of 741 cells), "valid" (69) or "test" (142).
        root: the folder that holds `wbc_3sites/`.

    Returns:
        The source.

    Raises:
        UsageError: for a missing or damaged archive.
    """
    path = root / "wbc_3sites" / "wbc_3sites_64.npz"
    names = [f"{s}_{kind}" for s in SITES for kind in ("images", "labels")]
    arrays = archives.read(path, names, "white blood cells")
    images, labels = arrays[::2], arrays[1::2]
    for site, x, y in zip(SITES, images, labels, strict=True):
        _check(path, site, x, y)
    site_N = np.repeat(np.arange(len(SITES)), [len(y) for y in labels])
    y_N = np.concatenate(labels)
    strata = [
        f"{SITES[s]}/{CLASSES[k]}" for s, k in zip(site_N, y_N, strict=True)
    ]
    rows = sites.split_rows(split, "white_cells", strata)
    x = np.concatenate(images)[rows].astype(np.float32) / 255
    source = make_source(
        x, y_N[rows], classes=CLASSES, name="white_cells", split=split
    )
    return sites.tagged(source, site_N[rows], SITES)


def _check(path: Path, site: str, x: np.ndarray, y: np.ndarray) -> None:
    shape = (len(y), SIDE, SIDE, 3)
    if x.dtype != np.uint8 or y.ndim != 1 or x.shape != shape or not len(y):
        raise checks.UsageError(
            f"{path} holds {site}_images of shape {x.shape}, {x.dtype}, and"
            f" {site}_labels of shape {y.shape}, but must hold"
            f" [N, {SIDE}, {SIDE}, 3] uint8 and [N]; fetch it again."
        )
    bad = np.flatnonzero((y < 0) | (y >= len(CLASSES)))
    if y.dtype.kind not in "iu" or bad.size:
        shown = y[bad[0]] if bad.size else y.dtype
        raise checks.UsageError(
            f"{path} holds {shown} in {site}_labels, but labels are 0 to"
            f" {len(CLASSES) - 1}; fetch it again."
        )
