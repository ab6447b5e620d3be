"""From raw data to arrays."""

from jaxedge.features import audio as audio

__all__ = ["audio"]
