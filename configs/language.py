"""A small language model on simulated hardware: no paper's, but ours.

A LLaMA-shaped decoder of 1.07 M weights learns to tell the next token of a
text, in byte pairs that it learns from the same text (jaxedge[language]).
Products run on the hardware; the embedding is a table, and stays digital.

    jaxedge run --config=configs/language.py --data_root=DIR --workdir=runs/lm
    jaxedge run --config=configs/language.py:wikitext ...
    jaxedge run ... --config.train.hardware=fresh_chips
    jaxedge run ... --config.hardware.device=sram_wang2023

Arguments of `get_config`: "shakespeare" (default), "wikitext" (learned from
WikiText-2's validation file, as its training file is not at hand: see
`data.text`; not run yet), "quick" (under a minute, for trying things out). DIR
holds text/tinyshakespeare.txt or text/wikitext2_*.txt.

Ours on tinyshakespeare, one seed: 25.9 % of the tokens of the test split are
told right, perplexity 42.1 (3.74 nats a token of 2.24 characters, 1.67 a
character). 100 chips of PCM, each reading 32 windows: 26.00 %, standard
deviation .28; 25.2 % at read noise .2 and 20.7 % at .5. The run took 9.6
minutes of processor time, study and report included. Perplexities of other
vocabularies cannot be compared with it, the nats a character can.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("shakespeare", "wikitext", "quick")


def get_config(variant: str = "shakespeare") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/language.py", variant, VARIANTS)
    c: Any = ConfigDict()
    c.recipe = "language"
    c.seed = 0
    c.data = ConfigDict(
        {"name": "tinyshakespeare", "vocabulary": 1024, "length": 128}
    )
    c.model = ConfigDict(
        {"width": 128, "hidden": 352, "depth": 4, "heads": 4, "kv_heads": 4}
    )
    c.optimizer = ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 3e-3,
            "momentum": 0.9,
            "weight_decay": 0.1,
            "warmup": 1,
            "every": "step",
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 5,
            "batch": 16,
            "evaluate_every": 1,
            "checkpoint_every": 1,
            "select_on": "valid",
            "hardware": "ideal",
            "input_ranges": False,
            "devices": "one",
        }
    )
    c.hardware = defaults.hardware("pcm_joshi2020")
    c.study = "noise"
    # A chip is good if it tells a quarter of the tokens.
    c.chips = defaults.chips(
        n=100, threshold=0.25, sweep=10, images=32, batch=16, chunk=10
    )
    c.energy = defaults.energy()
    if variant == "wikitext":
        c.data.name = "wikitext2"
    if variant == "quick":
        c.data.update({"vocabulary": 512, "length": 32})
        c.model.update({"width": 16, "hidden": 32, "depth": 1, "heads": 2})
        c.model.kv_heads = 1
        c.optimizer.update({"learning_rate": 0.02, "warmup": 0})
        c.train.update({"epochs": 1, "batch": 256})
        c.chips.update({"n": 4, "threshold": 0.15, "sweep": 2, "chunk": 4})
    return c
