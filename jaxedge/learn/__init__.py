"""Learning rules as pure functions, without a network."""

from jaxedge.learn import active as active
from jaxedge.learn import calibration as calibration
from jaxedge.learn import coreset as coreset
from jaxedge.learn import decorrelate as decorrelate
from jaxedge.learn import distill as distill
from jaxedge.learn import evidential as evidential
from jaxedge.learn import federated as federated
from jaxedge.learn import fidelity as fidelity
from jaxedge.learn import information as information
from jaxedge.learn import masks as masks
from jaxedge.learn import readout as readout
from jaxedge.learn import readout_forms as readout_forms
from jaxedge.learn import readout_scores as readout_scores
from jaxedge.learn import roc as roc
from jaxedge.learn import wasserstein as wasserstein

__all__ = [
    "active",
    "calibration",
    "coreset",
    "decorrelate",
    "distill",
    "evidential",
    "federated",
    "fidelity",
    "information",
    "masks",
    "readout",
    "readout_forms",
    "readout_scores",
    "roc",
    "wasserstein",
]
