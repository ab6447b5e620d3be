"""The random point-set machine: its encoder, its readout, and its chips."""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, data, hardware, models
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.learn import readout, row_blocks
from jaxedge.recipes import deplm

pytestmark = pytest.mark.usefixtures("compile_quickly")
PATH = Path(__file__).parents[2] / "configs" / "deplm.py"
BATCH, CLASSES = 20, 3


def full(variant):
    spec = importlib.util.spec_from_file_location("deplm_config", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


def parse(given):
    return deplm.parse({name: given[name] for name in deplm.Settings._fields})


def config(**fields):
    found = full("quick")
    found.model.update(
        {
            "points": (8,),
            "radii": (0.5,),
            "neighbours": (4,),
            "features": (6, 9),
        }
    )
    found.learn.calibrate = 1
    found.train.batch = BATCH
    found.update_from_flattened_dict(fields)
    return found


def batches(n, seed=0):
    """Images whose class is a bright row."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, (n, BATCH))
    x = 0.1 * rng.random((n, BATCH, 6, 6, 1))
    frame, row = np.indices(y.shape)
    x[frame, row, 2 * y] += 0.9
    return data.Batch(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(y, jnp.int32),
        jnp.ones(y.shape, jnp.float32),
    )


def at(stack, i):
    return jax.tree.map(lambda a: a[i], stack)


def build(given):
    """The recipe of the images, its functions compiled once."""
    made = deplm.build(given, batches(1).x[0, :1], CLASSES, 6)
    return compiled(made)


def compiled(made):
    names = ("init", "update", "finish", "evaluate")
    return made._replace(**{n: jax.jit(getattr(made, n)) for n in names})


@pytest.fixture(scope="module")
def recipe():
    return build(parse(config()))


@pytest.fixture(scope="module")
def learned(recipe):
    """The variables after one pass over six batches, and the state."""
    state = recipe.init(jax.random.key(0))
    for i in range(6):
        state, _ = recipe.update(state, at(batches(6), i))
    return recipe.finish(state), state


def test_one_pass_learns(recipe, learned):
    variables, state = learned
    sums = recipe.evaluate(variables, at(batches(1, seed=1), 0))
    assert sums["accuracy"] / sums["count"] > 0.9  # A third by chance.
    assert state.step == 6


def test_normalisation_has_the_mean_of_its_batches(recipe):
    state = recipe.init(jax.random.key(0))
    state, _ = recipe.update(state, at(batches(6), 0))
    # The mean of one batch, not a tenth of it.
    layer = state.stats["abstraction_1"]["Norm_0"]["BatchNorm_0"]
    before = recipe.init(jax.random.key(0))
    sizes = parse(config()).model.layers
    model = models.PointClassifier(CLASSES, sizes)
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    _, changed = jax.jit(apply)(
        {"params": before.params, "batch_stats": before.stats},
        2 * batches(6).x[0] - 1,
    )
    tenth = changed["batch_stats"]["abstraction_1"]["Norm_0"]["BatchNorm_0"]
    np.testing.assert_allclose(layer["mean"], 10 * tenth["mean"], rtol=1e-4)


def test_steps_keep_types_and_do_not_recompile(recipe, compilations):
    update, state = recipe.update, recipe.init(jax.random.key(0))
    shape = jax.eval_shape(lambda: state)
    three = [at(batches(6), i) for i in range(3)]
    state, _ = update(state, three[0])
    assert jax.eval_shape(lambda: state) == shape
    with compilations() as names:
        state, _ = update(state, three[1])
        update(state, three[2])
    assert not names


def test_a_chip_learns_what_training_learns(recipe, learned):
    """On ideal hardware, from the same batches, without a read key."""
    variables, _ = learned
    blank = jax.tree.map(jnp.zeros_like, variables["params"]["readout"])
    params = variables["params"] | {"readout": blank}
    start = recipe.init(jax.random.key(0)).stats
    chip = {"params": params, "batch_stats": start}
    adapted = jax.jit(recipe.adapt)(chip, batches(6), None)
    for a, b in zip(
        jax.tree.leaves(adapted), jax.tree.leaves(variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_every_random_chip_learns_its_own_readout(recipe, learned):
    variables, _ = learned
    device = devices.get("rram_40nm_random", read_noise=0.02)
    spec = crossbar.Spec(device, input_bits=6)
    test = at(batches(1, seed=2), 0)

    def accuracy(key):
        params = hardware.deploy(key, variables["params"], spec)
        chip = {**variables, "params": params}
        read = core.stream(key, "read")
        own = recipe.adapt(chip, batches(6), core.stream(key, "lessons"))
        found = [recipe.evaluate(v, test, read) for v in (chip, own)]
        return [sums["accuracy"] / sums["count"] for sums in found]

    foreign, own = jax.jit(jax.vmap(accuracy))(
        core.chip_keys(jax.random.key(1), 3)
    )
    # A readout on an array of random weights, of another encoder, is chance.
    assert own.mean() > 0.8 and foreign.mean() < own.mean() - 0.2


# Points told apart.

CATEGORIES, PARTS = 2, {"a": (0, 1), "b": (2, 3)}


def part_config(**fields):
    found = config(**fields)
    found.data.name = "toy parts"
    found.learn.ridge = 0.01
    found.model.update(
        {"decoder": (8, 10), "repeat_places": True, "categories": CATEGORIES}
    )
    return found


def clouds(n, seed=0, points=24):
    """Clouds whose upper points are another part; some labels are ignored."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1, 1, (n, BATCH, points, 3))
    category = rng.integers(0, CATEGORIES, (n, BATCH, 1))
    y = 2 * category + (place[..., 0] > 0)
    y = np.where(rng.random(y.shape) < 0.1, data.IGNORED, y)
    hot = np.eye(CATEGORIES)[np.repeat(category, points, 2)]
    return data.Batch(
        jnp.asarray(np.concatenate([place, hot], -1), jnp.float32),
        jnp.asarray(y, jnp.int32),
        jnp.ones((n, BATCH), jnp.float32),
    )


@pytest.fixture(scope="module")
def parts():
    """The recipe, its compiled update, and a start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.PARTS, "toy parts", PARTS)
        given = parse(part_config())
        recipe = compiled(deplm.build(given, clouds(1).x[0, :1], 4, 5))
    return recipe, recipe.init(jax.random.key(0))


def test_points_are_told_apart_by_chips_of_their_own(parts):
    """Training, and a noisy chip that learns, on sets located once."""
    recipe, state = parts
    for i in range(5):
        state, _ = recipe.update(state, at(clouds(5), i))
    spec = crossbar.Spec(
        devices.get("rram_40nm_random", read_noise=0.02), input_bits=6
    )

    @jax.jit
    def scores(key, lessons, test):
        variables = recipe.finish(state)
        params = hardware.deploy(key, variables["params"], spec)
        chip = {**variables, "params": params}
        own = recipe.adapt(chip, lessons, key)
        found = [recipe.evaluate(v, test, key) for v in (variables, own)]
        return [recipe.measure(sums) for sums in found]

    lessons, test = clouds(5), clouds(1, seed=1)
    found = jax.jit(jax.vmap(recipe.prepare))(
        np.concatenate([lessons.x, test.x])
    )
    ideal, own = scores(
        jax.random.key(1),
        lessons._replace(x=at(found, slice(5))),
        at(test, 0)._replace(x=at(found, 5)),
    )
    for metrics in (ideal, own):
        assert set(metrics) == {
            "loss", "accuracy", "class_accuracy", "class_iou", "instance_iou",
        }  # fmt: skip
        # By chance one of two parts is right, and a third of two unions met.
        assert metrics["accuracy"] > 0.7 and metrics["instance_iou"] > 0.5
    assert recipe.score == "instance_iou" and recipe.learns == ("readout",)


def test_ignored_points_change_nothing(parts):
    """Whatever a label below 0 is, it weighs nothing."""
    recipe, state = parts
    given, batch = state._replace(step=jnp.int32(9)), at(clouds(1), 0)
    keep = batch.y >= 0
    wrong = batch._replace(y=jnp.where(keep, batch.y, -5))
    a, b = (recipe.update(given, one)[0].gathered for one in (batch, wrong))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    sums = row_blocks.totals(a.sums)
    assert int(sums.rows) == int(keep.sum()) < batch.y.size


# The readout by Adam.


@pytest.fixture(scope="module")
def adam():
    changes = {
        "learn.readout": "adam", "learn.augment": "drop_and_shift",
        "learn.chip_epochs": 30, "optimizer.learning_rate": 0.05,
    }  # fmt: skip
    return build(parse(config(**changes)))


def test_adam_moves_the_readout_alone(adam):
    state, update = adam.init(jax.random.key(0)), adam.update
    start, first = state, adam.finish(state)["params"]
    for i in range(60):
        state, sums = update(state, at(batches(6), i % 6))
    variables = adam.finish(state)
    for name, layer in variables["params"].items():
        same = jax.tree.map(jnp.array_equal, layer, first[name])
        assert all(jax.tree.leaves(same)) == (name != "readout")
    found = adam.evaluate(variables, at(batches(1, seed=1), 0))
    assert found["accuracy"] / found["count"] > 0.7  # A third by chance.
    # What is shown is changed at random: the same step of another key differs.
    other = start._replace(key=jax.random.key(5))
    again = [update(s, at(batches(6), 0))[1]["loss"] for s in (start, other)]
    assert again[0] != again[1]


def test_a_chip_learns_by_adam(adam):
    state = adam.init(jax.random.key(0))
    params = adam.finish(state)["params"]
    device = devices.get("rram_40nm_random", read_noise=0.02)
    spec = crossbar.Spec(device, input_bits=6)

    @jax.jit
    def accuracy(key):
        chip = hardware.deploy(key, params, spec)
        variables = {"params": chip, "batch_stats": state.stats}
        own = adam.adapt(variables, batches(6), key)
        sums = adam.evaluate(own, at(batches(1, seed=2), 0), key)
        return sums["accuracy"] / sums["count"]

    assert accuracy(jax.random.key(1)) > 0.8  # A third by chance.


def test_the_papers_schedules():
    """Epochs of deplm 4, and one update of torch's Adam with decay, by hand."""
    images = deplm.point_adam.Adam(0.005, 1e-4, 0.7, 20, True, 0.0)
    for epoch, steps in ((0, 0), (18, 0), (19, 1), (38, 1), (39, 2)):
        np.testing.assert_allclose(images.rate(epoch), 0.005 * 0.7**steps)
    parts = deplm.point_adam.Adam(0.02, 1e-4, 0.5, 28, False, 1e-5)
    for epoch, rate in ((27, 0.02), (28, 0.01), (100, 0.0025), (400, 1e-5)):
        np.testing.assert_allclose(parts.rate(epoch), rate, rtol=1e-6)
    w, g = np.array([2.0, -3.0]), np.array([1e-4, 0.5])
    optimiser = images.make(10)
    delta, _ = optimiser.update(jnp.asarray(g), optimiser.init(w), w)
    slope = g + 1e-4 * w
    # The first step of Adam is that of the sign, but for its epsilon.
    expected = -0.005 * slope / (np.abs(slope) + 1e-8)
    np.testing.assert_allclose(delta, expected, rtol=1e-4)


# Noise through second moments.


def test_several_reads_have_the_noise_of_one(recipe):
    """The mean of two reads, and half of its variance, estimate one read's.

    Sums of squares of features, with noise, over n = 240 rows and 9 features:
    both estimate the same mean; that of the raw reads has a standard error of
    a few per cent, so 20 % tells it from no noise, which a factor below shows.
    """
    twice = build(parse(config(**{"learn.reads": 2})))
    device = devices.get("rram_40nm_random", read_noise=0.3)
    state = recipe.init(jax.random.key(0))
    spec = crossbar.Spec(device, input_bits=6)
    params = jax.jit(hardware.deploy)(jax.random.key(1), state.params, spec)
    found, solve = {}, readout.solve
    for name, one in (("once", recipe), ("twice", twice)):
        seen = []

        def watch(sums, ridge, *, bias, noise, seen=seen):
            t = row_blocks.totals(sums)
            seen.append((t.xx.diagonal() / t.weight, noise))
            return solve(sums, ridge, bias=bias, noise=noise)

        def adapt(lessons, one=one, seen=seen):
            one.adapt(
                {"params": params, "batch_stats": state.stats},
                lessons,
                jax.random.key(2),
            )
            return seen[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deplm.point_ridge.readout, "solve", watch)
            found[name] = jax.jit(adapt)(batches(13))
    (once, none), (mean, rest) = found["once"], found["twice"]
    assert not none.any() and (rest > 0).all()
    # Without the rest the mean of two reads has less.
    assert (mean.sum() + rest.sum()) / once.sum() > mean.sum() / once.sum()
    np.testing.assert_allclose((mean + rest).sum() / once.sum(), 1, atol=0.2)


def test_one_readout_for_any_chip_knows_their_spread():
    """Chips that learn nothing; a weak ridge alone would trust every feature.

    12 chips and 120 sets, so that a mean accuracy has a standard error of at
    most 1 / sqrt(4 * 1440) = 1.3 %; chips and sets are the same for both.
    """
    device = {
        "hardware.device": "ideal", "hardware.overrides.program_noise": 0.03,
        "learn.ridge": 1e-6,
    }  # fmt: skip
    test = jax.tree.map(
        lambda a: a.reshape(-1, *a.shape[2:]), batches(6, seed=3)
    )
    found = {}
    for serve in ("own", "any"):
        given = parse(config(**device, **{"learn.serve": serve}))
        one = build(given)
        spec = deplm.settings.make_plan(given.hardware)

        @jax.jit
        def accuracy(state, keys, one=one, spec=spec):
            variables = one.finish(state)

            def on(key):
                chip = hardware.deploy(
                    key, variables["params"], {"abstraction": spec}
                )
                sums = one.evaluate({**variables, "params": chip}, test, key)
                return sums["accuracy"] / sums["count"]

            return jax.vmap(on)(keys).mean()

        state = one.init(jax.random.key(0))
        for i in range(6):
            state, _ = one.update(state, at(batches(6), i))
        keys = core.chip_keys(jax.random.key(4), 12)
        found[serve] = float(accuracy(state, keys))
    assert one.adapt is None and one.lessons == 0
    assert found["any"] > found["own"] + 0.03


def test_random_chips_have_no_readout_in_common():
    given = parse(config(**{"learn.serve": "any"}))
    with pytest.raises(UsageError, match="rram_40nm_random has random weights"):
        deplm.build(given, batches(1).x[0, :1], CLASSES, 6)


BAD = [
    ("model.radii", (0.5, 0.5), "model.radii has 2 entries.*features has 2"),
    ("model.radii", (0.0,), "radius"),
    ("model.mode", "pixel", "mean 'pixels'"),
    ("model.low", 2.0, "model: low is 2.0"),
    ("learn.ridge", 0.0, "learn.ridge"),
    ("learn.bias", "fre", "learn.bias.*mean 'free'"),
    ("learn.calibrate", 0, "learn.calibrate"),
    ("learn.readout", "rigde", "learn.readout.*mean 'ridge'"),
    ("learn.serve", "all", "learn.serve"),
    ("learn.augment", "drop", "learn.augment"),
    ("learn.reads", 0, "learn.reads"),
    ("model.decoder", (4,), "decoder has 1 entries.*features has 2"),
    ("model.categories", 2, "categories is 2, but only a decoder"),
    ("optimizer.decay", 0.0, "optimizer.decay"),
    ("train.batch", 0, "train.batch"),
]


@pytest.mark.parametrize("field, value, words", BAD)
def test_bad_values_are_named(field, value, words):
    given = config(**{field: value})
    with pytest.raises(UsageError, match=words) as error:
        parse(given)
    assert "\n" not in str(error.value)


def test_calibration_must_leave_batches():
    given = parse(config())
    with pytest.raises(UsageError, match="takes 1 batches.*has 1"):
        deplm.build(given, batches(1).x[0, :1], CLASSES, 1)
