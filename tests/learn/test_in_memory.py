"""Learning rules in memory, on cells that a test can follow by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.learn import in_memory
from jaxedge.learn.in_memory import Transfer

STEP = 0.01
X = jnp.array([[1.0, -0.5, 0.2], [0.3, 0.4, -1.0]])
D = jnp.array([[0.2, -0.1], [0.05, 0.3]])
W = jnp.linspace(-0.3, 0.3, 6).reshape(3, 2)


def ideal(step=STEP):
    """Cells that hold what they are given and move by exact steps."""
    return in_memory.Array(
        init=lambda key, w: w,
        weights=lambda cells: cells,
        outer=lambda key, cells, x, d, rate: cells + rate * x.T @ d,
        pulse=lambda key, cells, counts: cells + step * counts,
        step=step,
    )


def leaky(pull):
    """Cells that every update pulls towards a symmetry point of 0.2."""
    exact = ideal()

    def outer(key, cells, x, d, rate):
        moved = exact.outer(key, cells, x, d, rate)
        return moved - pull * (cells - 0.2)

    return exact._replace(outer=outer)


def tiki_taka(version, **fields):
    array = ideal()
    return in_memory.tiki_taka(
        array, array, Transfer(**fields), version=version
    )


RULES = {
    "sgd": lambda: in_memory.sgd(ideal()),
    "v1": lambda: tiki_taka(1, gamma=0.5),
    "v2": lambda: tiki_taka(2, every=2, reads=2),
    "chopped": lambda: tiki_taka(2, chopper=0.5, read_noise=0.01),
    "scaled": lambda: in_memory.scaled(tiki_taka(2), 0.6),
}


def run(rule, steps=5, seed=0):
    key = jax.random.key(seed)
    state, update = rule.init(core.stream(key, "init"), W), jax.jit(rule.update)
    for step in range(steps):
        state = update(core.stream(key, "u", step), state, X, D, 0.1)
    return state


@pytest.mark.parametrize("name", RULES)
def test_a_step_keeps_types_under_every_transformation(name, compilations):
    rule = RULES[name]()
    key = jax.random.key(0)
    other = core.stream(key, "other")
    start = rule.init(key, W)
    # Digital factors, buffers and devices start at the given weights.
    np.testing.assert_allclose(rule.weights(start), W, rtol=1e-6)
    update = jax.jit(rule.update)
    state = update(key, start, X, D, 0.1)
    with compilations() as names:
        again = update(key, start, X, D, 0.1)
        update(other, state, X, D, 0.05)
    assert not names
    many = jax.jit(jax.vmap(rule.update, (0, None, None, None, None)))(
        core.chip_keys(key, 2), start, X, D, 0.1
    )
    # An eager transfer compiles every operation, so only SGD runs eagerly.
    plain = rule.update if name == "sgd" else update
    alone = plain(core.chip_keys(key, 2)[1], start, X, D, 0.1)
    for a, b, c, d in zip(
        *map(jax.tree.leaves, (state, again, many, alone)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == d.dtype and a.shape == d.shape
        np.testing.assert_allclose(c[1], d, rtol=1e-5, atol=1e-6)


def test_ideal_cells_make_sgd():
    found = in_memory.sgd(ideal()).weights(run(in_memory.sgd(ideal())))
    expected = np.asarray(W) - 5 * 0.1 * np.asarray(X).T @ np.asarray(D)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # A digital factor changes nothing that is exact.
    scaled = in_memory.scaled(in_memory.sgd(ideal()), 0.6)
    state = run(scaled)
    np.testing.assert_allclose(scaled.weights(state), expected, rtol=1e-5)
    start = scaled.init(jax.random.key(0), W)
    np.testing.assert_allclose(jnp.abs(start.state.cells).max(), 0.6)


def reference(version, updates, rate, transfer):
    """The documented recursion in numpy float64, without a chopper."""
    x, d, c = (np.asarray(a, np.float64) for a in (X, D, W))
    a, h, turn = np.zeros_like(c), np.zeros_like(c), 0
    for update in range(1, updates + 1):
        a -= transfer.fast_rate * x.T @ d
        if update % transfer.every:
            continue
        for _ in range(transfer.reads):
            given = transfer.rate * rate * a[turn]
            if version == 1:
                c[turn] += given
            else:
                h[turn] += given / STEP
                pulses = np.clip(np.trunc(h[turn] / transfer.threshold), -1, 1)
                c[turn] += pulses * STEP
                kept = (1 - transfer.momentum) * pulses * transfer.threshold
                h[turn] -= kept
            turn = (turn + 1) % 3
    return c + transfer.gamma * a, h


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "fields",
    [
        {"fast_rate": 0.3, "rate": 0.7},
        {"fast_rate": 0.3, "every": 3, "reads": 2, "gamma": 0.4},
        {"fast_rate": 0.1, "threshold": 0.5, "momentum": 0.0, "reads": 3},
    ],
    ids=str,
)
def test_transfers_follow_their_equations(version, fields):
    rule = tiki_taka(version, **fields)
    state = run(rule, 11)
    weights, buffer = reference(version, 11, 0.1, Transfer(**fields))
    np.testing.assert_allclose(rule.weights(state), weights, atol=2e-5)
    np.testing.assert_allclose(state.buffer, buffer, atol=2e-4)
    assert state.updates == 11
    np.testing.assert_array_equal(state.signs, 1)
    # Something did arrive in C.
    assert (np.asarray(state.slow) != np.asarray(W)).any()


def test_a_chopper_changes_no_mean_but_removes_what_cells_hold():
    """With signs the gradient is carried over as without them.

    What A holds of itself (0.2, its symmetry point) is carried with a random
    sign: of 1,500 transfers of 0.2 the sum is near 0 instead of 300.
    """
    x, d = jnp.zeros((1, 3)), jnp.zeros((1, 2))

    def carried(chopper):
        slow = ideal(1.0)
        rule = in_memory.tiki_taka(
            leaky(0.5), slow, Transfer(reads=3, chopper=chopper), version=1
        )
        state = rule.init(jax.random.key(0), jnp.zeros((3, 2)))

        def one(state, step):
            key = core.stream(jax.random.key(1), "u", step)
            return rule.update(key, state, x, d, 1.0), None

        return jax.jit(lambda s: jax.lax.scan(one, s, jnp.arange(1500))[0])(
            state
        ).slow

    biased, chopped = carried(0.0), carried(0.5)
    np.testing.assert_allclose(biased, 300, rtol=0.01)
    # 5 standard errors of a random walk of 1,500 steps of 0.2.
    assert np.abs(chopped).max() < 5 * 0.2 * np.sqrt(1500)
    # The gradient itself is not lost: signs enter twice.
    for chopper in (0.0, 1.0):
        rule = tiki_taka(1, chopper=chopper, reads=3, fast_rate=0.3)
        first = rule.init(jax.random.key(0), W)
        signed = first._replace(signs=jnp.array([1.0, -1.0, -1.0]))
        key = jax.random.key(1)
        update = jax.jit(rule.update)
        a, b = (update(key, s, X, D, 0.1) for s in (first, signed))
        np.testing.assert_allclose(a.slow, b.slow, rtol=1e-6)
        flips = -1 if chopper else 1
        np.testing.assert_array_equal(b.signs, flips * signed.signs)


def test_read_noise_enters_where_it_is_read():
    """n = 40,000 outputs: 5 standard errors of a std are 1.8 %."""
    rule = in_memory.tiki_taka(
        ideal(), ideal(), Transfer(read_noise=0.3, rate=2.0), version=1
    )
    w = jnp.zeros((1, 40_000))
    state = rule.init(jax.random.key(0), w)
    x, d = jnp.zeros((1, 1)), jnp.zeros((1, 40_000))
    moved = rule.update(jax.random.key(1), state, x, d, 0.1)
    np.testing.assert_allclose(moved.slow.std(), 0.06, rtol=0.018)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"every": 0}, ["every is 0"]),
        ({"reads": 1.5}, ["reads", "1.5"]),
        ({"fast_rate": -1.0}, ["fast_rate is -1.0"]),
        ({"threshold": 0.0}, ["threshold is 0.0", "(0"]),
        ({"momentum": 1.1}, ["momentum is 1.1"]),
        ({"chopper": -0.1}, ["chopper is -0.1"]),
        ({"read_noise": np.nan}, ["read_noise is nan"]),
    ],
    ids=str,
)
def test_bad_transfers_are_refused(fields, words):
    with pytest.raises(core.UsageError) as caught:
        tiki_taka(2, **fields)
    for word in words:
        assert word in str(caught.value)


def test_other_versions_do_not_exist():
    make = functools.partial(in_memory.tiki_taka, ideal(), ideal(), Transfer())
    with pytest.raises(core.UsageError, match="unknown version '3'"):
        make(version=3)
