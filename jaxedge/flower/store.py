"""Pytrees by the paths of their leaves: in files, and anywhere else.

A file is the old one or the new one, whatever ends the process.
"""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named, path_name

# What a pytree that is one array is called.
_WHOLE = "array"


def flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree by path; keys as their numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(way) or _WHOLE: _plain(leaf) for way, leaf in leaves}


def whole(arrays: Mapping[str, np.ndarray], like: Any, what: str) -> Any:
    """The pytree of some arrays.

    Args:
        arrays: as from `flat`.
        like: a pytree of arrays or their shapes.
        what: the arrays are, for a message.

    Raises:
        UsageError: naming an array that is missing, of no use, of another
            shape or of another dtype.
    """
    left = set(arrays)

    def one(name: str, leaf: Any) -> Any:
        name = name or _WHOLE
        left.discard(name)
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        wanted = jax.eval_shape(jax.random.key_data, leaf) if key else leaf
        if name not in arrays:
            raise checks.UsageError(
                f"{what} lacks {name}; is the config the same?"
            )
        array, dtype = arrays[name], _stored(np.dtype(wanted.dtype))
        if array.shape != wanted.shape or array.dtype != dtype:
            raise checks.UsageError(
                f"{name} of {what} has shape {array.shape} and dtype"
                f" {array.dtype}, but must have {tuple(wanted.shape)} and"
                f" {dtype}; is the config the same?"
            )
        if key:
            return jax.random.wrap_key_data(jnp.asarray(array))
        return array.view(wanted.dtype)

    found = map_named(one, like)
    if left:
        raise checks.UsageError(
            f"{what} has {sorted(left)[0]}, which nothing here is called; is"
            " the config the same?"
        )
    return found


def changed(tree: Any, start: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree that differ from those of another, by path."""
    before = flat(start)
    return {
        name: array
        for name, array in flat(tree).items()
        if not np.array_equal(array, before[name])
    }


def patched(arrays: Mapping[str, np.ndarray], start: Any, what: str) -> Any:
    """The pytree of which `changed` told; errors are those of `whole`."""
    return whole(flat(start) | dict(arrays), start, what)


def save(path: Path, tree: Any) -> None:
    """Writes a pytree to a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **flat(tree))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, like: Any) -> Any:
    """The pytree of a file.

    Raises:
        UsageError: for a file that is missing or damaged, or as `whole`.
    """
    return whole(arrays(path), like, str(path))


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
        UsageError: for a file that is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as e:
        raise checks.UsageError(
            f"{path} cannot be read ({e}); restore it, or begin a new run in"
            " another folder."
        ) from None


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return array.view(_stored(array.dtype))


def _stored(dtype: np.dtype) -> np.dtype:
    """What numpy's files hold in place of a dtype that they do not know."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
