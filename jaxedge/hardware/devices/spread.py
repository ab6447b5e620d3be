"""Device-to-device and cycle-to-cycle spread, on any device."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware.devices.base import Device, event_key
from jaxedge.hardware.devices.families import FAMILIES
from jaxedge.hardware.devices.wrapper import Wrapper
from jaxedge.hardware.sampling import draw_if


class Scaled(NamedTuple):
    """Cells whose conductance is that of the device below times a factor."""

    cells: Any
    factor: jax.Array


@pytree
class Spread(Wrapper[Scaled]):
    """The hierarchical model of spread, G (1 + d2d z) (1 + c2c z').

    G is the conductance of the device below. z belongs to the cell: the chip
    key draws it from its stream "spread/device", and no programming changes it.
    z' is drawn at every programming event, from the stream "spread/event".
    Both factors have mean 1 (but for the truncation of the normal family) and
    are positive. The spreads of most devices are unknown: labelled defaults.

    Attributes:
        device: what is spread.
        d2d: device-to-device std, relative to the conductance.
        c2c: cycle-to-cycle std, relative to the conductance.
        spread_family: "normal" (truncated above 0) or "lognormal", as the
            high-resistance state of resistive memory is often described.
    """

    device: Device[Any]
    d2d: ArrayLike = 0.0
    c2c: ArrayLike = 0.0
    spread_family: str = static(default="normal")

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Scaled:
        cells = self.device.program(key, target_S, event)
        g = self.device.conductance(cells)
        fixed = self._factor(stream(key, "spread/device"), self.d2d, g)
        drawn = self._factor(
            stream(event_key(key, event), "spread/event"), self.c2c, g
        )
        return Scaled(cells, fixed * drawn)

    def reset(self, cells: Scaled, keep: jax.Array) -> Scaled:
        return cells._replace(cells=self.device.reset(cells.cells, keep))

    def conductance(self, cells: Scaled, seconds: ArrayLike = 0.0) -> jax.Array:
        return cells.factor * self.device.conductance(cells.cells, seconds)

    def read_std(self, cells: Scaled, seconds: ArrayLike = 0.0) -> jax.Array:
        return cells.factor * self.device.read_std(cells.cells, seconds)

    def read(
        self, key: jax.Array, cells: Scaled, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        return cells.factor * self.device.read(key, cells.cells, seconds)

    def check(self) -> None:
        super().check()
        checks.in_range("d2d", self.d2d, 0)
        checks.in_range("c2c", self.c2c, 0)
        checks.choice("spread_family", self.spread_family, FAMILIES)

    def _factor(
        self, key: jax.Array, std: ArrayLike, like: jax.Array
    ) -> jax.Array:
        """Positive numbers of mean 1, ones where `std` is 0."""
        law = _FACTORS[self.spread_family]
        active = jnp.greater(std, 0)
        return draw_if(active, law, key, like.shape, like.dtype, (std,), _ones)


def _factor(family: str, u: jax.Array, std: ArrayLike) -> jax.Array:
    return FAMILIES[family](u, 1.0, std)


def _ones(shape: tuple[int, ...], dtype: Any, std: ArrayLike) -> jax.Array:
    del std
    return jnp.ones(shape, dtype)


# Made once: `draw_if` compiles anew for every new function.
_FACTORS = {name: functools.partial(_factor, name) for name in FAMILIES}
