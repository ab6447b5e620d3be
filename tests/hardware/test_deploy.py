import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware.crossbar import Spec

SPEC = Spec(hw.devices.get("ideal", program_noise=0.1))
OTHER = Spec(SPEC.device, adc_bits=6)


def layers(*names):
    return {
        name: {"kernel": jnp.full((5, 4), 0.3), "bias": jnp.zeros(4)}
        for name in names
    }


def network():
    """Dense, conv, masked, and leaves that no array can hold."""
    return {
        "Conv_0": {"kernel": jnp.full((3, 3, 2, 4), 0.3), "bias": jnp.ones(4)},
        **layers("Dense_0", "Dense_1"),
        "Dense_2": hw.MaskedRandom(jnp.ones((4, 2)), jnp.eye(4, 2)),
        "scale": jnp.ones(()),
        "cube": jnp.ones((2, 3, 4)),
    }


def assert_same_chip(a, b):
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_array_equal(x, y)


@functools.cache
def chip():
    return hw.deploy(jax.random.key(0), network(), SPEC)


def levels(leaf):
    return np.asarray(leaf.cells.g)


def test_one_spec_covers_every_matrix_and_kernel():
    shapes = {
        "Conv_0": (3, 3, 2, 4),
        "Dense_0": (5, 4),
        "Dense_1": (5, 4),
        "Dense_2": (4, 2),
    }
    for name, shape in shapes.items():
        leaf = chip()[name]
        leaf = leaf if name == "Dense_2" else leaf["kernel"]
        assert isinstance(leaf, hw.Crossbar) and leaf.shape == shape
    for name in ("Conv_0", "Dense_0"):
        assert not hw.is_weight(chip()[name]["bias"])
    for name in ("scale", "cube"):
        assert not hw.is_weight(chip()[name])


def test_one_spec_leaves_tables_alone(key):
    """They are looked up; only a pattern that names one takes it."""
    params = {"embedding": jnp.ones((5, 4)), "head": jnp.ones((4, 2))}
    for plan in (SPEC, {"": SPEC}, {"embedding": None, "": SPEC}):
        found = hw.deploy(key, params, plan)
        assert found["embedding"] is params["embedding"]
        assert hw.is_weight(found["head"])
    named = hw.deploy(key, params, {"embedding": SPEC, "": None})
    assert hw.is_weight(named["embedding"])
    assert not hw.is_weight(named["head"])


def test_a_leaf_draws_from_the_stream_of_its_path(key):
    for name in ("Dense_0", "Dense_1"):
        alone = hw.program(
            core.stream(key, f"{name}/kernel"), network()[name]["kernel"], SPEC
        )
        assert_same_chip(chip()[name]["kernel"], alone)
    first, second = (chip()[n]["kernel"] for n in ("Dense_0", "Dense_1"))
    assert (levels(first) != levels(second)).any()


def test_another_layer_changes_no_layer(key):
    few = hw.deploy(key, layers("b", "d"), SPEC)
    more = hw.deploy(key, layers("a", "b", "c", "d", "e"), SPEC)
    for name in few:
        assert_same_chip(few[name], more[name])


def test_the_key_is_the_chip(key):
    one, again = (hw.deploy(key, layers("a"), SPEC) for _ in range(2))
    assert_same_chip(one, again)
    other = hw.deploy(core.stream(key, "other"), layers("a"), SPEC)
    g, h = (levels(chip["a"]["kernel"]) for chip in (one, other))
    assert (g != h).any()


def test_chips_are_mapped(key):
    @jax.jit
    @jax.vmap
    def deploy(key):
        return hw.deploy(key, network(), SPEC)

    chips = deploy(jnp.stack([key, jax.random.key(1)]))
    assert_close = functools.partial(np.testing.assert_allclose, rtol=2e-6)
    jax.tree.map(lambda a, b: assert_close(a[0], b), chips, chip())
    g, h = levels(chips["Dense_0"]["kernel"])
    assert (g != h).any()


def test_the_first_pattern_that_a_path_holds_counts(key):
    plan = {"Dense_1": OTHER, "^Conv": None, "kernel$": SPEC}
    mixed = hw.deploy(key, network(), plan)
    assert mixed["Dense_1"]["kernel"].spec is OTHER
    assert mixed["Dense_0"]["kernel"].spec is SPEC
    assert_same_chip(mixed["Conv_0"], network()["Conv_0"])
    assert isinstance(mixed["Dense_2"], hw.MaskedRandom)  # not matched
    assert_same_chip(mixed["Dense_0"], chip()["Dense_0"])


def test_a_plan_keeps_its_order_in_a_compiled_function(key):
    tree = {"a": {"b": jnp.ones((2, 2)), "c": jnp.ones((2, 2))}}
    plan = {"b": None, "a": SPEC}  # jit would sort the keys
    compiled = jax.jit(hw.deploy)(key, tree, hw.Plan.of(plan))
    for chip in (hw.deploy(key, tree, plan), compiled):
        assert not hw.is_weight(chip["a"]["b"])
        assert hw.is_weight(chip["a"]["c"])


def test_a_pattern_may_match_in_the_middle_of_a_path(key):
    tree = {"block": {"a1": {"w": jnp.ones((2, 2))}, "b": jnp.ones((2, 2))}}
    block = hw.deploy(key, tree, {r"/a\d/": SPEC})["block"]
    assert hw.is_weight(block["a1"]["w"])
    assert not hw.is_weight(block["b"])


def test_an_empty_plan_changes_nothing(key):
    assert_same_chip(hw.deploy(key, network(), {}), network())


def test_an_unmatched_pattern_lists_the_weights(key):
    with pytest.raises(core.UsageError) as caught:
        hw.deploy(key, layers("a", "b"), {"kernel": SPEC, "Dense_7": SPEC})
    message = str(caught.value)
    assert "'Dense_7' matches no weight" in message
    assert "a/kernel, b/kernel" in message and "bias" not in message
    with pytest.raises(core.UsageError, match="the weights are: none"):
        hw.deploy(key, {"bias": jnp.ones(3)}, SPEC)


def test_a_chip_is_not_programmed_again(key):
    with pytest.raises(core.UsageError, match="Crossbar is programmed already"):
        hw.deploy(key, chip(), SPEC)
    assert_same_chip(hw.deploy(key, chip(), {"kernel": None}), chip())
