"""The convolutional recurrent network of arXiv:2311.07164."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core.keys import stream
from jaxedge.models.layers import Conv, Dense, Norm
from jaxedge.quantize import integer


class Crnn(nn.Module):
    """Two convolutions, a recurrent layer over time, two dense layers.

    Spectrograms [B, 23, 20, 1], time last but one: 68,480 weights, 384 +
    12,288 + 4,096 + 16,384 + 32,768 + 2,560 (edge_pruning 3). The recurrent
    layer is Elman's with ReLU and starts from zeros; its state is quantised
    between steps, and the mean of its states goes on. The released software
    variant has no ReLU after the second normalisation; this is the hardware
    variant, which has.

    Attributes:
        classes: number of outputs.
        channels: outputs of the two convolutions.
        state: size of the recurrent state.
        hidden: outputs of the first dense layer.
        bits: resolution of the activations; None is exact.
        over: range of the activation quantiser, "example" or "tensor".
    """

    classes: int = 10
    channels: tuple[int, int] = (64, 32)
    state: int = 128
    hidden: int = 256
    bits: int | None = 3
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
        x = quantise(x, signed=True)
        for features in self.channels:
            conv = Conv(
                features, window=(3, 2), strides=(2, 1), padding="VALID"
            )
            x = nn.max_pool(conv(x, key), (2, 2), strides=(2, 2))
            x = quantise(nn.relu(Norm()(x, train)))
        # Rows of frequency and channels of each moment: [B, T, I].
        x = jnp.swapaxes(x, 1, 2)
        x = x.reshape(*x.shape[:2], -1)
        # All moments in one call: vectors of one array, read one by one.
        sent = Dense(self.state, name="input")(x, key)
        again = Dense(self.state, name="recurrent")
        states = [jnp.zeros_like(sent[:, 0])]
        for t in range(sent.shape[1]):
            read = None if key is None else stream(key, "moment", t)
            held = quantise(states[-1])
            states.append(nn.relu(sent[:, t] + again(held, read)))
        x = quantise(jnp.mean(jnp.stack(states[1:]), 0))
        x = quantise(nn.relu(Dense(self.hidden)(x, key)))
        return Dense(self.classes)(x, key)
