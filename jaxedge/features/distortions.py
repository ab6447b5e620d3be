"""Pillow's operations on images, and RandAugment, which draws some of them.

Letters: B images of H rows, W columns and C channels. Every image has draws of
its own, and a result has the shape and dtype of its image, computed in at least
float32.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks, keys
from jaxedge.features import pixels

_GREY = 128 / 255  # what moves into an image (arXiv:1805.09501)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


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

    return jax.vmap(one)(pixels.wide(x)).astype(x.dtype)


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
    return jax.vmap(one)(keys_B, pixels.wide(x)).astype(x.dtype)


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


def _pictures(x: ArrayLike) -> jax.Array:
    """Images that Pillow's operations are defined for."""
    x = pixels.checked(x)
    if x.shape[-1] not in (1, 3):
        raise checks.UsageError(
            f"x has {x.shape[-1]} channels, but must be grey (1) or red, green"
            " and blue (3)."
        )
    checks.in_range("x", x, 0, 1)
    return x
