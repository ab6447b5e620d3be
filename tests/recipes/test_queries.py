"""Tests of what clients have annotated: budgets, independence, methods."""

import jax
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.core.keys import stream
from jaxedge.data import make_source
from jaxedge.learn import active, evidential
from jaxedge.recipes import evidence, federated, queries, settings

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
N = 48
X = RNG.normal(size=(N, 4, 1, 1)).astype(np.float32)
Y = np.arange(N) % 3
SPLITS = {
    split: make_source(X, Y, classes=tuple("abc"), name="toy", split=split)
    for split in ("train", "valid", "test")
}
ASKS = {"active.initial": 3, "active.budget": 4, "active.every": 2}


@pytest.fixture(scope="module")
def asked(config):
    """A function from a method to (recipe, splits, state), one network."""

    def make(method, **changes):
        given = federated.parse(
            config(
                {
                    "recipe": "federated",
                    "train.epochs": 8,
                    "train.batch": 8,
                    "active.method": method,
                    **ASKS,
                    **changes,
                }
            )
        )
        splits, rows = federated.prepare(given, SPLITS)
        recipe = federated.build(given, X[:1], 3, rows // 8, None, None, splits)
        state = recipe.init(jax.random.key(0))
        # Clients that learned something of their own.
        learned = jax.tree.map(
            lambda a: a + 0.3 * RNG.normal(size=a.shape).astype(np.float32),
            state.own["learned"],
        )
        own = {**state.own, "learned": learned}
        return recipe, splits["train"], state._replace(own=own)

    return make


def follow(recipe, source, state, turns, key=3):
    memory = recipe.subset.init(source)
    seen = []
    for turn in range(turns):
        memory = recipe.subset.choose(
            state,
            memory,
            source,
            2 * turn,
            stream(jax.random.key(key), "q", turn),
        )
        seen.append(memory)
    return seen


METHODS = sorted(set(active.METHODS) - {"bald"})


@pytest.mark.parametrize("method", METHODS)
def test_every_client_has_its_budget_and_keeps_what_it_has(asked, method):
    recipe, source, state = asked(method)
    first, second, third = follow(recipe, source, state, 3)
    for c in range(3):
        own = source.aux["site"] == c
        for turn, memory in enumerate((first, second, third)):
            assert memory["rows"][own].sum() == 3 + 4 * turn
            new = 4 if turn else 3
            assert (memory["query"][own] == turn).sum() == new
    assert (second["rows"] | first["rows"] == second["rows"]).all()
    again = follow(recipe, source, state, 3)[-1]
    np.testing.assert_array_equal(third["rows"], again["rows"])
    looks = 2 if method in ("feal", "logo", "kafal") else 1
    if method == "random":
        looks = 0
    if method == "core_set":  # It looks at what is labelled too.
        assert second["read"] == N
    else:
        assert second["read"] == looks * (N - 9)


def test_a_client_ends_at_its_cap(asked):
    recipe, source, state = asked("entropy", **{"active.most": 0.3})
    last = follow(recipe, source, state, 5)[-1]
    for c in range(3):
        own = source.aux["site"] == c
        assert last["rows"][own].sum() == np.ceil(0.3 * own.sum())


def test_feals_choice_is_that_of_its_parts(asked):
    recipe, source, state = asked("feal")
    first, second = follow(recipe, source, state, 2)
    c = 1
    own = np.flatnonzero(source.aux["site"] == c)
    pool = own[~first["rows"][own]]
    learned = state.base.learned
    local = jax.tree.map(lambda a: a[c], state.own)["learned"]

    def logits(params):
        first, second = (params[f"Dense_{i}"]["kernel"] for i in (0, 1))
        h = np.maximum(X[pool, :, 0, 0] @ first, 0)
        return h, h @ second

    (_, of_server), (features, of_client) = logits(learned), logits(local)
    scores = active.calibrated_evidential(
        evidential.alpha(of_server), evidential.alpha(of_client)
    )
    want = pool[active.relax(scores, features, 4)]
    chosen = np.flatnonzero(second["query"] == 1)
    np.testing.assert_array_equal(np.sort(want), chosen[np.isin(chosen, own)])
    np.testing.assert_allclose(second["score"][pool], scores, rtol=1e-4)
    assert np.isnan(second["score"][first["rows"]]).all()


def test_a_client_asks_alone(asked):
    """What it is told to label does not depend on the others' examples."""
    recipe, source, state = asked("badge")
    first, second = follow(recipe, source, state, 2)
    own = np.flatnonzero(source.aux["site"] == 2)
    given = queries.Active("badge", 3, 4, 2)
    ask = queries.asker(given, recipe, 3, source, evidence.Evidence())
    variables = recipe.finish(state)
    key = stream(jax.random.key(3), "q", 1)
    found = ask(
        source.rows(own),
        first["rows"][own],
        2,
        stream(key, "client", 2),
        variables,
        None,
    )
    chosen = np.flatnonzero(second["query"] == 1)
    np.testing.assert_array_equal(
        np.sort(own[found.picked]), chosen[np.isin(chosen, own)]
    )
    assert found.read == len(own) - 3


@pytest.mark.parametrize("method", ["feal", "entropy", "margin", "random"])
def test_labels_by_position_are_asked_by_means(config, method):
    """The images that are least sure on average, by hand."""
    x = RNG.normal(size=(12, 6, 6, 1)).astype(np.float32)
    y = RNG.integers(0, 2, (12, 6, 6))
    source = make_source(x, y, classes=("a", "b"), name="t", split="train")
    given = queries.Active(method, 2, 3, 1)
    w = RNG.normal(size=(1, 2)).astype(np.float32)

    class Inner:
        @staticmethod
        def forward(variables, x):
            return hardware.dot(x, variables["params"]["w"])

    ask = queries.asker(given, Inner, 2, source, evidence.Evidence())
    labelled = np.zeros(12, bool)
    labelled[:2] = True
    server, own = ({"params": {"w": a}} for a in (w, 2 * w))
    found = ask(source, labelled, 1, jax.random.key(0), server, own)
    assert len(found.picked) == 3 and not labelled[found.picked].any()
    if method != "entropy":
        return
    logits = x[2:] @ w
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(-1).mean((1, 2))
    np.testing.assert_array_equal(found.picked, 2 + np.argsort(-entropy)[:3])
    np.testing.assert_allclose(found.score[2:], entropy, rtol=1e-4)


def test_other_methods_need_one_label_an_example(config):
    source = make_source(
        X, np.zeros((N, 4, 1), int), classes=("a", "b"), name="t", split="train"
    )
    given = settings.unpack(
        queries.Active, {"method": "badge", "initial": 1, "budget": 1}, "active"
    )
    with pytest.raises(UsageError, match="has a label a position"):
        queries.asker(given, None, 2, source, evidence.Evidence())


def test_evidence_is_asked_for_its_expected_probabilities():
    """Entropy of alpha / S, and not of the softmax of the same numbers."""
    x = RNG.normal(size=(9, 1, 1, 4)).astype(np.float32)
    source = make_source(
        x, np.arange(9) % 3, classes=tuple("abc"), name="t", split="train"
    )
    w = 3 * RNG.normal(size=(4, 3)).astype(np.float32)

    class Inner:
        @staticmethod
        def forward(variables, x):
            return hardware.dot(x[:, 0, 0], variables["params"]["w"])

    told = evidence.Evidence("digamma")
    ask = queries.asker(queries.Active("entropy", 1, 2), Inner, 3, source, told)
    found = ask(
        source, np.zeros(9, bool), 1, jax.random.key(0),
        {"params": {"w": w}}, None,
    )  # fmt: skip
    alpha = np.maximum(x[:, 0, 0] @ w, 0) + 1
    p = alpha / alpha.sum(1, keepdims=True)
    want = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose(found.score, want, rtol=1e-4)
