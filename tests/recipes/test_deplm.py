"""The random point-set machine: its encoder, its readout, and its chips."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, data, hardware, models
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models import pointset
from jaxedge.recipes import deplm

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


@pytest.fixture(scope="module")
def recipe():
    given = parse(config())
    return deplm.build(given, batches(1).x[0, :1], CLASSES, 6)


@pytest.fixture(scope="module")
def learned(recipe):
    """The variables after one pass over six batches, and the state."""
    state, update = recipe.init(jax.random.key(0)), jax.jit(recipe.update)
    for i in range(6):
        state, _ = update(state, at(batches(6), i))
    return jax.jit(recipe.finish)(state), state


def test_the_papers_counts():
    given = parse(full("fashion_mnist"))
    model = models.PointClassifier(10, given.model.layers)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1))
    )["params"]
    random = [shapes[f"abstraction_{i}"]["Dense_0"]["kernel"] for i in range(3)]
    assert [w.shape for w in random] == [(6, 51), (54, 102), (105, 819)]
    assert sum(w.size for w in random) == 91809
    assert shapes["readout"]["kernel"].size == 8190
    # Vectors that the arrays see (deplm 3).
    small = models.PointClassifier(10, (given.model.layers[-1],))
    x = jnp.zeros((1, 28, 28, 1))
    counted = small.init(jax.random.key(0), x)["counts"]["abstraction_0"]
    assert counted["Dense_0"]["vectors"] == (784,)


def test_an_abstraction_is_its_loop():
    """Against numpy in float64, one neighbourhood after the other."""
    size = pointset.Abstraction(5, 0.6, 3, 4)
    rng = np.random.default_rng(0)
    place = rng.uniform(-0.5, 0.5, (2, 12, 3)).astype(np.float32)
    features = rng.normal(size=(2, 12, 2)).astype(np.float32)
    near = pointset.locate(place, (size, None))
    where = near.chosen[0], near.near[0]
    layer = pointset.SetAbstraction(4)
    variables = layer.init(jax.random.key(0), place, features, where)
    centre, y = layer.apply(variables, place, features, where)
    kernel = np.float64(variables["params"]["Dense_0"]["kernel"])
    for b in range(2):
        chosen, far = [0], np.full(12, 1e10)
        for _ in range(4):
            gap = ((place[b] - place[b, chosen[-1]]) ** 2).sum(1)
            far = np.minimum(far, gap)
            chosen.append(int(far.argmax()))
        np.testing.assert_array_equal(centre[b], place[b, chosen])
        for s, c in enumerate(chosen):
            gap = ((place[b] - place[b, c]) ** 2).sum(1)
            inside = np.flatnonzero(gap <= 0.6**2)[:3]
            rows = np.concatenate(
                [place[b, inside] - place[b, c], features[b, inside]], 1
            )
            # Statistics at their start: mean 0, variance 1.
            out = np.float64(rows) @ kernel / np.sqrt(1 + 1e-5)
            expected = np.maximum(out.max(0), 0)
            np.testing.assert_allclose(y[b, s], expected, rtol=1e-4, atol=1e-6)


def test_one_pass_learns(recipe, learned):
    variables, state = learned
    sums = jax.jit(recipe.evaluate)(variables, at(batches(1, seed=1), 0))
    assert sums["accuracy"] / sums["count"] > 0.9  # A third by chance.
    assert state.step == 6


def test_normalisation_has_the_mean_of_its_batches(recipe):
    state = recipe.init(jax.random.key(0))
    state, _ = recipe.update(state, at(batches(6), 0))
    # The mean of one batch, not a tenth of it.
    layer = state.stats["abstraction_1"]["Norm_0"]["BatchNorm_0"]
    before = recipe.init(jax.random.key(0))
    sizes = parse(config()).model.layers
    _, changed = models.PointClassifier(CLASSES, sizes).apply(
        {"params": before.params, "batch_stats": before.stats},
        2 * batches(6).x[0] - 1,
        train=True,
        mutable=["batch_stats"],
    )
    tenth = changed["batch_stats"]["abstraction_1"]["Norm_0"]["BatchNorm_0"]
    np.testing.assert_allclose(layer["mean"], 10 * tenth["mean"], rtol=1e-4)


def test_steps_keep_types_and_do_not_recompile(recipe, compilations):
    update, state = jax.jit(recipe.update), recipe.init(jax.random.key(0))
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
