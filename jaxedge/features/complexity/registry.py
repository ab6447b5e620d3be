"""The measures by name, and the order of modalities by one of them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from jax.core import Tracer
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features import shapes
from jaxedge.features.complexity import (
    components,
    intensities,
    neighbours,
    spatial,
)

# Relative difference of values that are told as equal: rounding of float32.
TIE = 1e-6


class Measure(NamedTuple):
    """A measure of complexity.

    Attributes:
        function: images [N, H, W] or [N, H, W, C] -> scalar, jit- and
            vmap-safe unless on the host; its docstring is the definition.
        of_set: whether it is of the variation between images, and so depends
            on their number.
        on_host: whether it takes no traced images, and returns a float.
    """

    function: Callable[[ArrayLike], Any]
    of_set: bool = False
    on_host: bool = False


MEASURES = {
    "entropy": Measure(intensities.entropy),
    "prediction_entropy": Measure(intensities.prediction_entropy),
    "gradient": Measure(spatial.gradient),
    "spatial_information": Measure(spatial.spatial_information),
    "spectral_entropy": Measure(spatial.spectral_entropy),
    "high_frequency": Measure(spatial.high_frequency),
    "zlib": Measure(intensities.zlib_bits, on_host=True),
    "pca_k95": Measure(components.k95, of_set=True),
    "pca_participation": Measure(components.participation, of_set=True),
    "pca_residual": Measure(components.residual, of_set=True),
    "two_nn": Measure(neighbours.two_nn, of_set=True),
    "levina_bickel": Measure(neighbours.levina_bickel, of_set=True),
}


class Order(NamedTuple):
    """Modalities, the simpler first.

    Attributes:
        names: keys of the modalities, or their places in a sequence.
        values: the measure of each, in the same order.
        ties: names whose values are equal to rounding, a tuple each time; they
            are in the order in which they were given.
    """

    names: tuple[Hashable, ...]
    values: tuple[float, ...]
    ties: tuple[tuple[Hashable, ...], ...]


def names() -> tuple[str, ...]:
    """The names of all measures."""
    return tuple(MEASURES)


def function(name: str) -> Callable[[ArrayLike], Any]:
    """The function of a measure, images -> scalar.

    All but that of "zlib", which runs on the host, can be compiled and mapped.

    Raises:
        UsageError: for an unknown name, with all known ones.
    """
    return _entry(name).function


def measure(images: ArrayLike, name: str) -> float:
    """How complex a set of images is; higher is more complex.

    Args:
        images: [N, H, W] or [N, H, W, C], real, of any dtype, finite. N is at
            least 2 for PCA and 3 for neighbours, H and W at least 2 for what
            looks at neighbouring pixels, and 3 for spatial information.
        name: of `names()`; `function(name)` tells its definition.

    Returns:
        A finite number, at least 0; what a constant set has is told by the
        measure's function.

    Raises:
        UsageError: for an unknown name, another rank, too few or too small
            images, NaN or infinity, or images that are being traced.
    """
    found = _entry(name).function
    if isinstance(images, Tracer):
        raise checks.UsageError(
            f"measure returns a Python number, but images is traced; use"
            f" complexity.function({name!r}) under jit, vmap and grad."
        )
    return float(found(images))


def order(
    modalities: Mapping[Any, ArrayLike] | Sequence[ArrayLike], name: str
) -> Order:
    """Modalities by their complexity, the simpler first.

    Args:
        modalities: the images of each, by name, or in a list or tuple, where
            their names are 0, 1, ...; all of one size [H, W] or [H, W, C], and
            of one N for a measure of the variation between images.
        name: of `names()`.

    Returns:
        The order; ties are told.

    Raises:
        UsageError: as in `measure`, or for modalities that cannot be compared.
    """
    entry = _entry(name)
    given = _given(modalities)
    _comparable(given, name, entry)
    values = {label: _told(label, x, name) for label, x in given.items()}
    groups = _groups(values)
    ranked = [label for group in groups for label in group]
    return Order(
        names=tuple(ranked),
        values=tuple(values[label] for label in ranked),
        ties=tuple(tuple(group) for group in groups if len(group) > 1),
    )


def _entry(name: Any) -> Measure:
    if not isinstance(name, str) or name not in MEASURES:
        raise checks.unknown("measure of complexity", name, MEASURES)
    return MEASURES[name]


def _given(modalities: Any) -> dict[Any, Any]:
    """The modalities by name."""
    if isinstance(modalities, Sequence) and not isinstance(modalities, str):
        modalities = dict(enumerate(modalities))
    if not isinstance(modalities, Mapping) or not modalities:
        raise checks.UsageError(
            "modalities must be a dict of names and images, or a list of"
            f" images, but is {type(modalities).__name__}"
            f"{' without any' if isinstance(modalities, Mapping) else ''}."
        )
    return dict(modalities)


def _comparable(given: Mapping[Any, Any], name: str, entry: Measure) -> None:
    """Raises unless a number of one modality can be beside another's."""
    (first, shape), *rest = (
        (label, shapes.known(f"modality {label!r}", images).shape)
        for label, images in given.items()
    )
    for label, other in rest:
        if other[1:] != shape[1:]:
            raise checks.UsageError(
                f"{label!r} has images of shape {other[1:]} and {first!r} of"
                f" {shape[1:]}; resample them to one size to compare them."
            )
        if entry.of_set and other[:1] != shape[:1]:
            least = min(other[0], shape[0])
            raise checks.UsageError(
                f"{label!r} has {other[0]} images and {first!r} {shape[0]}, but"
                f" {name} depends on their number; give {least} of each."
            )


def _told(label: Any, images: Any, name: str) -> float:
    """`measure`, whose errors tell the modality."""
    try:
        return measure(images, name)
    except checks.UsageError as error:
        raise checks.UsageError(f"modality {label!r}: {error}") from None


def _groups(values: Mapping[Any, float]) -> list[list[Any]]:
    """Names by value, those in one list that are equal to rounding."""
    groups, last = [], None
    for label in sorted(values, key=lambda k: values[k]):
        value = values[label]
        if last is not None and value - last <= TIE * abs(value):
            groups[-1].append(label)
        else:
            groups.append([label])
        last = value
    place = {label: i for i, label in enumerate(values)}
    return [sorted(group, key=lambda k: place[k]) for group in groups]
