"""Transformers of small numbers on disk, in the bytes that they take.

A folder with jaxedge.json, which says what the network is, and
model.safetensors, whose tensors are those of the leaves: `PATH` for a plain
array, `PATH#codes`, `PATH#scale` and so on for a matrix of small numbers. Codes
of up to four bits lie two a byte along the inputs, the first in the low nibble
(`quantize.minifloat.pack`).
"""

from collections.abc import Mapping
import dataclasses
import json
import os
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.hardware.weights import is_weight
from jaxedge.models.encoder import Encoder
from jaxedge.models.quantized import Quantized
from jaxedge.models.transformer import Decoder, Stretch
from jaxedge.quantize import minifloat
from jaxedge.quantize.blocks import Blocks, Packed
from jaxedge.quantize.layer import QuantizedLinear, Rows

NOTE, TENSORS = "jaxedge.json", "model.safetensors"
_VERSION = 1
_MODELS = {"Encoder": Encoder, "Decoder": Decoder}


class Checkpoint(NamedTuple):
    """A network of small numbers.

    Attributes:
        model: an `Encoder` or a `Decoder`.
        variables: its parameters, with `Quantized` leaves.
        note: what was said when it was saved.
    """

    model: Encoder | Decoder
    variables: dict[str, Any]
    note: dict[str, Any]


def save(
    folder: str | os.PathLike[str],
    model: Encoder | Decoder,
    variables: Any,
    *,
    tables: Mapping[str, Rows] | None = None,
    note: Mapping[str, Any] | None = None,
    files: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Path:
    """Writes a network in one step.

    What the folder held is there, whole, until all is written; if the disk is
    full it stays. Meanwhile the new one is .NAME.new beside it, and the old one
    for a moment .NAME.old.

    Args:
        folder: replaced if it holds such a network, or is empty.
        model: the network.
        variables: its parameters, arrays and `Quantized` leaves.
        tables: in small numbers, by the path of the array that they are the
            values of.
        note: anything that JSON holds.
        files: others to be copied, such as a tokenizer, by their new names.

    Raises:
        UsageError: for a folder that holds something else, or cannot be
            written.
    """
    folder = Path(folder).resolve()
    check_target(folder)
    arrays, leaves = _flat(variables, tables or {})
    content = {
        "version": _VERSION,
        "model": _described(model),
        "leaves": leaves,
        "note": dict(note or {}),
    }
    text = json.dumps(content, indent=1) + "\n"
    new, old = _beside(folder, "new"), _beside(folder, "old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        _write(arrays, new / TENSORS)
        (new / NOTE).write_text(text, encoding="utf-8")
        for name, source in (files or {}).items():
            shutil.copyfile(source, new / name)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise checks.UsageError(
            f"{folder} cannot be written ({error}); what it held is as it was."
            " Make room, or choose another --out."
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return folder


def check_target(folder: Path) -> None:
    """Raises UsageError unless a network may be written there."""
    _library()
    folder = folder.resolve()
    if not folder.exists() and folder.name:
        old = _beside(folder, "old")
        if holds(old):  # Killed between the two renames of `save`.
            old.rename(folder)
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not holds(folder)):
        raise checks.UsageError(
            f"{folder} exists and holds no network of jaxedge; choose another"
            " --out."
        )


def load(folder: str | os.PathLike[str]) -> Checkpoint:
    """The network of a folder, with the same codes.

    Raises:
        UsageError: for files that are missing, damaged, or of another version.
    """
    folder = Path(folder)
    content = _note(folder / NOTE)
    library, path = _library(), folder / TENSORS
    if not path.is_file():
        raise checks.UsageError(f"{path} is missing; quantise again.")
    try:
        arrays = library.numpy.load_file(path)
    except Exception as error:  # The library raises nothing narrower.
        raise checks.UsageError(
            f"{path} cannot be read ({error}); quantise again."
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            checks.finite(f"{path}: {name}", array)
    try:
        model = _model(content["model"])
        checks.whole("depth", model.depth, 1)
        checks.in_range("depth", model.depth, 1, len(arrays))
        example = np.zeros((1, 1), np.int32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), example)
        shapes = {"params": shapes["params"]}
        leaves = content["leaves"]
        known: set[str] = set()

        def one(path: str, shape: Any) -> Any:
            known.add(path)
            if path in leaves:
                leaf = _leaf(path, leaves[path], arrays)
            else:
                leaf = jnp.asarray(arrays[path])
            if tuple(leaf.shape) != tuple(shape.shape):
                raise ValueError(
                    f"{path} has shape {tuple(leaf.shape)}, but must have"
                    f" {tuple(shape.shape)}"
                )
            return leaf

        variables = map_named(one, shapes)
        other = [name for name in arrays if name.split("#")[0] not in known]
        if other:
            raise ValueError(f"the network has no place for {other[0]}")
        return Checkpoint(model, variables, content["note"])
    except KeyError as error:
        raise checks.UsageError(
            f"{folder} is damaged: it has no {error.args[0]!r}; quantise again."
        ) from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        IndexError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise checks.UsageError(
            f"{folder} is damaged: {error}; quantise again."
        ) from error


def save_leaf(path: Path, leaf: Quantized) -> None:
    """Writes one matrix to a file, in one step."""
    parts, said = _parts(leaf)
    new = path.with_suffix(".new")
    try:
        _write(_named("", parts), new, {"leaf": json.dumps(said)})
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise checks.UsageError(
            f"{path} cannot be written ({error}); make room: the same command"
            " goes on from there."
        ) from error


def load_leaf(path: Path) -> Quantized | None:
    """The matrix of a file; None if it is damaged."""
    library = _library()
    try:
        with library.safe_open(path, "numpy") as file:
            said = json.loads(file.metadata()["leaf"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                checks.finite(name, array)
        return _leaf("", said, arrays)
    except Exception:  # The library raises nothing narrower.
        return None


def holds(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of `save`."""
    return (Path(folder) / NOTE).is_file()


def nbytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of the tensors on disk."""
    return (Path(folder) / TENSORS).stat().st_size


def _beside(folder: Path, what: str) -> Path:
    """A hidden neighbour, whose name nobody gives to a copy of their own."""
    return folder.with_name(f".{folder.name}.{what}")


def _write(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors; raises OSError where the library has an error of its own.

    That is what it makes of a disk that is full.
    """
    library = _library()
    try:
        library.numpy.save_file(arrays, path, metadata)
    except library.SafetensorError as error:
        raise OSError(str(error)) from error


def _library() -> Any:
    try:
        # Optional (the extra `language`).
        import safetensors.numpy
    except ImportError as error:
        raise checks.UsageError(
            "networks of small numbers are kept in safetensors, which cannot be"
            f" imported ({error}); pip install 'jaxedge[language]'."
        ) from error
    return safetensors


def _flat(
    variables: Any, tables: Mapping[str, Rows]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by name, and what leaves that are no plain arrays are."""
    arrays: dict[str, np.ndarray] = {}
    leaves: dict[str, Any] = {}

    def one(path: str, leaf: Any) -> None:
        if path in tables:
            arrays.update(_named(path, _arrays(tables[path])))
            leaves[path] = {"table": True, **_statics(tables[path])}
        elif isinstance(leaf, Quantized):
            parts, leaves[path] = _parts(leaf)
            arrays.update(_named(path, parts))
        else:
            arrays[path] = _in_order(leaf)

    map_named(one, variables, is_leaf=is_weight)
    return arrays, leaves


def _named(path: str, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a leaf by their names in a file."""
    return {
        f"{path}#{name}": _in_order(array)
        for name, array in parts.items()
        if array is not None
    }


def _in_order(array: Any) -> np.ndarray:
    """An array whose memory is in the order of its entries.

    The library writes that of any other, such as a transposed one, as it is.
    """
    return np.asarray(array, order="C")


def _parts(leaf: Quantized) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of a leaf, and what JSON can say of it."""
    layer = leaf.layer
    arrays = {
        **_arrays(layer.coded),
        "act_scale": layer.act_scale,
        # Nothing is shifted but channels of a format.
        "shift": layer.shift_I if layer.act_format else None,
        "factor": layer.factor_I,
    }
    form, blocks = layer.act_format, layer.act_blocks
    return arrays, {
        **_statics(layer.coded),
        "kernel": list(leaf.kernel),
        "act_format": form.name if form else None,
        "act_blocks": _of_blocks(blocks) if blocks else None,
        "turn": layer.turn,
        "factor": layer.factor_I is not None,
    }


def _unshifted(said: Mapping[str, Any]) -> jax.Array:
    return jnp.zeros(said["inputs"], jnp.int8)


def _arrays(coded: Rows | Packed) -> dict[str, Any]:
    if isinstance(coded, Rows):
        return {"codes": coded.codes, "scale": coded.scale}
    return {"codes": coded.codes, "scale": coded.scales, "whole": coded.whole}


def _statics(coded: Rows | Packed) -> dict[str, Any]:
    if isinstance(coded, Rows):
        return {"format": coded.format.name, "inputs": coded.size}
    return {"blocks": _of_blocks(coded.blocks), "inputs": coded.size}


def _of_blocks(blocks: Blocks) -> dict[str, Any]:
    return {
        **blocks._asdict(),
        "format": blocks.format.name,
        "other": blocks.other.name if blocks.other else None,
    }


def _blocks(said: Mapping[str, Any]) -> Blocks:
    return Blocks(
        minifloat.of(said["format"]),
        said["size"],
        said["scale"],
        minifloat.of(said["other"]) if said["other"] else None,
        tuple(said["tries"]),
    )


def _leaf(path: str, said: Mapping[str, Any], arrays: Mapping) -> Any:
    """A leaf from its tensors."""

    def get(name: str) -> jax.Array:
        return jnp.asarray(arrays[f"{path}#{name}"])

    if "blocks" in said:
        coded = Packed(
            get("codes"),
            get("scale"),
            get("whole"),
            _blocks(said["blocks"]),
            said["inputs"],
            "float32",
        )
    else:
        form = minifloat.of(said["format"])
        coded = Rows(get("codes"), get("scale"), form, said["inputs"])
    if said.get("table"):
        assert isinstance(coded, Rows)
        return coded.values
    layer = QuantizedLinear(
        coded,
        get("act_scale"),
        get("shift") if said["act_format"] else _unshifted(said),
        get("factor") if said["factor"] else None,
        minifloat.of(said["act_format"]) if said["act_format"] else None,
        _blocks(said["act_blocks"]) if said["act_blocks"] else None,
        said["turn"],
    )
    return Quantized(layer, tuple(said["kernel"]))


def _described(model: Encoder | Decoder) -> dict[str, Any]:
    fields = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ("parent", "name")
    }
    for name, value in fields.items():
        if isinstance(value, Stretch):
            fields[name] = {"stretch": value._asdict()}
    return {"class": type(model).__name__, **fields}


def _model(said: Mapping[str, Any]) -> Encoder | Decoder:
    fields = dict(said)
    kind = fields.pop("class")
    if kind not in _MODELS:
        raise checks.unknown("network", kind, _MODELS)
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
        elif isinstance(value, dict):
            fields[name] = Stretch(**value["stretch"])
    return _MODELS[kind](**fields)


def _note(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except (
        KeyError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); give a folder that `jaxedge"
            " quantize` wrote."
        ) from error
    if version != _VERSION:
        raise checks.UsageError(
            f"{path} has version {version}, but {_VERSION} is known; use the"
            " jaxedge that wrote it, or quantise again."
        )
    return content
