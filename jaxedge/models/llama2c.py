"""Decoders in the files of karpathy/llama2.c (MIT), version 0.

A header of seven int32 (width, hidden, layers, heads, heads of keys, vocabulary
with the sign of a shared classifier, most tokens), then float32: matrices with
a row an output, layer after layer.
"""

import os
from pathlib import Path
import struct
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.models.transformer import Decoder

_HEADER = 7


def load(path: str | os.PathLike[str]) -> tuple[Decoder, Any]:
    """A network and its variables.

    The shared classifier becomes a matrix of its own, so that it may have other
    hardware than the embedding.

    Args:
        path: of the file, such as `stories260K.bin`.

    Raises:
        UsageError: if the file is missing, cut short or of another kind, or
            holds NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise checks.UsageError(f"no file {str(path)!r}; give a checkpoint.")
    raw = path.read_bytes()
    header = _header(path, raw)
    width, hidden, depth, heads, kv_heads, vocabulary, length = header
    shared, vocabulary = vocabulary > 0, abs(vocabulary)
    size = width // heads
    shapes = {
        "embedding": (vocabulary, width),
        "attention_norm": (depth, width),
        "q": (depth, heads * size, width),
        "k": (depth, kv_heads * size, width),
        "v": (depth, kv_heads * size, width),
        "o": (depth, width, heads * size),
        "feed_forward_norm": (depth, width),
        "gate": (depth, hidden, width),
        "down": (depth, width, hidden),
        "up": (depth, hidden, width),
        "norm": (width,),
        # Tables of the rotary angles, which are computed here.
        "cos": (length, size // 2),
        "sin": (length, size // 2),
    }
    if not shared:
        shapes["head"] = (vocabulary, width)
    found, at = {}, 4 * _HEADER
    want = at + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    if len(raw) != want:
        raise checks.UsageError(
            f"{str(path)!r} has {len(raw):,} bytes, but a network of its sizes"
            f" has {want:,}; it is cut short, or of another version."
        )
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(raw, "<f4", count, at).reshape(shape)
        checks.finite(f"{path}: {name}", found[name])
        at += 4 * count
    model = Decoder(
        vocabulary, width, hidden, depth, heads, kv_heads, rotary="adjacent"
    )
    return model, {"params": _params(found, depth)}


def _header(path: Path, raw: bytes) -> tuple[int, ...]:
    """Seven sizes that a network may have."""
    if len(raw) >= 4 * _HEADER:
        sizes = struct.unpack_from(f"<{_HEADER}i", raw)
        width, _, _, heads, kv_heads, *_ = sizes
        within = all(0 < n <= 2**24 for n in (*sizes[:5], sizes[6]))
        # The sign of the vocabulary says whose the classifier is.
        if within and 0 < abs(sizes[5]) <= 2**24:
            if not (width % (2 * heads) or heads % kv_heads):
                return sizes
    raise checks.UsageError(
        f"{str(path)!r} does not begin as a checkpoint of llama2.c; its first"
        " seven numbers must be sizes."
    )


def _params(found: dict[str, np.ndarray], depth: int) -> dict[str, Any]:
    def kernel(name: str, i: int) -> dict[str, Any]:
        return {"kernel": jnp.asarray(found[name][i].T)}

    def scale(name: str, i: int) -> dict[str, Any]:
        return {"scale": jnp.asarray(found[name][i])}

    layers = {
        f"layer_{i}": {
            "attention": {name: kernel(name, i) for name in "qkvo"},
            **{name: kernel(name, i) for name in ("gate", "up", "down")},
            **{
                name: scale(name, i)
                for name in ("attention_norm", "feed_forward_norm")
            },
        }
        for i in range(depth)
    }
    head = found.get("head", found["embedding"])
    return {
        "embedding": jnp.asarray(found["embedding"]),
        **layers,
        "norm": {"scale": jnp.asarray(found["norm"])},
        "head": {"kernel": jnp.asarray(head.T)},
    }
