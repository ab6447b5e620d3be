"""What one example costs on a chip: the energy ledger of a run."""

from collections.abc import Mapping
import functools
from typing import Any

import jax

from jaxedge import hardware
from jaxedge.hardware import energy, operations
from jaxedge.recipes.recipe import Recipe

_UNKNOWN = "not published; labelled default"
_SOURCES = {
    "read_volts": "MNSIM 2.0; unknown for the 40 nm macro",
    "read_seconds": _UNKNOWN,
    "adc_bits": _UNKNOWN,
    "dac_joules": _UNKNOWN,
    "op_joules": "300 W / 624 TOPS",
    "macro_joules": "128 operations at 137.5 TOPS/W, arXiv:2307.05944",
    "macro_share": _UNKNOWN,
    "macro_drop": _UNKNOWN,
}


def count(
    recipe: Recipe,
    variables: Any,
    example: Any,
    costs: energy.Costs,
    drops: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The energy of one example, layer by layer, beside a digital device.

    Args:
        recipe: of the network.
        variables: with the parameters of a chip.
        example: [1, ...] inputs.
        costs: prices.
        drops: of layers on in-SRAM macros, by name, the mean drop of a line
            over its swing; others have that of `costs`.

    Returns:
        For the record: rows by layer, names of those that no answer needs,
        sums, a comparison, and each price with its source.
    """
    forward = functools.partial(recipe.forward, mutable=["counts"])
    _, changed = jax.jit(forward)(variables, example)
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        variables["params"], is_leaf=hardware.is_weight
    )
    rows, idle = [], []
    for path, leaf in leaves:
        if not hardware.is_weight(leaf):  # Digital, such as a bias.
            continue
        counts = changed["counts"]
        for part in path[:-1]:
            counts = counts.get(part.key, {})
        name = "/".join(part.key for part in path[:-1])
        if not counts:  # No answer needs it, such as a decoder for training.
            idle.append(name)
            continue
        vectors = int(sum(int(v) for v in counts["vectors"]))
        drop = (drops or {}).get(name)
        rows.append(energy.layer(name, leaf, vectors, costs, drop))
    return {
        "layers": [{**r._asdict(), "joules": r.joules} for r in rows],
        "idle": idle,
        "joules_digital": sum(r.joules_digital for r in rows),
        "training": operations.compare(
            {row.name: row.product for row in rows}, recipe.learns
        ),
        **energy.compare(rows, costs)._asdict(),
        "assumptions": {
            name: {"value": value, "source": _SOURCES.get(name, "unknown")}
            for name, value in costs._asdict().items()
        },
    }
