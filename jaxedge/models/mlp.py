"""Multi-layer perceptron."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxedge.models.layers import Dense, Norm
from jaxedge.quantize import integer


class Mlp(nn.Module):
    """Dense layers without biases, normalised, with quantised activations.

    Attributes:
        widths: outputs of each layer, the last being the classes.
        bits: resolution of the activations; None is exact.
        over: range of the activation quantiser, "example" or "tensor".
    """

    widths: Sequence[int]
    bits: int | None = None
    over: str = "example"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        x = integer.dynamic(x, self.bits, signed=True, over=self.over)
        for width in self.widths[:-1]:
            x = nn.relu(Norm()(Dense(width)(x, key), train))
            x = integer.dynamic(x, self.bits, over=self.over)
        return Dense(self.widths[-1])(x, key)
