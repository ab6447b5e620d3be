"""What the grader is: its config, by which the application trains it as well.

A network of 128-64-3 gives evidence for clean, some and lots, and is trained by
the Bayes risk of the Brier score (Sensoy, arXiv:1806.01768) on in-SRAM macros
of 4 bits (arXiv:2307.05944), a new chip at every step. One client of the
federated recipe is training as usual; canteens are its many.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = ("grader", "quick", "canteens", "float")
ACTIVATION = "exp"
# The macro that the grader is trained for: folding, and lines that may clip.
FOLD, LSB_UNITS = 8, 7
WIDTH = 64


def config(variant: str = "grader") -> ConfigDict:
    """The experiment named `variant`, of `VARIANTS`.

    Raises:
        UsageError: for another name.
    """
    if variant not in VARIANTS:
        raise unknown("variant of FoodWise's grader", variant, VARIANTS)
    c: Any = ConfigDict()
    c.recipe = "federated"
    c.seed = 0
    c.data = ConfigDict({"name": "plates_turned"})
    c.model = ConfigDict(
        {
            "name": "mlp",
            "widths": (WIDTH,),
            # The macro codes its inputs itself.
            "bits": placeholder(int),
            "over": "example",
        }
    )
    c.federated = defaults.federated(recipe="classifier", clients=1)
    # Lambda rises to .1; the others are our choice.
    c.evidence = defaults.evidence(
        loss="squared",
        activation=ACTIVATION,
        kl_weight=0.1,
        annealing=5.0,
        correct=False,
        balance=False,
    )
    c.active = defaults.active()
    c.optimizer = ConfigDict(
        {
            "name": "adam",
            "learning_rate": 3e-3,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "warmup": 0,
            "every": "epoch",
            "decay": "cosine",
            "average": 0.0,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 6,
            "batch": 128,
            "evaluate_every": 3,
            "checkpoint_every": 3,
            "select_on": "valid",
            "hardware": "fresh_chips",
            "input_ranges": True,
            "score": "accuracy",
            "devices": "one",
            "dtype": "float32",
            "watch": False,
        }
    )
    c.hardware = defaults.hardware(
        "sram_wang2023",
        macro={
            "fold": FOLD,
            "lsb_units": LSB_UNITS,
            # Our choices, as is the percentile: unknown.
            "scaling": "column",
            "input_percentile": 100.0,
            "path": "fast",
        },
    )
    c.study = ""
    c.chips = defaults.chips(n=20, threshold=0.93, sweep=0, chunk=20)
    c.energy = defaults.energy()
    _CHANGES.get(variant, lambda c: None)(c)
    return c


def _quick(c: Any) -> None:
    c.data.name = "plates"
    c.train.update({"epochs": 1, "evaluate_every": 1, "checkpoint_every": 1})
    c.chips.update({"n": 2, "chunk": 2})


def _float(c: Any) -> None:
    """Without chips in training, in a tenth of the time."""
    c.train.update({"hardware": "ideal", "input_ranges": False})


def _canteens(c: Any) -> None:
    """What each canteen should have labelled, by FEAL (arXiv:2312.02567)."""
    _float(c)
    c.data = ConfigDict({"name": "plates_canteens"})
    c.federated = defaults.federated(recipe="classifier", local_epochs=4)
    c.active = defaults.active(
        method="feal", initial=20, budget=20, every=20, most=0.4
    )
    c.train.update({"epochs": 80, "batch": 32, "checkpoint_every": 20})


_CHANGES = {"quick": _quick, "float": _float, "canteens": _canteens}
