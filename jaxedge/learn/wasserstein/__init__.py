"""Wasserstein distances, and critics that estimate them.

penalty = wasserstein.gradient_penalty(critic, real, fake, key)
loss = wasserstein.critic_loss(critic, real, fake) + 10 * penalty
w, u = wasserstein.spectral_norm(w, u)
distance = wasserstein.sliced(key, x_NxF, y_MxF)
"""

from jaxedge.learn.wasserstein.constraints import clip as clip
from jaxedge.learn.wasserstein.constraints import (
    power_iteration as power_iteration,
)
from jaxedge.learn.wasserstein.constraints import power_start as power_start
from jaxedge.learn.wasserstein.constraints import (
    spectral_norm as spectral_norm,
)
from jaxedge.learn.wasserstein.distances import exact_1d as exact_1d
from jaxedge.learn.wasserstein.distances import sliced as sliced
from jaxedge.learn.wasserstein.losses import critic_loss as critic_loss
from jaxedge.learn.wasserstein.losses import generator_loss as generator_loss
from jaxedge.learn.wasserstein.penalty import COMPAT as COMPAT
from jaxedge.learn.wasserstein.penalty import (
    gradient_penalty as gradient_penalty,
)
from jaxedge.learn.wasserstein.penalty import slopes as slopes
