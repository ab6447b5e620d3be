"""Networks of other folders beside what transformers computes with them.

hugging_face/README.md tells where the folders come from.
"""

import json
from pathlib import Path
import shutil
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import hugging_face
from jaxedge.models.transformer import Decoder, Stretch

save_file = pytest.importorskip("safetensors.numpy").save_file
load_file = pytest.importorskip("safetensors.numpy").load_file

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDERS = Path(__file__).parent / "hugging_face"
# float32 over two layers, summed in another order; the outputs are about 1.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def expected(name):
    with np.load(FOLDERS / name / "expected.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def copy(tmp_path):
    """A function that copies a folder, with another config and tensors."""

    def make(name="bert", change=None, **fields):
        folder = tmp_path / name
        shutil.copytree(FOLDERS / name, folder)
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **fields}
        # The value `None` is one of JSON; `...` leaves a field out.
        config = {k: v for k, v in config.items() if v is not ...}
        path.write_text(json.dumps(config))
        if change is not None:
            weights = folder / "model.safetensors"
            save_file(change(load_file(weights)), weights)
        return folder

    return make


@pytest.mark.parametrize("name", hugging_face.KINDS)
def test_outputs_are_those_of_transformers(name):
    found = hugging_face.load(FOLDERS / name)
    assert found.kind == found.config["model_type"] == name
    want = expected(name)
    # A decoder looks back only, so that padding at the end is not seen.
    more = ("mask", "types") if name == "bert" else ()
    given = {part: want[part] for part in more}
    output = jax.jit(found.model.apply)(
        found.variables, want["tokens"], **given
    )
    real = want["mask"] == 1
    np.testing.assert_allclose(output[real], want["output"][real], **CLOSE)
    # The network takes its variables as they are.
    shapes = jax.eval_shape(found.model.init, jax.random.key(0), want["tokens"])
    variables = jax.tree.map(lambda a: (a.shape, a.dtype), found.variables)
    shapes.pop("counts")
    assert variables == jax.tree.map(lambda a: (a.shape, a.dtype), shapes)


def test_a_cache_knows_other_sizes_of_heads():
    found, want = hugging_face.load(FOLDERS / "mistral"), expected("mistral")
    assert found.model.head_size == 6 and found.model.width == 16
    logits, cache = jax.jit(
        lambda v, t: found.model.apply(v, t, cache=found.model.cache(3, 14))
    )(found.variables, want["tokens"])
    real = want["mask"] == 1
    np.testing.assert_allclose(logits[real], want["output"][real], **CLOSE)
    assert cache.keys.shape == (2, 3, 14, 2, 6)


def test_a_shared_classifier_is_the_embedding(copy, caplog):
    found = hugging_face.load(FOLDERS / "qwen2")
    params = found.variables["params"]
    np.testing.assert_array_equal(
        params["head"]["kernel"].T, params["embedding"]
    )

    def with_a_copy(tensors):
        return {**tensors, "lm_head.weight": np.zeros((37, 16), np.float32)}

    again = hugging_face.load(copy("qwen2", with_a_copy))
    jax.tree.map(
        np.testing.assert_array_equal, again.variables, found.variables
    )
    assert not caplog.records


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_types_become_float32(dtype, copy):
    folder = copy(
        change=lambda tensors: {k: a.astype(dtype) for k, a in tensors.items()}
    )
    found = hugging_face.load(folder).variables
    want = jax.tree.map(
        lambda a: np.asarray(a).astype(dtype).astype(np.float32),
        hugging_face.load(FOLDERS / "bert").variables,
    )
    assert {a.dtype for a in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, found, want)


def test_old_names_are_known_and_harmless_tensors_left_out(copy, caplog):
    def renamed(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")

    def change(tensors):
        assert "pooler.dense.weight" in tensors
        ids = np.arange(32)[None]
        other = {"bert.embeddings.position_ids": ids, "cls.bias": np.ones(2)}
        return {renamed(name): a for name, a in tensors.items()} | other

    found = hugging_face.load(copy(change=change)).variables
    want = hugging_face.load(FOLDERS / "bert").variables
    jax.tree.map(np.testing.assert_array_equal, found, want)
    (line,) = caplog.messages
    assert line.endswith("bert: no place in the network for cls.bias")


def test_fields_that_came_later_may_be_missing(copy):
    # As files of version 4 and before wrote them.
    scaling = {
        "type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    later = hugging_face.load(FOLDERS / "llama").model
    folder = copy(
        "llama", rope_parameters=..., rope_theta=10000.0, rope_scaling=scaling,
        head_dim=..., tie_word_embeddings=...,
    )  # fmt: skip
    before = hugging_face.load(folder).model
    assert before.clone(head_size=8) == later
    assert before.stretch == Stretch(8.0, 1.0, 4.0, 128)


CONFIGS = [
    ("bert", {"model_type": "gpt2"}, "unknown model_type .* 'gpt2'.*bert, lla"),
    ("bert", {"model_type": ...}, "unknown model_type .* None"),
    ("bert", {"hidden_size": ..., "vocab_size": ...}, "lacks vocab_size, hid"),
    ("bert", {"hidden_size": None}, "hidden_size in .* whole number, got None"),
    ("bert", {"vocab_size": 10**20}, "vocab_size in .*, got 1000000000"),
    ("bert", {"vocab_size": 2**31}, "vocab_size in .* is 2147483648, but"),
    ("llama", {"num_hidden_layers": 10**9}, "lacks most of 1,000,000,000 lay"),
    ("bert", {"hidden_size": "16"}, "hidden_size in .* whole number, got '16'"),
    ("bert", {"layer_norm_eps": -1}, "layer_norm_eps in .* is -1, but must"),
    ("bert", {"hidden_act": "relu"}, "hidden_act 'relu', but only 'gelu' is"),
    ("bert", {"position_embedding_type": "rel"}, "but only 'absolute' is supp"),
    ("bert", {"is_decoder": True}, "is_decoder True, but only False"),
    ("bert", {"quantization_config": {}}, "has quantization_config {}"),
    ("bert", {"num_attention_heads": 3}, "16 is no multiple of 3 heads"),
    ("llama", {"hidden_act": "gelu"}, "'gelu', but only 'silu'"),
    ("llama", {"rope_parameters": 3}, "rotary scaling in .* is 3, but"),
    ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
    ("llama", {"rope_parameters": {"rope_theta": 0}}, "rope_theta in .* is 0"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "factor": 2}},
        "lacks low_freq_factor, high_freq_factor, original_max",
    ),
    ("mistral", {"sliding_window": 9}, "sliding_window 9, but only None"),
    ("mistral", {"sliding_window": ...}, "lacks sliding_window"),
    ("mistral", {"num_key_value_heads": 3}, "4 heads and 3 heads of keys"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window True, but"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "message"), CONFIGS)
def test_configs_that_are_not_supported(name, fields, message, copy):
    with pytest.raises(UsageError, match=message):
        hugging_face.load(copy(name, **fields))


def without(*names):
    return lambda tensors: {
        name: a for name, a in tensors.items() if name not in names
    }


QUERY = "encoder.layer.1.attention.self.query"
TENSORS = [
    (without(f"{QUERY}.weight"), rf"lacks {QUERY}.weight; check"),
    (
        without(*(f"encoder.layer.0.{part}.dense.{leaf}" for part in (
            "intermediate", "output", "attention.output"
        ) for leaf in ("weight", "bias"))),
        "lacks encoder.layer.0.*, .*, .*, .*, .* and 1 more",
    ),
    (
        lambda t: {**t, f"{QUERY}.weight": np.zeros((16, 3), np.float32)},
        rf"does not fit: {QUERY}.weight is \(16, 3\) instead of \(16, 16\)",
    ),
    (
        lambda t: {**t, f"{QUERY}.weight": np.zeros((16, 16), np.int8)},
        f"{QUERY}.weight is I8, but must be one of F64, F32",
    ),
    (
        lambda t: {**t, f"{QUERY}.bias": np.full(16, np.nan, np.float32)},
        f"{QUERY}.bias holds 16 NaN",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), TENSORS)
def test_tensors_that_do_not_fit(change, message, copy):
    with pytest.raises(UsageError, match=message):
        hugging_face.load(copy(change=change))


def cut(path, size=-3):
    path.write_bytes(path.read_bytes()[:size])


INDEX, FIRST = (
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
)
FILES = [
    (lambda f: (f / "config.json").unlink(), "there is no .*config.json"),
    (lambda f: cut(f / "config.json"), "config.json cannot be read as JSON"),
    (lambda f: (f / "config.json").write_text("[1]"), "holds a list, but must"),
    (lambda f: (f / "config.json").write_bytes(b"\xff"), "cannot be read as J"),
    (
        lambda f: (f / "config.json").write_text("[" * 100_000),
        "cannot be read as JSON",
    ),
    (lambda f: (f / FIRST).unlink(), f"{FIRST} is missing, but {INDEX} names"),
    (lambda f: cut(f / FIRST), f"{FIRST} is no whole safetensors file"),
    (lambda f: (f / FIRST).write_bytes(b""), "is no whole safetensors file"),
    (lambda f: (f / INDEX).unlink(), f"neither model.safetensors nor {INDEX}"),
    (lambda f: cut(f / INDEX), f"{INDEX} cannot be read as JSON"),
    (lambda f: (f / INDEX).write_text("{}"), "must have a weight_map from"),
    (
        lambda f: (f / INDEX).write_text('{"weight_map": {"a": "../b"}}'),
        "names of files in this folder",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "message"), FILES)
def test_files_that_are_missing_or_damaged(harm, message, copy):
    folder = copy("llama")
    harm(folder)
    with pytest.raises(UsageError, match=message):
        hugging_face.load(folder)


def test_a_folder_and_the_library_must_be_there(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="is no folder; give one with config"):
        hugging_face.load(tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxedge\[language\]'"):
        hugging_face.load(FOLDERS / "bert")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_size": 3}, r"do not fit: .* \(or head_size even\)"),
        ({"head_size": 0}, "head_size is 0"),
        ({"biased": ("q", "w")}, "unknown matrix in biased 'w'"),
        ({"stretch": Stretch(0.5, 1, 4, 8)}, "factor is 0.5, but must lie in"),
        ({"stretch": Stretch(2, 4, 4, 8)}, "low must be less than high"),
        ({"stretch": Stretch(2, 1, 4, 0)}, "context is 0"),
    ],
)
def test_bad_options_of_decoders_are_named(fields, message, key):
    model = Decoder(5, 8, 8, 1, 2, 1, **fields)
    with pytest.raises(UsageError, match=message):
        model.init(key, jnp.zeros((1, 2), jnp.int32))
