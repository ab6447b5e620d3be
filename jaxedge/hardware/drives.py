"""What the rows of an array get for its inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.hardware.noise import Seen


class Drive(NamedTuple):
    """Inputs as the rows get them, x = step code + low.

    Attributes:
        codes: [..., I], or [K, ..., I] for bit planes.
        full: largest code, [] or [..., 1].
        step: [..., 1] or []; None where codes are the inputs themselves.
        low: likewise.
    """

    codes: jax.Array
    full: ArrayLike
    step: ArrayLike | None = None
    low: ArrayLike | None = None

    def whole(self) -> tuple[jax.Array]:
        """Codes as the inputs that they stand for, less `low`, and `low`.

        `step (codes G) + low (1 G) = [step codes, low] [G; 1 G]` is one product
        of [..., I + 1]: XLA on CPU takes longer to scale a product, and to add
        to it, than to compute it.
        """
        step, low = jnp.asarray(self.step), jnp.asarray(self.low)
        codes = jnp.broadcast_to(step, (*self.codes.shape[:-1], 1)) * self.codes
        low = jnp.broadcast_to(low, (*codes.shape[:-1], 1))
        return (jnp.concatenate([codes, low.astype(codes.dtype)], -1),)


def with_row(seen: Seen, row: jax.Array) -> Seen:
    """An array [I, O] of one term and, below it, a row [O] without noise."""
    (matrix,), variance = seen
    if variance is not None:
        silent = jnp.zeros_like(row, variance.dtype)
        variance = jnp.concatenate([variance, silent[None]])
    return Seen((jnp.concatenate([matrix, row[None]]),), variance)
