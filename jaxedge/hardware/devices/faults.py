"""Cells that no programming moves, on any device."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree
from jaxedge.hardware.devices.base import Device


class Faulted(NamedTuple):
    """Cells of which some are stuck.

    Attributes:
        cells: of the device below, as if none were stuck.
        sound: 1 where a cell works, 0 where it is stuck.
        pinned: conductance of a stuck cell, S.
    """

    cells: Any
    sound: jax.Array
    pinned: jax.Array


@pytree
class Faulty(Device[Faulted]):
    """A device with stuck cells, pinned to the ends of its range.

    The fault model of MemTorch and MNSIM: independent cells stay at `g_max` or
    at `g_min` whatever is written. A stuck cell does not drift; it is read
    with the device's relative white noise. The chip key draws the faults from
    its stream "faults" and everything else as the device without faults does.

    Attributes:
        device: what the sound cells are.
        stuck_on: share of cells that stay at `g_max`.
        stuck_off: share of cells that stay at `g_min`.
    """

    device: Device[Any]
    stuck_on: ArrayLike = 0.0
    stuck_off: ArrayLike = 0.0

    @property
    def g_min(self) -> ArrayLike:
        """Of the device, S."""
        return self.device.g_min

    @property
    def g_max(self) -> ArrayLike:
        """Of the device, S."""
        return self.device.g_max

    @property
    def read_noise(self) -> ArrayLike:
        """Of the device."""
        return self.device.read_noise

    def program(self, key: jax.Array, target_S: jax.Array) -> Faulted:
        cells = self.device.program(key, target_S)
        g = self.device.conductance(cells)
        u = jax.random.uniform(stream(key, "faults"), g.shape, g.dtype)
        on, off = u < self.stuck_on, u >= 1 - jnp.asarray(self.stuck_off)
        sound = jnp.where(on | off, 0, 1).astype(g.dtype)
        pinned = jnp.where(on, self.g_max, self.g_min).astype(g.dtype)
        return Faulted(cells, sound, pinned)

    def reset(self, cells: Faulted, keep: jax.Array) -> Faulted:
        return cells._replace(cells=self.device.reset(cells.cells, keep))

    def conductance(
        self, cells: Faulted, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        g = self.device.conductance(cells.cells, seconds)
        return cells.sound * g + (1 - cells.sound) * cells.pinned

    def read_std(self, cells: Faulted, seconds: ArrayLike = 0.0) -> jax.Array:
        std = self.device.read_std(cells.cells, seconds)
        stuck = self.read_noise * cells.pinned
        return cells.sound * std + (1 - cells.sound) * stuck

    def weight_scale(self, weights: jax.Array) -> jax.Array:
        return self.device.weight_scale(weights)

    def replace(self, **fields: Any) -> "Faulty":
        own = {f.name for f in dataclasses.fields(self)}  # type: ignore
        mine = {k: v for k, v in fields.items() if k in own}
        rest = {k: v for k, v in fields.items() if k not in own}
        if rest:
            mine["device"] = self.device.replace(**rest)
        return dataclasses.replace(self, **mine)  # type: ignore[type-var]

    def check(self) -> None:
        self.device.check()
        check_shares(self.stuck_on, self.stuck_off)


def check_shares(stuck_on: ArrayLike, stuck_off: ArrayLike) -> None:
    """Raises UsageError unless both are shares of one whole."""
    checks.in_range("stuck_on", stuck_on, 0, 1)
    checks.in_range("stuck_off", stuck_off, 0, 1)
    if checks.concrete(stuck_on) and checks.concrete(stuck_off):
        total = jnp.add(stuck_on, stuck_off)
        checks.in_range("stuck_on + stuck_off", total, 0, 1)
