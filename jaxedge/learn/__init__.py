"""Learning rules as pure functions, without a network."""

from jaxedge.learn import masks as masks

__all__ = ["masks"]
