"""How a network does with some of its learned grids in use.

Letters: M modules, K groups of them.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.trees import map_named, pytree
from jaxedge.hardware.weights import Product, Weight
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize.grid import Grid
from jaxedge.recipes.recipe import Recipe, add, mean
from jaxedge.run.variation_modules import Module, is_leaf

_BATCH = 100


def sensitivity(
    recipe: Recipe,
    variables: Any,
    found: Mapping[str, Module],
    together: Mapping[str, np.ndarray],
    valid: data.Source,
) -> dict[str, np.ndarray]:
    """How a network does with some of its modules on their grids.

    A module off its grids computes with its weights as they are trained and
    its inputs as they come; whatever else was learned stays, statistics of
    normalisations too, so that a network with no grid is not one that was
    trained without.

    Args:
        recipe: of the network.
        variables: of it.
        found: its modules.
        together: groups of them, bool [M] by name.
        valid: examples.

    Returns:
        Of the metric that judges, and of the loss, "score/..." and "loss/...":
        "all" [], every module on its grids; "none" []; "alone" [M], one module
        alone on its grids; "spared" [M], all but one; and "group_alone" and
        "group_spared" [K], likewise of groups. The loss may be unknown.
    """
    count = len(found)
    own = np.eye(count, dtype=bool)
    parts = np.array(list(together.values()), bool).reshape(-1, count)
    masks = [
        np.ones((1, count), bool), np.zeros((1, count), bool), own, ~own,
        parts, ~parts,
    ]  # fmt: skip
    measure = judge(recipe, variables, found, valid)
    rows = [[measure(mask) for mask in part] for part in masks]
    names = ("all", "none", "alone", "spared", "group_alone", "group_spared")
    arrays = {}
    for said, metric in (("score", recipe.score), ("loss", "loss")):
        if metric not in rows[0][0]:
            continue
        for name, part in zip(names, rows, strict=True):
            values = np.array([row[metric] for row in part], float)
            lone = name in ("all", "none")
            arrays[f"{said}/{name}"] = values[0] if lone else values
    return arrays


def judge(
    recipe: Recipe,
    variables: Any,
    found: Mapping[str, Module],
    valid: data.Source,
) -> Callable[[np.ndarray], dict[str, float]]:
    """A function of which modules are on their grids, bool [M] -> metrics.

    It compiles once, whichever these are.
    """

    @jax.jit
    def one(variables: Any, on_M: jax.Array, batch: data.Batch) -> Any:
        params = switched(variables["params"], found, on_M)
        return recipe.evaluate({**variables, "params": params}, batch)

    batches = [*data.in_order(valid, min(_BATCH, len(valid.y)))]

    def measure(on_M: np.ndarray) -> dict[str, float]:
        sums = [one(variables, jnp.asarray(on_M), batch) for batch in batches]
        return mean(functools.reduce(add, sums), recipe.measure)

    return measure


def switched(params: Any, found: Mapping[str, Module], on_M: jax.Array) -> Any:
    """Parameters whose modules are on their grids or off.

    Args:
        params: with grids.
        found: from `modules`, of the same parameters.
        on_M: bool, may be traced.
    """
    where: dict[str, jax.Array] = {}
    for on, module in zip(on_M, found.values(), strict=True):
        where |= {path: on for path in module[1:] if path is not None}

    def place(path: str, leaf: Any) -> Any:
        if path not in where:
            return leaf
        if isinstance(leaf, LearnedStep):
            return Switched(leaf, where[path])
        return SwitchedPlace(leaf, where[path])

    return map_named(place, params, is_leaf=is_leaf)


@pytree
class Switched(Weight):
    """A weight on its grids, or as it was trained.

    Attributes:
        leaf: of it.
        on: whether it is on its grids, bool [].
    """

    leaf: LearnedStep
    on: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Shape of the weight."""
        return self.leaf.shape

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # Digital.
        leaf = self.leaf
        w = jnp.where(self.on, leaf.values, leaf.weights)
        x = jnp.where(self.on, leaf.encode(x), x)
        return product(x, w.reshape(-1, w.shape[-1]))


@pytree
class SwitchedPlace:
    """A place with a grid, or without.

    Attributes:
        grid: of it.
        on: whether it is used, bool [].
    """

    grid: Grid
    on: jax.Array

    def apply(self, x: jax.Array) -> jax.Array:
        """`x`, on the grid or not."""
        return jnp.where(self.on, self.grid.apply(x), x)
