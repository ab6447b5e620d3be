"""Which of many features are kept.

Runs on the host, on the rows of a training set alone: whoever chooses by all
rows has seen those that are to be judged.

Letters: N examples, F features, M folds, k features that are kept.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple
import warnings

import numpy as np

from jaxedge.core import checks
from jaxedge.recipes import stability

# Added to standard deviations, as in the released code of RIDL (ridl 8).
EPS = 1e-4
# How relevance and redundancy are joined: mutual information or F statistic and
# correlation, as a difference or a quotient (Ding & Peng 2005).
SCHEMES = ("FCD", "FCQ", "MID", "MIQ")
# Least redundancy by which is divided; ours, as none would outweigh everything.
_LEAST = 1e-3
# The F statistic of a feature that is the class.
_MOST = 1e300
_NEIGHBOURS = 3  # By which scikit-learn estimates mutual information.

Choose = Callable[[np.ndarray, np.ndarray], Sequence[int] | np.ndarray]


class Lasso(NamedTuple):
    """A linear model of the label with few weights that are not 0.

    Attributes:
        indices: of features with a weight, ascending.
        names: of these.
        weights: of all features, standardised, [F].
        intercept: the share of label 1.
        mean: of all features, [F].
        spread: by which they are divided, [F].
    """

    indices: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray
    intercept: float
    mean: np.ndarray
    spread: np.ndarray

    def predict(self, values_NxF: np.ndarray) -> np.ndarray:
        """Labels of other examples, [N], near 0 and 1 but of any size."""
        scaled = (np.asarray(values_NxF) - self.mean) / self.spread
        return scaled @ self.weights + self.intercept


class Ranking(NamedTuple):
    """Features in the order in which they were chosen.

    Attributes:
        indices: [k].
        names: of these.
        scores: of each when it was chosen, [k]; of the first its relevance.
        relevance: of all features, [F].
    """

    indices: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray
    relevance: np.ndarray


class Folds(NamedTuple):
    """Choices of the training parts of several folds.

    Attributes:
        chosen_MxF: bool, which features each fold chose.
        names: of the features, [F].
        stability: of these.
    """

    chosen_MxF: np.ndarray
    names: tuple[str, ...]
    stability: stability.Stability


def lasso(
    values_NxF: np.ndarray,
    y_N: np.ndarray,
    names: Sequence[str],
    *,
    alpha: float = 0.12,
    most_steps: int = 50_000,
) -> Lasso:
    """Features by the weights of a lasso of labels 0 and 1 (ridl 2.1).

    Features are standardised by their mean and their deviation (N - 1 below)
    + 1e-4; scikit-learn's Lasso minimises
    sum (y - x w - b)^2 / (2 N) + alpha sum |w|. It may keep none.

    Args:
        values_NxF: features of the training set.
        y_N: labels, of two classes; the larger one counts as 1.
        names: of the features.
        alpha: weight of the penalty, above 0; RIDL has 0.12.
        most_steps: of the solver.

    Raises:
        UsageError: for values, labels or names that do not fit (see `checked`),
            three classes, or a solver that has not converged.
    """
    from sklearn import exceptions, linear_model  # Slow to load.

    values, labels, names = checked(values_NxF, y_N, names)
    checks.in_range("alpha", alpha, 0, open_low=True)
    checks.whole("most_steps", most_steps, 1)
    if labels.max() > 1:
        raise checks.UsageError(
            f"the labels are of {labels.max() + 1} classes, but a lasso tells"
            " two apart; use mrmr."
        )
    mean, spread = values.mean(0), values.std(0, ddof=1) + EPS
    model = linear_model.Lasso(alpha=alpha, max_iter=most_steps)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", exceptions.ConvergenceWarning)
            model.fit((values - mean) / spread, labels)
    except exceptions.ConvergenceWarning:
        raise checks.UsageError(
            f"the lasso has not converged in {most_steps} steps; raise"
            f" most_steps or alpha ({alpha})."
        ) from None
    kept = np.flatnonzero(model.coef_)
    return Lasso(
        kept,
        tuple(names[i] for i in kept),
        np.asarray(model.coef_),
        float(model.intercept_),
        mean,
        spread,
    )


def mrmr(
    values_NxF: np.ndarray,
    y_N: np.ndarray,
    names: Sequence[str],
    *,
    k: int = 4,
    scheme: str = "FCQ",
) -> Ranking:
    """Features that tell the class and are unlike each other, one by one.

    Of minimal redundancy and maximal relevance (Ding & Peng, J. Bioinformatics
    and Computational Biology 3, 2005): the first is the most relevant one, and
    each further one has the largest relevance minus ("D"), or divided by ("Q"),
    its mean redundancy with those that were chosen. With "FC" relevance is the
    F statistic of an analysis of variance, and redundancy the absolute
    correlation; with "MI" both are mutual information, as scikit-learn
    estimates it from nearest neighbours in place of the paper's discrete
    levels. Of equals the first is chosen.

    Args:
        values_NxF: features of the training set.
        y_N: labels, of two classes or more.
        names: of the features.
        k: how many are kept, in [1, F].
        scheme: of `SCHEMES`.

    Raises:
        UsageError: for values, labels or names that do not fit (see `checked`),
            a k out of range, or too few examples.
    """
    values, labels, names = checked(values_NxF, y_N, names)
    checks.choice("scheme", scheme, SCHEMES)
    checks.whole("k", k, 1)
    if k > len(names):
        raise checks.UsageError(
            f"k is {k}, but there are {len(names)} features; keep at most"
            " those."
        )
    least = max(_NEIGHBOURS, int(labels.max()) + 1) + 1
    if len(values) < least:
        raise checks.UsageError(
            f"there are {len(values)} examples of {labels.max() + 1} classes,"
            f" but {least} are needed to tell how features differ."
        )
    relevance = _relevance(values, labels, scheme)
    redundancy, left = np.zeros(len(names)), np.ones(len(names), bool)
    kept: list[int] = []
    scores = []
    for turn in range(k):
        score = relevance
        if turn:
            mean = redundancy / turn
            quotient = relevance / np.maximum(mean, _LEAST)
            score = quotient if scheme[-1] == "Q" else relevance - mean
        best = int(np.argmax(np.where(left, score, -np.inf)))
        kept.append(best)
        scores.append(float(score[best]))
        left[best] = False
        if turn + 1 < k:
            redundancy += _redundancy(values, best, scheme)
    found = tuple(names[i] for i in kept)
    return Ranking(np.array(kept), found, np.array(scores), relevance)


def over_folds(
    values_NxF: np.ndarray,
    y_N: np.ndarray,
    names: Sequence[str],
    choose: Choose,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Folds:
    """Chooses on the training part of every fold, and compares the choices.

    Args:
        values_NxF: features.
        y_N: labels; folds have their classes in equal shares.
        names: of the features.
        choose: (values, labels) of the training part -> indices that are kept,
            such as lambda x, y: mrmr(x, y, names).indices.
        folds: M, at least 2.
        seed: of the folds.

    Raises:
        UsageError: as `checked`, for a class of fewer examples than folds, or
            choices of nothing or everything in all of them.
    """
    from sklearn import model_selection  # Likewise.

    values, labels, names = checked(values_NxF, y_N, names)
    checks.whole("folds", folds, 2)
    checks.whole("seed", seed)
    fewest = np.bincount(labels).min()
    if fewest < folds:
        raise checks.UsageError(
            f"a class has {fewest} of {len(labels)} examples, but there are"
            f" {folds} folds; take fewer, or more examples."
        )
    splitter = model_selection.StratifiedKFold(
        folds, shuffle=True, random_state=seed
    )
    chosen = np.zeros((folds, len(names)), bool)
    for row, (train, _) in zip(
        chosen, splitter.split(values, labels), strict=True
    ):
        row[np.asarray(choose(values[train], labels[train]), int)] = True
    return Folds(chosen, names, stability.of_choices(chosen))


def varies(values_NxF: np.ndarray) -> np.ndarray:
    """Which features are not the same for every example, [F] bool.

    The others tell nothing, and are refused by what chooses.
    """
    return np.ptp(np.asarray(values_NxF, float), axis=0) > 0


def checked(
    values_NxF: np.ndarray, y_N: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Features, classes and names from which can be chosen.

    Returns:
        Features [N, F] float64, classes [N] counted from 0, and names [F].

    Raises:
        UsageError: for shapes that differ, NaN or a constant (names the
            feature), names that repeat, or fewer than two classes.
    """
    values, y = np.asarray(values_NxF), np.asarray(y_N)
    names = tuple(names)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise checks.UsageError(
            f"the features are {values.dtype} of shape {values.shape}, but must"
            " be numbers [N, F]."
        )
    values = values.astype(float)
    if y.shape != values.shape[:1] or y.dtype.kind not in "iub":
        raise checks.UsageError(
            f"the labels are {y.dtype} of shape {y.shape}, but must be whole"
            f" numbers, one for each of {len(values)} examples."
        )
    if len(names) != values.shape[1]:
        raise checks.UsageError(
            f"there are {len(names)} names, but {values.shape[1]} features."
        )
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise checks.UsageError(
            f"the name {twice[0]!r} is given to several features; each needs"
            " its own."
        )
    _check_columns(values, names)
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise checks.UsageError(
            f"all {len(y)} examples are of class {classes[0]}; nothing can be"
            " chosen by one class."
        )
    return values, labels, names


def _check_columns(values: np.ndarray, names: tuple[str, ...]) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise checks.UsageError(
            f"feature {names[column]!r} of example {row} is"
            f" {values[row, column]}; leave out what is not finite."
        )
    constant = np.flatnonzero(~varies(values))
    if len(constant):
        raise checks.UsageError(
            f"feature {names[constant[0]]!r} is {values[0, constant[0]]:g} of"
            f" every example ({len(constant)} such); leave it out (`varies`)."
        )


def _relevance(
    values: np.ndarray, labels: np.ndarray, scheme: str
) -> np.ndarray:
    """Of every feature for the class, [F]."""
    from sklearn import feature_selection  # Likewise.

    if scheme.startswith("MI"):
        return feature_selection.mutual_info_classif(
            values, labels, n_neighbors=_NEIGHBOURS, random_state=0
        )
    # It takes sums of squares apart, of which a large mean leaves few digits.
    scaled = (values - values.mean(0)) / values.std(0)
    with np.errstate(divide="ignore"):  # A feature that is the class.
        found, _ = feature_selection.f_classif(scaled, labels)
    return np.nan_to_num(found, nan=0.0, posinf=_MOST)


def _redundancy(values: np.ndarray, other: int, scheme: str) -> np.ndarray:
    """Of every feature with one of them, [F]."""
    from sklearn import feature_selection  # Likewise.

    if scheme.startswith("MI"):
        return feature_selection.mutual_info_regression(
            values, values[:, other], n_neighbors=_NEIGHBOURS, random_state=0
        )
    off = values - values.mean(0)
    off = off / np.linalg.norm(off, axis=0)
    return np.abs(off.T @ off[:, other])
