"""What a report tells of learned grids: oscillation, levels, sensitivity.

Letters: M modules, K groups of them, G groups of a tensor, B bins, S
statistics.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize import integer, variation
from jaxedge.quantize.grid import Grid
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.variation_modules import Module, grids, groups, modules
from jaxedge.run.variation_scores import sensitivity

HOME = "variation/"
# Of the distance of a weight to its nearest level, 0 to half a step.
BINS = 10
# Examples of the validation split on which modules are told apart, at most.
EXAMPLES = 500
# Rate of a `Tracker` beyond which a weight counts as oscillating (vvtq 4.4).
THRESHOLD = 0.005


def collect(
    recipe: Recipe,
    variables: Any,
    trackers: Mapping[str, variation.Tracker],
    valid: data.Source,
) -> dict[str, np.ndarray]:
    """The arrays of what a report shows of learned grids.

    Args:
        recipe: of the network.
        variables: of it, on ideal hardware.
        trackers: of the codes of its weights, by path; of some or none.
        valid: the validation split.

    Returns:
        Under "variation/", nothing where a network has no learned grid: "names"
        and "kinds" [M]; what `statistics` finds; "groups" [K], kinds of which
        there are several modules and families of them; what `sensitivity`
        finds of modules and of groups; and "examples" [], on how many.
    """
    found = modules(variables["params"])
    if not found:
        return {}
    kinds = [module.kind for module in found.values()]
    together = groups(kinds)
    valid = valid.rows(np.arange(min(EXAMPLES, len(valid.y))))
    arrays = {
        "names": np.array(list(found), dtype=str),
        "kinds": np.array(kinds, dtype=str),
        "groups": np.array(list(together), dtype=str),
        "examples": np.array(len(valid.y)),
        **statistics(variables["params"], found, trackers),
        **sensitivity(recipe, variables, found, together, valid),
    }
    return {f"{HOME}{name}": array for name, array in arrays.items()}


def statistics(
    params: Any,
    found: Mapping[str, Module],
    trackers: Mapping[str, variation.Tracker],
) -> dict[str, np.ndarray]:
    """What the weights of each module tell; NaN where nothing is known.

    Args:
        params: of the network.
        found: its modules.
        trackers: as for `collect`.

    Returns:
        "bits" and "input_bits" [M] of weights and of what meets them (or, of a
        place alone, of that); "count" [M] of the weights; "step" [M] as it is
        used, mean over its groups; "distances" [M, B], share of the weights
        inside the range whose distance to the nearest level is in each of B
        parts of half a step; "clipped" [M], share of those outside;
        "fluctuation" [M, S], as `variation.Fluctuation` of weights in steps, by
        outputs; "oscillating" [M], share of the weights, and "rate" [M],
        oscillations of a weight and step, an average of the last of training
        (`variation.track`).
    """
    leaves = grids(params)
    nan = float("nan")
    size = len(variation.Fluctuation._fields)
    kernels = {
        name: module.kernel
        for name, module in found.items()
        if module.kernel is not None
    }
    of_weights = {
        name: leaves[path]
        for name, path in kernels.items()
        if leaves[path].grid is not None
    }
    seen = jax.device_get(_looked(of_weights))
    followed = {
        name: trackers[path]
        for name, path in kernels.items()
        if path in trackers
    }
    told = jax.device_get(_followed(followed))
    rows = []
    for name, module in found.items():
        leaf = leaves.get(module.kernel or "")
        # Of a place alone, what passes there.
        inputs = leaves[module.site or ""] if leaf is None else leaf.inputs
        one = {
            "bits": nan if leaf is None else _bits(leaf.grid),
            "input_bits": _bits(inputs),
            "count": 0 if leaf is None else leaf.size,
            "step": nan,
            "distances": np.full(BINS, nan),
            "clipped": nan,
            "fluctuation": np.full(size, nan),
            "oscillating": nan,
            "rate": nan,
        }
        rows.append(one | seen.get(name, {}) | told.get(name, {}))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _bits(grid: Grid | None) -> float:
    if grid is None:
        return float("nan")
    return float(np.log2(1 + float(grid.high) - float(grid.low)))


@jax.jit
def _looked(leaves: dict[str, LearnedStep]) -> dict[str, dict[str, jax.Array]]:
    return {name: _one(leaf) for name, leaf in leaves.items()}


def _one(leaf: LearnedStep) -> dict[str, jax.Array]:
    grid, w = leaf.grid, leaf.weights.astype(jnp.float32)
    assert grid is not None
    # As it is used: a learned step may have fallen below what is allowed.
    step = integer.fitted_step(grid.steps(w), w.shape)
    v = w / step
    inside = (v >= grid.low) & (v <= grid.high)
    part = jnp.abs(v - jnp.round(v)) * 2 * BINS
    bins = jnp.clip(part.astype(jnp.int32), 0, BINS - 1)
    counts = jax.ops.segment_sum(
        inside.astype(jnp.float32).ravel(), bins.ravel(), BINS
    )
    return {
        "step": jnp.mean(step),
        "distances": counts / jnp.maximum(counts.sum(), 1),
        "clipped": jnp.mean(~inside),
        "fluctuation": jnp.stack(variation.fluctuation(w, step)),
    }


@jax.jit
def _followed(
    trackers: dict[str, variation.Tracker],
) -> dict[str, dict[str, jax.Array]]:
    return {
        name: {
            "oscillating": variation.oscillating(tracker, THRESHOLD),
            "rate": jnp.mean(tracker.rate),
        }
        for name, tracker in trackers.items()
    }
