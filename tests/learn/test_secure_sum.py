"""Tests of secure sums against plain ones and of shares against polynomials."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from jaxedge.core.checks import UsageError
from jaxedge.learn.federated import secure_sum, shamir

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(1)
C, N, THRESHOLD = 5, 40, 3
PLAN = secure_sum.plan(C, THRESHOLD, clip=8.0)
VALUES = RNG.uniform(-8, 8, size=(C, N))
KEY = jax.random.key(2)
SECRETS = secure_sum.agree(PLAN, KEY)
SHARES = secure_sum.share(PLAN, SECRETS, KEY)
WORDS = [secure_sum.encode(PLAN, v).words for v in VALUES]
MASKED = [secure_sum.mask(PLAN, SECRETS, u, WORDS[u]) for u in range(C)]
SENT = [
    who
    for n in range(THRESHOLD, C + 1)
    for who in itertools.combinations(range(C), n)
]


def whole_sum(who):
    """Of Python's whole numbers, which have no modulus."""
    limit = 2 ** (PLAN.bits - 1) - 1
    exact = [
        [round(float(v) * limit / PLAN.clip) for v in VALUES[u]] for u in who
    ]
    return [sum(column) % 2**32 for column in zip(*exact, strict=True)]


def answers(holders, sent):
    return {h: secure_sum.reveal(PLAN, SHARES, h, sent) for h in holders}


# Sums.


@pytest.mark.parametrize("sent", SENT)
def test_the_sum_is_exact_whoever_drops_out(sent):
    """Before sending, and again before answering."""
    masked = {u: MASKED[u] for u in sent}
    want = whole_sum(sent)
    for holders in (sent, sent[-THRESHOLD:]):
        found = secure_sum.unmask(PLAN, masked, answers(holders, sent))
        assert found.dtype == np.uint32
        assert found.tolist() == want


def test_a_client_that_sent_nothing_may_still_answer():
    sent, holders = (0, 1, 2), (2, 3, 4)
    masked = {u: MASKED[u] for u in sent}
    found = secure_sum.unmask(PLAN, masked, answers(holders, sent))
    assert found.tolist() == whole_sum(sent)


@pytest.mark.parametrize("seed", range(3))
def test_simulated_sums_of_pytrees(seed):
    """Within the error that the plan promises; exact in the modulus."""
    rng = np.random.default_rng(seed)
    plan = secure_sum.plan(6, 4, clip=2.0, bits=16)
    tree = {"w": rng.uniform(-2, 2, (6, 3, 2)), "b": rng.normal(0, 0.5, (6, 4))}
    tree = jax.tree.map(np.float32, tree)
    sent, answered = np.ones(6, bool), np.ones(6, bool)
    sent[rng.choice(6, 1)] = False
    answered[rng.choice(6, 2, replace=False)] = False
    total = secure_sum.simulate(
        plan, jax.random.key(seed), tree, sent, answered
    )
    for name, leaf in tree.items():
        want = np.float64(leaf)[sent].sum(0)
        error = np.abs(total.values[name] - want).max()
        assert error <= sent.sum() * plan.step / 2 * (1 + 1e-9)
        assert error > plan.step / 100, "nothing was rounded"
    steps = np.concatenate(
        [total.values["b"].ravel(), total.values["w"].ravel()]
    )
    steps = np.rint(steps / plan.step).astype(np.int64).astype(np.uint32)
    np.testing.assert_array_equal(total.words, steps)
    assert total.clipped == 0


def test_below_the_threshold_nothing_is_told():
    few = (1, 4)
    with pytest.raises(secure_sum.TooFewClients, match="2 of 5 clients"):
        answers([1], few)
    revealed = answers((0, 1, 2), (0, 1, 2))
    masked = {u: MASKED[u] for u in (0, 1, 2)}
    del revealed[2]
    with pytest.raises(secure_sum.TooFewClients, match="2 clients have ans"):
        secure_sum.unmask(PLAN, masked, revealed)
    del masked[2]
    with pytest.raises(secure_sum.TooFewClients, match="threshold is 3"):
        secure_sum.unmask(PLAN, masked, answers((0, 1, 2), (0, 1, 2)))
    sent = np.array([True, True, False, False, False])
    with pytest.raises(secure_sum.TooFewClients):
        secure_sum.simulate(PLAN, KEY, VALUES, sent)
    with pytest.raises(secure_sum.TooFewClients):
        secure_sum.simulate(PLAN, KEY, VALUES, answered_C=sent)


def test_both_secrets_of_a_client_are_never_told():
    for told in answers(range(C), (0, 1, 2)).values():
        assert {*told.own} == {0, 1, 2}
        assert {u for u, _ in told.pairs} == {3, 4}
        assert {v for _, v in told.pairs} == {0, 1, 2}


def test_answers_about_other_clients_are_refused():
    """Else the masks of client 3 would stay in the sum unseen."""
    masked = {u: MASKED[u] for u in (0, 1, 2)}
    revealed = answers((0, 1, 2), (0, 1, 2, 3))
    with pytest.raises(UsageError, match="client 0 answered about other"):
        secure_sum.unmask(PLAN, masked, revealed)


def test_a_wrong_share_is_found():
    """With one answer more than are needed."""
    masked = {u: MASKED[u] for u in range(C)}
    revealed = answers(range(4), range(C))
    revealed[1].own[0][...] ^= 1
    try:
        with pytest.raises(UsageError, match="not on the polynomial"):
            secure_sum.unmask(PLAN, masked, revealed)
    finally:
        revealed[1].own[0][...] ^= 1


def test_one_masked_vector_looks_uniform():
    """A chi-square test of n = 40,000 bytes of an all-zero vector.

    255 degrees of freedom; a uniform source passes but for 1e-6 of the keys.
    """
    n = 10_000
    plain = np.zeros(n, np.uint32)
    masked = [secure_sum.mask(PLAN, SECRETS, u, plain) for u in (0, C - 1)]
    limit = stats.chi2.ppf(1 - 1e-6, 255)
    for vector in masked:
        counts = np.bincount(vector.view(np.uint8), minlength=256)
        expected = 4 * n / 256
        assert ((counts - expected) ** 2 / expected).sum() < limit
    # The vector of a clear number does not pass, whatever the key.
    counts = np.bincount(plain.view(np.uint8), minlength=256)
    assert ((counts - expected) ** 2 / expected).sum() > limit
    assert (masked[0] != masked[1]).mean() > 0.99


def test_keys_make_masks():
    """The same key the same, another another."""
    again = secure_sum.agree(PLAN, KEY).seeds_CxC
    np.testing.assert_array_equal(SECRETS.seeds_CxC, again)
    np.testing.assert_array_equal(again, again.swapaxes(0, 1))
    other = secure_sum.agree(PLAN, jax.random.key(3)).seeds_CxC
    assert (other != again).any(-1).all()
    assert len({*map(tuple, again.reshape(-1, 2).tolist())}) == C * (C + 1) / 2


# Rounding.


@pytest.mark.parametrize("bits", [8, 22, 29])
def test_an_entry_is_off_by_half_a_step(bits):
    plan = secure_sum.plan(2, 2, clip=3.0, bits=bits)
    values = np.append(RNG.uniform(-3, 3, 500), [3.0, -3.0, 0.0])
    found = secure_sum.encode(plan, values)
    error = secure_sum.decode(plan, found.words) - values
    assert np.abs(error).max() <= plan.step / 2 * (1 + 1e-9)
    assert np.abs(error).max() > plan.step / 4
    np.testing.assert_allclose(error[-3:], 0, atol=1e-12)
    assert plan.step == 3.0 / (2 ** (bits - 1) - 1)


def test_values_beyond_the_clip_are_never_silent():
    values = np.array([1.0, 8.5, -9.0, np.nextafter(8, 9)])
    with pytest.raises(UsageError, match="3 of 4 values .* 8.0, up to 9"):
        secure_sum.encode(PLAN, values)
    found = secure_sum.encode(PLAN, values, saturate=True)
    assert found.clipped == 3
    np.testing.assert_allclose(
        secure_sum.decode(PLAN, found.words), [1, 8, -8, 8], atol=PLAN.step
    )
    with pytest.raises(UsageError, match="2 values are NaN or infinite"):
        secure_sum.encode(PLAN, [1, np.nan, np.inf], saturate=True)
    large = np.full((C, 2), 9.0)
    total = secure_sum.simulate(PLAN, KEY, large, saturate=True)
    assert total.clipped == 2 * C
    np.testing.assert_allclose(total.values, 8.0 * C)


def test_the_largest_sum_has_room():
    """All clients at the clip, with as many bits as are allowed."""
    plan = secure_sum.plan(4, 3, clip=1.0, bits=30)
    for end in (1.0, -1.0):
        values = np.full((4, 1), end)
        total = secure_sum.simulate(plan, KEY, values)
        np.testing.assert_allclose(total.values, [4 * end], rtol=1e-12)
    with pytest.raises(UsageError, match="4 clients of 31 bits .* most 30"):
        secure_sum.plan(4, 3, clip=1.0, bits=31)
    assert secure_sum.plan(1024, 600, clip=1.0).bits == 22


# Shares.


def polynomial(coefficients, x):
    """In Python's whole numbers."""
    return sum(c * x**i for i, c in enumerate(coefficients)) % shamir.PRIME


def test_shares_are_values_of_a_known_polynomial():
    large = shamir.PRIME - 1
    rows = [[5, 3, 2], [large, large, large], [0, 1, large], [7, 0, 0]]
    points = [0, 1, 2, 10, large]
    found = shamir.polynomial(np.array(rows).T, np.array(points))
    want = [[polynomial(row, x) for row in rows] for x in points]
    assert found.tolist() == want
    # 5 + 3x + 2x^2 at 1, 2, 10 by hand.
    assert found[1:4, 0].tolist() == [10, 19, 235]
    some = shamir.recover(found[[4, 1, 3]], np.array(points)[[4, 1, 3]], 3)
    assert some.tolist() == [row[0] for row in rows]


def test_any_shares_of_the_threshold_recover_the_secret():
    secrets = np.array([0, 1, 65535, shamir.PRIME - 1])
    shares = shamir.share(KEY, secrets, 6, 4)
    for n in (4, 5, 6):
        for who in itertools.combinations(range(6), n):
            points = np.array(who) + 1
            found = shamir.recover(shares[[*who]], points, 4)
            assert found.tolist() == secrets.tolist()


def test_fewer_shares_tell_nothing():
    """Every secret fits two shares of three: a line for each through them."""
    shares = shamir.share(KEY, np.array([12345]), 3, 3)
    for secret in (0, 1, 12345):
        known = np.concatenate([[[secret]], shares[:2]])
        third = shamir.recover(known, np.array([-3, -2, -1]) % shamir.PRIME, 3)
        both = np.concatenate([shares[:2], third[None]])
        assert shamir.recover(both, np.array([1, 2, 3]), 3) == secret
    # n = 20,000 shares of one secret: uniform in 16 bins, 15 degrees of
    # freedom, but for 1e-6 of the keys.
    many = shamir.share(KEY, np.full(20_000, 7), 2, 2)[1]
    counts = np.bincount(many >> 27, minlength=16)
    limit = stats.chi2.ppf(1 - 1e-6, 15)
    assert ((counts - 1250) ** 2 / 1250).sum() < limit


def test_words_are_split_exactly():
    words = np.array([0, 1, 65536, 2**32 - 1, 305419896], np.uint32)
    limbs = shamir.split(words)
    assert limbs.max() < 2**16
    np.testing.assert_array_equal(shamir.join(limbs), words)


# Bad input.

BAD = {
    "clients is 1": lambda: secure_sum.plan(1, 1, clip=1.0),
    "threshold is 2, but must lie in": lambda: secure_sum.plan(5, 2, clip=1.0),
    "threshold is 6": lambda: secure_sum.plan(5, 6, clip=1.0),
    "clip is 0": lambda: secure_sum.plan(5, 3, clip=0),
    "bits is 1": lambda: secure_sum.plan(5, 3, clip=1.0, bits=1),
    "a key must come from": lambda: secure_sum.agree(PLAN, np.zeros(2)),
    "client is 5": lambda: secure_sum.mask(PLAN, SECRETS, 5, WORDS[0]),
    "must be uint32": lambda: secure_sum.mask(PLAN, SECRETS, 0, VALUES[0]),
    "4 clients, but the plan has 5": lambda: secure_sum.simulate(
        PLAN, KEY, VALUES[:4]
    ),
    r"sent has dtype int64 .* bool \[5\]": lambda: secure_sum.simulate(
        PLAN, KEY, VALUES, np.ones(5, np.int64)
    ),
    "n has dtype int32, but only floats": lambda: secure_sum.simulate(
        PLAN, KEY, {"n": np.ones((C, 2), np.int32)}
    ),
    "of one length": lambda: secure_sum.unmask(
        PLAN,
        {0: MASKED[0], 1: MASKED[1], 2: MASKED[2][:3]},
        answers((0, 1, 2), (0, 1, 2)),
    ),
    "threshold is 3, but must lie in .1, 2": lambda: shamir.share(
        KEY, np.array([1]), 2, 3
    ),
    "a secret is -1": lambda: shamir.share(KEY, np.array([-1]), 2, 2),
    "2 distinct ones are needed": lambda: shamir.recover(
        np.ones((2, 1)), np.array([1, 1]), 2
    ),
    "beyond its range": lambda: shamir.join(np.array([[1, 2**16]])),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(UsageError, match=message):
        BAD[message]()
