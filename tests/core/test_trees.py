import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import trees


@trees.pytree
class Amplifier:
    gain: Any = 2.0
    offset: Any = 0.0
    name: str = trees.static(default="a")

    def __call__(self, x):
        return self.gain * x + self.offset


def test_static_fields_are_type_and_the_others_are_leaves():
    leaves, treedef = jax.tree.flatten(Amplifier(3.0, 4.0, "b"))
    assert leaves == [3.0, 4.0]
    assert jax.tree.unflatten(treedef, leaves) == Amplifier(3.0, 4.0, "b")
    assert treedef != jax.tree.structure(Amplifier(3.0, 4.0, "c"))


def test_numbers_are_swept_and_differentiated():
    sweep = Amplifier(jnp.arange(3.0), jnp.ones(3))
    np.testing.assert_array_equal(
        jax.vmap(lambda a: a(10.0))(sweep), [1, 11, 21]
    )
    slope = jax.grad(lambda a: a(10.0))(Amplifier())
    assert slope == Amplifier(10.0, 1.0)


def test_a_new_number_compiles_nothing_but_a_new_static_field_does(
    compilations,
):
    call = jax.jit(lambda amplifier, x: amplifier(x))
    x = jnp.ones(4)
    call(Amplifier(), x)
    with compilations() as names:
        call(Amplifier(5.0, 6.0), x)
    assert not names
    with compilations() as names:
        call(Amplifier(5.0, 6.0, "b"), x)
    assert len(names) == 1


def test_instances_are_frozen_and_replaceable():
    amplifier = Amplifier()
    with pytest.raises(dataclasses.FrozenInstanceError):
        amplifier.gain = 1.0
    assert dataclasses.replace(amplifier, gain=1.0) == Amplifier(1.0)


def test_a_static_field_without_default_is_required():
    @trees.pytree
    class Sized:
        size: int = trees.static()

    assert jax.tree.leaves(Sized(3)) == []
    with pytest.raises(TypeError, match="size"):
        Sized()


def test_map_named_gives_paths_and_aligned_leaves():
    tree = {"Dense_0": {"kernel": 1, "bias": 2}, "list": [3, Amplifier(4, 5)]}
    named = trees.map_named(lambda path, a, b: (path, a + b), tree, tree)
    assert named == {
        "Dense_0": {
            "kernel": ("Dense_0/kernel", 2),
            "bias": ("Dense_0/bias", 4),
        },
        "list": [
            ("list/0", 6),
            Amplifier(("list/1/gain", 8), ("list/1/offset", 10)),
        ],
    }


def test_map_named_stops_at_leaves_of_the_caller():
    paths = trees.map_named(
        lambda path, leaf: path,
        {"a": Amplifier(), "b": 0},
        is_leaf=lambda node: isinstance(node, Amplifier),
    )
    assert paths == {"a": "a", "b": "b"}
