"""Principal axes of a region, from the centres of its voxels."""

import jax
import jax.numpy as jnp


def axis_lengths(mask: jax.Array, spacing_D: jax.Array) -> jax.Array:
    """Lengths of the axes of the ellipsoid with a region's covariance.

    4 sqrt(eigenvalue), as pyradiomics 3.0.1 and the IBSI (arXiv:1612.07003,
    3.1) have them. In float32 an eigenvalue is as inexact as the greatest, so
    that only their directions are taken, and the variance along each is
    measured anew: it errs by the square of an error of the direction.

    Args:
        mask: bool, of D axes.
        spacing_D: mm along them.

    Returns:
        float32 [D], mm, the shortest first; 0 for a single voxel.
    """
    n = _voxels(mask)
    legs = [centred(mask, axis) * spacing_D[axis] for axis in range(mask.ndim)]
    rows = [
        [_product(mask, legs, a, b) / n for b in range(mask.ndim)]
        for a in range(mask.ndim)
    ]
    covariance = jnp.stack([jnp.stack(row) for row in rows])
    turn = jnp.linalg.eigh(jax.lax.stop_gradient(covariance))[1]
    variances = jnp.stack(
        [_along(mask, legs, turn[:, i]) / n for i in range(mask.ndim)]
    )
    variances = jnp.sort(variances)
    thick = variances > 0  # A root has no gradient at 0.
    return jnp.where(thick, 4 * jnp.sqrt(jnp.where(thick, variances, 1)), 0)


def span(mask: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """First and last place of a region along an axis, int32 []."""
    inside = jnp.any(
        mask, [other for other in range(mask.ndim) if other != axis]
    )
    return jnp.argmax(inside), len(inside) - 1 - jnp.argmax(inside[::-1])


def centred(mask: jax.Array, axis: int) -> jax.Array:
    """Places along an axis from the region's mean, in voxels, float32 [N]."""
    first, last = span(mask, axis)
    # From the middle of the region, so that the mean is small.
    from_middle = jnp.arange(mask.shape[axis]) - (first + last) / 2
    mean = jnp.sum(from_middle * _counts(mask, axis)) / _voxels(mask)
    return from_middle - mean


def _voxels(mask: jax.Array) -> jax.Array:
    """Voxels of a region; 1 for an empty one, so that nothing is NaN."""
    n = jnp.sum(mask, dtype=jnp.int32)
    return jnp.maximum(n, 1).astype(jnp.float32)


def _counts(mask: jax.Array, *axes: int) -> jax.Array:
    """Voxels of the region at each place along some axes."""
    others = [axis for axis in range(mask.ndim) if axis not in axes]
    return jnp.sum(mask, others, dtype=jnp.int32).astype(jnp.float32)


def _product(
    mask: jax.Array, legs: list[jax.Array], a: int, b: int
) -> jax.Array:
    """Sum over the region of the product of two coordinates."""
    if a == b:
        return jnp.sum(legs[a] ** 2 * _counts(mask, a))
    low, high = sorted((a, b))
    products = legs[low][:, None] * legs[high][None] * _counts(mask, low, high)
    return jnp.sum(products)


def _along(
    mask: jax.Array, legs: list[jax.Array], direction_D: jax.Array
) -> jax.Array:
    """Sum over the region of squared coordinates along a direction."""
    place = jnp.zeros((), jnp.float32)
    for axis, leg in enumerate(legs):
        others = [other for other in range(mask.ndim) if other != axis]
        place = place + jnp.expand_dims(leg * direction_D[axis], others)
    squared = jnp.where(mask, place**2, 0)
    for _ in range(mask.ndim):  # Short sums round less than a long one.
        squared = squared.sum(-1)
    return squared / jnp.sum(direction_D**2)
