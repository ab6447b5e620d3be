"""Fed-Polyp: polyps in colonoscopies of four collections, with their masks.

It is read from `fed_polyp/SITE/`, with the pictures in `image/` and the masks
in `mask/` (as FEAL's preparation has them) or `images/` and `masks/` (as
PraNet ships them, where the second site is ETIS-LaribPolypDB). A mask has its
picture's name; in FEAL's own download, which pairs both by their order, names
are unknown.
"""

import functools
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import pictures, sites
from jaxedge.data.source import Source

CLASSES = ("background", "polyp")
SITES = ("Kvasir", "ETIS", "CVC-ColonDB", "CVC-ClinicDB")
FOLDERS = {"ETIS": ("ETIS", "ETIS-LaribPolypDB")}
SIDE = 384


def read(split: str, root: Path, *, side: int = SIDE) -> Source:
    """Pictures, x `Pictures` [N, S, S, 3], and y [N, S, S]; `aux["site"]`.

    The longer side becomes S and the rest is black background, as of FEAL;
    pictures are resampled bicubically and divided by 255, masks take the
    nearest pixel, a polyp where it is 128 or more. Masks are read at once.

    Args:
        split: "train", "valid" or "test": ours, by site and picture, see
            `sites.split_rows`. Frames of one video may be in several of them,
            as in the paper's (80 % and 20 %): their names do not tell.
        root: the folder that holds `fed_polyp/`.
        side: S, pixels.

    Returns:
        The source.

    Raises:
        UsageError: for a missing site, picture or mask, or sizes that differ.
            A picture that cannot be decoded raises it when it is read.
    """
    checks.whole("side", side, 1)
    found = [
        (i, *pair)
        for i, site in enumerate(SITES)
        for pair in _pairs(root / "fed_polyp", site)
    ]
    rows = sites.split_rows(split, "fed_polyp", [SITES[i] for i, *_ in found])
    kept = [found[row] for row in rows]
    y = pictures.every(
        [mask for *_, mask in kept], functools.partial(_labels, side=side)
    )
    x = pictures.images([image for _, image, _ in kept], side, keep=True)
    source = Source(x, y, CLASSES, "fed_polyp", split)
    return sites.tagged(source, np.array([i for i, *_ in kept]), SITES)


def _pairs(root: Path, site: str) -> list[tuple[Path, Path]]:
    names = FOLDERS.get(site, (site,))
    folder = next((root / n for n in names if (root / n).is_dir()), root / site)
    plural = "s" if (folder / "images").is_dir() else ""
    return pictures.pairs(folder / f"image{plural}", folder / f"mask{plural}")


def _labels(path: Path, side: int) -> np.ndarray:
    mask = pictures.fitted(path, side, keep=True, exact=True)[..., 0]
    return (mask >= 128).astype(np.int32)
