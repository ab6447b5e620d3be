"""LLM-FP4, arXiv:2310.16836: a pretrained transformer in 4-bit floating point.

    jaxedge quantize --model=minilm --out=runs/minilm_fp4
    jaxedge quantize --config=configs/llm_fp4.py:nvfp4 --model=DIR --out=OUT
    jaxedge eval --model=OUT --tasks=wikitext2,piqa --data_root=DATA

DIR is a folder of Hugging Face's transformers (BERT, LLaMA, Mistral, Qwen2), a
file of llama2.c, or "minilm". Arguments of `get_config`: "w4a4" (default), the
paper's method with scale-free candidates; "paper", with its own; "w4a8";
"w4a16"; "nvfp4", 4.5 bits a weight by searched blocks whose weights make up for
each other; "llama_7b" and "llama_13b", the paper's setting.

What the paper tells of LLaMA: 32 segments of C4, which are not among the data
of this package: give a file of theirs by --config.calibration.text=FILE. It
says 2,048 tokens a segment, its code takes 1,024; the code is followed. Every
matrix and the head have 4 bits, and so has the embedding; products of two
activations stay as they are. The search's order and hyper-parameters beyond
these are unknown. Its table is in docs/quantization.md with a column for yours.

A network is held whole in memory with what its matrices see:
--config.calibration.vectors=4096 keeps so many vectors a matrix.

Ours: docs/results/llm_fp4_*.md.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxedge.core.checks import unknown
from jaxedge.recipes import llm_fp4

VARIANTS = (
    "w4a4", "paper", "w4a8", "w4a16", "nvfp4", "llama_7b", "llama_13b",
)  # fmt: skip


def get_config(variant: str = "w4a4") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/llm_fp4.py", variant, VARIANTS)
    c: Any = llm_fp4.defaults()
    if variant == "paper" or variant.startswith("llama"):
        c.quantize.search = "paper"
    if variant in ("w4a8", "w4a16"):
        c.quantize.act_bits = int(variant[3:])
    if variant == "nvfp4":
        c.quantize.update({"method": "fpq_gptq", "grain": "nvfp4", "damp": 0.1})
    if variant.startswith("llama"):
        c.quantize.embedding_bits = 4
        # C4 is not at hand: the nearest of what is.
        c.calibration.update(
            {
                "text": "wikitext2",
                "sequences": 32,
                "tokens": 1024,
                "vectors": 4096,
            }
        )
    return c
