"""Tests of federated learning against loops in numpy, float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import optax
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.learn import federated
from jaxedge.learn.federated import aggregate

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
C = 5
W = RNG.normal(size=(C, 3, 2)).astype(np.float32)
COUNT = np.array([[4, 7], [5, 7], [9, 7], [2, 7], [2, 7]], np.int32)
WEIGHTS = np.array([3.0, 0.0, 1.0, 0.5, 2.0], np.float32)
TAKEN = WEIGHTS > 0
MASKS = np.array([*itertools.product([False, True], repeat=C)])[1:]


def close(found, want, rtol=2e-6, atol=2e-6):
    np.testing.assert_allclose(
        np.float64(found), np.float64(want), rtol=rtol, atol=atol
    )


def mean(x, weights=WEIGHTS):
    """Of what is there: np.average would multiply NaN by 0."""
    there = weights > 0
    return np.average(np.float64(x)[there], 0, weights[there])


# Aggregation.


def test_average_is_the_weighted_mean_of_those_who_are_there():
    w, count = W.copy(), COUNT.copy()
    w[1], count[1] = [[np.nan, np.inf], [-np.inf, 0], [0, 3e38]], 2**31 - 1
    flag = np.array([True, True, False, False, True])
    # The weight of True is 5 of 6.5, then that of False the same.
    tree = {
        "w": w,
        "half": jnp.asarray(w, jnp.bfloat16),
        "count": count,
        "small": count.astype(np.uint8),
        "flags": np.stack([flag, ~flag], 1),
    }
    found = federated.average(tree, WEIGHTS)
    close(found["w"], mean(w))
    half = np.float64(jnp.asarray(w, jnp.bfloat16))
    # bfloat16 keeps 8 bits.
    close(found["half"], mean(half), rtol=2**-8)
    for name in ("count", "small"):
        np.testing.assert_array_equal(found[name], np.rint(mean(COUNT)))
    np.testing.assert_array_equal(found["flags"], [True, False])
    for name, leaf in tree.items():
        assert found[name].dtype == leaf.dtype, name
    as_numbers = jax.tree.map(np.asarray, federated.average(w, TAKEN))
    close(as_numbers, mean(w, TAKEN.astype(float)))
    close(federated.average(w, [6, 0, 2, 1, 4]), mean(w))


def test_average_of_nobody():
    tree, nobody = {"w": W, "n": COUNT}, np.zeros(C)
    bad = {"w": W * np.nan, "n": COUNT}
    for params in (tree, bad):
        found = federated.average(params, nobody)
        assert not np.asarray(found["w"]).any() and not found["n"].any()
    held = {"w": W[0], "n": COUNT[1]}
    found = federated.average(bad, nobody, otherwise=held)
    jax.tree.map(np.testing.assert_array_equal, found, held)


def test_average_takes_weights_and_whole_numbers_of_any_size():
    for size in (1e30, 1e-37):
        weights = np.full(C, size, np.float32)
        close(federated.average(W, weights), W.mean(0, dtype=np.float64))
    # Beyond the whole numbers that float32 knows.
    large = np.array([2**31 - 1, -(2**31), 2**24 + 1], np.int32)
    found = federated.average(np.stack([large] * C), WEIGHTS)
    np.testing.assert_array_equal(found, large)
    near = np.array([2**30 + 1, 2**30 + 2, 2**30 + 6], np.int32)
    assert federated.average(near, np.ones(3)) == 2**30 + 3
    wide = np.array([2**32 - 1, 2**32 - 3], np.uint32)
    assert int(federated.average(wide, np.ones(2))) == 2**32 - 2
    # Half to even.
    assert federated.average(np.array([2, 3]), np.ones(2)) == 2


def test_median_and_trimmed_mean_for_every_choice_of_clients():
    ties = np.round(W, 1)
    tree = {"w": W, "ties": ties, "n": COUNT}

    def run(f):
        return jax.jit(jax.vmap(f, (None, 0)))(tree, MASKS)

    found = run(federated.median)
    trimmed = {
        share: run(functools.partial(federated.trimmed_mean, share=share))
        for share in (0.2, 0.4)
    }
    for i, mask in enumerate(MASKS):
        for name in ("w", "ties"):
            want = np.median(np.float64(tree[name][mask]), 0)
            close(found[name][i], want, rtol=1e-7, atol=1e-7)
        half = np.floor(np.median(COUNT[mask], 0))
        np.testing.assert_array_equal(found["n"][i], half)
        n = mask.sum()
        for share, of_share in trimmed.items():
            cut = int(np.floor(share * n + 1e-9))
            kept = np.sort(np.float64(W[mask]), 0)[cut : n - cut]
            close(of_share["w"][i], kept.mean(0))
            kept = np.sort(COUNT[mask], 0)[cut : n - cut]
            np.testing.assert_array_equal(
                of_share["n"][i], np.rint(kept.mean(0))
            )


def test_medians_do_not_see_absent_clients_or_overflow():
    w = W.copy()
    w[~TAKEN] = np.nan
    close(federated.median(w, WEIGHTS), np.median(np.float64(W[TAKEN]), 0))
    close(federated.trimmed_mean(w, WEIGHTS, 0.0), mean(W, TAKEN * 1.0))
    largest = np.float32([3e38, 3.2e38])
    close(federated.median(largest, np.ones(2)), 3.1e38)
    for f in (federated.median, lambda *a, **k: federated.trimmed_mean(
        *a, 0.25, **k
    )):  # fmt: skip
        assert not np.asarray(f(w * np.nan, 0 * WEIGHTS)).any()
        held = f(w, 0 * WEIGHTS, otherwise=W[0])
        np.testing.assert_array_equal(held, W[0])


def test_the_share_is_cut_as_it_is_written():
    """29 of 100 and 3 of 10, where a product of floats says 28 and 2."""
    assert int(0.29 * 100) == 28
    assert aggregate.cuts(0.29, 100)[100] == 29
    assert aggregate.cuts(0.3, 10).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_transformed_aggregates_are_finite_and_differentiable():
    """With a client that is NaN; the slope of a mean is its share."""
    w = W.copy()
    w[1] = np.nan
    for f, want in (
        (federated.average, WEIGHTS / WEIGHTS.sum()),
        (functools.partial(federated.trimmed_mean, share=0.0), TAKEN / 4),
    ):
        slope = jax.jit(jax.grad(lambda w, f=f: f(w, WEIGHTS).sum()))(w)
        close(slope, np.broadcast_to(want[:, None, None], W.shape))
    slope = jax.jit(jax.grad(lambda w: federated.median(w, WEIGHTS).sum()))(w)
    close(np.asarray(slope).sum(0), np.ones((3, 2)))
    slope = jax.jit(jax.grad(lambda w: federated.norms(w).sum()))(0 * W)
    assert not np.asarray(slope).any()


def test_bad_updates_are_rejected_and_named():
    w, half = W.copy(), np.zeros((C, 4), np.float32)
    w[3, 1, 0], half[0, 2:] = np.nan, np.inf
    tree = {"net": {"w": w}, "bias": jnp.asarray(half, jnp.bfloat16)}
    tree["n"] = COUNT
    found = federated.finite_clients(tree)
    np.testing.assert_array_equal(found, [False, True, True, False, True])
    told = federated.rejected(tree, names=list("abcde"))
    assert told == {
        "a": "bias: 2 NaN or infinite values",
        "d": "net/w: 1 NaN or infinite values",
    }
    weights = [1, 1, 1, 0, 1]
    assert [*federated.rejected(tree, weights)] == ["client 0"]
    with pytest.raises(UsageError, match="5 clients have 1 names"):
        federated.rejected(tree, names=["a"])


def test_norms():
    tree = {"w": W, "b": 2 * W[:, 0], "n": COUNT}
    flat = np.concatenate([W.reshape(C, -1), 2 * W[:, 0]], 1)
    want = np.linalg.norm(np.float64(flat), axis=1)
    close(federated.norms(tree), want)
    # Whose squares are beyond float32.
    for scale in (1e37, 1e30, 1e-30):
        close(federated.norms(np.float32(scale) * flat) / scale, want)
    assert not np.asarray(federated.norms({"n": COUNT})).any()
    bad = np.stack([W[0], W[0] * np.nan, W[0] * np.inf])
    found = np.asarray(federated.norms(bad))
    assert np.isfinite(found[0]) and np.isnan(found[1:]).any()


# Strategies.


class Reference:
    """The server's rules, an entry at a time, in float64."""

    def __init__(self, name, rate=0.1, b1=0.9, b2=0.99, tau=1e-3):
        self.name, self.rate, self.tau = name, rate, tau
        self.b1, self.b2 = b1, b2
        self.m, self.v = 0.0, tau**2

    def __call__(self, x, target):
        d = target - x
        if self.name == "fedavgm":
            self.m = 0.9 * self.m + d
            return x + self.rate * self.m
        self.m = self.b1 * self.m + (1 - self.b1) * d
        if self.name == "fedadam":
            self.v = self.b2 * self.v + (1 - self.b2) * d**2
        elif self.name == "fedyogi":
            self.v = self.v - (1 - self.b2) * d**2 * np.sign(self.v - d**2)
        else:
            self.v = self.v + d**2
        return x + self.rate * self.m / (np.sqrt(self.v) + self.tau)


SERVERS = {
    "fedavgm": federated.fedavgm(0.1),
    "fedadam": federated.fedadam(0.1),
    "fedyogi": federated.fedyogi(0.1),
    "fedadagrad": federated.fedadagrad(0.1, b1=0.9),
}
PLAIN = {
    "fedavg": (federated.fedavg(), mean),
    "fedprox": (federated.fedprox(0.1), mean),
    "fedmedian": (
        federated.fedmedian(),
        lambda x: np.median(np.float64(x)[TAKEN], 0),
    ),
    "fedtrim": (
        federated.fedtrim(0.25),
        lambda x: np.sort(np.float64(x)[TAKEN], 0)[1:-1].mean(0),
    ),
}
EVERY = {**SERVERS, **{name: s for name, (s, _) in PLAIN.items()}}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_follow_their_papers(name):
    """Over rounds with large, small and no updates at all."""
    strategy, reference = SERVERS[name], Reference(name)
    x = np.float64(W[0])
    params = {"w": jnp.asarray(W[0]), "n": jnp.asarray(COUNT[0])}
    state = strategy.init(params)
    step = jax.jit(strategy.update)
    for turn, scale in enumerate((1.0, 1e-3, 0.0, 1.0)):
        sent = np.float32(x[None] + scale * W)
        tree = {"w": sent, "n": COUNT + turn}
        params, state = step(state, params, tree, WEIGHTS)
        x = reference(x, mean(sent))
        close(params["w"], x, rtol=1e-5, atol=1e-5)
        # Counters know no momentum.
        want = np.rint(mean(COUNT + turn))
        np.testing.assert_array_equal(params["n"], want)


@pytest.mark.parametrize("name", PLAIN)
def test_servers_that_only_combine(name):
    strategy, want = PLAIN[name]
    state = strategy.init(W[0])
    found, _ = strategy.update(state, W[0], W, WEIGHTS)
    close(found, want(W))


def test_only_fedprox_has_a_proximal_term():
    assert {n: float(s.mu) for n, s in EVERY.items() if s.mu} == {
        "fedprox": 0.1
    }


@pytest.mark.parametrize("name", EVERY)
def test_strategy_contract(name, compilations):
    """jit = eager, dtypes, nobody there, one program for all numbers."""
    strategy = EVERY[name]
    params = {"w": jnp.asarray(W[0]), "h": jnp.asarray(W[1], jnp.bfloat16)}
    sent = {"w": W, "h": jnp.asarray(W, jnp.bfloat16)}
    first = strategy.init(params)
    step = jax.jit(strategy.update)
    moved = step(first, params, sent, WEIGHTS)
    eager = strategy.update(first, params, sent, WEIGHTS)
    jax.tree.map(functools.partial(close, rtol=1e-5), moved, eager)
    for new, old in zip(
        jax.tree.leaves(moved), jax.tree.leaves((params, first)), strict=True
    ):
        old = jnp.asarray(old)
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
    bad = jax.tree.map(lambda x: x * jnp.nan, sent)
    with compilations() as names:
        kept = step(moved[1], moved[0], bad, 0 * WEIGHTS)
    assert not [n for n in names if "update" in n]
    jax.tree.map(np.testing.assert_array_equal, kept, moved[::1])


def test_rates_are_swept_by_vmap():
    def run(rate):
        strategy = federated.fedadam(rate)
        return strategy.update(strategy.init(W[0]), W[0], W, WEIGHTS)[0]

    rates = np.float32([0.01, 0.1])
    found = jax.jit(jax.vmap(run))(jnp.asarray(rates))
    for rate, params in zip(rates, found, strict=True):
        want = Reference("fedadam", rate)(np.float64(W[0]), mean(W))
        close(params, want, rtol=1e-5, atol=1e-5)


def test_statistics_are_averaged_under_any_server():
    params = {"w": W[0], "stats": {"var": np.abs(W[0])}}
    sent = {"w": W, "stats": {"var": np.abs(W)}}
    strategy = federated.averaging(
        federated.fedadam(0.5), lambda name: name.startswith("stats/")
    )
    found, _ = strategy.update(strategy.init(params), params, sent, WEIGHTS)
    close(found["stats"]["var"], mean(np.abs(W)))
    want = Reference("fedadam", 0.5)(np.float64(W[0]), mean(W))
    close(found["w"], want, rtol=1e-5, atol=1e-5)


# Clients of quadratic losses a/2 |x - b|^2, whose paths are known.

CURVE = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
GOAL = RNG.normal(size=(4, 3)).astype(np.float32)
DATA = {"a": CURVE, "b": GOAL}
RATE, STEPS = 0.1, 5
START = np.float32([1.0, -1.0, 0.5])


def trainer(mu=0.0, noise=0.0):
    """A client of any strategy, as a recipe would write it."""
    optimizer = federated.local(optax.sgd(RATE), mu)

    def train(model, client, data, key):
        params = federated.params_of(model)
        opt = optimizer.init(params)
        opt = federated.begin(opt, model, client["own"])
        draws = jax.random.normal(key, (STEPS, 3))
        for draw in draws:
            gradient = data["a"] * (params - data["b"]) + noise * draw
            updates, opt = optimizer.update(gradient, opt, params)
            params = optax.apply_updates(params, updates)
        sent, own = federated.reply(model, client["own"], params, STEPS, RATE)
        client = {"own": own, "rounds": client["rounds"] + 1}
        return sent, client, {"draw": draws[0]}

    return train


def first_state(strategy, model, n=4):
    own = federated.own_controls(model, n)
    client = {"own": own, "rounds": np.zeros(n, np.int32)}
    return federated.init(strategy, model, client)


def shrunk(x, mu=0.0):
    """After the steps of all clients from x: x* + r^K (x - x*), float64."""
    a, b = np.float64(CURVE)[:, None], np.float64(GOAL)
    goal = (a * b + mu * x) / (a + mu)
    return goal + (1 - RATE * (a + mu)) ** STEPS * (x - goal)


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_a_proximal_term_holds_clients_back(mu):
    """g = a (x - b) + mu (x - x_server) is linear, so its path is known."""
    strategy = federated.fedprox(mu)
    train = trainer(strategy.mu)
    weights = np.float32([1, 2, 0, 1])
    state = first_state(strategy, jnp.asarray(START))
    step = jax.jit(functools.partial(federated.round, train, strategy))
    for _ in range(2):
        want = mean(shrunk(np.float64(state.params), mu), weights)
        state, info = step(state, DATA, weights, jax.random.key(0))
        close(state.params, want)
    assert np.asarray(info.taken_C).tolist() == [True, True, False, True]
    assert np.asarray(state.clients_C["rounds"]).tolist() == [2, 2, 0, 2]


def test_local_is_a_transformation_of_optax():
    x = jnp.asarray(START)
    chained = optax.chain(
        optax.clip(0.5), federated.local(optax.adam(0.1), mu=0.3)
    )
    state = chained.init(x)
    moved, state = chained.update(10 * x, state, 2 * x)
    # The first step of Adam is the sign of what it sees.
    sees = np.clip(10 * START, -0.5, 0.5) + 0.3 * START
    close(moved, -0.1 * np.sign(sees), rtol=1e-4)
    model = federated.Controlled(x, 4 * x)
    local = federated.begin(state[1], model, x)
    jax.tree.map(np.testing.assert_array_equal, local[:2], (x, 3 * x))
    sgd = federated.local(optax.sgd(1.0), mu=0.5)
    state = federated.begin(sgd.init(x), model, x)
    # bfloat16 gradients stay what they are; counters get none.
    moved, _ = sgd.update(x.astype(jnp.bfloat16), state, 3 * x)
    assert moved.dtype == jnp.bfloat16
    close(moved, -(START + 0.5 * 2 * START + 3 * START), rtol=2**-7)
    tree = {"x": x, "n": jnp.zeros((), jnp.int32)}
    gradient = jax.tree.map(jnp.ones_like, tree)
    moved, _ = sgd.update(gradient, sgd.init(tree), tree)
    close(moved["x"], -np.ones(3))
    with pytest.raises(UsageError, match="needs the params"):
        sgd.update(x, state)


def scaffold_in_numpy(masks, n_clients):
    """Algorithm 1 of arXiv:1910.06378, option II, one client at a time."""
    x, c, own = np.float64(START), np.zeros(3), np.zeros((4, 3))
    for mask in masks:
        moves, changes = [], []
        for i in np.flatnonzero(mask):
            y = x.copy()
            for _ in range(STEPS):
                y = y - RATE * (CURVE[i] * (y - GOAL[i]) - own[i] + c)
            new = own[i] - c + (x - y) / (STEPS * RATE)
            moves.append(y - x)
            changes.append(new - own[i])
            own[i] = new
        if moves:
            x = x + np.mean(moves, 0)
            c = c + len(moves) / n_clients * np.mean(changes, 0)
    return x, c, own


ROUNDS = np.array(
    [[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1]], bool
)


def test_scaffold_follows_its_paper():
    """With another number of clients each round, none in one."""
    strategy = federated.scaffold(4)
    step = jax.jit(functools.partial(federated.round, trainer(), strategy))
    state = first_state(strategy, federated.controlled(START))
    for mask in ROUNDS:
        state, _ = step(state, DATA, mask, jax.random.key(0))
    x, c, own = scaffold_in_numpy(ROUNDS, 4)
    close(state.params.params, x, atol=1e-5)
    close(state.params.control, c, atol=1e-5)
    close(state.clients_C["own"], own, atol=1e-5)


def test_scaffold_removes_the_drift_of_fedavg():
    """FedAvg ends where the mean of the clients' moves is 0: elsewhere.

    With r = 1 - rate a a client moves by (1 - r^K) (b - x), so that FedAvg
    ends at the mean of b weighted by 1 - r^K, the optimum by a.
    """
    ends = {}
    for strategy, model in (
        (federated.fedavg(), jnp.asarray(START)),
        (federated.scaffold(4), federated.controlled(START)),
    ):
        step = functools.partial(federated.round, trainer(), strategy)

        def body(state, _, step=step):
            return step(state, DATA, jnp.ones(4), jax.random.key(0))[0], None

        state = first_state(strategy, model)
        run = jax.jit(lambda state, body=body: jax.lax.scan(
            body, state, length=100
        )[0])  # fmt: skip
        ends[type(model)] = federated.params_of(run(state).params)
    a, goal = np.float64(CURVE), np.float64(GOAL)
    drifted = np.average(goal, 0, 1 - (1 - RATE * a) ** STEPS)
    optimum = np.average(goal, 0, a)
    fedavg, scaffold = ends.values()
    close(fedavg, drifted, atol=1e-5)
    close(scaffold, optimum, atol=1e-4)
    assert np.abs(drifted - optimum).max() > 0.05


def test_scaffold_leaves_counters_and_idle_clients_alone():
    tree = {"x": START, "n": np.int32(3)}
    model = federated.controlled(tree)
    own = jax.tree.map(lambda c: c[0] + 1, federated.own_controls(model, 2))
    end = {"x": 0 * START, "n": np.int32(4)}
    sent, new = federated.reply(model, own, end, 0, RATE)
    jax.tree.map(np.testing.assert_array_equal, new, own)
    assert not sent.control["x"].any() and sent.params["n"] == 4
    assert federated.own_controls(START, 2) is None
    strategy = federated.scaffold(1)
    replies = jax.tree.map(lambda x: jnp.asarray(x)[None], sent)
    moved, _ = jax.jit(strategy.update)((), model, replies, np.ones(1))
    assert moved.params["n"] == 4 and moved.params["n"].dtype == jnp.int32
    with pytest.raises(UsageError, match="1 clients take part, but|2 clients"):
        two = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), replies)
        strategy.update((), model, two, np.ones(2))


# Rounds.

NOISY = trainer(noise=0.5)
SERVER = federated.fedadam(0.1)
STEP = jax.jit(
    functools.partial(federated.round, NOISY, SERVER),
    static_argnames=("mode", "block", "mesh"),
)
FIRST = first_state(SERVER, jnp.asarray(START))
SEEN = np.float32([2, 0, 1, 1])
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def usual():
    return STEP(FIRST, DATA, SEEN, KEY)


def same(found, want, chosen=slice(None)):
    """Server, and the clients and infos that are chosen."""
    (state, info), (state_, info_) = found, want
    close_ = functools.partial(close, rtol=1e-5, atol=1e-6)

    def pick(tree):
        return jax.tree.map(lambda x: np.asarray(x)[chosen], tree)

    jax.tree.map(close_, state[:2], state_[:2])
    jax.tree.map(close_, pick((state.clients_C, info)), (
        state_.clients_C, info_
    ))  # fmt: skip


def test_a_full_mask_is_fedavg():
    strategy = federated.fedavg()
    state = first_state(strategy, jnp.asarray(START))
    step = jax.jit(functools.partial(federated.round, trainer(), strategy))
    found, info = step(state, DATA, np.ones(4), KEY)
    ends = shrunk(np.float64(START))
    close(found.params, ends.mean(0))
    close(info.norms_C, np.linalg.norm(ends - START, axis=1))


def test_order_and_number_of_clients_change_nothing(usual):
    """Up to the order of summation; ids go with the clients."""
    order = np.array([2, 0, 3, 1])

    def move(tree):
        return jax.tree.map(lambda x: jnp.asarray(x)[order], tree)

    state = FIRST._replace(clients_C=move(FIRST.clients_C))
    found = STEP(state, move(DATA), SEEN[order], KEY, ids_C=order)
    same(found, usual, np.argsort(order))
    # Two more who are absent, with data that would spoil everything.
    more = jax.tree.map(
        lambda x: jnp.concatenate([x, x[:2] * jnp.nan]),
        jax.tree.map(jnp.asarray, DATA),
    )
    state = first_state(SERVER, jnp.asarray(START), 6)
    found = STEP(state, more, np.append(SEEN, [0, 0]), KEY)
    same(found, usual, slice(4))
    # Fewer clients, of their old ids.
    some = np.array([0, 2, 3])

    def pick(tree):
        return jax.tree.map(lambda x: jnp.asarray(x)[some], tree)

    state = FIRST._replace(clients_C=pick(FIRST.clients_C))
    found = STEP(state, pick(DATA), SEEN[some], KEY, ids_C=some)
    jax.tree.map(close, found[0][:2], usual[0][:2])


def test_keys_of_clients(usual):
    """By id alone, and another for every client and round."""
    draws = np.asarray(usual[1].clients_C["draw"])
    key = federated.client_keys(KEY, [3])[0]
    want = jax.random.normal(key, (STEPS, 3))[0]
    np.testing.assert_array_equal(draws[3], want)
    assert len({*draws.ravel().tolist()}) == 12
    other = federated.client_keys(jax.random.key(8), np.arange(4))
    assert not np.isin(
        jax.random.key_data(other), jax.random.key_data(
            federated.client_keys(KEY, np.arange(4))
        )
    ).all(1).any()  # fmt: skip


@pytest.mark.parametrize("how", [
    dict(mode="map"), dict(mode="map", block=3), "shared", "shared map",
    "sharded",
])  # fmt: skip
def test_ways_to_compute_a_round_agree(how, usual):
    mesh = jax.make_mesh((2,), ("clients",), (AxisType.Auto,))
    args = (FIRST, DATA, SEEN, KEY)
    if how == "sharded":
        split = NamedSharding(mesh, PartitionSpec("clients"))
        clients = jax.device_put(FIRST.clients_C, split)
        data, seen = jax.device_put((DATA, SEEN), split)
        args = (FIRST._replace(clients_C=clients), data, seen, KEY)
        how = {}
    elif how == "shared":
        how = dict(mesh=mesh)
    elif how == "shared map":
        how = dict(mesh=mesh, mode="map", block=2)
    same(STEP(*args, **how), usual)


def test_absent_and_spoilt_clients_keep_their_state(usual):
    state, info = usual
    rounds = np.asarray(state.clients_C["rounds"])
    assert rounds.tolist() == [1, 0, 1, 1]
    spoilt = {"a": CURVE, "b": GOAL.copy()}
    spoilt["b"][0, 1] = np.nan
    found, info = STEP(FIRST, spoilt, SEEN, KEY)
    assert np.asarray(info.finite_C).tolist() == [False, True, True, True]
    assert np.asarray(info.taken_C).tolist() == [False, False, True, True]
    assert np.asarray(found.clients_C["rounds"]).tolist() == [0, 0, 1, 1]
    assert not np.asarray(info.norms_C)[:2].any()
    gone, _ = STEP(FIRST, DATA, SEEN * [0, 1, 1, 1], KEY)
    jax.tree.map(close, found, gone)


@pytest.mark.parametrize("why", ["nobody is there", "all are spoilt"])
def test_without_clients_nothing_moves(why, usual, compilations):
    data = {"a": CURVE * np.float32(np.nan), "b": GOAL}
    before = usual[0]
    seen = SEEN if why == "all are spoilt" else 0 * SEEN
    with compilations() as names:
        after, info = STEP(before, data, seen, KEY)
    assert not [n for n in names if "round" in n]
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert not np.asarray(info.taken_C).any()


def test_a_round_has_slopes():
    """The server's model after the round, by a client's data: its share."""
    strategy = federated.fedavg()
    state = first_state(strategy, jnp.asarray(START))

    def end(goal):
        args = (state, {"a": CURVE, "b": goal}, SEEN, KEY)
        return federated.round(trainer(), strategy, *args)[0].params.sum()

    slope = jax.jit(jax.grad(end))(jnp.asarray(GOAL))
    moved = 1 - (1 - RATE * np.float64(CURVE)) ** STEPS
    want = (SEEN / SEEN.sum() * moved)[:, None] * np.ones(3)
    close(slope, want)


# Bad input.


def bad_round(**changes):
    given = dict(
        local=NOISY, strategy=SERVER, state=FIRST, data_C=DATA, mask_C=SEEN
    )
    return lambda: federated.round(**{**given, "key": KEY, **changes})


def bigger(model, client, data, key):
    del data, key
    return jnp.zeros(4), client, None


def stateless(model, client, data, key):
    del client, data, key
    return model, None, None


BAD = {
    "a client's weight is -1.0": lambda: federated.average(W, -np.ones(C)),
    "a client's weight is nan": lambda: federated.average(
        W, np.full(C, np.nan)
    ),
    "w has 5 clients but weights has 4": lambda: federated.average(
        {"w": W}, np.ones(4)
    ),
    r"shape \(5, 1\), but must be \[C\]": lambda: federated.average(
        W, np.ones((C, 1))
    ),
    "params/n is a single number": lambda: federated.average(
        {"n": np.float32(1)}, np.ones(C)
    ),
    "params/b has 4 clients": lambda: federated.average(
        {"b": W[:4], "w": W}, np.ones(4)
    ),
    "params has 0 clients": lambda: federated.average(W[:0], np.ones(0)),
    "hold no array": lambda: federated.finite_clients({}),
    "dtype complex64": lambda: federated.average(W * 1j, np.ones(C)),
    r"must have \(2,\)": lambda: federated.average(
        W, np.ones(C), otherwise=W[0, 0]
    ),
    "has the structure": lambda: federated.average(
        {"w": W}, np.ones(C), otherwise=W[0]
    ),
    "share is 0.5, but must be below 0.5": lambda: federated.fedtrim(0.5),
    "share is traced": lambda: jax.jit(federated.trimmed_mean)(W, WEIGHTS, 0.1),
    "rate is -1.0": lambda: federated.fedadam(-1.0),
    "tau is 0": lambda: federated.fedyogi(1.0, tau=0),
    "momentum is 2": lambda: federated.fedavgm(momentum=2),
    "mu is -1": lambda: federated.fedprox(-1),
    "n_clients is 0": lambda: federated.scaffold(0),
    "rate is 0": lambda: federated.reply(
        federated.controlled(START), START, START, 1, 0
    ),
    "unknown mode 'pmap'": bad_round(mode="pmap"),
    "block is 0": bad_round(block=0),
    "data/a has 4 clients but .* has 3": bad_round(mask_C=SEEN[:3]),
    "weights has 4 clients but ids has 2": bad_round(ids_C=np.arange(2)),
    "a key must come from": bad_round(key=np.zeros(2, np.uint32)),
    r"what local sends has shape \(4,\) a client": bad_round(local=bigger),
    "client state of local has the structure": bad_round(local=stateless),
    "the mesh has axes of type Explicit": bad_round(
        mesh=jax.make_mesh((2,), ("clients",), (AxisType.Explicit,))
    ),
    "3 clients cannot be shared out equally to 2": bad_round(
        state=FIRST._replace(clients_C=None),
        data_C={"a": CURVE[:3], "b": GOAL[:3]},
        mask_C=SEEN[:3],
        mesh=jax.make_mesh((2,), ("clients",), (AxisType.Auto,)),
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(UsageError, match=message):
        BAD[message]()
