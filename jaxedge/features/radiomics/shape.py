"""Size and shape of a region of a volume.

pyradiomics 3.0.1 and the IBSI (arXiv:1612.07003, 3.1) share their definitions
here; what differs:

- pyradiomics leaves out, by default, what follows from area and volume alone
  (compactness, disproportion, asphericity), and has no densities, centre of
  mass or autocorrelation;
- pyradiomics divides the covariance of N voxels by N; the IBSI's reference
  values are those of N - 1, which makes its axes longer by sqrt(N / (N - 1));
- the IBSI leaves out the largest distances within planes, and lets any
  triangulation be taken: it is pyradiomics' here too (see `mesh`).

The mesh lies inside the voxels' corners, so a single voxel has a sixth of its
volume.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.radiomics import diameters, mesh, moments, spatial
from jaxedge.features.radiomics import options as options_lib

_TERMS = 20  # Of the series for the area of an ellipsoid.


def features(
    mask_ZxYxX: ArrayLike,
    spacing_3: ArrayLike,
    *,
    values_ZxYxX: ArrayLike | None = None,
    definitions: str = "pyradiomics",
) -> dict[str, jax.Array]:
    """Features of the shape of a region.

    Args:
        mask_ZxYxX: true or not 0 inside; the region may touch the border.
        spacing_3: positive, mm along (z, y, x).
        values_ZxYxX: intensities, of which the IBSI's morph_com,
            morph_integ_int, morph_moran_i and morph_geary_c are made; without
            them these are left out.
        definitions: "pyradiomics" for its 14 features, or "ibsi" for the tags
            of the IBSI, such as "morph_volume", but for the two of the convex
            hull, which `hull_densities` has.

    Returns:
        Name -> float32 []. Elongation and flatness of a single voxel are NaN,
        as they are in pyradiomics; densities in an ellipsoid of no volume or
        area are infinite. An empty region has finite numbers without meaning.

    Raises:
        UsageError: for another rank, arrays of different shapes, a spacing that
            is not positive, values that are NaN inside, or other definitions.
    """
    options_lib.check_definitions(definitions)
    mask, spacing = _checked(mask_ZxYxX, spacing_3)
    if definitions == "pyradiomics":
        return _pyradiomics(mask, spacing)
    if values_ZxYxX is None:
        return _ibsi(mask, spacing)
    values = jnp.asarray(values_ZxYxX)
    if values.shape != mask.shape:
        raise checks.UsageError(
            f"values have shape {values.shape} and the mask {mask.shape}; both"
            " must be one [Z, Y, X]."
        )
    values = jnp.where(mask, values, 0).astype(jnp.float32)
    checks.finite("values inside the mask", values)
    return _ibsi(mask, spacing) | _of_values(values, mask, spacing)


def hull_densities(
    mask_ZxYxX: ArrayLike, spacing_3: ArrayLike
) -> dict[str, float]:
    """Volume and area of a region's mesh in proportion to its convex hull's.

    On the host, with scipy: a hull has no size that is known before it is made.

    Args:
        mask_ZxYxX: true or not 0 inside, with a voxel at least.
        spacing_3: positive, mm along (z, y, x).

    Returns:
        The IBSI's "morph_vol_dens_conv_hull" and "morph_area_dens_conv_hull".

    Raises:
        UsageError: for an empty mask, another rank, or a spacing that is not
            positive.
    """
    # Only host code needs scipy, and this room loads without it.
    from scipy import spatial as scipy_spatial

    mask, spacing = _checked(mask_ZxYxX, spacing_3)
    if not mask.any():
        raise checks.UsageError("mask is empty, so that it has no hull.")
    hull = scipy_spatial.ConvexHull(
        _faces(np.asarray(mask)) * np.asarray(spacing)
    )
    volume, area = _surface(mask, spacing)
    return {
        "morph_vol_dens_conv_hull": float(volume) / hull.volume,
        "morph_area_dens_conv_hull": float(area) / hull.area,
    }


def _checked(
    mask_ZxYxX: ArrayLike, spacing_3: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Mask as bool and spacing as float32."""
    mask, spacing = jnp.asarray(mask_ZxYxX), jnp.asarray(spacing_3, jnp.float32)
    if mask.ndim != 3 or spacing.shape != (3,):
        raise checks.UsageError(
            f"mask has shape {mask.shape} and spacing {spacing.shape}, but must"
            " be [Z, Y, X] and 3 numbers (z, y, x); `shape_2d` measures a"
            " slice, and jax.vmap maps over volumes."
        )
    checks.in_range("spacing", spacing, 0, open_low=True)
    return mask != 0, spacing


def _faces(mask: np.ndarray) -> np.ndarray:
    """Middles of the faces between inside and outside, [N, 3], in voxels."""
    padded = np.pad(mask, 1)
    found = []
    for axis in range(3):
        bare = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64)
        bare[:, axis] += 0.5
        found.append(bare)
    return np.concatenate(found)


@jax.jit
def _surface(
    mask: jax.Array, spacing: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Volume and area of the mesh; 1 for an empty region."""
    cubes_256 = mesh.cubes(mask)
    empty = ~jnp.any(mask)
    volume = mesh.volume(mask, cubes_256, spacing)
    area = mesh.area(cubes_256, spacing)
    return jnp.where(empty, 1.0, volume), jnp.where(empty, 1.0, area)


def _ratio(part: jax.Array, whole: jax.Array, mask: jax.Array) -> jax.Array:
    """A quotient that is 0 for an empty region."""
    return jnp.where(jnp.any(mask), part / whole, 0.0)


@jax.jit
def _pyradiomics(mask: jax.Array, spacing: jax.Array) -> dict[str, jax.Array]:
    volume, area = _surface(mask, spacing)
    least, minor, major = moments.axis_lengths(mask, spacing)
    across_3, largest = diameters.diameters(mask, spacing)
    return {
        "Elongation": _ratio(minor, major, mask),
        "Flatness": _ratio(least, major, mask),
        "LeastAxisLength": least,
        "MajorAxisLength": major,
        "Maximum2DDiameterColumn": across_3[1],
        "Maximum2DDiameterRow": across_3[2],
        "Maximum2DDiameterSlice": across_3[0],
        "Maximum3DDiameter": largest,
        "MeshVolume": volume,
        "MinorAxisLength": minor,
        "Sphericity": _ball_area(volume) / area,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "VoxelVolume": _voxels(mask) * jnp.prod(spacing),
    }


@jax.jit
def _ibsi(mask: jax.Array, spacing: jax.Array) -> dict[str, jax.Array]:
    volume, area = _surface(mask, spacing)
    ball = _ball_area(volume)
    n = _voxels(mask)
    longer = jnp.sqrt(n / jnp.maximum(n - 1, 1))
    axes_3 = longer * moments.axis_lengths(mask, spacing)
    least, minor, major = axes_3
    z, y, x = _box(mask) * spacing
    ellipsoid = math.pi / 6 * jnp.prod(axes_3)
    return {
        "morph_volume": volume,
        "morph_vol_approx": n * jnp.prod(spacing),
        "morph_area_mesh": area,
        "morph_av": area / volume,
        "morph_comp_1": volume / (math.sqrt(math.pi) * area * jnp.sqrt(area)),
        "morph_comp_2": (ball / area) ** 3,
        "morph_sph_dispr": area / ball,
        "morph_sphericity": ball / area,
        "morph_asphericity": area / ball - 1,
        "morph_diam": diameters.diameters(mask, spacing).largest,
        "morph_pca_maj_axis": major,
        "morph_pca_min_axis": minor,
        "morph_pca_least_axis": least,
        "morph_pca_elongation": _ratio(minor, major, mask),
        "morph_pca_flatness": _ratio(least, major, mask),
        "morph_vol_dens_aabb": _ratio(volume, z * y * x, mask),
        "morph_area_dens_aabb": _ratio(area, 2 * (z * y + y * x + x * z), mask),
        "morph_vol_dens_aee": _ratio(volume, ellipsoid, mask),
        "morph_area_dens_aee": _ratio(area, _ellipsoid_area(axes_3), mask),
    }


@jax.jit
def _of_values(
    values: jax.Array, mask: jax.Array, spacing: jax.Array
) -> dict[str, jax.Array]:
    """The IBSI's features of the intensities inside."""
    volume, _ = _surface(mask, spacing)
    found = spatial.autocorrelation(values, mask, spacing)
    mean = spatial.total(values) / jnp.maximum(_voxels(mask), 1)
    return {
        "morph_com": spatial.shift(values, mask, spacing),
        "morph_integ_int": volume * mean,
        "morph_moran_i": found.moran,
        "morph_geary_c": found.geary,
    }


def _voxels(mask: jax.Array) -> jax.Array:
    return jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)


def _ball_area(volume: jax.Array) -> jax.Array:
    """Area of the ball of some volume: (36 pi V^2)^(1/3)."""
    return math.cbrt(36 * math.pi) * jnp.cbrt(volume) ** 2


def _box(mask: jax.Array) -> jax.Array:
    """Voxels along each side of the box around a region, [3]."""
    ends = [moments.span(mask, axis) for axis in range(3)]
    return jnp.stack([last - first + 1 for first, last in ends])


def _ellipsoid_area(axes_3: jax.Array) -> jax.Array:
    """What the IBSI takes for the area of an ellipsoid (RDD2).

    4 pi a b sum_v (alpha beta)^v / (1 - 4 v^2) P_v((alpha^2 + beta^2) /
    (2 alpha beta)), alpha^2 = 1 - b^2 / a^2, beta^2 = 1 - c^2 / a^2, for half
    axes a >= b >= c and Legendre polynomials P_v. The true area is that of
    beta^2 = 1 - c^2 / b^2 and alpha^2 = 1 - c^2 / a^2, but the IBSI's reference
    value is of the former: 1.36 for its digital phantom, not 1.30. The factor
    (alpha beta)^v goes into the recurrence of the polynomials, so that a ball
    divides nothing by 0.
    """
    c, b, a = axes_3 / 2
    squared = jnp.where(a > 0, a, 1) ** 2
    alpha = 1 - b**2 / squared
    beta = 1 - c**2 / squared
    before, now = jnp.ones(()), (alpha + beta) / 2
    total = before - now / 3
    for v in range(2, _TERMS + 1):
        after = (2 * v - 1) * (alpha + beta) / 2 * now
        after = (after - (v - 1) * alpha * beta * before) / v
        before, now = now, after
        total = total + now / (1 - 4 * v**2)
    return 4 * math.pi * a * b * total
