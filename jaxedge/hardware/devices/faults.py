"""Cells that no programming moves, on any device."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree
from jaxedge.hardware import sampling
from jaxedge.hardware.devices.base import MICRO, Device
from jaxedge.hardware.devices.wrapper import Wrapper

# About 10 Mohm, Nat. Mach. Intell. 5, 104 (2023), Extended Data Fig. 1.
PRISTINE = 0.1 * MICRO


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


class _Pinned(Wrapper[Faulted]):
    """What stuck cells do: no drift, and relative white noise at a read."""

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

    def read(
        self, key: jax.Array, cells: Faulted, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        g = self.device.read(key, cells.cells, seconds)
        # The numbers that the device would use here, which no other cell has.
        noise = sampling.normal(key, g.shape, g.dtype)
        stuck = cells.pinned + self.read_noise * cells.pinned * noise
        return cells.sound * g + (1 - cells.sound) * stuck


@pytree
class Faulty(_Pinned):
    """A device with stuck cells: at the ends of its range, or unformed.

    Independent cells stay at `g_max`, at `g_min` (the fault model of MemTorch
    and MNSIM) or, where they never formed, at `pristine`, whatever is written.
    The chip key draws the faults from its stream "faults".

    Attributes:
        device: what the sound cells are.
        stuck_on: share of cells that stay at `g_max`.
        stuck_off: share of cells that stay at `g_min`.
        unformed: share of cells that stay at `pristine`.
        pristine: conductance of an unformed cell, S; about 10 Mohm in
            Nat. Mach. Intell. 5, 104 (2023), unknown for other devices.
    """

    device: Device[Any]
    stuck_on: ArrayLike = 0.0
    stuck_off: ArrayLike = 0.0
    unformed: ArrayLike = 0.0
    pristine: ArrayLike = PRISTINE

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Faulted:
        cells = self.device.program(key, target_S, event)
        g = self.device.conductance(cells)
        u = sampling.uniform(stream(key, "faults"), g.shape, g.dtype)
        on, off = u < self.stuck_on, u >= 1 - jnp.asarray(self.stuck_off)
        unformed = ~on & (u < jnp.add(self.stuck_on, self.unformed))
        sound = jnp.where(on | off | unformed, 0, 1).astype(g.dtype)
        pinned = jnp.where(on, self.g_max, self.g_min)
        pinned = jnp.where(unformed, self.pristine, pinned)
        return Faulted(cells, sound, pinned.astype(g.dtype))

    def check(self) -> None:
        super().check()
        check_shares(self)
        checks.in_range("pristine", self.pristine, 0)


@pytree
class FaultMap(_Pinned):
    """A device whose stuck cells are known, such as those of a measured array.

    The map is one of the design and the same on every chip. A crossbar of a
    weight [I, O] has cells [2, I, O]: those that add, then those that subtract.

    Attributes:
        device: what the sound cells are.
        stuck: 1 where a cell is stuck and 0 elsewhere, shape of the targets.
        pinned: conductance of a stuck cell, S, same shape; ignored elsewhere.
    """

    device: Device[Any]
    stuck: ArrayLike
    pinned: ArrayLike

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Faulted:
        cells = self.device.program(key, target_S, event)
        g = self.device.conductance(cells)
        for name in ("stuck", "pinned"):
            shape = np.shape(getattr(self, name))
            if shape != g.shape:
                raise checks.UsageError(
                    f"{name} of a FaultMap has shape {shape}, but the cells to"
                    f" program have {g.shape}; give one entry a cell."
                )
        sound = 1 - jnp.asarray(self.stuck, g.dtype)
        return Faulted(cells, sound, jnp.asarray(self.pinned, g.dtype))

    def check(self) -> None:
        super().check()
        stuck: Any = self.stuck
        if checks.concrete(stuck) and not np.isin(stuck, (0, 1)).all():
            raise checks.UsageError(
                "stuck of a FaultMap must hold 0 for cells that work and 1"
                " for cells that are stuck."
            )
        checks.in_range("pinned", self.pinned, 0)


def check_shares(device: Any) -> None:
    """Raises UsageError unless the shares of faults are those of one whole."""
    names = ("stuck_on", "stuck_off", "unformed")
    shares = [getattr(device, name) for name in names]
    for name, share in zip(names, shares, strict=True):
        checks.in_range(name, share, 0, 1)
    if all(checks.concrete(share) for share in shares):
        total = sum(np.asarray(share, np.float64) for share in shares)
        # Shares in float32 may exceed 1 by their rounding.
        checks.in_range(" + ".join(names), np.round(total, 6), 0, 1)
