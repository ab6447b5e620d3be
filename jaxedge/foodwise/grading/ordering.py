"""Which photos people should look at first.

Letters: N photos, K classes, F features.
"""

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn import active

# Of the queue: as in FEAL (arXiv:2312.02567), but for the threshold, which is
# ours, of features less their mean.
NEIGHBOURS, ALIKE = 5, 0.6


def order_review(alphas_NxK: ArrayLike, features_NxF: ArrayLike) -> np.ndarray:
    """The queue of unsure photos: the most telling first, few alike.

    By FEAL's calibrated evidential uncertainty, of which a photo that is like
    one before it is put off (`learn.active.relax`). The same photos give the
    same queue; of equal ones the first comes first. Where nothing is known of
    a canteen yet, doubt tells little: have some labelled at random before.

    Args:
        alphas_NxK: Dirichlet parameters, positive.
        features_NxF: of the photos, finite.

    Returns:
        Indices [N], all of them.

    Raises:
        UsageError: for shapes that do not agree, or numbers out of range.
    """
    alpha = np.asarray(alphas_NxK, np.float32)
    x = np.asarray(features_NxF, np.float32)
    if alpha.ndim != 2 or x.ndim != 2 or len(alpha) != len(x):
        raise checks.UsageError(
            f"alphas have shape {alpha.shape} and features {x.shape}, but must"
            " be [N, K] and [N, F] of the same photos."
        )
    if not len(alpha):
        return np.zeros(0, np.int64)
    checks.in_range("alphas", alpha, 0, open_low=True)
    checks.finite("features", x)
    # Of features that are never negative, all photos would be alike.
    apart = x - x.mean(0)
    score = np.asarray(active.calibrated_evidential(alpha, alpha))
    return active.relax(
        score, apart, len(alpha), neighbours=NEIGHBOURS, threshold=ALIKE
    )
