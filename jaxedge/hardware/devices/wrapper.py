"""Devices that change one thing of another device."""

from collections.abc import Sequence
import dataclasses
from typing import Any, TypeVar

import jax
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.hardware.devices.base import C, Device, Term

W = TypeVar("W", bound="Wrapper[Any]")


class Wrapper(Device[C]):
    """A device around another one; what it does not change is that device's.

    Random draws are streams by name of the chip and read keys, so a wrapper
    changes no draw of the device. Every field has one owner: a wrapper cannot
    be put around a device that has the same fields, such as another wrapper of
    its kind.

    Attributes:
        device: what is wrapped.
    """

    device: Device[Any]

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

    @property
    def linear(self) -> bool:
        """Of the device."""
        return self.device.linear

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> C:
        return self.device.program(key, target_S, event)

    def reset(self, cells: C, keep: jax.Array) -> C:
        return self.device.reset(cells, keep)

    def conductance(self, cells: C, seconds: ArrayLike = 0.0) -> jax.Array:
        return self.device.conductance(cells, seconds)

    def read_std(self, cells: C, seconds: ArrayLike = 0.0) -> jax.Array:
        return self.device.read_std(cells, seconds)

    def read(
        self, key: jax.Array, cells: C, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        return self.device.read(key, cells, seconds)

    def curve(self, v: jax.Array, g: jax.Array) -> Sequence[Term]:
        return self.device.curve(v, g)

    def weight_scale(self, weights: jax.Array) -> jax.Array:
        return self.device.weight_scale(weights)

    def replace(self: W, **fields: Any) -> W:
        own = {k: v for k, v in fields.items() if k in names(self)}
        rest = {k: v for k, v in fields.items() if k not in own}
        if rest:
            own["device"] = self.device.replace(**rest)
        return dataclasses.replace(self, **own)  # type: ignore[type-var]

    def check(self) -> None:
        self.device.check()
        taken = {*added(type(self))} & {*every_name(self.device)}
        if taken:
            raise checks.UsageError(
                f"{type(self).__name__} is put around a device that has"
                f" {', '.join(sorted(taken))} already; replace them there."
            )


def names(device: Any) -> list[str]:
    """Fields of a device or of its class, not those of what it wraps."""
    return [f.name for f in dataclasses.fields(device)]


def added(kind: type[Wrapper[Any]]) -> list[str]:
    """The fields that a kind of wrapper adds to a device."""
    return [name for name in names(kind) if name != "device"]


def every_name(device: Device[Any]) -> list[str]:
    """Fields of a device and of all that it wraps."""
    if isinstance(device, Wrapper):
        return added(type(device)) + every_name(device.device)
    return names(device)
