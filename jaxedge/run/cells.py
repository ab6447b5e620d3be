"""What the report draws of a chip's cells.

Letters: L layers, I word lines (inputs), O bit lines (outputs).
"""

from typing import Any

import jax
import numpy as np

from jaxedge import hardware
from jaxedge.core.trees import path_name


def collect(trained: Any, chip: Any) -> dict[str, np.ndarray]:
    """Conductances of every layer, and the density of its mask if it has one.

    Args:
        trained: parameters on ideal hardware.
        chip: the same on a chip.

    Returns:
        "conductance/<layer>" [I, 2 O] of crossbars, siemens; "sparsity_names"
        [L] and "sparsity_kept" [L] of the layers with a mask.
    """
    arrays: dict[str, Any] = {}
    names, kept = [], []
    for (way, leaf), (_, ideal) in zip(
        _named(chip), _named(trained), strict=True
    ):
        if not hardware.is_weight(leaf):  # Digital, such as a bias.
            continue
        if isinstance(leaf, hardware.Crossbar):
            g = interleave(leaf.conductance())
            arrays[f"conductance/{way}"] = np.asarray(g, np.float32)
        if isinstance(ideal, hardware.Ranged):
            ideal = ideal.weights
        if isinstance(ideal, hardware.MaskedRandom):
            names.append(way)
            kept.append(float(ideal.mask.mean()))
    arrays["sparsity_names"] = np.array(names, dtype=str)
    arrays["sparsity_kept"] = np.array(kept)
    return arrays


def interleave(pairs: Any) -> np.ndarray:
    """Pairs side by side, as they lie in the array: [2, I, O] to [I, 2 O]."""
    pairs = np.reshape(pairs, (-1, *np.shape(pairs)[-2:]))  # Slices too.
    return np.moveaxis(pairs, 0, -1).reshape(pairs.shape[1], -1)


def _named(params: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=hardware.is_weight
    )
    return [(path_name(path[:-1]), leaf) for path, leaf in leaves]
