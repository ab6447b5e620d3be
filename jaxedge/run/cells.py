"""What the report draws of a chip's cells, and tells of digital numbers.

Letters: L layers, I word lines (inputs), O bit lines (outputs).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core.trees import path_name
from jaxedge.run import page


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


def stored(trained: Any, chip: Any) -> dict[str, dict[str, Any]]:
    """What a digital chip keeps of the weights of each layer.

    Args:
        trained: parameters on ideal hardware.
        chip: the same on a chip.

    Returns:
        Of each digital layer, by name: `weights` and `inputs`, the names of
        their formats (None: as they are); `count`, number of weights; `bits` a
        weight, with its scales; and `error`, the root mean square of what
        rounding changes over that of the weights. Empty for other hardware.
    """
    rows = {}
    for (way, leaf), (_, ideal) in zip(
        _named(chip), _named(trained), strict=True
    ):
        if not isinstance(leaf, hardware.Digital):
            continue
        rows[way] = {
            "weights": leaf.spec.weights,
            "inputs": leaf.spec.inputs,
            "count": leaf.size,
            "bits": leaf.stored_bits / leaf.size,
            "error": float(_error(ideal, leaf)),
        }
    return rows


@jax.jit
def _error(ideal: Any, leaf: hardware.Digital) -> jax.Array:
    if hardware.is_weight(ideal):
        ideal = ideal.target()
    if isinstance(ideal, hardware.Ranged):
        ideal = ideal.weights
    if isinstance(ideal, hardware.MaskedRandom):
        ideal = ideal.weights * ideal.mask
    matrix = leaf.matrix
    off = matrix - ideal.reshape(matrix.shape).astype(matrix.dtype)
    power = jnp.mean(jnp.square(matrix - off))
    return jnp.sqrt(jnp.mean(jnp.square(off)) / jnp.where(power > 0, power, 1))


def section(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The part of the report on `stored`; nothing where there is none."""
    if not rows:
        return ""
    count = sum(row["count"] for row in rows.values())
    bits = sum(row["count"] * row["bits"] for row in rows.values())
    head = ["Layer", "Weights in", "Inputs in", "Weights", "Bits a weight"]
    head += ["Rounding error (% of the weights)"]
    lines = [
        [
            name,
            row["weights"] or "float32",
            row["inputs"] or "as they are",
            f"{row['count']:,}",
            f"{row['bits']:.2f}",
            f"{100 * row['error']:.2f}",
        ]
        for name, row in rows.items()
    ]
    total = ["All", "", "", f"{count:,}", f"{bits / count:.2f}", ""]
    body = page.paragraph(
        "One chip is all chips",
        "Numbers of few bits have no spread, no noise and no faults.",
    )
    body += page.table("How each layer is stored", head, lines, total)
    return page.section("Numbers", body)


def interleave(pairs: Any) -> np.ndarray:
    """Pairs side by side, as they lie in the array: [2, I, O] to [I, 2 O]."""
    pairs = np.reshape(pairs, (-1, *np.shape(pairs)[-2:]))  # Slices too.
    return np.moveaxis(pairs, 0, -1).reshape(pairs.shape[1], -1)


def _named(params: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=hardware.is_weight
    )
    return [(path_name(path[:-1]), leaf) for path, leaf in leaves]
