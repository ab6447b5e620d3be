"""Tests of coresets against loops in numpy, float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.learn import coreset

RNG = np.random.default_rng(0)
N, K, D, V = 24, 3, 5, 9
LABELS = np.arange(N) % K
Q, FP = (RNG.normal(size=(N, K)).astype(np.float32) for _ in range(2))
H = RNG.normal(size=(N, D)).astype(np.float32)
VALID = np.arange(V) % K
VQ = RNG.normal(size=(V, K)).astype(np.float32)
VH = RNG.normal(size=(V, D)).astype(np.float32)
RIGHT = RNG.random((5, N)) < 0.6
EVIDENCE = coreset.Evidence(
    LABELS,
    logits_q=Q,
    logits_fp=FP,
    features=H,
    logits_T=np.stack([Q, FP]),
    correct_T=RIGHT,
    valid_labels=VALID,
    valid_logits=VQ,
    valid_features=VH,
)
KEY = jax.random.key(3)


def softmax(z):
    p = np.exp(np.float64(z) - np.max(z, -1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def residual(logits, labels):
    return softmax(logits) - np.eye(K)[labels]


def gradients(logits, labels, features):
    """Of the last layer with its bias, one row a sample."""
    h = np.concatenate([np.float64(features), np.ones((len(features), 1))], 1)
    return np.einsum("nk,nd->nkd", residual(logits, labels), h).reshape(
        len(h), -1
    )


G = gradients(Q, LABELS, H)
EVS = np.linalg.norm(residual(Q, LABELS), axis=1)
DS = np.linalg.norm(softmax(Q) - softmax(FP), axis=1)


# Scores.


def test_scores_of_the_paper():
    np.testing.assert_allclose(
        coreset.error_vector_score(Q, LABELS), EVS, rtol=1e-5
    )
    np.testing.assert_allclose(coreset.disagreement_score(Q, FP), DS, rtol=1e-5)


SHARES = {
    "paper": lambda t: math.cos(math.pi * t / 2),
    "released": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t: 1 - t,
    "quadratic": lambda t: 1 - t**2,
    "sqrt": lambda t: 1 - math.sqrt(t),
    "fixed": lambda t: 0.5,
    "evs": lambda t: 1.0,
    "ds": lambda t: 0.0,
}


@pytest.mark.parametrize("schedule", coreset.SCHEDULES)
def test_schedules(schedule):
    evs, ds = jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 1.0])
    for t in (0.0, 0.25, 0.5, 1.0):
        share = SHARES[schedule](t)
        found = coreset.adaptive_score(evs, ds, t, schedule)
        np.testing.assert_allclose(found, [share, 1 - share], atol=1e-6)


def test_forms_differ_at_half_of_the_training():
    """The released code's mix is not the paper's (qat_acs trap 2)."""
    one = jnp.asarray([1.0])
    paper, released = (
        float(coreset.adaptive_score(one, 0 * one, 0.5, name)[0])
        for name in ("paper", "released")
    )
    np.testing.assert_allclose([paper, released], [0.5**0.5, 0.5], rtol=1e-6)


def test_scores_of_the_baselines():
    found = coreset.el2n_score(np.stack([Q, FP]), LABELS)
    want = (EVS + np.linalg.norm(residual(FP, LABELS), axis=1)) / 2
    np.testing.assert_allclose(found, want, rtol=1e-5)
    found = coreset.grand_score(Q, H, LABELS)
    np.testing.assert_allclose(found, np.linalg.norm(G, axis=1), rtol=1e-5)
    events = np.sum(RIGHT[:-1] & ~RIGHT[1:], 0).astype(float)
    events[~RIGHT.any(0)] = np.inf
    np.testing.assert_array_equal(coreset.forgetting_score(RIGHT), events)
    p = np.sort(softmax(Q), 1)
    for kind, want in {
        "least_confidence": 1 - p[:, -1],
        "entropy": -(p * np.log(p)).sum(1),
        "margin": p[:, -2] - p[:, -1],
    }.items():
        found = coreset.uncertainty_score(Q, kind)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
    far = np.zeros(N)
    for c in range(K):
        rows = np.float64(H[LABELS == c])
        far[LABELS == c] = np.linalg.norm(rows - rows.mean(0), axis=1)
    want = np.array(
        [
            -abs(d - np.median(far[LABELS == c]))
            for d, c in zip(far, LABELS, strict=True)
        ]
    )
    found = coreset.moderate_score(H, LABELS, K)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    found = coreset.moderate_score(H, LABELS, K, class_balanced=False)
    want = -abs(far - np.median(far))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_transformed_scores_are_finite_and_float32():
    """At a certain network, where the norm of the error has no slope."""
    sure = jnp.asarray(200 * np.eye(K)[LABELS], jnp.float32)

    def slope(logits):
        scores = coreset.error_vector_score(logits, LABELS)
        scores += coreset.disagreement_score(logits, sure)
        return scores.sum()

    found = jax.jit(jax.vmap(jax.grad(slope)))(jnp.stack([sure, Q]))
    assert np.isfinite(found).all()
    # The slope of a norm is taken as 0 where the norm is 0.
    assert not found[0].any() and found[1].any()
    half = jnp.asarray(Q, jnp.bfloat16)
    found = coreset.error_vector_score(half, LABELS)
    want = np.linalg.norm(residual(np.float64(half), LABELS), axis=1)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, want, rtol=1e-5)


# Which are kept.


@pytest.mark.parametrize("balanced", [True, False])
def test_the_highest_are_kept_the_first_of_ties(balanced):
    scores = np.array([1, 1, 5, 1, 1, 5, 0, 2, 5, 1, 1, 0.0])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    found = coreset.select(scores, labels, 0.5, balanced)
    # Halves go to even: 2 of 5 and 4 (3.5) of 7.
    kept = [0, 2, 5, 7, 8, 9] if balanced else [0, 1, 2, 5, 7, 8]
    np.testing.assert_array_equal(found, kept)
    if balanced:
        quota = coreset.quota(labels, 0.5, 2)
        np.testing.assert_array_equal(quota, [2, 4])
        mask = jax.jit(coreset.top)(scores, labels, quota)
        np.testing.assert_array_equal(np.flatnonzero(mask), kept)


def test_shares_are_rounded_in_float64():
    # In float32 the product is 57.5, which goes to 58.
    assert round(0.575 * 100) == 57
    shares = jax.jit(coreset.quota, static_argnums=(1, 2))
    labels = np.repeat([0, 1], [100, 40])
    np.testing.assert_array_equal(shares(labels, 0.575, 2), [57, 23])
    assert coreset.select(np.zeros(100), labels[:100], 0.575).size == 57


def test_masks_can_be_mapped():
    many = RNG.normal(size=(3, N)).astype(np.float32)
    quota = coreset.quota(LABELS, 0.25, K)
    masks = jax.vmap(coreset.top, (0, None, None))(many, LABELS, quota)
    for scores, mask in zip(many, masks, strict=True):
        want = coreset.select(scores, LABELS, 0.25)
        np.testing.assert_array_equal(np.flatnonzero(mask), want)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: coreset.select(EVS, LABELS, 0.0), "fraction is 0.0"),
        (lambda: coreset.select(EVS, LABELS, 1.5), "fraction is 1.5"),
        (lambda: coreset.select(EVS, LABELS, 0.01), "keeps none"),
        (lambda: coreset.select(EVS, LABELS * 2, 0.5), "class 1 of 5 has no"),
        (lambda: coreset.select(EVS[1:], LABELS, 0.5), "23"),
        (lambda: coreset.select(np.full(N, np.nan), LABELS, 0.5), "NaN"),
        (lambda: coreset.error_vector_score(Q, LABELS + 1), "labels"),
        (lambda: coreset.disagreement_score(Q, FP[:5]), r"5"),
        (lambda: coreset.adaptive_score(EVS, DS, 0.5, "papers"), "'paper'"),
        (lambda: coreset.adaptive_score(EVS, DS, 1.5, "paper"), "progress"),
        (lambda: coreset.choose("el2", EVIDENCE, 0.5, key=KEY), "'el2n'"),
        (lambda: coreset.choose(
            "craig", coreset.Evidence(LABELS, Q), 0.5, key=KEY), "needs"),
        (lambda: coreset.choose("glister", EVIDENCE._replace(
            valid_labels=0 * VALID), 0.5, key=KEY), "class 1 has no sample"),
        (lambda: coreset.choose("herding", EVIDENCE._replace(
            features=H * np.nan), 0.5, key=KEY), "features holds"),
        (lambda: coreset.choose(
            "random", EVIDENCE, 0.5, key=jnp.zeros(2, int)), "random.key"),
        (lambda: jax.jit(lambda s: coreset.select(s, LABELS, 0.5))(EVS),
         "scores of select is traced"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()


# Greedy methods, class by class.


def k_center(rows, noise, n):
    picks = [int(np.argmax(noise))]
    while len(picks) < n:
        near = [
            np.inf
            if i in picks
            else min(np.sum((r - rows[p]) ** 2) for p in picks)
            for i, r in enumerate(rows)
        ]
        near = [-1 if i in picks else d for i, d in enumerate(near)]
        picks.append(int(np.argmax(near)))
    return picks


def diversity(p, noise, n):
    def apart(a, b):
        return np.sum((a - b) * (np.log(a) - np.log(b))) / 2

    picks = [int(np.argmax(noise))]
    while len(picks) < n:
        near = [
            -1 if i in picks else min(apart(row, p[j]) for j in picks)
            for i, row in enumerate(p)
        ]
        picks.append(int(np.argmax(near)))
    return picks


def herding(rows, n):
    mean, picks = rows.mean(0), []
    while len(picks) < n:
        sums = rows[picks].sum(0)[None] + rows
        off = np.linalg.norm(mean * (len(picks) + 1) - sums, axis=1)
        off[picks] = np.inf
        picks.append(int(np.argmin(off)))
    return picks


def costs(g, picks):
    """How far all are from the nearest pick, in sum, with each one more."""
    far = np.linalg.norm(g[:, None] - g[None], axis=-1)
    return np.array(
        [
            np.inf if i in picks else far[:, [*picks, i]].min(1).sum()
            for i in range(len(g))
        ]
    )


def is_craig(g, chosen, picks=()):
    """Whether the chosen are picks of plain greedy in some order.

    Two samples that only help each other tie, so that rounding decides.
    """
    if len(picks) == len(chosen):
        return True
    cost = costs(g, picks)
    return any(
        is_craig(g, chosen, (*picks, i))
        for i in set(chosen) - {*picks}
        if cost[i] <= cost.min() * (1 + 1e-5)
    )


def grad_match(g, n):
    mean, picks, left = g.mean(0), [], g.mean(0)
    while len(picks) < n:
        gain = [-np.inf if i in picks else x @ left for i, x in enumerate(g)]
        picks.append(int(np.argmax(gain)))
        a = g[picks]
        w = np.linalg.solve(a @ a.T + np.eye(len(picks)), a @ mean)
        left = mean - w @ a
    return picks


def glister(g, valid, n):
    logits, labels, features = valid
    h = np.concatenate([np.float64(features), np.ones((len(features), 1))], 1)
    picks = []
    while len(picks) < n:
        moved = np.float64(logits)
        if picks:
            step = g[picks].mean(0).reshape(K, -1)
            moved = moved - 0.1 * h @ step.T
        slope = np.einsum("vk,vd->kd", residual(moved, labels), h).ravel()
        gain = [-np.inf if i in picks else x @ slope for i, x in enumerate(g)]
        picks.append(int(np.argmax(gain)))
    return picks


def by_hand(method, rows, noise, n, valid):
    p, h = softmax(Q[rows]), np.float64(H[rows])
    return {
        "k_center_greedy": lambda: k_center(h, noise, n),
        "contextual_diversity": lambda: diversity(p, noise, n),
        "herding": lambda: herding(h, n),
        "grad_match": lambda: grad_match(G[rows], n),
        "glister": lambda: glister(G[rows], valid, n),
    }[method]()


GREEDY = ("k_center_greedy", "contextual_diversity", "herding")
GREEDY += ("craig", "grad_match", "glister")


# Classes of 3, 8 and 5 samples, whose largest share is 4.
UNEQUAL = np.flatnonzero((LABELS == 1) | (np.arange(N) < 3 * (3 + LABELS)))
FEWER = EVIDENCE._replace(
    labels=LABELS[UNEQUAL],
    logits_q=Q[UNEQUAL],
    logits_fp=FP[UNEQUAL],
    features=H[UNEQUAL],
    logits_T=np.stack([Q, FP])[:, UNEQUAL],
    correct_T=RIGHT[:, UNEQUAL],
)


@pytest.mark.parametrize(
    "method, balanced",
    [(name, True) for name in GREEDY]
    # All as one group, with and without validation samples.
    + [("k_center_greedy", False), ("glister", False)],
)
def test_greedy_methods_match_loops(method, balanced):
    found = coreset.choose(method, FEWER, 0.5, key=KEY, class_balanced=balanced)
    found = UNEQUAL[found]
    classes = [[c] for c in range(K)] if balanced else [[0, 1, 2]]
    # Halves go to even: 2 of 3, 4 of 8 and 2 of 5.
    for group, n in zip(classes, [2, 4, 2] if balanced else [8], strict=True):
        rows = UNEQUAL[np.isin(LABELS[UNEQUAL], group)]
        mine = [i for i, row in enumerate(rows) if row in found]
        if method == "craig":
            assert len(mine) == n and is_craig(G[rows], mine)
            continue
        part = np.isin(VALID, group)
        valid = VQ[part], VALID[part], VH[part]
        # A method that begins anywhere begins at a pick of its own.
        sets = [
            sorted(by_hand(method, rows, np.arange(len(rows)) == i, n, valid))
            for i in (mine if method in GREEDY[:2] else [0])
        ]
        assert mine in sets


def test_old_gains_are_bounds_enough():
    """Picks of CRAIG where most gains are not computed again."""
    rng = np.random.default_rng(1)
    m, n = 100, 12  # More than a block of first gains, and than of later ones.
    labels = rng.integers(0, K, m)
    z, h = rng.normal(size=(m, K)), rng.normal(size=(m, D))
    layer = coreset.greedy.LastLayer(
        jnp.asarray(residual(z, labels), jnp.float32),
        jnp.asarray(np.c_[h, np.ones(m)], jnp.float32),
    )
    picks = jax.jit(coreset.greedy.facility_location, static_argnums=2)
    found = picks(layer, jnp.ones(m, bool), n).tolist()
    g = gradients(z, labels, h)
    for k, pick in enumerate(found):
        cost = costs(g, found[:k])
        assert cost[pick] <= cost.min() * (1 + 1e-5)


@pytest.mark.parametrize("method", coreset.METHODS)
def test_a_choice_is_its_key(method):
    chosen = coreset.choose(method, FEWER, 0.5, key=KEY)
    again = coreset.choose(method, FEWER, 0.5, key=KEY)
    np.testing.assert_array_equal(chosen, again)
    np.testing.assert_array_equal(
        np.bincount(LABELS[UNEQUAL][chosen]), [2, 4, 2]
    )
    assert (np.diff(chosen) > 0).all()
    if method == "random":
        other = coreset.choose(method, FEWER, 0.5, key=jax.random.key(4))
        assert chosen.tolist() != other.tolist()


def test_adaptive_goes_from_labels_to_disagreement():
    for progress, score in ((0.0, EVS), (1.0, DS)):
        found = coreset.choose(
            "adaptive", EVIDENCE, 0.25, key=KEY, progress=progress
        )
        want = coreset.select(score, LABELS, 0.25)
        np.testing.assert_array_equal(found, want)
