"""A tree of hardware leaves as JSON and named arrays, and back.

Only the types of this package are made when a tree is read, and by their
fields alone: a file cannot run anything.
"""

from collections.abc import Mapping
import dataclasses
import importlib
from typing import Any

import jax
import numpy as np

from jaxedge.core import checks

_ROOT = "jaxedge."


def encode(node: Any, name: str = "") -> tuple[Any, dict[str, np.ndarray]]:
    """A tree as JSON, and its arrays by path.

    Args:
        node: dicts, lists, tuples, pytrees of this package, arrays, and plain
            values. Numbers that JAX treats as Python's, having no shape, are
            JSON.
        name: path of the node.
    """
    arrays: dict[str, np.ndarray] = {}

    def below(entry: Any, part: Any) -> Any:
        path = f"{name}/{part}" if name else str(part)
        described, found = encode(entry, path)
        arrays.update(found)
        return described

    if isinstance(node, Mapping):
        return {"dict": {k: below(v, k) for k, v in node.items()}}, arrays
    if (fields := _fields(node)) is not None:
        kind = f"{type(node).__module__}:{type(node).__qualname__}"
        if not kind.startswith(_ROOT):
            raise checks.UsageError(
                f"{name} holds a {kind}, which is no type of jaxedge and"
                " cannot be written."
            )
        inner = {k: below(getattr(node, k), k) for k in fields}
        return {"type": kind, "fields": inner}, arrays
    if isinstance(node, (list, tuple)):
        word = "tuple" if isinstance(node, tuple) else "list"
        return {word: [below(v, i) for i, v in enumerate(node)]}, arrays
    if getattr(node, "weak_type", False) and not np.ndim(node):
        return {"value": node.item()}, arrays
    if isinstance(node, (jax.Array, np.ndarray, np.generic)):
        return {"array": name}, {name: np.asarray(node)}
    if node is not None and not isinstance(node, (bool, int, float, str)):
        raise checks.UsageError(
            f"{name} holds a {type(node).__name__}, which cannot be written."
        )
    return {"value": node}, arrays


def decode(described: Any, arrays: Mapping[str, Any]) -> Any:
    """The tree of `encode`.

    Raises:
        UsageError: for what `encode` does not write.
    """
    match described:
        case {"dict": entries}:
            return {k: decode(v, arrays) for k, v in entries.items()}
        case {"type": kind, "fields": entries}:
            found = {k: decode(v, arrays) for k, v in entries.items()}
            return _class(kind)(**found)
        case {"tuple": entries}:
            return tuple(decode(v, arrays) for v in entries)
        case {"list": entries}:
            return [decode(v, arrays) for v in entries]
        case {"array": name}:
            if name not in arrays:
                raise checks.UsageError(f"the array {name} is missing.")
            return arrays[name]
        case {"value": value}:
            return value
    raise checks.UsageError(
        f"{str(described)[:60]!r} describes no tree; export again."
    )


def _fields(node: Any) -> tuple[str, ...] | None:
    """Names of the fields of a frozen dataclass or a NamedTuple."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return tuple(field.name for field in dataclasses.fields(node))
    return getattr(node, "_fields", None)


def _class(kind: str) -> Any:
    """A frozen dataclass or NamedTuple of this package, by its name."""
    module, _, name = kind.partition(":")
    found = None
    if module.startswith(_ROOT):
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            found = None
    data = isinstance(found, type) and (
        dataclasses.is_dataclass(found) or hasattr(found, "_fields")
    )
    if not data:
        raise checks.UsageError(
            f"{kind!r} is no type of this release; read the file with the one"
            " that wrote it."
        )
    return found
