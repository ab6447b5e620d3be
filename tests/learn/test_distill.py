"""Losses towards a teacher against loops, and stored distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.learn import distill

B, K = 5, 7
soft = jax.jit(distill.soft_cross_entropy)


@pytest.fixture(scope="module")
def case():
    """Logits of a student and of a teacher, and labels."""
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 3, (2, B, K)).astype(np.float32)
    return logits, teacher, rng.integers(0, K, B)


def probabilities(logits, temperature=1.0):
    """By the definition, in float64."""
    out = np.zeros(logits.shape)
    for i, row in enumerate(np.asarray(logits, np.float64)):
        e = [np.exp((z - row.max()) / temperature) for z in row]
        out[i] = np.array(e) / sum(e)
    return out


def cross_entropy(p, q):
    pairs = zip(p, q, strict=True)
    return [-sum(a * np.log(b) for a, b in zip(*r, strict=True)) for r in pairs]


@pytest.mark.parametrize("t", [0.5, 1.0, 4.0])
def test_the_loss_is_the_cross_entropy_of_the_distributions(case, t):
    logits, teacher, _ = case
    p, q = probabilities(teacher, t), probabilities(logits, t)
    found = soft(logits, p.astype(np.float32), temperature=t)
    assert found.shape == (B,)
    np.testing.assert_allclose(found, cross_entropy(p, q), rtol=2e-6)
    found = distill.distill(logits, teacher, temperature=t, squared=False)
    np.testing.assert_allclose(found, cross_entropy(p, q), rtol=2e-6)
    found = distill.distill(logits, teacher, temperature=t)
    np.testing.assert_allclose(found, t * t * np.array(cross_entropy(p, q)),
                               rtol=2e-6)  # fmt: skip


def test_the_gradient_is_the_difference_of_the_distributions(case):
    logits, teacher, _ = case
    t = 3.0
    both = jax.jit(
        jax.grad(
            lambda z, v, t: distill.distill(z, v, temperature=t).sum(), (0, 1)
        )
    )
    slope, of_teacher = both(logits, teacher, t)
    p, q = probabilities(teacher, t), probabilities(logits, t)
    np.testing.assert_allclose(slope, t * (q - p), atol=1e-6)
    np.testing.assert_array_equal(of_teacher, 0)


def test_the_squared_temperature_keeps_the_gradient_of_warm_students(case):
    """At a high T it tends to (z - v) / K, centred (1503.02531, eq. 4)."""
    logits, teacher, _ = case
    slope = jax.grad(
        lambda z: distill.distill(z, teacher, temperature=1e3).sum()
    )(logits)
    gap = np.asarray(logits - teacher, np.float64)
    expected = (gap - gap.mean(1, keepdims=True)) / K
    # Of order z / T = 1e-2 beside it, and float32 of 1e6 times 1e-6.
    np.testing.assert_allclose(slope, expected, atol=0.05)


def test_labels_and_the_teacher_share_the_loss(case):
    logits, teacher, labels = case
    of_label = -np.log(probabilities(logits)[np.arange(B), labels])
    t = 2.0
    p, q = probabilities(teacher, t), probabilities(logits, t)
    of_teacher = t * t * np.array(cross_entropy(p, q))
    mixed = jax.jit(distill.mixed)
    for alpha in (0.0, 0.3, 1.0):
        found = mixed(logits, teacher, labels, alpha=alpha, temperature=t)
        expected = alpha * of_label + (1 - alpha) * of_teacher
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_large_and_coarse_logits_stay_finite(case):
    logits, teacher, _ = case
    half = jnp.asarray(logits, jnp.bfloat16)
    wide = np.asarray(half.astype(jnp.float32))
    found = soft(half, jnp.asarray(probabilities(teacher), jnp.float32))
    assert found.dtype == jnp.float32
    expected = cross_entropy(probabilities(teacher), probabilities(wide))
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    # log softmax of (1e4, 0) is (0, -1e4).
    far = jnp.array([[1e4, 0.0]])
    np.testing.assert_allclose(soft(far, jnp.array([[0.0, 1.0]])), 1e4)


def test_an_impossible_class_that_has_no_share_adds_nothing():
    logits = jnp.array([[1.0, -jnp.inf, 0.0]])
    target = jnp.array([[0.25, 0.0, 0.75]])
    norm = np.log(np.e + 1)
    np.testing.assert_allclose(
        soft(logits, target), 0.25 * (norm - 1) + 0.75 * norm, rtol=1e-6
    )
    total = lambda z, p: soft(z, p).sum()  # noqa: E731
    slope, by_target = jax.grad(total, (0, 1))(logits, target)
    q = np.array([np.e, 0, 1]) / (np.e + 1)
    np.testing.assert_allclose(slope[0], q - np.asarray(target[0]), atol=1e-6)
    assert np.isfinite(by_target).all()


def test_labels_become_distributions():
    expected = np.full((3, 4), 0.1 / 4)
    expected[[0, 1, 2], [3, 0, 2]] += 0.9
    found = distill.hard(np.array([3, 0, 2]), 4, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plain = distill.hard(jnp.array([3, 0, 2], jnp.uint8), 4)
    np.testing.assert_array_equal(plain, expected > 0.5)


def test_the_largest_probabilities_are_stored(case):
    p = probabilities(case[1]).astype(np.float32)
    p[0] = 0.1, 0.2, 0.3, 0.2, 0.1, 0.05, 0.05  # Ties: the lower class first.
    index, value = distill.compress(p, 3)
    order = np.argsort(-p, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(value, np.take_along_axis(p, order, 1))


def test_the_rest_is_spread_evenly(case):
    p = probabilities(case[1]).astype(np.float32)
    index, value = map(np.asarray, distill.compress(p, 3))
    found = distill.recover(index.astype(np.uint16), value, K)
    expected = np.zeros((B, K))
    for b in range(B):
        expected[b] = (1 - value[b].sum(dtype=np.float64)) / (K - 3)
        for i, v in zip(index[b], value[b], strict=True):
            expected[b, i] = v
    np.testing.assert_allclose(found, expected, atol=2e-7)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    # What is even beyond its largest comes back.
    again = distill.recover(*distill.compress(found, 3), K)
    np.testing.assert_allclose(again, found, atol=2e-7)
    whole = distill.recover(*distill.compress(p, K), K)
    np.testing.assert_array_equal(whole, p)


def test_rounded_values_leave_nothing_negative():
    value = np.full((1, 3), 1 / 3 + 1e-3, np.float16)
    found = distill.recover(np.array([[4, 0, 2]]), value, 6)
    expected = np.zeros((1, 6), np.float32)
    expected[0, [0, 2, 4]] = value
    np.testing.assert_array_equal(found, expected)


def test_every_function_is_jitted_and_mapped(case):
    logits, teacher, labels = map(jnp.asarray, case)

    def f(z, v, y):
        p = distill.recover(*distill.compress(jax.nn.softmax(v), 2), K)
        return (
            distill.mixed(z, v, y, alpha=0.4, temperature=2.0),
            distill.soft_cross_entropy(z, p),
            distill.hard(y, K, 0.1),
        )

    one = jax.jit(jax.vmap(f))(logits, teacher, labels)
    for a, b in zip(one, f(logits, teacher, labels), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


Z, Y = np.zeros((2, 3), np.float32), np.array([0, 1])
MISUSES = {
    r"logits has shape \(2, 3\) and target \(2, 2\)": lambda: (
        distill.soft_cross_entropy(Z, Z[:, 1:])
    ),
    r"temperature is 0, but must lie in \(0": lambda: distill.distill(
        Z, Z, temperature=0
    ),
    r"temperature has shape \(2,\)": lambda: distill.distill(
        Z, Z, temperature=np.ones(2)
    ),
    "share of the labels.* is 1.5": lambda: distill.mixed(Z, Z, Y, alpha=1.5),
    r"labels is 3, but must lie in \[0, 2\]": lambda: distill.hard(Y + 2, 3),
    "labels is float32.*cast": lambda: distill.hard(Z[0], 3),
    "smoothing is -0.1": lambda: distill.hard(Y, 3, -0.1),
    "k is 4, but there are 3 classes": lambda: distill.compress(Z, 4),
    "k is 0": lambda: distill.compress(Z, 0),
    "index is 3": lambda: distill.recover(Y[:, None] + 2, Z[:, :1], 3),
    r"index has shape \(2, 1\) and value \(2, 2\)": lambda: distill.recover(
        Y[:, None], Z[:, :2], 3
    ),
    r"value is 1\.5": lambda: distill.recover(Y[:, None], Z[:, :1] + 1.5, 3),
    "logits is int": lambda: distill.soft_cross_entropy(Y, Y),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
