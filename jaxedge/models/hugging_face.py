"""Networks in folders as Hugging Face's transformers saves them.

A folder has config.json, which tells the architecture, and model.safetensors,
or several such files and model.safetensors.index.json, which lists them.
Matrices have a row an output.
"""

from collections.abc import Mapping, Sequence
import contextlib
import json
import logging
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.models import architectures
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder

KINDS = architectures.KINDS
_LOG = logging.getLogger(__name__)
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")
_SHOWN = 5  # More names than that help nobody.
# Tensors that no output depends on: tables that are computed here, and the
# matrix behind the hidden states that only some tasks use.
_HARMLESS = re.compile(r"(^|\.)(pooler\.|position_ids$|rotary_emb\.inv_freq$)")


class Checkpoint(NamedTuple):
    """A network of a folder.

    Attributes:
        model: an `Encoder` or a `Decoder`.
        variables: its parameters, float32.
        config: what config.json holds.
        kind: its `model_type`, of `KINDS`.
    """

    model: Encoder | Decoder
    variables: dict[str, Any]
    config: dict[str, Any]
    kind: str


def load(folder: str | os.PathLike[str]) -> Checkpoint:
    """A network and its parameters.

    A shared classifier becomes a matrix of its own, so that it may have other
    hardware than the embedding. Tensors without a place in the network are
    left out, and named in a warning of `logging`.

    Args:
        folder: with config.json and the weights, of any floating-point type.

    Raises:
        UsageError: for a folder or file that is missing or damaged, an
            architecture or a variant of it that is not supported, fields of
            the config that are missing or out of range, and tensors that are
            missing, of another shape or type, or not finite.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise checks.UsageError(
            f"{str(folder)!r} is no folder; give one with config.json and"
            f" {_WEIGHTS}."
        )
    config = _json(folder / "config.json")
    network = architectures.network(config, folder / "config.json")
    with contextlib.ExitStack() as files:
        tensors = {
            network.plain(name): _Tensor(opened, name)
            for opened in _open(folder, files)
            for name in opened.keys()
        }
        # A network of millions of layers is not even traced.
        if network.model.depth > len(tensors):
            raise checks.UsageError(
                f"{folder} lacks most of {network.model.depth:,} layers: it has"
                f" {len(tensors):,} tensors; check that config.json belongs to"
                " the weights."
            )
        tokens = np.zeros((1, 1), np.int32)
        shapes = jax.eval_shape(network.model.init, jax.random.key(0), tokens)
        params = _params(folder, network, shapes["params"], tensors)
    return Checkpoint(network.model, {"params": params}, config, network.kind)


class _Tensor(NamedTuple):
    """A tensor of an open file."""

    file: Any
    name: str

    def shape(self) -> tuple[int, ...]:
        return tuple(self.file.get_slice(self.name).get_shape())

    def read(self) -> np.ndarray:
        kind = self.file.get_slice(self.name).get_dtype()
        if kind not in _FLOATS:
            raise checks.UsageError(
                f"{self.name} is {kind}, but must be one of"
                f" {', '.join(_FLOATS)}; save the network unquantised."
            )
        array = self.file.get_tensor(self.name).astype(np.float32, copy=False)
        checks.finite(self.name, array)
        return array


def _params(
    folder: Path,
    network: architectures.Network,
    shapes: Any,
    tensors: Mapping[str, _Tensor],
) -> Any:
    """The variables, once all tensors are there and fit."""
    used, missing, wrong = set(), [], []

    def check(path: str, leaf: jax.ShapeDtypeStruct) -> None:
        name = network.tensor(path)
        used.add(name)
        want = leaf.shape[::-1] if path.endswith("/kernel") else leaf.shape
        if name not in tensors:
            missing.append(name)
        elif (got := tensors[name].shape()) != want:
            wrong.append(f"{tensors[name].name} is {got} instead of {want}")

    map_named(check, shapes)
    for fault, found in (("lacks", missing), ("does not fit:", wrong)):
        if found:
            raise checks.UsageError(
                f"{folder} {fault} {_some(found)}; check that config.json"
                " belongs to the weights."
            )
    _warn_of_others(folder, network, used, tensors)

    def variable(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        del leaf
        array = tensors[network.tensor(path)].read()
        return jnp.asarray(array.T if path.endswith("/kernel") else array)

    return map_named(variable, shapes)


def _warn_of_others(
    folder: Path,
    network: architectures.Network,
    used: set[str],
    tensors: Mapping[str, _Tensor],
) -> None:
    if network.places.get("head") == network.places["embedding"]:
        used = used | {"lm_head.weight"}  # A copy of the embedding.
    other = [
        tensor.name
        for name, tensor in tensors.items()
        if name not in used and not _HARMLESS.search(name)
    ]
    if other:
        _LOG.warning(
            "%s: no place in the network for %s", folder, _some(sorted(other))
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _json(path: Path) -> dict[str, Any]:
    """The object that a file holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise checks.UsageError(
            f"there is no {path}; give a folder of save_pretrained of"
            " transformers."
        ) from error
    # Also text that is no UTF-8, or brackets within brackets without end.
    except (OSError, RecursionError, ValueError) as error:
        raise checks.UsageError(
            f"{path} cannot be read as JSON ({error}); replace it with an"
            " intact copy."
        ) from error
    if not isinstance(found, dict):
        raise checks.UsageError(
            f"{path} holds a {type(found).__name__}, but must hold an object;"
            " replace it with an intact copy."
        )
    return found


def _open(folder: Path, files: contextlib.ExitStack) -> list[Any]:
    """The files of weights, open until `files` closes."""
    try:
        import safetensors
    except ImportError as error:
        raise checks.UsageError(
            f"weights are read with safetensors, which cannot be imported"
            f" ({error}); pip install 'jaxedge[language]'."
        ) from error
    opened = []
    for path in _files(folder):
        try:
            file = safetensors.safe_open(path, "np")
        except FileNotFoundError as error:
            raise checks.UsageError(
                f"{path} is missing, but {_INDEX} names it; fetch it."
            ) from error
        except (OSError, safetensors.SafetensorError) as error:
            raise checks.UsageError(
                f"{path} is no whole safetensors file ({error}); replace it"
                " with an intact copy."
            ) from error
        opened.append(files.enter_context(file))
    return opened


def _files(folder: Path) -> list[Path]:
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        raise checks.UsageError(
            f"{folder} has neither {_WEIGHTS} nor {_INDEX}; save the network"
            " with save_pretrained of transformers."
        )
    index = _json(folder / _INDEX).get("weight_map")
    names = [*index.values()] if isinstance(index, dict) else []
    # A name that leads out of the folder is none.
    if not names or any(
        not isinstance(name, str) or Path(name).name != name for name in names
    ):
        raise checks.UsageError(
            f"{folder / _INDEX} must have a weight_map from tensors to names of"
            " files in this folder; replace it with an intact copy."
        )
    return [folder / name for name in sorted({*names})]
