"""Text as tokens: byte pairs with scores, in the files of llama2.c.

A file begins with the most bytes of a token, int32; then, for each token, its
score, float32, its number of bytes, int32, and the bytes.
"""

import heapq
import math
import os
from pathlib import Path
import re
import struct
from typing import NamedTuple

from jaxedge.core import checks

# Token of the beginning of a text, and the first of the 256 single bytes.
BEGIN, _BYTES = 1, 3
# How a single byte is written.
_BYTE = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
# In the place of a token that was joined with the one before.
_GONE = -1


class Tokenizer(NamedTuple):
    """Pieces of text and how well they go together.

    Attributes:
        pieces: bytes of every token.
        scores: of every token; pairs of the highest are joined first.
    """

    pieces: tuple[bytes, ...]
    scores: tuple[float, ...]

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Tokens of a text.

        Characters that are no piece become bytes; then, again and again, the
        neighbours are joined whose piece has the highest score.

        Args:
            text: any.
            begin: whether the token of the beginning comes first.
        """
        place = {piece: i for i, piece in enumerate(self.pieces)}
        tokens: list[int] = []
        if text:  # As if a blank came before.
            text = " " + text
        for character in text:
            raw = character.encode()
            if raw in place:
                tokens.append(place[raw])
            else:
                tokens += [_BYTES + byte for byte in raw]
        return [BEGIN] * begin + self._joined(tokens, place)

    def _joined(self, tokens: list[int], place: dict[bytes, int]) -> list[int]:
        """The best neighbours joined, of equal scores the first, to the end."""
        end = len(tokens)
        after, before = [*range(1, end + 1)], [*range(-1, end - 1)]
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(at: int) -> None:
            """Notes the pair that begins at a place."""
            if at < 0 or after[at] >= end:
                return
            a, b = tokens[at], tokens[after[at]]
            joined = place.get(self.pieces[a] + self.pieces[b])
            if joined is not None:
                entry = -self.scores[joined], at, a, b, joined
                heapq.heappush(heap, entry)

        for at in range(end - 1):
            offer(at)
        while heap:
            _, at, a, b, joined = heapq.heappop(heap)
            follows = after[at]
            # One of the two may have been joined with another since.
            if tokens[at] != a or follows >= end or tokens[follows] != b:
                continue
            tokens[at], tokens[follows] = joined, _GONE
            after[at] = after[follows]
            if after[at] < end:
                before[after[at]] = at
            offer(at)
            offer(before[at])
        return [token for token in tokens if token != _GONE]

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens; bytes that make no character are replaced."""
        raw = b""
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token == BEGIN:
                continue
            if not 0 <= token < len(self.pieces):
                raise checks.UsageError(
                    f"token {token} is none of {len(self.pieces)}."
                )
            piece = self.pieces[token]
            if before in (None, BEGIN):
                piece = piece.removeprefix(b" ")
            if _BYTE.fullmatch(piece):
                piece = bytes([int(piece[3:5], 16)])
            raw += piece
        return raw.decode(errors="replace")


def load(path: str | os.PathLike[str], vocabulary: int) -> Tokenizer:
    """The tokenizer of a file.

    Args:
        path: of the file, such as `tok512.bin`.
        vocabulary: number of tokens.

    Raises:
        UsageError: if the file is missing or damaged, or does not hold so many
            tokens.
    """
    path = Path(path)
    if not path.is_file():
        raise checks.UsageError(f"no file {str(path)!r}; give a tokenizer.")
    raw, at = path.read_bytes(), 4
    pieces, scores = [], []
    for i in range(vocabulary):
        try:
            score, size = struct.unpack_from("<fi", raw, at)
        except struct.error as error:
            raise checks.UsageError(
                f"{str(path)!r} ends after {i} of {vocabulary} tokens."
            ) from error
        at += 8
        if size < 0 or not math.isfinite(score):
            raise checks.UsageError(
                f"{str(path)!r} has {size} bytes and a score of {score} for"
                f" token {i}, which cannot be; replace it with an intact copy."
            )
        pieces.append(raw[at : at + size])
        scores.append(score)
        at += size
    if at != len(raw) or vocabulary < _BYTES + 256:
        raise checks.UsageError(
            f"{str(path)!r} does not hold {vocabulary} tokens, bytes among"
            " them; give the vocabulary of its network."
        )
    return Tokenizer(tuple(pieces), tuple(scores))
