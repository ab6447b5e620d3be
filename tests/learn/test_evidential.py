"""Evidence against the published formulas in float64, and against sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxedge.core import UsageError
from jaxedge.learn import evidential

pytestmark = pytest.mark.usefixtures("compile_quickly")

LOW, HIGH = 1e-3, 1e4
CLASSES = [2, 3, 8, 100]
N = 600
psi = special.digamma


def psi1(x):
    return special.polygamma(1, x)


# Accuracy. Every function takes alpha, labels and class weights.

FUNCTIONS = {
    "digamma_risk": evidential.digamma_risk,
    "likelihood_risk": evidential.likelihood_risk,
    "squared_risk": evidential.squared_risk,
    "kl_to_uniform": lambda a, y, w: evidential.kl_to_uniform(a),
    "differential_entropy": lambda a, y, w: evidential.differential_entropy(a),
    "expected_entropy": lambda a, y, w: evidential.expected_entropy(a),
    "mutual_information": lambda a, y, w: evidential.mutual_information(a),
}


@jax.jit
def found(alpha, y, w):
    """Each function's values and the gradients of its sum."""

    def both(f):
        value, pull = jax.vjp(lambda a: f(a, y, w), alpha)
        return value, pull(jnp.ones_like(value))[0]

    return {name: both(f) for name, f in FUNCTIONS.items()}


def expected(alpha, y, w):
    """The same in float64, as the papers write it; gradients by hand."""
    a, y, w = (np.float64(x) for x in (alpha, y, w))
    k, s = a.shape[1], a.sum(1, keepdims=True)
    p, wy = a / s, w * y
    all_wy = wy.sum(1, keepdims=True)
    out = {
        "digamma_risk": (
            wy * (psi(s) - psi(a)),
            all_wy * psi1(s) - wy * psi1(a),
        ),
        "likelihood_risk": (wy * np.log(s / a), all_wy / s - wy / a),
        "squared_risk": (
            w * ((y - p) ** 2 + p * (1 - p) / (s + 1)),
            through(w * ((1 - 2 * p) / (s + 1) - 2 * (y - p)), p, s)
            - (w * p * (1 - p)).sum(1, keepdims=True) / (s + 1) ** 2,
        ),
    }
    out = {name: (v.sum(1), g) for name, (v, g) in out.items()}
    log_beta = special.gammaln(a).sum(1) - special.gammaln(s[:, 0])
    entropy = log_beta + ((s - k) * psi(s))[:, 0] - ((a - 1) * psi(a)).sum(1)
    slope = (s - k) * psi1(s) - (a - 1) * psi1(a)
    out["differential_entropy"] = entropy, slope
    out["kl_to_uniform"] = -entropy - special.gammaln(k), -slope
    gap = psi(s + 1) - psi(a + 1)
    share = psi1(s + 1) - p * psi1(a + 1)
    out["expected_entropy"] = (p * gap).sum(1), through(gap, p, s) + share
    lost = -np.log(p) - gap
    out["mutual_information"] = (p * lost).sum(1), through(lost, p, s) - share
    return out


def through(by_p, p, s):
    """The gradient by alpha of what depends on p = alpha / S alone."""
    return (by_p - (p * by_p).sum(1, keepdims=True)) / s


def cases(k, low=LOW, high=HIGH, seed=0):
    """Dirichlet parameters of every kind, [N, K], with labels and weights."""
    rng = np.random.default_rng(seed)

    def drawn(low, high, n=N // 6, k=k):
        return np.exp(rng.uniform(np.log(low), np.log(high), (n, k)))

    level = drawn(low, high, k=1)
    kinds = [
        drawn(low, high),
        np.where(rng.random((N // 6, k)) < 0.5, low, high),
        np.concatenate([drawn(low, high, k=1), level.repeat(k - 1, 1)], 1),
        level * rng.normal(1, 1e-3, (N // 6, k)),
        1 + rng.uniform(-0.5, 0.5, (N // 6, k)),
        1 + drawn(1e-2, max(high / 2, 1)),
    ]
    alpha = np.clip(np.concatenate(kinds), low, high).astype(np.float32)
    y = np.eye(k, dtype=np.float32)[rng.integers(0, k, N)]
    w = 2 - rng.dirichlet(np.ones(k), N).astype(np.float32)
    return alpha, y, w


def grid(k):
    """All combinations of the ends, of decades and of about 1, for few K."""
    ticks = np.array([1e-3, 1e-2, 0.1, 0.5, 1, 1.001, 2, 10, 6.5, 1e3, 1e4])
    alpha = np.array(list(itertools.product(ticks, repeat=k)))
    rng = np.random.default_rng(1)
    picked = rng.choice(len(alpha), N, replace=len(alpha) < N)
    y = np.eye(k, dtype=np.float32)[rng.integers(0, k, N)]
    return alpha[picked].astype(np.float32), y, np.ones((N, k), np.float32)


def errors(given):
    """Of values and gradients: by the greater of 1 and the (largest) size."""
    right, wrong = expected(*given), {}
    for name, (value, slope) in found(*given).items():
        assert value.dtype == slope.dtype == jnp.float32
        value, slope = np.float64(value), np.float64(slope)
        v, g = right[name]
        size = np.maximum(1, abs(g).max(1, keepdims=True))
        wrong[name] = (
            (abs(value - v) / np.maximum(1, abs(v))).max(),
            (abs(slope - g) / size).max(),
        )
    return wrong


@pytest.mark.parametrize("k", CLASSES)
def test_five_digits_from_a_thousandth_to_ten_thousand(k):
    for given in [cases(k), grid(k)] if k < 8 else [cases(k)]:
        for name, wrong in errors(given).items():
            assert max(wrong) < 1e-5, (name, wrong)


def test_what_plain_float32_loses():
    """The accuracy is worth its module: the same formulas lose digits."""
    alpha, *_ = given = cases(3)
    s = alpha.sum(1, keepdims=True)
    digamma, gammaln = jax.scipy.special.digamma, jax.scipy.special.gammaln
    plain = gammaln(alpha).sum(1) - gammaln(s)[:, 0]
    plain += ((s - 3) * digamma(s))[:, 0]
    plain -= ((alpha - 1) * digamma(alpha)).sum(1)
    v = expected(*given)["differential_entropy"][0]
    assert (abs(plain - v) / np.maximum(1, abs(v))).max() > 1e-4


def test_outside_the_range_results_degrade_slowly():
    for low, high in [(1e-6, 1e-3), (1e4, 1e9), (1e-6, 1e9)]:
        for name, wrong in errors(cases(3, low, high)).items():
            assert max(wrong) < 3e-5, (name, wrong)


def test_a_sure_prediction_keeps_its_own_digits():
    """Losses and gradients far below 1, which training still follows."""
    alpha = np.array([[1e4, 1.001], [5e3, 1.5], [300, 2.25]], np.float32)
    alpha = np.tile(alpha, (N // 3, 1))
    y, w = np.tile([1.0, 0.0], (N, 1)), np.ones((N, 2))
    given = alpha, y.astype(np.float32), w.astype(np.float32)
    right = expected(*given)
    for name in ("digamma_risk", "likelihood_risk", "expected_entropy"):
        for a, b in zip(found(*given)[name], right[name], strict=True):
            # The gradient of an entropy is a difference of two of its size.
            np.testing.assert_allclose(a, b, rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(
        found(*given)["digamma_risk"][1], right["digamma_risk"][1], rtol=2e-6
    )
    np.testing.assert_allclose(
        found(*given)["mutual_information"][0],
        right["mutual_information"][0],
        rtol=1e-5,
    )


# Meaning.


@pytest.fixture(scope="module")
def samples():
    """Dirichlet parameters and probabilities drawn from them."""
    alpha = np.array([0.7, 2.5, 6.0])
    return alpha, np.random.default_rng(0).dirichlet(alpha, 200_000)


def test_risks_and_entropies_are_expectations(samples):
    alpha, p = samples
    n, y = len(p), np.array([0.0, 1.0, 0.0])
    a = jnp.asarray(alpha, jnp.float32)
    entropy = -special.xlogy(p, p).sum(1)
    every = {name: value for name, (value, _) in found(a, y, 1 + 0 * a).items()}
    for name, drawn in {
        "digamma_risk": -np.log(p[:, 1]),
        "squared_risk": ((p - y) ** 2).sum(1),
        "expected_entropy": entropy,
        "differential_entropy": -stats.dirichlet(alpha).logpdf(p.T),
    }.items():
        measured = every[name]
        # 5 standard errors of the mean of n = 200 000.
        limit = 5 * drawn.std() / np.sqrt(n)
        assert abs(measured - drawn.mean()) < limit < 0.02
    mean = alpha / alpha.sum()
    np.testing.assert_allclose(evidential.probability(a), mean, rtol=1e-6)
    np.testing.assert_allclose(
        every["likelihood_risk"], -np.log(mean[1]), rtol=1e-6
    )
    np.testing.assert_allclose(evidential.vacuity(a), 3 / 9.2, rtol=1e-6)


def test_mutual_information_is_what_the_expected_entropy_lacks():
    alpha = jnp.array([[1.0, 1, 1], [5, 1, 1], [40, 30, 20], [0.2, 0.1, 0.4]])
    p = np.asarray(evidential.probability(alpha), np.float64)
    whole = -(p * np.log(p)).sum(1)
    every = found(alpha, jnp.ones_like(alpha), jnp.ones_like(alpha))
    rest = whole - every["expected_entropy"][0]
    information = every["mutual_information"][0]
    np.testing.assert_allclose(information, rest, atol=1e-6)
    assert np.all(information > 0)


@pytest.mark.parametrize("k", [1, 2, 10])
def test_without_evidence_the_distribution_is_uniform(k):
    alpha = evidential.alpha(jnp.zeros((4, k)))
    assert np.all(evidential.kl_to_uniform(alpha) == 0)
    assert np.all(evidential.vacuity(alpha) == 1)
    np.testing.assert_allclose(
        evidential.differential_entropy(alpha), -special.gammaln(k), rtol=1e-6
    )


# Evidence.


def test_evidence():
    z = jnp.array([[-20.0, -1, 0, 0.5, 9, 30]])
    z64 = np.float64(z)
    relu = np.maximum(z64, 0)
    for name, expected in {
        "relu": relu + 1,
        "softplus": np.logaddexp(z64, 0) + 1,
        "exp": np.exp(np.minimum(z64, 10)) + 1,
        "squared": (relu + 1) ** 2,
    }.items():
        np.testing.assert_allclose(
            evidential.alpha(z, name), expected, rtol=1e-6
        )
    np.testing.assert_array_equal(evidential.alpha(z), relu + 1)


def test_gradients_of_any_logit_are_finite():
    z = jnp.array([[-1e4, 0.0, 1e4], [3e3, 80.0, -80.0], [0, 0, 0]])

    @jax.jit
    def slopes(z):
        def risk(z, name):
            alpha = evidential.alpha(z, name)
            return evidential.digamma_risk(alpha, jnp.eye(3)).sum()

        return {n: jax.grad(risk)(z, n) for n in evidential.EVIDENCE}

    for name, slope in slopes(z).items():
        assert np.isfinite(slope).all(), name
        # At 0 the evidence of relu is dead, and so is its square.
        assert np.any(slope[2]) == (name in ("softplus", "exp")), name


# FEAL.

feal = {"kl_weight": 0.01, "annealing": 10}
losses = jax.jit(evidential.feal_losses)
loss_and_slope = jax.jit(jax.value_and_grad(evidential.feal_loss))


def batch(b=12, k=4, seed=0):
    """Logits, labels, and the shares of the classes among them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 4, (b, k)).astype(np.float32)
    y = np.eye(k, dtype=np.float32)[rng.integers(0, k, b)]
    return z, y, y.mean(0)


def kl_by_hand(alpha):
    """One example's divergence from the uniform distribution."""
    s, k = alpha.sum(), len(alpha)
    out = special.gammaln(s) - special.gammaln(k)
    for a in alpha:
        out += (a - 1) * (psi(a) - psi(s)) - special.gammaln(a)
    return out


def feal_by_hand(z, y, share, step, kl_weight, annealing):
    """One example at a time (feal 4.1)."""
    out = []
    for row, label in zip(np.float64(z), y.argmax(1), strict=True):
        alpha = np.maximum(row, 0) + 1
        s = alpha.sum()
        ce = (2 - share[label]) * (psi(s) - psi(alpha[label]))
        wrong = alpha.copy()
        wrong[label] = 1
        kl = min(1, step / annealing) * kl_by_hand(wrong)
        cor = -len(row) / s * row[label]
        out.append(ce + kl_weight * (kl + cor))
    return np.array(out)


def test_the_loss_is_the_published_one_at_every_round():
    given = batch()
    for step in (0, 3, 25):
        expected = feal_by_hand(*given, step, **feal)
        one_each = losses(*given, step, **feal)
        np.testing.assert_allclose(one_each, expected, rtol=1e-5, atol=1e-6)
        mean, _ = loss_and_slope(*given, step, **feal)
        np.testing.assert_allclose(mean, expected.mean(), rtol=1e-5)


def test_a_dead_logit_learns_from_the_correction_alone():
    z, y, share = batch()
    z = -abs(z)
    _, slope = loss_and_slope(z, y, share, 30, **feal)
    # alpha = 1, so K / S = 1, in the mean over the batch.
    np.testing.assert_allclose(slope, -0.01 * y / len(z), rtol=1e-6)
    # Of relu evidence without it, nothing.
    _, slope = loss_and_slope(z, y, share, 30, kl_weight=0.0, annealing=10)
    np.testing.assert_array_equal(slope, 0)


def test_the_gradient_is_that_of_differences():
    z, y, share = batch()
    # Where no evidence is about to die.
    z = np.where(abs(z) < 0.1, 0.5, z).astype(np.float32)
    _, slope = loss_and_slope(z, y, share, 7, **feal)
    s = (np.maximum(np.float64(z), 0) + 1).sum(1)
    # The correction sees S as a constant: its derivative by S goes.
    moved = feal["kl_weight"] * z.shape[1] / s**2 * (y * z).sum(1)
    for i, j in itertools.product(range(3), range(z.shape[1])):
        step = np.zeros(z.shape)
        step[i, j] = 1e-5
        up, down = (
            feal_by_hand(z + sign * step, y, share, 7, **feal).mean()
            for sign in (1, -1)
        )
        expected = (up - down) / 2e-5 - (z[i, j] > 0) * moved[i] / len(z)
        np.testing.assert_allclose(slope[i, j], expected, rtol=1e-4, atol=1e-6)


def test_clients_are_a_vmap():
    given = [
        np.stack(a)
        for a in zip(*map(batch, [12] * 3, [4] * 3, range(3)), strict=True)
    ]
    mapped = jax.jit(jax.vmap(lambda *a: evidential.feal_loss(*a, 4, **feal)))(
        *given
    )
    loop = [
        loss_and_slope(*(a[i] for a in given), 4, **feal)[0] for i in range(3)
    ]
    np.testing.assert_allclose(mapped, loop, rtol=1e-5)


def test_rounds_and_weights_do_not_recompile(compilations):
    loss_and_slope(*batch(), jnp.int32(1), **feal)
    with compilations() as names:
        loss_and_slope(
            *batch(seed=1), jnp.int32(2), kl_weight=0.5, annealing=20
        )
    assert not names


def test_bfloat16_logits_have_bfloat16_gradients():
    z, y, share = batch()
    low = jnp.asarray(z, jnp.bfloat16)
    value, slope = loss_and_slope(low, y, share, 4, **feal)
    assert value.dtype == jnp.float32 and slope.dtype == jnp.bfloat16
    rounded = feal_by_hand(np.asarray(low, np.float64), y, share, 4, **feal)
    np.testing.assert_allclose(value, rounded.mean(), rtol=1e-5)


def test_misleading_evidence_is_that_of_other_classes():
    alpha = jnp.array([[3.0, 1.5, 1e-3], [0.25, 7, 2]])
    found = evidential.misleading(alpha, jnp.eye(3)[:2])
    np.testing.assert_array_equal(
        found, np.float32([[1, 1.5, 1e-3], [0.25, 1, 2]])
    )


# Segmentation.

SHAPE = (2, 5, 6, 3)
dice = jax.jit(evidential.evidential_dice)
soft = jax.jit(evidential.soft_dice)
total = jax.jit(jax.value_and_grad(evidential.feal_dice_loss))


def image(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, SHAPE).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, SHAPE[:-1])]
    return z, y, (rng.random(SHAPE[:-1]) < 0.6).astype(np.float32)


def dice_by_hand(p, y, extra):
    """Class by class over the pixels [P, K] that count."""
    parts = []
    for c in range(p.shape[1]):
        over = 2 * (p[:, c] * y[:, c]).sum() + 1e-5
        under = (p[:, c] ** 2 + y[:, c] ** 2 + extra[:, c]).sum() + 1e-5
        parts.append(over / under)
    return 1 - np.mean(parts)


def test_dice_losses_are_the_published_ones_over_pixels_that_count():
    z, y, weight = image()
    z64, kept = np.float64(z[weight > 0]), y[weight > 0]
    alpha = (np.maximum(z64, 0) + 1) ** 2
    s = alpha.sum(1, keepdims=True)
    p = alpha / s
    expected = dice_by_hand(p, kept, p * (1 - p) / (s + 1))
    measured = dice(evidential.alpha(z, "squared"), y, weight)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    wrong = np.where(kept > 0, 1, alpha)
    kl = np.mean([kl_by_hand(row) for row in wrong]) * 0.3
    cor = np.mean(-3 / s[:, 0] * (kept * z64).sum(1))
    expected += 0.001 * (kl + cor)
    value, _ = total(z, y, 3, kl_weight=0.001, annealing=10, weight=weight)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    p = special.softmax(z64, 1)
    np.testing.assert_allclose(
        soft(z, y, weight), dice_by_hand(p, kept, 0 * p), rtol=1e-5
    )


def test_ignored_pixels_have_no_gradient_and_no_pixels_no_loss():
    z, y, weight = image()
    given = {"kl_weight": 0.001, "annealing": 10}
    _, slope = total(z, y, 3, weight=weight, **given)
    assert np.all(slope[weight == 0] == 0) and np.all(np.isfinite(slope))
    assert np.any(slope[weight > 0])
    value, slope = total(z, y, 3, weight=0 * weight, **given)
    assert value == 0 and np.all(slope == 0)


def test_the_best_segmentation_costs_nothing():
    _, y, weight = image()
    z = 100 * (2 * y - 1)
    assert dice(evidential.alpha(z, "squared"), y, weight) < 1e-3
    np.testing.assert_allclose(soft(z, y, weight), 0, atol=1e-6)
    # A class that is nowhere, and not claimed, is no loss.
    one = np.zeros_like(y)
    one[..., 0] = 1
    np.testing.assert_allclose(soft(100 * (2 * one - 1), one, weight), 0,
                               atol=1e-6)  # fmt: skip


# Input.

ONES = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda e: e.alpha(ONES, "rleu"), "Did you mean 'relu'"),
        (lambda e: e.alpha(np.array([[np.nan, 1.0]])), "logits holds 1 NaN"),
        (lambda e: e.alpha(np.ones((4, 3), int)), "floating point"),
        (lambda e: e.alpha(np.ones((4, 0), np.float32)), "a class at least"),
        (lambda e: e.kl_to_uniform(0 * ONES), r"alpha is 0.0, but must lie"),
        (lambda e: e.vacuity(np.float32(1)), "classes on its last axis"),
        (lambda e: e.digamma_risk(ONES, ONES[:, 0]), "jax.nn.one_hot"),
        (lambda e: e.digamma_risk(ONES, 2 * ONES), "onehot is 2.0"),
        (lambda e: e.digamma_risk(ONES, ONES, ONES[:, 0]), r"\(3,\), one"),
        (lambda e: e.digamma_risk(ONES, ONES, -ONES[0]), "class_weight is -1"),
        (lambda e: e.annealed_kl(ONES, ONES, 1, 0), "annealing is 0"),
        (lambda e: e.annealed_kl(ONES, ONES, -1, 5), "step is -1"),
        (
            lambda e: e.feal_loss(ONES, ONES, 2 * ONES[0], 0, **feal),
            "class_share is 2.0",
        ),
        (
            lambda e: e.feal_loss(
                ONES, ONES, ONES[0], 0, kl_weight=-1, annealing=1
            ),
            "kl_weight is -1",
        ),
        (lambda e: e.correction(ONES, ONES[:2], ONES), "same examples"),
        (lambda e: e.soft_dice(ONES, ONES, ONES), r"weight has shape \(4, 3\)"),
        (lambda e: e.soft_dice(ONES, ONES, -ONES[:, 0]), "weight is -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call(evidential)


def test_a_client_of_one_class_or_none_has_finite_losses():
    z, y, _ = batch()
    y = np.zeros_like(y)
    y[:, 1] = 1
    for share in (y.mean(0), np.zeros(4, np.float32)):
        value, slope = loss_and_slope(z, y, share, 3, **feal)
        assert np.isfinite(value) and np.isfinite(slope).all()
