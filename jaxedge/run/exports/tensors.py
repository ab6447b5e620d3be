"""Networks and programmed chips as safetensors."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run.exports import folder, structure


def available() -> bool:
    """Whether tensors can be written here."""
    try:
        import safetensors.numpy  # noqa: F401
    except ImportError:
        return False
    return True


def write(
    path: Path,
    variables: Any,
    about: Mapping[str, Any],
    more: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, Any]]:
    """Writes the arrays of a network or of a chip, by their paths.

    Args:
        path: of the file.
        variables: "params" and what else, with hardware leaves or without.
        about: what goes into the metadata beside the structure, as JSON.
        more: further arrays for other programs, which `load` does not need.

    Returns:
        What is to be known of the file, by its name.

    Raises:
        UsageError: without safetensors.
    """
    if not available():
        raise checks.UsageError(
            "safetensors is not installed; pip install 'jaxedge[language]'."
        )
    import safetensors.numpy

    described, arrays = structure.encode(variables)
    tensors = {
        name: np.asarray(array, order="C")
        for name, array in (arrays | dict(more or {})).items()
    }
    metadata = {name: json.dumps(value) for name, value in about.items()}
    metadata["structure"] = json.dumps(described)
    safetensors.numpy.save_file(tensors, path, metadata)
    return {path.name: {"format": "safetensors", "tensors": len(tensors)}}


def load(path: str | Path) -> Any:
    """The variables of `write`: those of a chip are an equal chip.

    Raises:
        UsageError: for a file that is missing or damaged, or without
            safetensors.
    """
    path = Path(path)
    folder.checked(path)
    arrays, metadata = tensors(path)
    if "structure" not in metadata:
        raise checks.UsageError(f"{path} is no network of an export.")
    described = json.loads(metadata["structure"])
    try:
        return structure.decode(described, arrays)
    except checks.UsageError as error:
        raise checks.UsageError(f"{path}: {error}") from None


def tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of a file, and its metadata."""
    if not available():
        raise checks.UsageError(
            "safetensors is not installed; pip install 'jaxedge[language]'."
        )
    import safetensors

    try:
        with safetensors.safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            return arrays, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise checks.UsageError(
            f"{path} is no whole safetensors file ({error}); export again."
        ) from None
