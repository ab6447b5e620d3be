"""LLM-FP4 on small published-like networks, and on what cannot be one."""

import os
from pathlib import Path
import shutil
import string
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.core.keys import stream
from jaxedge.data import byte_pairs, choices, docstrings, text
from jaxedge.models import llama2c, packed, quantized
from jaxedge.recipes import assessment, llm_fp4, networks

library = pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDERS = Path(__file__).parents[1] / "models" / "hugging_face"
STORIES = Path(os.environ.get("JAXEDGE_DATA", "")) / "checkpoints/stories260K"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase]
FEW = "attention/(q|o)/kernel"


def letters(words=WORDS, ends=("[CLS]", "[SEP]")):
    """A tokenizer with a token a letter."""
    places = {word: i for i, word in enumerate(words)}
    inner = library.Tokenizer(
        library.models.WordLevel(places, unk_token="[UNK]")
    )
    inner.normalizer = library.normalizers.Lowercase()
    inner.pre_tokenizer = library.pre_tokenizers.Split(
        library.Regex("."), "isolated"
    )
    inner.post_processor = library.processors.TemplateProcessing(
        single=" ".join([ends[0], "$A", *ends[1:]]),
        special_tokens=[(end, places[end]) for end in ends],
    )
    return inner


def made(folder, kind, **how):
    """A copy of a network's folder, with a tokenizer."""
    shutil.copytree(FOLDERS / kind, folder)
    letters(**how).save(str(folder / "tokenizer.json"))
    return folder


def config(changes=()):
    """The defaults with fields replaced, such as {"quantize.kv": None}."""
    fields = llm_fp4.defaults().to_dict()
    fields["quantize"] |= {"method": "minmax", "layers": FEW}
    fields["calibration"] |= {"sequences": 4, "tokens": 8}
    for path, value in dict(changes).items():
        section, field = path.split(".")
        fields[section][field] = value
    return fields


def given(**changes):
    return llm_fp4.parse(
        config({k.replace("__", "."): v for k, v in changes.items()})
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return networks.open_model(made(tmp_path_factory.mktemp("b") / "b", "bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("l") / "l"
    return networks.open_model(made(folder, "llama", ends=("[CLS]",)))


@pytest.fixture(scope="module")
def small(llama):
    """Some texts, and some matrices of the decoder in small numbers."""
    tokens = np.random.default_rng(0).integers(0, 37, (4, 8)).astype(np.int32)
    texts = llm_fp4.Texts(tokens, np.ones_like(tokens))
    return texts, [*llm_fp4.layers(llama, texts, given())]


FIELDS = [
    ("quantize.method", "fpqq", "quantize.method 'fpqq'. Did you mean 'fpq'"),
    ("quantize.search", "of", "unknown quantize.search 'of'.*offset, paper"),
    ("quantize.grain", "mxfp", "quantize.grain 'mxfp'. Did you mean 'mxfp4'"),
    ("quantize.damp", 0.0, r"quantize.damp is 0.0, but must lie in \(0"),
    ("quantize.damp", "a", "quantize.damp is 'a', but must be float"),
    ("quantize.weight_bits", 1, "quantize.weight_bits is 1"),
    ("quantize.weight_bits", 16, r"quantize.weight_bits is 16, .*8\]"),
    ("quantize.act_bits", 12, "quantize.act_bits is 12"),
    ("quantize.act_bits", 4.5, "quantize.act_bits is 4.5, but must be int"),
    ("quantize.embedding_bits", 16, "quantize.embedding_bits is 16"),
    ("quantize.layers", None, "quantize.layers is None, but must be str"),
    ("quantize.kv", "nvfp4", "config.quantize: kv is 'nvfp4', whose scales"),
    ("quantize.kv", "mxfp", "unknown block format 'mxfp'. Did you mean 'mxfp"),
    ("quantize.methid", "fpq", "field quantize. 'methid'. Did you mean"),
    ("calibration.text", 3, "calibration.text is 3, but must be str"),
    ("calibration.sequences", 0, "calibration.sequences is 0"),
    ("calibration.tokens", 3, "calibration.tokens is 3"),
    ("calibration.vectors", 0, "calibration.vectors is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "message"), FIELDS)
def test_bad_fields_are_named(field, value, message):
    with pytest.raises(UsageError, match=message):
        llm_fp4.parse(config({field: value}))


def test_bad_configs_are_named():
    assert llm_fp4.parse(llm_fp4.defaults()).quantize.how["bits"] == (4, 4)
    for changes, message in [
        ({"seed": -1}, "config.seed is -1"),
        ({"seed": "x"}, "config.seed must be a whole number"),
        ({"quantise": {}}, "config field 'quantise'. Did you mean 'quantize'"),
        ({"calibration": None}, "config.calibration is None"),
    ]:
        with pytest.raises(UsageError, match=message):
            llm_fp4.parse({**config(), **changes})
    for name in ("seed", "quantize"):
        with pytest.raises(UsageError, match=f"config lacks the .* '{name}'"):
            llm_fp4.parse({k: v for k, v in config().items() if k != name})


def test_networks_are_opened_with_their_words(bert, llama):
    assert bert.encode("a c!") == [2, 4, 1, 6, 1, 3]
    assert bert.batch is not None
    tokens, mask = bert.batch(["ab", "a"], 5)
    assert tokens.tolist() == [[2, 4, 5, 3, 0], [2, 4, 3, 0, 0]]
    assert mask.sum(1).tolist() == [4, 3]
    assert [*bert.files] == ["tokenizer.json"] and not bert.note
    # A decoder's texts have a beginning and no end.
    assert llama.encode("ab") == [2, 4, 5]
    assert assessment.known_tasks(bert.model) == ("docstrings",)
    assert assessment.known_tasks(llama.model)[0] == "own"


def test_words_must_be_there_and_known(tmp_path):
    shutil.copytree(FOLDERS / "bert", tmp_path / "a")
    with pytest.raises(UsageError, match="there is no .*tokenizer.json"):
        networks.open_model(tmp_path / "a")
    more = [*WORDS, *string.ascii_uppercase]
    made(tmp_path / "b", "bert", words=more)
    with pytest.raises(UsageError, match="has 56 tokens, but the network 37"):
        networks.open_model(tmp_path / "b")
    with pytest.raises(UsageError, match="is no folder"):
        networks.open_model(tmp_path / "c")


PIECES = [" ", "a", "b", "ab", " a", " b", " ab", "é"]


def own_file(folder, change=None):
    """A network of llama2.c, and its words."""
    pieces = [b"<unk>", b"<s>", b"</s>"]
    pieces += [f"<0x{byte:02X}>".encode() for byte in range(256)]
    pieces += [piece.encode() for piece in PIECES]
    raw = struct.pack("<i", 6)
    for i, piece in enumerate(pieces):
        raw += struct.pack("<fi", float(i), len(piece)) + piece
    n = len(pieces)
    (folder / f"tok{n}.bin").write_bytes(raw)
    # Another, that comes first by name.
    (folder / "tok1.bin").write_bytes(b"")
    sizes = [n * 8, 8, 64, 32, 32, 64, 8, 64, 64, 64, 8, 8, 8]
    flat = np.random.default_rng(0).normal(0, 0.3, sum(sizes)).astype("<f4")
    if change is not None:
        flat[change] = np.inf
    header = np.array([8, 8, 1, 2, 1, n, 4], "<i4")
    path = folder / "net.bin"
    path.write_bytes(header.tobytes() + flat.tobytes())
    return path, folder / f"tok{n}.bin", n


def test_a_file_of_llama2c_is_opened(tmp_path):
    path, words, n = own_file(tmp_path)
    opened = networks.open_model(path)
    assert [*opened.files.values()] == [words] and opened.batch is None
    pairs = byte_pairs.load(words, n)
    said = "ab  a\n b ab"
    assert opened.encode(said) == pairs.encode(said)
    # In no more time than a long text may take.
    assert len(opened.encode("ab ba a " * 20_000)) > 60_000
    words.unlink()
    (tmp_path / "tok1.bin").unlink()
    with pytest.raises(UsageError, match="no tokenizer beside .*net.bin"):
        networks.open_model(path)


def test_an_infinity_in_a_file_is_named(tmp_path):
    path, *_ = own_file(tmp_path, -20)
    with pytest.raises(UsageError, match=r"net\.bin: norm holds 1 NaN"):
        networks.open_model(path)


@pytest.mark.skipif(
    not (STORIES / "stories260K.bin").is_file(),
    reason="no checkpoints/stories260K below JAXEDGE_DATA",
)
def test_a_published_file_is_opened():
    opened = networks.open_model(STORIES / "stories260K.bin")
    pairs = byte_pairs.load(STORIES / "tok512.bin", 512)
    said = "Once upon a time,  there was Lily.\nShe was \N{SNOWMAN} happy. "
    assert opened.encode(said) == pairs.encode(said)
    tokens = llm_fp4.calibration(
        opened, given(calibration__tokens=64).calibration, None,
        jax.random.key(0),
    ).tokens  # fmt: skip
    assert tokens.shape == (4, 64)
    assert opened.model == llama2c.load(STORIES / "stories260K.bin")[0]


def test_matrices_are_those_of_the_pattern(bert, llama):
    assert llm_fp4.matrices(bert, "attention/q") == [
        f"params/layer_{i}/attention/q/kernel" for i in (0, 1)
    ]
    # Neither tables nor norms are matrices.
    assert len(llm_fp4.matrices(bert, "")) == 2 * 6
    assert len(llm_fp4.matrices(llama, "kernel$")) == 2 * 7 + 1
    one = {"kernel": jnp.ones((2, 2))}
    many = llama._replace(variables={f"layer_{i}": one for i in range(12)})
    names = [f"layer_{i}/kernel" for i in range(12)]
    assert llm_fp4.matrices(many, "kernel") == names
    with pytest.raises(UsageError, match="'kernels' names no matrix; there"):
        llm_fp4.matrices(llama, "kernels")
    with pytest.raises(UsageError, match="no regular expression"):
        llm_fp4.matrices(llama, "[")


def test_matrices_become_small_with_a_record(llama, small):
    texts, layers = small
    assert [layer.path for layer in layers] == llm_fp4.matrices(llama, FEW)
    seen = llm_fp4.observed(llama, texts, given())
    for layer in layers:
        x = seen[layer.path]
        part = layer.path.split("/")[1:-1]
        w = llama.variables["params"]
        for name in part:
            w = w[name]
        y, found = x @ w["kernel"], layer.leaf.layer.apply(x)
        want = np.sum((found - y) ** 2) / np.sum(y**2)
        record = layer.record
        np.testing.assert_allclose(record["error"], want, rtol=1e-4)
        assert 1e-4 < record["error"] < 0.5
        np.testing.assert_array_equal(record["channel_most"], np.abs(x).max(0))
        assert record["shape"] == [32, 32] and record["shifted"] == 0
        assert record["weight_format"] == record["act_format"] == "e2m1"
        # A scale of 32 bits for each output of 32 inputs.
        assert record["bits_per_weight"] == 5


def test_what_is_done_is_not_done_again(llama, small):
    texts, layers = small
    known = {layer.path: layer.leaf for layer in layers}

    def never(*args, **kwargs):
        raise AssertionError("quantised again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantized, "quantise", never)
        again = [*llm_fp4.layers(llama, texts, given(), known.get)]
    for one, other in zip(again, layers, strict=True):
        assert one.leaf is other.leaf and one.record == other.record


def test_small_networks_are_not_made_smaller(llama, small, tmp_path):
    texts, layers = small
    leaves = {layer.path: layer.leaf for layer in layers}
    done = llm_fp4.assemble(llama, leaves, {}, "mxfp4")
    assert done.model == llama.model.clone(kv="mxfp4")
    assert dict(quantized.leaves(done.variables)) == leaves
    packed.save(tmp_path / "out", done.model, done.variables, files=llama.files)
    opened = networks.open_model(tmp_path / "out")
    assert opened.model == done.model and opened.encode("b") == [2, 5]
    for network in (done, opened):
        with pytest.raises(UsageError, match="holds small numbers already"):
            llm_fp4.matrices(network, "kernel")
        with pytest.raises(UsageError, match="holds small numbers already"):
            next(llm_fp4.layers(network, texts, given()))


def test_tables_are_for_decoders(bert, llama):
    assert llm_fp4.tables(bert, None) == {}
    (path, table), *rest = llm_fp4.tables(llama, 3).items()
    assert path == "params/embedding" and not rest
    assert table.shape == (37, 32) and table.format.bits == 3
    exact = llama.variables["params"]["embedding"]
    off = np.abs(table.values - exact).max() / np.abs(exact).max()
    assert 0 < off < 1 / 3
    done = llm_fp4.assemble(llama, {}, {path: table})
    np.testing.assert_array_equal(
        done.variables["params"]["embedding"], table.values
    )
    with pytest.raises(UsageError, match="embedding_bits is 4, but it is for"):
        llm_fp4.tables(bert, 4)
    with pytest.raises(UsageError, match="kv is 'mxfp4', but an encoder"):
        llm_fp4.assemble(bert, {}, {}, "mxfp4")
    bad = exact.at[3, 4].set(jnp.nan)
    params = {**llama.variables["params"], "embedding": bad}
    with pytest.raises(UsageError, match="params/embedding holds 1 NaN"):
        llm_fp4.tables(llama._replace(variables={"params": params}), 4)


def changed(opened, path, change):
    """The network with another matrix."""
    return opened._replace(
        variables=jax.tree_util.tree_map_with_path(
            lambda p, a: (
                change(a)
                if jax.tree_util.keystr(p, simple=True, separator="/") == path
                else a
            ),
            opened.variables,
        )
    )


def test_zeros_are_fine_and_infinities_named(llama, small):
    texts, _ = small
    path = "params/layer_0/attention/q/kernel"
    # A channel of the inputs that is always zero, and weights that are.
    norm = "params/layer_0/attention_norm/scale"
    dead = changed(llama, norm, lambda a: a.at[2].set(0))
    dead = changed(dead, path, lambda a: a.at[:, 1].set(0))
    some = given(quantize__layers="layer_0/attention/q")
    (layer,) = llm_fp4.layers(dead, texts, some)
    assert layer.record["channel_most"][2] == 0
    assert np.isfinite(layer.record["error"])
    np.testing.assert_array_equal(layer.leaf.layer.weights[:, 1], 0)
    (layer,) = llm_fp4.layers(changed(llama, path, jnp.zeros_like), texts, some)
    assert layer.record["error"] == 0
    broken = changed(llama, path, lambda a: a.at[1, 2].set(jnp.inf))
    with pytest.raises(UsageError, match=f"{path} holds 1 .*index .1, 2."):
        next(llm_fp4.layers(broken, texts, given()))


def test_padding_is_no_calibration(bert):
    assert bert.batch is not None
    tokens, mask = bert.batch(["abc", "a", "abcdefgh"], 8)
    some = given(quantize__layers="layer_1/up")
    seen = llm_fp4.observed(bert, llm_fp4.Texts(tokens, mask), some)
    (x,) = seen.values()
    assert x.shape == (mask.sum(), 16)
    other = np.where(mask == 1, tokens, 9)
    again = llm_fp4.observed(bert, llm_fp4.Texts(other, mask), some)
    np.testing.assert_array_equal(x, *again.values())
    few = given(quantize__layers="layer_1/up", calibration__vectors=5)
    (fewer,) = llm_fp4.observed(bert, llm_fp4.Texts(tokens, mask), few).values()
    # 16 real tokens, every third from the first.
    assert mask.sum() == 16
    np.testing.assert_array_equal(fewer, x[::3][:5])


def calibration(opened, text, key=0, root=None, **more):
    more = {f"calibration__{name}": value for name, value in more.items()}
    some = given(calibration__text=str(text), **more)
    return llm_fp4.calibration(
        opened, some.calibration, root, jax.random.key(key)
    )


def test_texts_of_a_file(bert, llama, tmp_path):
    path = tmp_path / "text.txt"
    lines = [f" {letter * 3}" for letter in "abcdefg"]
    path.write_text("\n\n".join(lines))
    found = calibration(bert, path)
    assert found.tokens.shape == found.mask.shape == (4, 8)
    rows = {tuple(row) for row in found.tokens.tolist()}
    every = {(2, i, i, i, 3, 0, 0, 0) for i in range(4, 11)}
    assert len(rows) == 4 and rows < every
    np.testing.assert_array_equal(calibration(bert, path).tokens, found.tokens)
    other = calibration(bert, path, key=3)
    assert (other.tokens != found.tokens).any()
    tokens, mask = calibration(llama, path, tokens=5)
    assert tokens.shape == (4, 5) and mask.all()
    # Each once, out of one text that begins once.
    whole = llama.encode("\n".join(line.strip() for line in lines))
    cut = [whole[i : i + 5] for i in range(0, len(whole) - 4, 5)]
    assert len({*map(tuple, tokens.tolist())}) == 4
    assert all(row in cut for row in tokens.tolist())


def test_a_decoder_writes_its_own_texts(bert, llama):
    one, two, other = (calibration(llama, "own", key=k) for k in (0, 0, 1))
    assert one.tokens.shape == (4, 8) and (one.tokens[:, 0] == 2).all()
    np.testing.assert_array_equal(one.tokens, two.tokens)
    assert (one.tokens != other.tokens).any()
    with pytest.raises(UsageError, match="'own', but an encoder writes no tex"):
        calibration(bert, "own")


def test_docstrings_of_the_assessment_are_left_out(bert, monkeypatch):
    lines = tuple(string.ascii_lowercase[i % 26] * 9 for i in range(260))
    monkeypatch.setattr(docstrings, "sentences", lambda: lines)
    tokens = calibration(bert, "docstrings").tokens
    want = {WORDS.index(line[0]) for line in lines[256:]}
    assert {*tokens[:, 1].tolist()} == want
    with pytest.raises(UsageError, match="has 4 lines, but .*sequences is 5"):
        calibration(bert, "docstrings", sequences=5)


def test_bad_texts_are_named(bert, llama, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXEDGE_DATA", raising=False)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    raw = tmp_path / "raw.txt"
    raw.write_bytes(b"a\xff")
    for opened, name, message in [
        (bert, empty, "has 0 lines, but calibration.sequences is 4"),
        (llama, empty, "has 0 sequences of 8 tokens, but .*sequences is 4"),
        (llama, raw, "raw.txt' cannot be read .*UTF-8"),
        (bert, tmp_path / "no.txt", "calibration.text .and no file. .*no.txt"),
        (bert, "docstring", "Did you mean 'docstrings'"),
        (llama, "wikitext2", "the text 'wikitext2' needs a data root"),
    ]:
        with pytest.raises(UsageError, match=message):
            calibration(opened, name)
    with pytest.raises(UsageError, match="wikitext2_valid.txt is missing"):
        calibration(llama, "wikitext2", root=tmp_path)


@pytest.fixture
def few(monkeypatch):
    """Sentences that need no reading of Python."""
    rng = np.random.default_rng(0)
    lines = tuple("".join(rng.choice([*"abcdefgh "], 30)) for _ in range(40))
    monkeypatch.setattr(docstrings, "sentences", lambda: lines)


def test_an_encoder_is_assessed_beside_what_it_was(bert, few):
    found = assessment.assess(bert, ["docstrings"], reference=bert, most=20)
    scores = found["docstrings"]
    assert set(scores) == {
        "cosine", "cosine_p05", "nearest", "nearest_10", "spearman"
    }  # fmt: skip
    np.testing.assert_allclose([*scores.values()], 1, rtol=1e-6)
    with pytest.raises(UsageError, match="give --reference"):
        assessment.assess(bert, ["docstrings"])
    with pytest.raises(UsageError, match="10 sentences are too few .*most=11"):
        assessment.assess(bert, ["docstrings"], reference=bert, most=10)


def test_embeddings_do_not_depend_on_their_batch(bert, few):
    sentences = docstrings.sentences()[:5]
    # Of more tokens than the network has positions.
    found = networks.embed(bert, sentences, 48, 4)
    assert found.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    alone = networks.embed(bert, sentences[4:], 48, 4)
    np.testing.assert_allclose(alone[0], found[4], atol=1e-5)


def perplexity(opened, tokens):
    """By the definition, in float64."""
    logits = opened.model.apply(opened.variables, tokens)
    logits = np.asarray(logits, np.float64)[:, :-1]
    told = np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    told = told - np.log(np.exp(logits).sum(-1))
    return np.exp(-told.mean())


def test_a_decoder_is_assessed(bert, llama, small, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXEDGE_DATA", raising=False)
    texts, layers = small
    leaves = {layer.path: layer.leaf for layer in layers}
    done = llm_fp4.assemble(llama, leaves, {})
    said = []

    def progress(task):
        return lambda n, total: said.append((task, n, total))

    exact, found = (
        assessment.assess(
            network, ["own"], reference=llama, length=8, most=3, batch=2,
            progress=progress,
        )["own"]["perplexity"]
        for network in (llama, done)
    )  # fmt: skip
    assert said == 2 * [("own", 2, 3), ("own", 3, 3)]
    key = stream(jax.random.key(0), "assess")
    tokens = networks.written(llama, 3, 8, key)
    np.testing.assert_allclose(exact, perplexity(llama, tokens), rtol=1e-5)
    np.testing.assert_allclose(found, perplexity(done, tokens), rtol=1e-5)
    assert exact != found
    with pytest.raises(UsageError, match="unknown task 'docstrings'.*own"):
        assessment.assess(llama, ["docstrings"])
    with pytest.raises(UsageError, match="is a decoder of 37.* an encoder of"):
        assessment.assess(llama, ["own"], reference=bert)

    def never(*args):
        raise AssertionError("computed before all files are read")

    monkeypatch.setattr(networks, "written", never)
    for task in ("piqa", "wikitext2"):
        with pytest.raises(UsageError, match="needs a data root"):
            assessment.assess(llama, ["own", task])


def test_questions_and_texts_are_scored(llama, monkeypatch, tmp_path):
    asked = (
        choices.Question("q", ("ab", "c"), 0, (("q", " ab"), ("q", " c"))),
        choices.Question("r", ("d", "e"), 1, (("r", " d"), ("r", " e"))),
    )
    monkeypatch.setattr(choices, "load", lambda task, root: asked)
    monkeypatch.setattr(text, "part", lambda name, split, root: "abc de " * 9)
    found = assessment.assess(
        llama, ["piqa", "wikitext2"], tmp_path, length=8, most=2, batch=4
    )
    assert found["piqa"]["accuracy"] in (0, 0.5, 1)
    tokens = np.asarray(llama.encode("abc de " * 9)[:16]).reshape(2, 8)
    np.testing.assert_allclose(
        found["wikitext2"]["perplexity"], perplexity(llama, tokens), rtol=1e-5
    )
    with pytest.raises(UsageError, match="wikitext2 has no 99 tokens"):
        assessment.assess(llama, ["wikitext2"], tmp_path, length=99)
