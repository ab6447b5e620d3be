"""Number formats and how to choose them."""

from jaxedge.quantize import blocks as blocks
from jaxedge.quantize import integer as integer
from jaxedge.quantize import minifloat as minifloat
from jaxedge.quantize import search as search

__all__ = ["blocks", "integer", "minifloat", "search"]
