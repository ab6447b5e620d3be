"""What every recipe does, one row a recipe."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.recipes import steps

pytestmark = pytest.mark.usefixtures("compile_quickly")

CASES = {
    "mask": {},
    "weights": {"learn.rule": "weights"},
    "weights on fresh macros": {
        "recipe": "classifier",
        "train.hardware": "fresh_chips",
        "train.input_ranges": True,
        "hardware.device": "sram_wang2023",
        "hardware.macro": {"lsb_units": 5, "clip_rate": 0.001},
    },
    "mask on fresh chips": {
        "learn.weights": "kaiming_normal",
        "learn.dead_band_start": 0.01,
        "train.hardware": "fresh_chips",
        "hardware.device": "rram_40nm_set_reset",
    },
    "mask and ranges on fresh chips": {
        "train.hardware": "fresh_chips",
        "train.input_ranges": True,
        "hardware.device": "rram_40nm_set_reset",
        "hardware.input_bits": 3,
    },
    "mask on a digital chip": {
        "train.hardware": "fresh_chips",
        "hardware.device": "nvfp4",
    },
    "float baseline": {"recipe": "in_memory", "learn.rule": "float"},
    "analogue SGD": {"recipe": "in_memory", "learn.rule": "sgd"},
    "Tiki-Taka v2": {"recipe": "in_memory"},
    "language on fresh chips": {
        "recipe": "language",
        "train.hardware": "fresh_chips",
        "hardware.overrides": {"program_noise": 0.05},
    },
    "grids, mixed and averaged": {
        "recipe": "quantization_aware",
        "quantize.regulariser": 0.1,
        "quantize.regulariser_start": 0.0,
        "quantize.groups": "channel",
        "augment.mixup": 1.0,
        "optimizer.average": 0.5,
    },
    "grids on fresh chips": {
        "recipe": "quantization_aware",
        "train.hardware": "fresh_chips",
        "hardware.overrides": {"program_noise": 0.05},
        "hardware.input_bits": 3,
    },
}
TUNED = {
    "pretrained on fresh chips": {
        "train.hardware": "fresh_chips",
        "hardware.overrides": {"program_noise": 0.05},
    },
    "pretrained with ranges on chips of any age": {
        "train.hardware": "aged_chips",
        "train.input_ranges": True,
        "hardware.device": "rram_wan2022",
        "hardware.seconds": 1e5,
        "hardware.input_bits": 6,
    },
}
METRICS = {"accuracy": 0.5, "loss": 1.0}


class Compiled(NamedTuple):
    recipe: Any
    batch: Any
    init: Any
    update: Any
    review: Any


@pytest.fixture(scope="module")
def compiled(recipe, tuned, batch, windows):
    """A recipe by the name of its case, compiled once."""

    @functools.cache
    def make(case):
        made = recipe(CASES[case]) if case in CASES else tuned(TUNED[case])
        text = CASES.get(case, {}).get("recipe") == "language"
        jitted = (jax.jit(f) for f in (made.init, made.update, made.review))
        return Compiled(made, windows if text else batch, *jitted)

    return make


@pytest.fixture(params=[*CASES, *TUNED])
def one(request, compiled):
    return compiled(request.param)


def arrays(tree):
    """Leaves in numpy, keys as their numbers."""
    return [
        np.asarray(jax.random.key_data(a))
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
        else np.asarray(a)
        for a in jax.tree.leaves(tree)
    ]


def assert_equal(a, b):
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)


def moving(state):
    """What is learned, without the offsets of grids that have none."""
    learned = state.learned
    if isinstance(learned, steps.Learned):
        learned = learned._replace(offsets={})
    return arrays(learned)


def types(tree):
    """Shapes and types; a weak type is another one to the compiler."""
    return [
        (a.shape, a.dtype, jax.typeof(a).weak_type)
        for a in jax.tree.leaves(tree)
    ]


def test_a_step_keeps_types_and_does_not_recompile(one, compilations):
    start = one.init(jax.random.key(0))
    assert not any(weak for *_, weak in types(start))
    second, third = one.batch(1), one.batch(2)
    state = one.review(one.update(start, one.batch(0))[0], METRICS)
    assert types(state) == types(start)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    # A state from a checkpoint is the same to the compiler.
    restored = jax.tree.map(
        jax.device_put,
        jax.tree.unflatten(
            jax.tree.structure(state), arrays(state)
        )._replace(key=state.key),
    )  # fmt: skip
    with compilations() as names:
        first, sums = one.update(state, second)
        again, _ = one.update(restored, second)
        last, _ = one.update(one.review(first, {**METRICS, "loss": 2.0}), third)
    assert not names
    assert_equal(first, again)
    assert last.step == 3
    for leaf in [*arrays(last.learned), *sums.values()]:
        assert np.isfinite(leaf).all()
    for a, b in zip(moving(start), moving(last), strict=True):
        assert (a != b).any()


def test_a_run_is_its_key(one):
    def run(seed):
        state = one.init(jax.random.key(seed))
        return one.update(state, one.batch(0))

    (first, sums), again, (other, _) = run(0), run(0), run(1)
    assert_equal((first, sums), again)
    # Of a given network a slope may be 0 for every key.
    for a, b in zip(moving(first), moving(other), strict=True):
        assert (a != b).any()


def test_what_is_finished_can_be_evaluated_and_summed_up(one):
    batch = one.batch(0)
    state, _ = one.update(one.init(jax.random.key(0)), batch)
    variables = one.recipe.finish(state)
    sums = jax.eval_shape(one.recipe.evaluate, variables, batch)
    assert set(sums) == {"count", "loss", "accuracy"}
    y = jax.eval_shape(one.recipe.forward, variables, batch.x)
    assert y.shape == (*batch.y.shape, 3) and y.dtype == np.float32
    for value in one.recipe.summary(state).values():
        assert value.shape == () and np.isfinite(value)


def test_seeds_can_be_a_batch(compiled, batch):
    one = compiled("mask")
    states = [one.init(jax.random.key(seed)) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *states)
    many = jax.jit(jax.vmap(one.recipe.update, (0, None)))(stacked, batch(0))
    for i, state in enumerate(states):
        alone = one.update(state, batch(0))
        for a, b in zip(arrays(many), arrays(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)
