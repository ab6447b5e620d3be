import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.learn import masks

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
KEEPS = [0.0, 0.3, 0.5, 0.9, 1.0]
top = jax.jit(masks.top_fraction, static_argnums=1)


def count(n, keep):
    """The reference rule, in numpy's float64."""
    return n - int((np.float64(1) - np.float64(keep)) * np.float64(n))


def reference_top(scores, keep):
    """Top fraction by a stable sort, as the published code does it."""
    # float64 holds every value of the small formats exactly.
    magnitude = np.abs(np.asarray(scores).astype(np.float64)).ravel()
    mask = np.ones(magnitude.size)
    pruned = magnitude.size - count(magnitude.size, keep)
    mask[np.argsort(magnitude, kind="stable")[:pruned]] = 0
    return mask.reshape(np.shape(scores))


def reference_band(old_scores, new_scores, old_mask, limit, keep):
    """The dead-band entry by entry, in float64 and by a quotient."""
    mask = reference_top(new_scores, keep)
    if np.all(old_mask == 1):
        return mask
    for i in np.ndindex(mask.shape):
        old, new = abs(float(old_scores[i])), abs(float(new_scores[i]))
        if old > 0 and abs(new - old) / old < limit:
            mask[i] = old_mask[i]
    return mask


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "n, keep, kept",
    [
        (200, 0.9, 181),  # (1 - .9) * 200 is 19.999999999999996.
        (200, 0.5, 100),
        (200, 0.3, 60),
        (10, 0.0, 0),
        (10, 1.0, 10),
        (7, 0.5, 4),
        (3, 0.01, 1),
        (1, 0.5, 1),
        (0, 0.5, 0),
    ],
)
def test_kept_count_by_hand(n, keep, kept):
    assert masks.kept_count(n, keep) == kept


def test_kept_count_is_the_float64_rule():
    # A float32 product would differ on some of these.
    for n in [*range(1, 300), 576, 1280, 9216, 51200, 62272]:
        for keep in np.linspace(0, 1, 101):
            assert masks.kept_count(n, keep) == count(n, keep)


def test_keep_must_be_a_fraction():
    for keep in (-0.1, 1.1, np.nan, np.inf, "half", None):
        for call in (
            lambda k: masks.kept_count(4, k),
            lambda k: masks.top_fraction(jnp.ones(4), k),
            lambda k: masks.masked(jnp.ones(4), jnp.ones(4), k),
        ):
            with pytest.raises(UsageError, match="keep .the fraction kept"):
                call(keep)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", KEEPS)
def test_top_fraction_matches_a_stable_sort(dtype, keep):
    # Rounded scores tie; the rest do not.
    for scores in (normal(0, 5, 40), np.round(normal(1, 5, 40), 1)):
        scores = jnp.asarray(scores, dtype)
        mask = top(scores, keep)
        assert mask.shape == scores.shape and mask.dtype == dtype
        np.testing.assert_array_equal(
            mask.astype(np.float32), reference_top(scores, keep)
        )
        assert mask.sum(dtype=np.float32) == masks.kept_count(200, keep)


@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.given(data=st.data())
def test_top_fraction_on_ties_zeros_and_denormals(dtype, data):
    limits = jnp.finfo(dtype)
    tiny, denormal = float(limits.tiny), float(limits.smallest_subnormal)
    special = [0.0, denormal, 3 * denormal, tiny, 1.0, 1.5, float(limits.max)]
    entry = st.sampled_from(special) | st.floats(0, 2, width=16)
    signed = st.tuples(entry, st.sampled_from([1, -1]))
    drawn = data.draw(st.lists(signed, min_size=24, max_size=24))
    keep = data.draw(st.sampled_from(KEEPS[1:-1]))
    scores = np.array([a * sign for a, sign in drawn]).astype(dtype)
    np.testing.assert_array_equal(
        top(jnp.asarray(scores), keep).astype(np.float32),
        reference_top(scores, keep),
    )


def test_top_fraction_of_equal_magnitudes_keeps_the_later():
    scores = jnp.array([[1.0, -1.0], [1.0, -1.0]])
    np.testing.assert_array_equal(top(scores, 0.5), [[0, 0], [1, 1]])


@pytest.mark.parametrize("shape", [(3, 3, 64, 16), (400, 128), (1,), (0,)])
def test_top_fraction_of_the_papers_layers(shape):
    scores = normal(2, *shape)
    np.testing.assert_array_equal(
        masks.top_fraction(jnp.asarray(scores), 0.3), reference_top(scores, 0.3)
    )


@pytest.mark.parametrize("keep", [0.0, 0.4, 1.0])
def test_masked_gradients(keep):
    scores, weights, g = (jnp.asarray(normal(i, 6, 7)) for i in range(3))
    scores = scores.at[0, :3].set(0)  # sign(0) = 0, unlike the slope of abs
    y, pull = jax.vjp(lambda s, w: masks.masked(s, w, keep), scores, weights)
    of_scores, of_weights = pull(g)
    mask = reference_top(scores, keep)
    np.testing.assert_array_equal(y, weights * mask)
    # Every score gets a gradient, pruned or kept.
    np.testing.assert_allclose(
        of_scores, np.asarray(g) * weights * np.sign(scores), rtol=1e-6
    )
    np.testing.assert_array_equal(of_weights, g * mask)


def test_custom_gradient_and_stop_gradient_forms_agree():
    keep = 0.4
    scores, weights, g = (jnp.asarray(normal(i, 6, 7)) for i in range(3))

    @jax.custom_vjp
    def straight(magnitude):
        return top(magnitude, keep)

    straight.defvjp(lambda m: (straight(m), None), lambda _, g: (g,))

    def stopped(s):
        magnitude = jnp.abs(s)
        return jax.lax.stop_gradient(top(s, keep) - magnitude) + magnitude

    results = [
        jax.vjp(f, scores, weights)
        for f in (
            lambda s, w: masks.masked(s, w, keep),
            lambda s, w: w * straight(jnp.abs(s)),
            lambda s, w: w * stopped(s),
        )
    ]
    for y, pull in results[1:]:
        # (1 - |s|) + |s| rounds, so the last form is no exact 0 or 1.
        np.testing.assert_allclose(y, results[0][0], rtol=1e-6, atol=1e-6)
        for a, b in zip(pull(g), results[0][1](g), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_attach_is_exactly_the_mask():
    scores = jnp.asarray(normal(0, 50))
    mask = top(scores, 0.5)
    np.testing.assert_array_equal(masks.attach(scores, mask), mask)


def test_scores_must_be_numbers():
    for bad in (np.nan, np.inf):
        with pytest.raises(UsageError, match=r"scores holds 1 NaN.*\(2,\)"):
            masks.top_fraction(jnp.array([1.0, 2, bad, 3]), 0.5)


def test_masked_needs_one_shape():
    with pytest.raises(UsageError, match=r"\(2, 3\).*\(3,\)"):
        masks.masked(jnp.ones((2, 3)), jnp.ones(3), 0.5)


def band_case(seed, old_mask=None):
    """Scores that move by 0 to 20 %, some from or to zero."""
    rng = np.random.default_rng(seed)
    old = normal(seed, 9, 11)
    new = (old * (1 + rng.uniform(-0.2, 0.2, old.shape))).astype(np.float32)
    old[0, :4], new[0, 2:6] = 0, 0
    new[1, :] = old[1, :]
    new[2, :] = -old[2, :]  # the magnitude stays
    if old_mask is None:
        old_mask = rng.integers(0, 2, old.shape)
    return old, new, np.broadcast_to(old_mask, old.shape).astype(np.float32)


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.05, 0.1, 100.0])
@pytest.mark.parametrize("old_mask", [None, 0, 1])
def test_dead_band(limit, old_mask):
    for seed in range(5):
        case = band_case(seed, old_mask)
        mask = masks.dead_band(*map(jnp.asarray, case), limit, 0.3)
        np.testing.assert_array_equal(mask, reference_band(*case, limit, 0.3))


def test_dead_band_holds_what_hardly_moves():
    # Entry 0 leaves the top and entry 3 enters; both moved by 10 %.
    old, new = jnp.array([1.0, 2, 3, 0.95]), jnp.array([0.9, 2, 3, 1.045])
    mask = jnp.array([1.0, 1, 1, 0])
    band = lambda limit: masks.dead_band(old, new, mask, limit, 0.75)  # noqa: E731
    np.testing.assert_array_equal(band(0.0), [0, 1, 1, 1])
    np.testing.assert_array_equal(band(0.05), [0, 1, 1, 1])
    np.testing.assert_array_equal(band(0.11), mask)


def test_dead_band_may_leave_the_exact_count():
    old = jnp.array([1.0, 2, 3, 4])
    new = jnp.array([1.0, 2, 3, 9])
    mask = jnp.array([1.0, 1, 0, 0])
    np.testing.assert_array_equal(
        masks.dead_band(old, new, mask, 0.1, 0.5), [1, 1, 0, 1]
    )


def test_dead_band_limit_must_not_be_negative():
    case = [jnp.asarray(a) for a in band_case(0)]
    for limit in (-0.1, np.nan, "wide"):
        with pytest.raises(UsageError, match="limit"):
            masks.dead_band(*case, limit, 0.5)


def test_arrays_need_one_shape():
    a, b = jnp.ones((2, 3)), jnp.ones(3)
    for arrays in ((a, b, a), (a, a, b), (b, a, a)):
        with pytest.raises(UsageError, match=r"\(3,\).* one shape"):
            masks.dead_band(*arrays, 0.1, 0.5)
    with pytest.raises(UsageError, match=r"old_mask \(2, 3\) and new_mask"):
        masks.flips(a, b)


def test_flips_counts_changed_cells():
    old = jnp.array([[1.0, 0, 1], [0, 0, 1]])
    new = jnp.array([[0.0, 0, 1], [1, 1, 1]])
    assert masks.flips(old, old) == masks.Flips(0, 0)
    assert masks.flips(old, new) == masks.Flips(sets=2, resets=1)
    assert masks.flips(old, 1 - old) == masks.Flips(sets=3, resets=3)
    # bfloat16 itself cannot count beyond 256.
    many = masks.flips(jnp.ones(999, "bfloat16"), jnp.zeros(999, "bfloat16"))
    assert many == masks.Flips(0, 999)


# Functions of (scores, other scores, mask), one row a case of the contract.
CONTRACT = {
    "top_fraction": lambda s, t, m: masks.top_fraction(s, 0.3),
    "attach": lambda s, t, m: masks.attach(s, m),
    "masked": lambda s, t, m: masks.masked(s, t, 0.3),
    "dead_band": lambda s, t, m: masks.dead_band(s, t, m, 0.1, 0.3),
    "flips": lambda s, t, m: jnp.stack(
        masks.flips(m, masks.top_fraction(s, 0.3))
    ),
}


@pytest.fixture(params=CONTRACT)
def function(request):
    return CONTRACT[request.param]


def stacked(first):
    cases = [band_case(seed) for seed in range(first, first + 4)]
    return [np.stack(part) for part in zip(*cases, strict=True)]


def test_contract_jit_is_eager_and_vmap_is_a_loop(function):
    cases = stacked(0)
    # One case whose old mask is all ones, where the band is skipped.
    cases[2][1] = 1
    loop = [function(*one) for one in zip(*cases, strict=True)]
    jitted, batched = jax.jit(function), jax.jit(jax.vmap(function))
    compiled = [jitted(*one) for one in zip(*cases, strict=True)]
    np.testing.assert_array_equal(compiled, loop)
    np.testing.assert_array_equal(batched(*cases), loop)


def test_contract_new_values_do_not_recompile(function, compilations):
    jitted = jax.jit(function)
    first, second = ([part[0] for part in stacked(n)] for n in (0, 7))
    jitted(*first), function(*first)
    with compilations() as names:
        jitted(*second), function(*second)
    assert not names


@pytest.mark.parametrize("dtype", DTYPES)
def test_contract_dtype_is_kept(function, dtype):
    arguments = [part[0].astype(dtype) for part in stacked(0)]
    out = jax.eval_shape(function, *arguments)
    # Two counts, or an array like the scores.
    assert out.dtype == (np.int32 if out.shape == (2,) else dtype)


def test_a_swept_limit_does_not_recompile(compilations):
    case = [jnp.asarray(a) for a in band_case(0)]
    band = jax.jit(lambda limit: masks.dead_band(*case, limit, 0.3))
    band(jnp.float32(0.1))
    with compilations() as names:
        swept = [band(jnp.float32(limit)) for limit in (0.0, 0.05, 0.2)]
    assert not names
    for mask, limit in zip(swept, (0.0, 0.05, 0.2), strict=True):
        np.testing.assert_array_equal(
            mask, reference_band(*band_case(0), np.float32(limit), 0.3)
        )
