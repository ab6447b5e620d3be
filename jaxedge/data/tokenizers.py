"""Text as tokens by a tokenizer.json, the file of Hugging Face's tokenizers.

Letters: B texts, T tokens of each.
"""

from collections.abc import Sequence
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks

_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
# What networks usually call their padding.
_PADS = ("[PAD]", "<pad>")


class Tokenizer(NamedTuple):
    """A tokenizer.

    Attributes:
        inner: the object of the library.
        pad: token that fills up short texts; None if there is none.
    """

    inner: Any
    pad: int | None

    @property
    def vocabulary(self) -> int:
        """Least vocabulary of a network that knows all tokens."""
        return 1 + max(self.inner.get_vocab().values())

    def encode(
        self, texts: Sequence[str], length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of texts, with those that the file adds before and after.

        Longer texts are cut off, shorter ones padded at their end.

        Args:
            texts: B of them.
            length: T.

        Returns:
            Tokens [B, T] and a mask [B, T], 1 where a token is no padding, both
            int32.

        Raises:
            UsageError: for texts that are none, a length without room for a
                token of the text, or padding without a token for it.
        """
        if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
            raise checks.UsageError(
                f"texts must be a list of strings, got {texts!r:.40}."
            )
        added = self.inner.num_special_tokens_to_add(False)
        checks.whole("length", length, 1 + added)
        tokens = np.zeros((len(texts), length), np.int32)
        mask = np.zeros_like(tokens)
        plain = self.inner.encode_batch([*texts], add_special_tokens=False)
        for i, encoding in enumerate(plain):
            # Cut off by hand, as the library's setting would be one of an
            # object that others may use.
            encoding.truncate(length - added)
            ids = self.inner.post_process(encoding).ids
            tokens[i, : len(ids)], mask[i, : len(ids)] = ids, 1
        if self.pad is not None:
            tokens[mask == 0] = self.pad
        elif not mask.all():
            raise checks.UsageError(
                f"text {int(mask.all(1).argmin())} has fewer than {length}"
                " tokens, but this tokenizer has none for padding; load it with"
                " pad=TOKEN, such as that of the end of a text."
            )
        return tokens, mask

    def decode(self, tokens: Any) -> list[str]:
        """The texts of tokens [B, T], without those that are no text."""
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
            raise checks.UsageError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}, but must be"
                " integers [B, T]."
            )
        checks.in_range("tokens", tokens, 0, self.vocabulary - 1)
        return self.inner.decode_batch(tokens.tolist())

    def check(self, vocabulary: int) -> None:
        """Raises UsageError unless a network of a vocabulary knows all tokens.

        Args:
            vocabulary: number of tokens of the network.
        """
        if self.vocabulary > vocabulary:
            raise checks.UsageError(
                f"the tokenizer has {self.vocabulary} tokens, but the network"
                f" {vocabulary}; load both from one folder."
            )


def load(
    folder: str | os.PathLike[str], *, pad: str | None = None
) -> Tokenizer:
    """The tokenizer of a folder.

    Args:
        folder: with tokenizer.json, which need not be alone.
        pad: token for padding; by default that of tokenizer.json or
            tokenizer_config.json, else "[PAD]" or "<pad>" where there is one.

    Raises:
        UsageError: if the file is missing or damaged, or has no such token.
    """
    path = Path(folder) / _FILE
    if not path.is_file():
        raise checks.UsageError(
            f"there is no {path}; give a folder with the file of a fast"
            " tokenizer of transformers."
        )
    inner = _read(path)
    given = pad or (inner.padding or {}).get("pad_token") or _named(path.parent)
    # A cut and padding that the file asks for are not those of `encode`.
    inner.no_truncation()
    inner.no_padding()
    names = [given] if given else _PADS
    found = [i for name in names if (i := inner.token_to_id(name)) is not None]
    if given and not found:
        raise checks.UsageError(
            f"the padding {given!r} is no token of {path}; load it with"
            " pad=TOKEN."
        )
    return Tokenizer(inner, found[0] if found else None)


def _read(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise checks.UsageError(
            f"{path} is read with tokenizers, which cannot be imported"
            f" ({error}); pip install 'jaxedge[language]'."
        ) from error
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing narrower.
        raise checks.UsageError(
            f"{path} cannot be read as a tokenizer ({error}); replace it with"
            " an intact copy."
        ) from error


def _named(folder: Path) -> str | None:
    """The padding that tokenizer_config.json names, where there is one."""
    path = folder / _CONFIG
    if not path.is_file():
        return None
    try:
        pad = json.loads(path.read_text(encoding="utf-8"))["pad_token"]
        return pad["content"] if isinstance(pad, dict) else pad
    except KeyError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise checks.UsageError(
            f"{path} cannot be read as a tokenizer's config ({error}); replace"
            " it with an intact copy."
        ) from error
