"""Fed-Fundus: retinas of four sites with optic disc and cup (FedDG, DoFE).

It is read from `fed_fundus/`, either `client1/` to `client4/`, each with
`image/` and `mask/` (as FEAL's preparation has them), or `Domain1/` to
`Domain4/`, each with `train/ROIs/` and `test/ROIs/` that have `image/` and
`mask/` (as DoFE ships them). Whether client i is Domain i is unknown. A mask
has its picture's name, and in its first channel 255 beside the disc, 128 on
the disc and 0 in the cup.
"""

import functools
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import pictures, sites
from jaxedge.data.source import Source

CLASSES = ("background", "disc", "cup")
SITES = ("client1", "client2", "client3", "client4")
GREYS = (255, 128, 0)  # of the classes, in a mask
SIDE = 384


def read(split: str, root: Path, *, side: int = SIDE) -> Source:
    """Pictures, x `Pictures` [N, S, S, 3], and y [N, S, S]; `aux["site"]`.

    Pictures are stretched to S x S bicubically and divided by 255, masks take
    the nearest pixel. Masks are read at once.

    Args:
        split: "train", "valid" or "test". Of `Domain1/` and its like "test" is
            the folder of that name, and "valid" a tenth of each site's
            `train/`; of the clients all are ours, see `sites.split_rows`.
        root: the folder that holds `fed_fundus/`.
        side: S, pixels.

    Returns:
        The source.

    Raises:
        UsageError: for a missing site, picture or mask, sizes that differ, or
            a grey that no class has. A picture that cannot be decoded raises
            it when it is read.
    """
    checks.whole("side", side, 1)
    folder = root / "fed_fundus"
    shipped = (folder / "Domain1").is_dir()
    part = "test" if split == "test" else "train"
    found = []
    for i, site in enumerate(SITES):
        own = folder / site
        if shipped:
            own = folder / f"Domain{i + 1}" / part / "ROIs"
        pairs = pictures.pairs(own / "image", own / "mask")
        found += [(i, *pair) for pair in pairs]
    rows = np.arange(len(found))
    if not (shipped and split == "test"):
        strata = [SITES[i] for i, *_ in found]
        rows = sites.split_rows(split, "fed_fundus", strata, tested=not shipped)
    kept = [found[row] for row in rows]
    y = pictures.every(
        [mask for *_, mask in kept], functools.partial(_labels, side=side)
    )
    x = pictures.images([image for _, image, _ in kept], side, keep=False)
    source = Source(x, y, CLASSES, "fed_fundus", split)
    return sites.tagged(source, np.array([i for i, *_ in kept]), SITES)


def _labels(path: Path, side: int) -> np.ndarray:
    mask = pictures.fitted(path, side, keep=False, exact=True)[..., 0]
    labels = np.full(mask.shape, -1, np.int32)
    for label, grey in enumerate(GREYS):
        labels[mask == grey] = label
    if (labels < 0).any():
        raise checks.UsageError(
            f"{path} has a pixel of {mask[labels < 0][0]}, but a mask is 255"
            " beside the optic disc, 128 on it and 0 in the cup; save it"
            " without loss."
        )
    return labels
