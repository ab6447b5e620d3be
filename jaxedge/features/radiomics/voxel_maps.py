"""Maps of features of a volume: checked, cropped and put back in its place."""

from collections.abc import Sequence
from typing import Any

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import bins, maps, regions
from jaxedge.features.radiomics import options as options_module
from jaxedge.features.radiomics.options import DEFAULT, Options


def voxelwise(
    image: ArrayLike,
    mask: ArrayLike,
    feature: str | Sequence[str] = "glcm_Idn",
    *,
    radius: int = 1,
    bin_width: float = 25.0,
    bin_count: int | None = None,
    spacing: Any = (1.0, 1.0, 1.0),
    options: Options = DEFAULT,
    voxel_shift: float = 0.0,
    label: int | None = None,
    masked_kernel: bool = True,
    empty: float = np.nan,
) -> Any:
    """A map of a radiomic feature: of the cube around each voxel of a region.

    Grey levels are binned once, and cubes are cut by the region, as
    pyradiomics' extraction by voxel does (`maps` tells where it differs).

    Args:
        image: [Z, Y, X], or [Y, X] for one slice; any real dtype.
        mask: same shape; bool, or whole numbers with 0 outside.
        feature: such as "glcm_Idn", of `maps.KNOWN`; or several.
        radius: of the cube in voxels, which is 2 * radius + 1 wide.
        bin_width: of grey levels, unit of the intensities.
        bin_count: number of grey levels, in place of a width.
        spacing: mm along (z, y, x); matters for weighted directions alone.
        options: of the texture matrices.
        voxel_shift: added to intensities for energies.
        label: value of the mask that is the region, where it has several.
        masked_kernel: False bins the whole image, and cubes hold what is
            outside of the region too.
        empty: value of a voxel whose cube does not define the feature, such as
            one without a pair.

    Returns:
        float32 of the image's shape, 0 outside the region; of several features
        a dict by name.

    Raises:
        UsageError: as `extract`; or for an unknown feature or a radius below 1.
    """
    names = maps.checked(feature)
    checks.whole("radius", radius, 1)
    options_module.check(options)
    values, inside, legs = regions.volume(image, mask, spacing, label)
    if np.ndim(image) == 2 and options.plane is None:
        options = options._replace(plane=0)
    reach = 0 if masked_kernel else radius
    around = regions.box(inside).grown(reach, inside.shape)
    values, inside = values[around.slices], inside[around.slices]
    counts = inside if masked_kernel else np.isfinite(values)
    grey_N = bins.on_host(
        values[counts], bin_width=bin_width, bin_count=bin_count
    )
    present, row_N = np.unique(grey_N, return_inverse=True)
    rows = regions.padded_levels(len(present))
    levels = np.zeros(values.shape, np.int32)
    levels[counts] = row_N + 1
    room = regions.padded_size(values.shape)
    found = maps.maps(
        regions.padded(np.where(counts, values, 0).astype(np.float32), room),
        regions.padded(levels, room),
        rows,
        names=names,
        radius=radius,
        where_ZxYxX=regions.padded(inside, room),
        # Rows that stand for nothing rise on.
        grey_G=np.concatenate(
            [present, present[-1] + 1 + np.arange(rows - len(present))]
        ),
        n_grey=np.float32(present[-1]),
        spacing=legs,
        options=options,
        voxel_shift=voxel_shift,
        empty=empty,
    )
    whole = {}
    for name, part in found.items():
        full = np.zeros(np.shape(image), np.float32)
        view = full[None] if full.ndim == 2 else full
        view[around.slices] = np.asarray(part)[tuple(map(slice, inside.shape))]
        whole[name] = full
    return whole[names[0]] if isinstance(feature, str) else whole
