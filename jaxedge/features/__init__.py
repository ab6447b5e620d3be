"""From raw data to arrays, as pure functions; knows jax and numpy alone."""

from jaxedge.features import points as points

__all__ = ["points"]
