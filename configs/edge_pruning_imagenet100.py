"""Edge pruning of ResNets on ImageNet-100, arXiv:2311.07164.

The paper names ResNet-50 on ImageNet-100; which classes it took, how it
trained, how much it kept and what it reached are unknown. What is set here is
the reference of edge popup on ImageNet (allenai/hidden-networks, ResNet-50
with signed constants: rate .256, five epochs of warm-up, momentum .875, weight
decay 2^-15, batch 256, labels smoothed by .1, 100 epochs, normalisation
without scale and bias), whose best published networks keep 30 %.

    scripts/run --config=configs/edge_pruning_imagenet100.py:resnet50 \\
        --data_root=DIR

where DIR holds `imagenet100/{train,val}/CLASS/` (see `data.imagenet100`).
Arguments of `get_config`: "resnet50" (default; 23,659,712 weights at 100
classes), "resnet18" (11,218,112), "small" (ResNet-18 with an eighth of the
channels and images of 64 x 64, to try things out). Not measured: no result is
claimed.

Unlike the reference, training images are cut from the middle, without random
crops and flips.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("resnet50", "resnet18", "small")


def get_config(variant: str = "resnet50") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown(
            "variant of configs/edge_pruning_imagenet100.py", variant, VARIANTS
        )
    c = ConfigDict()
    c.recipe = "edge_pruning"
    c.seed = 0
    c.data = ConfigDict({"name": "imagenet100"})
    c.model = ConfigDict(
        {
            "name": "resnet50",
            "widths": (64,),
            # Activations are exact: the paper's are unknown.
            "bits": placeholder(int),
            "over": "example",
        }
    )
    c.learn = ConfigDict(
        {
            "rule": "mask",
            "keep": 0.3,
            "weights": "signed",
            "dead_band_start": 0.0,
            "dead_band_stop": 0.0,
            "dead_band_steps": 1,
            "label_smoothing": 0.1,
        }
    )
    c.optimizer = ConfigDict(
        {
            "learning_rate": 0.256,
            "momentum": 0.875,
            "weight_decay": 2.0**-15,
            "warmup": 5,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 100,
            "batch": 256,
            "evaluate_every": 1,
            "checkpoint_every": 1,
            "select_on": "valid",
            # Our choice, as for the smaller networks of the paper.
            "hardware": "fresh_chips",
            "input_ranges": False,
            "devices": "one",
        }
    )
    c.hardware = defaults.hardware(
        "rram_40nm_set_reset",
        # Stuck cells are unknown for this macro; .1 % each as in MNSIM 2.0.
        overrides={"read_noise": 0.02, "stuck_on": 0.001, "stuck_off": 0.001},
        # Noise of each vector would be a number for each pixel and channel.
        read="batch",
    )
    c.study = "noise faults"
    # A chip reads the first images only: all 5,000 would take 3 GB.
    c.chips = defaults.chips(
        n=20, threshold=0.5, sweep=2, images=500, batch=50, chunk=2
    )
    c.energy = defaults.energy()
    if variant != "resnet50":
        c.model.name = "resnet18"
    if variant == "small":
        c.data.name = "imagenet100_64"
        c.model.widths = (8,)
        c.train.update({"epochs": 10, "batch": 64})
        c.optimizer.warmup = 1
        c.study = ""
        c.chips.update({"n": 4, "sweep": 0})
    return c
