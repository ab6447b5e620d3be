"""How stable a choice of features is, over folds or samples.

Letters: F features, M choices.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks


class Stability(NamedTuple):
    """How alike several choices are.

    Attributes:
        share_F: of the choices that have each feature, [F].
        index: 1 where all are the same, 0 on average where each is drawn by
            chance; see `of_choices`.
        low: lower end of its confidence interval.
        high: upper end.
    """

    share_F: np.ndarray
    index: float
    low: float
    high: float


def of_choices(chosen_MxF: Any, *, confidence: float = 0.95) -> Stability:
    """How alike choices are (Nogueira, Sechidis & Brown, JMLR 18:174, 2018).

    With p_f the share of the choices that have feature f, and q the mean share
    of the features that a choice has,

        index = 1 - M / (M - 1) mean_f p_f (1 - p_f) / (q (1 - q)),

    which corrects for chance, and for choices of equal size is the mean of
    Kuncheva's index over all pairs. The interval is theirs, of a normal
    approximation; few folds, and folds that share rows, make it too short.

    Args:
        chosen_MxF: bool, M >= 2 choices.
        confidence: of the interval, in (0, 1).

    Raises:
        UsageError: for another shape or dtype, a single choice, or choices of
            nothing or of everything alone, for which it has no meaning.
    """
    from scipy import special  # Slow to load.

    chosen = np.asarray(chosen_MxF)
    if chosen.ndim != 2 or chosen.dtype != bool or len(chosen) < 2:
        raise checks.UsageError(
            f"chosen_MxF is {chosen.dtype} of shape {chosen.shape}, but must be"
            " bool, two choices of features or more."
        )
    checks.in_range("confidence", confidence, 0, 1 - 1e-9, open_low=True)
    m, z = len(chosen), chosen.astype(float)
    p, k = z.mean(0), z.mean(1)
    q = k.mean()
    if q in (0, 1):
        what = "every feature" if q else "no feature"
        raise checks.UsageError(
            f"all {m} choices have {what}, so that their stability has no"
            " meaning; change how many are kept."
        )
    chance = q * (1 - q)
    index = 1 - m / (m - 1) * np.mean(p * (1 - p)) / chance
    # Theorem 7 of the paper.
    part = (z * p).mean(1) - k * q + index / 2 * (2 * k * q - k - q + 1)
    part = part / chance
    deviation = 2 / m * np.sqrt(np.sum((part - part.mean()) ** 2))
    wide = special.ndtri((1 + confidence) / 2) * deviation
    return Stability(p, float(index), float(index - wide), float(index + wide))
