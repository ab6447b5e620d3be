"""Complexity within images: edges, and frequencies.

Letters: N images of H rows, W columns and C channels, each channel a plane of
its own; frequencies are in cycles a pixel.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.features.complexity import stacks

HIGH = 0.25  # cycles a pixel: half of the largest along an axis


def gradient(images: ArrayLike) -> jax.Array:
    """Mean magnitude of the gradient, in robust ranges a pixel.

    sqrt(dx^2 + dy^2) with differences to the next pixel on the right and below,
    the set on its robust range, averaged over the (H - 1) (W - 1) pixels that
    have both. A difference over two pixels would not see a checkerboard.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; H and W at least 2.

    Returns:
        A scalar of at least float32 in [0, sqrt(2)]; 0 for a constant set.

    Raises:
        UsageError: for another rank, too small images, NaN or infinity.
    """
    return _gradient(stacks.checked("gradient", images, side=2))


@jax.jit
def _gradient(x: jax.Array) -> jax.Array:
    x = stacks.robust(x)
    right = x[:, :-1, 1:] - x[:, :-1, :-1]
    below = x[:, 1:, :-1] - x[:, :-1, :-1]
    # Row by row, so that rounding does not grow with the size of the set.
    row_NxHxC = jnp.mean(_root(right**2 + below**2), axis=2)
    return jnp.mean(jnp.mean(row_NxHxC, axis=(1, 2)))


def spatial_information(images: ArrayLike) -> jax.Array:
    """Spatial information: how much the strength of edges varies in an image.

    The standard deviation over pixels (of the population) of the magnitude of
    the Sobel filter, [1, 2, 1] across and [-1, 0, 1] along, at the pixels whose
    neighbours are all inside. Recommendation ITU-T P.910 takes the largest over
    the frames of a video, which grows with their number; this is the mean over
    images. Its luminance has 8 or more bits; here a set has its robust range.
    Blind to a checkerboard, and to edges that are equally strong everywhere.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; H and W at least 3.

    Returns:
        A scalar of at least float32, in robust ranges, at least 0; 0 for a
        constant set.

    Raises:
        UsageError: for another rank, too small images, NaN or infinity.
    """
    x = stacks.checked("spatial_information", images, side=3)
    return _spatial_information(x)


@jax.jit
def _spatial_information(x: jax.Array) -> jax.Array:
    x = stacks.robust(x)
    rows = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    columns = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    along_x = rows[:, :, 2:] - rows[:, :, :-2]
    along_y = columns[:, 2:] - columns[:, :-2]
    edge = _root(along_x**2 + along_y**2)
    return jnp.mean(_root(jnp.var(edge, axis=(1, 2))))


def spectral_entropy(images: ArrayLike) -> jax.Array:
    """Entropy of the mean power spectrum, as a share of the largest.

    |DFT|^2 of every image without its mean, averaged over images and channels,
    is made a distribution over the H W - 1 frequencies; its Shannon entropy is
    divided by log2(H W - 1). White noise has nearly 1, a plain wave nearly 0.
    Without a window: the step from one edge of an image to the opposite one is
    part of it. Source: the spectral entropy of Powell and Percival (J. Phys. A
    12, 1979), in two dimensions; scale and average are ours.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; H and W at least 2.

    Returns:
        A scalar of at least float32 in [0, 1]; 0 if every image is constant.

    Raises:
        UsageError: for another rank, too small images, NaN or infinity.
    """
    return _spectral(stacks.checked("spectral_entropy", images, side=2))


@jax.jit
def _spectral(x: jax.Array) -> jax.Array:
    power_HxW = _power(x)
    p = power_HxW / _positive(jnp.sum(power_HxW))
    bits = -jnp.sum(p * jnp.log2(jnp.where(p > 0, p, 1)))
    most = jnp.log2(jnp.asarray(p.size - 1, p.dtype))
    return jnp.clip(bits / most, 0, 1)


def high_frequency(images: ArrayLike) -> jax.Array:
    """Share of the power at more than a quarter of a cycle a pixel.

    Of the power spectrum of `spectral_entropy`, the part at frequencies of
    sqrt(fx^2 + fy^2) > 1/4 cycles a pixel, in any direction. White noise has
    about 1 - pi / 16. The limit is our choice.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; H and W at least 2.

    Returns:
        A scalar of at least float32 in [0, 1]; 0 if every image is constant.

    Raises:
        UsageError: for another rank, too small images, NaN or infinity.
    """
    return _high(stacks.checked("high_frequency", images, side=2))


@jax.jit
def _high(x: jax.Array) -> jax.Array:
    power_HxW = _power(x)
    along_H, along_W = (jnp.fft.fftfreq(n) for n in power_HxW.shape)
    squared_HxW = along_H[:, None] ** 2 + along_W[None] ** 2
    high = jnp.sum(jnp.where(squared_HxW > HIGH**2, power_HxW, 0))
    return jnp.clip(high / _positive(jnp.sum(power_HxW)), 0, 1)


def _power(x: jax.Array) -> jax.Array:
    """Mean power at each frequency but 0, [H, W]."""
    # Less a pixel of its own, a constant image is exactly 0.
    x = stacks.unit(x)
    power = jnp.abs(jnp.fft.fft2(x - x[:, :1, :1], axes=(1, 2)))
    return jnp.mean(power**2, axis=(0, 3)).at[0, 0].set(0)


def _positive(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)


def _root(x: jax.Array) -> jax.Array:
    """A square root with a gradient of 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(_positive(x)), 0)
