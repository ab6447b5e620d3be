"""Conductance models of memory cells, and presets that name their source.

A device is a frozen pytree of numbers with pure methods, so its spread, noise
or fault rate can be swept with `vmap` and differentiated. Conductances are in
siemens, times in seconds since programming. Three kinds of randomness stay
apart: the chip key is spent by `program`, the read key by `read`.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware.converters import straight_through
from jaxedge.hardware.sampling import draw_if, normal, open_uniform

MICRO = 1e-6
C = TypeVar("C")


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
        target_S = _within(_physical(target_S), self.g_min, self.g_max)
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


class Switched(NamedTuple):
    """Cells with two levels.

    Attributes:
        high: low-resistance conductance, S.
        low: high-resistance conductance, S.
        state: 1 where the cell is in its high level, 0 in its low level. A
            stuck cell has two equal levels, so that no switching moves it.
    """

    high: jax.Array
    low: jax.Array
    state: jax.Array


@pytree
class SwitchedRram(Device[Switched]):
    """Resistive memory with a random low- and high-resistance level.

    The 40 nm macro of arXiv:2311.07164 and arXiv:2312.09262. A target in the
    upper half of [g_min, g_max] sets a cell, any other resets it; the level
    reached is random (device_physics D.1).

    Attributes:
        lrs_mean: mean low-resistance conductance, S.
        lrs_std: its device-to-device std, S.
        hrs_mean: location of the high-resistance level |N(mean, std)|, S.
            Unknown for this macro; labelled default.
        hrs_std: its std, S. Unknown for this macro; labelled default.
        read_noise: std of one read relative to the conductance.
        stuck_on: share of cells that stay at their high level.
        stuck_off: share of cells that stay at their low level.
        family: "normal" (truncated above 0) or "lognormal".
    """

    lrs_mean: ArrayLike = 34.05538 * MICRO
    lrs_std: ArrayLike = 5.32269 * MICRO
    hrs_mean: ArrayLike = 1.0 * MICRO
    hrs_std: ArrayLike = 0.5 * MICRO
    read_noise: ArrayLike = 0.02
    stuck_on: ArrayLike = 0.0
    stuck_off: ArrayLike = 0.0
    family: str = static(default="normal")

    @property
    def g_min(self) -> ArrayLike:
        """The high-resistance location, S."""
        return self.hrs_mean

    @property
    def g_max(self) -> ArrayLike:
        """The low-resistance mean, S."""
        return self.lrs_mean

    def program(self, key: jax.Array, target_S: jax.Array) -> Switched:
        checks.finite("target_S", target_S)
        target_S = _physical(target_S)
        share = (target_S - self.g_min) / jnp.subtract(self.g_max, self.g_min)
        state = straight_through(share, jnp.where(share > 0.5, 1.0, 0.0))
        return self._settle(key, state.astype(target_S.dtype))

    def reset(self, cells: Switched, keep: jax.Array) -> Switched:
        return cells._replace(state=cells.state * keep)

    def conductance(
        self, cells: Switched, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        del seconds  # Retention of this macro is unknown.
        return cells.low + (cells.high - cells.low) * cells.state

    def check(self) -> None:
        super().check()
        checks.choice("family", self.family, _FAMILIES)
        checks.in_range("lrs_mean", self.lrs_mean, 0, open_low=True)
        for name in ("lrs_std", "hrs_mean", "hrs_std"):
            checks.in_range(name, getattr(self, name), 0)
        checks.ordered("hrs_mean", self.hrs_mean, "lrs_mean", self.lrs_mean)
        checks.in_range("stuck_on", self.stuck_on, 0, 1)
        checks.in_range("stuck_off", self.stuck_off, 0, 1)
        if checks.concrete(self.stuck_on) and checks.concrete(self.stuck_off):
            total = jnp.add(self.stuck_on, self.stuck_off)
            checks.in_range("stuck_on + stuck_off", total, 0, 1)

    def _settle(self, key: jax.Array, state: jax.Array) -> Switched:
        """Cells whose levels are drawn and whose faults are pinned."""
        spread = jnp.add(self.lrs_std, self.hrs_std)
        faults = jnp.add(self.stuck_on, self.stuck_off)
        high, low = draw_if(
            spread + faults > 0,
            _levels,
            key,
            state.shape,
            state.dtype,
            (self,),
            _nominal,
        )
        return Switched(high, low, state)


@pytree
class RandomRram(SwitchedRram):
    """As-formed resistive memory: forming decides at random which cells exist.

    G = f G_LRS + (1 - f) G_pristine with f ~ Bernoulli(formed) (D.1). Of a
    target only the shape counts: the array is a source of random weights.

    Attributes:
        formed: probability that a cell is formed, see `forming_probability`.
        pristine: conductance of an unformed cell, S (about 10 Mohm in
            Nat. Mach. Intell. 5, 104 (2023), Extended Data Fig. 1).
    """

    formed: ArrayLike = 0.5
    pristine: ArrayLike = 0.1 * MICRO

    def program(self, key: jax.Array, target_S: jax.Array) -> Switched:
        target_S = _physical(target_S)
        u = jax.random.uniform(
            stream(key, "forming"), target_S.shape, target_S.dtype
        )
        formed = u < self.formed
        cells = self._settle(key, formed.astype(target_S.dtype))
        low = jnp.where(formed, cells.low, self.pristine)
        # A stuck cell keeps its level whether or not it was formed.
        stuck = cells.low == cells.high
        return cells._replace(low=jnp.where(stuck, cells.low, low))

    def weight_scale(self, weights: jax.Array) -> jax.Array:
        """Weight per siemens of a pair: equal root mean squares (D.2)."""
        zero, mean, std = 1 - self.formed, self.lrs_mean, self.lrs_std
        power = 2 * zero * self.formed * (mean**2 + std**2)
        power += 2 * self.formed**2 * std**2
        return jnp.sqrt(jnp.mean(weights**2) / power)

    def check(self) -> None:
        super().check()
        checks.in_range("formed", self.formed, 0, 1, open_low=True)
        checks.in_range("pristine", self.pristine, 0)
        checks.ordered("pristine", self.pristine, "lrs_mean", self.lrs_mean)
        if checks.concrete(self.formed) and checks.concrete(self.lrs_std):
            equal = (np.asarray(self.formed) == 1) & (
                np.asarray(self.lrs_std) == 0
            )
            if equal.any():
                raise checks.UsageError(
                    "formed is 1 and lrs_std is 0: all cells would be equal,"
                    " and their pairs no random weights; lower formed or give"
                    " lrs_std."
                )


def forming_probability(
    volts: ArrayLike, mean: ArrayLike = 3.433, std: ArrayLike = 0.114
) -> jax.Array:
    """Share of cells formed at a forming voltage, Phi((V - mean) / std).

    Args:
        volts: forming voltage, V.
        mean: mean breakdown voltage, V (measured on 20 x 20 cells).
        std: its std, V.

    Returns:
        Probability in [0, 1], shape of `volts` (device_physics D.1).
    """
    return jax.scipy.stats.norm.cdf(jnp.asarray(volts), mean, std)


def _levels(
    key: jax.Array, shape: tuple[int, ...], dtype: Any, device: SwitchedRram
) -> tuple[jax.Array, jax.Array]:
    """High and low levels, equal where a cell is stuck."""
    # One draw for all three: a chip costs little beside its numbers.
    u_lrs, u_hrs, u_stuck = open_uniform(key, (3, *shape), dtype)
    high = _FAMILIES[device.family](u_lrs, device.lrs_mean, device.lrs_std)
    low = jnp.abs(device.hrs_mean + device.hrs_std * normal(u_hrs))
    off = u_stuck > 1 - 2 * device.stuck_off
    on = u_stuck < 2 * device.stuck_on - 1
    return jnp.where(off, low, high), jnp.where(on, high, low)


def _nominal(
    shape: tuple[int, ...], dtype: Any, device: SwitchedRram
) -> tuple[jax.Array, jax.Array]:
    """Both levels without any spread."""
    return (
        jnp.full(shape, device.lrs_mean, dtype),
        jnp.full(shape, device.hrs_mean, dtype),
    )


def _within(x: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """Clips; the slope is 1 up to and on the bounds, where clip has a half."""
    outside = (x < low) | (x > high)
    return jnp.where(outside, jnp.clip(x, low, high), x)


def _physical(target_S: ArrayLike) -> jax.Array:
    """A target in at least float32: bfloat16 has 8 bits for a spread."""
    target_S = jnp.asarray(target_S)
    return target_S.astype(jnp.promote_types(target_S.dtype, jnp.float32))


def _normal(u: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Normal truncated above 0, from a uniform on (-1, 1)."""
    spread = jnp.greater(std, 0)
    mean_stds = jnp.asarray(mean, u.dtype) / jnp.where(spread, std, 1)
    below = jnp.where(spread, jax.scipy.stats.norm.cdf(-mean_stds), 0)
    return jnp.asarray(mean) + std * normal(u * (1 - below) + below)


def _lognormal(u: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Lognormal with the given mean and std of the conductance itself."""
    ratio = jnp.divide(std, mean)
    power = ratio**2
    # sqrt(log1p(power)) / ratio, by its series where float32 cannot divide;
    # the root alone would have no slope at 0.
    large = power > 1e-4
    safe = jnp.where(large, power, 1)
    factor = jnp.where(large, jnp.sqrt(jnp.log1p(safe) / safe), 1 - power / 4)
    location = jnp.log(jnp.asarray(mean)) - jnp.log1p(power) / 2
    return jnp.exp(location + ratio * factor * normal(u))


_FAMILIES: dict[str, Callable[..., jax.Array]] = {
    "normal": _normal,
    "lognormal": _lognormal,
}

# Each preset's figures and their source; see docs/hardware.md.
PRESETS: dict[str, Callable[..., Device[Any]]] = {
    # Exact programming and reading: the reference of every comparison.
    "ideal": Programmed,
    # As-formed cells, N(34.05538, 5.32269) uS, as simulated by the DEPLM code
    # (arXiv:2312.09262); the forming share is .5 at 3.43 V.
    "rram_40nm_random": RandomRram,
    # The same cells as complementary SET/RESET pairs (arXiv:2311.07164).
    "rram_40nm_set_reset": SwitchedRram,
    # Measured maps of Nat. Mach. Intell. 5, 104 (2023), Fig. 1 source data:
    # hidden weights 50 x 50, 50.7 % unformed, lognormal.
    "rram_40nm_measured_50x50": functools.partial(
        RandomRram,
        lrs_mean=12.346 * MICRO,
        lrs_std=1.859 * MICRO,
        formed=0.493,
        family="lognormal",
    ),
    # Input weights 50 x 8 of the same source, 50.5 % unformed.
    "rram_40nm_measured_50x8": functools.partial(
        RandomRram,
        lrs_mean=12.272 * MICRO,
        lrs_std=1.743 * MICRO,
        formed=0.495,
        family="lognormal",
    ),
}


def get(name: str, **overrides: Any) -> Device[Any]:
    """The device preset `name` with some parameters replaced.

    Args:
        name: a key of `PRESETS`.
        **overrides: fields of the device, conductances in S.

    Returns:
        A device.

    Raises:
        UsageError: for an unknown preset or field, or a value out of range.
    """
    if name not in PRESETS:
        raise checks.unknown("device preset", name, PRESETS)
    default = PRESETS[name]()
    fields = [f.name for f in dataclasses.fields(default)]  # type: ignore
    for field in overrides:
        if field not in fields:
            raise checks.unknown(f"parameter of {name}", field, fields)
    device = PRESETS[name](**overrides)
    device.check()
    return device
