"""How complex a set of images is, by measures that are stated one by one.

    measure   one number of a set of images, by the name of a measure
    names     of all measures
    order     modalities, the simpler first
    function  the measure itself, for use under jit and vmap
    MEASURES  all of them, with what each one asks for

arXiv:2308.14066 synthesises the modality of lower complexity first. How that
paper defines complexity, and by what rule it orders modalities, is unknown to
us and absent from its code: these measures and this rule are ours. A higher
number is more complex, and the lower one is synthesised first. No measure is
complexity itself: docs/results/complexity.md tells which ones find an order
that is known by construction, and how far they agree.

What a modality's unit is does not matter: measures of grey levels scale a set
to its own robust range (`stacks.robust`), the others do not change with scale
and offset. That range is of the set, not of an image. Images may have several
channels, which are planes of their own, on one range. Numbers of sets of
another size, and for measures of variation between images of another number,
are not comparable.
"""

from jaxedge.features.complexity.registry import MEASURES as MEASURES
from jaxedge.features.complexity.registry import Measure as Measure
from jaxedge.features.complexity.registry import Order as Order
from jaxedge.features.complexity.registry import function as function
from jaxedge.features.complexity.registry import measure as measure
from jaxedge.features.complexity.registry import names as names
from jaxedge.features.complexity.registry import order as order

__all__ = [
    "MEASURES",
    "Measure",
    "Order",
    "function",
    "measure",
    "names",
    "order",
]
