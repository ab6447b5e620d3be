"""The U-Net of arXiv:2311.07164, for images of any size.

Letters: B batch, H height, W width, C channels, K classes.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.models.layers import Conv, Norm
from jaxedge.quantize import integer

# Halvings of the image: sides are filled up to multiples of 2 ** HALVINGS.
HALVINGS = 4


class Twice(nn.Module):
    """Two convolutions of 3 x 3, each quantised before, normalised after.

    Attributes:
        between: outputs of the first.
        features: outputs of the second.
        bits: resolution of the inputs of each; None is exact.
        over: range of the quantiser, "example" or "tensor".
        signed: whether the block's own input may be negative.
    """

    between: int
    features: int
    bits: int | None
    over: str
    signed: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        quantise = functools.partial(
            integer.dynamic, bits=self.bits, over=self.over
        )
        x = Conv(self.between)(quantise(x, signed=self.signed), key)
        x = quantise(nn.relu(Norm(affine=True)(x, train)))
        x = Conv(self.features)(x, key)
        return nn.relu(Norm(affine=True)(x, train))


class Unet(nn.Module):
    """Labels every pixel: [B, H, W, C] to logits [B, H, W, K].

    4,313,440 weights in 19 convolutions for grey images, 2 classes and a base
    of 32: five levels of 32, 64, 128, 256 and 256 channels, each of two
    convolutions of 3 x 3, and back up over 128, 64, 32 and 32, where the
    level's output joins what is enlarged from below; a convolution of 1 x 1
    makes the logits (edge_pruning 3). Normalisations have a learned scale and
    bias, which are digital. Sides that are no multiple of 16 are filled up
    with copies of the last row and column, whose logits are cut off again.

    Attributes:
        classes: K.
        base: channels of the first level.
        bits: resolution of the activations before every convolution; None is
            exact.
        over: range of the activation quantiser, "example" or "tensor".
        align_corners: how images are enlarged. The paper says "bilinear" and
            no more; the default keeps the centres of pixels in place, so that
            a patch is enlarged as the whole image is. Otherwise corners are.
    """

    classes: int = 2
    base: int = 32
    bits: int | None = 6
    over: str = "example"
    align_corners: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        block = functools.partial(Twice, bits=self.bits, over=self.over)
        base, (height, width) = self.base, x.shape[1:3]
        sides = [(0, -n % 2**HALVINGS) for n in (height, width)]
        x = jnp.pad(x, [(0, 0), *sides, (0, 0)], mode="edge")
        x = block(base, base, signed=True)(x, train, key)
        levels = [x]
        for wide in (2 * base, 4 * base, 8 * base, 8 * base):
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = block(wide, wide)(x, train, key)
            levels.append(x)
        for level, wide in zip(
            levels[-2::-1], (4 * base, 2 * base, base, base), strict=True
        ):
            x = jnp.concatenate([level, enlarge(x, self.align_corners)], -1)
            x = block(x.shape[-1] // 2, wide)(x, train, key)
        x = integer.dynamic(x, self.bits, over=self.over)
        x = Conv(self.classes, window=(1, 1))(x, key)
        return x[:, :height, :width]


def enlarge(x: jax.Array, align_corners: bool = False) -> jax.Array:
    """Doubles height and width, linear between pixels.

    Args:
        x: [B, H, W, C].
        align_corners: whether the corners of the image stay in place rather
            than the centres of its pixels; these are then closer by
            (n - 1) / (2 n - 1) than 1 / 2.

    Returns:
        [B, 2 H, 2 W, C].
    """
    batch, height, width, channels = x.shape
    shape = (batch, 2 * height, 2 * width, channels)
    if not align_corners:
        return jax.image.resize(x, shape, "bilinear")
    scale = jnp.array([_stretch(height), _stretch(width)])
    # Pixel i lies at i + 1/2, and the first one stays.
    shift = (1 - scale) / 2
    return jax.image.scale_and_translate(
        x, shape, (1, 2), scale, shift, "linear"
    )


def _stretch(n: int) -> float:
    # A single pixel has no other corner: all that is enlarged are copies.
    return (2 * n - 1) / (n - 1) if n > 1 else 1e9
