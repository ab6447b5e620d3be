"""Layers of networks that see volumes, with whatever leaf they find.

Letters: B batch, Z, Y, X axes of a volume, C channels, I inputs, O outputs.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.models import layers
from jaxedge.models.layers import COUNTS, Dense, Init, with_bias

# Kaiming's N(0, 2 / (1 + a^2) / fan) for a rectifier of slope a = 0.25.
_GAIN = 2 / (1 + 0.25**2)
INIT = nn.initializers.variance_scaling(_GAIN, "fan_in", "normal")
# Of PyTorch's transposed convolution, whose fan is counted at its outputs.
UP_INIT = nn.initializers.variance_scaling(_GAIN, "fan_out", "normal")
SLOPE = 0.25
# Of the normalisation in CBAM: share of the old statistics, and what is added
# to the variance.
MOMENTUM, EPS = 0.99, 1e-5


class VolumeConv(nn.Module):
    """A convolution: [B, Z, Y, X, I] to [B, Z', Y', X', features].

    Attributes:
        features: number of outputs.
        window: kernel depth, height and width, one number.
        stride: of all axes; above 1 nothing is padded, else the size is kept.
        dilation: distance between neighbours in the kernel.
        kernel_init: initialiser of the kernel [d, h, w, I, features].
        bias: whether a bias is added, outside of the array.
    """

    features: int
    window: int = 3
    stride: int = 1
    dilation: int = 1
    kernel_init: Init = INIT
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        shape = (*[self.window] * 3, x.shape[-1], self.features)
        y = hardware.conv(
            x,
            layers.weight(self, shape, self.kernel_init),
            strides=self.stride,
            padding="SAME" if self.stride == 1 else "VALID",
            dilation=self.dilation,
            key=layers.read_key(self, key),
        )
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(y.shape[1:-1])))
        return with_bias(self, y) if self.bias else y


class Doubling(nn.Module):
    """A transposed convolution of window 2 and stride 2, which doubles sides.

    Its windows do not overlap, so that it is a matrix product whose 8 * O
    results are the 2 x 2 x 2 voxels that one becomes: an array holds it as a
    matrix, and no zero is multiplied.

    Attributes:
        features: O.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        shape = (x.shape[-1], 8 * self.features)
        kernel = layers.weight(self, shape, UP_INIT)
        y = hardware.dot(x, kernel, key=layers.read_key(self, key))
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(y.shape[1:-1])))
        batch, depth, height, width, _ = x.shape
        y = y.reshape(batch, depth, height, width, 2, 2, 2, self.features)
        y = y.transpose(0, 1, 4, 2, 5, 3, 6, 7)
        y = y.reshape(batch, 2 * depth, 2 * height, 2 * width, self.features)
        return with_bias(self, y)


class Prelu(nn.Module):
    """x above 0, and below it x times a learned slope of each channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        start = nn.initializers.constant(SLOPE)
        slope = self.param("slope", start, (x.shape[-1],))
        slope = jnp.asarray(slope, x.dtype).reshape([1] * (x.ndim - 1) + [-1])
        return jnp.where(x > 0, x, x * slope)


class ChannelGate(nn.Module):
    """Multiplies every channel by a number in (0, 1) that depends on all.

    The sigmoid of the sum of one network's two answers, to the mean and to the
    maximum of each channel (Woo et al., CBAM, ECCV 2018, equation 2).

    Attributes:
        hidden: units of that network.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        axes = (1, 2, 3)
        pooled_Bx2xC = jnp.stack([x.mean(axes), x.max(axes)], 1)
        y = nn.relu(Dense(self.hidden, bias=True)(pooled_Bx2xC, key))
        y = Dense(x.shape[-1], bias=True)(y, key).sum(1)
        return x * nn.sigmoid(y).reshape(len(x), 1, 1, 1, -1)


class SpatialGate(nn.Module):
    """Multiplies every voxel by a number in (0, 1) that its place has.

    The sigmoid of a normalised convolution of 7 x 7 x 7 over the maximum and
    the mean of the channels (CBAM, equation 3).
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        pooled = [reduced(-1, keepdims=True) for reduced in (x.max, x.mean)]
        y = VolumeConv(1, 7, bias=False)(jnp.concatenate(pooled, -1), key)
        norm = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPS)
        return x * nn.sigmoid(norm(y).astype(x.dtype))


class Cbam(nn.Module):
    """A channel gate, and after it a spatial gate.

    Attributes:
        hidden: units of the channel gate.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        x = ChannelGate(self.hidden)(x, key)
        return SpatialGate()(x, train, key)


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """[B, Z, Y, X, C] with sides times `factor`, linear between centres."""
    batch, *sides, channels = x.shape
    shape = (batch, *(factor * n for n in sides), channels)
    return x if factor == 1 else jax.image.resize(x, shape, "linear")
