"""Tests of rounds of clients: each against a loop by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.core.keys import stream
from jaxedge.data import make_source
from jaxedge.learn import evidential
from jaxedge.recipes import (
    classifier,
    client_data,
    evidence,
    federated,
    optimizers,
    rounds,
    site_scores,
)
from jaxedge.recipes.recipe import ratios

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4, 1, 1)).astype(np.float32)
Y = ((X[:, 0, 0, 0] > 0) + (X[:, 1, 0, 0] > 0)).astype(np.int32)
SPLITS = {
    split: make_source(
        X[rows], Y[rows], classes=tuple("abc"), name="toy", split=split
    )
    for split, rows in (
        ("train", slice(0, 40)),
        ("valid", slice(40, 50)),
        ("test", slice(50, 60)),
    )
}
BATCH = 8


def built(config, changes=()):
    """The recipe of three clients, and the splits dealt out to them."""
    changes = {
        "recipe": "federated",
        "train.batch": BATCH,
        "train.epochs": 4,
        **dict(changes),
    }
    given = federated.parse(config(changes))
    splits, rows = federated.prepare(given, SPLITS)
    recipe = federated.build(given, X[:1], 3, rows // BATCH, None, None, splits)
    return recipe, splits, given


def a_round(recipe, splits, epoch=0, chosen=None):
    (batch,) = recipe.rounds.batches(
        splits["train"], jax.random.key(7), epoch, chosen
    )
    return batch


def inner(config, changes=()):
    """What a client runs, by itself, with the rate of the first round."""
    given = federated.parse(config({"recipe": "federated", **dict(changes)}))
    own = given.inner
    return classifier.build(
        own,
        X[:1],
        3,
        1,
        # So slow a decay that there is none.
        optimiser=lambda rates: optimizers.make(own.optimizer, 10**7, 1, rates),
    )


def flat(tree):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])


def by_hand(config, batch, state, changes=(), mu=0.0):
    """The clients' networks after a round, each by a loop of its own.

    `mu` is that of a proximal term, for SGD without momentum: its gradient
    mu (w - w0) moves a weight by -rate mu (w - w0) more.
    """
    own = inner(config, changes)
    update = jax.jit(own.update)
    rate, start = 0.1, state.base.learned  # As the base of all configs has it.
    found = []
    for c in range(3):
        client = own.init(state.base.key)._replace(learned=start)
        for i in range(int(batch.parts.steps[c])):
            rows = batch.parts.rows[c, i]
            part = data.Batch(
                batch.x[rows], batch.y[rows], batch.parts.weight[c, i]
            )
            before = client.learned
            client, _ = update(client, part)
            pulled = jax.tree.map(
                lambda new, w, w0: new - rate * mu * (w - w0),
                client.learned,
                before,
                start,
            )
            client = client._replace(learned=pulled)
        found.append(client.learned)
    return found


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_round_is_the_mean_of_clients_by_their_examples(config, mode):
    recipe, splits, _ = built(config, {"federated.mode": mode})
    state = recipe.init(jax.random.key(0))
    batch = a_round(recipe, splits)
    after, sums = jax.jit(recipe.update)(state, batch)
    clients = by_hand(config, batch, state)
    share = batch.parts.labelled / batch.parts.labelled.sum()
    want = sum(w * flat(c) for w, c in zip(share, clients, strict=True))
    np.testing.assert_allclose(flat(after.base.learned), want, atol=1e-6)
    assert sums["count"] == 40 and sums["labelled/total"] == 40
    assert sums["clients/total"] == 3 and sums["rejected/total"] == 0
    away = [np.linalg.norm(flat(c) - flat(state.base.learned)) for c in clients]
    np.testing.assert_allclose(sums["drift/total"], np.mean(away), rtol=1e-4)


def test_equal_clients_a_median_and_many_passes(config):
    recipe, splits, _ = built(config, {"federated.strategy": "median"})
    state = recipe.init(jax.random.key(0))
    batch = a_round(recipe, splits)
    after, _ = jax.jit(recipe.update)(state, batch)
    clients = np.stack([flat(c) for c in by_hand(config, batch, state)])
    np.testing.assert_allclose(
        flat(after.base.learned), np.median(clients, 0), atol=1e-6
    )
    more, splits, _ = built(
        config, {"federated.weights": "equal", "federated.local_epochs": 2}
    )
    batch = a_round(more, splits)
    # Each example twice.
    for c in range(3):
        own = np.flatnonzero(splits["train"].aux["site"] == c)
        seen = batch.parts.rows[c][batch.parts.weight[c] > 0]
        np.testing.assert_array_equal(np.sort(seen), np.repeat(own, 2))
    after, _ = jax.jit(more.update)(state, batch)
    clients = np.stack([flat(c) for c in by_hand(config, batch, state)])
    np.testing.assert_allclose(
        flat(after.base.learned), clients.mean(0), atol=1e-6
    )


def test_a_proximal_term_is_a_spring_to_the_server(config):
    changes = {"optimizer.momentum": 0.0}
    prox = {"federated.strategy": "fedprox", "federated.mu": 2.0}
    near, splits, _ = built(config, {**changes, **prox})
    state = near.init(jax.random.key(0))
    batch = a_round(near, splits)
    after, _ = jax.jit(near.update)(state, batch)
    share = batch.parts.labelled / batch.parts.labelled.sum()

    def mean(mu):
        clients = by_hand(config, batch, state, changes, mu)
        return sum(w * flat(c) for w, c in zip(share, clients, strict=True))

    np.testing.assert_allclose(flat(after.base.learned), mean(2.0), atol=1e-6)
    # The second of two steps feels it.
    assert np.abs(mean(0.0) - mean(2.0)).max() > 1e-4


def test_controls_add_up_to_the_servers(config):
    """The mean of the clients' controls is the server's (SCAFFOLD)."""
    recipe, splits, _ = built(
        config, {"federated.strategy": "scaffold", "optimizer.momentum": 0.0}
    )
    state = recipe.init(jax.random.key(0))
    update = jax.jit(recipe.update)
    for epoch in range(2):
        state, _ = update(state, a_round(recipe, splits, epoch))
    own = jax.tree.map(lambda a: a.mean(0), state.fed.clients_C.control)
    server = state.fed.params.control
    np.testing.assert_allclose(
        flat(own["learned"]), flat(server["learned"]), atol=1e-5
    )
    assert np.abs(flat(server["learned"])).max() > 1e-3


def test_the_absent_change_nothing(config):
    recipe, splits, _ = built(config, {"federated.present": 1e-9})
    state = recipe.init(jax.random.key(0))
    after, sums = jax.jit(recipe.update)(state, a_round(recipe, splits))
    np.testing.assert_array_equal(
        flat(after.base.learned), flat(state.base.learned)
    )
    assert sums["clients/total"] == 0 and after.round == 1
    for value in ratios(sums).values():
        assert np.isfinite(value)


def test_a_client_that_diverges_is_left_out(config):
    recipe, splits, _ = built(config)
    state = recipe.init(jax.random.key(0))
    batch = a_round(recipe, splits)
    rows = batch.parts.rows[1, 0]
    x = np.asarray(batch.x).copy()
    x[rows[0]] = np.nan
    broken, sums = jax.jit(recipe.update)(state, batch._replace(x=x))
    clients = by_hand(config, batch, state)
    n = batch.parts.labelled
    want = (n[0] * flat(clients[0]) + n[2] * flat(clients[2])) / (n[0] + n[2])
    np.testing.assert_allclose(flat(broken.base.learned), want, atol=1e-6)
    assert sums["rejected/total"] == 1 and sums["clients/total"] == 2
    assert np.isfinite(sums["loss"])


def test_private_rounds_are_bounded_noisy_and_accounted_for(config):
    changes = {
        "federated.weights": "equal",
        "federated.clip": 0.01,
        "optimizer.momentum": 0.0,
    }
    recipe, splits, _ = built(config, changes)
    state = recipe.init(jax.random.key(0))
    batch = a_round(recipe, splits)
    after, _ = jax.jit(recipe.update)(state, batch)
    move = flat(after.base.learned) - flat(state.base.learned)
    assert np.linalg.norm(move) <= 0.01 * (1 + 1e-4)
    assert "epsilon" not in recipe.summary(after)
    noisy, _, given = built(config, {**changes, "federated.noise": 2.0})
    state = noisy.init(jax.random.key(0))
    other, _ = jax.jit(noisy.update)(state, batch)
    extra = flat(other.base.learned) - flat(after.base.learned)
    # sd = noise clip / clients; n numbers, so within 5 / sqrt(2 n) of it.
    want = 2.0 * 0.01 / 3
    assert abs(extra.std() / want - 1) < 5 / np.sqrt(2 * extra.size)
    # Gaussian mechanism, 4 rounds, all present: Renyi a / (2 s^2) each.
    orders = np.arange(2, 2000)
    cost = 4 * orders / (2 * 2.0**2)
    spent = cost + np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
    epsilon = noisy.summary(other)["epsilon"]
    assert given.federated.delta == 1e-5
    np.testing.assert_allclose(epsilon, spent.min(), rtol=0.02)


def test_rounds_keep_types_do_not_recompile_and_are_their_key(
    config, compilations
):
    changes = {
        "active.method": "feal",
        "active.initial": 4,
        "active.budget": 4,
        "active.every": 2,
        "evidence.loss": "digamma",
    }
    recipe, splits, _ = built(config, changes)
    start = jax.jit(recipe.init)(jax.random.key(0))
    update = jax.jit(recipe.update)
    everything = np.ones(40, bool)
    few = everything.copy()
    few[10:] = False
    state, _ = update(start, a_round(recipe, splits, 0, few))
    kinds = [
        [(a.shape, a.dtype) for a in jax.tree.leaves(tree)]
        for tree in (start, state)
    ]
    assert kinds[0] == kinds[1]
    batch = a_round(recipe, splits, 1, few)
    with compilations() as names:
        again, _ = update(state, batch)
    assert not names
    other, _ = update(jax.jit(recipe.init)(jax.random.key(1)), batch)
    same, _ = update(start, a_round(recipe, splits, 0, few))
    np.testing.assert_array_equal(
        flat(same.base.learned), flat(state.base.learned)
    )
    assert (flat(other.base.learned) != flat(state.base.learned)).any()
    # After a query it begins anew: as the first round but for its key.
    third, _ = update(again, a_round(recipe, splits, 0, few))
    np.testing.assert_allclose(
        flat(third.base.learned), flat(state.base.learned), atol=1e-6
    )
    assert third.round == 3 and third.base.step == 3


def test_the_rate_falls_by_rounds_of_a_query(config):
    """One step of SGD a client, which moves as far as the rate says."""
    changes = {
        "optimizer.decay": "drop",
        "optimizer.momentum": 0.0,
        "train.batch": 40,
        "active.method": "random",
        "active.initial": 2,
        "active.budget": 2,
        "active.every": 4,
    }
    recipe, splits, _ = built(config, changes)
    start = recipe.init(jax.random.key(0))
    batch = a_round(recipe, splits)
    update, moved = jax.jit(recipe.update), []
    for now in (0, 1, 2, 3, 4):
        state = start._replace(round=jnp.int32(now))
        after, _ = update(state, batch)
        moved.append(flat(after.base.learned) - flat(start.base.learned))
    for now, share in enumerate((1, 1, 0.1, 0.1, 1)):
        np.testing.assert_allclose(
            moved[now], share * moved[0], rtol=1e-3, atol=1e-7
        )


# Data of clients.


def test_a_clients_batches_are_its_own(config):
    recipe, splits, _ = built(config)
    train = splits["train"]
    batch = a_round(recipe, splits, 3)
    own = np.flatnonzero(train.aux["site"] == 1)
    alone = client_data.part(
        train.y[own],
        np.ones(len(own), bool),
        jax.random.key(7),
        3,
        client=1,
        batch=BATCH,
        passes=1,
        steps=-(-len(own) // BATCH),
        classes=3,
    )
    steps = int(alone.steps)
    np.testing.assert_array_equal(batch.parts.rows[1][:steps], own[alone.rows])
    share = np.bincount(train.y[own], minlength=3) / len(own)
    np.testing.assert_allclose(alone.share, share, rtol=1e-6)
    # What fills a step up is of that step and weighs nothing.
    last = alone.rows[steps - 1]
    real = alone.weight[steps - 1] > 0
    assert set(last[~real]) <= set(last[real])
    assert alone.weight.sum() == len(own)
    none = client_data.part(
        train.y[own], np.zeros(len(own), bool), jax.random.key(7), 3,
        client=1, batch=BATCH, passes=1, steps=2, classes=3,
    )  # fmt: skip
    assert none.steps == 0 and none.labelled == 0 and not none.share.any()


# What is minimised.


def test_the_loss_is_feals(config):
    given = evidence.Evidence("digamma", kl_weight=0.3, annealing=4.0)
    loss = evidence.make(given)
    logits = jnp.asarray(RNG.normal(size=(6, 3)) * 2, jnp.float32)
    y, share = np.arange(6) % 3, np.float32([0.5, 0.3, 0.2])
    batch = data.Batch(
        X[:6],
        y,
        np.float32([1, 1, 1, 1, 1, 0]),
        {"share": share, "age": jnp.float32(2)},
    )
    want = evidential.feal_loss(
        logits[:5], np.eye(3)[y[:5]], share, 2, kl_weight=0.3, annealing=4.0
    )
    found = loss.objective(logits, batch)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    sums = loss.judge(logits, batch)
    alpha = np.maximum(np.asarray(logits), 0) + 1
    p = alpha / alpha.sum(1, keepdims=True)
    want = -np.log(p[np.arange(5), y[:5]]).sum()
    np.testing.assert_allclose(sums["loss"], want, rtol=1e-5)
    assert evidence.make(evidence.Evidence()) is None


def test_dice_losses_leave_out_what_is_ignored():
    logits = jnp.asarray(RNG.normal(size=(2, 3, 3, 2)), jnp.float32)
    y = RNG.integers(0, 2, (2, 3, 3))
    y[0, 0] = -1
    told = {"share": np.float32([0.5, 0.5]), "age": jnp.float32(1)}
    batch = data.Batch(None, y, np.float32([1, 0]), told)
    one = logits[:1, 1:].reshape(-1, 2), np.eye(2)[y[0, 1:].reshape(-1)]
    given = evidence.Evidence("evidential_dice", "squared", kl_weight=0.001)
    want = evidential.feal_dice_loss(*one, 1, kl_weight=0.001, annealing=10.0)
    found = evidence.make(given).objective(logits, batch)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    plain = evidence.make(evidence.Evidence("soft_dice"))
    np.testing.assert_allclose(
        plain.objective(logits, batch), evidential.soft_dice(*one), rtol=1e-5
    )


# Scores by site.


def test_balanced_accuracy_is_scikit_learns_by_site():
    score = site_scores.make(["x", "y", "z"], 3, False)
    n = 40
    y, site = RNG.integers(0, 3, n), RNG.integers(0, 2, n)  # None at "z".
    y[site == 1] %= 2  # Two classes at "y".
    logits = RNG.normal(size=(n, 3)).astype(np.float32)
    weight = (np.arange(n) < 36).astype(np.float32)
    batch = data.Batch(None, y, weight, {"site": site})
    found = score.measure(
        {"count": jnp.float32(36), **score.sums(logits, batch)}, ratios
    )
    real = weight > 0
    each = [
        np.mean(
            metrics.recall_score(
                y[real & (site == s)],
                logits.argmax(1)[real & (site == s)],
                labels=np.unique(y[real & (site == s)]),
                average=None,
                zero_division=0,
            )
        )
        for s in (0, 1)
    ]
    np.testing.assert_allclose(found["balanced_accuracy/x"], each[0], 1e-6)
    np.testing.assert_allclose(found["balanced_accuracy/y"], each[1], 1e-6)
    np.testing.assert_allclose(found["balanced_accuracy"], np.mean(each), 1e-6)
    assert np.isnan(found["balanced_accuracy/z"])
    np.testing.assert_allclose(
        found["worst_balanced_accuracy"], min(each), 1e-6
    )


def test_dice_of_sites_is_that_of_their_pixels():
    score = site_scores.make(["x", "y"], 3, True)
    y = RNG.integers(-1, 3, (4, 5, 5))
    logits = RNG.normal(size=(4, 5, 5, 3)).astype(np.float32)
    site = np.array([0, 1, 0, 1])
    weight = np.float32([1, 1, 1, 0])
    batch = data.Batch(None, y, weight, {"site": site})
    sums = {"count": jnp.float32(1), **score.sums(logits, batch)}
    found = score.measure(sums, ratios)
    told = logits.argmax(-1)
    for s, name in enumerate("xy"):
        rows = (site == s) & (weight > 0)
        true, said = y[rows], told[rows]
        known = true >= 0
        dice = [
            2 * ((true == k) & (said == k) & known).sum()
            / ((true == k).sum() + ((said == k) & known).sum())
            for k in (1, 2)
        ]  # fmt: skip
        np.testing.assert_allclose(
            found[f"site_dice/{name}"], np.mean(dice), 1e-6
        )


# Configs.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federated.clients": None}, "has no sites"),
        ({"federated.clients": 41}, "clients"),
        ({"federated.strategy": "fed"}, "federated.strategy"),
        ({"federated.recipe": "in_memory"}, "federated.recipe"),
        ({"federated.alpha": 0.0}, "federated.alpha"),
        ({"federated.noise": 1.0}, "federated.clip is None"),
        ({"federated.clip": 1.0}, "use 'equal'"),
        (
            {"federated.strategy": "scaffold"},
            "SGD without momentum",
        ),
        (
            {"federated.strategy": "scaffold", "optimizer.name": "adam"},
            "defined for clients with SGD",
        ),
        ({"optimizer.every": "step"}, "different numbers of steps"),
        ({"optimizer.average": 0.5}, "optimizer.average"),
        ({"active.method": "best"}, "active.method"),
        ({"active.method": "feal"}, "active.initial"),
        ({"active.method": "bald", "active.initial": 2}, "active.budget"),
        (
            {
                "active.method": "random",
                "active.initial": 39,
                "active.budget": 1,
            },
            "may label only",
        ),
        ({"evidence.loss": "brier"}, "evidence.loss"),
        ({"evidence.activation": "tanh"}, "evidence.activation"),
    ],
)
def test_a_bad_config_is_told(config, changes, words):
    with pytest.raises(UsageError, match=words):
        built(config, changes)


def test_a_missing_section_is_named(config):
    given = config({"recipe": "federated"})
    given.pop("active")
    with pytest.raises(UsageError, match="lacks the section 'active'"):
        federated.parse(given)


def test_the_key_of_a_round_differs_from_the_next(config):
    recipe, _, _ = built(config)
    state = recipe.init(jax.random.key(0))
    one = rounds.round_key(state)
    two = rounds.round_key(state._replace(round=state.round + 1))
    assert (jax.random.key_data(one) != jax.random.key_data(two)).any()
    assert jnp.array_equal(
        jax.random.key_data(one),
        jax.random.key_data(stream(state.base.key, "round", 0)),
    )
