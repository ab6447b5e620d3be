"""Which of some alternatives nothing else beats in everything."""

import numpy as np

from jaxedge.core import checks


def efficient(cost_NxK: np.ndarray) -> np.ndarray:
    """The alternatives on the Pareto front, [N] of bool.

    One is dominated if another costs no more in anything and less in something.
    Equal ones do not dominate each other. One with a NaN is not on the front.

    Args:
        cost_NxK: the less the better, N alternatives by K costs.

    Raises:
        UsageError: for an array of another rank.
    """
    cost_NxK = np.asarray(cost_NxK, float)
    if cost_NxK.ndim != 2:
        raise checks.UsageError(
            f"costs have the shape {cost_NxK.shape}, but must be alternatives"
            " by costs."
        )
    known_N = ~np.isnan(cost_NxK).any(axis=1)
    rivals_RxK = cost_NxK[known_N]

    def beaten(cost_K: np.ndarray) -> bool:
        no_more = (rivals_RxK <= cost_K).all(axis=1)
        return bool((no_more & (rivals_RxK < cost_K).any(axis=1)).any())

    beaten_N = np.array([beaten(cost_K) for cost_K in cost_NxK], bool)
    return np.asarray(known_N & ~beaten_N)
