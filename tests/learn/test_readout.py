import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import Ridge

from jaxedge.core.checks import UsageError
from jaxedge.learn import moments, readout, readout_forms, readout_scores
from jaxedge.learn.readout import BIASES

# A program is compiled for each number of rows at a time, so there are few.
N, D, K = 90, 7, 3
SOME = 33  # N is twice that, and 24.

pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture
def double():
    """JAX with float64, for one test."""
    with jax.enable_x64(True):
        yield


def data(seed=0, n=N, d=D, k=K, mean=3.0):
    """Features with a mean, targets that depend on them, and weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(0.5, 2, d) + mean
    y = x @ rng.normal(size=(d, k)) + rng.normal(size=(n, k)) + 1
    w = rng.uniform(0.2, 3, n)
    w[::5] = 0
    return x, y, w


def conductances(seed=0, n=580, d=24, k=2):
    """float32 features that a plain float32 sum cannot tell apart.

    A common mean of 34, deviations over six decades, and a near duplicate.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = 34 + (rng.normal(size=(n, d)) * np.logspace(0, -6, d)) @ turn
    x[:, 1] = x[:, 0] + 1e-3 * rng.normal(size=n)
    x = x.astype(np.float32)
    y = 0.1 * (x.astype(np.float64) @ rng.normal(size=(d, k)))
    return x, (y + rng.normal(size=(n, k))).astype(np.float32)


def reference(x, y, ridge, w=None, bias="none"):
    """Ridge as least squares over augmented rows, in float64 by SVD."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, d = x.shape
    root = np.sqrt(np.ones(n) if w is None else np.asarray(w, np.float64))
    mean_x, mean_y = np.zeros(d), np.zeros(y.shape[1])
    if bias == "free":
        share = root**2 / (root**2).sum()
        mean_x, mean_y = share @ x, share @ y
    x, y = x - mean_x, y - mean_y
    if bias == "penalised":
        x = np.hstack([x, np.ones((n, 1))])
    penalty = np.sqrt(np.broadcast_to(ridge, x.shape[1]))
    rows = np.vstack([root[:, None] * x, np.diag(penalty)])
    goal = np.vstack([root[:, None] * y, np.zeros((x.shape[1], y.shape[1]))])
    m = scipy.linalg.lstsq(rows, goal)[0]
    return (m[:d], m[d]) if bias == "penalised" else (m, mean_y - mean_x @ m)


def streamed(x, y, w=None, chunk=None, block=16, **options):
    """A state that has seen the rows, some at a time."""
    state = readout.init(x.shape[1], y.shape[1], block=block, **options)
    chunk = chunk or len(x)
    for i in range(0, len(x), chunk):
        part = slice(i, i + chunk)
        state = readout.update(
            state, x[part], y[part], None if w is None else w[part]
        )
    return state


def assert_near(found, want, limit):
    """Both parts of a readout, relative to the largest weight."""
    for a, b in zip(found, want, strict=True):
        scale = max(np.abs(want[0]).max(), np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=limit * scale)


# Against others.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_solution_is_that_of_augmented_least_squares(double, bias, weighted):
    x, y, w = data()
    w = w if weighted else None
    for ridge in (1e-3, 1.0, 300.0):
        found = readout.solve(streamed(x, y, w), ridge, bias=bias)
        assert found.matrix.dtype == jnp.float64
        assert_near(found, reference(x, y, ridge, w, bias), 1e-11)


@pytest.mark.parametrize("bias", ["none", "free"])
def test_solution_is_that_of_scikit_learn(double, bias):
    x, y, w = data()
    peer = Ridge(2.0, fit_intercept=bias == "free").fit(x, y, w)
    found = readout.solve(streamed(x, y, w), 2.0, bias=bias)
    intercept = np.broadcast_to(peer.intercept_, K)
    assert_near(found, (peer.coef_.T, intercept), 1e-11)
    np.testing.assert_allclose(
        readout.predict(found, x), peer.predict(x), rtol=1e-10
    )


@pytest.mark.parametrize("bias", ["none", "free"])
def test_ridge_zero_is_least_squares(double, bias):
    x, y, w = data()
    found = readout.solve(streamed(x, y, w), 0, bias=bias)
    assert_near(found, reference(x, y, 0.0, w, bias), 1e-11)


def test_a_constant_feature_is_the_penalised_bias(double):
    x, y, w = data()
    ones = np.hstack([x, np.ones((N, 1))])
    m = readout.solve(streamed(ones, y, w), 2.0).matrix
    found = readout.solve(streamed(x, y, w), 2.0, bias="penalised")
    assert_near(found, (m[:-1], m[-1]), 1e-11)
    # Of no variance, but of full rank beside the others.
    m = readout.solve(streamed(ones, y, w), 0).matrix
    assert_near((m[:-1], m[-1]), reference(x, y, 0, w, "free"), 1e-11)


def test_a_ridge_for_each_feature(double):
    x, y, w = data()
    ridge = np.linspace(0, 20, D)
    for bias in ("none", "free"):
        found = readout.solve(streamed(x, y, w), ridge, bias=bias)
        assert_near(found, reference(x, y, ridge, w, bias), 1e-11)


def test_noise_is_the_mean_over_noisy_features(double):
    x, y, w = data()
    variance = np.linspace(0.1, 2, D)
    found = readout.solve(streamed(x, y, w), 1.0, noise=variance, bias="free")
    # Plus and minus one deviation of each feature, of all features at a time:
    # Hadamard signs make the noise of two features uncorrelated.
    signs = scipy.linalg.hadamard(8)[:, 1 : D + 1]
    rows = np.concatenate([x + s * np.sqrt(variance) for s in signs])
    want = reference(
        rows, np.tile(y, (8, 1)), 1.0, np.tile(w, 8) / 8, bias="free"
    )
    assert_near(found, want, 1e-11)
    one = readout.solve(streamed(x, y, w), 1.0, noise=0.5)
    assert_near(one, reference(x, y, 1 + 0.5 * w.sum(), w), 1e-11)


def test_targets_of_classes():
    targets = readout.class_targets(np.array([2, 0, 2]), 3)
    np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0], [0, 0, 1]])


# Chunks.


def test_chunks_do_not_matter_in_float64(double):
    x, y, w = data(mean=1e6)
    whole = streamed(x, y, w)
    for chunk in (1, SOME):
        parts = streamed(x, y, w, chunk)
        assert parts.fill == whole.fill == N % 16
        for bias in BIASES:
            found = readout.solve(parts, 1e-3, bias=bias)
            want = readout.solve(whole, 1e-3, bias=bias)
            assert_near(found, want, 1e-9)


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_chunks_do_not_matter_in_float32_without_rank(ridge):
    x, y = conductances()
    states = [streamed(x, y, chunk=c, block=128) for c in (580, 1, 29)]
    for bias in BIASES:
        found = [readout.solve(s, ridge, bias=bias) for s in states]
        for other in found[1:]:
            assert_near(other, found[0], 1e-4)


def test_any_order_of_chunks_gives_the_same_sums():
    x, y, w = (a.astype(np.float32) for a in data())
    want = moments_of(x, y, w)
    rng = np.random.default_rng(0)
    totals = jax.jit(readout.row_blocks.totals)
    sizes, first = [SOME, SOME, 0, *[1] * 24], None
    for _ in range(4):
        state = readout.init(D, K, block=16)
        for part in np.split(np.arange(N), np.cumsum(rng.permutation(sizes))):
            state = readout.update(state, x[part], y[part], w[part])
        found = totals(state)
        first = first or found
        assert found.rows == 72
        for a, b, c in zip(found, want, first, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-6)


def moments_of(x, y, w):
    """Totals in float64, by their definition."""
    x, y, w = (a.astype(np.float64) for a in (x, y, w))
    mean_x, mean_y = w @ x / w.sum(), w @ y / w.sum()
    x, y = x - mean_x, y - mean_y
    return (
        (w > 0).sum(), w.sum(), mean_x, mean_y,
        x.T @ (w[:, None] * x), x.T @ (w[:, None] * y), w @ y**2,
    )  # fmt: skip


def test_float32_keeps_what_a_plain_sum_loses():
    x, y = conductances()
    found = readout.solve(streamed(x, y, block=128), 10.0, bias="free")
    want = reference(x, y, 10.0, bias="free")
    assert_near(found[:1], want[:1], 1e-4)
    a = x.T @ x - len(x) * np.outer(x.mean(0), x.mean(0))
    b = x.T @ y - len(x) * np.outer(x.mean(0), y.mean(0))
    plain = np.linalg.solve(a + 10 * np.eye(24, dtype=np.float32), b)
    error = np.abs(plain - want[0]).max() / np.abs(want[0]).max()
    assert error > 0.1


@pytest.mark.parametrize("bias", BIASES)
def test_float32_with_a_large_common_mean(bias):
    x, y, w = data()
    x = (x + 1000).astype(np.float32)
    y = y.astype(np.float32)
    found = readout.solve(streamed(x, y, w), 1.0, bias=bias)
    want = reference(x, y, 1.0, w, bias)
    assert_near(found[:1], want[:1], 1e-4)
    predicted = x.astype(np.float64) @ want[0] + want[1]
    np.testing.assert_allclose(
        readout.predict(found, x), predicted, atol=2e-3 * np.abs(y).std()
    )


def test_moments_of_a_block_far_from_zero():
    # The mean itself rounds by a tenth of the spread.
    x, y, w = (a.astype(np.float32) for a in data(mean=3e6))
    found = jax.jit(lambda *rows: moments.totals(moments.of_rows(*rows)))
    for a, b in zip(found(x, y, w), moments_of(x, y, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * w.sum())


def test_sums_of_many_blocks_lose_nothing():
    # 1 + 2^-20 is a float32, but sums of a few hundred are not exact in it.
    n = 4001
    x = np.full((n, 1), 1 + 2.0**-20, np.float32)
    x[1::2] *= -1
    state = streamed(x, x, np.full(n, 0.1, np.float32), block=1)
    t = jax.jit(readout.row_blocks.totals)(state)
    weight = n * np.float64(np.float32(0.1))
    square = np.float64(x[0, 0]) ** 2
    np.testing.assert_allclose(t.weight, weight, rtol=1e-7)
    np.testing.assert_allclose(
        t.xx[0, 0], weight * square * (1 - n**-2.0), rtol=3e-7
    )


def test_merge_is_associative(double):
    x, y, w = data(n=91)
    bounds = [0, 1, 34, 58, 91]
    a, b, c, d = (
        streamed(x[i:j], y[i:j], w[i:j])
        for i, j in zip(bounds[:-1], bounds[1:], strict=True)
    )
    merge = readout.merge
    empty = readout.init(D, K, block=16)
    other = streamed(x[:1], y[:1], w[:1], block=5)
    whole = streamed(x, y, w, 1, block=5)
    want = reference(x, y, 0.1, w, "penalised")
    for state in (
        merge(merge(merge(a, b), c), d),
        merge(a, merge(b, merge(c, d))),
        merge(merge(d, c), merge(b, a)),
        merge(empty, merge(merge(merge(merge(a, b), c), d), empty)),
        # Other blocks, on either side.
        merge(merge(b, merge(c, d)), other),
        merge(merge(other, merge(b, c)), d),
        merge(empty, whole),
    ):
        assert state.fill < len(state.waiting.w)
        # A bias that depends on all sums.
        found = readout.solve(state, 0.1, bias="penalised")
        assert_near(found, want, 1e-9)


def test_rows_of_weight_zero_are_not_there(double):
    x, y, w = data()
    x[w == 0] = 1e3
    found = readout.solve(streamed(x, y, w, SOME), 1.0, bias="free")
    kept = w > 0
    want = streamed(x[kept], y[kept], w[kept], 1)
    assert_near(found, readout.solve(want, 1.0, bias="free"), 1e-10)


def test_no_rows_change_nothing():
    x, y, _ = data()
    state = streamed(x, y)
    same = readout.update(state, np.zeros((0, D)), np.zeros((0, K)))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stripes_make_a_whole_matrix(double):
    # 300 features are three stripes, of which the last is short.
    x, y, w = data(d=300)

    @jax.jit
    def of_two(x, y, w):
        parts = [
            moments.of_rows(x[p], y[p], w[p])
            for p in (slice(40), slice(40, None))
        ]
        assert len(parts[0].second) == 3
        return moments.totals(moments.join(*parts))

    for a, b in zip(of_two(x, y, w), moments_of(x, y, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32])
def test_other_dtypes_are_summed_in_float32(dtype):
    x, y, _ = data()
    x = jnp.asarray(8 * x, dtype)
    found = readout.solve(streamed(x, y.astype(np.float32)), 1.0, bias="free")
    assert found.matrix.dtype == jnp.float32
    assert_near(found, reference(x, y, 1.0, bias="free"), 1e-5)


def test_a_given_dtype_is_kept(double):
    x, y, w = data()
    for dtype in (jnp.float32, jnp.float64):
        state = streamed(x, y, w, dtype=dtype)
        found = readout.solve(state, 1.0, bias="penalised", noise=0.1)
        assert found.matrix.dtype == found.bias.dtype == dtype


# Other forms.


@pytest.mark.parametrize("bias", BIASES)
def test_dual_is_primal(double, bias):
    x, y, w = data(n=SOME)
    for weights in (None, w):
        found = readout_forms.dual(x, y, 0.5, weights, bias=bias)
        state = streamed(x, y, weights)
        assert_near(found, readout.solve(state, 0.5, bias=bias), 1e-10)


@pytest.mark.parametrize("bias", BIASES)
def test_dual_of_few_rows(double, bias):
    x, y, w = data(n=4, d=20)
    found = readout_forms.dual(x, y, 0.5, w, bias=bias)
    assert_near(found, reference(x, y, 0.5, w, bias), 1e-10)


@pytest.mark.parametrize("chunk", [1, SOME])
def test_recursion_is_batch(double, chunk):
    x, y, w = data()
    found = readout_forms.start(D, K, 0.5)
    for i in range(0, N, chunk):
        part = slice(i, i + chunk)
        found = readout_forms.step(found, x[part], y[part], w[part])
        seen = slice(0, i + chunk)
        want = reference(x[seen], y[seen], 0.5, w[seen])
        assert_near((found.matrix,), want[:1], 1e-9)


def test_recursion_forgets(double):
    x, y, w = data()
    found = readout_forms.start(D, K, 0.5)
    for i in range(0, N, 10):
        part = slice(i, i + 10)
        found = readout_forms.step(found, x[part], y[part], w[part], forget=0.8)
    faded = w * 0.8 ** (8 - np.arange(N) // 10)
    want = reference(x, y, 0.5 * 0.8**9, faded)
    assert_near((found.matrix,), want[:1], 1e-9)


# The choice of the ridge.

RIDGES = np.array([0.0, 0.1, 3.0, 200.0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_leave_one_out_is_leaving_one_out(double, bias, weighted):
    x, y, w = data(n=SOME)
    w = w if weighted else None
    state = streamed(x, y, w)
    found = readout_scores.leave_one_out(state, x, y, RIDGES, w, bias=bias)
    assert found.shape == (4, SOME, K)
    for r, ridge in enumerate(RIDGES):
        for i in range(SOME):
            others = np.arange(SOME) != i
            m, b = reference(
                x[others], y[others], ridge, w if w is None else w[others], bias
            )
            np.testing.assert_allclose(
                found[r, i], y[i] - x[i] @ m - b, rtol=1e-8, atol=1e-9
            )


def test_some_rows_are_left_out_like_all(double):
    x, y, w = data(n=SOME)
    state = streamed(x, y, w)
    every = readout_scores.leave_one_out(state, x, y, RIDGES, w, bias="free")
    some = readout_scores.leave_one_out(
        state, x[5:9], y[5:9], RIDGES, w[5:9], bias="free"
    )
    np.testing.assert_allclose(some, every[:, 5:9], rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_gcv_is_its_formula(double, bias, weighted):
    x, y, w = data(n=SOME)
    w = w if weighted else np.ones(SOME)
    found = readout_scores.gcv(streamed(x, y, w), RIDGES, bias=bias)
    assert found.shape == (4, K)
    n = (w > 0).sum()
    for r, ridge in enumerate(RIDGES):
        # Column i of the hat matrix is the fit of the unit vector e_i.
        m, b = reference(x, np.eye(SOME), ridge, w, bias)
        hat = x @ m + b
        rss = w @ (y - hat @ y) ** 2
        want = rss / n / (1 - np.trace(hat) / n) ** 2
        np.testing.assert_allclose(found[r], want, rtol=1e-9)


def test_scores_find_the_ridge_that_predicts(double):
    rng = np.random.default_rng(0)
    m = 0.5 * rng.normal(size=(D, K))
    x = rng.normal(size=(SOME, D))
    y = x @ m + 2 * rng.normal(size=(SOME, K))
    state = streamed(x, y)
    ridges = np.array([1e-3, 20.0, 1e3, 1e5])
    # The excess error of a readout on fresh rows of variance 1.
    excess = [
        np.sum((readout.solve(state, ridge).matrix - m) ** 2)
        for ridge in ridges
    ]
    left = readout_scores.leave_one_out(state, x, y, ridges)
    for score in (readout_scores.gcv(state, ridges), (left**2).mean(1)):
        assert np.argmin(score.mean(1)) == np.argmin(excess) == 1


@pytest.mark.parametrize("bias", ["none", "free"])
def test_scores_in_float32(bias):
    x, y, w = data(n=SOME)
    state = streamed(*(a.astype(np.float32) for a in (x, y, w)))
    ridges = np.array([0.1, 1.0, 3.0, 200.0])
    found = readout_scores.gcv(state, ridges, bias=bias)
    left = readout_scores.leave_one_out(state, x, y, ridges, w, bias=bias)
    with jax.enable_x64(True):
        state = streamed(x, y, w)
        want = readout_scores.gcv(state, ridges, bias=bias)
        np.testing.assert_allclose(found, want, rtol=1e-3)
        want = readout_scores.leave_one_out(state, x, y, ridges, w, bias=bias)
        np.testing.assert_allclose(left, want, rtol=0, atol=1e-3)


# Transformations.


def chip(x, y, w, ridge):
    """All of it, as one function of arrays."""
    state = readout.update(readout.init(D, K, block=16), x, y, w)
    state = readout.merge(state, state)
    ridges = ridge[None]
    # Without a bias, `solve` does what it does with a penalised one.
    found = [readout.solve(state, ridge, bias=b, noise=0.1) for b in BIASES[1:]]
    return (
        [readout.predict(solution, x) for solution in found],
        readout_scores.gcv(state, ridges, bias="penalised"),
        readout_scores.leave_one_out(state, x, y, ridges, w, bias="penalised"),
        readout_forms.dual(x, y, ridge, w, bias="penalised"),
        readout_forms.step(readout_forms.start(D, K, 1.0), x, y, w).matrix,
    )


def test_jit_and_vmap_are_eager():
    chips = [
        (*(a.astype(np.float32) for a in data(seed)), np.float32(ridge))
        for seed, ridge in enumerate((0.5, 2.0, 10.0))
    ]
    stack = lambda *trees: jax.tree.map(lambda *a: np.stack(a), *trees)  # noqa: E731
    eager = stack(*(chip(*map(jnp.asarray, c)) for c in chips))
    found = jax.jit(jax.vmap(chip))(*stack(*chips))
    for a, b in zip(
        jax.tree.leaves(found), jax.tree.leaves(eager), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_new_values_compile_nothing(compilations):
    x, y, w = (a.astype(np.float32) for a in data())

    def run(scale, ridge):
        state = readout.init(D, K, block=16)
        for _ in range(2):
            state = readout.update(state, scale * x, y, w)
            state = readout.update(state, scale * x[:1], y[:1])
        readout.solve(state, ridge, bias="penalised", noise=ridge)
        chip(jnp.asarray(scale * x), y, w, jnp.asarray(ridge))

    run(np.float32(1), np.float32(1))
    with compilations() as names:
        run(np.float32(3), np.float32(0.1))
        run(np.float32(2), np.float32(7))
    assert not names


def test_gradients_are_finite_differences(double):
    x, y, w = data(n=SOME)
    w = w + 0.5  # A weight of 0 is at the end of its range.

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=range(5))
    def loss(x, y, w, ridge, noise):
        state = readout.update(readout.init(D, K, block=16), x, y, w)
        found = [readout.solve(state, ridge, bias=b, noise=noise)
                 for b in BIASES[1:]]  # fmt: skip
        score = readout_scores.gcv(state, ridge[None], bias="penalised")
        return score.sum() + sum(
            (i + 1) * jnp.sin(readout.predict(solution, x)).sum()
            for i, solution in enumerate(found)
        )

    args = x, y, w, np.array(1.5), np.full(D, 0.1)
    _, slopes = loss(*args)
    rng = np.random.default_rng(1)
    for i, slope in enumerate(slopes):
        way = rng.normal(size=slope.shape)
        ends = [
            loss(*args[:i], args[i] + s * 1e-5 * way, *args[i + 1 :])[0]
            for s in (1, -1)
        ]
        numeric = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.vdot(slope, way), numeric, rtol=1e-5)


# Bad input.

X, Y, W = np.ones((4, D)), np.ones((4, K)), np.ones(4)


def rising(array):
    return array * np.arange(len(array) * 9)[::9, None]


def holding(array, value):
    array = np.array(array)
    array.flat[5 % array.size] = value
    return array


@pytest.mark.parametrize(
    "rows, message",
    [
        ((X[:, 1:], Y), r"features \(4, 6\) and .* must be \[N, 7\]"),
        ((X, Y[:, 1:]), r"targets \(4, 2\) must be .* \[N, 3\]"),
        ((X, Y[1:]), r"features \(4, 7\) and targets \(3, 3\)"),
        ((X[0], Y[0]), r"features \(7,\)"),
        ((X, Y[:, 0]), r"targets \(4,\)"),
        ((X * 1j, Y), "features are complex64, but must be real"),
        ((X, Y, W[1:]), r"weights have shape \(3,\), but there are 4 rows"),
        ((X, Y, -W), r"weights is -1.0, but must lie in \[0"),
        ((X, Y, holding(W, np.nan)), "weights is nan"),
        ((holding(X, np.nan), Y), r"features holds 1 NaN .* \(0, 5\)"),
        ((holding(X, np.inf), Y), r"features holds 1 NaN or infinite"),
        ((X, holding(Y, np.nan)), r"targets holds 1 NaN .* \(1, 2\)"),
    ],
)
def test_bad_rows(rows, message):
    with pytest.raises(UsageError, match=message):
        readout.update(readout.init(D, K, block=3), *rows)
    state = streamed(X, Y)
    with pytest.raises(UsageError, match=message):
        readout_scores.leave_one_out(state, *rows[:2], np.ones(1), *rows[2:])
    recursion = readout_forms.start(D, K, 1.0)
    with pytest.raises(UsageError, match=message):
        readout_forms.step(recursion, *rows)
    # A NaN that waits for its block, and one at the end of a long chunk.
    with pytest.raises(UsageError, match=message):
        readout.update(readout.init(D, K, block=16), *rows)


STATE = functools.cache(lambda: streamed(*data()[:2]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: readout.init(0, 3), "d is 0"),
        (lambda: readout.init(3, 0), "k is 0"),
        (lambda: readout.init(3, 2.0), "k must be a whole number"),
        (lambda: readout.init(3, 2, block=0), "block is 0"),
        (lambda: readout.init(3, 2, dtype=jnp.bfloat16), "dtype is bfloat16"),
        (lambda: readout.init(3, 2, dtype=int), "dtype is int32"),
        (lambda: readout.solve(STATE(), -1.0), "ridge is -1.0"),
        (lambda: readout.solve(STATE(), np.nan), "ridge is nan"),
        (lambda: readout.solve(STATE(), "big"), "ridge must be a number"),
        (lambda: readout.solve(STATE(), np.ones(3)), r"ridge has shape \(3,\)"),
        (lambda: readout.solve(STATE(), 1, noise=-1), "noise is -1"),
        (lambda: readout.solve(STATE(), 1, noise=np.ones(2)), "noise has"),
        (lambda: readout.solve(STATE(), 1, bias="fre"), "mean 'free'"),
        (
            lambda: readout.solve(STATE(), np.ones(D), bias="penalised"),
            "penalised bias needs",
        ),
        (
            lambda: readout.solve(readout.init(D, K, block=16), 1.0),
            "no row of positive",
        ),
        (
            lambda: readout.solve(streamed(X, Y, 0 * W), 1.0),
            "no row of positive",
        ),
        (
            lambda: readout.merge(STATE(), readout.init(D, 1)),
            r"\(7, 3\) in float32 and \(7, 1\) in float32 cannot be merged",
        ),
        (
            lambda: readout.predict(readout.Weights(X.T, W), np.ones((2, 3))),
            r"features have shape \(2, 3\), but the readout needs \[..., 7\]",
        ),
        (
            lambda: streamed(1e30 * rising(X), Y, block=3),
            "the sums overflow float32",
        ),
        (lambda: readout.class_targets([0, 3], 3), "labels is 3"),
        (lambda: readout.class_targets([0, -1], 3), "labels is -1"),
        (lambda: readout.class_targets([0.5], 3), "whole numbers"),
        (lambda: readout.class_targets([[1]], 3), "whole numbers"),
        (lambda: readout.class_targets([1], 0), "classes is 0"),
        (lambda: readout_forms.dual(X, Y, 0.0), "ridge is 0.0"),
        (lambda: readout_forms.dual(X, Y, np.ones(4)), "must be one number"),
        (lambda: readout_forms.dual(X, Y[1:], 1.0), r"must be \[N, D\]"),
        (lambda: readout_forms.dual(X, Y, 1.0, bias="no"), "unknown bias"),
        (lambda: readout_forms.dual(X, Y, 1.0, 0 * W), "no row of positive"),
        (lambda: readout_forms.start(D, K, 0), "ridge is 0"),
        (lambda: readout_forms.start(D, 0, 1), "k is 0"),
        (
            lambda: readout_forms.step(
                readout_forms.start(D, K, 1), X, Y, forget=0
            ),
            "forget is 0",
        ),
        (lambda: readout_scores.gcv(STATE(), 1.0), r"\[R\]"),
        (lambda: readout_scores.gcv(STATE(), []), r"\[R\]"),
        (lambda: readout_scores.gcv(STATE(), [-1.0]), "ridges is -1.0"),
        (lambda: readout_scores.gcv(STATE(), [1.0], bias="x"), "unknown bias"),
        (
            lambda: readout_scores.gcv(
                readout.init(D, K, block=16), [1.0], bias="penalised"
            ),
            "no row of positive",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("bias", BIASES)
def test_a_singular_problem_is_an_error_or_nan(bias):
    # A pivot that should be 0 rounds to either side of it.
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(580, 24))
        x = x.astype(np.float32)
        x[:, 0] = x[:, 1] + x[:, 2]
        for rows in (580, 1):
            state = streamed(x[:rows], x[:rows, :2], block=128)
            with pytest.raises(UsageError, match="no full rank in float32"):
                readout.solve(state, 0.0, bias=bias)
            found = readout.solve(state, 0.1, bias=bias)
            assert jnp.isfinite(found.matrix).all()


def test_a_ridge_below_the_rounding_is_raised():
    x = np.random.default_rng(0).normal(size=(580, 12)).astype(np.float32)
    twice = np.hstack([x, x])
    found = readout.solve(streamed(twice, x[:, :2], block=128), 1e-12)
    # Each of two equal features gets half.
    np.testing.assert_allclose(found.matrix[:12], np.eye(12, 2) / 2, atol=0.05)
    np.testing.assert_allclose(
        found.matrix[:12] + found.matrix[12:], np.eye(12, 2), atol=1e-3
    )


def test_inside_jit_bad_rows_are_nan():
    f = jax.jit(lambda x, ridge: readout.solve(streamed(x, Y), ridge))
    assert np.isfinite(f(X, 1.0).matrix).all()
    assert np.isnan(f(holding(X, np.nan), 1.0).matrix).any()
    assert np.isnan(f(X, 0.0).matrix).all()
    nothing = jax.jit(
        lambda ridge: readout.solve(readout.init(D, K, block=16), ridge)
    )(1.0)
    assert np.isnan(nothing.matrix).all()
