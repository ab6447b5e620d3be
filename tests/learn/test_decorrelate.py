"""De-correlation beside numpy's float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.learn import decorrelate

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, F, G = 25, 7, 4
RNG = np.random.default_rng(0)
DEEP = (3 + RNG.normal(size=(B, F)) * np.logspace(-2, 2, F)).astype("f4")
# Repeats some of the deep features, so that the loss is not small.
RADIOMIC = (DEEP[:, :G] + RNG.normal(size=(B, G))).astype("f4")
AGES = RNG.permutation(B)
VALID = RNG.uniform(size=B) < 0.5
VALID[AGES == 0] = True
STATIC = ("squared", "standardise_radiomic", "standardise_deep")
loss = jax.jit(decorrelate.loss, static_argnames=STATIC)


def standard(x):
    return (x - x.mean(0)) / (x.std(0, ddof=1) + 1e-7)


def by_hand(deep, radiomic, ages, decay=0.99, **how):
    """The formulas of ridl 4 in their order."""
    deep, radiomic = np.float64(deep), np.float64(radiomic)
    if how.get("standardise_deep", True):
        deep = standard(deep)
    if how.get("standardise_radiomic", False):
        radiomic = standard(radiomic)
    w = decay ** np.float64(ages)
    c = (w[:, None] * deep).T @ radiomic / len(w)
    c = c**2 if how.get("squared", False) else np.abs(c)
    return c.mean() * len(w) / w.sum()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"decay": 0.8},
        {"decay": 1.0},
        {"squared": True},
        {"standardise_radiomic": True},
        {"standardise_deep": False, "squared": True, "decay": 0.5},
    ],
)
@pytest.mark.parametrize("valid", [None, VALID])
def test_the_formula(how, valid):
    found = loss(DEEP, RADIOMIC, AGES, valid_B=valid, **how)
    rows = slice(None) if valid is None else valid
    want = by_hand(DEEP[rows], RADIOMIC[rows], AGES[rows], **how)
    np.testing.assert_allclose(found, want, rtol=2e-5)
    assert found.dtype == jnp.float32 and found.shape == ()


def test_a_copy_has_the_mean_square_and_a_stranger_nothing():
    """Columns of +-1 that are orthogonal, with a decay of 1."""
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    ages = np.arange(4)
    # The deviation of +-1 with 3 below is sqrt(4 / 3).
    same = decorrelate.loss(signs[:, :1], signs[:, :1], ages, decay=1.0)
    np.testing.assert_allclose(same, np.sqrt(3 / 4), rtol=1e-6)
    other = decorrelate.loss(signs[:, :1], signs[:, 1:], ages, decay=1.0)
    assert other == 0


def test_the_gradient_is_that_of_the_newest_row():
    """Of |C|, in closed form: sign(C) G w / sd, the statistics held still."""
    slopes = jax.jit(jax.grad(decorrelate.loss, (0, 1)))
    deep_slope, radiomic_slope = slopes(DEEP, RADIOMIC, AGES)
    new, w = AGES == 0, 0.99 ** np.float64(AGES)
    deep, radiomic = np.float64(DEEP), np.float64(RADIOMIC)
    c = (w[:, None] * standard(deep)).T @ radiomic
    share = np.sign(c) / (F * G * w.sum())
    want = share @ radiomic[new][0] / (deep.std(0, ddof=1) + 1e-7)
    np.testing.assert_allclose(deep_slope[new][0], want, rtol=1e-4)
    want = share.T @ standard(deep)[new][0]
    np.testing.assert_allclose(radiomic_slope[new][0], want, rtol=1e-4)
    assert not np.asarray(deep_slope)[~new].any()
    assert not np.asarray(radiomic_slope)[~new].any()


def test_a_bank_is_first_in_first_out():
    bank, push = decorrelate.empty(5, 2, 1), jax.jit(decorrelate.push)
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert not bank.filled_B.any()
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 7)):
        bank = push(bank, rows[start:stop], rows[start:stop, :1] + 100)
        if stop == 3:
            assert bank.ages_B[:3].tolist() == [0, 0, 1]
            assert bank.filled_B.tolist() == [True] * 3 + [False] * 2
    order = [4, 5, 6, 3, 1]  # Of those before, the newest two pushes stay.
    np.testing.assert_array_equal(bank.deep_BxF, rows[order])
    np.testing.assert_array_equal(bank.radiomic_BxG, rows[order, :1] + 100)
    assert bank.ages_B.tolist() == [0, 0, 0, 1, 2] and bank.filled_B.all()
    half = decorrelate.empty(5, 2, 1, jnp.bfloat16)
    assert push(half, rows[:1], rows[:1, :1]).deep_BxF.dtype == jnp.bfloat16


def test_a_bank_that_fills_up_under_jit(compilations):
    """As in a training: the loss of 0, 1, 2, ... examples, and its slope."""

    @jax.jit
    def step(bank, deep, radiomic):
        def value(deep):
            new = decorrelate.push(bank, deep, radiomic)
            cost = decorrelate.loss(*new[:3], valid_B=new.filled_B)
            return cost, new

        (cost, new), slope = jax.value_and_grad(value, has_aux=True)(deep)
        return cost, slope, new

    bank = decorrelate.empty(4, F, G)
    nothing = jax.jit(decorrelate.loss)(*bank[:3], valid_B=bank.filled_B)
    assert nothing == 0
    cost, slope, bank = step(bank, DEEP[:1], RADIOMIC[:1])
    # One example has no deviation.
    assert cost == 0 and not slope.any()
    with compilations() as names:
        for i in range(1, 8):
            cost, slope, bank = step(bank, DEEP[i : i + 1], RADIOMIC[i : i + 1])
            rows = np.arange(i, max(i - 4, -1), -1)
            want = by_hand(DEEP[rows], RADIOMIC[rows], np.arange(len(rows)))
            np.testing.assert_allclose(cost, want, rtol=2e-5)
            assert np.isfinite(slope).all() and slope.any()
    assert not names


def test_rows_that_do_not_count_may_hold_anything():
    deep = np.where(VALID[:, None], DEEP, np.nan)

    @jax.jit
    def both(deep):
        def value(deep):
            return decorrelate.loss(deep, RADIOMIC, AGES, valid_B=VALID)

        return jax.value_and_grad(value)(deep)

    found, slope = both(deep)
    want = by_hand(DEEP[VALID], RADIOMIC[VALID], AGES[VALID])
    np.testing.assert_allclose(found, want, rtol=2e-5)
    assert np.isfinite(slope).all()


def test_banks_are_mapped_and_half_precision_is_summed_in_float32():
    deep = jnp.asarray(np.stack([DEEP, DEEP[::-1]]), jnp.bfloat16)
    mapped = jax.jit(jax.vmap(decorrelate.loss, (0, None, None)))
    found = mapped(deep, RADIOMIC, AGES)
    want = [by_hand(np.float64(d), RADIOMIC, AGES) for d in deep]
    np.testing.assert_allclose(found, want, rtol=2e-5)
    assert found.dtype == jnp.float32


def test_correlation_is_numpys():
    found = jax.jit(decorrelate.correlation)(DEEP, RADIOMIC)
    want = np.corrcoef(np.float64(DEEP), np.float64(RADIOMIC), False)[:F, F:]
    np.testing.assert_allclose(found, want, atol=1e-6)
    mean = decorrelate.mean_absolute_correlation(DEEP, RADIOMIC)
    np.testing.assert_allclose(mean, np.abs(want).mean(), rtol=1e-5)


def test_correlation_of_constants_and_of_extremes():
    deep = np.stack(
        [np.full(B, 0.1), 1e30 * DEEP[:, 0], 1e-30 * DEEP[:, 0], DEEP[:, 0]], 1
    ).astype("f4")
    # Far from 0, to the resolution of float32 there.
    radiomic = np.stack([np.full(B, 1e7), -DEEP[:, 0]], 1).astype("f4")
    found, slope = jax.jit(
        lambda x: (
            decorrelate.correlation(x, radiomic),
            jax.grad(decorrelate.mean_absolute_correlation)(x, radiomic),
        )
    )(deep)
    want = [[0, 0], [0, -1], [0, -1], [0, -1]]
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert np.isfinite(slope).all()
    assert np.abs(found).max() <= 1


ROWS = dict(bank_deep_BxF=DEEP, bank_radiomic_BxG=RADIOMIC, ages_B=AGES)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"bank_deep_BxF": DEEP[0]}, r"bank_deep_BxF is float32 of shape \(7"),
        ({"bank_deep_BxF": DEEP[:1]}, "has 1 row, but a deviation needs 2"),
        ({"bank_radiomic_BxG": RADIOMIC[:9]}, "has 25 and .* has 9 rows"),
        ({"bank_radiomic_BxG": RADIOMIC[:, :0]}, r"shape \(25, 0\)"),
        ({"bank_deep_BxF": DEEP * np.nan}, "bank_deep_BxF holds 175 NaN"),
        ({"ages_B": AGES[:9]}, r"ages_B has shape \(9,\)"),
        ({"ages_B": AGES - 1}, "ages_B is -1"),
        ({"ages_B": AGES + 1}, "no valid row of age 0"),
        ({"valid_B": VALID & (AGES > 0)}, "no valid row of age 0"),
        ({"valid_B": VALID.astype(int)}, "valid_B has dtype int"),
        ({"decay": 0.0}, r"decay is 0.0, but must lie in \(0, 1\]"),
        ({"decay": 1.1}, "decay is 1.1"),
        ({"decay": np.ones(2)}, r"decay has shape \(2,\)"),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises(UsageError, match=message) as error:
        decorrelate.loss(**{**ROWS, **changed})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: decorrelate.empty(1, 2, 3), "rows is 1"),
        (lambda: decorrelate.empty(2, 0, 3), "deep is 0"),
        (lambda: decorrelate.empty(2, 2, 0.5), "radiomic must be a whole"),
        (lambda: decorrelate.correlation(DEEP[:1], RADIOMIC[:1]), "1 row"),
        (lambda: decorrelate.correlation(DEEP, RADIOMIC[1:]), "25 and .* 24"),
    ],
)
def test_other_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize(
    "deep, radiomic, name",
    [
        ((3, F), (2, G), "radiomic_NxG"),
        ((B + 1, F), (B + 1, G), "deep_NxF"),
        ((0, F), (0, G), "deep_NxF"),
        ((3, F + 1), (3, G), "deep_NxF"),
        ((F,), (G,), "deep_NxF"),
    ],
)
def test_rows_that_do_not_fit_into_the_bank(deep, radiomic, name):
    bank = decorrelate.empty(B, F, G)
    with pytest.raises(UsageError, match=f"{name} has shape.*1 to 25 rows"):
        decorrelate.push(bank, np.zeros(deep), np.zeros(radiomic))
