"""Distances of sets of features beside scipy, closed forms and loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

from jaxedge.core import UsageError
from jaxedge.learn import fidelity
from jaxedge.learn.fidelity import samples

pytestmark = pytest.mark.usefixtures("compile_quickly")

F = 6
RNG = np.random.default_rng(0)
A = RNG.normal(size=(60, F)).astype(np.float32)
B = (0.7 + RNG.normal(size=(45, F)) @ RNG.normal(size=(F, F))).astype("f4")


def moments(x):
    x = np.float64(x)
    return x.mean(0), np.cov(x.T)


def frechet_by_scipy(mean_a, cov_a, mean_b, cov_b):
    root = linalg.sqrtm(cov_a @ cov_b)
    apart = mean_a - mean_b
    return apart @ apart + np.trace(cov_a + cov_b - 2 * root.real)


def fid_by_eigenvalues(a, b):
    """For singular covariances, which have no unique root."""
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    values = np.linalg.eigvals(cov_a @ cov_b).real
    root = np.sqrt(values.clip(0)).sum()
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * root


def kernel(x, y):
    return (np.float64(x) @ np.float64(y).T / x.shape[1] + 1) ** 3


def mmd_by_hand(a, b):
    def unequal(k):
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    return (
        unequal(kernel(a, a)) + unequal(kernel(b, b)) - 2 * kernel(a, b).mean()
    )


def apart(a, b):
    return np.linalg.norm(np.float64(a)[:, None] - np.float64(b)[None], axis=-1)


@pytest.fixture
def small_blocks(monkeypatch):
    """A few rows at a time; for shapes that no other test compiles."""
    monkeypatch.setattr(samples, "_BLOCK", 100)


# The Frechet distance.


def test_frechet_is_that_of_scipy():
    found = fidelity.frechet(*moments(A), *moments(B))
    want = frechet_by_scipy(*moments(A), *moments(B))
    assert found.shape == () and found.dtype == jnp.float32
    np.testing.assert_allclose(found, want, rtol=1e-5)
    np.testing.assert_allclose(fidelity.fid(A, B), want, rtol=1e-5)


def test_gaussians_along_the_same_axes():
    """sum (s_a - s_b)^2 + |m_a - m_b|^2, some of the deviations 0."""
    turn = linalg.qr(RNG.normal(size=(F, F)))[0]
    s_a, s_b = np.array([[3, 2, 1, 1, 0, 0], [1, 2, 5, 0, 2, 0.0]])
    mean = np.arange(F) / 3
    covs = (turn * s_a**2) @ turn.T, (turn * s_b**2) @ turn.T
    found = fidelity.frechet(mean, covs[0], 0 * mean, covs[1])
    want = ((s_a - s_b) ** 2).sum() + (mean**2).sum()
    np.testing.assert_allclose(found, want, rtol=1e-5)
    same = fidelity.frechet(mean, covs[0], mean, covs[0])
    assert 0 <= same < 1e-5 * (s_a**2).sum()


def test_fid_of_two_known_laws(key):
    """N(0, 1) and N(3, 4): 9 + 1.

    Of n = 10,000 each, the mean's share has the deviation 2 * 3 * sqrt(5 / n)
    = .134, and that of the deviations 2 * 1 * sqrt(5 / 2n) = .032.
    """
    a, b = jax.random.normal(key, (2, 10_000, 1))
    assert abs(fidelity.fid(a, 3 + 2 * b) - 10) < 5 * 0.138


@pytest.mark.parametrize("n, m", [(5, 7), (5, 45), (60, 4)])
def test_fewer_rows_than_features(n, m):
    wide = RNG.normal(size=(1, F)) * 10 ** np.linspace(-3, 1, F)
    a, b = np.float32(A[:n] * wide + 30), np.float32(B[:m] * wide + 30)
    found = fidelity.fid(a, b)
    # Features around 30 are rounded by 2^-19, beside deviations of 10.
    np.testing.assert_allclose(found, fid_by_eigenvalues(a, b), rtol=2e-5)


def test_fid_keeps_small_variances_beside_large_ones():
    """1,000 and .001 in deviation: a covariance in float32 drops the latter."""
    size = np.array([1e3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    a = A - A.mean(0)
    a, b = np.float32(a * size), np.float32(a * size * [1, 1, 2, 3, 4, 5])
    small = fidelity.fid(a[:, 1:], b[:, 1:])
    np.testing.assert_allclose(
        small, fid_by_eigenvalues(a[:, 1:], b[:, 1:]), rtol=1e-4
    )
    # About 1e-6 of traces of 2e6; roots of eigenvalues of A B, of which float32
    # rounds each by 1e12 * 2^-24, would be off by 5 * 250.
    assert abs(fidelity.fid(a, b) - small) < 2.0


@pytest.mark.parametrize("n", [4, 45])
def test_the_slope_of_fid(n):
    """Along a direction, beside a difference in float64."""
    step = RNG.normal(size=(n, F))
    a, b = A[:n], B
    slope = jax.grad(fidelity.fid)(a, b)
    # Longer steps than elsewhere, as roots of what is 0 are rounded by 1e-8.
    ends = [fid_by_eigenvalues(a + s * 1e-3 * step, b) for s in (1, -1)]
    want = (ends[0] - ends[1]) / 2e-3
    found = (np.float64(slope) * step).sum()
    np.testing.assert_allclose(found, want, rtol=1e-3)
    # Features that are constant, or the same in both sets.
    dead = jnp.asarray(a).at[:, 2].set(1.0)
    for pair in ((dead, b), (dead, dead)):
        assert np.isfinite(jax.grad(fidelity.fid)(*pair)).all()


def test_the_slope_of_frechet():
    """1 - s_b / s_a by the variances, here along the axes."""
    s_a, s_b = np.array([[3, 2, 2, 1.0], [1, 2, 5, 4]])
    mean = np.zeros(4)
    slopes = jax.grad(fidelity.frechet, (0, 1, 3))(
        mean + 1, np.diag(s_a**2), mean, np.diag(s_b**2)
    )
    np.testing.assert_allclose(slopes[0], 2 * (mean + 1), rtol=1e-6)
    np.testing.assert_allclose(slopes[1], np.diag(1 - s_b / s_a), atol=1e-5)
    np.testing.assert_allclose(slopes[2], np.diag(1 - s_a / s_b), atol=1e-5)
    for cov in (np.eye(4), np.zeros((4, 4)), np.diag([1, 1, 0, 0.0])):
        slope = jax.grad(fidelity.frechet, 1)(mean, cov, mean, np.eye(4))
        assert np.isfinite(slope).all()


# The kernel distance.


def test_mmd_is_the_formula():
    found = fidelity.mmd(A, B)
    assert found.shape == () and found.dtype == jnp.float32
    np.testing.assert_allclose(found, mmd_by_hand(A, B), rtol=1e-5)


def test_mmd_of_features_far_from_0(small_blocks):
    """Kernels of 1e6 whose distance is of the order of 1."""
    a, b = np.float32(10 + A[:50]), np.float32(10.01 + B[:33] / 3)
    assert kernel(a, a).mean() > 5e5
    want = mmd_by_hand(a, b)
    # Kernels in float32 would be off by about 1e6 * 2^-24 = .06.
    np.testing.assert_allclose(fidelity.mmd(a, b), want, rtol=1e-4)


def test_mmd_of_equal_laws_is_0_in_the_mean(key):
    s, n, m = 400, 12, 20
    a, b = jnp.split(jax.random.normal(key, (s, n + m, 4)), [n], axis=1)
    found = np.asarray(jax.jit(jax.vmap(fidelity.mmd))(a, b), np.float64)
    for i in range(3):
        np.testing.assert_allclose(found[i], mmd_by_hand(a[i], b[i]), atol=1e-4)
    error = found.std(ddof=1) / np.sqrt(s)
    assert abs(found.mean()) < 4 * error
    # With the diagonals it would be E k(x, x) (1 / n + 1 / m) above, at least
    # (E |x|^2 / F)^3 = 1 each.
    assert 4 * error < 1 / n + 1 / m


def test_kid_is_mmd_in_the_mean(key):
    """The mean of all subsets is the whole; 4 deviations of that of 200."""
    s = 200
    found = fidelity.kid(key, A, B, subset=20, subsets=s)
    error = found.deviation / np.sqrt(s)
    assert 0 < error and abs(found.mean - mmd_by_hand(A, B)) < 4 * error
    # A subset of all rows is the whole, every time.
    whole = fidelity.kid(key, A[:45], B, subset=45, subsets=2)
    np.testing.assert_allclose(whole.mean, mmd_by_hand(A[:45], B), rtol=1e-5)
    assert whole.deviation < 1e-4 * whole.mean
    again = fidelity.kid(key, A[:45], B, subset=45, subsets=2)
    assert again == whole


def test_the_slope_of_mmd():
    step = RNG.normal(size=A.shape)
    slope = jax.grad(fidelity.mmd)(A, B)
    ends = [mmd_by_hand(A + s * 1e-5 * step, B) for s in (1, -1)]
    found = (np.float64(slope) * step).sum()
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-5, rtol=1e-3)


# Pairs.


def test_diversity_takes_each_unequal_pair_as_often(key):
    """Of n = 6 images that hold their number, 30 ordered pairs."""
    n, pairs = 6, 1000
    images = np.broadcast_to(np.arange(n).reshape(-1, 1, 1, 1), (n, 1, 2, 1))
    seen = []

    def likeness(x, y):
        both = np.stack([x[:, 0, 0, 0], y[:, 0, 0, 0]], 1).astype(int)
        seen.append(both)
        return jnp.asarray(np.abs(both[:, 0] - both[:, 1]), jnp.float32)

    found = fidelity.diversity(key, images, likeness, pairs=pairs)
    assert {len(both) for both in seen} == {32}
    # 31 blocks, and one that ends with the last 8 pairs.
    taken = np.concatenate([*seen[:-1], seen[-1][-8:]])
    assert len(taken) == pairs and (taken[:, 0] != taken[:, 1]).all()
    values = np.abs(taken[:, 0] - taken[:, 1])
    np.testing.assert_allclose(found.mean, values.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, values.std(ddof=1), rtol=1e-5)
    counts = np.bincount(taken[:, 0] * n + taken[:, 1], minlength=n * n)
    counts = counts.reshape(n, n)[~np.eye(n, dtype=bool)]
    # 33 of each of 30; a p-value below 1e-4 has a chance of 1e-4.
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_generator_of_few_images_is_less_diverse(key):
    def likeness(x, y):
        return 1 - jnp.abs(x - y).mean((1, 2, 3))

    measure = functools.partial(fidelity.diversity, likeness=likeness)
    images = np.random.default_rng(1).random((40, 4, 4, 1))
    many, few, one = (
        measure(key, images[np.arange(40) % n], pairs=64) for n in (40, 2, 1)
    )
    assert many.mean < few.mean < one.mean == 1 and one.deviation == 0
    traced = jax.jit(lambda x: measure(key, x, pairs=64))(images)
    np.testing.assert_allclose(traced.mean, many.mean, rtol=1e-6)


# Neighbours.


@pytest.mark.parametrize("k", [1, 4, 45])
def test_nearest_rows_are_those_of_all_distances(k, small_blocks):
    distances, rows = fidelity.nearest(A, B, k)
    want = apart(A, B)
    order = np.argsort(want, axis=1)[:, :k]
    assert distances.dtype == jnp.float32 and rows.dtype == jnp.int32
    np.testing.assert_array_equal(rows, order)
    want = np.take_along_axis(want, order, 1)
    np.testing.assert_allclose(distances, want, rtol=1e-5)


def test_more_neighbours_than_passes():
    bank = RNG.normal(size=(200, 3)).astype(np.float32)
    _, rows = fidelity.nearest(A[:4, :3], bank, 150)
    want = np.argsort(apart(A[:4, :3], bank), axis=1)[:, :150]
    np.testing.assert_array_equal(rows, want)


def test_a_copy_is_at_0_wherever_the_features_lie():
    bank = np.float32(1000 + RNG.normal(size=(50, 64)))
    # The second of two equal rows is never first.
    bank[7] = bank[31]
    made = np.concatenate([bank[[31, 3]], bank[[3]] + 2**-13])
    distances, rows = fidelity.nearest(made, bank, 2)
    assert rows[0].tolist() == [7, 31] and rows[1:, 0].tolist() == [3, 3]
    assert not distances[0].any() and distances[1, 0] == 0
    # 2^-13 is two steps of float32 at 1,000, in 64 features.
    np.testing.assert_allclose(distances[2, 0], 8 * 2**-13)
    slope = jax.grad(lambda x: fidelity.nearest(x, bank)[0].sum())(made)
    assert not slope[:2].any()
    np.testing.assert_allclose(slope[2], np.full(64, 1 / 8), rtol=1e-5)


def precision_by_hand(real, made, k):
    reach = np.sort(apart(real, real), axis=1)[:, k]
    return (apart(made, real) <= reach[None]).any(1).mean()


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_loops(k, small_blocks):
    made = np.float32(0.6 * A[:45] + 0.3 * B)
    found = fidelity.precision_recall(A, made, k)
    assert 0 < found.precision < 1 and 0 < found.recall < 1
    np.testing.assert_allclose(found.precision, precision_by_hand(A, made, k))
    np.testing.assert_allclose(found.recall, precision_by_hand(made, A, k))


def test_precision_and_recall_at_their_ends():
    both = fidelity.precision_recall(A, A[::-1] + 0)
    assert both == (1, 1)
    assert fidelity.precision_recall(A, A + 100) == (0, 0)
    # Neighbours on a line of whole numbers are on the border of the ball.
    line = np.arange(20, dtype=np.float32)[:, None] * np.ones((1, 8), "f4")
    half = fidelity.precision_recall(line, line[:10], k=1)
    # 10 is as far from 9 as 8 is.
    assert half.precision == 1 and half.recall == 11 / 20


# Transformations and errors.


TWO = {
    "fid": fidelity.fid,
    "mmd": fidelity.mmd,
    "kid": lambda a, b: fidelity.kid(
        jax.random.key(1), a, b, subset=6, subsets=3
    ),
    "nearest": lambda a, b: fidelity.nearest(a, b, 2),
    "precision_recall": fidelity.precision_recall,
}


@pytest.mark.parametrize("name", TWO)
def test_transformations(name, compilations):
    measure = TWO[name]
    a, b = A.reshape(2, 30, F), B[:40].reshape(2, 20, F)
    each = jax.jit(jax.vmap(measure))
    found = each(a, b)
    for i in range(2):
        for one, alone in zip(
            jax.tree.leaves(found), jax.tree.leaves(measure(a[i], b[i])),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(one[i], alone, rtol=1e-4)
    with compilations() as names:
        each(a + 1, b * 2)
        measure(a[0] + 1, b[1] * 2)
    assert not names
    half = measure(jnp.asarray(a[0], jnp.bfloat16), b[0])
    assert jax.tree.leaves(half)[0].dtype == jnp.float32


NAN = np.where(np.arange(F) == 1, np.nan, A)
COV = np.eye(F)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda key: fidelity.fid(A[:1], B), "features_NxF has 1 rows"),
        (lambda key: fidelity.fid(A, B[:, :3]), "6 features and .* 3, but"),
        (lambda key: fidelity.fid(A, NAN), "features_MxF holds .* NaN"),
        (lambda key: fidelity.fid(A[0], B), r"features_NxF has shape \(6,\)"),
        (lambda key: fidelity.fid(A + 1j, B), "dtype complex"),
        (lambda key: fidelity.mmd(A, B[:1]), "features_MxF has 1 rows"),
        (lambda key: fidelity.kid(key, A, B, subset=46), "there are 60 and 45"),
        (lambda key: fidelity.kid(key, A, B, subset=1), "subset is 1"),
        (lambda key: fidelity.kid(key, A, B, subset=9, subsets=1), "subsets"),
        (lambda key: fidelity.kid(0, A, B), "a key must"),
        (lambda key: fidelity.nearest(A, B, 46), "bank_MxF has 45 rows"),
        (lambda key: fidelity.nearest(A, B, 0), "k is 0"),
        (lambda key: fidelity.precision_recall(A[:3], B), "has 3 rows, but 4"),
        (lambda key: fidelity.frechet(A[0], COV[:3], A[0], COV), "cov_a has"),
        (lambda key: fidelity.frechet(A[0], COV, A[0], COV - 2), "eigenvalue"),
        (
            lambda key: fidelity.frechet(A[0], np.triu(COV + 1), A[0], COV),
            "cov_a differs from its transpose",
        ),
        (
            lambda key: fidelity.frechet(A[0], COV, A[0, :2], COV[:2, :2]),
            "mean_a has 6 features",
        ),
        (
            lambda key: fidelity.diversity(key, A[:, :, None, None], np.add),
            r"likeness gives shape \(32, 6, 1, 1\)",
        ),
        (
            lambda key: fidelity.diversity(key, A[:1, :, None, None], np.add),
            "images_NxHxWxC has 1 rows",
        ),
    ],
)
def test_what_is_wrong_is_named(wrong, message, key):
    with pytest.raises(UsageError, match=message):
        wrong(key)
