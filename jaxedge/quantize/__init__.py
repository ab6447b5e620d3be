"""Number formats and how to choose them."""

from jaxedge.quantize import blocks as blocks
from jaxedge.quantize import integer as integer
from jaxedge.quantize import minifloat as minifloat

__all__ = ["blocks", "integer", "minifloat"]
