"""Cells of two levels: random as formed, or set and reset.

The 40 nm macro of arXiv:2311.07164 and arXiv:2312.09262 (device_physics D.1).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import sampling
from jaxedge.hardware.converters import straight_through
from jaxedge.hardware.devices.base import MICRO, Device, event_key, physical
from jaxedge.hardware.devices.families import FAMILIES
from jaxedge.hardware.devices.faults import PRISTINE, check_shares


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
    upper half of [g_min, g_max] sets a cell, any other resets it. The two
    levels of a cell are random and those of the device; every programming
    event reaches them anew as level * (1 + c2c * eps), eps clipped at +-2
    (device_physics D.1).

    Attributes:
        lrs_mean: mean low-resistance conductance, S.
        lrs_std: its device-to-device std, S.
        hrs_mean: location of the high-resistance level |N(mean, std)|, S.
            Unknown for this macro; labelled default.
        hrs_std: its std, S. Unknown for this macro; labelled default.
        read_noise: std of one read relative to the conductance.
        c2c: cycle-to-cycle std relative to the level. An early release of the
            code of arXiv:2311.07164 has .0015 to .002.
        stuck_on: share of cells that stay at their high level.
        stuck_off: share of cells that stay at their low level.
        unformed: share of cells that stay at `pristine`.
        pristine: conductance of an unformed cell, S (about 10 Mohm in
            Nat. Mach. Intell. 5, 104 (2023), Extended Data Fig. 1).
        family: "normal" (truncated above 0) or "lognormal".
    """

    lrs_mean: ArrayLike = 34.05538 * MICRO
    lrs_std: ArrayLike = 5.32269 * MICRO
    hrs_mean: ArrayLike = 1.0 * MICRO
    hrs_std: ArrayLike = 0.5 * MICRO
    read_noise: ArrayLike = 0.02
    c2c: ArrayLike = 0.0
    stuck_on: ArrayLike = 0.0
    stuck_off: ArrayLike = 0.0
    unformed: ArrayLike = 0.0
    pristine: ArrayLike = PRISTINE
    family: str = static(default="normal")

    @property
    def g_min(self) -> ArrayLike:
        """The high-resistance location, S."""
        return self.hrs_mean

    @property
    def g_max(self) -> ArrayLike:
        """The low-resistance mean, S."""
        return self.lrs_mean

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Switched:
        checks.finite("target_S", target_S)
        target_S = physical(target_S)
        share = (target_S - self.g_min) / jnp.subtract(self.g_max, self.g_min)
        state = straight_through(share, jnp.where(share > 0.5, 1.0, 0.0))
        return self._settle(key, state.astype(target_S.dtype), event)

    def reset(self, cells: Switched, keep: jax.Array) -> Switched:
        return cells._replace(state=cells.state * keep)

    def conductance(
        self, cells: Switched, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        del seconds  # Retention of this macro is unknown.
        return cells.low + (cells.high - cells.low) * cells.state

    def check(self) -> None:
        super().check()
        checks.choice("family", self.family, FAMILIES)
        checks.in_range("lrs_mean", self.lrs_mean, 0, open_low=True)
        for name in ("lrs_std", "hrs_mean", "hrs_std", "pristine"):
            checks.in_range(name, getattr(self, name), 0)
        checks.in_range("c2c", self.c2c, 0, 0.5)  # A level stays above 0.
        checks.ordered("hrs_mean", self.hrs_mean, "lrs_mean", self.lrs_mean)
        checks.ordered("pristine", self.pristine, "lrs_mean", self.lrs_mean)
        check_shares(self)

    def _settle(
        self, key: jax.Array, state: jax.Array, event: ArrayLike
    ) -> Switched:
        """Cells whose levels are drawn and whose faults are pinned."""
        spread = jnp.add(self.lrs_std, self.hrs_std)
        faults = jnp.add(self.stuck_on, self.stuck_off) + self.unformed
        high, low = sampling.draw_if(
            spread + faults > 0,
            _levels,
            key,
            state.shape,
            state.dtype,
            (self,),
            _nominal,
            each=3,
        )
        eps = sampling.draw_if(
            jnp.greater(self.c2c, 0),
            sampling.to_normal,
            stream(event_key(key, event), "cycle"),
            state.shape,
            state.dtype,
        )
        # No event moves a stuck cell, whose levels are equal.
        cycle = jnp.where(high == low, 1, 1 + self.c2c * jnp.clip(eps, -2, 2))
        return Switched(high * cycle, low * cycle, state)


@pytree
class RandomRram(SwitchedRram):
    """As-formed resistive memory: forming decides at random which cells exist.

    G = f G_LRS + (1 - f) G_pristine with f ~ Bernoulli(formed) (D.1). Of a
    target only the shape counts: the array is a source of random weights.
    Cells are formed once, so a programming event keeps the pattern.

    Attributes:
        formed: probability that a cell is formed, see `forming_probability`.
            (`unformed` are cells that fail to form at any voltage.)
    """

    formed: ArrayLike = 0.5

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Switched:
        target_S = physical(target_S)
        u = sampling.uniform(
            stream(key, "forming"), target_S.shape, target_S.dtype
        )
        formed = u < self.formed
        cells = self._settle(key, formed.astype(target_S.dtype), event)
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


def read_snr(device: RandomRram) -> ArrayLike:
    """Mean square of a pair's weight over the variance of a read, [].

    (s + (1 - s) sd^2 / (mu^2 + sd^2)) / noise^2 for a share s of cells that are
    not formed, levels of mean mu and standard deviation sd, and relative read
    noise (device_physics D.2): pairs of which all cells are formed carry their
    weight in a small difference of two noisy conductances. Pristine cells are
    taken as not conducting.
    """
    square = jnp.square(jnp.asarray(device.lrs_std))
    spread = square / (jnp.square(jnp.asarray(device.lrs_mean)) + square)
    share = 1 - jnp.asarray(device.formed)
    power = share + (1 - share) * spread
    return power / jnp.square(jnp.asarray(device.read_noise))


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

    Examples:
        >>> float(forming_probability(3.433))
        0.5
    """
    return jax.scipy.stats.norm.cdf(jnp.asarray(volts), mean, std)


def _levels(u: jax.Array, device: SwitchedRram) -> tuple[jax.Array, jax.Array]:
    """High and low levels, equal where a cell is stuck; u [3, n] on (-1, 1)."""
    u_lrs, u_hrs, u_stuck = u
    high = FAMILIES[device.family](u_lrs, device.lrs_mean, device.lrs_std)
    low = jnp.abs(device.hrs_mean + device.hrs_std * sampling.to_normal(u_hrs))
    off = u_stuck > 1 - 2 * device.stuck_off
    on = u_stuck < 2 * device.stuck_on - 1
    unformed = ~on & (u_stuck < 2 * (device.stuck_on + device.unformed) - 1)
    high, low = jnp.where(off, low, high), jnp.where(on, high, low)
    return (
        jnp.where(unformed, device.pristine, high),
        jnp.where(unformed, device.pristine, low),
    )


def _nominal(
    shape: tuple[int, ...], dtype: Any, device: SwitchedRram
) -> tuple[jax.Array, jax.Array]:
    """Both levels without any spread."""
    return (
        jnp.full(shape, device.lrs_mean, dtype),
        jnp.full(shape, device.hrs_mean, dtype),
    )
