"""Published CIFAR-10 residual networks on noisy chips with ADCs.

Puts the weights of akamaster/pytorch_resnet_cifar10, trained without any
hardware in mind, on crossbars of resistive memory (Wan et al., Nature 608, 504
(2022)), whose columns are read by ADCs.

    scripts/run --config=configs/resnet.py:resnet20 --data_root=DIR

where DIR holds `cifar10/` and `checkpoints/` (see `data.cifar10` and
`recipes.pretrained`). Arguments of `get_config`: "resnet20" (269,722 weights,
published error 8.27 %), "resnet56" (853,018 weights, 6.61 %), "quick"
(ResNet-20 on two chips and 40 images).

Nothing is trained: the networks have seen all 50,000 training images, of which
the validation split is a part. To tune one on chips that change at every step:

    --config.train.epochs=1 --config.train.hardware=fresh_chips

In few bits instead, weights and inputs: --config.hardware.device=nvfp4, mxfp4,
int4, ... (`hardware.digital`; `scripts/reproduce fp4_resnets` compares them).
FP4 weights on noisy cells: --config.hardware.weight_format=nvfp4.

Chips read the first 1,000 test images, which tells an accuracy of 85 % to
1.1 % (standard error); differences between chips are known better, for all
read the same images. Results: docs/results/.

What the paper does not tell, or we do not model, is marked here.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("resnet20", "resnet56", "quick")


def get_config(variant: str = "resnet20") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/resnet.py", variant, VARIANTS)
    c = ConfigDict()
    c.recipe = "pretrained"
    c.seed = 0
    c.data = ConfigDict({"name": "cifar10"})
    c.model = ConfigDict(
        {
            "checkpoint": "resnet20_cifar10_akamaster",
            # Another file with the same arrays.
            "path": placeholder(str),
            "fold": True,
        }
    )
    # Of tuning; our choice, not a published one.
    c.optimizer = ConfigDict(
        {"learning_rate": 0.001, "momentum": 0.9, "weight_decay": 1e-4}
    )
    c.train = ConfigDict(
        {
            "epochs": 0,
            "batch": 100,
            "evaluate_every": 1,
            "checkpoint_every": 1,
            "select_on": "valid",
            "hardware": "ideal",
            # Learned beside the weights, for chips that train.
            "input_ranges": False,
            "devices": "one",
        }
    )
    c.hardware = defaults.hardware(
        "rram_wan2022",
        # The device's first measurement.
        seconds=1.0,
        # A core of the paper's chip has 256 x 256 cells. Here both cells of a
        # pair lie in a row, there in a column.
        rows=256,
        columns=256,
        packing="even",
        # Our choice, as is the ADC: the chip's neurons work otherwise.
        input_bits=8,
        adc_bits=8,
        # Every chip sets its full scales with one batch of training images.
        adc_percentile=99.9,
    )
    c.study = "noise faults"
    c.chips = defaults.chips(
        n=100,
        threshold=0.8,
        sweep=5,
        read_noise=(0.0, 0.01, 0.02, 0.05, 0.1),
        faults=(0.0, 0.001, 0.002, 0.005, 0.01),
        images=1000,
        # Unrolled images of more would not fit the caches of a CPU.
        batch=20,
        chunk=4,
    )
    c.energy = defaults.energy()
    if variant == "resnet56":
        c.model.checkpoint = "resnet56_cifar10_akamaster"
    if variant == "quick":
        c.chips.update({"n": 2, "sweep": 0, "images": 40, "chunk": 2})
    return c
