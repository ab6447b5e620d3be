"""How much is left on a plate: FoodWise's grader, after arXiv:2307.12882.

    scripts/run --config=configs/foodwise.py

Arguments of `get_config`:

    grader     (default) 128-64-3 with evidence for clean, some and lots,
               trained on chips of an in-SRAM macro, 4 bits
    float      the same, trained without chips
    canteens   nine canteens as clients that choose what to label, by FEAL
    quick      the grader, in seconds

The paper's abstract and public pages tell of no network, so no number of it is
expected here: the data set, the 128 features, the network and all settings are
our design, see `foodwise.grading.experiment`, `data.plates` and
`features.plates`. All results are on synthetic plates; those of photos will be
worse.

Its evidence is e^z, its loss the Bayes risk of the Brier score with .1 KL,
annealed over 5 passes, and its doubt the vacuity u = K / S. It has one client,
which is training as usual. Two macros of 64 rows and one hold it: 131
conversions a photo.

Other methods of asking: --config.active.method=random, entropy, badge, ...

Results: docs/results/foodwise_grader.md, and foodwise_rounds.md of three rounds
of review of a canteen that is unlike those it was trained on.
"""

from ml_collections import ConfigDict

from jaxedge.foodwise.grading import experiment

VARIANTS = experiment.VARIANTS


def get_config(variant: str = "grader") -> ConfigDict:
    """The experiment named `variant`."""
    return experiment.config(variant)
