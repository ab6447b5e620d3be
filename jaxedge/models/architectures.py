"""The configs of Hugging Face's transformers as networks of this package."""

from collections.abc import Callable, Mapping
import re
from typing import Any, NamedTuple

from jaxedge.core import checks
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import MATRICES, Decoder, Stretch

Config = Mapping[str, Any]

# Last names of variables and of tensors.
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
# Names that BERT's first files have for a normalisation.
_OLD = {
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
}
# Where the parts of the networks are in the files; {} is the layer.
_BERT_PLACES = {
    "embedding": "embeddings.word_embeddings",
    "type_embedding": "embeddings.token_type_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "attention/q": "encoder.layer.{}.attention.self.query",
    "attention/k": "encoder.layer.{}.attention.self.key",
    "attention/v": "encoder.layer.{}.attention.self.value",
    "attention/o": "encoder.layer.{}.attention.output.dense",
    "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "up": "encoder.layer.{}.intermediate.dense",
    "down": "encoder.layer.{}.output.dense",
    "feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}
_LLAMA_PLACES = {
    "embedding": "embed_tokens",
    "attention/q": "layers.{}.self_attn.q_proj",
    "attention/k": "layers.{}.self_attn.k_proj",
    "attention/v": "layers.{}.self_attn.v_proj",
    "attention/o": "layers.{}.self_attn.o_proj",
    "attention_norm": "layers.{}.input_layernorm",
    "gate": "layers.{}.mlp.gate_proj",
    "up": "layers.{}.mlp.up_proj",
    "down": "layers.{}.mlp.down_proj",
    "feed_forward_norm": "layers.{}.post_attention_layernorm",
    "norm": "norm",
    "head": "lm_head",
}


class Network(NamedTuple):
    """A network, and where its variables are in the files.

    Attributes:
        model: with random parameters yet.
        kind: its `model_type`, of `KINDS`.
        prefix: that the names of tensors may have.
        places: tensors of its parts, {} for the layer.
    """

    model: Encoder | Decoder
    kind: str
    prefix: str
    places: Mapping[str, str]

    def tensor(self, path: str) -> str:
        """The tensor of a variable such as "layer_0/attention/q/kernel"."""
        layer = re.match(r"layer_(\d+)/", path)
        part = path[layer.end() :] if layer else path
        if part in self.places:  # A table, which has no further name.
            return f"{self.places[part]}.weight"
        place, _, leaf = part.rpartition("/")
        number = layer.group(1) if layer else ""
        return f"{self.places[place].format(number)}.{_LEAVES[leaf]}"

    def plain(self, name: str) -> str:
        """The name of a tensor without a prefix, as of today."""
        name = name.removeprefix(self.prefix)
        for old, new in _OLD.items():
            if name.endswith(old):
                return name.removesuffix(old) + new
        return name


class _Family(NamedTuple):
    """An architecture.

    Attributes:
        make: the network of a config.
        prefix: that the names of tensors may have.
        places: tensors of its parts.
        required: fields of the config.
        only: values of fields, where they are there, that are supported.
    """

    make: Callable[[Config], Encoder | Decoder]
    prefix: str
    places: Mapping[str, str]
    required: tuple[str, ...]
    only: Mapping[str, tuple[Any, ...]]


def network(config: Config, at: object) -> Network:
    """The network of a config.

    Args:
        config: what config.json holds.
        at: its path, for messages.

    Raises:
        UsageError: for an architecture or a variant of it that is not
            supported, and fields that are missing or out of range.
    """
    kind = config.get("model_type")
    if kind not in KINDS:
        raise checks.unknown(f"model_type in {at}:", kind, KINDS)
    family = _FAMILIES[kind]
    _check(config, family, at)
    places = family.places
    if config.get("tie_word_embeddings", False) and "head" in places:
        places = {**places, "head": places["embedding"]}
    return Network(family.make(config), kind, family.prefix, places)


def _check(config: Config, family: _Family, at: object) -> None:
    """Raises unless the fields are there, in range and supported."""
    _require(config, family.required, at)
    for name in (*_SIZES, *_MORE_SIZES):
        needed = name in family.required and name != _MAY_BE_NULL
        if needed or config.get(name) is not None:
            checks.whole(f"{name} in {at}", config[name], 1)
            checks.in_range(f"{name} in {at}", config[name], 1, _MOST)
    only = {**family.only, "quantization_config": (None,)}
    if family.places is _LLAMA_PLACES:
        _check_rotation(config, at)
    for name in ("layer_norm_eps", "rms_norm_eps"):
        if name in config:
            checks.in_range(f"{name} in {at}", config[name], 0)
    for name, allowed in only.items():
        if name in config and config[name] not in allowed:
            raise checks.UsageError(
                f"{at} has {name} {config[name]!r}, but only"
                f" {' or '.join(map(repr, allowed))} is supported; choose"
                " another network."
            )


def _check_rotation(config: Config, at: object) -> None:
    rope = _rope(config)
    if not isinstance(rope, Mapping):
        raise checks.UsageError(
            f"the rotary scaling in {at} is {rope!r}, but must be an object."
        )
    checks.in_range(f"rope_theta in {at}", _theta(config), 0, open_low=True)
    if _rope_type(rope) == "llama3":
        _require(rope, _STRETCH, f"the rotary scaling in {at}")
    elif _rope_type(rope) != "default":
        raise checks.UsageError(
            f"{at} has rope_type {_rope_type(rope)!r}, but only 'default' or"
            " 'llama3' is supported; choose another network."
        )


def _require(fields: Config, names: tuple[str, ...], at: object) -> None:
    missing = [name for name in names if name not in fields]
    if missing:
        raise checks.UsageError(
            f"{at} lacks {', '.join(missing)}; replace the file with the"
            " config of the network."
        )


def _bert(config: Config) -> Encoder:
    return Encoder(
        *(config[name] for name in _SIZES),
        positions=config["max_position_embeddings"],
        kinds=config["type_vocab_size"],
        eps=config["layer_norm_eps"],
    )


def _llama(config: Config) -> Decoder:
    biased = ()
    if config.get("attention_bias", False):
        biased += MATRICES[:4]
    if config.get("mlp_bias", False):
        biased += MATRICES[4:]
    return _decoder(config, biased)


def _mistral(config: Config) -> Decoder:
    return _decoder(config, ())


def _qwen2(config: Config) -> Decoder:
    return _decoder(config, ("q", "k", "v"))


def _decoder(config: Config, biased: tuple[str, ...]) -> Decoder:
    """A decoder; a field that an older file lacks is as it was at its time."""
    rope, heads = _rope(config), config["num_attention_heads"]
    stretch = None
    if _rope_type(rope) == "llama3":
        stretch = Stretch(*(rope[name] for name in _STRETCH))
    return Decoder(
        *(config[name] for name in _SIZES),
        kv_heads=config.get("num_key_value_heads") or heads,
        theta=_theta(config),
        eps=config["rms_norm_eps"],
        head_size=config.get("head_dim"),
        stretch=stretch,
        biased=biased,
    )


# The rotary angles are one object since version 5 of transformers, and were a
# base and a scaling before.


def _rope(config: Config) -> Any:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_type(rope: Config) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


def _theta(config: Config) -> Any:
    return _rope(config).get("rope_theta", config.get("rope_theta", 10000.0))


_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
# It then is the number of heads.
_MAY_BE_NULL = "num_key_value_heads"
_MOST = 2**31 - 1  # As far as an axis goes.
_MORE_SIZES = (
    _MAY_BE_NULL,
    "head_dim",
    "max_position_embeddings",
    "type_vocab_size",
)
_STRETCH = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)
_ONLY = {"hidden_act": ("silu",), "partial_rotary_factor": (None, 1.0)}
_FAMILIES = {
    "bert": _Family(
        _bert,
        "bert.",
        _BERT_PLACES,
        (
            *_SIZES,
            "max_position_embeddings",
            "type_vocab_size",
            "layer_norm_eps",
            "hidden_act",
        ),
        {
            "hidden_act": ("gelu",),
            "position_embedding_type": ("absolute",),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
        },
    ),
    "llama": _Family(
        _llama, "model.", _LLAMA_PLACES, (*_SIZES, "rms_norm_eps"), _ONLY
    ),
    "mistral": _Family(
        _mistral,
        "model.",
        _LLAMA_PLACES,
        # A file that says nothing of a window means one of 4,096 tokens.
        (*_SIZES, "num_key_value_heads", "rms_norm_eps", "sliding_window"),
        {**_ONLY, "sliding_window": (None,)},
    ),
    "qwen2": _Family(
        _qwen2,
        "model.",
        _LLAMA_PLACES,
        (*_SIZES, "num_key_value_heads", "rms_norm_eps"),
        {**_ONLY, "use_sliding_window": (False,)},
    ),
}
KINDS = tuple(_FAMILIES)
