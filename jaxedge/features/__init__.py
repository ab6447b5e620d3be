"""From raw data to arrays."""

from jaxedge.features import audio as audio
from jaxedge.features import complexity as complexity
from jaxedge.features import likeness as likeness
from jaxedge.features import points as points
from jaxedge.features import radiomics as radiomics

__all__ = [
    "audio",
    "complexity",
    "likeness",
    "points",
    "radiomics",
]
