"""A leaf that tells what both sides of a matrix met.

What is trained by outer products needs the two vectors of every product, not
their sum over a batch. Their gradients carry them out of `jax.grad`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core.trees import pytree


@pytree
class Tapped(hardware.Weight):
    """A matrix whose products tell what both of its sides met.

    Attributes:
        matrix: [I, O].
        x_BxI: zeros; their gradient is what the rows were sent.
        d_BxO: zeros; their gradient is the gradient of the product, what the
            columns are sent.
    """

    matrix: jax.Array
    x_BxI: jax.Array
    d_BxO: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Shape of the weight."""
        return self.matrix.shape

    def multiply(
        self, x: jax.Array, product: Any, key: jax.Array | None
    ) -> jax.Array:
        del product, key  # A matrix, without noise.
        return _tapped(x, self.matrix, self.x_BxI, self.d_BxO)


@jax.custom_vjp
def _tapped(
    x: jax.Array, matrix: jax.Array, x_BxI: jax.Array, d_BxO: jax.Array
) -> jax.Array:
    del x_BxI, d_BxO
    return x @ matrix


def _tapped_forward(x: jax.Array, matrix: jax.Array, *taps: jax.Array):
    return _tapped(x, matrix, *taps), (x, matrix)


def _tapped_backward(kept: tuple[jax.Array, jax.Array], d: jax.Array):
    x, matrix = kept
    # The rule writes the matrix; its gradient, an outer product, is not asked.
    return d @ matrix.T, jnp.zeros_like(matrix), x, d


_tapped.defvjp(_tapped_forward, _tapped_backward)
