"""Features of whole regions: one at a time, or a cohort in one program."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import (
    cohorts,
    first_order,
    glcm,
    gldm,
    gldzm,
    glrlm,
    glszm,
    names,
    ngtdm,
    regions,
    shape,
    shape_2d,
)
from jaxedge.features.radiomics import options as options_module
from jaxedge.features.radiomics.options import DEFAULT, Options
from jaxedge.features.radiomics.regions import Region

_TEXTURES = {
    "glcm": glcm.features,
    "glrlm": glrlm.features,
    "glszm": glszm.features,
    "gldzm": gldzm.features,
    "gldm": gldm.features,
    "ngtdm": ngtdm.features,
}


def extract(
    image: ArrayLike,
    mask: ArrayLike,
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    classes: Sequence[str] | Mapping[str, Any] | None = None,
    definitions: str = "pyradiomics",
    options: Options = DEFAULT,
    voxel_shift: float = 0.0,
    label: int | None = None,
    shape_mask: ArrayLike | None = None,
    prefix: str = "original",
) -> dict[str, float]:
    """Radiomic features of one region of a volume.

    The names are pyradiomics', `<prefix>_<class>_<feature>`, such as
    "original_glcm_Idn", with its definitions (3.0.1, default settings): the
    classes shape, firstorder, glcm, glrlm, glszm, gldm and ngtdm, 107 features,
    and shape2D for one slice. With "ibsi" they are the tags of the reference
    sheet of the IBSI (arXiv:1612.07003), such as "cm_inv_diff_norm_3D_avg"
    (directions averaged) and "cm_inv_diff_norm_3D_comb" (matrices merged); all
    of them are in `names.IBSI`, and `names.ibsi_id` tells a tag's permanent
    identifier. Its classes have pyradiomics' names, and gldzm:

        shape       morph_volume, morph_area_mesh, morph_diam, ...
        firstorder  stat_*, ih_* (histogram), ivh_* (intensity-volume histogram)
        glcm        cm_*_3D_avg, cm_*_3D_comb
        glrlm       rlm_*_3D_avg, rlm_*_3D_comb
        glszm       szm_*_3D
        gldzm       dzm_*_3D
        ngtdm       ngt_*_3D
        gldm        ngl_*_3D

    Args:
        image: [Z, Y, X], or [Y, X] for one slice; any real dtype.
        mask: same shape; bool, or whole numbers with 0 outside.
        spacing: of voxels, mm along (z, y, x).
        bin_width: of grey levels, unit of the intensities.
        bin_count: number of grey levels, in place of a width.
        classes: names of classes, or class -> names of its features (None or
            empty for all); None for all classes.
        definitions: "pyradiomics" or "ibsi".
        options: of the texture matrices.
        voxel_shift: added to intensities for energies, as pyradiomics'
            voxelArrayShift.
        label: value of the mask that is the region, where it has several.
        shape_mask: the region whose shape is measured, where it is another.
        prefix: the kind of image, in front of pyradiomics' names.

    Returns:
        Name -> value, in mm, mm^2, mm^3 and units of the intensities.

    Raises:
        UsageError: for an empty or single-voxel mask, shapes that differ, NaN
            in the region, several labels, unknown names, or a spacing that is
            not in millimetres.

    Examples:
        >>> image = np.arange(27.0).reshape(3, 3, 3)
        >>> found = extract(image, image > 12, classes={"firstorder": ["Mean"]})
        >>> {name: round(value, 3) for name, value in found.items()}
        {'original_firstorder_Mean': 19.5}
    """
    options_module.check(options)
    flat = np.ndim(image) == 2
    wanted = chosen(classes, definitions, flat)
    if flat and options.plane is None:
        options = options._replace(plane=0)
    region = regions.prepare(
        image,
        mask,
        spacing=spacing,
        bin_width=bin_width,
        bin_count=bin_count,
        definitions=definitions,
        label=label,
        shape_mask=shape_mask,
    )
    found = {}
    for kind, names_of in wanted.items():
        values = jax.device_get(
            _compiled(region, kind, definitions, options, float(voxel_shift))
        )
        if kind == "shape" and definitions == "ibsi":
            values |= shape.hull_densities(region.shape_ZxYxX, region.spacing_3)
        found |= {
            title(prefix, kind, name, definitions): float(values[name])
            for name in names_of
        }
    return found


def extract_many(
    images: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    spacing: Any = (1.0, 1.0, 1.0),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    classes: Sequence[str] | Mapping[str, Any] | None = None,
    definitions: str = "pyradiomics",
    options: Options = DEFAULT,
    voxel_shift: float = 0.0,
    label: int | None = None,
    prefix: str = "original",
    block: int | None = None,
) -> dict[str, np.ndarray]:
    """Features of a cohort, vmapped over regions in one compiled program.

    All boxes are padded to the largest, and all lists of voxels to the longest,
    so put regions of like size together.

    Args:
        images: N volumes [Z, Y, X] of any sizes.
        masks: their masks.
        spacing: mm along (z, y, x), one for all or one each [N, 3].
        bin_width: as of `extract`, as are the arguments that follow.
        bin_count: number of grey levels, in place of a width.
        classes: of features.
        definitions: "pyradiomics" or "ibsi".
        options: of the texture matrices.
        voxel_shift: added to intensities for energies.
        label: value of the masks that is the region.
        prefix: the kind of image.
        block: regions that run at once; None for as many as stay in the caches
            of a CPU, or as half a gigabyte holds.

    Returns:
        Name -> float32 [N].

    Raises:
        UsageError: as `extract`, with the number of the volume; or for numbers
            of images, masks and spacings that differ.
    """
    options_module.check(options)
    wanted = chosen(classes, definitions, False)
    made = cohorts.cut(
        images,
        masks,
        spacing,
        {
            "bin_width": bin_width,
            "bin_count": bin_count,
            "definitions": definitions,
            "label": label,
        },
    )
    n, room = len(made), cohorts.room_of(made)
    block = min(block or room.block, n)
    parts = []
    for start in range(0, n, block):
        # The last block repeats a region, so that it has the same shape.
        some = [made[min(i, n - 1)] for i in range(start, start + block)]
        parts.append(
            _compiled_many(
                room.stacked(some),
                room.plain,
                tuple(wanted.items()),
                definitions,
                options,
                float(voxel_shift),
            )
        )
        # The host prepares a block while the one before is computed.
        jax.block_until_ready(parts[-2:][0])
    joined = np.concatenate(jax.device_get(parts), 1)[:, :n]
    pairs = ((kind, name) for kind in wanted for name in wanted[kind])
    found = dict(zip(pairs, joined, strict=True))
    if "shape" in wanted and definitions == "ibsi":
        hulls = [shape.hull_densities(r.shape_ZxYxX, r.spacing_3) for r in made]
        for name in hulls[0].keys() & set(wanted["shape"]):
            column = [hull[name] for hull in hulls]
            found["shape", name] = np.array(column, np.float32)
    return {
        title(prefix, *pair, definitions): column
        for pair, column in found.items()
    }


def features(
    region: Region,
    kind: str,
    *,
    definitions: str = "pyradiomics",
    options: Options = DEFAULT,
    voxel_shift: ArrayLike = 0.0,
    plain: bool = False,
) -> dict[str, jax.Array]:
    """Features of one class, a pure function under jit and vmap.

    Args:
        region: arrays of one region.
        kind: of features, such as "glcm".
        definitions: "pyradiomics" or "ibsi".
        options: of the texture matrices.
        voxel_shift: added to intensities for energies.
        plain: whether grey levels are known to be the numbers of their rows,
            which saves time.

    Returns:
        Name within the class -> float32 [].
    """
    grey_G = None if plain else region.grey_G
    if kind == "shape":
        return shape.features(
            region.shape_ZxYxX,
            region.spacing_3,
            values_ZxYxX=region.boxed(region.values_V),
            definitions=definitions,
        )
    if kind == "shape2D":
        return shape_2d.features(region.shape_ZxYxX[0], region.spacing_3[1:])
    if kind == "firstorder":
        levels = region.levels_V[None, None]
        return first_order.features(
            region.values_V[None, None],
            levels > 0,
            levels,
            region.n_levels,
            grey_G=grey_G,
            voxel_volume=jnp.prod(region.spacing_3),
            shift=voxel_shift,
            definitions=definitions,
        )
    return _TEXTURES[kind](
        region.boxed(region.levels_V),
        region.n_levels,
        spacing=region.spacing_3,
        grey_G=grey_G,
        n_grey=region.n_grey,
        options=options,
        definitions=definitions,
        place_V=region.place_V,
    )


def chosen(
    classes: Sequence[str] | Mapping[str, Any] | None,
    definitions: str,
    flat: bool,
) -> dict[str, tuple[str, ...]]:
    """Names of features by class.

    Args:
        classes: as of `extract`.
        definitions: "pyradiomics" or "ibsi".
        flat: whether the image is one slice, whose shape is two-dimensional.

    Raises:
        UsageError: for an unknown class or feature, or the shape of a slice
            that is a volume.
    """
    options_module.check_definitions(definitions)
    known = names.FEATURES[definitions]
    if classes is None:
        other = "shape" if flat and "shape2D" in known else "shape2D"
        classes = [kind for kind in known if kind != other]
    if isinstance(classes, str):
        classes = [classes]
    if not isinstance(classes, Mapping):
        classes = dict.fromkeys(classes)
    found = {}
    for kind, wanted in classes.items():
        if kind not in known:
            raise checks.unknown("class of features", kind, known)
        if kind == "shape2D" and not flat:
            raise checks.UsageError(
                "class 'shape2D' measures one slice, but the image has three"
                " axes; give image[z], mask[z]."
            )
        for name in wanted or ():
            if name not in known[kind]:
                raise checks.unknown(f"feature of {kind}", name, known[kind])
        found[kind] = tuple(wanted or known[kind])
    if not found:
        raise checks.UsageError(
            f"classes is empty; name some of {', '.join(known)}."
        )
    return found


def title(prefix: str, kind: str, name: str, definitions: str) -> str:
    """The name under which a feature is told."""
    if definitions == "ibsi":
        return name if prefix == "original" else f"{prefix}_{name}"
    return f"{prefix}_{kind}_{name}"


@functools.partial(jax.jit, static_argnames=("kind", "definitions", "options"))
def _compiled(
    region: Region,
    kind: str,
    definitions: str,
    options: Options,
    voxel_shift: ArrayLike,
) -> dict[str, jax.Array]:
    return features(
        region,
        kind,
        definitions=definitions,
        options=options,
        voxel_shift=voxel_shift,
    )


@functools.partial(
    jax.jit, static_argnames=("plain", "wanted", "definitions", "options")
)
def _compiled_many(
    region_B: Region,
    plain: bool,
    wanted: tuple[tuple[str, tuple[str, ...]], ...],
    definitions: str,
    options: Options,
    voxel_shift: ArrayLike,
) -> jax.Array:
    """One array, [F, B], which the host fetches faster than many."""

    def one(region: Region) -> jax.Array:
        column = []
        for kind, names_of in wanted:
            found = features(
                region,
                kind,
                definitions=definitions,
                options=options,
                voxel_shift=voxel_shift,
                plain=plain,
            )
            if (kind, definitions) == ("shape", "ibsi"):
                # Densities in the hull are found on the host.
                found = dict.fromkeys(names_of, jnp.float32(0)) | found
            column += [found[name] for name in names_of]
        return jnp.stack(column)

    return jax.vmap(one, out_axes=1)(region_B)
