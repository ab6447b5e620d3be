"""What an instrument has to do, cell by cell, to write a chip.

Columns of a programme: "stage", the pass it belongs to; "tile", "row" and
"column", the cell; "operation", "set", "reset" or "verify"; "target_S", the
level wanted; "tolerance_S", the largest difference of a read that passes, NaN
where nothing is verified. A "verify" follows the operation it checks: outside
of the tolerance the cell is set where it reads too low and reset where it reads
too high, up to "max_events" times (in the design, null where unknown).
"""

from typing import Any

import jax
import numpy as np

from jaxedge import hardware
from jaxedge.hardware.devices import SwitchedRram
from jaxedge.hardware.write_verify import Verified
from jaxedge.run.exports import cells

NAMES = ("stage", "tile", "operation")
WHOLE = ("row", "column")
LEVELS = ("target_S", "tolerance_S")
COLUMNS = ("stage", "tile", "row", "column", "operation", *LEVELS)


def with_programmes(
    found: dict[str, cells.Layer],
    trained: Any,
    begun: Any,
    chip: Any,
    tolerance: float | None = None,
) -> dict[str, cells.Layer]:
    """Layers with the programmes of those that are written.

    Args:
        found: from `cells.layers`.
        trained: parameters on ideal hardware.
        begun: those that training began with, for masks; None without any.
        chip: parameters on the chip.
        tolerance: of a read, S; None takes that of the device, where it is
            one that is verified.
    """
    out = dict(found)
    first = {}
    if begun is not None:
        first = {name: ideal for name, _, ideal in cells.pairs(begun, chip)}
    for name, leaf, ideal in cells.pairs(trained, chip):
        if isinstance(leaf, hardware.Crossbar):
            most, own = verified(leaf.spec.device)
            limit = own if tolerance is None else tolerance
            programme = of(leaf, ideal, first.get(name), limit)
            design = {**found[name].design, "max_events": most}
            out[name] = found[name]._replace(design=design, programme=programme)
    return out


def of(
    leaf: hardware.Crossbar, ideal: Any, begun: Any, tolerance: float | None
) -> dict[str, np.ndarray] | None:
    """The programme of a crossbar.

    Weights are written in one stage, "write". With a mask there are two:
    "initial" brings fresh cells under the mask that training began with,
    "learned" what training changed.

    Args:
        leaf: on the chip.
        ideal: its trained weight.
        begun: that weight before training; only looked at with a mask.
        tolerance: of a read, S, or None.

    Returns:
        Columns by name; None where cells are left as they are formed.
    """
    full, mask = cells.targets(leaf, ideal), cells.pruned(ideal)
    device = leaf.spec.device
    low, high = float(device.g_min), float(device.g_max)
    if isinstance(base(device), SwitchedRram):  # It has two levels.
        full = np.where(full > (low + high) / 2, high, low)
        full = full.astype(np.float32)
    stages: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    random = hardware.crossbar.is_random(device)
    every = np.ones(full.shape, bool)
    if mask is None:
        if random:
            return None
        stages["write"] = (full, every)
    else:
        # As formed, a cell that exists has its high level.
        full = np.full_like(full, high) if random else full
        early = cells.pruned(begun)
        early = mask if early is None else early
        first = np.where(early, full, np.float32(low))
        last = np.where(mask, full, np.float32(low))
        fresh = np.broadcast_to(~early, full.shape) if random else every
        stages["initial"] = (first, fresh)
        changed = np.broadcast_to(early != mask, full.shape)
        stages["learned"] = (last, changed & (random | (first != last)))
    parts = [
        _stage(leaf, stage, wanted, touched, tolerance)
        for stage, (wanted, touched) in stages.items()
    ]
    return {
        name: np.concatenate([part[name] for part in parts]) for name in COLUMNS
    }


def base(device: Any) -> Any:
    """What lies below all wrappers of a device."""
    while hasattr(device, "device"):
        device = device.device
    return device


def verified(device: Any) -> tuple[int | None, float | None]:
    """Most events and the tolerance, S, of a device that is verified."""
    while hasattr(device, "device"):
        if isinstance(device, Verified):
            tolerance = float(np.max(np.asarray(device.tolerance_S)))
            return device.max_events, tolerance
        device = device.device
    return None, None


def _stage(
    leaf: hardware.Crossbar,
    stage: str,
    wanted: np.ndarray,
    touched: np.ndarray,
    tolerance: float | None,
) -> dict[str, np.ndarray]:
    """The operations of a pass, tile by tile, row by row."""
    low = np.float32(leaf.spec.device.g_min)
    parts = []
    for tile, index in cells.places(leaf.layout).items():
        there = cells.placed(index, touched, False).astype(bool)
        row, column = np.nonzero(there)
        level = wanted.reshape(-1)[index[there]]
        operation = np.where(level > low, "set", "reset")
        parts.append(_rows(stage, tile, row, column, operation, level))
    found = {
        name: np.concatenate([part[name] for part in parts]) for name in COLUMNS
    }
    if tolerance is None:
        return found
    twice = {name: np.repeat(column, 2) for name, column in found.items()}
    operation = twice["operation"].astype("U6")
    operation[1::2] = "verify"
    limit = np.full(len(operation), np.float32(tolerance))
    limit[::2] = np.nan
    return {**twice, "operation": operation, "tolerance_S": limit}


def _rows(
    stage: str,
    tile: str,
    row: np.ndarray,
    column: np.ndarray,
    operation: np.ndarray,
    level: np.ndarray,
) -> dict[str, np.ndarray]:
    count = len(row)
    return {
        "stage": np.full(count, stage),
        "tile": np.full(count, tile),
        "row": row.astype(np.int32),
        "column": column.astype(np.int32),
        "operation": operation,
        "target_S": level.astype(np.float32),
        "tolerance_S": np.full(count, np.nan, np.float32),
    }


def has_masks(params: Any) -> bool:
    """Whether some weights of a network are chosen by a mask."""
    leaves = jax.tree.leaves(params, is_leaf=hardware.is_weight)
    return any(cells.pruned(cells.held(leaf)) is not None for leaf in leaves)
