"""Text as tokens of byte pairs, whose next ones are to be told.

They are read from `text/` of the data root: `tinyshakespeare.txt`
(karpathy/char-rnn), `wikitext2_valid.txt` and `wikitext2_test.txt` (WikiText-2,
Merity et al., arXiv:1609.07843, words apart and rare ones <unk>, as
pytorch/examples has it). The training file of WikiText-2 is not among them: it
is learned from the first nine tenths of the validation file, so that no
published number can be expected.

Letters: N windows, T tokens of one.
"""

from collections.abc import Callable, Sequence
import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data.source import Source

# Bytes and SHA-256 of each file.
FILES = {
    "tinyshakespeare.txt": (
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "wikitext2_valid.txt": (
        1_121_681,
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    ),
    "wikitext2_test.txt": (
        1_256_449,
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    ),
}


class Part(NamedTuple):
    """A split: the characters of a file between two shares of their number."""

    file: str
    start: float = 0.0
    stop: float = 1.0


TEXTS = {
    "tinyshakespeare": {
        "train": Part("tinyshakespeare.txt", stop=0.85),
        "valid": Part("tinyshakespeare.txt", 0.85, 0.9),
        "test": Part("tinyshakespeare.txt", 0.9),
    },
    "wikitext2": {
        "train": Part("wikitext2_valid.txt", stop=0.9),
        "valid": Part("wikitext2_valid.txt", 0.9),
        "test": Part("wikitext2_test.txt"),
    },
}
VOCABULARY, LENGTH = 1024, 128
# The bytes are tokens, and a token is an int32 that nobody reads as a pixel.
_VOCABULARIES = 256, 2**20


class BytePairs(NamedTuple):
    """A tokenizer: bytes, and pairs of tokens that are often neighbours.

    Attributes:
        encode: text to tokens; any text has some.
        decode: tokens to text; bytes that make no character are replaced.
        pieces: the tokens as `tokenizers` writes them, a blank as "Ġ".
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    pieces: tuple[str, ...]


def read(
    name: str,
    split: str,
    root: Path,
    *,
    vocabulary: int = VOCABULARY,
    length: int = LENGTH,
) -> Source:
    """Windows of a text, x [N, T] int32, and the next tokens, y [N, T].

    A window begins where the one before ends; what is left over is dropped.

    Args:
        name: of `TEXTS`.
        split: "train", "valid" or "test": of tinyshakespeare the first 85 % of
            the characters, 5 % and the last 10 %; of wikitext2 the first 90 %
            of its validation file, the rest of it, and its test file.
        root: the folder that holds `text/`.
        vocabulary: number of tokens, at least 256, see `tokenizer`.
        length: T, at least 1.

    Returns:
        The source, whose classes are the tokens.

    Raises:
        UsageError: for files that are missing or of another text, a text that
            is shorter than a window, or without `tokenizers`.
    """
    checks.whole("length", length, 1)
    pairs = tokenizer(name, root, vocabulary)
    tokens = np.array(pairs.encode(part(name, split, root)), np.int32)
    n = (len(tokens) - 1) // length
    if n < 1:
        raise checks.UsageError(
            f"{name}/{split} has {len(tokens)} tokens, but a window and the"
            f" next token are {length + 1}; lower data.length."
        )
    x, y = (
        tokens[i : i + n * length].reshape(n, length).copy() for i in (0, 1)
    )
    return Source(x, y, pairs.pieces, name, split)


def tokenizer(name: str, root: Path, vocabulary: int = VOCABULARY) -> BytePairs:
    """The tokenizer of a text, learned from its training split.

    Byte pairs (Sennrich et al., arXiv:1508.07909) of bytes, as in GPT-2; equal
    for equal text and an equal version of `tokenizers`.

    Args:
        name: of `TEXTS`.
        root: the folder that holds `text/`.
        vocabulary: number of tokens, the 256 bytes among them.

    Raises:
        UsageError: as `read`, or for a text that has not so many tokens.
    """
    low, high = _VOCABULARIES
    checks.whole("vocabulary", vocabulary, low)
    checks.in_range("vocabulary", vocabulary, low, high)
    return learn(part(name, "train", root), vocabulary)


def part(name: str, split: str, root: Path) -> str:
    """The text of a split, see `read`."""
    checks.choice("text", name, TEXTS)
    checks.choice("split", split, TEXTS[name])
    file, start, stop = TEXTS[name][split]
    text = _text(root / "text" / file)
    return text[int(start * len(text)) : int(stop * len(text))]


@functools.lru_cache(maxsize=4)
def learn(text: str, vocabulary: int) -> BytePairs:
    """The tokenizer of any text, see `tokenizer`."""
    try:
        # Optional (the extra `language`).
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise checks.UsageError(
            "tokens of byte pairs need the package tokenizers; install"
            " jaxedge[language]."
        ) from error
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    found.decoder = decoders.ByteLevel()  # type: ignore
    found.train_from_iterator(
        text.splitlines(keepends=True),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if found.get_vocab_size() != vocabulary:
        raise checks.UsageError(
            f"a vocabulary of {vocabulary} tokens is asked for, but the text"
            f" has {found.get_vocab_size()}; lower data.vocabulary."
        )
    pieces = (found.id_to_token(i) for i in range(vocabulary))
    return BytePairs(
        lambda text: found.encode(text).ids,
        lambda tokens: found.decode([int(i) for i in tokens]),
        tuple(map(str, pieces)),
    )


def _text(path: Path) -> str:
    size, known = FILES[path.name]
    if not path.is_file():
        raise checks.UsageError(
            f"{path} is missing; put the text there ({size:,} bytes), see"
            " jaxedge.data.text for where it is from."
        )
    raw = path.read_bytes()
    if len(raw) != size or hashlib.sha256(raw).hexdigest() != known:
        raise checks.UsageError(
            f"{path} has {len(raw):,} bytes of another text; the file that is"
            f" known has {size:,} and the SHA-256 {known[:12]}...; replace it."
        )
    return raw.decode()
