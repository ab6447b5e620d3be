"""Tiny networks of the transformers library, and what they compute.

    PEER_PYTHON scripts/peers/transformers_reference.py [FOLDER]

PEER_PYTHON is a Python that has torch and transformers; it needs nothing of
jaxedge. FOLDER is by default tests/models/hugging_face, where the results are
kept: for each family config.json, the weights, drawn by numpy from a fixed
seed, and expected.npz with `tokens`, `mask`, for BERT `types`, and `output`,
the hidden states of an encoder and the logits of a decoder.
"""

from pathlib import Path
import sys
from typing import Any
import zlib

import numpy as np
import torch  # type: ignore
import transformers  # type: ignore

FOLDER = Path(__file__).parents[2] / "tests" / "models" / "hugging_face"
SENTENCES, TOKENS, VOCABULARY = 3, 12, 37
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
# Pairs of a head of 8 turn once in 6, 63, 628 and 6,283 tokens: of these the
# first keeps its angle, the second changes by a part, the others whole.
_STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def networks() -> dict[str, Any]:
    """A network of each family; between them they use every option."""
    decoder = {**_SIZES, "num_key_value_heads": 2}
    bert = transformers.BertConfig(**_SIZES, hidden_act="gelu")
    llama = transformers.LlamaConfig(
        **{**decoder, "hidden_size": 32, "max_position_embeddings": 1024},
        attention_bias=True,
        mlp_bias=True,
        rope_parameters=_STRETCHED,
    )
    mistral = transformers.MistralConfig(
        **decoder, head_dim=6, sliding_window=None
    )
    qwen2 = transformers.Qwen2Config(
        **decoder,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    return {
        "bert": transformers.BertModel(bert),
        "llama": transformers.LlamaForCausalLM(llama),
        "mistral": transformers.MistralForCausalLM(mistral),
        "qwen2": transformers.Qwen2ForCausalLM(qwen2),
    }


def fill(network: Any, rng: np.random.Generator) -> None:
    """Draws every parameter: scales around 1, all others around 0."""
    for name, parameter in network.named_parameters():
        norm = "norm" in name.lower() and name.endswith("weight")
        values = rng.normal(float(norm), 0.3, tuple(parameter.shape))
        parameter.data = torch.tensor(values, dtype=torch.float32)
    network.tie_weights()


def inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tokens and their mask, [B, T]: the sentences have other lengths."""
    lengths = np.array([TOKENS, TOKENS - 3, 5])
    return {
        "tokens": rng.integers(0, VOCABULARY, (SENTENCES, TOKENS)),
        "mask": (np.arange(TOKENS) < lengths[:, None]).astype(np.int64),
    }


def make(name: str, network: Any, folder: Path) -> None:
    """Writes the network and what it computes."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    fill(network, rng)
    network.eval()
    given = inputs(rng)
    arguments = {
        "input_ids": torch.tensor(given["tokens"]),
        "attention_mask": torch.tensor(given["mask"]),
    }
    if name == "bert":
        given["types"] = rng.integers(0, 2, given["tokens"].shape)
        arguments["token_type_ids"] = torch.tensor(given["types"])
    with torch.no_grad():
        output = network(**arguments)[0].numpy()
    folder.mkdir(parents=True, exist_ok=True)
    # One family in several files.
    size = "32KB" if name == "llama" else "1GB"
    network.save_pretrained(folder, max_shard_size=size)
    (folder / "generation_config.json").unlink(missing_ok=True)
    given = {key: array.astype(np.int32) for key, array in given.items()}
    np.savez_compressed(folder / "expected.npz", **given, output=output)


def main() -> None:
    """Writes every family."""
    # One order of additions, whatever the machine.
    torch.set_num_threads(1)
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, network in networks().items():
        make(name, network, root / name)
        size = sum(p.stat().st_size for p in (root / name).iterdir())
        print(f"{name}: {size:,} bytes")
    print(f"transformers {transformers.__version__}, torch", torch.__version__)


if __name__ == "__main__":
    main()
