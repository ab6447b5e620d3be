"""What every memory cell can do, and cells that hold any conductance.

A device is a frozen pytree of numbers with pure methods, so its spread, noise
or fault rate can be swept with `vmap` and differentiated. Conductances are in
siemens, times in seconds since programming. Three kinds of randomness stay
apart: the chip key is spent by `program`, the read key by `read`.
"""

import dataclasses
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import pytree
from jaxedge.hardware.converters import within
from jaxedge.hardware.sampling import draw_if

MICRO = 1e-6
C = TypeVar("C")
D = TypeVar("D", bound="Device[Any]")


class Device(Generic[C]):
    """What every memory cell can do; `C` is its state after programming.

    Subclasses are pytrees with the fields `g_min`, `g_max` (the range that
    weights are mapped to, S) and `read_noise` (std of one read relative to
    the conductance).
    """

    g_min: Any
    g_max: Any
    read_noise: Any

    def program(self, key: jax.Array, target_S: jax.Array) -> C:
        """Writes `target_S` (any shape, S) onto new cells; consumes `key`.

        Cells are drawn in float32 or wider, whatever the target's type.
        """
        raise NotImplementedError

    def reset(self, cells: C, keep: jax.Array) -> C:
        """Switches cells off where `keep` is 0; linear in `keep`."""
        raise NotImplementedError

    def conductance(self, cells: C, seconds: ArrayLike = 0.0) -> jax.Array:
        """Mean conductance (S) that a read sees after `seconds`."""
        raise NotImplementedError

    def read_std(self, cells: C, seconds: ArrayLike = 0.0) -> jax.Array:
        """Standard deviation (S) of one read, shape of the cells."""
        return self.read_noise * self.conductance(cells, seconds)

    def read(
        self, key: jax.Array, cells: C, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        """One noisy read of every cell (S); consumes `key`."""
        g = self.conductance(cells, seconds)
        noise = jax.random.normal(key, g.shape, g.dtype)
        return g + self.read_std(cells, seconds) * noise

    def weight_scale(self, weights: jax.Array) -> jax.Array:
        """Weight per siemens of a pair: the largest weight fills the range."""
        largest = jnp.max(jnp.abs(weights))
        span = self.g_max - self.g_min
        return jnp.where(largest > 0, largest, 1.0) / span

    def replace(self: D, **fields: Any) -> D:
        """The same device with other numbers; nothing is checked."""
        return dataclasses.replace(self, **fields)  # type: ignore[type-var]

    def check(self) -> None:
        """Raises UsageError for a parameter out of its physical range."""
        checks.in_range("read_noise", self.read_noise, 0)


class Level(NamedTuple):
    """Cells that hold any conductance: `g` (S)."""

    g: jax.Array


@pytree
class Programmed(Device[Level]):
    """A cell written to a target with Gaussian error (generic model).

    G = clip(target, g_min, g_max) + program_noise * g_max * eps, not below 0.

    Attributes:
        g_min: smallest target conductance, S.
        g_max: largest target conductance, S.
        program_noise: std of the programmed value relative to `g_max`.
        read_noise: std of one read relative to the conductance.
    """

    g_min: ArrayLike = 0.0
    g_max: ArrayLike = 25 * MICRO
    program_noise: ArrayLike = 0.0
    read_noise: ArrayLike = 0.0

    def program(self, key: jax.Array, target_S: jax.Array) -> Level:
        checks.finite("target_S", target_S)
        target_S = within(physical(target_S), self.g_min, self.g_max)
        std = jnp.multiply(self.program_noise, self.g_max)
        eps = draw_if(
            std > 0, jax.random.normal, key, target_S.shape, target_S.dtype
        )
        g = target_S + std * eps
        # Not maximum, whose slope at 0 is a half.
        return Level(jnp.where(g < 0, 0, g))

    def reset(self, cells: Level, keep: jax.Array) -> Level:
        return Level(keep * cells.g + (1 - keep) * self.g_min)

    def conductance(self, cells: Level, seconds: ArrayLike = 0.0) -> jax.Array:
        del seconds  # This model does not drift.
        return cells.g

    def check(self) -> None:
        super().check()
        checks.in_range("program_noise", self.program_noise, 0)
        checks.in_range("g_min", self.g_min, 0)
        checks.in_range("g_max", self.g_max, 0, open_low=True)
        checks.ordered("g_min", self.g_min, "g_max", self.g_max)


def physical(target_S: ArrayLike) -> jax.Array:
    """A target in at least float32: bfloat16 has 8 bits for a spread."""
    target_S = jnp.asarray(target_S)
    return target_S.astype(jnp.promote_types(target_S.dtype, jnp.float32))
