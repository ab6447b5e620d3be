"""From raw data to arrays."""

from jaxedge.features import audio as audio
from jaxedge.features import points as points

__all__ = ["audio", "points"]
