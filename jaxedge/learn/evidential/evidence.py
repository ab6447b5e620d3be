"""From the logits of a network to the parameters of a Dirichlet distribution.

Evidence e >= 0 for a class counts observations of it; alpha = e + 1 (Sensoy,
arXiv:1806.01768). Without evidence the distribution over the probabilities
of the classes is uniform.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.evidential import inputs

# The evidence of "exp" ends at e^10 = 22026, as in common implementations.
EXP_LIMIT = 10.0


def _squared(z: jax.Array) -> jax.Array:
    """(relu(z) + 1)^2 - 1, without the digits that the 1 would cost."""
    z = jax.nn.relu(z)
    return z * (z + 2)


EVIDENCE: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "exp": lambda z: jnp.exp(jnp.minimum(z, EXP_LIMIT)),
    "squared": _squared,
}


def alpha(logits: ArrayLike, evidence: str = "relu") -> jax.Array:
    """Dirichlet parameters alpha = e(z) + 1.

    "relu" is e = max(z, 0) and "squared" alpha = (max(z, 0) + 1)^2, FEAL's for
    classification and for segmentation (feal 3). Both have no gradient at or
    below z = 0, where only FEAL's `correction` moves them. "softplus", ln(1 +
    e^z), has one everywhere. "exp" is e^min(z, 10): it would overflow at 89,
    and long before let one logit rule the loss of a batch; above 10 it has no
    gradient.

    Args:
        logits: z, [..., K].
        evidence: a key of `EVIDENCE`.

    Returns:
        [..., K], at least 1 and at least float32.

    Raises:
        UsageError: for an unknown evidence, or logits that are not finite.
    """
    checks.choice("evidence", evidence, EVIDENCE)
    return 1 + EVIDENCE[evidence](inputs.real("logits", logits))
