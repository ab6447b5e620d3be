"""A random point-set machine (DEPLM), arXiv:2312.09262.

Images become sets of points; a random encoder on as-formed resistive memory
turns a set into features, and a readout is solved for in closed form.

    scripts/run --config=configs/deplm.py                     # digits
    scripts/run --config=configs/deplm.py:fashion_mnist --data_root=DIR

Arguments of `get_config`: "digits" (default, a small encoder), "fashion_mnist"
(the paper's encoder, 91,809 random weights and 8,190 of the readout), "quick"
(digits, in seconds). Every chip has random weights of its own and learns its
own readout from `learn.chip_examples` of the training examples, read on that
chip; more of them are better and slower.

The published version (Nature Communications 16:960) states 77.20 % on hardware
for Fashion-MNIST, with a readout trained by Adam over 300 epochs. Unknown: its
software accuracy, sparsities and noises of its sweeps, its ADC. The paper
removes exactly half of the cells; here each is formed with probability 1/2.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("digits", "fashion_mnist", "quick")


def get_config(variant: str = "digits") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/deplm.py", variant, VARIANTS)
    c = ConfigDict()
    c.recipe = "deplm"
    c.seed = 0
    c.data = ConfigDict({"name": "digits"})
    # Our choice for 8 x 8 pixels, as the paper has none.
    c.model = ConfigDict(
        {
            "points": (32, 16),
            "radii": (0.35, 0.5),
            "neighbours": (16, 16),
            "features": (64, 128, 512),
            "mode": "pixels",
            "low": 0.0,
            "high": 1.0,
        }
    )
    c.learn = ConfigDict(
        {
            # Empty is chosen by generalised cross-validation.
            "ridge": placeholder(float),
            "bias": "free",
            "calibrate": 2,
            "chip_examples": 1257,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 1,
            "batch": 100,
            "evaluate_every": 1,
            "checkpoint_every": 1,
            "select_on": "valid",
        }
    )
    c.hardware = defaults.hardware(
        "rram_40nm_random",
        overrides={"read_noise": 0.02},
        # The default of the released code.
        input_bits=6,
    )
    c.study = "noise"
    c.chips = defaults.chips(
        n=100, threshold=0.8, sweep=10, batch=100, chunk=10
    )
    c.energy = defaults.energy()
    if variant == "quick":
        c.chips.update({"n": 4, "sweep": 0, "chunk": 4})
    if variant == "fashion_mnist":
        c.data.name = "fashion_mnist"
        c.model.update(
            {
                "points": (512, 128),
                "radii": (0.15, 0.2),
                "neighbours": (32, 64),
                "features": (51, 102, 819),
                # The data set comes as (byte / 255 - .1307) / .3081.
                "low": -0.1307 / 0.3081,
                "high": (1 - 0.1307) / 0.3081,
            }
        )
        c.learn.chip_examples = 5000
        c.chips.update(
            {"images": 1000, "threshold": 0.772, "sweep": 2, "chunk": 2}
        )
    return c
