"""Which samples to train on: coresets for quantisation-aware training.

scores = coreset.error_vector_score(logits_q, labels)
kept = coreset.select(scores, labels, 0.1)
"""

from jaxedge.learn.coreset import greedy as greedy
from jaxedge.learn.coreset.evidence import Evidence as Evidence
from jaxedge.learn.coreset.methods import METHODS as METHODS
from jaxedge.learn.coreset.methods import Method as Method
from jaxedge.learn.coreset.methods import Task as Task
from jaxedge.learn.coreset.methods import choose as choose
from jaxedge.learn.coreset.scores import SCHEDULES as SCHEDULES
from jaxedge.learn.coreset.scores import UNCERTAINTIES as UNCERTAINTIES
from jaxedge.learn.coreset.scores import adaptive_score as adaptive_score
from jaxedge.learn.coreset.scores import (
    disagreement_score as disagreement_score,
)
from jaxedge.learn.coreset.scores import el2n_score as el2n_score
from jaxedge.learn.coreset.scores import (
    error_vector_score as error_vector_score,
)
from jaxedge.learn.coreset.scores import forgetting_score as forgetting_score
from jaxedge.learn.coreset.scores import grand_score as grand_score
from jaxedge.learn.coreset.scores import moderate_score as moderate_score
from jaxedge.learn.coreset.scores import uncertainty_score as uncertainty_score
from jaxedge.learn.coreset.selection import quota as quota
from jaxedge.learn.coreset.selection import select as select
from jaxedge.learn.coreset.selection import top as top
