"""Learned input ranges: where they start, what moves them, who uses them."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge import data, hardware, models
from jaxedge.core.checks import UsageError
from jaxedge.core.trees import map_named
from jaxedge.hardware import converters, crossbar, devices
from jaxedge.recipes import ranges, supervised
from jaxedge.run import study
from jaxedge.run.checkpoint import Checkpoints

LEARNED = {
    "train.hardware": "fresh_chips",
    "train.input_ranges": True,
    "hardware.input_bits": 3,
    "hardware.input_percentile": 90.0,
    "hardware.overrides": {"program_noise": 0.02},
    "learn.rule": "weights",
    "model.bits": None,
}
SPEC = crossbar.Spec(
    devices.get("ideal", program_noise=0.02),
    input_bits=3,
    input_percentile=90.0,
)


@pytest.fixture(scope="module")
def trained(recipe, batch):
    """A recipe, its compiled update, and its states over five steps."""
    one = recipe(LEARNED)
    update = jax.jit(one.update)
    begun = jax.jit(lambda key: one.begin(one.init(key), batch(0)))
    states = [begun(jax.random.key(0))]
    for step in range(5):
        states.append(update(states[-1], batch(step))[0])
    return one, update, states


def aligned(lo, hi, bits):
    """The range of `bits` around [lo, hi] with a level at zero, in float64."""
    levels = 2**bits - 1
    step = (hi - lo) / levels
    lo = -np.round(-lo / step) * step
    return np.array([lo, lo + levels * step])


# Where they start.


def test_ranges_start_from_the_percentile_of_the_first_batch(trained, batch):
    _, _, states = trained
    start = np.array(states[1].memory.start)  # [2, L]
    x = np.float64(batch(0).x)
    want = aligned(*np.percentile(x, [5, 95]), 3)
    np.testing.assert_allclose(start[:, 0], want, rtol=1e-5)
    # Behind a ReLU nothing is negative.
    assert start[0, 1] == 0 and 0.5 < start[1, 1] < 4
    for later in states[2:]:
        np.testing.assert_array_equal(np.array(later.memory.start), start)


# What moves them.


class Problem:
    """Four inputs, three classes that a linear layer tells apart."""

    def __init__(self, bits, start):
        spec = crossbar.Spec(
            devices.get("ideal"),
            input_bits=bits,
            input_range=converters.Range(*start),
        )
        rng = np.random.default_rng(3)
        x = rng.normal(size=(60, 4, 1, 1)).astype(np.float32)
        y = (x.reshape(60, 4) @ rng.normal(size=(4, 3))).argmax(1)
        self.batch = data.Batch(
            jnp.asarray(x), jnp.asarray(y, jnp.int32), jnp.ones(60, jnp.float32)
        )
        self.placement = supervised.place("one_chip", spec, True)

    def train(self, optimiser, steps):
        """The state at the end, and all sums."""
        one = supervised.make(
            models.Mlp((3,)),
            self.batch.x[:1],
            supervised.weights_rule(),
            optimiser,
            self.placement,
        )

        def step(state, _):
            return one.update(state, self.batch)

        assert one.begin is not None

        def run(key):
            state = one.begin(one.init(key), self.batch)
            return jax.lax.scan(step, state, length=steps)

        return jax.jit(run)(jax.random.key(0))


@pytest.mark.parametrize("start", [(-30.0, 30.0), (-0.05, 0.05)])
def test_learned_ranges_beat_fixed_ones_from_a_bad_start(start):
    problem, rate = Problem(3, start), optax.sgd(0.3)
    fixed = optax.multi_transform(
        {"learned": rate, "fixed": optax.set_to_zero()},
        ranges.Learned("learned", "fixed"),  # type: ignore[arg-type]
    )
    moved, found = problem.train(rate, 200)
    kept, before = problem.train(fixed, 200)
    assert (kept.learned.sizes == 0).all()
    # A range of many standard deviations shrinks, a narrow one grows.
    growth = float(moved.learned.sizes[0])
    assert growth < -1 if start[1] > 1 else growth > 1
    assert found["loss"][-1] < 0.8 * before["loss"][-1]


def test_an_unused_range_decays_as_in_aihwkit():
    """So fine a range leaves no rounding error that could move it."""
    rate, steps = 0.3, 20
    state, sums = Problem(20, (-50.0, 50.0)).train(optax.sgd(rate), steps)
    want = -rate * steps * ranges.DECAY
    np.testing.assert_allclose(state.learned.sizes, want, rtol=0.05)
    np.testing.assert_array_equal(sums["clipped"], 0)


def test_a_range_that_is_used_does_not_decay():
    sizes = jnp.array([0.5, 0.5, -2.0])
    used = jnp.array([0.94, 0.96, 1.0])
    slope = jax.grad(ranges.penalty)(sizes, used)
    np.testing.assert_allclose(slope, [0, ranges.DECAY, ranges.DECAY])


def test_the_share_that_is_clipped_is_told(batch):
    problem = Problem(4, (-0.5, 1.0))
    _, sums = problem.train(optax.sgd(0.0), 1)
    x = np.ravel(problem.batch.x)
    lo, hi = aligned(-0.5, 1.0, 4)
    share = ((x < lo) | (x > hi)).mean()
    assert share > 0.3
    np.testing.assert_allclose(sums["clipped"] / sums["count"], share, 1e-6)


def test_weight_decay_leaves_ranges_alone(trained):
    _, _, states = trained
    mask = ranges.weights_only(states[0].learned)
    assert mask.sizes is False and all(jax.tree.leaves(mask.own))
    own = states[0].learned.own
    assert all(jax.tree.leaves(ranges.weights_only(own)))


# Who uses them.


def test_the_chips_of_a_study_use_the_learned_ranges(trained, batch):
    """As if each layer had been given its range by hand."""
    one, _, states = trained
    variables = one.finish(states[-1])
    growth = np.exp(np.float64(states[-1].learned.sizes))
    limits = growth * np.float64(states[-1].memory.start)  # [2, L]
    by_hand, plain = {}, {}
    for i, (name, layer) in enumerate(variables["params"].items()):
        leaf = layer["kernel"]
        np.testing.assert_allclose(leaf.input_range, limits[:, i], rtol=1e-5)
        ends = converters.Range(*aligned(*limits[:, i], 3).astype(np.float32))
        by_hand[name] = dataclasses.replace(
            SPEC, input_range=ends, input_percentile=None
        )
        plain[name] = {"kernel": leaf.weights}
    accuracy = jax.jit(study.chip_score(one))
    many = batch(9, n=200)
    test = study.Frames(*(a[None] for a in many[:3]), samples=many.x)
    key = jax.random.key(4)
    found = accuracy(key, variables, test, hardware.Plan.of(SPEC))
    plan = hardware.Plan.of(by_hand)
    want = accuracy(key, variables | {"params": plain}, test, plan)
    np.testing.assert_array_equal(found, want)
    # A chip that sets its ranges itself is another one.
    own = accuracy(
        key, variables | {"params": plain}, test, hardware.Plan.of(SPEC)
    )
    assert own != found


def test_hardware_without_coded_inputs_does_not_look_at_them(trained):
    one, _, states = trained
    spec = dataclasses.replace(SPEC, input_bits=None, input_percentile=None)

    def deploy(state):
        params = one.finish(state)["params"]
        return hardware.deploy(jax.random.key(0), params, spec)

    chip = jax.eval_shape(deploy, states[-1])
    found = []
    map_named(
        lambda path, leaf: found.append(leaf.spec.input_range),
        chip,
        is_leaf=hardware.is_weight,
    )
    assert found == [None, None]


def test_ranges_go_through_a_checkpoint(trained, batch, tmp_path):
    """Training goes on from there to the last bit."""
    _, update, states = trained
    checkpoints = Checkpoints(tmp_path / "checkpoints", "accuracy")
    checkpoints.save(2, states[2])
    checkpoints.wait()
    step, state = checkpoints.latest(states[0])
    checkpoints.close()
    assert step == 2
    for later in range(2, 5):
        state, _ = update(state, batch(later))
    for a, b in zip(
        jax.tree.leaves((state.learned, state.memory)),
        jax.tree.leaves((states[5].learned, states[5].memory)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


# What cannot be.


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train.hardware": "ideal"}, "train.hardware is 'ideal'"),
        ({"train.epochs": 0}, "train.epochs is 0"),
        (
            {"hardware.input_bits": None, "hardware.input_percentile": None},
            "give hardware.input_bits",
        ),
    ],
)
def test_ranges_that_nothing_could_learn_are_refused(recipe, changes, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        recipe(LEARNED | changes)
    assert "input_ranges" in str(error.value)
    assert "\n" not in str(error.value)
