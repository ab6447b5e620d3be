"""The convolutional network of arXiv:2311.07164."""

import functools

import flax.linen as nn
import jax

from jaxedge.models.layers import Conv, Dense, Norm
from jaxedge.quantize import integer


class Cnn(nn.Module):
    """Pooled images, two convolutions, two dense layers (edge_pruning 3).

    62,272 weights for 28 x 28 x 1 images and 10 classes: 576 + 9,216 +
    51,200 + 1,280.

    Attributes:
        classes: number of outputs.
        channels: outputs of the two convolutions.
        hidden: outputs of the first dense layer.
        bits: resolution of the activations; None is exact.
        over: range of the activation quantiser, "example" or "tensor".
    """

    classes: int = 10
    channels: tuple[int, int] = (64, 16)
    hidden: int = 128
    bits: int | None = 4
    over: str = "example"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        quantise = functools.partial(
            integer.dynamic, bits=self.bits, over=self.over
        )
        pool = functools.partial(
            nn.max_pool, window_shape=(2, 2), strides=(2, 2)
        )
        first, second = self.channels
        x = quantise(pool(x), signed=True)
        x = Conv(first, padding="VALID")(x, key)
        x = quantise(nn.relu(Norm()(x, train)))
        x = Conv(second, padding="VALID")(x, key)
        x = quantise(nn.relu(Norm()(pool(x), train)))
        x = x.reshape(x.shape[0], -1)
        x = quantise(nn.relu(Dense(self.hidden)(x, key)))
        return Dense(self.classes)(x, key)
