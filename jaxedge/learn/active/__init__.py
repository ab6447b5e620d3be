"""Which samples to annotate: queries of (federated) active learning.

scores = active.calibrated_evidential(alpha_global, alpha_local)
chosen = active.relax(scores, features, 500)
"""

from jaxedge.learn.active.evidence import Evidence as Evidence
from jaxedge.learn.active.methods import METHODS as METHODS
from jaxedge.learn.active.methods import MODELS as MODELS
from jaxedge.learn.active.methods import Method as Method
from jaxedge.learn.active.methods import Task as Task
from jaxedge.learn.active.methods import choose as choose
from jaxedge.learn.active.relaxation import FILLS as FILLS
from jaxedge.learn.active.relaxation import relax as relax
from jaxedge.learn.active.scores import bald_score as bald_score
from jaxedge.learn.active.scores import (
    calibrated_evidential as calibrated_evidential,
)
from jaxedge.learn.active.scores import grad_norm_score as grad_norm_score
from jaxedge.learn.active.scores import kafal_score as kafal_score
from jaxedge.learn.active.scores import (
    total_uncertainty_score as total_uncertainty_score,
)
