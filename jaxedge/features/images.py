"""Images cropped, mixed, erased and distorted at random, for training.

Letters: B images of H rows, W columns and C channels, of which N boxes are cut;
K classes. Every image has draws of its own, and a result has the shape and
dtype of its image, computed in at least float32. A box is (top, left, height,
width) in shares of the image's height and width.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys

_ATTEMPTS = 10  # of a box to fit into its image, as in torchvision
_ERASED = ((0.02, 0.33), (1 / 3.3, 1 / 0.3))  # areas, width / height
_SIDE_EPSILON = 1e-3  # of a pixel: no more of a pixel is rounding, not overlap
_GREY = 128 / 255  # what moves into an image (arXiv:1805.09501)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


# Crops.


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
    x = _given(key, x)
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
    x = _given(key, x)
    checks.in_range("chance", chance, 0, 1)
    flip_B = jax.random.bernoulli(key, chance, (len(x),))
    return jnp.where(_per_image(flip_B), x[:, :, ::-1], x)


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
    box_Nx4, fits_N = _fitting(key, n, scale, ratio, aspect)
    shape = jnp.clip(aspect, *ratio)
    sides = jnp.stack([jnp.minimum(aspect / shape, 1), shape / aspect])
    sides = jnp.minimum(sides, 1).astype(jnp.float32)
    middle = jnp.concatenate([(1 - sides) / 2, sides])
    return jnp.where(fits_N[:, None], box_Nx4, jnp.broadcast_to(middle, (n, 4)))


def _fitting(
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
    x, boxes = _images(x), jnp.asarray(boxes, jnp.float32)
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

    return jax.vmap(one)(_wide(x), boxes, flips).astype(x.dtype)


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


# Mixtures of two images.


def mixup(
    key: jax.Array, x: ArrayLike, target: ArrayLike, alpha: ArrayLike = 0.8
) -> tuple[jax.Array, jax.Array]:
    """Blends each image and its target with those of another (1710.09412).

    The share of the image is drawn from Beta(alpha, alpha). The others are a
    permutation of the batch, in which an image may meet itself.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        alpha: positive, a scalar.

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    x, target = _labelled(key, x, target)
    checks.in_range("alpha", alpha, 0, open_low=True)
    return _mixup(key, x, target, alpha)


@jax.jit
def _mixup(key: jax.Array, x: Any, target: Any, alpha: Any) -> Any:
    of_share, of_other = jax.random.split(key)
    share_B = jax.random.beta(of_share, alpha, alpha, (len(x),))
    other_B = jax.random.permutation(of_other, len(x))
    mixed = _blend(x, x[other_B], share_B)
    return mixed, _blend(target, target[other_B], share_B)


def cutmix(
    key: jax.Array, x: ArrayLike, target: ArrayLike, alpha: ArrayLike = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another image at its place (arXiv:1905.04899).

    The box has the image's shape, its centre anywhere, and the share 1 - l of
    the area, l from Beta(alpha, alpha); what lies outside is cut off. Targets
    are mixed by the pixels that are really there.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        alpha: positive, a scalar.

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    x, target = _labelled(key, x, target)
    checks.in_range("alpha", alpha, 0, open_low=True)
    return _cutmix(key, x, target, alpha)


@jax.jit
def _cutmix(key: jax.Array, x: Any, target: Any, alpha: Any) -> Any:
    of_share, of_centre, of_other = jax.random.split(key, 3)
    share_B = jax.random.beta(of_share, alpha, alpha, (len(x),))
    side_Bx2 = jnp.stack([jnp.sqrt(1 - share_B)] * 2, axis=1)
    centre_Bx2 = jax.random.uniform(of_centre, (len(x), 2))
    box_Bx4 = jnp.concatenate([centre_Bx2 - side_Bx2 / 2, side_Bx2], axis=1)
    pasted = _inside(box_Bx4, x.shape)
    other_B = jax.random.permutation(of_other, len(x))
    kept_B = 1 - jnp.mean(pasted.astype(jnp.float32), axis=(1, 2, 3))
    mixed = jnp.where(pasted, x[other_B], x)
    return mixed, _blend(target, target[other_B], kept_B)


def mixup_or_cutmix(
    key: jax.Array,
    x: ArrayLike,
    target: ArrayLike,
    *,
    mixup_alpha: ArrayLike = 0.8,
    cutmix_alpha: ArrayLike = 1.0,
    cutmix_chance: ArrayLike = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """`cutmix` of each image with a chance, else `mixup`.

    The alphas are those of vvtq 4.5; how it chooses is unknown. Both are
    computed.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        mixup_alpha: positive, a scalar.
        cutmix_alpha: positive, a scalar.
        cutmix_chance: in [0, 1].

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    checks.in_range("cutmix_chance", cutmix_chance, 0, 1)
    x, target = _labelled(key, x, target)
    of_choice, of_mixup, of_cutmix = jax.random.split(key, 3)
    cut_B = jax.random.bernoulli(of_choice, cutmix_chance, (len(x),))
    blended = mixup(of_mixup, x, target, mixup_alpha)
    pasted = cutmix(of_cutmix, x, target, cutmix_alpha)
    x = jnp.where(_per_image(cut_B), pasted[0], blended[0])
    return x, jnp.where(cut_B[:, None], pasted[1], blended[1])


def random_erasing(
    key: jax.Array,
    x: ArrayLike,
    probability: ArrayLike = 0.25,
    mode: str = "zero",
) -> jax.Array:
    """Overwrites a box of each image with a chance (arXiv:1708.04896).

    The share of the area is uniform in [.02, .33), the height by the width
    uniform in its logarithm in [.3, 3.3); an image in which none of 10 boxes
    fits stays whole.

    Args:
        key: consumed.
        x: [B, H, W, C].
        probability: in [0, 1]; vvtq 4.5 has .25, its mode is unknown.
        mode: "zero", or "noise": a standard normal number a value, for images
            that were normalised.

    Returns:
        [B, H, W, C].

    Raises:
        UsageError: for another shape, range or mode.
    """
    x = _given(key, x)
    checks.in_range("probability", probability, 0, 1)
    checks.choice("mode", mode, ("zero", "noise"))
    return _random_erasing(key, x, probability, mode)


@functools.partial(jax.jit, static_argnames="mode")
def _random_erasing(key: jax.Array, x: Any, probability: Any, mode: str) -> Any:
    of_chance, of_box, of_fill = jax.random.split(key, 3)
    erased_B = jax.random.bernoulli(of_chance, probability, (len(x),))
    box_Bx4, fits_B = _fitting(
        of_box, len(x), *_ERASED, aspect=x.shape[2] / x.shape[1]
    )
    fill = jnp.zeros_like(x)
    if mode == "noise":
        fill = jax.random.normal(of_fill, x.shape, x.dtype)
    erased = _per_image(erased_B & fits_B) & _inside(box_Bx4, x.shape)
    return jnp.where(erased, fill, x)


# Operations of Pillow, on images in [0, 1].


def _rotation(degrees: Any, shape: tuple[int, ...]) -> list[Any]:
    """Counter-clockwise about the middle."""
    y, x = shape[0] / 2, shape[1] / 2
    radians = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    return [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]


# The place (x, y) of the result shows (a x + b y + c, d x + e y + f).
_MOVES: dict[str, Callable[[Any, tuple[int, ...]], list[Any]]] = {
    "rotate": _rotation,
    "shear_x": lambda share, shape: [1, share, 0, 0, 1, 0],
    "shear_y": lambda share, shape: [1, 0, 0, share, 1, 0],
    "translate_x": lambda share, shape: [1, 0, share * shape[1], 0, 1, 0],
    "translate_y": lambda share, shape: [1, 0, 0, 0, 1, share * shape[0]],
}


def _matrix(name: str, argument: Any, shape: tuple[int, ...]) -> jax.Array:
    """a to f of a move, [6]."""
    entries = _MOVES[name](argument, shape)
    return jnp.stack([jnp.asarray(e, jnp.float32) for e in entries])


def _moved(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """An image seen through an affine map, bilinear, grey from outside."""
    h, w, channels = x.shape
    a, b, c, d, e, f = matrix
    axes = jnp.arange(w) + 0.5, jnp.arange(h) + 0.5
    right, down = jnp.meshgrid(*axes)
    column, row = a * right + b * down + c, d * right + e * down + f
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    low_y, low_x = jnp.floor(row - 0.5), jnp.floor(column - 0.5)
    part_y = (row - 0.5 - low_y)[..., None]
    part_x = (column - 0.5 - low_x)[..., None]
    flat = x.reshape(h * w, channels)

    def at(below, beside):
        i = jnp.clip(low_y.astype(jnp.int32) + below, 0, h - 1)
        j = jnp.clip(low_x.astype(jnp.int32) + beside, 0, w - 1)
        return flat[i * w + j]

    upper = at(0, 0) * (1 - part_x) + at(0, 1) * part_x
    lower = at(1, 0) * (1 - part_x) + at(1, 1) * part_x
    return jnp.where(
        inside[..., None], upper * (1 - part_y) + lower * part_y, _GREY
    )


def _enhanced(x: jax.Array, plain: jax.Array, factor: Any) -> jax.Array:
    """Away from a plain image; what leaves [0, 1] is cut off, as in Pillow."""
    return jnp.clip(plain + factor * (x - plain), 0, 1)


def _grey(x: jax.Array) -> jax.Array:
    if x.shape[-1] == 1:
        return x
    grey = x @ jnp.asarray(_LUMA, x.dtype)
    return jnp.broadcast_to(grey[..., None], x.shape)


def _contrast(x: jax.Array, factor: Any) -> jax.Array:
    return _enhanced(x, jnp.full_like(x, jnp.mean(_grey(x))), factor)


def _sharpness(x: jax.Array, factor: Any) -> jax.Array:
    """The plain image is smooth but for its border."""
    h, w, _ = x.shape
    if min(h, w) < 3:
        return _enhanced(x, x, factor)
    shifted = [
        x[i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3)
    ]
    smooth = (sum(shifted[1:], shifted[0]) + 4 * shifted[4]) / 13
    return _enhanced(x, x.at[1:-1, 1:-1].set(smooth), factor)


def _levels(x: jax.Array) -> jax.Array:
    """Values as whole numbers from 0 to 255."""
    return jnp.round(x * 255).astype(jnp.int32)


def _posterized(x: jax.Array, bits: Any) -> jax.Array:
    shift = 8 - jnp.asarray(bits).astype(jnp.int32)
    return ((_levels(x) >> shift) << shift) / 255


def _solarized(x: jax.Array, threshold: Any) -> jax.Array:
    """Half a level below, where no rounding of a level can lie."""
    return jnp.where(x < (256 * threshold - 0.5) / 255, x, 1 - x)


def _autocontrast(x: jax.Array, _: Any) -> jax.Array:
    low = jnp.min(x, axis=(0, 1), keepdims=True)
    high = jnp.max(x, axis=(0, 1), keepdims=True)
    flat = high <= low
    spread = jnp.where(flat, 1, high - low)
    low, flat = jnp.broadcast_to(low, x.shape), jnp.broadcast_to(flat, x.shape)
    return jnp.where(flat, x, (x - low) / spread)


def _equalized(x: jax.Array, _: Any) -> jax.Array:
    """A histogram as flat as whole steps make it, channel by channel."""

    def channel(level):
        count = jnp.zeros(256, jnp.int32).at[level].add(1)
        step = (level.size - count[jnp.max(level)]) // 255
        before = step // 2 + jnp.cumsum(count) - count
        table = jnp.minimum(before // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[level], level)

    levels = _levels(x).reshape(-1, x.shape[-1])
    return jax.vmap(channel, 1, 1)(levels).reshape(x.shape) / 255


_FILTERS: dict[str, Callable[[jax.Array, Any], jax.Array]] = {
    "brightness": lambda x, f: _enhanced(x, jnp.zeros_like(x), f),
    "contrast": _contrast,
    "color": lambda x, f: _enhanced(x, _grey(x), f),
    "sharpness": _sharpness,
    "posterize": _posterized,
    "solarize": _solarized,
    "autocontrast": _autocontrast,
    "equalize": _equalized,
    "invert": lambda x, _: 1 - x,
}
OPERATIONS = (*_MOVES, *_FILTERS)
# The argument of each at magnitude 10, and at 0 where it differs from 0; those
# of one number take either sign (table 6 of arXiv:1805.09501).
_SIGNED = (30.0, 0.3, 0.3, 150 / 331, 150 / 331)
_ENHANCED, _FEWEST_BITS = 0.9, 4


def operate(x: ArrayLike, name: str, argument: ArrayLike = 0.0) -> jax.Array:
    """One operation of `rand_augment`, the same on every image.

    As Pillow has it, without rounding to levels of 1/255; "posterize" and
    "equalize" round first, and have no gradient. What moves in is grey.

    Args:
        x: [B, H, W, C] in [0, 1], C 1 or 3.
        name: of `OPERATIONS`.
        argument: a scalar. "rotate": degrees, counter-clockwise; "shear_x",
            "shear_y", "translate_x", "translate_y": a share of the other, or
            of its own, side; "brightness", "contrast", "color", "sharpness": a
            factor of at least 0, 1 for no change; "posterize": bits, 1 to 8;
            "solarize": what is as bright or brighter is inverted, [0, 1], 1
            for nothing; "autocontrast", "equalize" and "invert": unused.

    Returns:
        [B, H, W, C] in [0, 1].

    Raises:
        UsageError: for another shape, range or name.
    """
    x = _pictures(x)
    checks.choice("operation", name, OPERATIONS)
    low, high = {
        "posterize": (1, 8),
        "solarize": (0, 1),
        **dict.fromkeys(_MOVES, (-jnp.inf, jnp.inf)),
    }.get(name, (0, jnp.inf))
    checks.in_range(f"the argument of {name}", argument, low, high)
    return _operate(x, name, argument)


@functools.partial(jax.jit, static_argnames="name")
def _operate(x: jax.Array, name: str, argument: Any) -> jax.Array:
    def one(image):
        if name in _FILTERS:
            return _FILTERS[name](image, argument)
        return _moved(image, _matrix(name, argument, image.shape))

    return jax.vmap(one)(_wide(x)).astype(x.dtype)


def rand_augment(
    key: jax.Array,
    x: ArrayLike,
    *,
    operations: int = 2,
    magnitude: ArrayLike = 9.0,
    spread: ArrayLike = 0.0,
    chance: ArrayLike = 1.0,
) -> jax.Array:
    """Some operations of `OPERATIONS` in a row, each drawn anew (1909.13719).

    At magnitude m: rotate by 3 m degrees, shear by .03 m and translate by
    .0453 m of a side, all of either sign; brightness, contrast, color and
    sharpness by 1 +- .09 m; posterize to 8 - round(.4 m) bits; solarize from
    1 - m / 10 on. Magnitude 0 changes nothing but by the three that have no
    argument.

    Args:
        key: consumed.
        x: [B, H, W, C] in [0, 1], C 1 or 3.
        operations: how many an image, at least 0.
        magnitude: in [0, 10]; vvtq 4.5 has 9.
        spread: deviation of a normal number that is added to the magnitude of
            each, which then is held within [0, 10]; unknown in vvtq, 0 here.
        chance: of each to take place, in [0, 1]; likewise, 1 here.

    Returns:
        [B, H, W, C] in [0, 1].

    Raises:
        UsageError: for another shape or range.
    """
    keys.check_key(key)
    x = _pictures(x)
    checks.whole("operations", operations)
    checks.in_range("magnitude", magnitude, 0, 10)
    checks.in_range("spread", spread, 0)
    checks.in_range("chance", chance, 0, 1)
    return _rand_augment(key, x, int(operations), magnitude, spread, chance)


@functools.partial(jax.jit, static_argnames="operations")
def _rand_augment(
    key: jax.Array, x: Any, operations: int, magnitude: Any, spread: Any,
    chance: Any,
) -> jax.Array:  # fmt: skip
    def one(key, image):
        def step(image, key):
            of_which, of_size, of_sign, of_chance = jax.random.split(key, 4)
            size = magnitude + spread * jax.random.normal(of_size)
            which = jax.random.randint(of_which, (), 0, len(OPERATIONS))
            sign = jax.random.rademacher(of_sign, (), jnp.float32)
            changed = _one_of(image, which, jnp.clip(size, 0, 10) / 10, sign)
            takes_place = jax.random.bernoulli(of_chance, chance)
            return jnp.where(takes_place, changed, image), None

        return jax.lax.scan(step, image, jax.random.split(key, operations))[0]

    keys_B = jax.random.split(key, len(x))
    return jax.vmap(one)(keys_B, _wide(x)).astype(x.dtype)


def _one_of(image: jax.Array, which: Any, size: Any, sign: Any) -> jax.Array:
    """The operation of number `which`; of the moves there is one branch."""
    turn = sign * size
    moves = [
        _matrix(name, most * turn, image.shape)
        for name, most in zip(_MOVES, _SIGNED, strict=True)
    ]
    matrix = jnp.stack(moves)[jnp.minimum(which, len(moves) - 1)]
    enhancers = ("brightness", "contrast", "color", "sharpness")
    arguments = dict.fromkeys(_FILTERS, 0.0) | {
        **dict.fromkeys(enhancers, 1 + _ENHANCED * turn),
        "posterize": 8 - jnp.round((8 - _FEWEST_BITS) * size),
        "solarize": 1 - size,
    }
    branches = [lambda image: _moved(image, matrix)]
    branches += [
        lambda image, f=f, argument=arguments[name]: f(image, argument)
        for name, f in _FILTERS.items()
    ]
    branch = jnp.maximum(which - len(moves) + 1, 0)
    return jax.lax.switch(branch, branches, image)


# What the functions above share.


def _images(x: ArrayLike) -> jax.Array:
    x = jnp.asarray(x)
    if x.ndim != 4 or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"x is {x.dtype} of shape {x.shape}, but must be floating point"
            " images [B, H, W, C]; levels become such by x / 255."
        )
    return x


def _given(key: jax.Array, x: ArrayLike) -> jax.Array:
    keys.check_key(key)
    return _images(x)


def _pictures(x: ArrayLike) -> jax.Array:
    """Images that Pillow's operations are defined for."""
    x = _images(x)
    if x.shape[-1] not in (1, 3):
        raise checks.UsageError(
            f"x has {x.shape[-1]} channels, but must be grey (1) or red, green"
            " and blue (3)."
        )
    checks.in_range("x", x, 0, 1)
    return x


def _labelled(
    key: jax.Array, x: ArrayLike, target: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    x, target = _given(key, x), jnp.asarray(target)
    real = jnp.issubdtype(target.dtype, jnp.floating)
    if target.ndim != 2 or len(target) != len(x) or not real:
        raise checks.UsageError(
            f"target is {target.dtype} of shape {target.shape}, but {len(x)}"
            " images need floating point [B, K]: a distribution each, as"
            " jax.nn.one_hot makes them of labels."
        )
    return x, target


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _per_image(a_B: jax.Array) -> jax.Array:
    return a_B[:, None, None, None]


def _blend(a: jax.Array, b: jax.Array, share_B: jax.Array) -> jax.Array:
    """`share` of a and the rest of b, in the dtype of a."""
    share = share_B.reshape(-1, *[1] * (a.ndim - 1))
    return (_wide(a) * share + _wide(b) * (1 - share)).astype(a.dtype)


def _inside(box_Bx4: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Marks the pixels with their middle in a box, [B, H, W, 1]."""
    marks = []
    for axis in (0, 1):
        middle = (jnp.arange(shape[1 + axis]) + 0.5) / shape[1 + axis]
        start = box_Bx4[:, axis, None]
        end = start + box_Bx4[:, axis + 2, None]
        marks.append((middle[None] >= start) & (middle[None] < end))
    return (marks[0][:, :, None] & marks[1][:, None, :])[..., None]
