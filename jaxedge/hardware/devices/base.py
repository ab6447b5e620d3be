"""What every memory cell can do, and cells that hold any conductance.

A device is a frozen pytree of numbers with pure methods, so its spread, noise
or fault rate can be swept with `vmap` and differentiated. Conductances are in
siemens, times in seconds since programming. Three kinds of randomness stay
apart: the chip key is spent by `program` and is the device; the number of the
programming event decides what differs when the same chip is written again; the
read key is spent by `read`.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree
from jaxedge.hardware import sampling
from jaxedge.hardware.converters import within

MICRO = 1e-6
C = TypeVar("C")
D = TypeVar("D", bound="Device[Any]")


class Term(NamedTuple):
    """One product of a current, `drive` (V) times `siemens` (S)."""

    drive: jax.Array
    siemens: jax.Array


class Device(Generic[C]):
    """What every memory cell can do; `C` is its state after programming.

    Subclasses are pytrees with the fields `g_min`, `g_max` (the range that
    weights are mapped to, S) and `read_noise` (std of one read relative to
    the conductance).
    """

    g_min: Any
    g_max: Any
    read_noise: Any

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> C:
        """Writes `target_S` (any shape, S) onto the cells of one chip.

        Cells are drawn in float32 or wider, whatever the target's type.

        Args:
            key: chip key, consumed; it decides what programming cannot change.
            target_S: conductances to write, S, any shape.
            event: number of the programming event, a whole number of at least
                0. Another event writes the same chip anew.
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
        noise = sampling.normal(key, g.shape, g.dtype)
        return g + self.read_std(cells, seconds) * noise

    @property
    def linear(self) -> bool:
        """Whether the current of a cell is proportional to the voltage."""
        return True

    def curve(self, v: jax.Array, g: jax.Array) -> Sequence[Term]:
        """The I-V law of cells with small-signal conductance `g`.

        Currents are sums of products, so that an array is read by matrix
        products whatever the law.

        Args:
            v: voltage of the inputs, V, [..., I].
            g: conductance, S, such as [I, O].

        Returns:
            Terms with a drive of the shape of `v` and siemens of the shape of
            `g`; the current is the sum of drive @ siemens over them.
        """
        return (Term(v, g),)

    def terms(
        self, v: jax.Array, cells: C, seconds: ArrayLike = 0.0
    ) -> Sequence[Term]:
        """The `curve` of the mean conductance after `seconds`."""
        return self.curve(v, self.conductance(cells, seconds))

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
    The error eps is one of the programming event.

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

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Level:
        checks.finite("target_S", target_S)
        target_S = within(physical(target_S), self.g_min, self.g_max)
        std = jnp.multiply(self.program_noise, self.g_max)
        key = event_key(key, event)
        eps = sampling.draw_if(
            std > 0, sampling.to_normal, key, target_S.shape, target_S.dtype
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


def event_key(key: jax.Array, event: ArrayLike) -> jax.Array:
    """The key of what one programming event draws; event 0 has the chip's.

    Raises:
        UsageError: unless `event` is a whole number of at least 0.
    """
    if isinstance(event, int) and event == 0:
        return key
    if not jnp.issubdtype(jnp.result_type(event), jnp.integer):
        raise checks.UsageError(
            f"event must be a whole number, got {event!r}; events are counted"
            " from 0."
        )
    checks.in_range("event", event, 0)
    return jnp.where(
        jnp.equal(event, 0), key, stream(key, "event", jnp.asarray(event))
    )


def root(power: jax.Array) -> jax.Array:
    """Square root with slope 0 at 0, for noise that adds in quadrature."""
    lit = power > 0
    return jnp.where(lit, jnp.sqrt(jnp.where(lit, power, 1)), 0)
