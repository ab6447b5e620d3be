"""Designs of macros by name, and designs with other fields."""

import dataclasses
from typing import Any

from jaxedge.core import checks
from jaxedge.hardware.sram.config import Config
from jaxedge.hardware.sram.macro import Spec

# Of the paper the abstract alone has been read: all but 4 x 4 bits and 9 bits
# of output are labelled defaults (sram_cim 3).
PRESETS = {"sram_wang2023": Spec()}
# Fields that are no number, flag or name.
_PARTS = ("config", "input_range")


def get(name: str, **changes: Any) -> Spec:
    """The design `name` with some fields of its own or of its macro replaced.

    Args:
        name: a key of `PRESETS`.
        **changes: names of `fields`.

    Raises:
        UsageError: for an unknown name or field, or a value out of range.
    """
    if name not in PRESETS:
        raise checks.unknown("in-SRAM macro", name, PRESETS)
    spec = with_fields(PRESETS[name], **changes)
    spec.check()
    return spec


def fields() -> list[str]:
    """Numbers, flags and names of a design and of its macro."""
    return [name for name in (*_OWN, *_INNER) if name not in _PARTS]


def with_fields(spec: Spec, **changes: Any) -> Spec:
    """A design with fields of its own or of its macro replaced, not checked.

    Raises:
        UsageError: for an unknown field.
    """
    for name in changes:
        if name not in fields():
            raise checks.unknown("field of an in-SRAM macro", name, fields())
    own = {k: v for k, v in changes.items() if k in _OWN}
    inner = {k: v for k, v in changes.items() if k in _INNER}
    config = dataclasses.replace(spec.config, **inner)
    return dataclasses.replace(spec, config=config, **own)


_OWN, _INNER = (
    tuple(field.name for field in dataclasses.fields(kind))  # type: ignore
    for kind in (Spec, Config)
)
