"""Weights that know the range of their inputs."""

from typing import Any

import jax

from jaxedge.core.trees import pytree
from jaxedge.hardware.converters import Range
from jaxedge.hardware.weights import Product, Weight, multiply


@pytree
class Ranged(Weight):
    """A weight and the range of inputs that was learned with it.

    As it stands it is ideal, and clips nothing. Programmed on a crossbar with
    `input_bits` it brings its range along, in place of the design's own
    `input_range` and `input_percentile`; other designs do not look at it.

    Attributes:
        weights: array, or a leaf that can be programmed, [I, O] or
            [h, w, I, O].
        input_range: limits of the inputs, [] each, in their unit, with
            lo <= 0 <= hi and lo < hi.
    """

    weights: Any
    input_range: Range

    trained = True

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Shape of the weight."""
        return self.weights.shape

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        w = self.weights
        if not isinstance(w, Weight):
            w = w.reshape(-1, w.shape[-1])
        return multiply(x, w, product, key)
