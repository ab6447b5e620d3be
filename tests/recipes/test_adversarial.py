"""Turns of generators and critics, beside direct formulas and optax.

The networks are a few matrices, so that a step compiles in no time; those of
`models.gan` are in `test_sequential_gan`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.recipes import adversarial
from jaxedge.recipes.adversarial import Batch, Plan
from jaxedge.recipes.recipe import Recipe, Rounds
from jaxedge.run import loop, metrics
from jaxedge.run.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("compile_quickly")

SIDE, B, HIDDEN, FREE = 2, 3, 3, 2
PIXELS = SIDE * SIDE


def flat(x):
    return x.reshape(len(x), -1)


def images(x):
    return x.reshape(-1, SIDE, SIDE, 1)


class Toy(NamedTuple):
    """Networks of one hidden layer; the generators share the last matrix."""

    labels: int = 0
    noise: int = 0

    @property
    def latent(self):
        return FREE + self.labels

    def init(self, key, example):
        del example
        shapes = {
            "encoder": (PIXELS, self.latent),
            "first_generator": (self.latent, HIDDEN),
            "second_generator": (PIXELS + self.noise, HIDDEN),
            "shared_block": (HIDDEN, PIXELS),
            "first_critic": (PIXELS * (1 + self.labels), HIDDEN),
            "second_critic": (PIXELS * (1 + self.labels), HIDDEN),
            "joint_critic": (PIXELS * (2 + self.labels), HIDDEN),
            "latent_critic": (self.latent, HIDDEN),
        }
        params = {
            name: {"w": jax.random.normal(stream(key, name), shape)}
            for name, shape in shapes.items()
        }
        for name in params:
            if name.endswith("critic"):
                params[name]["v"] = jax.random.normal(key, (HIDDEN,))
        return {"params": params}

    def apply(self, variables, x, *more, key=None, method="first"):
        del key
        return getattr(self, method)(variables["params"], x, *more)

    def encode(self, p, x):
        return flat(x) @ p["encoder"]["w"]

    def first(self, p, z):
        hidden = jnp.tanh(z @ p["first_generator"]["w"])
        return images(jnp.tanh(hidden @ p["shared_block"]["w"]))

    def second(self, p, x, noise=None):
        noise = jnp.zeros((len(x), self.noise)) if noise is None else noise
        x = jnp.concatenate([flat(x), noise], -1)
        hidden = jnp.tanh(x @ p["second_generator"]["w"])
        return images(jnp.tanh(hidden @ p["shared_block"]["w"]))

    def criticise(self, name, p, x):
        own = p[f"{name}_critic"]
        return jnp.tanh(flat(x) @ own["w"]) @ own["v"]

    def __getattr__(self, name):
        if name.startswith("criticise_"):
            return functools.partial(self.criticise, name[10:])
        raise AttributeError(name)


def plan(**changes):
    model = changes.pop("model", Toy())
    return Plan(model, **{**PUBLISHED, **changes})


PUBLISHED: dict[str, Any] = dict(schedule="semi", rate=1e-4, b1=0.0, b2=0.9)
SECOND = {"shared_block", "second_generator"}
FIRST = {"shared_block", "first_generator"}
ROUTES = {
    "first_critic": {"first_critic"},
    "second_critic": {"second_critic"},
    "joint_critic": {"joint_critic"},
    "latent_critic": {"latent_critic"},
    "first_generator": FIRST,
    "first_pairs": {*FIRST, "encoder"},
    "second_generator": SECOND,
    "second_pairs": SECOND,
    "joint_generator": SECOND,
    "encoder": {"encoder"},
}


def batch(seed, labels=0):
    rng = np.random.default_rng(seed)

    def of(channels):
        x = rng.uniform(-1, 1, (B, SIDE, SIDE, channels)).astype(np.float32)
        y = np.eye(max(labels, 1))[rng.integers(0, max(labels, 1), B)]
        return x, y[:, :labels].astype(np.float32)

    return Batch(*of(2), *of(1), *of(1))


@functools.cache
def compiled(given):
    """(init, update) of a plan."""
    begin = functools.partial(adversarial.init, given, example=jnp.zeros(1))
    step = functools.partial(adversarial.update, given)
    return jax.jit(begin), jax.jit(step)


def steps(given, n, first=0):
    """The states before and after each of n steps, and their sums."""
    begin, step = compiled(given)
    states, sums = [begin(jax.random.key(7))], []
    for i in range(n):
        state, told = step(states[-1], batch(i, given.model.labels))
        states.append(state)
        sums.append(told)
    return states, sums


def numbers(tree):
    return [
        np.asarray(
            jax.random.key_data(a)
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
            else a
        )
        for a in jax.tree.leaves(tree)
    ]


def moved(before, after):
    """Names of the networks whose parameters differ."""
    return {
        name
        for name in before
        if any(
            (a != b).any()
            for a, b in zip(
                numbers(before[name]), numbers(after[name]), strict=True
            )
        )
    }


def assert_close(a, b, rtol=2e-4, atol=1e-7):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


# Losses by their formulas (sequential_gan 4), from networks written out anew.


def scored(own, x, y):
    """A critic of images that have their labels as channels."""
    y = jnp.broadcast_to(y[:, None, None], (*x.shape[:3], y.shape[-1]))
    return jnp.tanh(flat(jnp.concatenate([x, y], -1)) @ own["w"]) @ own["v"]


def slopes(own, x, y, released):
    """Closed form of the slope of the image alone."""
    y_BxHxWxK = jnp.broadcast_to(y[:, None, None], (*x.shape[:3], y.shape[-1]))
    seen = jnp.concatenate([x, y_BxHxWxK], -1)
    hidden = jnp.tanh(flat(seen) @ own["w"])
    slope = ((1 - hidden**2) * own["v"][None]) @ own["w"].T
    slope = slope.reshape(seen.shape)[..., : x.shape[-1]]
    return jnp.sqrt((slope**2).sum(1 if released else (1, 2, 3)))


def made(given, p, key, y, upto):
    free = jax.random.normal(stream(key, "latent"), (B, FREE))
    z = jnp.concatenate([free, y], -1)
    first = given.model.first(p, z)
    if upto == "first":
        return first
    first = jax.lax.stop_gradient(first)
    noise = jax.random.normal(stream(key, "noise"), (B, given.model.noise))
    second = given.model.second(p, first, noise)
    if upto == "second":
        return second
    return jnp.concatenate([first, second], -1)


def loss(given, name, p, rows, key, step):
    """Of a turn, by its name."""
    kind, role = name.split("_")
    at = "pair" if kind == "joint" else kind
    if role == "critic":
        x, y = getattr(rows, at), getattr(rows, f"{at}_y")
        fake = made(given, p, key, y, kind)
        own = p[name]
        share = jax.random.uniform(stream(key, "mix"), (B, 1, 1, 1))
        between = x + share * (fake - x)
        slope = slopes(own, between, y, given.compat == "released")
        penalty = jnp.square(slope - 1).mean()
        weight = 10 * min(1.0, (step + 1) / (given.warmup or 1))
        apart = scored(own, fake, y).mean() - scored(own, x, y).mean()
        return apart + weight * penalty
    if role == "generator":
        y = getattr(rows, f"{at}_y")
        fake = made(given, p, key, y, kind)
        return -scored(p[f"{kind}_critic"], fake, y).mean()
    x, target = rows.pair[..., :1], rows.pair[..., 1:]
    z = flat(x) @ p["encoder"]["w"]
    z = jnp.concatenate([z[:, :FREE], rows.pair_y], -1)
    first = given.model.first(p, z)
    if kind == "first":
        return jnp.abs(first - x).mean()
    first = x if given.given == "real" else jax.lax.stop_gradient(first)

    def drawn(key):
        shape = B, given.model.noise
        noise = jax.random.normal(stream(key, "noise"), shape)
        return given.model.second(p, first, noise)

    found = drawn(key)
    if given.pairs == "l1":
        return jnp.abs(found - target).mean()
    again = drawn(stream(key, "again"))
    far = lambda x: jnp.linalg.norm(flat(x), axis=-1) / SIDE  # noqa: E731
    near = (far(found - target) + far(again - target)) / 2
    return (near - far(found - again) / 2).mean()


def order(given, step):
    """(turn, how often before in this step), as the paper's code has them."""
    joint = given.joint != "none"
    told = [("first_critic", 0), ("second_critic", 0)]
    told += [("joint_critic", 0)] * joint
    if step % 3:
        return told
    told += [("first_generator", 0), ("first_pairs", 0)]
    for again in range(2):
        told.append(("second_generator", again))
        told += [("joint_generator", again)] * joint
        told += [("second_pairs", again)] * (given.joint != "instead")
    if given.schedule == "unsupervised":
        told = [turn for turn in told if not turn[0].endswith("pairs")]
    return told


CASES = {
    "published": plan(),
    "unsupervised": plan(schedule="unsupervised", compat="released"),
    "joint": plan(
        model=Toy(labels=2, noise=2),
        joint="beside",
        pairs="energy",
        given="real",
        warmup=3,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_formulas_and_of_optax(case):
    given = CASES[case]
    states, _ = steps(given, 2)
    adam = optax.adam(1e-4, b1=0.0, b2=0.9)
    p, moments = states[0].params, {}

    @functools.partial(jax.jit, static_argnames=("step",))
    def taken(p, moments, rows, step):
        for name, again in order(given, step):
            key = stream(states[0].key, f"{name}/{again}", step)
            own = {k: v for k, v in p.items() if k in ROUTES[name]}

            def value(own, p=p, name=name, key=key):
                return loss(given, name, {**p, **own}, rows, key, step)

            slope = jax.grad(value)(own)
            held = moments.get(name) or adam.init(own)
            moves, moments[name] = adam.update(slope, held)
            own = optax.apply_updates(own, moves)
            p = p | own  # type: ignore[operator]
        return p, moments

    for step in range(2):
        p, moments = taken(p, moments, batch(step, given.model.labels), step)
        found = states[step + 1]
        assert_close(found.params, p, rtol=0, atol=2e-6)
        # A state of its own for each loss; b1 of 0 makes steps of slopes'
        # signs, so that these tell their sizes.
        assert set(found.moments) == set(moments)
        for name, held in moments.items():
            assert_close(found.moments[name].nu, held[0].nu, atol=1e-9)
            assert int(found.moments[name].count) == int(held[0].count)


def test_the_energy_score_is_least_for_the_law_of_what_was_seen():
    """Of normal numbers, in closed form: see Gneiting and Raftery, eq. 21.

    E |a - y| of normal a and y is s sqrt(2 / pi), s^2 the sum of their
    variances. n = 200,000, so that a mean has a standard error of 0.002.
    """
    a, b, y = np.random.default_rng(0).normal(size=(3, 200_000, 1))
    found = {
        size: float(adversarial.energy_score(size * a, size * b, y))
        for size in (0.5, 1.0, 2.0)
    }
    for size, score in found.items():
        truth = (np.sqrt(1 + size**2) - size / np.sqrt(2)) * np.sqrt(2 / np.pi)
        np.testing.assert_allclose(score, truth, atol=0.01)
    assert min(found, key=found.__getitem__) == 1.0
    # Copies have a slope, though a norm has none at 0.
    slope = jax.grad(adversarial.energy_score)(a[:4], a[:4], y[:4])
    assert np.isfinite(slope).all()


def test_a_loss_moves_its_own_networks():
    others = plan(schedule="supervised"), plan(joint="instead")
    assert "second_pairs" not in adversarial.turns(others[1])
    for given in (*CASES.values(), *others):
        for name, turn in adversarial.turns(given).items():
            assert set(turn.nets) == ROUTES[name], name


def test_critics_move_every_step_and_generators_every_third():
    states, sums = steps(CASES["published"], 4)
    makers = {*FIRST, *SECOND, "encoder"}
    critics = {"first_critic", "second_critic"}
    for i, expected in enumerate((makers, set(), set(), makers)):
        there = moved(states[i].params, states[i + 1].params)
        assert there == critics | expected
        assert (float(sums[i]["loss"]) > 0) == bool(expected)
    counts = {k: int(m.count) for k, m in states[-1].moments.items()}
    assert counts == {
        "first_critic": 4, "second_critic": 4, "first_generator": 2,
        "first_pairs": 2, "second_generator": 4, "second_pairs": 4,
    }  # fmt: skip


def test_the_second_generator_sends_no_slope_into_the_first():
    given = CASES["published"]
    state = compiled(given)[0](jax.random.key(7))
    for name in ("second_generator", "second_pairs"):
        turn = adversarial.turns(given)[name]

        def value(params, turn=turn):
            return turn.loss(params, batch(0), jax.random.key(1), 0)[0]

        slope = jax.grad(value)(state.params)
        zero = {k for k, v in slope.items() if not np.any(numbers(v)[0])}
        assert {"first_generator", "encoder"} <= zero
        assert not zero & SECOND


def test_the_supervised_schedule():
    given = plan(schedule="supervised")
    turns = adversarial.turns(given)
    # sequential_gan 4: D_z, G1 + E, G2, E.
    assert list(turns) == [
        "latent_critic", "first_pairs", "second_pairs", "encoder"
    ]  # fmt: skip
    states, _ = steps(given, 2)
    for before, after in zip(states[:-1], states[1:], strict=True):
        there = moved(before.params, after.params)
        assert there == {"latent_critic", "encoder", *FIRST, *SECOND}
    p, rows, key = states[0].params, batch(0), jax.random.key(3)
    real = np.asarray(jax.random.normal(stream(key, "latent"), (B, FREE)))
    code = flat(rows.pair[..., :1]) @ np.asarray(p["encoder"]["w"])
    own = p["latent_critic"]

    def logit(z):
        return np.tanh(z @ np.asarray(own["w"])) @ np.asarray(own["v"])

    def entropy(logits, label):
        chance = 1 / (1 + np.exp(-np.float64(logits)))
        return -np.log(chance if label else 1 - chance).mean()

    values = {
        name: float(turns[name].loss(p, rows, key, 0)[0])
        for name in ("latent_critic", "encoder")
    }
    expected = entropy(logit(real), 1) + entropy(logit(code), 0)
    assert values["latent_critic"] == pytest.approx(expected, rel=1e-5)
    cheated = entropy(logit(code), 1)
    assert values["encoder"] == pytest.approx(cheated, rel=1e-5)


def test_unsupervised_training_looks_at_no_pair():
    _, step = compiled(CASES["unsupervised"])
    state = compiled(CASES["unsupervised"])[0](jax.random.key(7))
    rows = batch(0)
    other = rows._replace(pair=rows.pair * np.nan)
    assert_close(step(state, rows), step(state, other), 0, 0)


def test_the_weight_of_the_penalty_rises():
    state = compiled(plan())[0](jax.random.key(7))
    rows, key = batch(0), jax.random.key(1)

    def value(given, step):
        turn = adversarial.turns(given)["first_critic"]
        found, told = turn.loss(state.params, rows, key, step)
        return float(found + told["first_gap"]), float(told["first_penalty"])

    for step, share in enumerate((0.25, 0.5, 0.75, 1, 1)):
        weighed, penalty = value(plan(warmup=4), step)
        assert weighed == pytest.approx(10 * share * penalty, rel=1e-4)
    weighed, penalty = value(plan(penalty=2.5), 0)
    assert weighed == pytest.approx(2.5 * penalty, rel=1e-4)


def test_rates_are_each_turns_own():
    rates = dict(critic_rate=2.0, adversarial_rate=3.0, pair_rate=5.0)
    turns = adversarial.turns(plan(**rates))
    assert {k: t.rate for k, t in turns.items()} == {
        "first_critic": 2, "second_critic": 2, "first_generator": 3,
        "second_generator": 3, "first_pairs": 5, "second_pairs": 5,
    }  # fmt: skip
    # The first turn of all moves by its rate times what the plain one does.
    plain, fast = (steps(g, 1)[0] for g in (plan(), plan(**rates)))
    once, twice = (
        s[1].params["first_critic"]["w"] - s[0].params["first_critic"]["w"]
        for s in (plain, fast)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-2, atol=1e-7)


SAFE = plan(average=0.5, rollbacks=2)


def test_the_average_is_of_what_makes_images():
    states, _ = steps(SAFE, 2)
    expected = states[0].average
    assert set(expected) == {*FIRST, *SECOND, "encoder"}
    for before, after in zip(states[:-1], states[1:], strict=True):
        kept = {k: v for k, v in after.params.items() if k in expected}
        expected = jax.tree.map(lambda a, b: (a + b) / 2, before.average, kept)
        assert_close(after.average, expected, 1e-6)
        assert adversarial.makers(after) is after.average
    plain = steps(CASES["published"], 1)[0][1]
    assert plain.average == () and plain.sound == ()
    assert set(adversarial.makers(plain)) == set(expected)


def test_a_state_that_is_no_number_goes_back():
    begin, step = compiled(SAFE)
    state = begin(jax.random.key(7))
    for i in range(2):
        state, _ = step(state, batch(i))
    sound = adversarial.review(SAFE, state)
    state, _ = step(sound, batch(2))
    # Nothing that is no number becomes what to go back to.
    torn = jax.tree.map(lambda a: a * np.nan, state.params)
    torn = adversarial.review(SAFE, state._replace(params=torn))
    assert_close(torn.sound, sound.sound, 0, 0)

    bad = batch(3)
    bad.first[0, 0, 0, 0] = np.nan
    state, sums = step(state, bad)
    kept = (sound.params, sound.moments, sound.average)
    assert_close((state.params, state.moments, state.average), kept, 0, 0)
    assert float(state.factor) == 0.5
    assert (int(state.broken), int(state.last), int(state.step)) == (1, 3, 4)
    assert float(sums["rollbacks/total"]) == 1
    assert all(np.isfinite(numbers(sums)))

    # Goes on, at half the rate.
    halved, sums = step(state, batch(4))
    whole, _ = step(state._replace(factor=jnp.float32(1)), batch(4))
    assert float(sums["rollbacks/total"]) == 0
    name = "first_critic"
    assert_close(
        jax.tree.map(
            lambda a, b: 2 * (a - b), halved.params[name], state.params[name]
        ),
        jax.tree.map(
            lambda a, b: a - b, whole.params[name], state.params[name]
        ),
        rtol=1e-2,
        atol=3e-7,
    )

    # Twice, and then no more.
    state, _ = step(halved, bad)
    assert (float(state.factor), int(state.broken)) == (0.25, 2)
    state, sums = step(state, bad)
    assert np.isnan(numbers(state.params["first_critic"])[0]).any()
    assert int(state.broken) == 2 and float(sums["rollbacks/total"]) == 0
    assert np.isnan(float(sums["first_gap"]))


def test_without_rollbacks_nothing_is_kept():
    begin, step = compiled(plan())
    state = begin(jax.random.key(7))
    assert state.sound == () and adversarial.review(plan(), state) is state
    bad = batch(0)
    bad.second[:] = np.nan
    state, sums = step(state, bad)
    assert np.isnan(numbers(state.params["second_critic"])[0]).any()
    assert int(state.broken) == 0 and np.isnan(float(sums["second_gap"]))


def test_a_step_is_one_program_of_one_type(compilations):
    begin, step = compiled(SAFE)
    state = begin(jax.random.key(7))
    types_ = [(a.shape, jax.typeof(a)) for a in jax.tree.leaves(state)]
    assert not any(t.weak_type for _, t in types_)
    state, _ = step(state, batch(0))
    with compilations() as names:
        for i in range(1, 4):
            state, _ = step(state, batch(i))
    assert not names
    after = [(a.shape, jax.typeof(a)) for a in jax.tree.leaves(state)]
    assert after == types_


def test_a_step_is_the_same_outside_of_a_program():
    given = CASES["unsupervised"]
    begin, step = compiled(given)
    state = begin(jax.random.key(7))
    plain = adversarial.update(given, state, batch(0))
    assert_close(step(state, batch(0)), plain, 1e-3, 2e-6)


# In the loop.


def recipe(bad=()):
    """The toy as a recipe whose batches are no number at some steps."""

    def batches(source, key, epoch, part):
        del source, key, part
        for i in range(3 * epoch, 3 * epoch + 3):
            rows = batch(i)
            if i in bad:
                rows.first[:] = np.nan
            yield rows

    def evaluate(variables, rows, key=None):
        del key
        total = sum(jnp.sum(a) for a in jax.tree.leaves(variables))
        count = rows.weight.sum()
        return {"count": count, "accuracy": total * count}

    begin = functools.partial(adversarial.init, SAFE, example=jnp.zeros(1))
    return Recipe(
        init=begin,
        update=functools.partial(adversarial.update, SAFE),
        finish=adversarial.makers,
        evaluate=evaluate,
        review=lambda state, metrics: adversarial.review(SAFE, state),
        forward=lambda *args: None,
        summary=lambda state: {},
        rounds=Rounds(3, B, batches),
    )


@pytest.fixture(scope="module")
def source():
    x = np.zeros((4, 1), np.float32)
    about: dict[str, Any] = dict(classes=("a",), name="toy", split="train")
    return data.make_source(x, np.zeros(4, int), **about)


@pytest.fixture
def train(tmp_path, source):
    """A function (name, recipe, stop) -> the final state of three epochs."""

    def run(name, made, stop=None):
        kept = Checkpoints(tmp_path / name / "checkpoints", "accuracy")
        try:
            found = loop.train(
                made,
                {"train": source, "select": source},
                loop.Plan(3, B, evaluate_batch=4),
                jax.random.key(0),
                kept,
                lambda step: metrics.Jsonl(tmp_path / name / "rows", step),
                stop,
            )
        finally:
            kept.close()
        return found, metrics.read(tmp_path / name / "rows")

    return run


def test_the_loop_names_the_step_when_no_way_back_is_left(train):
    with pytest.raises(loop.DivergedError, match="step 9"):
        train("lost", recipe(bad=(3, 6, 7)))


def test_a_resumed_run_ends_as_an_uninterrupted_one(train):
    whole, rows = train("whole", recipe(bad=(4,)))
    told = [r for r in rows if r["phase"] == "train"]
    assert [r["rollbacks"] for r in told] == [0, 1, 0]
    assert all(np.isfinite(r["loss"]) for r in told)
    # Within the second epoch, behind the step that went back.
    looks = iter(range(100))
    stop = type("Stop", (), {"asked": property(lambda s: next(looks) == 5)})()
    with pytest.raises(loop.Preempted, match="step 5"):
        train("parts", recipe(bad=(4,)), stop)
    again, more = train("parts", recipe(bad=(4,)))
    assert_close(again, whole, 0, 0)
    assert more == rows
