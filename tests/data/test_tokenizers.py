"""Tokenizers in small files, made by the library itself."""

import json
import sys

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import tokenizers

library = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "man", "eats", "bread", "##s"]


def made(words=WORDS):
    """Word pieces between two tokens of their own, as BERT has them."""
    places = {word: i for i, word in enumerate(words)}
    inner = library.Tokenizer(
        library.models.WordPiece(places, unk_token="[UNK]")
    )
    inner.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    inner.decoder = library.decoders.WordPiece()
    special = [word for word in words if word.startswith("[")]
    inner.add_special_tokens(special)
    inner.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, places[word]) for word in ("[CLS]", "[SEP]")],
    )
    return inner


@pytest.fixture
def folder(tmp_path):
    """A function that writes a tokenizer, and returns its folder."""

    def write(inner, config=None):
        inner.save(str(tmp_path / "tokenizer.json"))
        if config is not None:
            path = tmp_path / "tokenizer_config.json"
            path.write_text(json.dumps(config))
        return tmp_path

    return write


TEXTS = ["A man eats.", "a man eats breads a man eats", ""]


def test_texts_are_padded_and_cut_off(folder):
    words = tokenizers.load(folder(made()))
    tokens, mask = words.encode(TEXTS, 7)
    want = [[2, 4, 5, 6, 1, 3, 0], [2, 4, 5, 6, 7, 8, 3], [2, 3, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(tokens, want)
    # No real token is that of padding here.
    np.testing.assert_array_equal(mask, tokens != 0)
    assert tokens.dtype == mask.dtype == np.int32
    assert words.decode(tokens) == ["a man eats", "a man eats breads", ""]
    assert words.encode([], 7)[0].shape == (0, 7)


@pytest.mark.parametrize("length", [3, 5, 12])
def test_tokens_are_those_of_the_library(length, folder):
    inner = made()
    # The file asks for another cut, which does not count.
    inner.enable_truncation(4)
    inner.enable_padding(length=4)
    words = tokenizers.load(folder(inner))
    tokens, mask = words.encode(TEXTS, length)
    inner.enable_truncation(length)
    inner.enable_padding(length=length)
    for i, want in enumerate(inner.encode_batch(TEXTS)):
        np.testing.assert_array_equal(tokens[i], want.ids)
        np.testing.assert_array_equal(mask[i], want.attention_mask)


@pytest.mark.parametrize(
    ("config", "pad", "want"),
    [
        (None, None, 0),
        ({}, None, 0),
        ({"pad_token": None}, None, 0),
        ({"pad_token": "[SEP]"}, None, 3),
        ({"pad_token": {"content": "[UNK]"}}, None, 1),
        ({"pad_token": "[SEP]"}, "a", 4),
    ],
)
def test_the_padding_is_found(config, pad, want, folder):
    assert tokenizers.load(folder(made(), config), pad=pad).pad == want


def test_the_padding_of_the_file_counts_first(folder):
    inner = made()
    inner.enable_padding(pad_id=2, pad_token="[CLS]")
    assert tokenizers.load(folder(inner, {"pad_token": "[SEP]"})).pad == 2


def test_padding_without_a_token_is_named(folder):
    words = tokenizers.load(folder(made(WORDS[1:])))
    assert words.pad is None
    tokens, mask = words.encode(["a man eats"], 5)
    assert mask.all() and tokens.tolist() == [[1, 3, 4, 5, 2]]
    with pytest.raises(UsageError, match="text 1 has fewer than 5 tokens, but"):
        words.encode(["a man eats", "a man"], 5)
    again = tokenizers.load(folder(made(WORDS[1:])), pad="[SEP]")
    tokens, mask = again.encode(["a man"], 5)
    assert tokens.tolist() == [[1, 3, 4, 2, 2]]
    assert mask.tolist() == [[1, 1, 1, 1, 0]]


def test_networks_must_know_all_tokens(folder):
    words = tokenizers.load(folder(made()))
    assert words.vocabulary == 9
    words.check(9)
    words.check(12)
    with pytest.raises(UsageError, match="has 9 tokens, but the network 8"):
        words.check(8)


def test_bad_input_is_named(folder):
    words = tokenizers.load(folder(made()))
    with pytest.raises(UsageError, match="list of strings, got 'a man'"):
        words.encode("a man", 5)
    with pytest.raises(UsageError, match="list of strings, got .1."):
        words.encode([1], 5)
    with pytest.raises(UsageError, match="length is 2, but must lie in .3"):
        words.encode(["a"], 2)
    with pytest.raises(UsageError, match="tokens are int64.2., but must be"):
        words.decode(np.array([1, 2]))
    with pytest.raises(UsageError, match="tokens is 9, but must lie in"):
        words.decode([[9]])


def test_bad_files_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="there is no .*tokenizer.json"):
        tokenizers.load(tmp_path)
    path = folder(made(), {"pad_token": "[NONE]"})
    with pytest.raises(UsageError, match="padding '.NONE.' is no token of"):
        tokenizers.load(path)
    (path / "tokenizer_config.json").write_text("{")
    with pytest.raises(
        UsageError, match="_config.json cannot be read as a tok"
    ):
        tokenizers.load(path)
    (path / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="tokenizer.json cannot be read as"):
        tokenizers.load(path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxedge\[language\]'"):
        tokenizers.load(path)
