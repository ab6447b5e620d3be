"""A small classifier of images with several modalities as channels.

Ours, for features in which sets of images are compared; no published one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.models.layers import Conv, Dense


class PairClassifier(nn.Module):
    """Three convolutions, means and maxima over places, two dense layers.

    Convolutions have windows of 3 x 3 and steps of 2, so that any size of at
    least 1 x 1 is taken. 31,826 parameters for two channels and classes.

    Attributes:
        classes: K, number of outputs.
        channels: outputs of the convolutions.
        hidden: F, units of the layer before the last.
    """

    classes: int = 2
    channels: tuple[int, ...] = (16, 32, 64)
    hidden: int = 64

    def setup(self) -> None:
        he = nn.initializers.he_normal()
        self.convs = [
            Conv(n, strides=2, kernel_init=he, bias=True) for n in self.channels
        ]
        self.dense = Dense(self.hidden, kernel_init=he, bias=True)
        self.last = Dense(self.classes, bias=True)

    def features(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """What the last layer sees.

        Args:
            x: [B, H, W, C].
            key: read key; None reads without noise.

        Returns:
            [B, F], at least 0.
        """
        for conv in self.convs:
            x = nn.relu(conv(x, key))
        x = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)
        return nn.relu(self.dense(x, key))

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, K] of images [B, H, W, C]; `train` changes nothing."""
        return self.last(self.features(x, key=key), key)
