"""Tests of what is kept of learned grids, each found again in numpy."""

import dataclasses
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge.data import Batch, make_source
from jaxedge.models import layers, learned_step, vit
from jaxedge.quantize import variation as tracking
from jaxedge.quantize.grid import Grid
from jaxedge.recipes import grid_places, steps, supervised
from jaxedge.run import job, variation, variation_modules, variation_scores

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(130, 4, 4, 1)).astype(np.float32)
Y = np.arange(130) % 3
VALID = make_source(X, Y, classes=tuple("abc"), name="toy", split="valid")
NAMES = [
    *(f"block_0/attention/{n}" for n in ("key", "out", "prob", "query")),
    "block_0/attention/value", "block_0/mlp/down", "block_0/mlp/up", "head",
    "patch",
]  # fmt: skip
KINDS = [
    "key", "projection", "probabilities", "query", "value", "MLP", "MLP",
    "matrix", "convolution",
]  # fmt: skip


def rounded(x, grid, step=None):
    """On its grid, in float64; one step for all."""
    step = float(grid.step[0]) if step is None else step
    low, high = float(grid.low), float(grid.high)
    return np.clip(np.round(np.asarray(x, float) / step), low, high) * step


@pytest.fixture(scope="module")
def network():
    """A recipe of a transformer at 2 bits, its variables, and trackers."""
    model = vit.Vit(
        3, (4, 4), patch=2, width=8, depth=1, heads=2, mean=(0.5,), std=(1.0,)
    )
    given = steps.Quantize(2, 2, 2, groups="tensor")
    params = jax.jit(model.init)(jax.random.key(0), X[:1])["params"]
    # Larger than they are drawn, so that grids change answers.
    params = jax.tree.map(lambda a: 12 * a if a.ndim > 1 else a, params)

    def apply(params):
        return model.apply({"params": params}, X[:1], mutable=[layers.SITES])[1]

    rule = steps.add(
        supervised.weights_rule(),
        grid_places.places(apply, params, given),
        given,
    )
    recipe = supervised.make(
        model,
        jnp.asarray(X[:1]),
        rule,
        optax.sgd(0.1),
        start={"params": params},
    )
    state = jax.jit(recipe.init)(jax.random.key(1))
    # Steps of inputs that no batch has set yet would leave nothing.
    fine = jax.tree.map(lambda a: 0.3 * a, state.learned.input_steps)
    state = state._replace(learned=state.learned._replace(input_steps=fine))
    trackers = steps.trackers(state.memory)
    return recipe, jax.jit(recipe.finish)(state), trackers


@pytest.fixture(scope="module")
def found(network):
    recipe, variables, trackers = network
    trackers = {
        path: t._replace(
            rate=jnp.asarray(np.arange(t.rate.size) % 8 / 1000.0).reshape(
                t.rate.shape
            )
        )
        for path, t in trackers.items()
        if "mlp" not in path
    }
    arrays = variation.collect(recipe, variables, trackers, VALID)
    assert all(name.startswith("variation/") for name in arrays)
    return {name.removeprefix("variation/"): a for name, a in arrays.items()}


# Modules.


def test_modules_are_layers_with_the_places_of_their_outputs(network):
    modules = variation_modules.modules(network[1]["params"])
    assert list(modules) == NAMES
    assert [m.kind for m in modules.values()] == KINDS
    inner = "block_0/attention"
    assert modules[f"{inner}/query"][1:] == (
        f"{inner}/query/kernel", f"{inner}/query_site",
    )  # fmt: skip
    assert modules[f"{inner}/prob"][1:] == (None, f"{inner}/prob_site")
    assert modules[f"{inner}/out"][1:] == (f"{inner}/out/kernel", None)
    plain = {"Dense_0": {"kernel": jnp.ones((2, 3))}}
    assert not variation_modules.modules(plain)
    assert not variation.collect(network[0], {"params": plain}, {}, VALID)


def test_many_blocks_come_in_their_order():
    grid = Grid(jnp.ones(1), jnp.float32(-2), jnp.float32(1))
    leaf = learned_step.LearnedStep(jnp.ones((2, 2)), grid)
    names = ["block_10", "block_2", "block_0"]
    modules = variation_modules.modules({n: {"kernel": leaf} for n in names})
    assert list(modules) == ["block_0", "block_2", "block_10"]


def test_groups_are_kinds_of_several_modules_and_families():
    groups = variation_modules.groups(KINDS)
    assert list(groups) == ["MLP", "attention", "feed-forward"]
    assert np.flatnonzero(groups["attention"]).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(groups["feed-forward"]).tolist() == [5, 6]
    assert not variation_modules.groups(["matrix", "matrix"])
    mixed = ["convolution", "convolution", "matrix"]
    assert list(variation_modules.groups(mixed)) == ["convolution"]


# Statistics.


def test_statistics_are_those_of_the_weights(network, found):
    params = network[1]["params"]
    kernels = [
        params["block_0"]["mlp"]["up"]["kernel"],
        params["head"]["kernel"],
    ]
    for name, leaf in zip(("block_0/mlp/up", "head"), kernels, strict=True):
        i = NAMES.index(name)
        w, step = np.float64(leaf.weights), float(leaf.grid.step[0])
        v = w / step
        inside = (v >= -2) & (v <= 1)
        off = np.abs(v - np.round(v))[inside]
        counts = np.histogram(off, variation.BINS, (0, 0.5))[0]
        np.testing.assert_allclose(
            found["distances"][i], counts / counts.sum(), atol=1 / off.size
        )
        assert found["clipped"][i] == pytest.approx(1 - inside.mean())
        assert 0 < found["clipped"][i] < 1
        assert found["step"][i] == pytest.approx(step)
        assert found["count"][i] == w.size
        assert found["bits"][i] == found["input_bits"][i] == 2
        size = np.abs(v).mean(0)
        told = dict(
            zip(
                tracking.Fluctuation._fields,
                found["fluctuation"][i],
                strict=True,
            )
        )
        assert told["mean"] == pytest.approx(size.mean(), rel=1e-5)
        assert told["spread"] == pytest.approx(size.std(), rel=1e-4)


def test_oscillation_is_told_where_it_is_followed(found):
    count = found["count"]
    for i, (name, kind) in enumerate(zip(NAMES, KINDS, strict=True)):
        if kind in ("MLP", "probabilities"):
            assert np.isnan(found["oscillating"][i])
            assert np.isnan(found["rate"][i])
            continue
        rates = np.arange(count[i]) % 8 / 1000
        share = np.mean(rates > 0.005)
        assert found["oscillating"][i] == pytest.approx(share), name
        assert found["rate"][i] == pytest.approx(rates.mean(), rel=1e-4)
    i = NAMES.index("block_0/attention/prob")
    assert count[i] == 0 and found["input_bits"][i] == 2
    assert all(np.isnan(found[n][i]) for n in ("bits", "step", "clipped"))
    assert np.isnan(found["distances"][i]).all()


def test_a_step_that_fell_below_its_limit_counts_as_it_is_used():
    grid = Grid(jnp.asarray([-0.5]), jnp.float32(-2), jnp.float32(1))
    leaf = learned_step.LearnedStep(jnp.full((2, 2), 0.3), grid)
    params = {"one": {"kernel": leaf}}
    modules = variation_modules.modules(params)
    told = variation.statistics(params, modules, {})
    assert told["step"] == pytest.approx(1e-4)
    assert told["clipped"].tolist() == [1] and not told["distances"].any()


# Sensitivity.


def without(params, names):
    """Parameters with plain weights, and no grid, in some modules."""
    flat: dict[Any, Any] = dict(flatten_dict(params, sep="/"))
    for name in names:
        flat.pop(f"{name}_site", None)
        if f"{name}/kernel" in flat:
            flat[f"{name}/kernel"] = flat[f"{name}/kernel"].weights
    return unflatten_dict(flat, sep="/")


@pytest.mark.parametrize("case", ["none", "alone", "group_spared"])
def test_networks_with_some_grids_are_those_with_other_leaves(
    network, found, case
):
    """Plain arrays in place of the modules that are off."""
    recipe, variables, _ = network
    i = NAMES.index("block_0/attention/value")
    k = list(found["groups"]).index("attention")
    place, off = {
        "none": ((), NAMES),
        "alone": (i, [n for n in NAMES if n != NAMES[i]]),
        "group_spared": (k, [n for n in NAMES if "attention" in n]),
    }[case]
    params = without(variables["params"], off)
    batch = Batch(X, Y.astype(np.int32), np.ones(130, np.float32))
    sums = jax.jit(recipe.evaluate)({**variables, "params": params}, batch)
    count = float(sums["count"])
    loss, right = float(sums["loss"]) / count, float(sums["accuracy"]) / count
    assert found[f"loss/{case}"][place] == pytest.approx(loss, rel=1e-4)
    assert found[f"score/{case}"][place] == pytest.approx(right, abs=1e-6)
    assert found["loss/all"] != pytest.approx(loss, rel=1e-3)
    assert found["examples"] == 130


def test_one_program_serves_all_modules(network, compilations):
    recipe, variables, _ = network
    modules = variation_modules.modules(variables["params"])
    part = VALID.rows(np.arange(10))
    measure = variation_scores.judge(recipe, variables, modules, part)
    mask = np.zeros(len(NAMES), bool)
    first = measure(mask)
    with compilations() as names:
        found = [measure(row) for row in np.eye(len(NAMES), dtype=bool)]
    assert not names
    assert len({round(row["loss"], 5) for row in [first, *found]}) > 5


def test_a_leaf_that_is_off_is_its_weights():
    grid = Grid(jnp.asarray([0.5]), jnp.float32(-2), jnp.float32(1))
    w = RNG.normal(size=(4, 3)).astype(np.float32)
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    leaf = learned_step.LearnedStep(jnp.asarray(w), grid, grid)
    for on, want in (
        (True, rounded(x, grid) @ rounded(w, grid)),
        (False, x @ w),
    ):
        one = variation_scores.Switched(leaf, jnp.asarray(on))
        found = one.multiply(jnp.asarray(x), jnp.matmul, None)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
        place = variation_scores.SwitchedPlace(grid, jnp.asarray(on))
        want = rounded(x, grid) if on else x
        np.testing.assert_allclose(place.apply(jnp.asarray(x)), want, rtol=1e-6)
    plain = dataclasses.replace(leaf, grid=None)
    one = variation_scores.Switched(plain, jnp.asarray(True))
    found = one.multiply(jnp.asarray(x), jnp.matmul, None)
    np.testing.assert_allclose(found, rounded(x, grid) @ w, rtol=1e-4)


def test_a_job_tells_of_learned_grids_and_no_other_does(resolve, small):
    root = Path(__file__).resolve().parents[2]
    quick = (
        f"--config={root}/configs/coreset_qat.py:quick",
        "--config.model.name=mlp", "--config.model.widths=(4,)",
        "--config.quantize.edges=4", "--config.coreset.method=all",
        "--config.coreset.fraction=1.0",
    )  # fmt: skip
    resolved = resolve(*quick)
    state = jax.jit(resolved.recipe.init)(jax.random.key(0))
    variables = jax.jit(resolved.recipe.finish)(state)
    arrays = job._variation(resolved, variables, state)
    assert arrays["variation/names"].tolist() == ["Dense_0", "Dense_1"]
    assert arrays["variation/oscillating"].tolist() == [0, 0]
    assert arrays["variation/examples"] == len(resolved.splits["valid"].y)
    assert not job._variation(resolve(*small), None, None)
