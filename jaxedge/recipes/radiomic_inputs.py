"""Volumes with their radiomics: the section `radiomics` of a config.

A volume's channels are its intensities and its region. Maps of a local feature
join them, and global features as channels that are constant, so that all which
a network needs is one array; `apart` takes it to pieces again.

What is chosen, and by which statistics features are standardised, is found
from the training split alone.

Letters: N volumes, Z, Y, X their axes, C channels, L local maps, G global
features, F all features.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.features import radiomics
from jaxedge.features.radiomics import bins, maps, names
from jaxedge.recipes import selection

# Channels of a volume: intensities, and its region.
CHANNELS = 2
SELECT = ("fixed", "lasso", "mrmr")
# Those that arXiv:2308.06933 has chosen by LASSO (ridl 2.1).
PUBLISHED = (
    "original_shape_Maximum3DDiameter",
    "original_shape_Maximum2DDiameterSlice",
    "original_firstorder_Maximum",
    "original_glcm_Idn",
)
# Of an entry of `aux`, in front of the name of a feature that was chosen.
_KNOWN = "radiomics/"
# Added to standard deviations, as in the released code (ridl 3).
_EPS = 1e-3
_BLOCK = 16


class Radiomics(NamedTuple):
    """The section.

    Attributes:
        radii: of the cubes over which the local feature is computed, in voxels,
            one a map.
        local: the local feature, such as "glcm_Idn".
        select: how global features are chosen: "fixed" takes `names`, "lasso"
            those with a weight, "mrmr" the `most` of least redundancy.
        names: of "fixed".
        alpha: of "lasso", the weight of the penalty.
        most: of "mrmr", and of "lasso" at most so many, the heaviest; 0 has no
            global features.
        bin_width: of grey levels, unit of the intensities.
        bin_count: number of grey levels in place of a width.
        scale_maps: whether maps are standardised by the training split's
            voxels in regions, as global features are.
    """

    radii: tuple[int, ...] = (1, 2, 5, 10)
    local: str = "glcm_Idn"
    select: str = "fixed"
    names: tuple[str, ...] = PUBLISHED
    alpha: float = 0.12
    most: int = 4
    bin_width: float = 25.0
    bin_count: int | None = None
    scale_maps: bool = False

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for radius in self.radii:
            checks.whole("radiomics.radii", radius, 1)
        checks.choice("radiomics.select", self.select, SELECT)
        known = [
            f"original_{kind}_{name}"
            for kind, of_kind in names.PYRADIOMICS.items()
            for name in of_kind
            if kind != "shape2D"
        ]
        for name in self.names:
            if name not in known:
                raise checks.unknown("feature in radiomics.names", name, known)
        local = [name.removeprefix("original_") for name in known]
        if self.local not in local or self.local.startswith("shape_"):
            raise checks.unknown("radiomics.local", self.local, local)
        checks.in_range("radiomics.alpha", self.alpha, 0, open_low=True)
        checks.whole("radiomics.most", self.most)
        checks.in_range("radiomics.bin_width", self.bin_width, 0, open_low=True)
        if self.bin_count is not None:
            checks.whole("radiomics.bin_count", self.bin_count, 1)


class Table(NamedTuple):
    """Global features of a cohort.

    Attributes:
        names: of the features, [F].
        values_NxF: float64, in their own units.
    """

    names: tuple[str, ...]
    values_NxF: np.ndarray


def add(
    given: Radiomics, splits: Mapping[str, data.Source]
) -> dict[str, data.Source]:
    """Splits whose volumes have their radiomics as further channels.

    Args:
        given: the section.
        splits: "train" and others; x [N, Z, Y, X, 2], two classes.

    Returns:
        The same with x [N, Z, Y, X, 2 + L + G]: intensities scaled to [-1, 1]
        by volume, the region, local maps, which are 0 outside of it, and
        standardised global features; the values of these are in `aux`, see
        `known`.

    Raises:
        UsageError: for inputs that are no volumes with regions, a region
            without two voxels, or a choice that keeps no feature.
    """
    for split, source in splits.items():
        _check(source, split)
    # Of all splits in one go, which compiles one program.
    whole = _together(list(splits.values()))
    ends = np.cumsum([len(source.y) for source in splits.values()])[:-1]
    every, maps_N = table(whole, given), _local(whole, given)
    tables = {
        split: Table(every.names, values)
        for split, values in zip(
            splits, np.split(every.values_NxF, ends), strict=True
        )
    }
    kept = choose(given, tables["train"], splits["train"].y)
    scaled = standardised(tables, kept)
    by_split = dict(zip(splits, np.split(maps_N, ends), strict=True))
    if given.scale_maps:
        by_split = scaled_maps(splits, by_split)
    return {
        split: source._replace(
            x=_joined(source, by_split[split], scaled[split]),
            aux={**(source.aux or {}), **_values(tables[split], kept)},
        )
        for split, source in splits.items()
    }


def _values(found: Table, kept: Sequence[int]) -> dict[str, np.ndarray]:
    """Of the chosen features, by their names in `aux`."""
    return {
        f"{_KNOWN}{found.names[i]}": found.values_NxF[:, i].astype(np.float32)
        for i in kept
    }


def known(source: data.Source) -> Table:
    """The global features that a network gets, as they were measured.

    Args:
        source: from `add`.

    Returns:
        Names in the order of the channels, [G], and float32 values, [N, G].
    """
    found = {
        name.removeprefix(_KNOWN): values
        for name, values in (source.aux or {}).items()
        if name.startswith(_KNOWN)
    }
    empty = np.zeros((len(source.y), 0), np.float32)
    values = np.stack([*found.values()], -1) if found else empty
    return Table(tuple(found), values)


def _together(sources: Sequence[data.Source]) -> data.Source:
    """All rows of several sources, one after another."""
    first, same = sources[0], {source.x.shape[1:] for source in sources}
    if len(same) > 1:
        raise checks.UsageError(
            f"the volumes of {first.name} have the shapes {sorted(same)}; cut"
            " them to one."
        )
    known = [source.aux or {} for source in sources]
    aux = None
    if all("spacing" in each for each in known):
        aux = {"spacing": np.concatenate([each["spacing"] for each in known])}
    return first._replace(
        x=np.concatenate([source.x for source in sources]),
        y=np.concatenate([source.y for source in sources]),
        aux=aux,
    )


def table(source: data.Source, given: Radiomics) -> Table:
    """All global features of the volumes of a split."""
    found = radiomics.extract_many(
        list(source.x[..., 0]),
        list(source.x[..., 1] > 0),
        spacing=_spacing(source),
        bin_width=given.bin_width,
        bin_count=given.bin_count,
    )
    values = np.stack([np.asarray(found[k], np.float64) for k in found], -1)
    return Table(tuple(found), values)


def choose(given: Radiomics, train: Table, y_N: np.ndarray) -> list[int]:
    """Columns of a table that a network gets, in their order.

    Raises:
        UsageError: where none is left.
    """
    if not given.most:
        return []
    if given.select == "fixed":
        return [train.names.index(name) for name in given.names[: given.most]]
    # What does not differ between patients tells nothing.
    alive = np.flatnonzero(selection.varies(train.values_NxF))
    values, known = train.values_NxF[:, alive], [train.names[i] for i in alive]
    if given.select == "lasso":
        found = selection.lasso(values, y_N, known, alpha=given.alpha)
        order = np.argsort(-np.abs(found.weights), kind="stable")
        kept = [i for i in order[: given.most] if found.weights[i]]
    else:
        kept = selection.mrmr(values, y_N, known, k=given.most).indices
    if not len(kept):
        raise checks.UsageError(
            f"radiomics.alpha is {given.alpha}, which leaves no feature; take a"
            " smaller one."
        )
    return sorted(int(alive[i]) for i in kept)


def standardised(
    tables: Mapping[str, Table], kept: Sequence[int]
) -> dict[str, np.ndarray]:
    """Chosen columns by split, [N, G], by the statistics of "train"."""
    chosen = {split: t.values_NxF[:, kept] for split, t in tables.items()}
    mean = chosen["train"].mean(0)
    spread = chosen["train"].std(0, ddof=1) + _EPS
    return {
        split: ((values - mean) / spread).astype(np.float32)
        for split, values in chosen.items()
    }


def scaled_maps(
    splits: Mapping[str, data.Source], local: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Maps by split, [N, Z, Y, X, L], by the statistics of "train".

    These are of voxels in regions; outside of regions maps stay 0.
    """
    region = {split: s.x[..., 1:2] > 0 for split, s in splits.items()}
    inside = local["train"][region["train"][..., 0]].astype(np.float64)
    mean, spread = inside.mean(0), inside.std(0, ddof=1) + _EPS
    return {
        split: np.where(region[split], (maps_N - mean) / spread, 0)
        for split, maps_N in local.items()
    }


def apart(x: Any, local_maps: int) -> tuple[Any, Any, Any]:
    """A volume [..., Z, Y, X, 2], local maps [..., L], global ones [..., G]."""
    ends = CHANNELS + local_maps
    return (
        x[..., :CHANNELS],
        x[..., CHANNELS:ends],
        x[..., 0, 0, 0, ends:],
    )


def _joined(
    source: data.Source, local: np.ndarray, radiomic_NxG: np.ndarray
) -> np.ndarray:
    image, region = source.x[..., :1], source.x[..., 1:2]
    low = image.min((1, 2, 3), keepdims=True)
    span = image.max((1, 2, 3), keepdims=True) - low
    scaled = 2 * (image - low) / np.where(span > 0, span, 1) - 1
    shape = (*image.shape[:-1], radiomic_NxG.shape[-1])
    spread = np.broadcast_to(radiomic_NxG[:, None, None, None], shape)
    parts = [scaled, region > 0, local, spread]
    return np.concatenate(parts, -1, dtype=np.float32)


def _local(source: data.Source, given: Radiomics) -> np.ndarray:
    """Maps of the local feature, one a radius, [N, Z, Y, X, L]."""
    image, region = source.x[..., 0], source.x[..., 1] > 0
    if not given.radii:
        return np.zeros((*image.shape, 0), np.float32)
    levels = np.zeros(image.shape, np.int32)
    for i in range(len(levels)):
        levels[i][region[i]] = bins.on_host(
            image[i][region[i]],
            bin_width=given.bin_width,
            bin_count=given.bin_count,
        )
    rows = int(levels.max())
    found = []
    for start in range(0, len(levels), _BLOCK):
        # The last block goes back, so that all have one shape.
        at = max(min(start, len(levels) - _BLOCK), 0)
        block = slice(at, at + _BLOCK)
        made = _maps(
            np.where(region[block], image[block], 0),
            levels[block],
            rows,
            given.local,
            given.radii,
        )
        found.append(np.asarray(made)[start - at :])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _maps(
    image: jax.Array,
    levels: jax.Array,
    rows: int,
    name: str,
    radii: tuple[int, ...],
) -> jax.Array:
    def one(values: jax.Array, grey: jax.Array) -> jax.Array:
        found = [
            maps.maps(values, grey, rows, names=(name,), radius=radius, empty=0)
            for radius in radii
        ]
        return jax.numpy.stack([each[name] for each in found], -1)

    return jax.vmap(one)(image, levels)


def _spacing(source: data.Source) -> Any:
    """Of voxels, mm; 1 where the source does not tell it."""
    return (source.aux or {}).get("spacing", (1.0, 1.0, 1.0))


def _check(source: data.Source, split: str) -> None:
    where = f"{source.name}/{split}"
    if source.x.ndim != 5 or source.x.shape[-1] != CHANNELS:
        raise checks.UsageError(
            f"the inputs of {where} have shape {source.x.shape}, but must be"
            " volumes [N, Z, Y, X, 2]: intensities, and a region."
        )
    if len(source.classes) != 2:
        raise checks.UsageError(
            f"{where} has {len(source.classes)} classes, but the network"
            " tells two apart."
        )
    empty = np.flatnonzero((source.x[..., 1] > 0).sum((1, 2, 3)) < 2)
    if len(empty):
        raise checks.UsageError(
            f"the region of volume {empty[0]} of {where} has less than two"
            " voxels; leave it out."
        )
