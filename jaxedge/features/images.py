"""Images cropped, mirrored and resized at random, for training.

Letters: B images of H rows, W columns and C channels, of which N boxes are cut.
Every image has draws of its own, and a result has the shape and dtype of its
image, computed in at least float32. A box is (top, left, height,
width) in shares of the image's height and width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.features import pixels

_ATTEMPTS = 10  # of a box to fit into its image, as in torchvision
_SIDE_EPSILON = 1e-3  # of a pixel: no more of a pixel is rounding, not overlap


def random_crop(
    key: jax.Array, x: ArrayLike, padding: int = 4, mode: str = "reflect"
) -> jax.Array:
    """Pads each image on all sides and cuts its size out anywhere in it.

    Args:
        key: consumed.
        x: [B, H, W, C].
        padding: pixels on each side, at least 0.
        mode: "reflect", without repeating the border, or "constant", zeros.

    Returns:
        [B, H, W, C]; each shift in [-padding, padding] has the same chance.

    Raises:
        UsageError: for another shape or mode, or less of an image than the
            padding reflects.
    """
    x = pixels.drawn_for(key, x)
    checks.whole("padding", padding)
    checks.choice("mode", mode, ("reflect", "constant"))
    if mode == "reflect" and padding >= min(x.shape[1:3]):
        raise checks.UsageError(
            f"padding is {padding}, but images of {x.shape[1]} x {x.shape[2]}"
            " reflect less than their size; choose less, or mode='constant'."
        )
    return _random_crop(key, x, int(padding), mode)


@functools.partial(jax.jit, static_argnames=("padding", "mode"))
def _random_crop(
    key: jax.Array, x: jax.Array, padding: int, mode: str
) -> jax.Array:
    def cut(image, start):
        return jax.lax.dynamic_slice(image, (*start, 0), x.shape[1:])

    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    start_Bx2 = jax.random.randint(key, (len(x), 2), 0, 2 * padding + 1)
    return jax.vmap(cut)(jnp.pad(x, sides, mode=mode), start_Bx2)


def random_flip(
    key: jax.Array, x: ArrayLike, chance: ArrayLike = 0.5
) -> jax.Array:
    """Mirrors left and right, each image with a chance.

    Args:
        key: consumed.
        x: [B, H, W, C].
        chance: in [0, 1].

    Returns:
        [B, H, W, C].

    Raises:
        UsageError: for another shape or chance.
    """
    x = pixels.drawn_for(key, x)
    checks.in_range("chance", chance, 0, 1)
    flip_B = jax.random.bernoulli(key, chance, (len(x),))
    return jnp.where(pixels.per_image(flip_B), x[:, :, ::-1], x)


def draw_boxes(
    key: jax.Array,
    n: int,
    scale: tuple[ArrayLike, ArrayLike] = (0.08, 1.0),
    ratio: tuple[ArrayLike, ArrayLike] = (3 / 4, 4 / 3),
    aspect: ArrayLike = 1.0,
) -> jax.Array:
    """Boxes by the rule of torchvision's RandomResizedCrop.

    The share of the area is uniform, the width by the height uniform in its
    logarithm; the first of 10 such boxes that fits lies anywhere in the image.
    If none fits, it is the largest one of an allowed shape, in the middle.
    Unlike there, sides are not rounded to pixels.

    Args:
        key: consumed.
        n: N, at least 1.
        scale: least and largest share of the area, in (0, 1].
        ratio: least and largest width / height, in pixels, positive.
        aspect: width / height of the image.

    Returns:
        (top, left, height, width), [N, 4] float32 in [0, 1].

    Raises:
        UsageError: for ranges out of order or not positive.
    """
    keys.check_key(key)
    checks.whole("n", n, 1)
    checks.in_range("aspect", aspect, 0, open_low=True)
    for name, ends, most in (("scale", scale, 1), ("ratio", ratio, jnp.inf)):
        for end in ends:
            checks.in_range(name, end, 0, most, open_low=True)
        known = all(map(checks.concrete, ends))
        if known and np.asarray(ends[0]) > np.asarray(ends[1]):
            raise checks.UsageError(
                f"{name} is {ends}; give the lesser number first."
            )
    return _draw_boxes(key, int(n), scale, ratio, aspect)


@functools.partial(jax.jit, static_argnames="n")
def _draw_boxes(
    key: jax.Array, n: int, scale: Any, ratio: Any, aspect: Any
) -> jax.Array:
    box_Nx4, fits_N = fitting_boxes(key, n, scale, ratio, aspect)
    shape = jnp.clip(aspect, *ratio)
    sides = jnp.stack([jnp.minimum(aspect / shape, 1), shape / aspect])
    sides = jnp.minimum(sides, 1).astype(jnp.float32)
    middle = jnp.concatenate([(1 - sides) / 2, sides])
    return jnp.where(fits_N[:, None], box_Nx4, jnp.broadcast_to(middle, (n, 4)))


def fitting_boxes(
    key: jax.Array, n: int, scale: Any, ratio: Any, aspect: Any
) -> tuple[jax.Array, jax.Array]:
    """Boxes [n, 4], the first of several that fit, and whether one does."""
    of_area, of_shape, of_place = jax.random.split(key, 3)
    trials = (n, _ATTEMPTS)
    area = jax.random.uniform(of_area, trials, jnp.float32, scale[0], scale[1])
    log = jnp.log(jnp.asarray(ratio, jnp.float32))
    shape = jnp.exp(
        jax.random.uniform(of_shape, trials, jnp.float32, log[0], log[1])
    )
    sides = jnp.sqrt(jnp.stack([area * aspect / shape, area * shape / aspect]))
    fits = jnp.all(sides <= 1, axis=0)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    sides_Nx2 = jnp.take_along_axis(sides, first[None], axis=2)[..., 0].T
    place_Nx2 = jax.random.uniform(of_place, (n, 2)) * (1 - sides_Nx2)
    return jnp.concatenate([place_Nx2, sides_Nx2], axis=1), jnp.any(fits, 1)


def resized_crop(
    x: ArrayLike,
    boxes: ArrayLike,
    size: int | tuple[int, int],
    flips: ArrayLike | None = None,
) -> jax.Array:
    """Cuts a box out of each image, resizes it and may mirror it.

    Bilinear, over as many pixels as one of the result covers, like Pillow's
    `resize` of the crop: whole pixels outside the box count nowhere.

    Args:
        x: [B, H, W, C].
        boxes: (top, left, height, width), [B, 4], inside [0, 1].
        size: of the result, rows and columns, or one number for both.
        flips: [B] bool, the crops to be mirrored left and right; None: none.

    Returns:
        [B, *size, C], dtype of `x`.

    Raises:
        UsageError: for another shape, or boxes that are empty or lie outside.
    """
    x, boxes = pixels.checked(x), jnp.asarray(boxes, jnp.float32)
    if boxes.shape != (len(x), 4):
        raise checks.UsageError(
            f"boxes has shape {boxes.shape}, but {len(x)} images need"
            f" {(len(x), 4)}: one (top, left, height, width) each."
        )
    if checks.concrete(boxes):
        start_Bx2, side_Bx2 = np.split(np.asarray(boxes), 2, axis=1)
        checks.in_range("a box's place", start_Bx2, 0, 1)
        checks.in_range("a box's side", side_Bx2, 0, 1, open_low=True)
        # Place and side are rounded apart.
        far_Bx2 = start_Bx2 + side_Bx2
        checks.in_range("a box's far side", far_Bx2, 0, 1 + 1e-5)
    rows, columns = size if isinstance(size, tuple) else (size, size)
    checks.whole("the rows of size", rows, 1)
    checks.whole("the columns of size", columns, 1)
    if flips is None:
        flips = jnp.zeros(len(x), bool)
    flips = jnp.asarray(flips)
    if flips.shape != (len(x),) or flips.dtype != bool:
        raise checks.UsageError(
            f"flips is {flips.dtype} of shape {flips.shape}, but must be bool,"
            f" one each of {len(x)} images."
        )
    return _resized_crop(x, boxes, (int(rows), int(columns)), flips)


@functools.partial(jax.jit, static_argnames="size")
def _resized_crop(
    x: jax.Array, boxes: jax.Array, size: tuple[int, int], flips: jax.Array
) -> jax.Array:
    def one(image, box, flip):
        top, left, height, width = box
        rows = _weights(image.shape[0], size[0], top, height)
        columns = _weights(image.shape[1], size[1], left, width)
        columns = jnp.where(flip, columns[::-1], columns)
        return jnp.einsum(
            "ph,hwc,qw->pqc", rows, image, columns, precision="highest"
        )

    return jax.vmap(one)(pixels.wide(x), boxes, flips).astype(x.dtype)


def _weights(
    pixels: int, size: int, start: jax.Array, side: jax.Array
) -> jax.Array:
    """What each pixel of an axis gives to one of the result, [size, pixels]."""
    start, side = start * pixels, side * pixels
    step = side / size
    centre = start + (jnp.arange(size, dtype=jnp.float32) + 0.5) * step
    low = jnp.arange(pixels, dtype=jnp.float32)
    distance = jnp.abs(low[None] + 0.5 - centre[:, None])
    weight = jnp.maximum(1 - distance / jnp.maximum(step, 1), 0)
    inside = (low + 1 > start + _SIDE_EPSILON) & (
        low < start + side - _SIDE_EPSILON
    )
    weight = jnp.where(inside, weight, 0)
    return weight / jnp.sum(weight, axis=1, keepdims=True)
