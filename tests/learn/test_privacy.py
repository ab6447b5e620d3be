"""Tests of clipping and noise, and of the accountant against integrals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxedge.core.checks import UsageError
from jaxedge.learn import federated
from jaxedge.learn.federated import accountant, privacy

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(2)
C = 4
TREE = {
    "w": RNG.normal(size=(C, 3, 2)).astype(np.float32),
    "b": RNG.normal(size=(C, 5)).astype(np.float32),
}
FLAT = np.concatenate([TREE["b"], TREE["w"].reshape(C, -1)], 1)
LENGTH = np.linalg.norm(np.float64(FLAT), axis=1)
LIMIT = float(np.sort(LENGTH)[1:3].mean())  # Two are longer.
KEY = jax.random.key(4)


def flat(tree):
    rows = [np.float64(tree[n]).reshape(C, -1) for n in ("b", "w")]
    return np.concatenate(rows, 1)


# Clipping and noise.


def test_clipping_shortens_what_is_long():
    found = jax.jit(privacy.clip)(TREE, LIMIT)
    np.testing.assert_allclose(found.norms_C, LENGTH, rtol=1e-6)
    short = np.minimum(1, LIMIT / LENGTH)[:, None]
    assert (short < 1).sum() == 2
    np.testing.assert_allclose(flat(found.updates_CxT), FLAT * short, rtol=2e-6)
    kept = LENGTH <= LIMIT
    np.testing.assert_array_equal(
        np.asarray(found.updates_CxT["w"])[kept], TREE["w"][kept]
    )


def test_clipping_bounds_what_is_not_finite():
    bad = jax.tree.map(np.copy, TREE)
    bad["w"][0, 0, 0], bad["b"][1, 2] = np.nan, np.inf
    bad["b"][2] = 1e35
    found = privacy.clip(bad, LIMIT).updates_CxT
    lengths = np.linalg.norm(flat(found), axis=1)
    assert not lengths[:2].any()
    np.testing.assert_allclose(lengths[2], LIMIT, rtol=1e-5)
    # Whose norm is beyond float32, or the inverse of that no normal float.
    for size in (3e38, 1e38):
        bad["b"][3] = size
        lengths = np.linalg.norm(flat(privacy.clip(bad, LIMIT)[0]), axis=1)
        assert (lengths <= LIMIT * (1 + 1e-5)).all()


def test_transformed_clipping_has_slopes_and_keeps_dtypes():
    zero = jnp.zeros((2, 3))
    slope = jax.grad(lambda u: privacy.clip(u, 1.0).updates_CxT.sum())(zero)
    np.testing.assert_array_equal(slope, np.ones((2, 3)))
    half = jnp.asarray(TREE["w"], jnp.bfloat16)
    assert privacy.clip(half, 0.1).updates_CxT.dtype == jnp.bfloat16


def test_noise_is_normal_and_of_the_asked_size():
    """n = 40,000: the std is known to 0.35 %, taken at five sigma."""
    n = 40_000
    found = privacy.add_noise(KEY, {"a": jnp.ones(n), "b": jnp.ones(n)}, 0.3)
    for leaf in found.values():
        noise = np.asarray(leaf) - 1
        assert abs(noise.std() / 0.3 - 1) < 5 / np.sqrt(2 * n)
        assert abs(noise.mean()) < 5 * 0.3 / np.sqrt(n)
    # Streams of leaves are independent, and named: another leaf moves none.
    assert abs(np.corrcoef(found["a"], found["b"])[0, 1]) < 5 / np.sqrt(n)
    alone = privacy.add_noise(KEY, {"b": jnp.ones(n)}, 0.3)
    np.testing.assert_array_equal(alone["b"], found["b"])


def test_private_mean():
    """Without noise the sum over an expected number; else with its std."""
    mask = np.array([True, True, False, True])
    spoilt = jax.tree.map(np.copy, TREE)
    spoilt["w"][2] = np.nan
    how = dict(limit=LIMIT, expected=5.0)
    run = jax.jit(functools.partial(privacy.private_mean, **how))
    short = FLAT * np.minimum(1, LIMIT / LENGTH)[:, None]
    found = run(KEY, spoilt, mask, noise=0.0)
    want = short[mask].sum(0) / 5
    got = np.concatenate([found["b"], np.ravel(found["w"])])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    # n = 2,000 keys of 11 entries: the std to 0.5 %, at five sigma.
    keys = jax.random.split(KEY, 2000)
    many = jax.jit(jax.vmap(lambda k: run(k, spoilt, mask, noise=2.0)))(keys)
    rows = [np.asarray(many[name]).reshape(2000, -1) for name in ("b", "w")]
    noise = np.concatenate(rows, 1) - want
    std = 2.0 * LIMIT / 5
    assert abs(noise.std() / std - 1) < 5 / np.sqrt(2 * noise.size)
    assert np.abs(noise.mean(0)).max() < 5 * std / np.sqrt(2000)


def test_one_client_moves_the_sum_by_at_most_the_limit():
    """The sensitivity that the accountant counts on."""
    how = dict(limit=LIMIT, noise=0.0, expected=1.0)
    huge = jax.tree.map(lambda u: 1e20 * u, TREE)
    mean = jax.jit(functools.partial(privacy.private_mean, **how))
    every = mean(KEY, huge, np.ones(C))
    for i in range(C):
        without = mean(KEY, huge, np.arange(C) != i)
        change = jax.tree.map(lambda a, b: a - b, every, without)
        length = np.sqrt(sum(float((x**2).sum()) for x in change.values()))
        assert length <= LIMIT * (1 + 1e-5)
        assert length > LIMIT * (1 - 1e-5)


def test_private_strategies():
    """The server sees the private mean; every round has its own noise."""
    how = dict(limit=LIMIT, expected=3.0)
    params = jax.tree.map(lambda u: jnp.asarray(u[0]), TREE)
    sent = jax.tree.map(lambda p, u: p[None] + u, params, TREE)
    quiet = privacy.private(federated.fedavg(), KEY, noise=0.0, **how)
    step = jax.jit(quiet.update)
    moved, _ = step(quiet.init(params), params, sent, np.ones(C))
    short = FLAT * np.minimum(1, LIMIT / LENGTH)[:, None]
    change = np.ravel(moved["b"] - params["b"])
    np.testing.assert_allclose(change, short[:, :5].sum(0) / 3, atol=1e-6)
    loud = privacy.private(federated.fedavg(), KEY, noise=1.0, **how)
    step, state = jax.jit(loud.update), loud.init(params)
    # Nobody is there: only the noise moves, which does not repeat.
    first, state = step(state, params, sent, np.zeros(C))
    second, state = step(state, params, sent, np.zeros(C))
    noises = [np.asarray(x["b"] - params["b"]) for x in (first, second)]
    assert np.abs(noises).min() > 0 and not np.allclose(*noises)
    assert int(state.round) == 2
    again, _ = step(loud.init(params), params, sent, np.zeros(C))
    jax.tree.map(np.testing.assert_array_equal, again, first)


# The accountant.


def moment(noise, rate, order, reverse=False):
    """log E[(mixture / base)^order] / (order - 1), by quadrature in float64.

    The trapezoidal rule: smooth integrands that vanish at both ends converge
    faster than any power of the step. The peak lies between 0 and `order`.
    """
    z = np.linspace(-40 * noise, order + 40 * noise, 40_001)
    base, shifted = (stats.norm.logpdf(z, m, noise) for m in (0, 1))
    with np.errstate(divide="ignore"):
        mixed = np.logaddexp(np.log1p(-rate) + base, np.log(rate) + shifted)
    below, above = (mixed, base) if reverse else (base, mixed)
    values = np.exp(below + order * (above - below))
    return np.log(np.trapezoid(values, z)) / (order - 1)


@pytest.mark.parametrize(
    "noise, rate", [(1.0, 0.01), (2.0, 0.2), (0.8, 0.5), (4.0, 0.9), (1.5, 1.0)]
)
def test_costs_are_integrals(noise, rate):
    orders = (2, 3, 8, 20)
    found = accountant.renyi(noise, rate, orders=orders)
    want = [moment(noise, rate, a) for a in orders]
    np.testing.assert_allclose(found, want, rtol=1e-8)
    # Removing a client costs no more than adding one.
    for cost, order in zip(found, orders, strict=True):
        if rate < 1:
            assert moment(noise, rate, order, reverse=True) <= cost * (1 + 1e-9)


def test_costs_at_their_limits():
    orders = np.array(accountant.ORDERS)
    np.testing.assert_allclose(accountant.renyi(3.0), orders / 18)
    assert not accountant.renyi(1.0, 0.0, 100).any()
    # Almost all of the time is all of the time.
    np.testing.assert_allclose(
        accountant.renyi(2.0, 1 - 1e-13), accountant.renyi(2.0), rtol=1e-9
    )
    # Small chances cost about order rate^2 (exp(1/noise^2) - 1) / 2.
    small = accountant.renyi(1.0, 1e-6, orders=(2,))[0]
    np.testing.assert_allclose(small, 1e-12 * np.expm1(1.0), rtol=1e-3)
    assert np.isfinite(accountant.renyi(0.3, 0.5)).all()
    one = accountant.renyi(1.1, 0.1)
    np.testing.assert_allclose(accountant.renyi(1.1, 0.1, 7), 7 * one)
    costs = accountant.renyi(1.1, 0.1), accountant.renyi(1.1, 0.2)
    assert (costs[0] < costs[1]).all()


def test_the_conversion_is_the_least_of_its_kind():
    """delta = cost-free factor times the largest ratio, found numerically.

    Where E[exp((a-1) L)] <= exp((a-1) r), delta(eps) is at most the largest
    (1 - exp(-t)) exp(-(a-1) t) over t = L - eps times exp((a-1)(r - eps)).
    """
    for order, cost, delta in (
        (2, 0.5, 1e-5),
        (16, 0.1, 1e-6),
        (64, 1.0, 1e-3),
    ):
        ratio = optimize.minimize_scalar(
            lambda t, a=order: np.expm1(-t) * np.exp(-(a - 1) * t),
            (0, 1 / order),
            tol=1e-12,
        )
        want = cost + np.log(-ratio.fun / delta) / (order - 1)
        found = accountant.spent([cost], delta, (order,))
        np.testing.assert_allclose(found.epsilon, want, rtol=1e-7)
        assert found.order == order


def exact_epsilon(noise, delta):
    """Of the Gaussian mechanism (Balle & Wang 2018, arXiv:1805.06530)."""

    def excess(eps):
        up = stats.norm.cdf(0.5 / noise - eps * noise)
        down = stats.norm.logcdf(-0.5 / noise - eps * noise)
        return up - np.exp(eps + down) - delta

    return optimize.brentq(excess, 0, 200)


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0, 20.0])
def test_guarantees_hold_and_are_close_to_the_exact_ones(noise):
    found = accountant.spent(accountant.renyi(noise), 1e-5).epsilon
    exact = exact_epsilon(noise, 1e-5)
    assert exact <= found <= 1.3 * exact


# Epsilon of dp-accounting 0.6.0 at orders 2 to 256: RDP, and the tighter PLD.
PEER = {
    (0.01, 1.0, 1000, 1e-5): (2.1077530754515745, 1.8282436455855091),
    (0.1, 1.0, 100, 1e-5): (7.972921510380539, 7.04660287720805),
    (1.0, 2.0, 50, 1e-6): (24.70298402653992, 22.424515923505666),
    (0.02, 0.8, 500, 1e-5): (5.397018914477776, 4.668013366346702),
    (0.3, 4.0, 10, 1e-7): (1.393670762746968, 1.2862596235791917),
}


@pytest.mark.parametrize("case", PEER)
def test_guarantees_of_a_peer(case):
    rate, noise, rounds, delta = case
    renyi, exact = PEER[case]
    orders = range(2, 257)
    cost = accountant.renyi(noise, rate, rounds, orders)
    found = accountant.spent(cost, delta, orders).epsilon
    np.testing.assert_allclose(found, renyi, rtol=1e-9)
    assert found > exact


def test_guarantees_of_the_installed_peer():
    """In other places than the table; where the package is installed."""
    peer = pytest.importorskip("dp_accounting")
    rdp = pytest.importorskip("dp_accounting.rdp")
    for rate, noise, rounds in ((0.05, 1.3, 300), (0.5, 6.0, 40)):
        event = peer.SelfComposedDpEvent(
            peer.PoissonSampledDpEvent(rate, peer.GaussianDpEvent(noise)),
            rounds,
        )
        other = rdp.RdpAccountant([*accountant.ORDERS])
        other.compose(event)
        cost = accountant.renyi(noise, rate, rounds)
        found = accountant.spent(cost, 1e-5).epsilon
        np.testing.assert_allclose(found, other.get_epsilon(1e-5), rtol=1e-9)


def test_the_noise_for_a_guarantee():
    for epsilon, rate, rounds in ((1.0, 0.05, 200), (8.0, 1.0, 10)):
        noise = accountant.noise_for(epsilon, 1e-5, rate, rounds)
        cost = accountant.renyi(noise, rate, rounds)
        found = accountant.spent(cost, 1e-5).epsilon
        assert 0.9999 * epsilon < found <= epsilon
        less = accountant.renyi(0.999 * noise, rate, rounds)
        assert accountant.spent(less, 1e-5).epsilon > epsilon


# Bad input.

ONE = np.ones((2, 3), np.float32)
MEAN = functools.partial(privacy.private_mean, KEY, ONE)
BAD = {
    "limit is 0": lambda: privacy.clip(ONE, 0),
    "n has dtype int32, which noise": lambda: privacy.clip(
        {"n": np.ones((2, 3), np.int32)}, 1.0
    ),
    "std is -1": lambda: privacy.add_noise(KEY, ONE, -1),
    "a key must come from": lambda: privacy.add_noise(np.zeros(2), ONE, 1.0),
    "noise is -1": lambda: MEAN(np.ones(2), limit=1, noise=-1, expected=1),
    "expected is 0": lambda: MEAN(np.ones(2), limit=1, noise=1, expected=0),
    "weights has 3": lambda: MEAN(np.ones(3), limit=1, noise=1, expected=1),
    "the array has dtype int32": lambda: privacy.private(
        federated.fedavg(), KEY, limit=1, noise=1, expected=1
    ).init(np.ones(3, np.int32)),
    r"noise is 0, but must lie in \(0": lambda: accountant.renyi(0),
    "rate is 1.5": lambda: accountant.renyi(1.0, 1.5),
    "rounds is -1": lambda: accountant.renyi(1.0, 0.5, -1),
    "an order is 1": lambda: accountant.renyi(1.0, orders=(1, 2)),
    "delta is 0": lambda: accountant.spent(accountant.renyi(1.0), 0),
    r"the cost has shape \(2,\), but": lambda: accountant.spent([1, 2], 0.1),
    "epsilon is 0": lambda: accountant.noise_for(0, 1e-5),
    "no noise up to": lambda: accountant.noise_for(1e-6, 1e-9),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(UsageError, match=message):
        BAD[message]()
