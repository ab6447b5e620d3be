"""Learning rules as pure functions, without a network."""

from jaxedge.learn import coreset as coreset
from jaxedge.learn import distill as distill
from jaxedge.learn import masks as masks
from jaxedge.learn import readout as readout
from jaxedge.learn import readout_forms as readout_forms
from jaxedge.learn import readout_scores as readout_scores

__all__ = [
    "coreset",
    "distill",
    "masks",
    "readout",
    "readout_forms",
    "readout_scores",
]
