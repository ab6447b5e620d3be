"""Convolutions on any hardware, and the patches that vectors are made of.

Letters: B batch, S axes of an image, D depth, H height, W width, I inputs,
O outputs, G groups.
"""

from collections.abc import Iterator, Sequence
import contextlib
import contextvars
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware.weights import Weight, check_fan, matmul, multiply

Padding = str | Sequence[tuple[int, int]]

# The axes of an image and of a volume, for messages.
_AXES = {2: "height and width", 3: "depth, height and width"}

_BY_PATCHES = contextvars.ContextVar("by_patches", default=False)


@contextlib.contextmanager
def by_patches(on: bool = True) -> Iterator[None]:
    """Convolutions traced inside are products of patches and a matrix.

    Equal but for rounding, in the memory of the patches. On a CPU the gradient
    of a convolution inside a loop of a program (`lax.scan`, `while_loop`,
    `map`, `cond`) is far slower than outside (jax issue 12868); that of such a
    product is not. Grouped convolutions stay as they are, and so
    does what JAX has traced before.

    Args:
        on: whether they are.
    """
    token = _BY_PATCHES.set(on)
    try:
        yield
    finally:
        _BY_PATCHES.reset(token)


class Window(NamedTuple):
    """How a kernel meets an image; one entry for each axis of the image.

    Attributes:
        sizes: of the kernel.
        strides: steps from one patch to the next.
        padding: rows to add before and after; negative ones are cut off.
        dilation: distance between neighbours in the kernel.
        spread: distance between neighbours in the image, whose gaps are zero
            (a transposed convolution).
        groups: equal parts of the channels, each with kernels of its own.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...]
    groups: int = 1


def conv(
    x: jax.Array,
    w: jax.Array | Weight,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    key: jax.Array | None = None,
) -> jax.Array:
    """Convolves images or volumes with a kernel on any hardware.

    Hardware whose converters see one vector at a time gets every patch as a
    vector of h * w * I inputs (device_physics D.7), of volumes d * h * w * I.

    Args:
        x: [B, H, W, G * I] or [B, D, H, W, G * I], floating point.
        w: array or hardware leaf of shape [h, w, I, O] or [d, h, w, I, O].
        strides: one number, or one for each of (D,) H and W.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)), of volumes
            with a pair for the depth before these.
        dilation: distance between neighbours in the kernel, one number or
            one for each of (D,) H and W.
        groups: parts of the channels, [G]: each part of the inputs makes its
            part of the outputs. As many as there are input channels make the
            convolution depthwise.
        key: read key, consumed; None reads without noise.

    Returns:
        [B, (D',) H', W', O], dtype of `x`.

    Raises:
        UsageError: when the shapes do not fit.
    """
    x = jnp.asarray(x)
    axes = len(w.shape) - 2
    if axes not in _AXES or x.ndim != axes + 2:
        raise checks.UsageError(
            f"conv needs x [B, H, W, I] and a kernel [h, w, I, O], or a volume"
            f" [B, D, H, W, I] and a kernel [d, h, w, I, O], got {x.shape} and"
            f" {tuple(w.shape)}."
        )
    checks.whole("groups", groups, 1)
    *sizes, inputs, outputs = w.shape
    if outputs % groups:
        raise checks.UsageError(
            f"{outputs} outputs do not fall into {groups} equal groups; the"
            " last axis of the kernel must be a multiple of groups."
        )
    check_fan("conv", x, inputs * groups)
    dilation = _numbers("dilation is", dilation, axes)
    strides = _numbers("strides are", strides, axes)
    reach = _reach(sizes, dilation)
    pads = _pads(x.shape[1:-1], reach, strides, padding)
    near = (1,) * axes
    window = Window(tuple(sizes), strides, pads, dilation, near, groups)
    return convolve(x, w, window, key)


def convolve(
    x: jax.Array,
    w: jax.Array | Weight,
    window: Window,
    key: jax.Array | None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Convolves over any number of axes; shapes are not checked.

    On a CPU a volume is convolved slice by slice, if its channels are one
    group: XLA's convolution of volumes takes ten times as long there.

    Args:
        x: [B, *S, G * I].
        w: kernel [*sizes, I, O], or a leaf whose matrix is [sizes * I, O].
        window: how they meet.
        key: read key, consumed; None reads without noise.
        precision: of a linear product.

    Returns:
        [B, *S', O], dtype of `x`.
    """
    if isinstance(w, Weight) and w.by_vector:
        return _by_vector(x, w, window, key)
    axes = len(window.sizes)
    image = (0, axes + 1, *range(1, axes + 1))
    kernel = (axes + 1, axes, *range(axes))
    inputs = x.shape[-1] // window.groups
    alone = window.groups == 1
    unrolled = _BY_PATCHES.get() and alone
    sliced = alone and window.spread == (1, 1, 1)
    sliced = sliced and jax.default_backend() == "cpu"

    def product(x: jax.Array, matrix: jax.Array) -> jax.Array:
        if unrolled:
            flat = matrix.reshape(-1, matrix.shape[-1]).astype(x.dtype)
            return jnp.matmul(_unroll(x, window), flat, precision=precision)
        w = matrix.reshape(*window.sizes, inputs, -1).astype(x.dtype)
        if sliced:
            return _by_slices(x, w, window, precision)
        return jax.lax.conv_general_dilated(
            x,
            w,
            window.strides,
            window.padding,
            lhs_dilation=window.spread,
            rhs_dilation=window.dilation,
            dimension_numbers=jax.lax.ConvDimensionNumbers(
                image, kernel, image
            ),
            feature_group_count=window.groups,
            precision=precision,
        )

    return multiply(x, w, product, key)


def patches(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int] | None = None,
) -> jax.Array:
    """Unrolls images or volumes into the vectors that a kernel meets.

    Shifted slices instead of a convolution with a one-hot kernel: faster on
    CPU, and with a gradient that is fast inside scans.

    Args:
        x: [B, H, W, I] or [B, D, H, W, I].
        window: kernel height and width, before them its depth if it has one.
        strides: one for each of (D,) H and W.
        padding: as in `conv`.
        dilation: one for each of (D,) H and W; None is 1.

    Returns:
        [B, (D',) H', W', (d *) h * w * I], in the order of a kernel reshaped
        to [-1, O].
    """
    near = (1,) * len(window)
    strides, dilation = tuple(strides), tuple(dilation or near)
    reach = _reach(window, dilation)
    pads = _pads(x.shape[1:-1], reach, strides, padding)
    return _unroll(x, Window(tuple(window), strides, pads, dilation, near))


def _by_vector(
    x: jax.Array, w: Weight, window: Window, key: jax.Array | None
) -> jax.Array:
    """A convolution whose every patch meets the array as a vector."""
    groups = window.groups
    if groups == 1:
        return multiply(_unroll(x, window), w, matmul, key)
    parts = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)

    def part(
        x: jax.Array, w: Weight, key: jax.Array | None, group: jax.Array
    ) -> jax.Array:
        key = None if key is None else jax.random.fold_in(key, group)
        return multiply(_unroll(x, window), w, matmul, key)

    mapped = jax.vmap(part, (0, 0, None, 0))
    y = mapped(parts, w.split(groups), key, jnp.arange(groups))
    y = jnp.moveaxis(y, 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _by_slices(
    x: jax.Array,
    w: jax.Array,
    window: Window,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    """A volume as a batch of images, with the depths of a kernel as channels.

    Args:
        x: [B, D, H, W, I].
        w: [d, h, w, I, O].
        window: of one group, and no spread.
        precision: of the product.

    Returns:
        [B, D', H', W', O].
    """
    along = Window(
        (window.sizes[0], 1, 1),
        (window.strides[0], 1, 1),
        (window.padding[0], (0, 0), (0, 0)),
        (window.dilation[0], 1, 1),
        (1, 1, 1),
    )
    x = _unroll(x, along)  # [B, D', H, W, d * I]
    batch, depth = x.shape[:2]
    w = jnp.moveaxis(w, 0, 2).reshape(*window.sizes[1:], x.shape[-1], -1)
    y = jax.lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        w,
        window.strides[1:],
        window.padding[1:],
        rhs_dilation=window.dilation[1:],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return y.reshape(batch, depth, *y.shape[1:])


def _unroll(x: jax.Array, window: Window) -> jax.Array:
    """[B, *S, I] to [B, *S', sizes * I]; groups are not looked at."""
    pads = [
        (low, high, gap - 1)
        for (low, high), gap in zip(window.padding, window.spread, strict=True)
    ]
    none = (0, 0, 0)
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [none, *pads, none])
    reach = _reach(window.sizes, window.dilation)
    stops = [
        (n - k) // s * s + 1
        for n, k, s in zip(x.shape[1:-1], reach, window.strides, strict=True)
    ]

    def shifted(place: Sequence[int]) -> jax.Array:
        starts = [i * d for i, d in zip(place, window.dilation, strict=True)]
        cut = [
            slice(start, start + stop, step)
            for start, stop, step in zip(
                starts, stops, window.strides, strict=True
            )
        ]
        return x[(slice(None), *cut)]

    return jnp.concatenate([shifted(i) for i in np.ndindex(window.sizes)], -1)


def _reach(sizes: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Rows and columns from one end of a dilated kernel to the other."""
    return tuple((k - 1) * d + 1 for k, d in zip(sizes, dilation, strict=True))


def _numbers(
    name: str, value: int | Sequence[int], axes: int
) -> tuple[int, ...]:
    """A number for each axis of the image."""
    try:
        each = np.asarray(value)
    except ValueError:  # ragged
        each = np.zeros(0)
    each = np.broadcast_to(each, axes) if each.ndim == 0 else each
    if each.shape != (axes,) or each.dtype.kind not in "iu" or (each < 1).any():
        raise checks.UsageError(
            f"{name} {value!r}, but must be one whole number of at least 1,"
            f" or one for each of {_AXES[axes]}."
        )
    return tuple(int(n) for n in each)


def _pads(
    image: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
) -> tuple[tuple[int, int], ...]:
    """Rows and columns to add; raises unless the window fits in the image."""
    if isinstance(padding, str):
        known = ("SAME", "SAME_LOWER", "VALID")
        checks.choice("padding", padding, known)
        padding = jax.lax.padtype_to_pads(image, reach, strides, padding)
    try:
        pads = np.asarray(padding)
    except ValueError:  # ragged
        pads = np.zeros(0)
    if pads.shape != (len(image), 2):
        front = "(front, back), " if len(image) == 3 else ""
        raise checks.UsageError(
            f"padding is {padding!r}, but must be 'SAME', 'VALID' or"
            f" ({front}(top, bottom), (left, right))."
        )
    padded = [int(n + p.sum()) for n, p in zip(image, pads, strict=True)]
    if any(n < k for n, k in zip(padded, reach, strict=True)):
        raise checks.UsageError(
            f"a window of {tuple(reach)} does not fit in images of"
            f" {tuple(padded)} after padding; pad with 'SAME' or use a smaller"
            " window."
        )
    return tuple((int(pads[i, 0]), int(pads[i, 1])) for i in range(len(pads)))
