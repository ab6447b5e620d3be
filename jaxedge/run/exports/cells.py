"""What every cell of a chip holds, tile by tile, for a lab's instrument.

Letters: I inputs, O outputs, S slices of a weight, P cells of a slice, T row
tiles, N arrays side by side, R rows and C columns of one.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge import hardware
from jaxedge.core.trees import path_name, pytree
from jaxedge.hardware import crossbar, formats, layout, weights
from jaxedge.hardware.devices import Device, Wrapper
from jaxedge.hardware.masked import MaskedRandom
from jaxedge.hardware.ranged import Ranged
from jaxedge.hardware.sram import SramMacro
from jaxedge.quantize import minifloat
from jaxedge.quantize.layer import Rows

# Maps that hold whole numbers; all others are float32.
WHOLE = ("sign", "slice", "input", "output", "kept", "code", "scale_bits")
UNITS = {
    "target_S": "siemens",
    "conductance_S": "siemens",
    "tolerance_S": "siemens",
}


class Layer(NamedTuple):
    """The cells of one weight.

    Attributes:
        design: how they are built and read, as JSON.
        tiles: by name "tile_<t>_<n>", for the t-th tile along the inputs of
            the n-th array side by side: maps [R, C] by name. Of places
            without a cell "input" is -1, and other maps are 0 or NaN.
        programme: how they are written, columns by name (see `pulses`); None
            where nothing has to be.
    """

    design: dict[str, Any]
    tiles: dict[str, dict[str, np.ndarray]]
    programme: dict[str, np.ndarray] | None = None


def layers(trained: Any, chip: Any) -> dict[str, Layer]:
    """The cells of every weight on hardware, by its path.

    Args:
        trained: parameters on ideal hardware.
        chip: the same on a chip.
    """
    return {
        name: layer(leaf, ideal) for name, leaf, ideal in pairs(trained, chip)
    }


def pairs(trained: Any, chip: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, hardware leaf and trained weight of all that is on hardware."""
    ideal = dict(_named(trained))
    for name, leaf in _named(chip):
        if isinstance(leaf, tuple(_KINDS)):
            yield name, leaf, held(ideal[name])


def held(leaf: Any) -> Any:
    """What hardware is to hold of a trained weight: an array or a mask's."""
    if hardware.is_weight(leaf):
        leaf = leaf.target()
    return leaf.weights if isinstance(leaf, Ranged) else leaf


def layer(leaf: Any, ideal: Any) -> Layer:
    """The cells of a hardware leaf, whose trained weight is `ideal`."""
    return _KINDS[type(leaf)](leaf, ideal)


def targets(leaf: hardware.Crossbar, ideal: Any) -> np.ndarray:
    """Conductances that are to be written, before pruning, S, [S, P, I, O].

    NaN where a device holds no given weight.
    """
    laid = leaf.layout
    shape = (laid.slices, laid.parts, laid.inputs, laid.outputs)
    if crossbar.is_random(leaf.spec.device):
        return np.full(shape, np.nan, np.float32)
    spec = dataclasses.replace(
        leaf.spec, device=_Wanted(leaf.spec.device), adc=None
    )
    program = jax.jit(weights.program)
    wanted = program(jax.random.key(0), ideal, spec)
    return np.asarray(wanted.cells, np.float32).reshape(shape)


def pruned(ideal: Any) -> np.ndarray | None:
    """The mask of a trained weight, [I, O] bool; None without one."""
    if not isinstance(ideal, MaskedRandom):
        return None
    mask = np.asarray(ideal.mask)
    return mask.reshape(-1, mask.shape[-1]) > 0


def places(laid: layout.Layout) -> dict[str, np.ndarray]:
    """Which cell lies where.

    Returns:
        By name of the tile the index of each cell in [S, P, I, O], flat, -1
        where none is; [R, C], as far as the tile is used.
    """
    shape = (laid.slices, laid.parts, laid.inputs, laid.outputs)
    index = jnp.arange(1, laid.cells + 1).reshape(shape)
    lines = np.asarray(jax.jit(laid.lines)(index)) - 1  # [N, U, R, C]
    rows = laid.groups * laid.group
    lines = lines.reshape(len(lines), laid.row_tiles, rows, -1)
    return {
        f"tile_{t}_{n}": _used(lines[n, t, : laid.tile_rows])
        for t in range(laid.row_tiles)
        for n in range(len(lines))
    }


def _used(index: np.ndarray) -> np.ndarray:
    """Without the rows and columns behind the last cell."""
    rows, columns = np.nonzero(index >= 0)
    return index[: rows.max(initial=-1) + 1, : columns.max(initial=-1) + 1]


def placed(index: np.ndarray, cells: np.ndarray, none: Any) -> np.ndarray:
    """Values of cells as they lie on a tile; `none` where none is."""
    return np.where(index < 0, none, cells.reshape(-1)[index])


@pytree
class _Wanted(Wrapper[Any]):
    """A device that keeps what it is to hold."""

    device: Device[Any]

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Any:
        return target_S

    def reset(self, cells: Any, keep: jax.Array) -> Any:
        return cells


def _crossbar(leaf: hardware.Crossbar, ideal: Any) -> Layer:
    laid, spec = leaf.layout, leaf.spec
    mask, wanted = pruned(ideal), targets(leaf, ideal)
    if mask is not None:
        off = np.float32(spec.device.g_min)
        wanted = np.where(mask | np.isnan(wanted), wanted, off)
    values = {
        "target_S": wanted,
        "conductance_S": np.asarray(leaf.conductance(), np.float32),
    }
    if mask is not None:
        values["kept"] = np.broadcast_to(mask, wanted.shape)
    bits = spec.slice_bits or 0
    design = {
        "kind": "crossbar",
        "shape": list(leaf.shape),
        "weight": "weight_per_siemens * (sum over the cells of powers[slice]"
        " * sign * conductance_S - origin_S)",
        "weight_per_siemens": _plain(leaf.scale),
        "origin_S": _plain(leaf.origin),
        "powers": [2 ** (bits * s) for s in range(laid.slices)],
        "compensation": _plain(leaf.compensation()),
        "layout": laid._asdict(),
        "spec": _plain(spec),
    }
    return Layer(design, _tiles(laid, values))


def _sram(leaf: SramMacro, ideal: Any) -> Layer:
    del ideal  # The codes are what is written.
    laid = leaf.layout
    codes = np.asarray(laid.join(leaf.columns.codes)).astype(np.int32)
    design = {
        "kind": "sram",
        "shape": list(leaf.shape),
        "weight": "weight_per_code * code",
        "weight_per_code": _plain(leaf.scale),
        "fold": _plain(leaf.spec.config.fold),
        "lsb_units": _plain(leaf.spec.config.lsb_units),
        "layout": laid._asdict(),
        "spec": _plain(leaf.spec),
    }
    return Layer(design, _tiles(laid, {"code": codes}))


def _digital(leaf: hardware.Digital, ideal: Any) -> Layer:
    maps: dict[str, np.ndarray] = {"value": np.asarray(leaf.matrix, np.float32)}
    inputs, outputs = maps["value"].shape
    design: dict[str, Any] = {
        "kind": "digital",
        "shape": list(leaf.shape),
        "weight": "value",
        "spec": _plain(leaf.spec),
    }
    if (coded := packed(leaf, ideal)) is not None:
        more, format = _codes(coded, inputs)
        maps, design = more | maps, design | {"format": format}
    grid = np.indices((inputs, outputs), np.int32)
    maps = {"input": grid[0], "output": grid[1], **maps}
    maps = {name: typed(name, array) for name, array in maps.items()}
    return Layer(design, {"tile_0_0": maps})


_KINDS: dict[type, Any] = {
    hardware.Crossbar: _crossbar,
    SramMacro: _sram,
    hardware.Digital: _digital,
}


def packed(leaf: hardware.Digital, ideal: Any) -> Any:
    """The bytes of a digital weight; None where it has no format."""
    spec = leaf.spec
    if spec.weights is None or not isinstance(leaf.held, jax.Array):
        return None if spec.weights is None else leaf.held
    if isinstance(ideal, MaskedRandom):
        ideal = ideal.weights * ideal.mask
    matrix = jnp.asarray(ideal, jnp.float32).reshape(leaf.held.shape)
    return formats.pack_weights(matrix, spec.weights, spec.over)


def _codes(coded: Any, inputs: int) -> tuple[dict[str, np.ndarray], Any]:
    """Codes and scales of packed weights, [I, O] each, and their format."""
    rows = isinstance(coded, Rows)
    bits = coded.format.bits if rows else coded.blocks.format.bits
    size = 1 if rows else coded.blocks.size
    codes = coded.codes
    if bits <= 4:
        codes = minifloat.unpack(codes, -(-inputs // size) * size)
    codes = np.asarray(codes, np.int32)[:, :inputs].T
    if rows:
        scale = np.broadcast_to(np.asarray(coded.scale), codes.shape)
        return {"code": codes, "scale": scale}, _plain(coded.format)
    scales = np.repeat(np.asarray(coded.scales), size, -1)[:, :inputs].T
    name = "scale" if scales.dtype == np.float32 else "scale_bits"
    format = {"blocks": _plain(coded.blocks), "whole": _plain(coded.whole)}
    return {"code": codes, name: scales}, format


def _tiles(
    laid: layout.Layout, values: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Maps of values of the cells [S, P, I, O], and which cells they are."""
    shape = (laid.slices, laid.parts, laid.inputs, laid.outputs)
    tiles = {}
    for name, index in places(laid).items():
        s, p, i, o = np.unravel_index(np.maximum(index, 0), shape)
        there = index >= 0
        maps = {
            "input": np.where(there, i, -1),
            "output": np.where(there, o, -1),
        }
        if laid.parts > 1:
            maps["sign"] = np.where(there, 1 - 2 * p, 0)
        else:
            maps["sign"] = there
        if laid.slices > 1:
            maps["slice"] = np.where(there, s, 0)
        for key, cells in values.items():
            none = 0 if key in WHOLE else np.nan
            maps[key] = placed(index, cells, none)
        tiles[name] = {key: typed(key, a) for key, a in maps.items()}
    return tiles


def typed(name: str, array: np.ndarray) -> np.ndarray:
    """A map in the type that its name has."""
    return array.astype(np.int32 if name in WHOLE else np.float32)


def _plain(node: Any) -> Any:
    """Numbers, names and small arrays of a design as JSON."""
    if dataclasses.is_dataclass(node):
        fields = {
            field.name: _plain(getattr(node, field.name))
            for field in dataclasses.fields(node)
        }
        return {"type": type(node).__name__, **fields}
    if hasattr(node, "_asdict"):
        return _plain(node._asdict())
    if isinstance(node, dict):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, (tuple, list)):
        return [_plain(v) for v in node]
    if isinstance(node, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(node)
        if array.ndim > 2:  # Of single cells, such as a map of faults.
            return f"{array.dtype}{list(array.shape)}"
        return array.tolist()
    return node


def _named(params: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=hardware.is_weight
    )
    return [(path_name(path), leaf) for path, leaf in leaves]
