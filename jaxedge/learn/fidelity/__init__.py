"""How near made samples come to real ones, by the features of a network.

Fidelity and diversity of a generator: the Frechet and the kernel distance of
two sets of features, how unlike its samples are each other, and whether they
are copies. What a number means depends on the network that made the features
and on how many rows there are: compare what shares both.
"""

from jaxedge.learn.fidelity.gaussians import fid as fid
from jaxedge.learn.fidelity.gaussians import frechet as frechet
from jaxedge.learn.fidelity.kernels import SUBSET as SUBSET
from jaxedge.learn.fidelity.kernels import SUBSETS as SUBSETS
from jaxedge.learn.fidelity.kernels import kid as kid
from jaxedge.learn.fidelity.kernels import mmd as mmd
from jaxedge.learn.fidelity.neighbours import Coverage as Coverage
from jaxedge.learn.fidelity.neighbours import nearest as nearest
from jaxedge.learn.fidelity.neighbours import (
    precision_recall as precision_recall,
)
from jaxedge.learn.fidelity.pairs import diversity as diversity
from jaxedge.learn.fidelity.samples import Spread as Spread

__all__ = [
    "SUBSET",
    "SUBSETS",
    "Coverage",
    "Spread",
    "diversity",
    "fid",
    "frechet",
    "kid",
    "mmd",
    "nearest",
    "precision_recall",
]
