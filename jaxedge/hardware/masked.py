"""Random weights of which only a subset is kept."""

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.trees import pytree
from jaxedge.hardware.weights import Product, Weight


@pytree
class MaskedRandom(Weight):
    """Frozen weights times a learned mask (arXiv:2311.07164).

    As it stands it is the ideal network that a search trains; programmed on a
    device the pruned cells are reset, and small rather than zero.

    Attributes:
        weights: [I, O] or [h, w, I, O].
        mask: 1 keeps, 0 prunes; shape of `weights`. Its gradient is the
            gradient of the product times the weight.
    """

    weights: jax.Array
    mask: jax.Array

    trained = True

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Shape of the weight."""
        return self.weights.shape

    def check(self) -> None:
        """Raises UsageError for a mask that does not fit its weights."""
        if jnp.shape(self.mask) != jnp.shape(self.weights):
            raise checks.UsageError(
                f"a mask of shape {jnp.shape(self.mask)} does not fit weights"
                f" of shape {jnp.shape(self.weights)}; they must be equal."
            )

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # Ideal: nothing is read from an array.
        self.check()
        matrix = self.weights * self.mask
        return product(x, matrix.reshape(-1, matrix.shape[-1]))

    def split(self, groups: int) -> "MaskedRandom":
        def parts(a: jax.Array) -> jax.Array:
            return jnp.stack(jnp.split(a, groups, -1))

        return MaskedRandom(parts(self.weights), parts(self.mask))
