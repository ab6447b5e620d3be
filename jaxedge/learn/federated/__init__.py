"""Federated learning of stacked clients: many models, trained as one program.

Clients are a leading axis, who takes part is a mask, a round is one function:

    strategy = federated.fedavg()
    state = federated.init(strategy, params)
    state, info = federated.round(train, strategy, state, data_C, mask_C, key)
"""

from jaxedge.learn.federated import accountant as accountant
from jaxedge.learn.federated import fixed_point as fixed_point
from jaxedge.learn.federated import privacy as privacy
from jaxedge.learn.federated import secure_sum as secure_sum
from jaxedge.learn.federated import shamir as shamir
from jaxedge.learn.federated.aggregate import average as average
from jaxedge.learn.federated.aggregate import finite_clients as finite_clients
from jaxedge.learn.federated.aggregate import median as median
from jaxedge.learn.federated.aggregate import norms as norms
from jaxedge.learn.federated.aggregate import rejected as rejected
from jaxedge.learn.federated.aggregate import trimmed_mean as trimmed_mean
from jaxedge.learn.federated.controls import Controlled as Controlled
from jaxedge.learn.federated.controls import controlled as controlled
from jaxedge.learn.federated.controls import own_controls as own_controls
from jaxedge.learn.federated.controls import params_of as params_of
from jaxedge.learn.federated.controls import reply as reply
from jaxedge.learn.federated.controls import scaffold as scaffold
from jaxedge.learn.federated.drift import Local as Local
from jaxedge.learn.federated.drift import Transformation as Transformation
from jaxedge.learn.federated.drift import begin as begin
from jaxedge.learn.federated.drift import local as local
from jaxedge.learn.federated.rounds import Info as Info
from jaxedge.learn.federated.rounds import State as State
from jaxedge.learn.federated.rounds import client_keys as client_keys
from jaxedge.learn.federated.rounds import init as init
from jaxedge.learn.federated.rounds import round as round
from jaxedge.learn.federated.strategies import Strategy as Strategy
from jaxedge.learn.federated.strategies import averaging as averaging
from jaxedge.learn.federated.strategies import fedadagrad as fedadagrad
from jaxedge.learn.federated.strategies import fedadam as fedadam
from jaxedge.learn.federated.strategies import fedavg as fedavg
from jaxedge.learn.federated.strategies import fedavgm as fedavgm
from jaxedge.learn.federated.strategies import fedmedian as fedmedian
from jaxedge.learn.federated.strategies import fedprox as fedprox
from jaxedge.learn.federated.strategies import fedtrim as fedtrim
from jaxedge.learn.federated.strategies import fedyogi as fedyogi
