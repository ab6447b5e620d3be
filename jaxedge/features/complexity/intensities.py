"""Complexity of grey levels: their histogram, and how far they compress.

A level is floor(256 u), at most 255, of a value u on the robust range.

Letters: N images of H rows, W columns and C channels.
"""

import zlib

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.features.complexity import stacks

LEVELS = 256  # of the histogram, and of a byte
ZLIB_LEVEL = 9  # of 0 to 9: the most that zlib tries
_RAW = -15  # the largest window, 32 KiB, and neither header nor checksum


def entropy(images: ArrayLike) -> jax.Array:
    """Shannon entropy of the grey levels of the set, in bits.

    -sum_b p_b log2 p_b, p_b the share of all values of all images at level b of
    256; values beyond the robust range are at the levels at its ends. Blind to
    where a level is. Few values give too low an entropy, by about 255 / (2 n ln
    2) bits for n values at all levels (Miller 1955). Source: Shannon 1948.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite.

    Returns:
        A scalar of at least float32 in [0, 8]; 0 for a constant set.

    Raises:
        UsageError: for another rank, no images, NaN or infinity.
    """
    return _entropy(stacks.checked("entropy", images))


@jax.jit
def _entropy(x: jax.Array) -> jax.Array:
    return _bits(_levels(x), LEVELS).astype(x.dtype)


def prediction_entropy(images: ArrayLike) -> jax.Array:
    """Shannon entropy of what the neighbours of a pixel do not tell, in bits.

    A level is predicted by the median of a, b and a + b - c, with a on the
    left, b above and c above on the left: the predictor of LOCO-I (Weinberger,
    Seroussi and Sapiro, IEEE Trans. Image Process. 9, 2000), which JPEG-LS
    uses. The entropy is that of the errors, from -255 to 255, of all images at
    the (H - 1) (W - 1) pixels that have all three. What a code of single errors
    takes per value at least; it has no contexts and no runs, which JPEG-LS has.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; H and W at least 2.

    Returns:
        A scalar of at least float32 in [0, 9]; 0 for a constant set.

    Raises:
        UsageError: for another rank, too small images, NaN or infinity.
    """
    x = stacks.checked("prediction_entropy", images, side=2)
    return _prediction_entropy(x)


@jax.jit
def _prediction_entropy(x: jax.Array) -> jax.Array:
    level = _levels(x)
    left, above = level[:, 1:, :-1], level[:, :-1, 1:]
    low, high = jnp.minimum(left, above), jnp.maximum(left, above)
    predicted = jnp.clip(left + above - level[:, :-1, :-1], low, high)
    error = level[:, 1:, 1:] - predicted + LEVELS - 1
    return _bits(error, 2 * LEVELS - 1).astype(x.dtype)


def _levels(x: jax.Array) -> jax.Array:
    level = jnp.minimum(stacks.robust(x) * LEVELS, LEVELS - 1)
    return level.astype(jnp.int32)


def _bits(number: jax.Array, length: int) -> jax.Array:
    """Entropy of whole numbers in [0, length)."""
    count_L = jnp.bincount(jnp.ravel(number), length=length)
    p_L = count_L / number.size
    # Not below 0 by rounding, nor -0 for a single number.
    return jnp.maximum(-jnp.sum(p_L * jnp.log2(jnp.where(p_L > 0, p_L, 1))), 0)


def zlib_bits(images: ArrayLike) -> float:
    """Bits a value that an image takes, compressed by zlib.

    Levels are bytes. Those of each image, rows first and channels last, are
    compressed by themselves with zlib at level 9 as a raw deflate stream
    without header and checksum, and the bytes of all images are counted. zlib
    looks for repeated strings and knows nothing of neighbours above, so that a
    smooth image of many levels takes more than a rough one of few. Runs on the
    host, in float64: it neither compiles nor has a gradient. The number depends
    on the build of zlib, whose version is `zlib.ZLIB_RUNTIME_VERSION`: compare
    only what one program computed. A few bytes a stream count much in images of
    less than a thousand values.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite.

    Returns:
        At most slightly above 8; a few bytes an image for a constant set.

    Raises:
        UsageError: for another rank, no images, NaN or infinity, or images that
            are being traced.
    """
    if isinstance(images, Tracer):
        raise checks.UsageError(
            "zlib compresses on the host, but images is traced; call it outside"
            " of jit, vmap and grad, or choose another measure."
        )
    x = np.asarray(stacks.checked("zlib", images), np.float64)
    level = np.minimum(stacks.robust_on_host(x) * LEVELS, LEVELS - 1)
    total = sum(_deflated(image) for image in level.astype(np.uint8))
    return 8 * total / x.size


def _deflated(image: np.ndarray) -> int:
    """The bytes of one image."""
    stream = zlib.compressobj(ZLIB_LEVEL, zlib.DEFLATED, _RAW)
    return len(stream.compress(image.tobytes())) + len(stream.flush())
