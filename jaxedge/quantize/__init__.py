"""Number formats and how to choose them."""

from jaxedge.quantize import blocks as blocks
from jaxedge.quantize import compensate as compensate
from jaxedge.quantize import fpq as fpq
from jaxedge.quantize import fronts as fronts
from jaxedge.quantize import fused as fused
from jaxedge.quantize import grid as grid
from jaxedge.quantize import integer as integer
from jaxedge.quantize import layer as layer
from jaxedge.quantize import minifloat as minifloat
from jaxedge.quantize import products as products
from jaxedge.quantize import search as search
from jaxedge.quantize import variation as variation

__all__ = [
    "blocks",
    "compensate",
    "fpq",
    "fronts",
    "fused",
    "grid",
    "integer",
    "layer",
    "minifloat",
    "products",
    "search",
    "variation",
]
