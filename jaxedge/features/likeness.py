"""How alike two images are: error, signal to noise, structural similarity.

Letters: B pairs of images of H rows, W columns and C channels; K pixels along a
side of the window, M scales. Every result is [B], one number a pair, of at
least float32: bfloat16 would not tell two good images apart.

`span` is the width of the range that values may take, L of the papers: 2 for
images in [-1, 1], 1 for [0, 1], 255 for levels.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features import pixels, shapes

# Wang et al. 2004, section III.B and C.
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
# Wang et al. 2003, section 3.2: of the finest scale first.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mae(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The mean of |x - y|.

    Args:
        x: [B, H, W, C], floating point.
        y: likewise.

    Returns:
        [B], at least 0, unit of the images.

    Raises:
        UsageError: for other shapes or types, or NaN.
    """
    return _mae(*_pair(x, y))


def psnr(x: ArrayLike, y: ArrayLike, *, span: ArrayLike) -> jax.Array:
    """The ratio of peak signal to noise, 10 log10(span^2 / mean (x - y)^2).

    Args:
        x: [B, H, W, C], floating point.
        y: likewise.
        span: of the values, positive.

    Returns:
        [B] in decibels; infinite for equal images, with a gradient of 0.

    Raises:
        UsageError: for other shapes or types, NaN, or a span of 0 or less.
    """
    x, y = _pair(x, y)
    _positive("span", span)
    return _psnr(x, y, span)


def ssim(
    x: ArrayLike,
    y: ArrayLike,
    *,
    span: ArrayLike,
    window: int = WINDOW,
    sigma: ArrayLike = SIGMA,
    k1: ArrayLike = K1,
    k2: ArrayLike = K2,
) -> jax.Array:
    """The structural similarity, in the mean over positions and channels.

    Wang et al., IEEE Transactions on Image Processing 13:600 (2004), eq. 13,

        (2 mx my + C1) / (mx^2 + my^2 + C1)
            * (2 sxy + C2) / (sx^2 + sy^2 + C2),

    with C1 = (k1 span)^2, C2 = (k2 span)^2 and the means, variances and
    covariance of a Gaussian window whose weights sum to 1 (eq. 14 to 16). Only
    windows that lie in the image count, and no image is made smaller before.

    Args:
        x: [B, H, W, C], floating point.
        y: likewise.
        span: of the values, positive.
        window: K, pixels, at least 2 and at most H and W.
        sigma: of the window, in pixels, positive.
        k1: positive.
        k2: positive.

    Returns:
        [B] in [-1, 1]; 1 for equal images.

    Raises:
        UsageError: for other shapes or types, NaN, or numbers out of range.
    """
    x, y = _pair(x, y)
    numbers = _numbers(span, sigma, k1, k2)
    _fits(window, x.shape, 1)
    return _ssim(x, y, numbers, int(window))


def ms_ssim(
    x: ArrayLike,
    y: ArrayLike,
    *,
    span: ArrayLike,
    weights: ArrayLike | Sequence[ArrayLike] = WEIGHTS,
    window: int = WINDOW,
    sigma: ArrayLike = SIGMA,
    k1: ArrayLike = K1,
    k2: ArrayLike = K2,
) -> jax.Array:
    """The structural similarity over several scales.

    Wang et al., Asilomar Conference on Signals, Systems and Computers (2003),
    eq. 7: with the two factors of `ssim` in the mean over positions,

        (mean of both at scale M)^w_M * prod_{j < M} (mean of the second)^w_j,

    of each channel, and the mean over channels. A scale has the means of 2 x 2
    pixels of the one before; a row or column that is left over is dropped. A
    mean below 0, which has no such power, counts as 0, with a gradient of 0.

    Args:
        x: [B, H, W, C], floating point. H and W are at least
            window * 2^(M - 1), which is 176 by default.
        y: likewise.
        span: of the values, positive.
        weights: [M], one a scale, the finest first, positive and used as they
            are. Smaller images take fewer: `WEIGHTS[:3]` from a side of 44 on.
        window: K, pixels, at least 2.
        sigma: of the window, in pixels, positive.
        k1: positive.
        k2: positive.

    Returns:
        [B] in [0, 1]; 1 for equal images.

    Raises:
        UsageError: for other shapes or types, NaN, or numbers out of range.
    """
    x, y = _pair(x, y)
    numbers = _numbers(span, sigma, k1, k2)
    weights = shapes.known("weights", weights)
    checks.in_range("weights", weights, 0, open_low=True)
    weights_M = jnp.asarray(weights, x.dtype)
    if weights_M.ndim != 1 or not weights_M.size:
        raise checks.UsageError(
            f"weights has shape {weights_M.shape}, but must be [M], one a"
            " scale."
        )
    _fits(window, x.shape, weights_M.size)
    return _ms_ssim(x, y, weights_M, numbers, int(window))


@jax.jit
def _mae(x: jax.Array, y: jax.Array) -> jax.Array:
    apart = x - y
    # Not |x - y|, whose slope JAX takes to be 1 where they are equal.
    return jnp.mean(apart * jnp.sign(apart), axis=(1, 2, 3))


@jax.jit
def _psnr(x: jax.Array, y: jax.Array, span: Any) -> jax.Array:
    # In units of the span, whose square may not be a number.
    square = jnp.mean(((x - y) / span) ** 2, axis=(1, 2, 3))
    differs = square > 0
    decibels = -10 * jnp.log10(jnp.where(differs, square, 1))
    return jnp.where(differs, decibels, jnp.inf)


@functools.partial(jax.jit, static_argnames="window")
def _ssim(x: jax.Array, y: jax.Array, numbers: Any, window: int) -> jax.Array:
    span, *rest = numbers
    return jnp.mean(_similarity(x / span, y / span, window, *rest)[0], axis=-1)


@functools.partial(jax.jit, static_argnames="window")
def _ms_ssim(
    x: jax.Array, y: jax.Array, weights_M: jax.Array, numbers: Any, window: int
) -> jax.Array:
    span, *rest = numbers
    x, y, product = x / span, y / span, jnp.ones((), x.dtype)
    for scale in range(weights_M.size):
        last = scale == weights_M.size - 1
        both_BxC, contrast_BxC = _similarity(x, y, window, *rest)
        mean = both_BxC if last else contrast_BxC
        counts = mean > 0
        # The slope of a power below 1 is infinite at 0.
        power = jnp.where(counts, mean, 1) ** weights_M[scale]
        product = product * jnp.where(counts, power, 0)
        if not last:
            x, y = _halved(x), _halved(y)
    return jnp.mean(product, axis=-1)


def _similarity(
    x: jax.Array, y: jax.Array, window: int, sigma: Any, k1: Any, k2: Any
) -> tuple[jax.Array, jax.Array]:
    """Both factors of `ssim`, and the second one, [B, C] in the mean.

    Of images in units of their span. Each factor is 1 less a share of what
    differs, so that equal images have exactly 1.
    """
    # Variances do not depend on a level, but their rounding does.
    level = jax.lax.stop_gradient(jnp.mean((x + y) / 2, (1, 2), keepdims=True))
    x, y = x - level, y - level
    maps = jnp.stack([x, y, x * x + y * y, (x - y) ** 2])
    mean_x, mean_y, squares, apart = _windowed(maps, window, sigma)
    apart_means = (mean_x - mean_y) ** 2
    # sx^2 + sy^2, and sx^2 + sy^2 - 2 sxy; rounding may leave them below 0.
    total = jnp.maximum(squares - mean_x**2 - mean_y**2, 0)
    apart = jnp.maximum(apart - apart_means, 0)
    level_squares = (mean_x + level) ** 2 + (mean_y + level) ** 2
    contrast = 1 - apart / (total + k2**2)
    both = contrast * (1 - apart_means / (level_squares + k1**2))
    return jnp.mean(both, axis=(1, 2)), jnp.mean(contrast, axis=(1, 2))


def _windowed(maps: jax.Array, window: int, sigma: Any) -> jax.Array:
    """Means of every Gaussian window along the rows and columns of [..., H, W,
    C], H - K + 1 by W - K + 1 of them.

    As products with banded matrices: for sides of 64 to 256 pixels they take at
    most a fifth of the time of shifted sums on CPU, and a tenth of that of a
    convolution.
    """
    place = jnp.arange(window, dtype=maps.dtype) - (window - 1) / 2
    # Never 0 / 0, however narrow the window.
    weights_K = jax.nn.softmax(-((place / sigma) ** 2) / 2)
    rows, columns = (_band(weights_K, side) for side in maps.shape[-3:-1])
    found = jnp.einsum("ph,...hwc->...pwc", rows, maps, precision="highest")
    return jnp.einsum("qw,...pwc->...pqc", columns, found, precision="highest")


def _band(weights_K: jax.Array, side: int) -> jax.Array:
    """Row p has the weights from column p on, [side - K + 1, side]."""
    k = weights_K.size
    starts, columns = jnp.arange(side - k + 1), jnp.arange(side)
    place = columns[None, :] - starts[:, None]
    known = weights_K[jnp.clip(place, 0, k - 1)]
    return jnp.where((place >= 0) & (place < k), known, 0)


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both images in one dtype of at least float32, or a UsageError."""
    pair = []
    for name, given in (("x", x), ("y", y)):
        known = shapes.known(name, given)
        image = jnp.asarray(known)
        if image.ndim != 4 or not image.size:
            raise checks.UsageError(
                f"{name} has shape {image.shape}, but must be images [B, H, W,"
                " C]; one image is x[None]."
            )
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise checks.UsageError(
                f"{name} is {image.dtype}, but must be floating point; levels"
                " become such by x / 255, with a span of 1."
            )
        checks.finite(name, known)
        pair.append(image)
    shapes.same("the two images", x=pair[0].shape, y=pair[1].shape)
    dtype = jnp.promote_types(pair[0].dtype, pair[1].dtype)
    x, y = (pixels.wide(image.astype(dtype)) for image in pair)
    return x, y


def _numbers(span: Any, sigma: Any, k1: Any, k2: Any) -> tuple[Any, ...]:
    given = {"span": span, "sigma": sigma, "k1": k1, "k2": k2}
    for name, value in given.items():
        _positive(name, value)
    return tuple(given.values())


def _positive(name: str, value: Any) -> None:
    checks.in_range(name, value, 0, open_low=True)
    if jnp.ndim(value):
        raise checks.UsageError(
            f"{name} has shape {jnp.shape(value)}, but must be one number;"
            " jax.vmap maps over several."
        )


def _fits(window: int, shape: tuple[int, ...], scales: int) -> None:
    """Raises unless the window fits into the coarsest scale."""
    checks.whole("window", window, 2)
    least = window * 2 ** (scales - 1)
    if min(shape[1:3]) < least:
        remedy = "fewer weights or a" if scales > 1 else "a"
        raise checks.UsageError(
            f"images of {shape[1]} x {shape[2]} pixels are too small for a"
            f" window of {window} on the coarsest of {scales} scales, which"
            f" takes {least} x {least}; give {remedy} smaller window."
        )
