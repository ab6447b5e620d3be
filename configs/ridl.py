"""Radiomics-informed deep learning of volumes: arXiv:2308.06933 (MICCAI 2023).

    scripts/run --config=configs/ridl.py

Phantom volumes, made on the spot, whose class depends on the length of a region
and on which side of it is rough. Arguments of `get_config`:

    ridl               (default) maps and numbers of radiomics, de-correlated
    pretrain           the same network without radiomics; the others start
                       from it with --config.model.start=DIR
    image              no radiomics, but for the region as a channel
    no_local           without the maps
    no_global          without the numbers, and so without de-correlation
    no_decorrelation   without that loss
    naive              numbers beside the last features, and nothing else
    quick              small phantoms, in seconds
    published          the paper's network and training, for accelerators: a
                       folder of CT volumes with masks (--data_root)

Other features: --config.radiomics.select=lasso, mrmr; any hardware:
--config.hardware.device=NAME, and --config.train.hardware=fresh_chips trains on
its chips. `scripts/reproduce ridl_phantoms` compares all variants over folds.

The paper: an AUC of 86.9 % on private CT of patients with atrial fibrillation,
sub-types told apart. Unknown: its patients and their number, every baseline,
which resampling its global features had (3 mm in one place of the released
code, 1 mm in another), and what each part contributes.

Ours, of phantoms, an AUC over 5 folds and 3 seeds: RIDL 91.5 %, images alone
49.6 %, the four published features alone 67.1 %, a LASSO of all 107 66.9 %,
naive concatenation 62.9 %. Without de-correlation it is 91.5 % too; deep and
global features then correlate by .150 on average, with it by .108.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core.checks import unknown
from jaxedge.recipes import defaults

VARIANTS = (
    "ridl",
    "pretrain",
    "image",
    "no_local",
    "no_global",
    "no_decorrelation",
    "naive",
    "quick",
    "published",
)


def get_config(variant: str = "ridl") -> ConfigDict:
    """The experiment named `variant`."""
    if variant not in VARIANTS:
        raise unknown("variant of configs/ridl.py", variant, VARIANTS)
    c: Any = ConfigDict()
    c.recipe = "ridl"
    c.seed = 0
    c.data = ConfigDict(
        {
            "name": "phantom_volumes",
            "fold": 0,
            "size": (12, 16, 16),
            "cue": "both",
            "n": 320,
            "seed": 0,
            "label": 1,
            "resample": False,
        }
    )
    c.model = ConfigDict(
        {
            "widths": (4, 8, 16),
            "dropout": 0.0,
            "start": placeholder(str),
            "balance": True,
        }
    )
    c.radiomics = ConfigDict(
        {
            "radii": (1, 2),
            "local": "glcm_Idn",
            "select": "fixed",
            "names": (
                "original_shape_Maximum3DDiameter",
                "original_shape_Maximum2DDiameterSlice",
                "original_firstorder_Maximum",
                "original_glcm_Idn",
            ),
            "alpha": 0.12,
            "most": 4,
            "bin_width": 25.0,
            "bin_count": placeholder(int),
            "scale_maps": True,
        }
    )
    c.losses = ConfigDict(
        {
            "reconstruct": 0.1,
            "coarse": 0.33,
            "coarse_drop": 0.8,
            "coarse_epochs": (10, 20),
            "decorrelate": 10.0,
            "rows": 100,
            "decay": 0.99,
            "squared": False,
            "begin": 4,
        }
    )
    c.optimizer = ConfigDict(
        {
            "name": "adam",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "warmup": 0,
            "every": "step",
            "decay": "constant",
            "average": 0.0,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 10,
            "batch": 4,
            "evaluate_every": 1,
            "checkpoint_every": 5,
            "select_on": "valid",
            "hardware": "ideal",
            "input_ranges": False,
            "score": "roc_auc",
            "devices": "one",
            "dtype": "float32",
            "watch": False,
        }
    )
    c.hardware = defaults.hardware("ideal")
    c.study = ""
    c.chips = defaults.chips(
        n=1, threshold=0.7, sweep=0, images=None, batch=8, chunk=1
    )
    c.energy = defaults.energy()
    _CHANGES.get(variant, lambda c: None)(c)
    return c


def _image(c: Any) -> None:
    c.radiomics.update({"radii": (), "most": 0})
    c.losses.decorrelate = 0.0


def _pretrain(c: Any) -> None:
    _image(c)
    c.losses.reconstruct = 1.0
    c.model.balance = False


def _no_local(c: Any) -> None:
    c.radiomics.radii = ()


def _no_global(c: Any) -> None:
    c.radiomics.most = 0
    c.losses.decorrelate = 0.0


def _no_decorrelation(c: Any) -> None:
    c.losses.decorrelate = 0.0


def _naive(c: Any) -> None:
    c.radiomics.radii = ()
    c.losses.update({"reconstruct": 0.0, "decorrelate": 0.0})


def _quick(c: Any) -> None:
    c.data.update({"size": (12, 16, 16), "n": 40})
    c.model.widths = (4, 4, 6)
    c.radiomics.radii = (1,)
    c.losses.begin = 1
    c.train.update({"epochs": 2, "evaluate_every": 1, "checkpoint_every": 1})


def _published(c: Any) -> None:
    """script_ridl.sh of xmed-lab/RIDL at d468052."""
    c.data.update({"name": "volume_folder", "size": (96, 128, 128)})
    c.model.update(
        {
            "widths": (16, 32, 64, 128, 256),
            "dropout": 0.3,
            "balance": False,
        }
    )
    c.losses.update(
        {"reconstruct": 1.0, "decorrelate": 2.0, "rows": 25, "begin": 2}
    )
    c.radiomics.update({"radii": (1, 2, 5, 10), "scale_maps": False})
    c.optimizer.learning_rate = 1e-4
    c.train.update({"epochs": 25, "batch": 1, "evaluate_every": 1})


_CHANGES = {
    "pretrain": _pretrain,
    "image": _image,
    "no_local": _no_local,
    "no_global": _no_global,
    "no_decorrelation": _no_decorrelation,
    "naive": _naive,
    "quick": _quick,
    "published": _published,
}
