"""Texts of random words: their splits, their windows and their tokens."""

import hashlib
from pathlib import Path
import sys

import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import text

WORDS = ("the", "king", "and", "queen", "said", "nothing", "héllo", "\n")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root whose three files are texts of a few words."""
    pytest.importorskip("tokenizers", reason="needs the extra language")
    (tmp_path / "text").mkdir()
    rng = np.random.default_rng(0)
    for name in text.FILES:
        raw = " ".join(rng.choice(WORDS, 2000)).encode()
        (tmp_path / "text" / name).write_bytes(raw)
        known = len(raw), hashlib.sha256(raw).hexdigest()
        monkeypatch.setitem(text.FILES, name, known)
    return tmp_path


def fails(match, *args, **options):
    with pytest.raises(UsageError, match=match) as error:
        data.load(*args, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", text.TEXTS)
def test_windows_hold_the_text_and_its_next_tokens(name, root):
    pairs = text.tokenizer(name, root, 270)
    for split in data.SPLITS:
        source = data.load(name, split, root, vocabulary=270, length=8)
        assert source.x.dtype == source.y.dtype == np.int32
        assert source.x.shape == source.y.shape == (len(source.x), 8)
        assert (source.name, source.split) == (name, split)
        flat = source.x.ravel()
        np.testing.assert_array_equal(source.y.ravel()[:-1], flat[1:])
        want = text.part(name, split, root)
        tokens = [*flat.tolist(), int(source.y[-1, -1])]
        # A window that is not full is left out; it may begin in a character.
        got = pairs.decode(tokens).rstrip("\ufffd")
        assert want.startswith(got) and len(want) - len(got) < 8 * 7
        assert len(source.classes) == 270 and source.classes == pairs.pieces


def test_splits_are_all_of_a_text_and_apart(root):
    def whole(file):
        return (root / "text" / file).read_text()

    parts = [text.part("tinyshakespeare", split, root) for split in data.SPLITS]
    assert "".join(parts) == whole("tinyshakespeare.txt")
    shares = np.array([len(part) for part in parts]) / sum(map(len, parts))
    np.testing.assert_allclose(shares, [0.85, 0.05, 0.1], atol=1e-3)
    train, valid, test = (
        text.part("wikitext2", split, root) for split in data.SPLITS
    )
    assert train + valid == whole("wikitext2_valid.txt")
    assert test == whole("wikitext2_test.txt")
    assert len(train) / len(train + valid) == pytest.approx(0.9, abs=1e-3)


def test_a_tokenizer_is_its_text(root):
    first = text.tokenizer("wikitext2", root, 280)
    text.learn.cache_clear()
    again = text.tokenizer("wikitext2", root, 280)
    assert first is not again and first.pieces == again.pieces
    other = text.tokenizer("tinyshakespeare", root, 280)
    assert other.pieces != first.pieces
    # A longer vocabulary begins with the shorter.
    longer = text.tokenizer("wikitext2", root, 284)
    assert longer.pieces[:280] == first.pieces
    train = text.part("wikitext2", "train", root)
    assert len(longer.encode(train)) < len(first.encode(train)) < len(train)


def test_any_text_has_tokens(root):
    pairs = text.tokenizer("wikitext2", root, 256)
    for words in ("", " ", "a  b\n\n\tc", "naïve 数学 🙂", "\x00"):
        tokens = pairs.encode(words)
        assert pairs.decode(np.array(tokens, np.int32)) == words  # type: ignore
        # Without pairs, every byte is a token.
        assert len(tokens) == len(words.encode())


def test_windows_come_as_all_examples_do(root):
    source = data.load("wikitext2", "train", root, vocabulary=256, length=16)
    batches = list(data.epoch(source, 4, jax.random.key(0), 0))
    assert len(batches) == len(source.x) // 4
    rows = {tuple(row) for batch in batches for row in batch.x.tolist()}
    assert rows <= {tuple(row) for row in source.x.tolist()}
    assert batches[0].x.dtype == np.int32


def test_files_are_checked(root):
    path = root / "text" / "wikitext2_test.txt"
    where, raw = ("wikitext2", "test", root), path.read_bytes()
    path.write_bytes(raw[:-1])
    fails("test.txt has .* bytes of another text", *where, vocabulary=256)
    path.write_bytes(b"x" + raw[1:])
    fails("SHA-256 .*; replace it", *where, vocabulary=256)
    path.unlink()
    fails("wikitext2_test.txt is missing", *where, vocabulary=256)


def test_bad_options_are_named(root):
    where = "wikitext2", "valid", root
    fails("vocabulary is 255, but must", *where, vocabulary=255)
    fails("vocabulary must be a whole number", *where, vocabulary=300.0)
    fails("length is 0, but must", *where, length=0)
    fails("of 9000 tokens.*has .*; lower", *where, vocabulary=9000)
    fails(
        "has .* tokens, but a window .* 99999", *where, vocabulary=256,
        length=99998,
    )  # fmt: skip
    fails("length is asked of .*'digits', but only", "digits", "test", length=3)
    with pytest.raises(UsageError, match="unknown text 'wikitext'. Did you"):
        text.part("wikitext", "test", root)
    with pytest.raises(UsageError, match="unknown split 'tests'"):
        text.part("wikitext2", "tests", root)


def test_the_package_that_is_missing_is_named(root, monkeypatch):
    text.learn.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    fails(r"install jaxedge\[language\]", "wikitext2", "test", root)


def test_no_root(monkeypatch):
    monkeypatch.delenv(data.ROOT_VARIABLE, raising=False)
    fails("folder that holds text/", "wikitext2", "test")


def test_real_files_are_those_that_are_known(real_file):
    root = Path(real_file("text/tinyshakespeare.txt")).parents[1]
    assert text.part("tinyshakespeare", "train", root).startswith("First Cit")
    assert len(text.part("tinyshakespeare", "test", root)) == 111_540
    assert " <unk> " in text.part("wikitext2", "valid", root)
