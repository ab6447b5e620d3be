"""Tests of queries against loops in numpy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxedge.core.checks import UsageError
from jaxedge.core.keys import stream
from jaxedge.learn import active
from jaxedge.learn.active import relaxation, spread

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
N, M, K, D, T, Q = 30, 7, 4, 6, 5, 8


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


GLOBAL, LOCAL = 2 * normal(N, K), 2 * normal(N, K)
H, LABELLED = normal(N, D), normal(M, D)
PASSES = GLOBAL[None] + normal(T, N, K)
ALPHA_G, ALPHA_L = (1 + np.exp(1.5 * z) for z in (GLOBAL, LOCAL))
SHARE = np.array([0.5, 0.0, 0.2, 0.3], np.float32)
EVIDENCE = active.Evidence(
    logits_global=GLOBAL,
    logits_local=LOCAL,
    logits_T=PASSES,
    alpha_global=ALPHA_G,
    alpha_local=ALPHA_L,
    features=H,
    labelled_features=LABELLED,
    class_share=SHARE,
)
KEY = jax.random.key(3)


def softmax(z):
    p = np.exp(np.float64(z) - np.max(z, -1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(p), -1)


# Scores, one sample at a time.


def expected_entropy(alpha):
    s = alpha.sum()
    return sum(
        a / s * (special.digamma(s + 1) - special.digamma(a + 1)) for a in alpha
    )


def differential_entropy(alpha):
    s, k = alpha.sum(), len(alpha)
    log_b = sum(special.gammaln(a) for a in alpha) - special.gammaln(s)
    rest = sum((a - 1) * special.digamma(a) for a in alpha)
    return log_b + (s - k) * special.digamma(s) - rest


def calibrated(alpha_global, alpha_local):
    pairs = list(zip(np.float64(alpha_global), alpha_local, strict=True))
    epistemic = [differential_entropy(g) for g, _ in pairs]
    low, high = min(epistemic), max(epistemic)
    return np.array(
        [
            (u - low)
            / (high - low)
            * (expected_entropy(g) + expected_entropy(np.float64(c)))
            for u, (g, c) in zip(epistemic, pairs, strict=True)
        ]
    )


def bald(passes):
    p = softmax(passes)
    return np.array(
        [
            entropy(p[:, i].mean(0)) - np.mean([entropy(q) for q in p[:, i]])
            for i in range(p.shape[1])
        ]
    )


def kafal(local, global_, share):
    found = []
    for pair in zip(local, global_, strict=True):
        p, q = (np.exp(np.float64(z)) * share for z in pair)
        p, q = p / p.sum(), q / q.sum()
        seen = share > 0
        p, q = p[seen], q[seen]
        kl = np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))
        found.append(kl / 2)
    return np.array(found)


def grad_norm(logits, features):
    found = []
    for p, h in zip(softmax(logits), np.float64(features), strict=True):
        grads = [np.outer(p - np.eye(K)[y], [*h, 1.0]) for y in range(K)]
        norms = [np.linalg.norm(g) for g in grads]
        found.append(p @ norms)
    return np.array(found)


SCORES = {
    "entropy": lambda: entropy(softmax(GLOBAL)),
    "least_confidence": lambda: 1 - softmax(GLOBAL).max(1),
    "margin": lambda: np.sort(softmax(GLOBAL), 1) @ [0, 0, 1, -1],
    "bald": lambda: bald(PASSES),
    "kafal": lambda: kafal(LOCAL, GLOBAL, SHARE),
    "grad_norm": lambda: grad_norm(GLOBAL, H),
    "evidential": lambda: entropy(ALPHA_G / ALPHA_G.sum(1, keepdims=True)),
}


def test_scores_match_loops():
    for found, want in (
        (active.calibrated_evidential(ALPHA_G, ALPHA_L),
         calibrated(ALPHA_G, ALPHA_L)),
        (active.bald_score(PASSES), bald(PASSES)),
        (active.kafal_score(LOCAL, GLOBAL, SHARE), kafal(LOCAL, GLOBAL, SHARE)),
        (active.grad_norm_score(GLOBAL, H), grad_norm(GLOBAL, H)),
        (active.total_uncertainty_score(ALPHA_G), SCORES["evidential"]()),
    ):  # fmt: skip
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=2e-6)


def test_equal_uncertainties_are_not_calibrated():
    """Constant epistemic uncertainty would be 0 / 0: the weight is 1."""
    same = np.tile(np.float32([2, 5, 1.5, 9]), (N, 1))
    found = active.calibrated_evidential(same, ALPHA_L)
    want = [
        expected_entropy(np.float64(g)) + expected_entropy(np.float64(c))
        for g, c in zip(same, ALPHA_L, strict=True)
    ]
    np.testing.assert_allclose(found, want, rtol=1e-4)
    one = active.calibrated_evidential(same[:1], ALPHA_L[:1])
    np.testing.assert_allclose(one, want[:1], rtol=1e-4)


def test_transformed_scores_are_finite_and_float32():
    """At certain and at constant networks, where terms are 0 by 0 or inf."""
    sure = jnp.asarray(200 * np.eye(K)[np.arange(N) % K], jnp.float32)

    def slope(logits):
        alpha = 1 + jax.nn.relu(logits)
        total = active.calibrated_evidential(alpha, alpha)
        total += active.kafal_score(logits, sure, SHARE)
        total += active.grad_norm_score(logits, H)
        total += active.total_uncertainty_score(alpha)
        total += active.bald_score(jnp.stack([logits, sure]))
        return total.sum(), total

    many = jnp.stack([sure, jnp.asarray(GLOBAL), 0 * sure])
    slopes, found = jax.jit(jax.vmap(jax.grad(slope, has_aux=True)))(many)
    assert np.isfinite(slopes).all() and np.isfinite(found).all()
    for logits, scores in zip(many, found, strict=True):
        np.testing.assert_allclose(slope(logits)[1], scores, rtol=1e-4)
    half = jnp.asarray(ALPHA_G, jnp.bfloat16)
    scores = active.calibrated_evidential(half, half)
    assert scores.dtype == jnp.float32


# The relaxation.


def cosines(features):
    rows = np.float64(features)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norm > 0, norm, 1)
    return rows @ rows.T


def relaxed(scores, features, budget, n, threshold, fill):
    """The rule as it is told, with all cosines and a full sort for each."""
    alike = np.round(cosines(features), 12)
    chosen, skipped = [], []
    for i in np.argsort(-np.float64(scores), kind="stable"):
        if len(chosen) == budget:
            break
        others = np.delete(np.arange(len(alike)), i)
        near = others[np.argsort(-alike[i, others], kind="stable")][:n]
        near = [j for j in near if alike[i, j] > threshold]
        full = len(near) == n
        if full and set(near) & set(chosen):
            skipped.append(i)
        else:
            chosen.append(i)
    rest = skipped if fill == "best" else sorted(skipped, reverse=True)
    return chosen + rest[: budget - len(chosen)]


def pools():
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(12, 5))
    spread_ = centres[np.arange(150) % 12] + 0.15 * rng.normal(size=(150, 5))
    yield "apart", rng.normal(size=(60, 40))
    yield "clustered", spread_
    yield "all alike", 3 + rng.normal(size=(150, 8)) / 2
    yield "copies", centres[rng.integers(0, 6, 60)]
    yield "zeros between", np.where(np.arange(150)[:, None] % 3, spread_, 0)


POOLS = dict(pools())


@pytest.mark.parametrize("fill", active.FILLS)
@pytest.mark.parametrize("pool", POOLS)
def test_relaxation_is_the_rule(pool, fill):
    features = np.float32(POOLS[pool])
    size = len(features)
    for seed, (n, threshold, share) in enumerate(
        [(5, 0.85, 0.3), (5, 0.85, 0.8), (1, 0.95, 0.5), (3, 0.5, 1.0),
         (2, -1.0, 0.5)]
    ):  # fmt: skip
        scores = np.random.default_rng(seed).normal(size=size)
        scores[::4] = scores[0]  # Ties go to the lower index.
        budget = int(share * size)
        found = active.relax(
            scores, features, budget, neighbours=n, threshold=threshold,
            fill=fill,
        )  # fmt: skip
        want = relaxed(scores, features, budget, n, threshold, fill)
        np.testing.assert_array_equal(found, want)


def test_relaxation_by_hand():
    """Four directions alike, and one apart; a neighbour counts if it is full.

    The three others of 0, 1 and 2 are their neighbours; 3 has one of them.
    """
    degrees = np.array([0, 1, 2, 30, 90])
    h = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    scores = [5.0, 4.0, 3.0, 2.0, 1.0]

    def chosen(budget, **settings):
        return active.relax(scores, h, budget, **settings).tolist()

    # cos 30 = .866 > .85: each of the first four has three neighbours.
    assert chosen(2, neighbours=3) == [0, 4]
    assert chosen(4, neighbours=3) == [0, 4, 1, 2]
    assert chosen(3, neighbours=3, fill="released") == [0, 4, 3]
    # Of 2 the most similar is 1, of 3 it is 2.
    assert chosen(3, neighbours=1) == [0, 2, 4]
    # None has four, and above cos 10 none has three.
    assert chosen(3, neighbours=4) == [0, 1, 2]
    assert chosen(3, neighbours=3, threshold=np.cos(np.radians(10))) == [
        0, 1, 2
    ]  # fmt: skip
    assert chosen(0) == []


def test_relaxation_over_many_blocks(monkeypatch):
    """More members than are compared at a time, more samples than a block."""
    rng = np.random.default_rng(4)
    size, budget = 700, 300
    monkeypatch.setattr(relaxation, "_MEMBERS", 64)
    monkeypatch.setattr(relaxation, "_LEAST", 8)
    monkeypatch.setattr(relaxation, "_MOST", 32)
    centres = 1 + rng.normal(size=(40, 8))
    features = centres[rng.integers(0, 40, size)] + 0.4 * rng.normal(
        size=(size, 8)
    )
    scores = features.sum(1) + rng.normal(size=size)
    found = active.relax(scores, np.float32(features), budget)
    want = relaxed(scores, np.float32(features), budget, 5, 0.85, "best")
    np.testing.assert_array_equal(found, want)
    best = np.argsort(-scores)[:budget]
    assert set(best.tolist()) != set(want), "the rule skipped none"


def test_scale_of_features_does_not_count():
    scores, h = normal(150), np.float32(POOLS["clustered"])
    want = active.relax(scores, h, 50)
    powers = np.float32(10) ** RNG.integers(-5, 5, (150, 1)).astype(np.float32)
    for scaled in (
        h * powers,
        h * 1e30,
        h * 1e-30,
        np.float64(h),
        jnp.asarray(h),
    ):
        np.testing.assert_array_equal(active.relax(scores, scaled, 50), want)


def test_degenerate_pools():
    scores = np.arange(12.0)
    # Zeros are similar to none; n of 12 or more can never be had.
    for h, n in ((np.zeros((12, 3)), 5), (np.ones((12, 3)), 12)):
        found = active.relax(scores, h, 4, neighbours=n)
        np.testing.assert_array_equal(found, [11, 10, 9, 8])
    # Of copies the neighbours are the first: 0 is taken by nobody before it.
    copies = np.ones((12, 3))
    found = active.relax(scores, copies, 12)
    want = relaxed(scores, copies, 12, 5, 0.85, "best")
    np.testing.assert_array_equal(found, want)
    found = active.relax(np.ones(12), np.zeros((12, 3)), 3)
    np.testing.assert_array_equal(found, [0, 1, 2])
    assert active.relax([1.0], [[2.0]], 1).tolist() == [0]


# Spread over the pool.


def embeddings(logits, features):
    p = softmax(logits)
    error = p - np.eye(K)[p.argmax(1)]
    return np.stack(
        [np.outer(e, h).ravel() for e, h in zip(error, features, strict=True)]
    )


def plus_plus(g, start, noise):
    picks = [start]
    for u in noise[1:]:
        near = [
            0.0 if i in picks else min(np.sum((x - g[p]) ** 2) for p in picks)
            for i, x in enumerate(g)
        ]
        below = np.cumsum(near)
        picks.append(int(np.searchsorted(below, u * below[-1], side="right")))
    return picks


def lloyd(g, seeds):
    centres = g[seeds]
    labels = None
    while True:
        far = ((g[:, None] - centres[None]) ** 2).sum(-1)
        if labels is not None and (far.argmin(1) == labels).all():
            return labels
        labels = far.argmin(1)
        centres = np.stack(
            [
                g[labels == j].mean(0) if (labels == j).any() else centres[j]
                for j in range(len(seeds))
            ]
        )


def test_badge_is_seeding_from_the_longest():
    noise = RNG.random(Q, np.float32)
    found, new = spread.badge(GLOBAL, H, noise)
    g = embeddings(GLOBAL, H)
    start = int(np.linalg.norm(g, axis=1).argmax())
    np.testing.assert_array_equal(found, plus_plus(g, start, noise))
    assert new.all()
    # All of the pool, where weights come down to one.
    every = np.asarray(spread.badge(GLOBAL, H, RNG.random(N, np.float32))[0])
    np.testing.assert_array_equal(np.sort(every), np.arange(N))


def test_badge_draws_by_squared_distance():
    """The second pick over n = 20000 keys, by five standard errors."""
    n = 20_000
    noise = jax.random.uniform(KEY, (n, 2))
    draw = jax.jit(jax.vmap(lambda u: spread.badge(GLOBAL, H, u).index))
    second = np.asarray(draw(noise))[:, 1]
    g = embeddings(GLOBAL, H)
    start = np.linalg.norm(g, axis=1).argmax()
    want = ((g - g[start]) ** 2).sum(1)
    want = want / want.sum()
    found = np.bincount(second, minlength=N) / n
    assert found[start] == 0
    error = 5 * np.sqrt(want * (1 - want) / n)
    np.testing.assert_array_less(np.abs(found - want), error + 1e-9)


def test_copies_of_a_pick_come_last():
    """Distances to copies are exactly 0, so all others are drawn before."""
    twice = np.repeat(np.arange(4), 8)[:N]
    found, new = spread.badge(GLOBAL[twice], H[twice], np.full(Q, 0.9))
    assert sorted(twice[np.asarray(found)[:4]]) == [0, 1, 2, 3]
    assert new.tolist() == [True] * 4 + [False] * 4
    rest = np.setdiff1d(np.arange(N), np.asarray(found)[:4])[:4]
    np.testing.assert_array_equal(np.asarray(found)[4:], rest)


def test_clusters_are_those_of_k_means():
    noise = RNG.random(Q, np.float32)
    found = spread.clusters(LOCAL, H, noise)
    g = embeddings(LOCAL, H)
    seeds = plus_plus(g, int(noise[0] * N), noise)
    np.testing.assert_array_equal(found, lloyd(g, seeds))
    same = spread.clusters(np.tile(LOCAL[:1], (N, 1)), 0 * H + 1, noise)
    np.testing.assert_array_equal(same, np.zeros(N))


def core_set(features, labelled, budget):
    taken, picks = list(np.float64(labelled)), []
    while len(picks) < budget:
        near = [
            -1 if i in picks else min(np.sum((x - t) ** 2) for t in taken)
            for i, x in enumerate(np.float64(features))
        ]
        picks.append(int(np.argmax(near)))
        taken.append(np.float64(features[picks[-1]]))
    return picks


# One face.


def logo():
    noise = np.asarray(jax.random.uniform(stream(KEY, "active"), (Q,)))
    g = embeddings(LOCAL, H)
    labels = lloyd(g, plus_plus(g, int(noise[0] * N), noise))
    unsure = entropy(softmax(GLOBAL))
    best = [
        max(np.flatnonzero(labels == c), key=lambda i: unsure[i])
        for c in np.unique(labels)
    ]
    best = sorted(best, key=lambda i: -unsure[i])
    rest = [i for i in np.argsort(-unsure) if i not in best]
    return (best + rest)[:Q]


CHOICES = {
    **{
        name: (lambda s=s: np.argsort(-s(), kind="stable")[:Q])
        for name, s in SCORES.items()
    },
    "core_set": lambda: core_set(H, LABELLED, Q),
    "logo": logo,
    "feal": lambda: relaxed(calibrated(ALPHA_G, ALPHA_L), H, Q, 2, 0.3, "best"),
}


@pytest.mark.parametrize("method", active.METHODS)
def test_choices(method):
    settings = {"neighbours": 2, "threshold": 0.3}
    found = active.choose(method, EVIDENCE, Q, KEY, **settings)
    assert len(set(found.tolist())) == Q
    if method in CHOICES:
        np.testing.assert_array_equal(found, CHOICES[method]())
    again = active.choose(method, EVIDENCE, Q, KEY, **settings)
    np.testing.assert_array_equal(found, again)
    every = active.choose(method, EVIDENCE, N, KEY)
    np.testing.assert_array_equal(np.sort(every), np.arange(N))
    assert active.choose(method, EVIDENCE, 0, KEY).size == 0
    if method in ("random", "badge"):
        other = active.choose(method, EVIDENCE, Q, jax.random.key(4))
        assert found.tolist() != other.tolist()
    else:  # Of the numbers alone, or nearly so.
        assert method in CHOICES


def reordered(order):
    def of(name, value):
        if name in ("labelled_features", "class_share"):
            return value
        return value[:, order] if name == "logits_T" else value[order]

    return active.Evidence(
        **{name: of(name, v) for name, v in EVIDENCE._asdict().items()}
    )


@pytest.mark.parametrize("method", sorted(CHOICES.keys() - {"logo"}))
def test_a_pool_in_another_order_gives_the_same_samples(method):
    order = RNG.permutation(N)
    settings = {"neighbours": 2, "threshold": 0.3}
    found = active.choose(method, reordered(order), Q, KEY, **settings)
    want = active.choose(method, EVIDENCE, Q, KEY, **settings)
    np.testing.assert_array_equal(order[found], want)


@pytest.mark.parametrize("method", sorted(active.METHODS.keys() - {"random"}))
def test_a_pool_of_copies(method):
    """Constant scores and features of zeros: the first samples, once each."""
    evidence = active.Evidence(
        *(np.zeros((N, K), np.float32),) * 2,
        np.zeros((T, N, K), np.float32),
        *(np.ones((N, K), np.float32),) * 2,
        np.zeros((N, D), np.float32),
        np.zeros((M, D), np.float32),
        SHARE,
    )
    found = active.choose(method, evidence, Q, KEY)
    np.testing.assert_array_equal(found, np.arange(Q))


def test_one_model_is_asked():
    for model, logits in (("global", GLOBAL), ("local", LOCAL)):
        found = active.choose("entropy", EVIDENCE, Q, KEY, model=model)
        want = np.argsort(-entropy(softmax(logits)))[:Q]
        np.testing.assert_array_equal(found, want)
    alone = active.Evidence(logits_local=LOCAL)
    found = active.choose("margin", alone, Q, KEY, model="local")
    assert found.size == Q


def test_another_key_makes_other_clusters():
    """Pairs of keys may agree; all of ten do not."""
    found = {
        tuple(active.choose("logo", EVIDENCE, Q, jax.random.key(i)).tolist())
        for i in range(10)
    }
    assert len(found) > 1


def test_values_do_not_compile_again(compilations):
    for method in active.METHODS:
        active.choose(method, EVIDENCE, Q, KEY)
    with compilations() as names:
        for method in active.METHODS:
            active.choose(method, reordered(np.arange(N)[::-1]), Q, KEY)
    assert not names


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: active.choose("entropi", EVIDENCE, Q, KEY), "'entropy'"),
        (lambda: active.choose("entropy", EVIDENCE, N + 1, KEY),
         "budget is 31, but the pool has 30"),
        (lambda: active.choose("badge", EVIDENCE, -1, KEY), "budget is -1"),
        (lambda: active.choose("badge", EVIDENCE, 2.0, KEY), "budget must be"),
        (lambda: active.choose("core_set", EVIDENCE._replace(
            labelled_features=None), Q, KEY), "needs labelled_features"),
        (lambda: active.choose("entropy", active.Evidence(
            logits_global=GLOBAL), Q, KEY, model="local"),
         "needs logits_local"),
        (lambda: active.choose("random", active.Evidence(), Q, KEY),
         "how large the pool is"),
        (lambda: active.choose("entropy", EVIDENCE, Q, KEY, model="both"),
         "unknown model"),
        (lambda: active.choose("entropy", EVIDENCE, Q, KEY, fill="bets"),
         "'best'"),
        (lambda: active.choose("kafal", EVIDENCE._replace(
            class_share=np.zeros(K)), Q, KEY), "0 of every class"),
        (lambda: active.choose("kafal", EVIDENCE._replace(
            class_share=SHARE[1:]), Q, KEY), "axis K"),
        (lambda: active.kafal_score(LOCAL, GLOBAL, -SHARE), "class_share is"),
        (lambda: active.kafal_score(LOCAL, GLOBAL, SHARE[1:]), "4 classes"),
        (lambda: active.choose("logo", EVIDENCE._replace(
            logits_global=GLOBAL * np.nan), Q, KEY), "logits_global holds"),
        (lambda: active.choose("badge", EVIDENCE._replace(
            features=H[1:]), Q, KEY), "axis N"),
        (lambda: active.choose("badge", EVIDENCE._replace(
            features=H[:0]), Q, KEY), "empty axis"),
        (lambda: active.choose("feal", EVIDENCE._replace(
            alpha_local=ALPHA_L - 9), Q, KEY), "alpha_local is"),
        (lambda: active.choose("entropy", EVIDENCE, Q, jnp.zeros(2, int)),
         "random.key"),
        (lambda: jax.jit(lambda h: active.choose(
            "badge", EVIDENCE._replace(features=h), Q, KEY))(H),
         "features of method 'badge' is traced"),
        (lambda: active.calibrated_evidential(ALPHA_G, ALPHA_L[1:]), "29"),
        (lambda: active.calibrated_evidential(ALPHA_G * 0, ALPHA_L),
         "alpha_global is 0"),
        (lambda: active.relax(np.ones(4), H, 2), "scores has 4"),
        (lambda: active.relax(np.full(N, np.nan), H, 2), "30 NaN"),
        (lambda: active.relax(H[:, 0], np.where(H > 1, np.inf, H), 2),
         "features holds"),
        (lambda: active.relax(H[:, 0], H * np.nan, 2), "features holds"),
        (lambda: active.relax([], np.zeros((0, 3)), 0), "empty axis"),
        (lambda: active.relax(H[:, 0], H, 31), "budget is 31"),
        (lambda: active.relax(H[:, 0], H, -1), "budget is -1"),
        (lambda: active.relax(H[:, 0], H[:, 0], 2), r"be \[N, D\]"),
        (lambda: active.relax(H[:, 0], H, 2, neighbours=0), "neighbours is 0"),
        (lambda: active.relax(H[:, 0], H, 2, threshold=1.5), "threshold is"),
        (lambda: active.relax(H[:, 0], H, 2, fill="none"), "unknown fill"),
        (lambda: jax.jit(lambda s: active.relax(s, H, 2))(H[:, 0]),
         "scores of relax is traced"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()
