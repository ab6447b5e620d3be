"""Random telegraph noise, on any device."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree
from jaxedge.hardware import sampling
from jaxedge.hardware.devices.base import Device, root
from jaxedge.hardware.devices.wrapper import Wrapper


class Trapped(NamedTuple):
    """Cells of which some have a trap; `trap` is 1 there and 0 elsewhere."""

    cells: Any
    trap: jax.Array


@pytree
class Telegraph(Wrapper[Trapped]):
    """A device whose current jumps between two levels.

    An affected cell has one trap, which switches at Poisson times: it stays
    empty for `rtn_tau_high` on average, where the cell conducts G, and full for
    `rtn_tau_low`, where it conducts G (1 - rtn_amplitude) (two-state model,
    Ielmini et al., Appl. Phys. Lett., 2010). The chip key's stream "traps"
    decides which cells have one; jumps are drawn when a cell is read.

    `conductance` is the mean of a read, shift by the traps included. `read`
    draws the two levels themselves, `read_std` is their standard deviation:
    where many cells are summed their noise is nearly Gaussian, and a crossbar
    that refers noise to its outputs takes it for that.

    Attributes:
        device: what is read.
        rtn_amplitude: relative loss of conductance, in [0, 1]. Unknown for
            the presets; labelled default.
        rtn_share: share of cells that have a trap. Unknown; labelled default.
        rtn_tau_high: mean time in the high state, s. Unknown; labelled default.
        rtn_tau_low: mean time in the low state, s. Unknown; labelled default.
    """

    device: Device[Any]
    rtn_amplitude: ArrayLike = 0.0
    rtn_share: ArrayLike = 1.0
    rtn_tau_high: ArrayLike = 1.0
    rtn_tau_low: ArrayLike = 1.0

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Trapped:
        cells = self.device.program(key, target_S, event)
        g = self.device.conductance(cells)
        u = sampling.uniform(stream(key, "traps"), g.shape, g.dtype)
        trap = jnp.where(u < self.rtn_share, 1, 0)
        return Trapped(cells, trap.astype(g.dtype))

    def reset(self, cells: Trapped, keep: jax.Array) -> Trapped:
        return cells._replace(cells=self.device.reset(cells.cells, keep))

    def conductance(
        self, cells: Trapped, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        g = self.device.conductance(cells.cells, seconds)
        return g * self._level(cells, self._high())

    def read_std(self, cells: Trapped, seconds: ArrayLike = 0.0) -> jax.Array:
        high = self._high()
        mean = self._level(cells, high)
        jump = cells.trap * self.rtn_amplitude
        variance = jump**2 * high * (1 - high)
        g = self.device.conductance(cells.cells, seconds)
        std = self.device.read_std(cells.cells, seconds)
        # Of a product of two independent factors.
        return root(g**2 * variance + std**2 * (mean**2 + variance))

    def read(
        self, key: jax.Array, cells: Trapped, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        g = self.device.read(key, cells.cells, seconds)
        u = sampling.uniform(stream(key, "jumps"), g.shape, g.dtype)
        return g * self._level(cells, jnp.where(u < self._high(), 1, 0))

    def states(
        self, key: jax.Array, cells: Trapped, times: jax.Array
    ) -> jax.Array:
        """Levels of every cell in the course of time.

        Exact at any spacing: a two-state Markov chain relaxes to its
        stationary state by exp(-t (1 / rtn_tau_high + 1 / rtn_tau_low)).

        Args:
            key: read key, consumed; more times later change no earlier level.
            cells: programmed cells.
            times: s, [T], ascending; the first is in the stationary state.

        Returns:
            1 where a cell is in its high state and 0 in its low state, [T,
            *cells]; always 1 without a trap.
        """
        high = self._high()
        rate = 1 / jnp.asarray(self.rtn_tau_high) + 1 / self.rtn_tau_low
        if checks.concrete(times):
            checks.in_range("the spacing of times", np.diff(times), 0)
        kept = jnp.exp(-rate * jnp.diff(times, prepend=-jnp.inf))

        def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> Any:
            index, kept = now  # How much of the state outlasts the step.
            u = sampling.uniform(
                stream(key, "course", index), state.shape, state.dtype
            )
            state = jnp.where(u < high + (state - high) * kept, 1, 0)
            state = state.astype(u.dtype)
            return state, 1 - cells.trap * (1 - state)

        start = jnp.zeros_like(cells.trap)  # Forgotten: nothing of it is kept.
        order = jnp.arange(times.size)
        return jax.lax.scan(step, start, (order, kept))[1]

    def trace(
        self, key: jax.Array, cells: Trapped, times: jax.Array
    ) -> jax.Array:
        """Conductance (S) in the course of `times`, [T, *cells]; see `states`.

        No other noise is added.
        """
        states = self.states(key, cells, times)
        g = jax.vmap(lambda t: self.device.conductance(cells.cells, t))(times)
        return g * (1 - (1 - states) * self.rtn_amplitude)

    def check(self) -> None:
        super().check()
        checks.in_range("rtn_amplitude", self.rtn_amplitude, 0, 1)
        checks.in_range("rtn_share", self.rtn_share, 0, 1)
        for name in ("rtn_tau_high", "rtn_tau_low"):
            checks.in_range(name, getattr(self, name), 0, open_low=True)

    def _high(self) -> jax.Array:
        """Share of the time in the high state."""
        total = jnp.add(self.rtn_tau_high, self.rtn_tau_low)
        return jnp.divide(self.rtn_tau_high, total)

    def _level(self, cells: Trapped, high: jax.Array) -> jax.Array:
        """Conductance relative to that of an empty trap."""
        return 1 - cells.trap * self.rtn_amplitude * (1 - high)
