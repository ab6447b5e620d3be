"""Choices beside scikit-learn and closed forms."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import feature_selection, linear_model

from jaxedge.core.checks import UsageError
from jaxedge.recipes import selection, stability

N, F = 60, 8
RNG = np.random.default_rng(0)
Y = RNG.permutation(np.arange(N) % 2)
VALUES = RNG.normal(size=(N, F)) * np.logspace(-3, 3, F) + 5
VALUES[:, 2] += 0.1 * (2 * Y - 1)  # Of deviation 0.05: tells the class.
VALUES[:, 5] = VALUES[:, 5] + 40 * Y  # Of 50.
VALUES[:, 3] = VALUES[:, 2] * 4 + RNG.normal(size=N) * 0.05  # Repeats it.
NAMES = tuple("abcdefgh")


def standard(x):
    return (x - x.mean(0)) / (x.std(0, ddof=1) + 1e-4)


@pytest.mark.parametrize("alpha", [0.02, 0.12])
def test_lasso_is_that_of_scikit_learn(alpha):
    found = selection.lasso(VALUES, Y, NAMES, alpha=alpha)
    model = linear_model.Lasso(alpha=alpha, max_iter=50_000)
    model.fit(standard(VALUES), Y)
    np.testing.assert_allclose(found.weights, model.coef_, rtol=1e-12)
    assert found.indices.tolist() == np.flatnonzero(model.coef_).tolist()
    assert found.names == tuple(NAMES[i] for i in found.indices)
    assert 0 < len(found.indices) < F
    other = VALUES[::2] + 1
    scaled = (other - VALUES.mean(0)) / (VALUES.std(0, ddof=1) + 1e-4)
    np.testing.assert_allclose(
        found.predict(other), model.predict(scaled), rtol=1e-10
    )


def test_a_lasso_of_orthogonal_features_is_a_threshold():
    """w = sign(c) max(|c| - alpha, 0) / s, c = x y / N, s = x x / N."""
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    x = np.tile(signs, (25, 1))
    y = np.tile([1, 1, 1, 0], 25)
    found = selection.lasso(x, y, "abc", alpha=0.2)
    # The columns have deviation sqrt(100 / 99), over which 1e-4 is added.
    scale = 1 / (np.sqrt(100 / 99) + 1e-4)
    c = scale * np.array([0.25, 0.25, -0.25])
    want = np.sign(c) * (np.abs(c) - 0.2) / scale**2
    np.testing.assert_allclose(found.weights, want, rtol=1e-6)
    assert found.intercept == pytest.approx(0.75)
    assert not len(selection.lasso(x, y, "abc", alpha=0.3).indices)
    # Which two numbers stand for the classes is the same.
    again = selection.lasso(x, 3 * y + 2, "abc", alpha=0.2)
    np.testing.assert_array_equal(again.weights, found.weights)


def by_hand(relevance, redundancy, k, quotient):
    """The greedy choice from its definition: [F], [F, F] -> k indices."""
    kept = [int(np.argmax(relevance))]
    while len(kept) < k:
        mean = redundancy[:, kept].mean(1)
        score = relevance - mean
        if quotient:
            score = relevance / np.maximum(mean, 1e-3)
        score[kept] = -np.inf
        kept.append(int(np.argmax(score)))
    return kept


def measures(scheme):
    """Relevance [F] and redundancy [F, F] of scipy and numpy, or sklearn."""
    if scheme.startswith("FC"):
        relevance = [
            stats.f_oneway(v[Y == 0], v[Y == 1]).statistic for v in VALUES.T
        ]
        return np.array(relevance), np.abs(np.corrcoef(VALUES.T))
    relevance = feature_selection.mutual_info_classif(VALUES, Y, random_state=0)
    redundancy = [
        feature_selection.mutual_info_regression(VALUES, v, random_state=0)
        for v in VALUES.T
    ]
    return relevance, np.stack(redundancy, 1)


@pytest.mark.parametrize("scheme", selection.SCHEMES)
def test_mrmr_is_its_definition(scheme):
    relevance, redundancy = measures(scheme)
    found = selection.mrmr(VALUES, Y, NAMES, k=F, scheme=scheme)
    want = by_hand(relevance, redundancy, F, scheme.endswith("Q"))
    assert found.indices.tolist() == want
    assert found.names == tuple(NAMES[i] for i in want)
    np.testing.assert_allclose(found.relevance, relevance, rtol=1e-9)
    mean, second = redundancy[want[1], want[0]], relevance[want[1]]
    quotient = second / max(mean, 1e-3)
    second = quotient if scheme.endswith("Q") else second - mean
    np.testing.assert_allclose(found.scores[:2], [max(relevance), second])


@pytest.mark.parametrize("scheme", ["FCQ", "MID"])
def test_mrmr_leaves_out_what_repeats(scheme):
    """Of 200 examples, so that mutual information is told well enough."""
    rng = np.random.default_rng(1)
    y = np.arange(200) % 2
    first = y + 0.3 * rng.normal(size=200)
    second = y + 0.33 * rng.normal(size=200)
    copy = first + 0.01 * rng.normal(size=200)
    noise = rng.normal(size=200)
    values = np.stack([noise, copy, second, first], 1)
    found = selection.mrmr(values, y, "nycx", k=2, scheme=scheme)
    # One of the two that are nearly one, and the other that tells the class.
    assert set(found.indices) in ({1, 2}, {2, 3})


def test_a_feature_that_is_the_class():
    values = np.stack([RNG.normal(size=20), np.arange(20) % 2.0], 1)
    for scheme in selection.SCHEMES:
        found = selection.mrmr(
            values, np.arange(20) % 2, "ab", scheme=scheme, k=2
        )
        assert found.names == ("b", "a") and np.isfinite(found.scores).all()


def test_the_mutual_information_of_a_class_is_its_entropy():
    """ln 2 of a feature that is the class but for little noise."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    values = np.stack(
        [y + 1e-3 * rng.normal(size=400), rng.normal(size=400)], 1
    )
    found = selection.mrmr(values, y, "ab", k=1, scheme="MID")
    np.testing.assert_allclose(found.relevance[0], np.log(2), rtol=0.02)
    assert found.relevance[1] < 0.1


def kuncheva(a, b):
    """(r d - k^2) / (k (d - k)), r features in both (Kuncheva 2007)."""
    k, d = a.sum(), len(a)
    return ((a & b).sum() * d - k**2) / (k * (d - k))


def test_stability_of_equal_sizes_is_the_mean_of_kunchevas():
    chosen = np.zeros((6, 12), bool)
    for row in chosen:
        row[RNG.choice(12, 4, replace=False)] = True
    found = stability.of_choices(chosen)
    pairs = [kuncheva(*pair) for pair in itertools.combinations(chosen, 2)]
    np.testing.assert_allclose(found.index, np.mean(pairs))
    np.testing.assert_allclose(found.share_F, chosen.mean(0))
    assert found.low < found.index < found.high
    same = stability.of_choices(np.tile(chosen[:1], (3, 1)))
    np.testing.assert_allclose(same[1:], 1)


def test_the_interval_is_that_of_the_delta_method():
    """Its variance is that of the index's slope by each choice's weight."""
    rng = np.random.default_rng(2)
    chosen = rng.random((800, 10)) < rng.random(10)

    def index(weight):
        p = weight @ chosen
        q = p.mean()
        return 1 - (p * (1 - p)).mean() / (q * (1 - q))

    m, step = len(chosen), 1e-6
    even = np.full(m, 1 / m)
    slopes = [
        (index((1 - step) * even + step * one) - index(even)) / step
        for one in np.eye(m)
    ]
    found = stability.of_choices(chosen, confidence=0.9)
    wide = stats.norm.ppf(0.95) * np.std(slopes) / np.sqrt(m)
    # They differ by terms of 1 / M.
    np.testing.assert_allclose(found.high - found.index, wide, rtol=0.01)
    np.testing.assert_allclose(found.index - found.low, wide, rtol=0.01)


def test_choices_of_chance_have_no_stability():
    """An index of 0 on average: its spread over 40 x 40 choices is 0.005."""
    rng = np.random.default_rng(3)
    found = [
        stability.of_choices(rng.random((40, 30)) < 0.3).index
        for _ in range(40)
    ]
    assert abs(np.mean(found)) < 5 * np.std(found) / np.sqrt(40)


def test_folds_see_their_training_parts_alone():
    seen = []

    def choose(values, y):
        seen.append(values)
        assert abs(y.mean() - 0.5) < 0.02  # Classes in equal shares.
        return selection.mrmr(values, y, NAMES, k=2).indices

    found = selection.over_folds(VALUES, Y, NAMES, choose, folds=5, seed=1)
    assert found.chosen_MxF.shape == (5, F) and found.names == NAMES
    assert found.chosen_MxF.sum(1).tolist() == [2] * 5
    assert [len(part) for part in seen] == [48] * 5
    # Every example is left out once.
    rows = np.concatenate(seen)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert counts.tolist() == [4] * N
    want = stability.of_choices(found.chosen_MxF)
    assert found.stability.index == want.index
    again = selection.over_folds(VALUES, Y, NAMES, choose, folds=5, seed=1)
    np.testing.assert_array_equal(again.chosen_MxF, found.chosen_MxF)


def test_what_varies():
    values = np.stack([np.full(N, 0.1), np.arange(N)], 1)
    assert selection.varies(values).tolist() == [False, True]


def changed(**columns):
    values = VALUES.copy()
    for name, value in columns.items():
        values[:, NAMES.index(name)] = value
    return values


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(values=changed(c=0.1)), "feature 'c' is 0.1 of every example"),
        (dict(values=changed(c=np.nan)), "feature 'c' of example 0 is nan"),
        (dict(values=changed(h=np.inf)), "feature 'h' of example 0 is inf"),
        (dict(values=VALUES[0]), r"shape \(8,\)"),
        (dict(values=VALUES[:0]), r"shape \(0, 8\)"),
        (dict(values=VALUES.astype(str)), "features are <U"),
        (dict(y=Y[:9]), r"labels are int64 of shape \(9,\)"),
        (dict(y=Y / 2), "labels are float64"),
        (dict(y=0 * Y + 3), "all 60 examples are of class 3"),
        (dict(names=NAMES[:3]), "3 names, but 8 features"),
        (dict(names="aacdefgh"), "'a' is given to several"),
    ],
)
@pytest.mark.parametrize("method", [selection.lasso, selection.mrmr])
def test_what_does_not_fit_is_named(method, given, message):
    given = {"values": VALUES, "y": Y, "names": NAMES, **given}
    with pytest.raises(UsageError, match=message) as error:
        method(given["values"], given["y"], given["names"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: selection.mrmr(VALUES, Y, NAMES, k=9), "k is 9, but .* 8"),
        (lambda: selection.mrmr(VALUES, Y, NAMES, k=0), "k is 0"),
        (lambda: selection.mrmr(VALUES[:3], [0, 1, 1], NAMES),
         "3 examples of 2 classes, but 4 are needed"),
        (lambda: selection.mrmr(VALUES, Y, NAMES, scheme="FC"), "'FC[DQ]'"),
        (lambda: selection.lasso(VALUES, Y, NAMES, alpha=0), "alpha is 0"),
        (lambda: selection.lasso(VALUES, np.arange(N) % 3, NAMES),
         "3 classes.*use mrmr"),
        (lambda: selection.lasso(VALUES, Y, NAMES, alpha=1e-9, most_steps=1),
         "not converged in 1 steps"),
        (lambda: selection.over_folds(VALUES[:3], Y[:3], NAMES, None),
         "a class has 1 of 3 examples, but there are 5 folds"),
        (lambda: selection.over_folds(VALUES, Y, NAMES, None, folds=1),
         "folds is 1"),
        (lambda: stability.of_choices(np.ones((3, 4), bool)), "every feature"),
        (lambda: stability.of_choices(np.zeros((3, 4), bool)), "no feature"),
        (lambda: stability.of_choices(np.eye(3)), "float64 of shape"),
        (lambda: stability.of_choices(np.ones((1, 3), bool)), "two choices"),
        (lambda: stability.of_choices(np.eye(3, dtype=bool), confidence=1.0),
         "confidence is 1.0"),
    ],
)  # fmt: skip
def test_other_bad_input(call, message):
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
