"""How alike the intensities of near voxels are: Moran's I and Geary's C.

With weights w_ij = 1 / distance of two voxels of the region (IBSI,
arXiv:1612.07003, 3.1). Sums over all pairs are convolutions with 1 / distance,
by Fourier transforms of twice the size: for N voxels N log N, not N^2, steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.features.radiomics import moments


class Autocorrelation(NamedTuple):
    """Both measures, float32 [].

    Attributes:
        moran: Moran's I, 0 for a constant region.
        geary: Geary's C, 1 for a constant region.
    """

    moran: jax.Array
    geary: jax.Array


def autocorrelation(
    values_ZxYxX: jax.Array, mask_ZxYxX: jax.Array, spacing_3: jax.Array
) -> Autocorrelation:
    """Moran's I and Geary's C of a region.

    Args:
        values_ZxYxX: intensities, finite inside.
        mask_ZxYxX: bool.
        spacing_3: mm along (z, y, x).

    Returns:
        The two measures; those of no correlation where nothing varies.
    """
    inside = mask_ZxYxX.astype(jnp.float32)
    n = jnp.maximum(jnp.sum(mask_ZxYxX, dtype=jnp.int32), 1)
    low = jnp.min(jnp.where(mask_ZxYxX, values_ZxYxX, jnp.inf))
    high = jnp.max(jnp.where(mask_ZxYxX, values_ZxYxX, -jnp.inf))
    values = _from_mean(values_ZxYxX, mask_ZxYxX)
    near_2 = _near(jnp.stack([inside, values]), spacing_3)
    squares = total(values**2)
    products = total(near_2[1] * values)
    # w (a - b)^2 = w a^2 + w b^2 - 2 w a b.
    apart = 2 * (total(near_2[0] * values**2) - products)
    varies = (low < high) & (squares > 0)
    mean_weight = jnp.where(varies, total(near_2[0] * inside) / n, 1)
    squares = jnp.where(varies, squares, 1)
    return Autocorrelation(
        jnp.where(varies, products / squares / mean_weight, 0.0),
        jnp.where(
            varies, (n - 1) / n * (apart / squares / mean_weight) / 2, 1.0
        ),
    )


def _from_mean(values_ZxYxX: jax.Array, mask_ZxYxX: jax.Array) -> jax.Array:
    """Differences of intensities from their mean, 0 outside."""
    values = jnp.where(mask_ZxYxX, values_ZxYxX.astype(jnp.float32), 0)
    n = jnp.maximum(jnp.sum(mask_ZxYxX, dtype=jnp.int32), 1)
    for _ in range(2):  # A large mean is rounded, that of differences is not.
        values = jnp.where(mask_ZxYxX, values - total(values) / n, 0)
    return values


def _near(arrays_KxZxYxX: jax.Array, spacing_3: jax.Array) -> jax.Array:
    """Sum over all other voxels of their values / distance."""
    shape = arrays_KxZxYxX.shape[1:]
    sizes = tuple(_room(2 * n - 1) for n in shape)
    squared = jnp.zeros((), jnp.float32)
    for axis, n in enumerate(sizes):
        others = [other for other in range(3) if other != axis]
        steps = np.minimum(np.arange(n), n - np.arange(n)).astype(np.float32)
        leg = jnp.expand_dims(steps * spacing_3[axis], others)
        squared = squared + leg**2
    apart = squared > 0
    weights = jnp.where(apart, 1 / jnp.sqrt(jnp.where(apart, squared, 1)), 0)
    axes = (1, 2, 3)
    spectrum = jnp.fft.rfftn(arrays_KxZxYxX, sizes, axes)
    spectrum = spectrum * jnp.fft.rfftn(weights[None], axes=axes)
    found = jnp.fft.irfftn(spectrum, sizes, axes)
    return found[:, : shape[0], : shape[1], : shape[2]]


def _room(n: int) -> int:
    """The next size with no prime factor above 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def shift(
    values_ZxYxX: jax.Array, mask_ZxYxX: jax.Array, spacing_3: jax.Array
) -> jax.Array:
    """Distance of the centre of mass of the intensities from the region's.

    Args:
        values_ZxYxX: intensities, finite inside.
        mask_ZxYxX: bool.
        spacing_3: mm along (z, y, x).

    Returns:
        float32 [], mm; 0 where the intensities add up to 0, which leaves no
        centre.
    """
    values = _from_mean(values_ZxYxX, mask_ZxYxX)
    moments_3 = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        # The mean, which adds nothing from the region's own centre, would
        # round the rest.
        at = moments.centred(mask_ZxYxX, axis)
        moments_3.append(jnp.sum(at * values.sum(others)))
    mass = total(jnp.where(mask_ZxYxX, values_ZxYxX, 0).astype(jnp.float32))
    shifted = jnp.stack(moments_3) * spacing_3 / jnp.where(mass == 0, 1, mass)
    return jnp.where(mass == 0, 0.0, jnp.sqrt(jnp.sum(shifted**2)))


def total(array_ZxYxX: jax.Array) -> jax.Array:
    """Sum of a volume, axis by axis: short sums round less than a long one."""
    for _ in range(3):
        array_ZxYxX = array_ZxYxX.sum(-1)
    return array_ZxYxX
