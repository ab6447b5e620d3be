"""Filtered images of a volume, pyradiomics' image types.

They are computed with SimpleITK and PyWavelets, as by pyradiomics 3.0.1.
"""

from collections.abc import Iterator, Sequence
import importlib
import logging
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import volumes
from jaxedge.data.volumes import Volume

IMAGE_TYPES = (
    "Original",
    "LoG",
    "Wavelet",
    "Square",
    "SquareRoot",
    "Logarithm",
    "Exponential",
    "Gradient",
)
# What pyradiomics has besides, and what it needs for them.
NOT_BUILT = {"LBP2D": "scikit-image", "LBP3D": "trimesh"}

_log = logging.getLogger(__name__)


class Filters(NamedTuple):
    """Settings of the image types.

    Attributes:
        sigma: widths of the Laplacian of Gaussian, mm, each above 0; its name
            has a number as it is given, 3 or 3.0.
        wavelet: name of PyWavelets.
        level: how many levels of decompositions are given, at least 1.
        start_level: how many come before them.
        plane: axis of [Z, Y, X] along which wavelets leave the image alone;
            None for none.
        use_spacing: whether the gradient is one per mm, not per voxel.
    """

    sigma: Sequence[float] = ()
    wavelet: str = "coif1"
    level: int = 1
    start_level: int = 0
    plane: int | None = None
    use_spacing: bool = True


DEFAULTS = Filters()


def images(
    image: Volume, kind: str, filters: Filters = DEFAULTS
) -> Iterator[tuple[str, Volume]]:
    """Filtered images of one type, with pyradiomics' names.

    A Laplacian of Gaussian for which the image is too small is left out, with a
    warning, as by pyradiomics.

    Args:
        image: the whole image: filters look beyond the region.
        kind: one of `IMAGE_TYPES`.
        filters: their settings.

    Yields:
        Name, such as "wavelet-LLH", and image.

    Raises:
        UsageError: for an unknown type, or a setting that is out of range.
    """
    if kind in NOT_BUILT:
        raise checks.UsageError(
            f"image type {kind!r} is not built (pyradiomics needs"
            f" {NOT_BUILT[kind]} for it); use some of {', '.join(IMAGE_TYPES)}."
        )
    checks.choice("image type", kind, IMAGE_TYPES)
    if kind == "LoG":
        yield from _log_images(image, filters.sigma)
    elif kind == "Wavelet":
        yield from wavelets(image, filters)
    elif kind == "Gradient":
        yield "gradient", gradient(image, use_spacing=filters.use_spacing)
    elif kind == "Original":
        yield "original", image
    else:
        yield kind.lower(), pointwise(image, kind)


def laplacian(image: Volume, sigma: float) -> Volume:
    """The Laplacian of a Gaussian, normalised across scales.

    Args:
        image: any real dtype.
        sigma: width of the Gaussian, mm, above 0.

    Returns:
        float32, or float64 where the image is.

    Raises:
        UsageError: for an image of fewer than 4 voxels, or sigma / spacing + 1,
            along an axis.
    """
    checks.in_range("sigma", sigma, 0, open_low=True)
    if fault := _too_small(image, sigma):
        raise checks.UsageError(fault)
    filtered = volumes.simpleitk().LaplacianRecursiveGaussianImageFilter()
    filtered.SetNormalizeAcrossScale(True)
    filtered.SetSigma(float(sigma))
    return volumes.from_image(filtered.Execute(volumes.to_image(image)))


def _too_small(image: Volume, sigma: float) -> str:
    """Why a Laplacian of this width cannot be had, or nothing."""
    n = image.dimensions
    size = np.array(image.array_ZxYxX.shape[-n:])
    needed = np.maximum(np.ceil(sigma / image.spacing[-n:]) + 1, 4)
    if (size >= needed).all():
        return ""
    return (
        f"a Laplacian of Gaussian of sigma {sigma} mm needs"
        f" {volumes.shown(needed)} voxels, but the image has"
        f" {volumes.shown(size)}; take a smaller sigma, or more of the image"
        " (padDistance)."
    )


def _log_images(
    image: Volume, sigma: Sequence[float]
) -> Iterator[tuple[str, Volume]]:
    for width in sigma:
        if fault := _too_small(image, width):
            _log.warning("left out: %s", fault)
            continue
        title = f"log-sigma-{str(width).replace('.', '-')}-mm-3D"
        yield title, laplacian(image, width)


def gradient(image: Volume, *, use_spacing: bool = True) -> Volume:
    """The magnitude of the gradient, per mm or per voxel."""
    filtered = volumes.simpleitk().GradientMagnitudeImageFilter()
    filtered.SetUseImageSpacing(use_spacing)
    return volumes.from_image(filtered.Execute(volumes.to_image(image)))


def pointwise(image: Volume, kind: str) -> Volume:
    """A function of each intensity, scaled so that the largest |x| stays.

    With m = max |x| over the image: Square x^2 / m; SquareRoot
    sign(x) sqrt(m |x|); Logarithm sign(x) log(1 + |x|) m / log(1 + m);
    Exponential m^(x / m).

    Args:
        image: any real dtype; not 0 everywhere.
        kind: the name of one of them.

    Returns:
        float64.

    Raises:
        UsageError: for another name, or an image of zeros.
    """
    x = image.array_ZxYxX.astype(np.float64)
    m = np.abs(x).max()
    if m == 0:
        raise checks.UsageError(
            f"image type {kind!r} divides by the largest intensity, which is 0."
        )
    size = np.abs(x)
    # The roundings are those of pyradiomics, so that what lies on the edge of a
    # bin falls to the same side.
    if kind == "Square":
        return image.of((1 / np.sqrt(m) * x) ** 2)
    if kind == "SquareRoot":
        return image.of(np.sign(x) * np.sqrt(size * m))
    if kind == "Logarithm":
        return image.of(np.sign(x) * np.log(size + 1) * (m / np.log(m + 1)))
    checks.choice("kind", kind, ("Exponential",))
    return image.of(np.exp(np.log(m) / m * x))


def wavelets(
    image: Volume, filters: Filters = DEFAULTS
) -> Iterator[tuple[str, Volume]]:
    """Stationary wavelet transforms: details of each level, then what is left.

    Of a name such as "wavelet-LLH", the letters are low or high pass along x, y
    and z; that of level n has its number from 2 on, "wavelet2-LLH". An odd axis
    is made even by its first slice, put behind the last. Each level is the
    first level of the approximation before, as in pyradiomics, whose holes a
    transform of several levels would have widened.

    Args:
        image: any real dtype.
        filters: wavelet, level, start_level and plane.

    Yields:
        Name and image.

    Raises:
        UsageError: for an unknown wavelet.
    """
    pywt = check_wavelet(filters.wavelet)
    checks.whole("level", filters.level, 1)
    checks.whole("start_level", filters.start_level, 0)
    array = image.array_ZxYxX
    here = range(3 - image.dimensions, 3)
    axes = [axis for axis in reversed(here) if axis != filters.plane]
    data = np.pad(
        array, [(0, array.shape[a] % 2 if a in here else 0) for a in range(3)],
        mode="wrap",
    )  # fmt: skip
    part = tuple(slice(0, n) for n in array.shape)
    low = "a" * len(axes)
    for level in range(1 - filters.start_level, filters.level + 1):
        (found,) = pywt.swtn(data, filters.wavelet, 1, axes=axes)
        data = found.pop(low)
        title = "wavelet" if level == 1 else f"wavelet{level}"
        for name, detail in found.items() if level > 0 else ():
            yield f"{title}-{_letters(name)}", image.of(detail[part])
    # The name of the last level, as pyradiomics counts them.
    title = "wavelet" if filters.level == 1 else f"wavelet{filters.level}"
    yield f"{title}-{_letters(low)}", image.of(data[part])


def check_wavelet(name: str) -> Any:
    """PyWavelets, which has a wavelet of this name.

    Raises:
        UsageError: if it has not, or is not installed.
    """
    pywt = _pywavelets()
    known = pywt.wavelist(kind="discrete")
    if name not in known:
        raise checks.unknown("wavelet", name, known)
    return pywt


def _letters(name: str) -> str:
    return name.replace("a", "L").replace("d", "H")


def _pywavelets() -> Any:
    try:
        return importlib.import_module("pywt")
    except ImportError as error:
        raise checks.UsageError(
            "image type 'Wavelet' is computed by PyWavelets, which cannot be"
            f' imported ({error}); pip install "jaxedge[medical]".'
        ) from None
