"""Transposed convolutions, which enlarge images, on whatever leaf they find.

Letters: B batch, H height, W width, h and w of a window, I inputs, O outputs.
"""

from collections.abc import Sequence
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.models import layers
from jaxedge.models.layers import COUNTS, DEFAULT_INIT, Init, with_bias


class ConvTranspose(nn.Module):
    """A transposed convolution: [B, H, W, I] to [B, s H, s W, features].

    The gradient of a convolution of the same window and strides, padded as
    "SAME" is by TensorFlow and JAX, with respect to its image: what
    TensorFlow's `conv2d_transpose` is.

    Each pixel meets the array once, as a vector of I inputs, and becomes
    h * w * O results; neighbours' results that fall on the same pixel are
    added, digitally. So an array holds a matrix, no zero is multiplied, and
    the multiplications of the record of energy are those of the layer. (A
    convolution of an image with zeros between its pixels, which
    `hardware.wrap` makes of flax's layer, is the same function on
    s * s times as many vectors, each all but 1 / (s * s) of zeros.)

    Attributes:
        features: O.
        window: h and w.
        strides: s, one number, or one for each of height and width.
        kernel_init: initialiser, given the shape [h, w, I, O]; `columns` of it
            are the kernel, [I, h * w * O].
        bias: whether a bias is added, outside of the array.
    """

    features: int
    window: tuple[int, int] = (4, 4)
    strides: int | tuple[int, int] = 2
    kernel_init: Init = DEFAULT_INIT
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = jnp.asarray(x)
        if x.ndim != 4:
            raise checks.UsageError(
                f"a transposed convolution needs images [B, H, W, I], got shape"
                f" {x.shape}; reshape them."
            )
        inputs, (height, width) = x.shape[-1], self.window
        whole = (height, width, inputs, self.features)

        def init(key: jax.Array, shape: Sequence[int]) -> jax.Array:
            return columns(self.kernel_init(key, whole)).reshape(shape)

        shape = (inputs, height * width * self.features)
        kernel = layers.weight(self, shape, init)
        y = hardware.dot(x, kernel, key=layers.read_key(self, key))
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(x.shape[1:-1])))
        y = y.reshape(*x.shape[:-1], height, width, self.features)
        strides = self.strides
        y = overlap(
            y, (strides, strides) if isinstance(strides, int) else strides
        )
        return with_bias(self, y) if self.bias else y


def columns(kernel: jax.Array) -> jax.Array:
    """The matrix [I, h * w * O] of a kernel [h, w, I, O].

    Of TensorFlow's kernels, [h, w, O, I], the last two axes are swapped first,
    and PyTorch's, [I, O, h, w], are moved; none is turned over.
    """
    return jnp.moveaxis(kernel, 2, 0).reshape(kernel.shape[2], -1)


def overlap(patches: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """Adds patches into the image in which they overlap.

    Args:
        patches: [B, H, W, h, w, O], one of h x w pixels for each of H x W
            places.
        strides: pixels from one place to the next, down and along.

    Returns:
        [B, H * strides[0], W * strides[1], O], the middle of what the patches
        cover: of their max(h - s, 0) rows too many the smaller half is cut off
        in front, as "SAME" adds them, and so of columns.
    """
    batch, height, width, *window, outputs = patches.shape
    # A window as so many whole strides.
    reach = [-(-k // s) for k, s in zip(window, strides, strict=True)]
    spare = [
        (0, n * s - k) for n, s, k in zip(reach, strides, window, strict=True)
    ]
    parts = jnp.pad(patches, [(0, 0)] * 3 + [*spare, (0, 0)])
    parts = parts.reshape(
        batch,
        height,
        width,
        reach[0],
        strides[0],
        reach[1],
        strides[1],
        outputs,
    )

    def shifted(down: int, along: int) -> jax.Array:
        sides = (down, reach[0] - 1 - down), (along, reach[1] - 1 - along)
        return jnp.pad(
            parts[:, :, :, down, :, along],
            [(0, 0), *sides, (0, 0), (0, 0), (0, 0)],
        )

    total = sum(shifted(*place) for place in np.ndindex(*reach))
    total = jnp.asarray(total).transpose(0, 1, 3, 2, 4, 5)
    sides = [
        (n + m - 1) * s
        for n, m, s in zip((height, width), reach, strides, strict=True)
    ]
    image = total.reshape(batch, *sides, outputs)
    top, left = (
        max(k - s, 0) // 2 for k, s in zip(window, strides, strict=True)
    )
    return image[
        :, top : top + height * strides[0], left : left + width * strides[1]
    ]
