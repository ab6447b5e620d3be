"""Cells that are written to any level: PCM, RRAM, CMO/HfOx, SONOS.

Each law was fitted by others to published measurements; the figures are those
of IBM/aihwkit 1.2 and sandialabs/cross-sim 3.2 (device_physics section 5).
Fits are in microsiemens, everything else in siemens. The key of a programming
event has two streams: "write" is its error, "course" decides how the cell
changes from then on. The fits do not tell devices from events, so both are
drawn anew when a chip is written again.
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
from jaxedge.hardware.converters import within
from jaxedge.hardware.devices import tables
from jaxedge.hardware.devices.base import (
    MICRO,
    C,
    Device,
    event_key,
    physical,
    root,
)


class Multilevel(Device[C]):
    """What the cells of this file share.

    Attributes:
        g_min: smallest target, S.
        g_max: largest target, S.
        write_error: scale of the published programming error; 0 is exact.
        flicker: scale of the published read noise; 0 is none.
        read_noise: further white noise of one read, relative to the
            conductance.
    """

    write_error: Any
    flicker: Any

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> C:
        return self._write(event_key(key, event), self._target(target_S))

    def check(self) -> None:
        super().check()
        checks.in_range("g_min", self.g_min, 0)
        checks.in_range("g_max", self.g_max, 0, open_low=True)
        checks.ordered("g_min", self.g_min, "g_max", self.g_max)
        checks.in_range("write_error", self.write_error, 0)
        checks.in_range("flicker", self.flicker, 0)

    def read_std(self, cells: C, seconds: ArrayLike = 0.0) -> jax.Array:
        white = self.read_noise * self.conductance(cells, seconds)
        flicker = self.flicker * self._flicker(cells, seconds)
        return root(white**2 + flicker**2)

    def _write(self, key: jax.Array, target: jax.Array) -> C:
        """Cells after one programming event, whose key is consumed."""
        raise NotImplementedError

    def _flicker(self, cells: C, seconds: ArrayLike) -> jax.Array:
        """Published std of one read, S."""
        raise NotImplementedError

    def _target(self, target_S: ArrayLike) -> jax.Array:
        """A target in the cell's range.

        Raises:
            UsageError: for a known target above `g_max` (but for rounding):
                such a cell does not exist.
        """
        checks.finite("target_S", target_S)
        if checks.concrete(target_S) and checks.concrete(self.g_max):
            limit = np.max(np.asarray(self.g_max, np.float64))
            checks.in_range("target_S", target_S, high=limit * (1 + 1e-5))
        return within(physical(target_S), self.g_min, self.g_max)


class Drifting(NamedTuple):
    """Cells whose conductance decays as a power of time.

    Attributes:
        g: conductance as programmed, S.
        exponent: of the decay, at least 0.
    """

    g: jax.Array
    exponent: jax.Array


@pytree
class Pcm(Multilevel[Drifting]):
    """Phase-change memory: error, drift and 1/f noise.

    sigma = sum_k c_k r^k uS, r = target / g_max; G(t) = G ((t + t0) / t0)^-nu,
    nu = |N(mu, sd)|, mu = clip(-.0155 ln r + .0244, .049, .1), sd =
    clip(-.0125 ln r - .0059, .008, .045); read noise G(t) min(.0088 / g^.65,
    .2) sqrt(ln((t + t0 + tr) / (2 tr))), g = G / g_max (Nandakumar et al.,
    ICECS 2019, as fitted in aihwkit).

    Attributes:
        drift: scale of the published exponents; 0 stops the drift.
        t0: time of the first reading, from which `seconds` count, s.
        t_read: duration of a read, s.
        error: c_k, uS, of powers of target / reference.
        reference: conductance to which the fit refers, S.
        stretched: whether the law stretches with `g_max` (both its argument
            and its value) or is one of absolute conductance.
    """

    g_min: ArrayLike = 0.0
    g_max: ArrayLike = 25 * MICRO
    write_error: ArrayLike = 1.0
    flicker: ArrayLike = 1.0
    read_noise: ArrayLike = 0.0
    drift: ArrayLike = 1.0
    t0: ArrayLike = 20.0
    t_read: ArrayLike = 250e-9
    error: tuple[float, ...] = static(default=(0.26348, 1.9650, -1.1731))
    reference: float = static(default=25 * MICRO)
    stretched: bool = static(default=True)

    def _write(self, key: jax.Array, target: jax.Array) -> Drifting:
        full = self.g_max if self.stretched else self.reference
        std = _polynomial(self.error, target / full) * MICRO
        std *= jnp.divide(full, self.reference) * self.write_error
        g = target + std * _normal(key, "write", target)
        r = jnp.log(jnp.maximum(target / self.g_max, 1e-7))
        mean = jnp.clip(-0.0155 * r + 0.0244, 0.049, 0.1)
        spread = jnp.clip(-0.0125 * r - 0.0059, 0.008, 0.045)
        nu = jnp.abs(mean + spread * _normal(key, "course", target))
        return Drifting(_positive(g), jnp.multiply(self.drift, nu))

    def reset(self, cells: Drifting, keep: jax.Array) -> Drifting:
        g = keep * cells.g + (1 - keep) * self.g_min
        return Drifting(g, cells.exponent)

    def conductance(
        self, cells: Drifting, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        age = jnp.log1p(jnp.divide(seconds, self.t0))
        return cells.g * jnp.exp(-cells.exponent * age)

    def check(self) -> None:
        super().check()
        checks.in_range("drift", self.drift, 0)
        checks.in_range("t0", self.t0, 0, open_low=True)
        checks.in_range("t_read", self.t_read, 0, open_low=True)

    def _flicker(self, cells: Drifting, seconds: ArrayLike) -> jax.Array:
        # The floor of the fit, max(r^.65, 1e-3), where the power has a slope.
        r = jnp.maximum(cells.g / self.g_max, 1e-3 ** (1 / 0.65))
        share = jnp.minimum(0.0088 / r**0.65, 0.2)
        reads = (seconds + self.t0 + self.t_read) / jnp.multiply(2, self.t_read)
        g = self.conductance(cells, seconds)
        return g * share * jnp.sqrt(jnp.log(reads))


class Relaxing(NamedTuple):
    """Cells that wander from where they started.

    Attributes:
        start: where the course starts, S.
        z: standard normal number of the cell.
        keep: 1 where the cell holds its level, 0 where it was reset.
    """

    start: jax.Array
    z: jax.Array
    keep: jax.Array


class _Wandering(Multilevel[Relaxing]):
    """Devices whose law is a mean and a spread at every time."""

    def _write(self, key: jax.Array, target: jax.Array) -> Relaxing:
        z = _normal(key, "course", target)
        return Relaxing(target, z, jnp.ones_like(target))

    def reset(self, cells: Relaxing, keep: jax.Array) -> Relaxing:
        return cells._replace(keep=cells.keep * keep)

    def conductance(
        self, cells: Relaxing, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        g = _positive(self._course(cells, seconds))
        return cells.keep * g + (1 - cells.keep) * self.g_min

    def _course(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        """Conductance of the cells that were not reset, S."""
        raise NotImplementedError


@pytree
class WanRram(_Wandering):
    """Resistive memory after write-verify, and its relaxation.

    G(t) = target + sigma(t) z, sigma = g_max/40uS sum_k c_k r^k uS, r = target
    / g_max, fitted at 1 s, 1 day and 2 days (Wan et al., Nature 608, 504
    (2022), as fitted in aihwkit). Between these times the coefficients are
    interpolated in log t; what happens outside is unknown, and they stay. Read
    noise of about 1 % is aihwkit's suggestion.
    """

    g_min: ArrayLike = 0.0
    g_max: ArrayLike = 40 * MICRO
    write_error: ArrayLike = 1.0
    flicker: ArrayLike = 0.0
    read_noise: ArrayLike = 0.01

    def _course(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        c = _between(jnp.log(jnp.maximum(seconds, 1.0)), *tables.WAN)
        std = _polynomial(c, cells.start / self.g_max)
        std *= self.g_max / (40 * MICRO) * MICRO * self.write_error
        return cells.start + std * cells.z

    def _flicker(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        del seconds  # No 1/f measurement is published.
        return jnp.zeros_like(cells.start)


@pytree
class CmoHfox(_Wandering):
    """Filamentary CMO/HfOx memory: write error, decay, read noise.

    G = target + (c_0 + c_1 target) eps; after t > 0: G - .08900206 ln t +
    (.04201137 ln t + .41183342) z uS, independent of the level; read noise K
    |log10 G| sqrt(ln((t + tr) / (2 tr))) uS, K = .0277316483, tr = 1 us
    (Falcone et al., as fitted in aihwkit). The fit starts at 1 s; between 0
    and 1 s the course stands at 1 s.

    Attributes:
        error: (c_0 in uS, c_1) for a write-verify acceptance of 0.2 %; for 2 %
            they are (.0112185391, .01129027418).
        drift: scale of the published decay; 0 stops it.
    """

    g_min: ArrayLike = 9 * MICRO
    g_max: ArrayLike = 88.199997 * MICRO
    write_error: ArrayLike = 1.0
    flicker: ArrayLike = 1.0
    read_noise: ArrayLike = 0.0
    drift: ArrayLike = 1.0
    error: tuple[float, float] = static(default=(0.00081107, 0.00106879))

    def _write(self, key: jax.Array, target: jax.Array) -> Relaxing:
        std = (self.error[0] * MICRO + self.error[1] * target) * (
            self.write_error
        )
        start = target + std * _normal(key, "write", target)
        z = _normal(key, "course", target)
        return Relaxing(start, z, jnp.ones_like(target))

    def _course(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        log = jnp.log(jnp.maximum(seconds, 1.0))
        moved = -0.08900206 * log + (0.04201137 * log + 0.41183342) * cells.z
        moved *= self.drift * MICRO
        # aihwkit ends the course at both ends of the range.
        g = within(cells.start + moved, self.g_min, self.g_max)
        return jnp.where(jnp.greater(seconds, 0), g, cells.start)

    def check(self) -> None:
        super().check()
        checks.in_range("drift", self.drift, 0)

    def _flicker(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        g = self.conductance(cells, seconds) / MICRO
        age = jnp.maximum(seconds, 1e-6)  # no earlier than one read
        reads = (age + 1e-6) / 2e-6
        decades = jnp.abs(jnp.log10(jnp.maximum(g, 1e-6)))
        return MICRO * 0.0277316483 * decades * jnp.sqrt(jnp.log(reads))


@pytree
class Sonos(_Wandering):
    """40 nm charge-trapping memory below threshold, by its current.

    I(t) = I + p_t(I) + A_t (1 - exp(-(I + p_t(I)) / B_t)) z, read noise
    12.58037 nA (1 - exp(-I / 215.36557 nA)); p_t of degree 10, A_t and B_t
    fitted at 0 to 5 days, interpolated between, and unknown beyond, where they
    stay (Agrawal et al., IEDM 2022, as fitted in cross-sim). 1,600 nA are 16
    uS: one input voltage of 0.1 V.
    """

    g_min: ArrayLike = 0.0
    g_max: ArrayLike = 16 * MICRO
    write_error: ArrayLike = 1.0
    flicker: ArrayLike = 1.0
    read_noise: ArrayLike = 0.0
    drift: ArrayLike = 1.0

    def _course(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        days = jnp.divide(seconds, tables.DAY)
        law = _between(days, *tables.SONOS)
        start = cells.start / _NANOAMPERE
        moved = _chebyshev(law[2:], start / 800 - 1)
        mean = start + self.drift * moved
        std = law[0] * -jnp.expm1(-jnp.maximum(mean, 0) / law[1])
        return _NANOAMPERE * (mean + self.write_error * std * cells.z)

    def check(self) -> None:
        super().check()
        checks.in_range("drift", self.drift, 0)
        checks.in_range("g_max", self.g_max, 0, 16.001 * MICRO)

    def _flicker(self, cells: Relaxing, seconds: ArrayLike) -> jax.Array:
        current = self.conductance(cells, seconds) / _NANOAMPERE
        return _NANOAMPERE * 12.58037 * -jnp.expm1(-current / 215.36557)


_NANOAMPERE = 1e-9 / 0.1  # S at 0.1 V


def _normal(key: jax.Array, name: str, like: jax.Array) -> jax.Array:
    """Standard normal numbers of a named stream, drawn flat."""
    # A short last axis defeats vector instructions.
    drawn = sampling.normal(stream(key, name), (like.size,), like.dtype)
    return drawn.reshape(like.shape)


def _polynomial(coefficients: Any, x: jax.Array) -> jax.Array:
    """sum_k c_k x^k, not below 0."""
    total = jnp.zeros_like(x)
    for k in reversed(range(len(coefficients))):
        total = total * x + coefficients[k]
    return _positive(total)


def _positive(x: jax.Array) -> jax.Array:
    """max(x, 0) with slope 1 at 0."""
    return jnp.where(x < 0, 0, x)


def _chebyshev(coefficients: list[jax.Array], x: jax.Array) -> jax.Array:
    """sum_k c_k T_k(x) by Clenshaw's recurrence."""
    a, b = jnp.zeros_like(x), jnp.zeros_like(x)
    for k in reversed(range(1, len(coefficients))):
        a, b = coefficients[k] + 2 * x * a - b, a
    return coefficients[0] + x * a - b


def _between(
    x: ArrayLike, places: np.ndarray, rows: np.ndarray
) -> list[jax.Array]:
    """Columns of `rows` at `x`, linear between `places`, constant beyond."""
    return [
        jnp.interp(jnp.asarray(x, jnp.float32), places, column)
        for column in rows.T.astype(np.float32)
    ]
