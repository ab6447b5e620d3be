"""Pretrained transformers with their tokenizers, and what they make of texts.

Letters: N texts, T tokens of one, W width.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.data import byte_pairs, text, tokenizers
from jaxedge.models import (
    encoder,
    hugging_face,
    llama2c,
    minilm,
    packed,
    transformer,
)
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder

MINILM = "minilm"


class Opened(NamedTuple):
    """A network and its tokens.

    Attributes:
        model: an `Encoder` or a `Decoder`.
        variables: its parameters.
        encode: text to tokens, as a sequence begins.
        batch: texts, T -> tokens [N, T] and mask [N, T]; of encoders.
        files: those that belong to it, by name.
        note: of a network of small numbers, what it was made of.
        decode: tokens to text; None for an encoder.
    """

    model: Encoder | Decoder
    variables: Any
    encode: Callable[[str], Sequence[int]]
    batch: Callable[[Sequence[str], int], tuple[np.ndarray, np.ndarray]] | None
    files: Mapping[str, Path]
    note: Mapping[str, Any]
    decode: Callable[[Sequence[int]], str] | None = None


def open_model(path: str | os.PathLike[str]) -> Opened:
    """Reads a network with its tokenizer.

    Args:
        path: a folder of Hugging Face's transformers (`models.hugging_face`)
            or of `models.packed`; a file of llama2.c with its tokenizer
            tok*.bin beside it; or "minilm", the encoder of an installed
            package (`models.minilm`).

    Raises:
        UsageError: for what is missing, damaged or not supported, or a
            tokenizer of more tokens than the network has.
    """
    if str(path) == MINILM:
        path = minilm.folder()
    path = Path(path)
    note: Mapping[str, Any] = {}
    if path.suffix == ".bin":
        model, variables = llama2c.load(path)
        map_named(checks.finite, variables)  # The other readers look.
        folder = path.parent
    elif packed.holds(path):
        model, variables, note = packed.load(path)
        folder = path
    else:
        model, variables, *_ = hugging_face.load(path)
        folder = path
    # One such as tok512.bin is of so many tokens.
    name = f"tok{model.vocabulary}.bin"
    own = sorted(folder.glob("tok*.bin"), key=lambda p: (p.name != name, p))
    if isinstance(model, Decoder) and own and not _is_json(folder):
        pairs = byte_pairs.load(own[0], model.vocabulary)
        files = {own[0].name: own[0]}
        return Opened(
            model,
            variables,
            pairs.encode,
            None,
            files,
            note,
            lambda tokens: pairs.decode([*tokens]),
        )
    if path.suffix == ".bin" and not _is_json(folder):
        raise checks.UsageError(
            f"there is no tokenizer beside {path}; put its tok*.bin there."
        )
    found = tokenizers.load(folder)
    found.check(model.vocabulary)
    names = ("tokenizer.json", "tokenizer_config.json")
    files = {n: folder / n for n in names if (folder / n).is_file()}

    def encode(text: str) -> Sequence[int]:
        return found.inner.encode(text).ids

    def decode(tokens: Sequence[int]) -> str:
        return found.inner.decode([int(token) for token in tokens])

    return Opened(model, variables, encode, found.encode, files, note, decode)


def _is_json(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file()


def written(
    opened: Opened, sequences: int, length: int, key: jax.Array
) -> np.ndarray:
    """Texts that a decoder writes by chance, tokens [N, T]."""
    begin = list(opened.encode(""))[:1] or [0]
    prompt = jnp.full((sequences, 1), begin[0], jnp.int32)
    model = opened.model
    assert isinstance(model, Decoder)
    write = jax.jit(
        lambda variables, key: transformer.generate(
            model, variables, prompt, length, key=key
        )
    )
    return np.asarray(write(opened.variables, key))


def windows(
    opened: Opened, text: str, length: int, most: int | None = None
) -> np.ndarray:
    """A text cut into sequences of tokens, [N, T]; the rest is dropped."""
    if most is not None:
        # No more than are needed, a character a token or more.
        text = text[: 16 * most * length]
    tokens = np.asarray(opened.encode(text), np.int32)
    n = len(tokens) // length
    return tokens[: n * length].reshape(n, length)[:most]


def text_of(name: str, split: str, root: str | os.PathLike[str] | None) -> str:
    """A split of a text of `data.text`, below a data root."""
    place = data.find_root(f"the text {name!r}", "text", root)
    return text.part(name, split, place)


def embed(
    opened: Opened, sentences: Sequence[str], length: int = 48, batch: int = 32
) -> np.ndarray:
    """Embeddings of sentences by an encoder, [N, W].

    Args:
        opened: the network.
        sentences: N of them.
        length: T; less where the network has fewer positions.
        batch: sentences at once.
    """
    assert opened.batch is not None and isinstance(opened.model, Encoder)
    length = min(length, opened.model.positions)
    tokens, mask = opened.batch(sentences, length)
    fill = -len(tokens) % batch
    rows = np.concatenate([np.arange(len(tokens)), np.zeros(fill, int)])
    found = [
        _embed(opened.model, opened.variables, tokens[part], mask[part])
        for part in rows.reshape(-1, batch)
    ]
    return np.concatenate(found)[: len(tokens)]


@functools.partial(jax.jit, static_argnums=0)
def _embed(model: Encoder, variables: Any, tokens: Any, mask: Any) -> Any:
    hidden: Any = model.apply(variables, tokens, mask=mask)
    return encoder.sentence_embedding(hidden, mask)
