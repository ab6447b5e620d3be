"""Number formats and how to choose them."""

from jaxedge.quantize import integer as integer

__all__ = ["integer"]
