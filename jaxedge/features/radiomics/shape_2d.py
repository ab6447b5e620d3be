"""Size and shape of a region of one slice, as pyradiomics' shape2D.

pyradiomics 3.0.1 leaves out spherical disproportion, the inverse of sphericity.
The IBSI has no such features (arXiv:1612.07003, 3.1, is of volumes).
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features.radiomics import diameters, mesh, moments


def features(mask_YxX: ArrayLike, spacing_2: ArrayLike) -> dict[str, jax.Array]:
    """Features of the shape of a region of a slice.

    Args:
        mask_YxX: true or not 0 inside; the region may touch the border.
        spacing_2: positive, mm along (y, x).

    Returns:
        Name of pyradiomics -> float32 []. The elongation of a single pixel is
        NaN, as it is there. An empty region has finite numbers without meaning.

    Raises:
        UsageError: for another rank, or a spacing that is not positive.
    """
    mask, spacing = jnp.asarray(mask_YxX), jnp.asarray(spacing_2, jnp.float32)
    if mask.ndim != 2 or spacing.shape != (2,):
        raise checks.UsageError(
            f"mask has shape {mask.shape} and spacing {spacing.shape}, but must"
            " be [Y, X] and 2 numbers (y, x); `shape` measures a volume, and"
            " jax.vmap maps over slices."
        )
    checks.in_range("spacing", spacing, 0, open_low=True)
    return _features(mask != 0, spacing)


@jax.jit
def _features(mask: jax.Array, spacing: jax.Array) -> dict[str, jax.Array]:
    squares_16 = mesh.squares(mask)
    some = jnp.any(mask)
    perimeter = jnp.where(some, mesh.perimeter(squares_16, spacing), 1.0)
    surface = jnp.where(some, mesh.surface(squares_16, spacing), 1.0)
    minor, major = moments.axis_lengths(mask, spacing)
    pixels = jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)
    return {
        "Elongation": jnp.where(some, minor / major, 0.0),
        "MajorAxisLength": major,
        "MaximumDiameter": diameters.diameter(mask, spacing),
        "MeshSurface": surface,
        "MinorAxisLength": minor,
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / surface,
        "PixelSurface": pixels * jnp.prod(spacing),
        "Sphericity": 2 * jnp.sqrt(math.pi * surface) / perimeter,
    }
