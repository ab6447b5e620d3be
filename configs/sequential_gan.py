"""Two modalities made one after the other: arXiv:2308.14066 (JBHI 2020).

    scripts/run --config=configs/sequential_gan.py

Pairs of images whose joint law is known, made on the spot, of which a tenth
keep their pairing. Arguments of `get_config`, joined by commas:

    joint           (default) `data.joint_pairs`, 16 x 16, on a CPU
    sarcoma         real slices of MR and PET, 32 x 32 (--data_root), of a class
    published       the paper's networks and training, 64 x 64, for an
                    accelerator: a folder of pairs (--data_root)
    quick           small networks, in seconds
    semi, supervised, unsupervised
                    what teaches: pairs and critics, pairs alone, critics alone
    reversed        the less simple modality first, by `gan.complexity`

Other hardware: --config.hardware.device=NAME, and
--config.train.hardware=fresh_chips trains on its chips.
`scripts/reproduce sequential_joint` and `sequential_sarcoma` compare them.

Not as in the released code: no turn of the second generator sends a slope
through images of the first one, so that layers which both share do not learn by
these; every turn has normal vectors of its own; its two other variants have
networks of their own (`model.name=plain`, with its widths, as in `models.gan`),
which `published,supervised` does not take by itself.

Unknown, and fields here: what the paper measures complexity by and its order
rule (`gan.order`, `gan.complexity`); its data beyond ADC and T2w of the
prostate, their numbers and splits (`data`); how many images were unpaired
(`data.pairs`): in the released code the "unpaired" images are the very pairs
(`gan.unpaired`); whether classes are made apart (`gan.conditional`); all tables
of results, and the user study.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = (
    "joint",
    "sarcoma",
    "published",
    "quick",
    "semi",
    "supervised",
    "unsupervised",
    "reversed",
)


def get_config(variant: str = "joint") -> ConfigDict:
    """The experiment named `variant`, words joined by commas."""
    words = [word for word in variant.split(",") if word]
    for word in words:
        if word not in VARIANTS:
            raise unknown(
                "variant of configs/sequential_gan.py", word, VARIANTS
            )
    c: Any = ConfigDict()
    c.recipe = "sequential_gan"
    c.seed = 0
    c.data = ConfigDict(
        {
            "name": "joint_pairs",
            "pairs": 0.1,
            "seed": 0,
            "side": 16,
            "modalities": placeholder(tuple),
            "rho": 0.8,
            "n": placeholder(int),
            "windows": placeholder(tuple),
            "slices": 1,
            "table": placeholder(tuple),
            "unpaired": False,
        }
    )
    c.model = ConfigDict(
        {
            "name": "sequential",
            "latent": 16,
            "shared": True,
            "convs": (16, 32),
            "dense": (64,),
            "critic_dense": (64, 32),
            "latent_dense": (32, 64),
            "shared_features": (32, 32),
            "first_dense": (32, 64),
            "first_up": (),
            "down": (16, 32, 32, 32),
            "second_up": (16,),
            "noise": 0,
        }
    )
    c.gan = ConfigDict(
        {
            "schedule": "semi",
            "order": "simpler_first",
            "complexity": "pca_participation",
            "conditional": False,
            "unpaired": "own",
            "penalty": 10.0,
            "warmup": 0,
            "compat": placeholder(str),
            "joint": "none",
            "pairs": "l1",
            "given": "made",
            "every": 3,
            "repeats": 2,
            "rollbacks": 3,
        }
    )
    c.optimizer = ConfigDict(
        {
            "learning_rate": 1e-3,
            "b1": 0.0,
            "b2": 0.9,
            "critic": 1.0,
            "adversarial": 1.0,
            "pairs": 1.0,
            "average": 0.99,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 40,
            "steps": 150,
            "batch": 32,
            "evaluate_every": 2,
            "checkpoint_every": 4,
            "select_on": "valid",
            "score": "fidelity",
            "hardware": "ideal",
            "devices": "one",
            "watch": False,
        }
    )
    c.hardware = defaults.hardware("ideal")
    c.study = ""
    c.chips = defaults.chips(
        n=1, threshold=0.5, sweep=0, images=None, batch=100, chunk=1
    )
    c.energy = defaults.energy()
    for word in VARIANTS:
        if word in words:
            _CHANGES.get(word, lambda c: None)(c)
    return c


def _sarcoma(c: Any) -> None:
    c.data.update({"name": "sarcoma_pairs", "side": 32})
    c.data.modalities = ("t1", "pet")
    c.gan.conditional = True
    c.model.update(
        {
            "first_up": (16,),
            "down": (16, 32, 32, 32, 32),
            "second_up": (16, 16),
        }
    )


def _quick(c: Any) -> None:
    c.data.n = 64
    c.model.update(
        {
            "latent": 4,
            "convs": (4, 4),
            "dense": (8,),
            "critic_dense": (8, 8),
            "latent_dense": (8, 8),
            "shared_features": (4, 4),
            "first_dense": (8, 8),
            "down": (4, 4, 4, 4),
            "second_up": (4,),
        }
    )
    c.train.update(
        {
            "epochs": 2, "steps": 3, "batch": 8, "evaluate_every": 1,
            "checkpoint_every": 1,
        }
    )  # fmt: skip


def _published(c: Any) -> None:
    """hust-linyi/Multimodal-Medical-Image-Synthesis at 5d20db4."""
    c.data.update({"name": "prostatex", "side": 64, "pairs": 1.0})
    c.gan.update({"order": "given", "unpaired": "pairs", "compat": "released"})
    c.model.update(
        {
            "latent": 128,
            "convs": (64, 128),
            "dense": (1024,),
            "critic_dense": (1024, 128),
            "latent_dense": (128, 1024),
            "shared_features": (512, 256),
            "first_dense": (128, 1024),
            "first_up": (128,),
            "down": (64, 128, 256, 512, 512),
            "second_up": (128, 64),
        }
    )
    c.optimizer.update({"learning_rate": 1e-4, "average": 0.0})
    # 40,000 steps, to whole turns: the generators have one at every third.
    c.train.update({"epochs": 40, "steps": 1002, "batch": 32})


def _reversed(c: Any) -> None:
    c.gan.order = "simpler_last"


_CHANGES = {
    "sarcoma": _sarcoma,
    "quick": _quick,
    "published": _published,
    "semi": lambda c: c.gan.update({"schedule": "semi"}),
    "supervised": lambda c: c.gan.update({"schedule": "supervised"}),
    "unsupervised": lambda c: c.gan.update({"schedule": "unsupervised"}),
    "reversed": _reversed,
}
