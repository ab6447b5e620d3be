"""Evidence for classes: Dirichlet distributions, their losses and doubts.

alpha = evidential.alpha(logits)
loss_B = evidential.feal_losses(
    logits, onehot, class_share, step, kl_weight=0.01, annealing=10
)
doubt_B = evidential.expected_entropy(alpha)
"""

from jaxedge.learn.evidential.dice import evidential_dice as evidential_dice
from jaxedge.learn.evidential.dice import feal_dice_loss as feal_dice_loss
from jaxedge.learn.evidential.dice import soft_dice as soft_dice
from jaxedge.learn.evidential.dirichlet import (
    differential_entropy as differential_entropy,
)
from jaxedge.learn.evidential.dirichlet import (
    expected_entropy as expected_entropy,
)
from jaxedge.learn.evidential.dirichlet import kl_to_uniform as kl_to_uniform
from jaxedge.learn.evidential.dirichlet import (
    mutual_information as mutual_information,
)
from jaxedge.learn.evidential.dirichlet import probability as probability
from jaxedge.learn.evidential.dirichlet import vacuity as vacuity
from jaxedge.learn.evidential.evidence import EVIDENCE as EVIDENCE
from jaxedge.learn.evidential.evidence import alpha as alpha
from jaxedge.learn.evidential.feal import correction as correction
from jaxedge.learn.evidential.feal import feal_loss as feal_loss
from jaxedge.learn.evidential.feal import feal_losses as feal_losses
from jaxedge.learn.evidential.feal import regulariser as regulariser
from jaxedge.learn.evidential.risks import RISKS as RISKS
from jaxedge.learn.evidential.risks import annealed_kl as annealed_kl
from jaxedge.learn.evidential.risks import digamma_risk as digamma_risk
from jaxedge.learn.evidential.risks import likelihood_risk as likelihood_risk
from jaxedge.learn.evidential.risks import misleading as misleading
from jaxedge.learn.evidential.risks import squared_risk as squared_risk
