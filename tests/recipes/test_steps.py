"""Tests of grids that are learned beside the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge import data, models
from jaxedge.core.checks import UsageError
from jaxedge.models.layers import SITES
from jaxedge.models.learned_step import LearnedStep
from jaxedge.models.vit import Vit
from jaxedge.quantize import learned, variation
from jaxedge.quantize.grid import Grid
from jaxedge.recipes import optimizers, steps, supervised

pytestmark = pytest.mark.usefixtures("compile_quickly")

VIT = Vit(
    3, (4, 4), patch=2, width=8, depth=1, heads=2, mean=(0.5,), std=(1.0,)
)
IMAGES = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype(np.float32)


def found_in(model, x, given):
    variables = jax.jit(model.init)(jax.random.key(0), x)
    params = variables.pop("params")

    def apply(params):
        return model.apply({**variables, "params": params}, x, mutable=[SITES])[
            1
        ]

    return steps.places(apply, params, given)


def test_places_of_a_transformer():
    found = found_in(VIT, IMAGES[:1], steps.Quantize(3, 4, 8, groups="head"))
    inner = "block_0/attention"
    bits = {path: (p.bits, p.groups) for path, p in found.weights.items()}
    assert bits["patch/kernel"] == bits["head/kernel"] == (8, 1)
    for name in ("query", "key", "value"):
        # Each head of the module has a step.
        assert bits[f"{inner}/{name}/kernel"] == (3, 2)
        assert found.sites[f"{inner}/{name}_site"] == steps.Place(4, 2, -3)
    assert bits[f"{inner}/out/kernel"] == (3, 1)
    assert found.sites[f"{inner}/prob_site"] == steps.Place(4, 2, -3)
    assert found.inputs["block_0/mlp/up/kernel"] == steps.Place(4, 1)
    assert list(found.inputs) == list(found.weights)


def test_layers_can_be_kept_and_weights_alone_quantised():
    given = steps.Quantize(2, None, None, groups="channel", keep="mlp")
    found = found_in(VIT, IMAGES[:1], given)
    assert not found.inputs and not found.sites
    assert set(found.weights) == {
        f"block_0/attention/{name}/kernel"
        for name in ("query", "key", "value", "out")
    }
    assert {p.groups for p in found.weights.values()} == {8}
    with pytest.raises(UsageError, match="no layer is quantised"):
        found_in(VIT, IMAGES[:1], given._replace(keep="."))


class Trained:
    """A network of two layers, four inputs, and its rule."""

    def __init__(self, **changes):
        self.given = steps.Quantize(**{"weights": 3, "inputs": 3, **changes})
        self.model = models.Mlp((5, 3))
        rng = np.random.default_rng(1)
        x = rng.normal(size=(40, 4, 1, 1)).astype(np.float32)
        y = (x.reshape(40, 4) @ rng.normal(size=(4, 3))).argmax(1)
        self.batch = data.Batch(
            jnp.asarray(x), jnp.asarray(y, jnp.int32), jnp.ones(40)
        )
        found = found_in(self.model, x[:1], self.given)
        self.rule = steps.add(supervised.weights_rule(), found, self.given)
        self.recipe = supervised.make(
            self.model, self.batch.x[:1], self.rule, optax.sgd(0.1), steps=50
        )

    def begun(self):
        recipe = self.recipe
        assert recipe.begin is not None
        return jax.jit(
            lambda key: recipe.begin(recipe.init(key), self.batch)  # type: ignore
        )(jax.random.key(0))


@pytest.fixture(scope="module")
def trained():
    return Trained()


def test_inputs_begin_where_the_first_batch_puts_them(trained):
    """2 mean|x| / sqrt(high), signed or from zero upward (vvtq 4.1)."""
    state = trained.begun()
    first, second = state.learned.input_steps.values()
    x = np.float64(trained.batch.x).reshape(40, 4)
    # Both signs at the edge's 8 bits; behind the ReLU nothing is negative.
    want = 2 * np.abs(x).mean() / np.sqrt(127)
    np.testing.assert_allclose(first, [want], rtol=1e-5)
    w = np.float64(state.learned.own["Dense_0"]["kernel"])
    hidden = x @ w
    # The batch normalises itself.
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    hidden = np.maximum(hidden, 0)
    want = 2 * hidden.mean() / np.sqrt(255)
    np.testing.assert_allclose(second, [want], rtol=1e-5)
    low, high = state.memory.low, state.memory.high
    assert [*map(float, low.values())] == [-128, 0]
    assert [*map(float, high.values())] == [127, 255]


def test_shallow_inputs_get_an_offset():
    x = jnp.asarray([-0.1, 0.0, 0.3, 1.0, 2.0])
    fit = steps._fit(x, steps.Place(4, 1), "data")
    assert (fit.low, fit.high, fit.moved) == (0, 15, 1)
    np.testing.assert_allclose(fit.offset, -0.1, rtol=1e-6)
    want = 2 * np.mean([0, 0.1, 0.4, 1.1, 2.1]) / np.sqrt(15)
    np.testing.assert_allclose(fit.step, [want], rtol=1e-5)
    fit = steps._fit(x, steps.Place(4, 1), "signed")
    assert (fit.low, fit.high, fit.moved, fit.offset) == (-8, 7, 0, 0)
    fit = steps._fit(x - 1, steps.Place(4, 1), "data")
    assert (fit.low, fit.high, fit.moved, fit.offset) == (-8, 7, 0, 0)


def test_the_network_computes_with_what_is_learned(trained):
    """Against a product of codes in float64."""
    state = trained.begun()
    variables = trained.recipe.finish(state)
    leaves = [variables["params"][f"Dense_{i}"]["kernel"] for i in (0, 1)]
    assert all(isinstance(leaf, LearnedStep) for leaf in leaves)
    y = np.float64(trained.batch.x).reshape(40, 4)
    for i, leaf in enumerate(leaves):
        for grid in (leaf.inputs, leaf.grid):
            assert isinstance(grid, Grid)
        ends = float(leaf.inputs.low), float(leaf.inputs.high)
        step = float(leaf.inputs.step[0])
        y = np.clip(np.round(y / step), *ends) * step
        own = float(leaf.grid.step[0])
        w = np.round(np.float64(leaf.weights) / own)
        y = y @ (np.clip(w, float(leaf.grid.low), float(leaf.grid.high)) * own)
        # The running statistics are still those of no batch.
        y = y if i else np.maximum(y / np.sqrt(1 + 1e-5), 0)
    found = trained.recipe.forward(variables, trained.batch.x)
    # A sum at a rounding edge may fall to its other side.
    assert np.mean(np.abs(found - y) > 1e-4) < 0.02


def test_other_bits_compile_nothing(trained, compilations):
    update = jax.jit(trained.recipe.update)
    state = trained.begun()
    wide, _ = update(state, trained.batch)
    bits = jax.tree.map(lambda b: jnp.full_like(b, 2), state.memory.bits)
    narrow = state._replace(memory=state.memory._replace(bits=bits))
    with compilations() as names:
        other, _ = update(narrow, trained.batch)
    assert not names
    a, b = (s.learned.own["Dense_1"]["kernel"] for s in (wide, other))
    assert (np.asarray(a) != np.asarray(b)).any()


def test_flips_and_oscillations_are_told():
    one = Trained(edges=2)
    update = jax.jit(one.recipe.update)
    state, total = one.begun(), 0
    for _ in range(8):
        before = state
        state, sums = update(state, one.batch)
        codes = [
            np.asarray(t.codes)
            for s in (before, state)
            for t in s.memory.trackers.values()
        ]
        changed = sum(
            (a != b).sum() for a, b in zip(codes[:2], codes[2:], strict=True)
        )
        total += changed
        np.testing.assert_allclose(
            sums["flips/total"], changed / sum(a.size for a in codes[:2]),
            rtol=1e-5,
        )  # fmt: skip
    assert total
    assert 0 <= float(one.recipe.summary(state)["oscillating"]) <= 1
    free = Trained(track=False)
    state, sums = jax.jit(free.recipe.update)(free.begun(), free.batch)
    assert "flips/total" not in sums and not free.recipe.summary(state)


def test_the_share_that_oscillates_is_the_sum_of_its_rises():
    one = Trained(edges=2)
    update = jax.jit(one.recipe.update)
    state, rng = one.begun(), np.random.default_rng(3)
    trackers = {
        # Rates around the threshold, which fall by .1 % where nothing turns.
        path: t._replace(
            rate=jnp.asarray(rng.uniform(0.0045, 0.0055, t.rate.shape))
        )
        for path, t in steps.trackers(state.memory).items()
    }
    state = state._replace(memory=state.memory._replace(trackers=trackers))
    start = share = float(one.recipe.summary(state)["oscillating"])
    for _ in range(40):
        state, sums = update(state, one.batch)
        share += float(sums["oscillating_rise/total"])
    found = steps.trackers(state.memory).values()
    rates = np.concatenate([np.ravel(t.rate) for t in found])
    assert share == pytest.approx(np.mean(rates > 0.005), abs=1e-6)
    assert share != pytest.approx(start, abs=0.02)
    assert steps.trackers(None) == steps.trackers(()) == {}


def frozen(state, path="Dense_1/kernel"):
    """The state with the weights of one output held, one code above their own.

    As far as there are codes above.
    """
    tracker, held = (state.memory._asdict()[n][path] for n in FROZEN)
    mask = jnp.zeros_like(held.mask).at[:, 1].set(True)
    codes = jnp.where(mask, jnp.minimum(tracker.codes + 1, 1), held.codes)
    held = state.memory.held | {path: variation.Held(mask, codes)}
    return state._replace(memory=state.memory._replace(held=held))


FROZEN = ("trackers", "held")


def test_held_weights_keep_their_codes_and_move_with_the_step():
    one = Trained(edges=2, freeze=0.5)
    state = frozen(one.begun())
    path, recipe = "Dense_1/kernel", one.recipe
    held = np.asarray(state.memory.held[path].codes)
    update = jax.jit(recipe.update)
    for _ in range(4):
        before = state
        state, _ = update(state, one.batch)
        leaf = recipe.finish(state)["params"]["Dense_1"]["kernel"]
        step = float(leaf.grid.step[0])
        np.testing.assert_allclose(leaf.values[:, 1], step * held[:, 1])
        # What the tracker sees is what the network computes with.
        codes = np.asarray(state.memory.trackers[path].codes)
        np.testing.assert_array_equal(codes[:, 1], held[:, 1])
        own = np.asarray(state.learned.own["Dense_1"]["kernel"])
        first = np.asarray(before.learned.own["Dense_1"]["kernel"])
        np.testing.assert_array_equal(own[:, 1], first[:, 1])
        assert (own[:, 0] != first[:, 0]).any()
    assert float(recipe.summary(state)["frozen"]) == pytest.approx(5 / 35)


def test_the_slope_of_the_step_counts_held_weights_by_their_codes():
    """By finite differences of the level, where no other weight is."""
    one = Trained(edges=2, freeze=0.5, scale="none")
    state = one.begun()
    path = "Dense_1/kernel"
    mask = jnp.ones_like(state.memory.held[path].mask)
    codes = jnp.asarray(np.arange(15).reshape(5, 3) % 4 - 2, jnp.int8)
    held = state.memory.held | {path: variation.Held(mask, codes)}
    memory = state.memory._replace(held=held)
    weight = jnp.asarray(np.linspace(1, 2, 15).reshape(5, 3), jnp.float32)

    def value(learned):
        leaf = one.rule.view(learned, memory)["Dense_1"]["kernel"]
        return jnp.sum(leaf.values * weight)

    slope = jax.jit(jax.grad(value))(state.learned)
    want = np.sum(np.asarray(codes, float) * np.asarray(weight))
    np.testing.assert_allclose(slope.steps[path], [want], rtol=1e-5)
    assert not np.asarray(slope.own["Dense_1"]["kernel"]).any()


def test_held_weights_lie_on_the_grid_of_a_step_that_is_too_small():
    one = Trained(edges=2, freeze=0.5)
    state = frozen(one.begun())
    path = "Dense_1/kernel"
    least = learned.MIN_STEP

    @jax.jit  # A known step below 0 is refused.
    def values(tiny, memory):
        return one.rule.view(tiny, memory)["Dense_1"]["kernel"].values

    for step in (least / 5, -least):
        small = {path: jnp.full_like(state.learned.steps[path], step)}
        tiny = state.learned._replace(steps=state.learned.steps | small)
        held = np.asarray(state.memory.held[path].codes)
        found = values(tiny, state.memory)
        np.testing.assert_allclose(found[:, 1], least * held[:, 1], rtol=1e-5)


def test_weights_freeze_at_the_threshold():
    """Of a tracker that is told to have seen many oscillations."""
    one = Trained(edges=2, freeze=0.2)
    state = one.begun()
    path = "Dense_0/kernel"
    tracker = state.memory.trackers[path]
    rate = jnp.zeros_like(tracker.rate).at[0, 0].set(0.3).at[0, 1].set(0.19)
    mean = tracker.mean.at[0, 0].set(-1.4)
    told = tracker._replace(rate=rate, mean=mean)
    trackers = state.memory.trackers | {path: told}
    state = state._replace(memory=state.memory._replace(trackers=trackers))
    state, _ = jax.jit(one.recipe.update)(state, one.batch)
    held = state.memory.held[path]
    assert np.flatnonzero(held.mask).tolist() == [0]
    assert int(held.codes[0, 0]) == -1
    assert float(one.recipe.summary(state)["frozen"]) == pytest.approx(1 / 35)
    assert "frozen" not in Trained().recipe.summary(Trained().begun())


def test_the_regulariser_joins_the_loss_when_its_time_comes():
    one = Trained(regulariser=0.5, regulariser_start=0.4)
    update, state = jax.jit(one.recipe.update), one.begun()
    _, sums = update(state, one.batch)
    assert float(sums["penalty"]) == 0
    late = state._replace(step=jnp.int32(45))
    after, sums = update(late, one.batch)
    assert float(sums["penalty"]) > 0
    plain = jax.jit(Trained().recipe.update)
    without, _ = plain(Trained().begun()._replace(step=late.step), one.batch)
    a, b = (s.learned.own["Dense_0"]["kernel"] for s in (after, without))
    assert (np.asarray(a) != np.asarray(b)).any()


def test_steps_move_at_rates_of_their_own():
    """A rate of 0 holds them; weights move as with any other."""
    states = []
    for rate in (1.0, 0.0):
        one = Trained(step_rate=rate, input_rate=rate)
        section = optimizers.Optimizer(0.1, 0.0, 0.5)
        optimiser = optimizers.make(
            section,
            1,
            5,
            lambda learned, one=one: steps.rates(one.given, learned),
        )
        recipe = supervised.make(
            one.model, one.batch.x[:1], one.rule, optimiser, steps=5
        )
        state = one.begun()._replace(opt=optimiser.init(one.begun().learned))
        states.append((state, jax.jit(recipe.update)(state, one.batch)[0]))
    (start, free), (_, held) = states
    for name in ("steps", "input_steps"):
        for path, before in getattr(start.learned, name).items():
            assert getattr(held.learned, name)[path] == before
            assert (getattr(free.learned, name)[path] != before).all()
    a, b = (s.learned.own["Dense_0"]["kernel"] for s in (free, held))
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weights": 1}, "quantize.weights is 1"),
        ({"inputs": 9}, "quantize.inputs is 9"),
        ({"groups": "heads"}, "Did you mean 'head'"),
        ({"scale": "l2"}, "unknown quantize.scale 'l2'"),
        ({"regulariser_start": 1.0}, "regulariser_start is 1.0"),
        ({"step_rate": -1.0}, "step_rate is -1.0"),
        ({"freeze": 1.5}, "quantize.freeze is 1.5"),
        ({"freeze": 0.1, "track": False}, "track False"),
        ({"freeze": 0.1, "weights": None}, "weights is None"),
    ],
)
def test_bad_sections(changes, message):
    with pytest.raises(UsageError, match=message):
        steps.Quantize(**{"weights": 3, "inputs": 3, **changes}).check()
