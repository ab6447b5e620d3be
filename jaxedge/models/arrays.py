"""A network's arrays in a file, by their paths.

`network.npz` of a finished run: what a later run starts from, and what any
other program can read.
"""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks, npz
from jaxedge.core.trees import map_named, path_name

FILE = "network.npz"
# What a `LearnedStep` calls the weights that it trains.
_TRAINED = "/weights"
# Of a `MaskedRandom`, beside its weights.
_MASK = "/mask"


def save(path: str | os.PathLike[str], variables: Any) -> None:
    """Writes the arrays of a network in one step.

    Args:
        path: of the `.npz` file.
        variables: "params" and what else; of hardware leaves every array.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(variables))
    arrays = {path_name(way): np.asarray(leaf) for way, leaf in leaves}
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def load(path: str | os.PathLike[str], like: Mapping[str, Any]) -> Any:
    """The variables of a network from such a file.

    Of weights that were trained on a grid (`LearnedStep`) those are taken that
    were trained, and the grid is left; of a masked network what is kept.

    Args:
        path: of the file, or of the folder of a run.
        like: variables of the network, or their shapes; collections "params"
            and "batch_stats" are read.

    Returns:
        Variables in numpy, in the structure of `like`.

    Raises:
        UsageError: for a file that is missing or damaged, an array that is
            missing, of another shape, or not finite; names it.
    """
    path = Path(path).expanduser()
    file = path / FILE if path.is_dir() else path
    arrays = _read(file)
    wanted = {k: like[k] for k in ("params", "batch_stats") if k in like}
    missing: list[str] = []

    def one(way: str, leaf: Any) -> np.ndarray:
        array = arrays.get(way, arrays.get(way + _TRAINED))
        if way + _MASK in arrays:
            array = arrays[way + _TRAINED] * arrays[way + _MASK]
        if array is None:
            missing.append(way)
            return np.zeros(0)
        if array.shape != leaf.shape:
            raise checks.UsageError(
                f"{file}: {way} has shape {array.shape}, but the network needs"
                f" {tuple(leaf.shape)}; check config.model, or name the file"
                " of such a network."
            )
        checks.finite(f"{file}: {way}", array)
        return array.astype(jnp.dtype(leaf.dtype))

    found = map_named(one, wanted)
    if missing:
        raise checks.UsageError(
            f"{file} lacks {len(missing)} arrays of the network, such as"
            f" {missing[0]}; check config.model, or name the file of such a"
            f" network. It has {', '.join(sorted(arrays)[:5])}, ..."
        )
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise checks.UsageError(
            f"there is no {path}; name the folder of a finished run, or the"
            f" {FILE} of one."
        )
    try:
        return npz.load(path)
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} cannot be read ({npz.reason(error)}); finish the run that"
            " is to write it again."
        ) from None
