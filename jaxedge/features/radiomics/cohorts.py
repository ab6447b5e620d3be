"""Regions of a cohort side by side, in boxes and lists of one size.

A program is compiled for one size of box, which the shapes of all regions are
padded to, and one number of voxels, of which textures are made. Its time grows
with both, but compiling takes as long as thousands of regions.
"""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import regions
from jaxedge.features.radiomics.regions import Region

# Arrays of a block of regions take about so many bytes; on CPU a few of them
# stay in the caches, which makes it several times as fast.
_MEMORY, _CACHE = 1 << 29, 1 << 25


class Room(NamedTuple):
    """What regions are padded to.

    Attributes:
        size: of boxes, [3].
        rows: for grey levels.
        voxels: of a region, as a list.
        plain: whether levels that do not occur get a row as well, so that grey
            levels are the numbers of their rows.
    """

    size: tuple[int, ...]
    rows: int
    voxels: int
    plain: bool

    def stacked(self, some: Sequence[Region]) -> Region:
        """Regions side by side."""
        if self.plain:
            some = [regions.plain(region) for region in some]
        return regions.stacked(some, self.size, self.voxels, self.rows)

    @property
    def block(self) -> int:
        """How many regions run at once: arrays by direction count most."""
        one = 13 * 4 * (4 * math.prod(self.size) + 2 * self.rows**2)
        some = _CACHE if jax.default_backend() == "cpu" else _MEMORY
        return int(np.clip(some // one, 1, 256))


def cut(
    images: Sequence[Any],
    masks: Sequence[Any],
    spacing: Any,
    settings: dict[str, Any],
) -> list[Region]:
    """Regions, each of the size of its box.

    Args:
        images: N volumes.
        masks: their masks.
        spacing: one for all, or [N, 3].
        settings: of `regions.cut`.

    Raises:
        UsageError: as `regions.cut`, with the number of the volume; or for
            numbers of images, masks and spacings that differ.
    """
    n = len(images)
    if not n or len(masks) != n:
        raise checks.UsageError(
            f"there are {n} images and {len(masks)} masks; give one mask an"
            " image, and at least one."
        )
    legs = np.asarray(spacing, np.float64)
    if legs.shape not in ((3,), (n, 3)):
        raise checks.UsageError(
            f"spacing has shape {legs.shape}, but must be [3], or [{n}, 3] for"
            " one a volume."
        )
    made = []
    for i, legs_3 in enumerate(np.broadcast_to(legs, (n, 3))):
        try:
            one = regions.cut(images[i], masks[i], spacing=legs_3, **settings)
        except checks.UsageError as error:
            raise checks.UsageError(f"volume {i}: {error}") from error
        made.append(one)
    return made


def room_of(some: Sequence[Region]) -> Room:
    """What holds all of some regions, with a little more."""
    sides = zip(*(region.shape_ZxYxX.shape for region in some), strict=True)
    most = max(region.levels_V.size for region in some)
    (voxels,) = regions.padded_size((most,))
    rows, every = (
        regions.padded_levels(int(max(found)))
        for found in zip(*((r.n_levels, r.n_grey) for r in some), strict=True)
    )
    return Room(
        tuple(regions.padded_side(max(side)) for side in sides),
        rows,
        voxels,
        rows == every,
    )
