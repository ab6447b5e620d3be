"""Grids of integers whose steps are learned (LSQ, vvtq 4.1).

Letter: G groups of a tensor, equal parts of one axis, with steps of their own.
"""

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.quantize import integer


@pytree
class Grid:
    """Where the numbers of a tensor are rounded to: step code + offset.

    Limits are numbers and no part of the type: another resolution compiles
    nothing anew.

    Attributes:
        step: of each group, above 0, [G]. One group is the whole tensor, as
            many as there are channels are one a channel, as many as there are
            heads of an attention one a head.
        low: smallest code, [].
        high: largest code, [].
        offset: of all groups, []; None is none.
        axis: the one that groups divide, from the end.
        scale: of the gradient of the steps, `integer.gradient_scale`.
    """

    step: jax.Array
    low: jax.Array
    high: jax.Array
    offset: jax.Array | None = None
    axis: int = static(default=-1)
    scale: str = static(default="count")

    def apply(self, x: jax.Array) -> jax.Array:
        """`x` on the grid, with the gradients of LSQ; shape and dtype kept.

        Raises:
            UsageError: where the groups do not divide the axis.
        """
        step = self.steps(x)
        factor = integer.gradient_scale(
            self.scale, x, self.high, groups=self.step.size
        )
        limits = {"low": self.low, "high": self.high, "grad_scale": factor}
        if self.offset is None:
            return integer.lsq(x, step, **limits)
        return integer.lsq_plus(x, step, self.offset, **limits)

    def codes(self, x: jax.Array) -> jax.Array:
        """Integers of `x`, without gradients."""
        offset = 0.0 if self.offset is None else self.offset
        return integer.code(
            x, self.steps(x), low=self.low, high=self.high, offset=offset
        )

    def steps(self, x: jax.Array) -> jax.Array:
        """The step of every number of `x`, broadcast against it."""
        groups = self.step.size
        if groups == 1:
            return self.step.reshape([1] * x.ndim)
        if x.ndim < -self.axis or x.shape[self.axis] % groups:
            raise checks.UsageError(
                f"a grid has {groups} groups along axis {self.axis}, but meets"
                f" a tensor of shape {x.shape}, whose axis they do not divide."
            )
        size = x.shape[self.axis]
        shape = [1] * x.ndim
        shape[self.axis] = size
        return jnp.repeat(self.step, size // groups).reshape(shape)

    @property
    def limits(self) -> tuple[jax.Array, jax.Array]:
        """Smallest and largest value of any group, [] each."""
        offset = 0.0 if self.offset is None else self.offset
        widest = jnp.max(self.step)
        return self.low * widest + offset, self.high * widest + offset
