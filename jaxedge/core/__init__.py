"""What every room needs: keys by name, pytree dataclasses, argument checks."""

from jaxedge.core.checks import UsageError as UsageError
from jaxedge.core.keys import chip_keys as chip_keys
from jaxedge.core.keys import mirror as mirror
from jaxedge.core.keys import stream as stream

__all__ = ["UsageError", "chip_keys", "mirror", "stream"]
