"""Weights and inputs on integer grids whose steps are learned.

    leaf = LearnedStep(kernel, Grid(step, -8, 7), Grid(step, 0, 15))
    y = hardware.dot(x, leaf)

Programmed on a crossbar or on a macro such a leaf leaves its values there, and
brings the range of its inputs along.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core.trees import pytree
from jaxedge.hardware.converters import Range
from jaxedge.hardware.weights import Product, Weight
from jaxedge.quantize.grid import Grid


@pytree
class LearnedStep(Weight):
    """A matrix [I, O] or kernel [h, w, I, O] of few integers.

    Attributes:
        weights: as they are trained, floating point.
        grid: of the weights, whose groups are parts of the outputs; None
            leaves them.
        inputs: of what they meet, whose groups are parts of the inputs; None
            leaves it.
    """

    weights: jax.Array
    grid: Grid | None
    inputs: Grid | None = None

    trained = True

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Shape of the weight."""
        return self.weights.shape

    @property
    def values(self) -> jax.Array:
        """The weights on their grid, differentiable."""
        w = self.weights
        return w if self.grid is None else self.grid.apply(w)

    def encode(self, x: jax.Array) -> jax.Array:
        """Inputs as they meet the weights."""
        return x if self.inputs is None else self.inputs.apply(x)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # Digital: a read has no noise.
        values = self.values
        return product(self.encode(x), values.reshape(-1, values.shape[-1]))

    def target(self) -> Any:
        """What other hardware is to hold in its place.

        Its values; where inputs have a grid, with the range of that, the widest
        of its groups. With `input_bits` as many as the grid's, a converter has
        the same levels.
        """
        if self.inputs is None:
            return self.values
        low, high = self.inputs.limits
        # Converters of offset inputs have to reach zero too.
        low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
        return hardware.Ranged(self.values, Range(low, high))
