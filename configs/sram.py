"""An in-SRAM compute macro with cell-embedded ADCs, arXiv:2307.05944.

Products of 4 x 4 bits add up on two bit lines, which the same cells convert to
9 bits. Of the paper the abstract alone could be read: MAC-folding and
boosted-clipping are modelled as we understand them, and every number but 4, 4,
9 and 137.5 TOPS/W is a labelled default; its silicon figures, networks and
accuracies are unknown, so none is expected here.

    scripts/run --config=configs/sram.py
    scripts/run --config=configs/sram.py:resnet20 --data_root=DIR

Arguments of `get_config`: "digits" (default; a network of 64-64-10, whose
first layer is one array), "mlp_784" (784-256-10 on Fashion-MNIST, 3,368
conversions an input), "resnet20" (a published CIFAR-10 network whose weights
were trained without any hardware in mind), "quick" (digits in seconds). DIR
holds the files of Fashion-MNIST and CIFAR-10, see `data`.

Every chip sets, layer by layer, the range of its inputs, the folding point and
the LSB with the least predicted error that clips at most one conversion in a
thousand (`hardware.sram.choose`). For one design of all layers instead:

    --config.hardware.macro.clip_rate=None
    --config.hardware.macro.fold=8 --config.hardware.macro.lsb_units=14

and to train on chips that change at every step

    --config.train.hardware=fresh_chips --config.train.input_ranges=true

which have one folding point and LSB, those of the config, while the chips of
the study choose theirs.

Ours on digits, 3 seeds and 100 chips of each: 97.13 +- .58 % with 4 bits alone,
95.79 unfolded, 96.99 folded, 97.18 folded and clipped by 2, 97.19 calibrated.
ResNet-20, 20 chips, 300 images: 85.00 % with 4 bits alone, 13.32 unfolded,
35.10 folded, 67.87 folded and clipped by 2, 83.62 calibrated (sd 1.98).

Any other config goes on the macro by --config.hardware.device=sram_wang2023.
Results with their seed spread: docs/results/sram_*.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("digits", "mlp_784", "resnet20", "quick")


def get_config(variant: str = "digits") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/sram.py", variant, VARIANTS)
    c = ConfigDict()
    c.recipe = "classifier"
    c.seed = 0
    c.data = ConfigDict({"name": "digits", "crop": placeholder(int)})
    c.model = ConfigDict(
        {
            "name": "mlp",
            "widths": (64,),
            # The macro codes its inputs itself.
            "bits": placeholder(int),
            "over": "example",
        }
    )
    c.optimizer = ConfigDict(
        {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-4}
    )
    c.train = ConfigDict(
        {
            "epochs": 60,
            "batch": 32,
            "evaluate_every": 5,
            "checkpoint_every": 20,
            "select_on": "valid",
            "hardware": "ideal",
            "input_ranges": False,
            "devices": "one",
            "score": "accuracy",
        }
    )
    c.hardware = defaults.hardware(
        "sram_wang2023",
        macro={
            "clip_rate": 1e-3,
            # Our choices, as is the percentile: unknown.
            "scaling": "column",
            "input_percentile": 100.0,
        },
    )
    c.study = "noise"
    c.chips = defaults.chips(n=1000, threshold=0.95, sweep=100)
    c.energy = defaults.energy()
    if variant == "mlp_784":
        c.data.name = "fashion_mnist"
        c.model.widths = (256,)
        c.train.update({"epochs": 20, "batch": 128})
        c.chips.update({"n": 100, "threshold": 0.85, "images": 1000})
    if variant == "resnet20":
        _resnet(c)
    if variant == "quick":
        c.train.epochs = 5
        c.chips.update({"n": 20, "sweep": 5, "chunk": 20})
    return c


def _resnet(c: Any) -> None:
    """A network as it was published; nothing is trained."""
    c.recipe = "pretrained"
    c.data = ConfigDict({"name": "cifar10"})
    c.model = ConfigDict(
        {
            "checkpoint": "resnet20_cifar10_akamaster",
            "path": placeholder(str),
            "fold": True,
        }
    )
    # Of tuning; our choice.
    c.optimizer.learning_rate = 0.001
    c.train.update(
        {"epochs": 0, "batch": 100, "evaluate_every": 1, "checkpoint_every": 1}
    )
    # Large inputs are rare: clipping one in a thousand halves the steps of the
    # others.
    c.hardware.macro.input_percentile = 99.9
    # Statistical reads, five times as fast as those step by step, of the same
    # error.
    c.hardware.macro.path = "fast"
    c.study = ""
    c.chips.update(
        {
            "n": 100,
            "threshold": 0.8,
            "sweep": 10,
            "images": 500,
            "batch": 20,
            "chunk": 10,
        }
    )
