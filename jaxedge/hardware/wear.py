"""How many pulses a cell survives, and which cells are worn out."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import sampling

FAMILIES = ("lognormal", "weibull")


@pytree
class Wear:
    """The endurance of a cell: after so many pulses it moves no more.

    Lognormal: N = median exp(s z), z standard normal. Weibull: N = median (-ln
    U / ln 2)^s, U uniform, which is the law of shape 1 / s. Endurance is not
    published for the 40 nm macro, so the labelled default is infinite.

    Attributes:
        median: pulses that half of the cells survive; infinite is no wear.
        spread: s, at least 0; 0 makes all cells alike.
        family: one of `FAMILIES`.
    """

    median: ArrayLike = jnp.inf
    spread: ArrayLike = 0.0
    family: str = static(default="lognormal")

    def lifetimes(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Pulses that each cell survives, float32; consumes `key`."""
        if self.family == "lognormal":
            ln = sampling.normal(key, shape)
        else:
            hazard = jax.random.exponential(key, shape)  # -ln U
            floor = jnp.finfo(hazard.dtype).tiny
            ln = jnp.log(jnp.maximum(hazard, floor) / jnp.log(2.0))
        endless = jnp.isinf(jnp.asarray(self.median))
        median = jnp.where(endless, 1, self.median)
        return jnp.where(endless, jnp.inf, median * jnp.exp(self.spread * ln))

    def sound(self, key: jax.Array, uses: jax.Array) -> jax.Array:
        """Which cells still work after `uses` pulses each, bool of its shape.

        For cells that are counted apart, such as the sets and resets of a
        mask. The key is the chip's, so that more uses revive no cell.
        """
        return uses < self.lifetimes(key, jnp.shape(uses))

    def check(self) -> None:
        """Raises UsageError for a parameter out of range."""
        median = self.median
        if checks.concrete(median):  # Endless is a number here.
            median = np.asarray(median)
            median = np.where(median == np.inf, 1.0, median)
        checks.in_range("median", median, 0, open_low=True)
        checks.in_range("spread", self.spread, 0)
        checks.choice("family", self.family, FAMILIES)
