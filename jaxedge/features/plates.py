"""From photos of plates to few numbers of 4 bits: where colour and edges are.

Left-overs are more colourful than tableware, or rougher where they are as pale
as it. So a photo becomes two maps of 8 x 8, the mean saturation and the mean
gradient of each of its parts, 128 numbers that fill two arrays of 64 rows.

The maps, their size and 4 bits are our design, and so are both scales.

Letters: H rows, W columns.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks

PARTS = 8  # A side of each map.
FEATURES = 2 * PARTS**2
BITS = 4
# What is 1, and so is more; ours, of synthetic plates.
SATURATION, GRADIENT = 0.6, 0.12
# Red, green and blue in brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def maps(x: ArrayLike, *, bits: int | None = BITS) -> jax.Array:
    """Features of photos, [..., H, W, 3] -> [..., 128] in [0, 1].

    First the saturation, (max - min) / max of a pixel's colour, then the length
    of the gradient of its brightness by central differences (one-sided at the
    borders), each a mean over a part, over its scale. Rounding passes
    gradients on as they are.

    Args:
        x: red, green and blue in [0, 1], floating point; H and W multiples of
            8, at least 16.
        bits: 2^bits levels from 0 to 1; None does not round.

    Returns:
        Both maps row by row, in the dtype of x.

    Raises:
        UsageError: for another shape, dtype or range.
    """
    x = jnp.asarray(x)
    _check(x)
    if bits is not None:
        checks.whole("bits", bits, 1)
        checks.in_range("bits", bits, 1, 8)
    return _maps(x, bits)


def of_pixels(image: ArrayLike) -> jax.Array:
    """`maps` of photos in uint8, [..., H, W, 3] -> [..., 128] float32.

    Raises:
        UsageError: for another shape or dtype.
    """
    image = jnp.asarray(image)
    if image.dtype != jnp.uint8:
        raise checks.UsageError(
            f"image is {image.dtype}, but must be uint8; give shares of 1 to"
            " `maps`."
        )
    _check_shape(image.shape)
    return _of_pixels(image)


def turned(x: ArrayLike) -> jax.Array:
    """Features of every photo turned and mirrored, [..., 128] -> [..., 8, 128].

    A plate may lie any way round. The first is as it was, then come its turns
    by 90 degrees to the left, then those of its mirror image.

    Raises:
        UsageError: for another shape.
    """
    x = jnp.asarray(x)
    if not x.ndim or x.shape[-1] != FEATURES:
        raise checks.UsageError(
            f"x has shape {x.shape}, but must be [..., {FEATURES}], from"
            " `maps`."
        )
    both = x.reshape(*x.shape[:-1], 2, PARTS, PARTS)
    seen = [
        jnp.rot90(side, turn, (-2, -1))
        for side in (both, both[..., ::-1])
        for turn in range(4)
    ]
    return jnp.stack(seen, -4).reshape(*x.shape[:-1], 8, FEATURES)


def _check(x: jax.Array) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"x is {x.dtype}, but must be floating point in [0, 1]; levels"
            " become such by x / 255."
        )
    _check_shape(x.shape)
    checks.in_range("x", x, 0, 1)


def _check_shape(shape: tuple[int, ...]) -> None:
    sides = shape[-3:-1]
    fit = len(sides) == 2 and shape[-1] == 3
    if not fit or any(s % PARTS or s < 2 * PARTS for s in sides):
        raise checks.UsageError(
            f"photos have shape {shape}, but must be [..., H, W, 3] with sides"
            f" that are multiples of {PARTS}, at least {2 * PARTS}; resize them"
            " to 96 x 96."
        )


@functools.partial(jax.jit, static_argnames="bits")
def _maps(x: jax.Array, bits: int | None) -> jax.Array:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    found = [
        _parts(_saturation(wide)) / SATURATION,
        _parts(_gradient(wide)) / GRADIENT,
    ]
    share = jnp.clip(jnp.concatenate(found, -1), 0, 1)
    if bits is not None:
        top = 2**bits - 1
        rounded = jnp.round(share * top) / top
        share = share + jax.lax.stop_gradient(rounded - share)
    return share.astype(x.dtype)


@jax.jit
def _of_pixels(image: jax.Array) -> jax.Array:
    return _maps(image.astype(jnp.float32) / 255, BITS)


def _saturation(x: jax.Array) -> jax.Array:
    """[..., H, W, 3] -> [..., H, W]; that of black is 0."""
    most, least = jnp.max(x, -1), jnp.min(x, -1)
    return jnp.where(most > 0, (most - least) / jnp.where(most > 0, most, 1), 0)


def _gradient(x: jax.Array) -> jax.Array:
    """[..., H, W, 3] -> [..., H, W]; per pixel."""
    luma = jnp.einsum("...c,c->...", x, jnp.asarray(_LUMA, x.dtype))
    square = _slope(luma, -1) ** 2 + _slope(luma, -2) ** 2
    # The length of no gradient has no slope.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _slope(a: jax.Array, axis: int) -> jax.Array:
    """Central differences along an axis, as numpy.gradient has them."""
    return jnp.gradient(a, axis=axis)  # type: ignore[return-value]


def _parts(a: jax.Array) -> jax.Array:
    """Means over 8 x 8 parts, [..., H, W] -> [..., 64]."""
    *lead, height, width = a.shape
    cut = (*lead, PARTS, height // PARTS, PARTS, width // PARTS)
    return a.reshape(cut).mean((-3, -1)).reshape(*lead, PARTS**2)
