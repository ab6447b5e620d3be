"""Radiomic features of one image and region, as a parameter file asks for them.

Shape is that of the original image alone; every other class is taken of each
image type, as by pyradiomics 3.0.1.
"""

from collections.abc import Iterator, Mapping, Sequence
import logging
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import volume_filters, volumes
from jaxedge.data.volumes import Volume
from jaxedge.features import radiomics
from jaxedge.features.radiomics import names
from jaxedge.run import radiomics_parameters
from jaxedge.run.radiomics_parameters import Parameters
from jaxedge.run.radiomics_prepare import Prepared

_log = logging.getLogger(__name__)


class Map(NamedTuple):
    """A feature around each voxel.

    Attributes:
        name: such as "original_glcm_Idn".
        radius: of the cube, voxels.
        volume: its values, float32, with the geometry of the prepared image.
    """

    name: str
    radius: int
    volume: Volume


def features(
    prepared: Prepared,
    parameters: Parameters,
    definitions: str = "pyradiomics",
) -> dict[str, float]:
    """All features that are asked for.

    Args:
        prepared: the case.
        parameters: which classes, of which image types, and how.
        definitions: "pyradiomics" or "ibsi".

    Returns:
        Name -> value, shape first, under pyradiomics' or the IBSI's names.

    Raises:
        UsageError: for what cannot be computed of this case.
    """
    left = wanted(prepared, parameters, definitions)
    found: dict[str, float] = {}
    for kind in ("shape", "shape2D"):
        if kind in left:
            only = {kind: left.pop(kind)}
            found |= _extract(
                prepared, prepared.image, "original", only,
                parameters.setting, definitions,
            )  # fmt: skip
    if not left:
        return found
    for name, image, setting in _images(prepared, parameters):
        found |= _extract(prepared, image, name, left, setting, definitions)
    return found


def wanted(
    prepared: Prepared, parameters: Parameters, definitions: str
) -> dict[str, tuple[str, ...]]:
    """Which can be had of this case: of a slice, the shape in two dimensions.

    Raises:
        UsageError: for the shape of a slice where there are several.
    """
    known = names.FEATURES[definitions]
    asked = parameters.classes
    found = dict(asked) if asked is not None else dict.fromkeys(known, ())
    flat = prepared.image.dimensions == 2
    if flat and found.pop("shape", None) is not None and asked is not None:
        _log.warning("left out: class shape is of volumes, not of pictures")
    if "shape2D" not in found:
        return found
    plane = 0 if flat else radiomics_parameters.plane(parameters.setting)
    if plane is None:
        del found["shape2D"]
        if asked is not None:
            _log.warning("left out: class shape2D needs force2D: true")
        return found
    low, high = volumes.box(prepared.shape.array_ZxYxX)
    slices = int((high - low)[plane]) + 1
    if slices > 1:
        del found["shape2D"]
        if asked is not None:
            raise checks.UsageError(
                f"class shape2D measures one slice, but the region has {slices}"
                f" along axis {plane} (force2Ddimension) of (z, y, x); leave"
                " shape2D out, or mark one slice."
            )
    return found


def maps(
    prepared: Prepared,
    parameters: Parameters,
    wanted: Sequence[str],
    radii: Sequence[int],
) -> Iterator[Map]:
    """Features around each voxel of the region, on each image type.

    Args:
        prepared: the case.
        parameters: of image types and texture matrices; outside of the region
            a map is initValue.
        wanted: features such as "glcm_Idn".
        radii: of the cubes, voxels.
    """
    region = prepared.region.array_ZxYxX
    part = tuple(
        slice(low, high + 1)
        for low, high in zip(*volumes.box(region), strict=True)
    )
    for name, image, setting in _images(prepared, parameters):
        for feature in wanted:
            for radius in radii:
                values = radiomics.voxelwise(
                    image.array_ZxYxX[part],
                    region[part],
                    feature,
                    radius=radius,
                    bin_width=float(setting["binWidth"]),
                    bin_count=setting["binCount"],
                    options=radiomics_parameters.options(setting),
                )
                whole = np.full(
                    region.shape, parameters.voxels["initValue"], np.float32
                )
                whole[region] = np.asarray(values)[region[part]]
                yield Map(f"{name}_{feature}", radius, image.of(whole))


def check_maps(wanted: Sequence[str]) -> None:
    """Raises unless each is a feature that has maps, such as "glcm_Idn"."""
    known = [
        f"{kind}_{name}"
        for kind, of_kind in names.PYRADIOMICS.items()
        if not kind.startswith("shape")
        for name in of_kind
    ]
    for name in wanted:
        if name not in known:
            raise checks.unknown("feature of --maps", name, known)


def check_definitions(parameters: Parameters, definitions: str) -> None:
    """Raises if features are named that the IBSI calls otherwise."""
    if definitions == "pyradiomics":
        return
    for kind, wanted in (parameters.classes or {}).items():
        if wanted or kind not in names.IBSI:
            raise checks.UsageError(
                f"featureClass.{kind} names what the definitions of the IBSI do"
                " not have; name classes alone, of"
                f" {', '.join(names.IBSI)}, or take --definitions=pyradiomics."
            )


def facts(prepared: Prepared) -> dict[str, Any]:
    """What is worth knowing of a case beside its features."""
    low, high = volumes.box(prepared.region.array_ZxYxX)
    inside = prepared.image.array_ZxYxX[prepared.region.array_ZxYxX]
    return {
        "size_zyx": list(prepared.read_size),
        "spacing_zyx_mm": list(prepared.read_spacing),
        "prepared_size_zyx": list(prepared.image.array_ZxYxX.shape),
        "prepared_spacing_zyx_mm": prepared.image.spacing.tolist(),
        "region_voxels": int(inside.size),
        "region_first_zyx": low.tolist(),
        "region_last_zyx": high.tolist(),
        "region_minimum": float(inside.min()),
        "region_maximum": float(inside.max()),
    }


def _images(
    prepared: Prepared, parameters: Parameters
) -> Iterator[tuple[str, Volume, dict[str, Any]]]:
    """Name, image and settings of everything features are taken of."""
    inside = prepared.region.array_ZxYxX
    for kind in parameters.images:
        setting = parameters.of_image(kind)
        if kind == "LoG" and not setting["sigma"]:
            _log.warning("left out: LoG has no sigma, such as [1.0, 3.0]")
        filters = radiomics_parameters.filters(setting)
        for name, image in volume_filters.images(prepared.image, kind, filters):
            if not np.isfinite(image.array_ZxYxX[inside]).all():
                raise checks.UsageError(
                    f"the image {name} is not finite in the region: the filter"
                    " spreads NaN or infinity from elsewhere in the image; put"
                    " a number in their place."
                )
            yield name, image, setting


def _extract(
    prepared: Prepared,
    image: Volume,
    name: str,
    wanted: Mapping[str, Sequence[str]],
    setting: Mapping[str, Any],
    definitions: str,
) -> dict[str, float]:
    arrays = [
        volume.array_ZxYxX
        for volume in (image, prepared.region, prepared.shape)
    ]
    spacing = image.spacing
    plane = radiomics_parameters.plane(setting)
    if image.dimensions == 2:
        plane = 0
    if image.dimensions == 2 or "shape2D" in wanted:
        at = volumes.box(arrays[2])[0][plane or 0]
        arrays = [np.take(array, at, plane or 0) for array in arrays]
        spacing = np.array(
            [spacing[plane or 0], *np.delete(spacing, plane or 0)]
        )
    found = radiomics.extract(
        arrays[0],
        arrays[1],
        spacing=tuple(spacing.tolist()),
        bin_width=float(setting["binWidth"]),
        bin_count=setting["binCount"],
        classes={kind: _needed(kind, of) for kind, of in wanted.items()},
        definitions=definitions,
        options=radiomics_parameters.options(setting),
        voxel_shift=float(setting["voxelArrayShift"]),
        shape_mask=arrays[2],
        prefix=name,
    )
    return _with_deprecated(found, name, wanted)


# Of features that pyradiomics calls deprecated: what each is made of.
_MADE_OF = {
    "StandardDeviation": (("Variance",), lambda v: v**0.5),
    "SphericalDisproportion": (("Sphericity",), lambda s: 1 / s),
    "Compactness1": (
        ("MeshVolume", "SurfaceArea"),
        lambda v, a: v / (np.pi**0.5 * a**1.5),
    ),
    "Compactness2": (
        ("MeshVolume", "SurfaceArea"),
        lambda v, a: 36 * np.pi * v**2 / a**3,
    ),
}


def _needed(kind: str, wanted: Sequence[str]) -> list[str]:
    """Features to compute so that those wanted can be told."""
    old = radiomics_parameters.DEPRECATED.get(kind, ())
    found: dict[str, None] = {}
    for name in wanted:
        found |= dict.fromkeys(_MADE_OF[name][0] if name in old else (name,))
    return list(found)


def _with_deprecated(
    found: dict[str, float],
    prefix: str,
    wanted: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Those that were asked for, the deprecated ones among them."""
    for kind, of_kind in wanted.items():
        old = radiomics_parameters.DEPRECATED.get(kind, ())
        if not set(old) & set(of_kind):
            continue
        start = f"{prefix}_{kind}_"
        for name in set(old) & set(of_kind):
            parts, made = _MADE_OF[name]
            found[start + name] = made(*(found[start + p] for p in parts))
        kept = {start + name for name in of_kind}
        found = {
            name: value
            for name, value in found.items()
            if not name.startswith(start) or name in kept
        }
    return found
