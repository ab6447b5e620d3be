"""Any effect on any device: wrappers are put where a field asks for them."""

from typing import Any

from jaxedge.core import checks
from jaxedge.hardware.devices.base import Device
from jaxedge.hardware.devices.faults import Faulty
from jaxedge.hardware.devices.nonlinear import Polynomial, Sinh
from jaxedge.hardware.devices.spread import Spread
from jaxedge.hardware.devices.telegraph import Telegraph
from jaxedge.hardware.devices.wrapper import Wrapper, added, every_name

# From the cell outwards: a stuck cell neither varies nor has traps.
LAYERS: tuple[type[Wrapper[Any]], ...] = (
    Spread,
    Sinh,
    Polynomial,
    Telegraph,
    Faulty,
)


def with_fields(device: Device[Any], **fields: Any) -> Device[Any]:
    """A device with other numbers, wrapped where it lacks a field.

    A field that the device or one of its wrappers has is replaced there. The
    others are those of `Faulty`, `Telegraph`, `Sinh`, `Polynomial` and
    `Spread`, which are put around the device in a fixed order, so that the
    order of calls does not matter.

    Args:
        device: any device, wrapped or not.
        **fields: new values, conductances in S.

    Returns:
        A device that has these fields.

    Raises:
        UsageError: for an unknown field, or a value out of range.
    """
    return fitted(device, fields, "device field")


def fitted(
    device: Device[Any], fields: dict[str, Any], kind: str
) -> Device[Any]:
    """`with_fields` whose message calls an unknown field a `kind`."""
    have = every_name(device)
    owner = {
        name: layer
        for layer in LAYERS
        if not {*added(layer)} & {*have}
        for name in added(layer)
    }
    for name in fields:
        if name not in have and name not in owner:
            raise checks.unknown(kind, name, [*have, *owner])
    device = device.replace(**{k: v for k, v in fields.items() if k in have})
    for layer in LAYERS:
        new = {k: v for k, v in fields.items() if owner.get(k) is layer}
        if new:
            device = _put(layer, device, new)
    device.check()
    return device


def _put(
    layer: type[Wrapper[Any]], device: Device[Any], fields: dict[str, Any]
) -> Device[Any]:
    """A device with one more wrapper, below those that come after it."""
    if isinstance(device, Wrapper) and _place(type(device)) > _place(layer):
        return device.replace(device=_put(layer, device.device, fields))
    return layer(device, **fields)  # type: ignore[call-arg]


def _place(layer: type[Wrapper[Any]]) -> int:
    """Of a wrapper in the order; others, such as fault maps, are outermost."""
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
