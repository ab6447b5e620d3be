"""Tokens of a small vocabulary, joined by their scores."""

import struct

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import byte_pairs

WORDS = {
    " ": -3.0, "a": -4.0, "b": -5.0, "c": -6.0, "ab": -1.0, "bc": -0.5,
    "abc": -2.0, " a": -9.0, "é": -7.0,
}  # fmt: skip


def file(path, words=WORDS):
    """A file of the three special tokens, all bytes, and words."""
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n"]
    pieces += [f"<0x{byte:02X}>".encode() for byte in range(256)]
    scores = [0.0] * len(pieces) + [*words.values()]
    pieces += [word.encode() for word in words]
    raw = struct.pack("<i", max(map(len, pieces)))
    for score, piece in zip(scores, pieces, strict=True):
        raw += struct.pack("<fi", score, len(piece)) + piece
    path.write_bytes(raw)
    return len(pieces)


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "tok.bin"
    return byte_pairs.load(path, file(path))


def test_the_highest_score_is_joined_first(words):
    def names(text):
        return [words.pieces[i].decode() for i in words.encode(text)[1:]]

    # "bc" before "ab", which leaves no "abc" to join with.
    assert names("abc") == [" ", "abc"] or names("abc") == [" a", "bc"]
    assert names("ab") == [" ", "ab"]
    assert names("ba") == [" ", "b", "a"]
    assert words.encode("", begin=False) == []
    assert words.encode("") == [byte_pairs.BEGIN]


def test_any_text_is_joined_pair_by_pair(words):
    """Against the rule itself: the best pair of all, again and again."""
    place = {piece: i for i, piece in enumerate(words.pieces)}
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = "".join(rng.choice([*"abc é"], rng.integers(1, 40)))
        tokens = [place[c.encode()] for c in " " + text]
        while True:
            both = [
                words.pieces[a] + words.pieces[b]
                for a, b in zip(tokens, tokens[1:], strict=False)
            ]
            pairs = [
                (words.scores[place[piece]], -at, place[piece])
                for at, piece in enumerate(both)
                if piece in place
            ]
            if not pairs:
                break
            _, at, joined = max(pairs)
            tokens[-at : -at + 2] = [joined]
        assert words.encode(text, begin=False) == tokens


@pytest.mark.parametrize("text", ["abc", "a bc", "é", "x\ny", "日本 abé", ""])
def test_texts_come_back(words, text):
    assert words.decode(words.encode(text)) == text
    assert words.decode(words.encode(text, begin=False)) == text


def test_characters_that_are_no_piece_become_bytes(words):
    tokens = words.encode("x", begin=False)
    assert words.pieces[tokens[-1]] == b"<0x78>"
    # A part of a character is no character.
    assert words.decode([3 + 0xE6]) == "\N{REPLACEMENT CHARACTER}"


def test_a_piece_that_looks_like_a_byte_is_itself():
    pieces = (b"<0xG1>", b"<s>", b"<0x2>>", b"<0x41>")
    words = byte_pairs.Tokenizer(pieces, (0.0,) * 4)
    assert words.decode([0, 2, 3]) == "<0xG1><0x2>>A"


def test_bad_input_is_named(words, tmp_path):
    with pytest.raises(UsageError, match="token 268 is none of 268"):
        words.decode([268])
    path = tmp_path / "short.bin"
    count = file(path)
    with pytest.raises(UsageError, match="ends after 268 of 269 tokens"):
        byte_pairs.load(path, count + 1)
    with pytest.raises(UsageError, match="does not hold 267 tokens"):
        byte_pairs.load(path, count - 1)
    with pytest.raises(UsageError, match="no file"):
        byte_pairs.load(tmp_path / "other.bin", 5)


@pytest.mark.parametrize("score, size", [(np.nan, 5), (np.inf, 5), (0.0, -1)])
def test_a_token_that_cannot_be_is_named(tmp_path, score, size):
    path = tmp_path / "tok.bin"
    count = file(path)
    raw = bytearray(path.read_bytes())
    raw[4:12] = struct.pack("<fi", score, size)
    path.write_bytes(raw)
    with pytest.raises(UsageError, match="tok.bin.*for token 0, which cannot"):
        byte_pairs.load(path, count)
