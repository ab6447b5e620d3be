"""Any network on any hardware under any learning rule: one line.

    scripts/run --config=configs/matrix.py:model=vit,hardware=sram,learn=qat

The words, in any order; those that are not given are those of
"model=mlp,hardware=rram,learn=weights,size=usual":

    model     a network of `MODELS`
    hardware  a name of `HARDWARE`, or any preset of `hardware.devices`,
              `hardware.sram` or `hardware.digital`
    learn     a rule of `LEARN` that fits the network, see `fits`
    data      a data set of `jaxedge.data`; by default one that needs no files,
              but for the decoder, which reads a text below the data root
    size      "usual", or "small": a network of the same parts that is built
              and compiled in seconds

Every field is a flag, as in any config: the chips of all hardware are studied
alike, 100 of them under no sweep.

`scripts/reproduce matrix` runs or traces every combination and tells of it;
`scripts/reproduce hardware_study` compares all hardware on common tasks. No
paper has this table: rates, epochs and thresholds are our choices, nothing in
it is tuned for one combination, and no number is expected of most.

The digits at 32 x 32 and 224 x 224 pixels are those of 8 x 8, enlarged: they
show that a network works, not how good it is.
"""

from collections.abc import Iterator, Mapping
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxedge.core import checks
from jaxedge.recipes import defaults


class Network(NamedTuple):
    """A row of the matrix.

    Attributes:
        name: of the network in `recipes.settings`; of those that one recipe
            alone has, its config in this folder.
        widths: usual ones, as in `recipes.settings.Model`.
        small: those of the small one.
        data: a data set that fits.
        task: "class", of an image; "pixels", a class each; or the network's
            own.
    """

    name: str
    widths: tuple[int, ...] = ()
    small: tuple[int, ...] = ()
    data: str = "digits_32"
    task: str = "class"


MODELS: Mapping[str, Network] = {
    "mlp": Network("mlp", (256, 128), (16,), "digits"),
    "cnn": Network("cnn", (64, 16, 128), (4, 4, 8)),
    "crnn": Network("crnn", (64, 32, 128, 256), (4, 4, 8, 8)),
    "resnet8": Network("resnet", (8, 16), (8, 4)),
    "resnet20": Network("resnet", (20, 16), (20, 4)),
    "resnet56": Network("resnet", (56, 16), (56, 4)),
    "resnet18": Network("resnet18", (64,), (4,)),
    "resnet50": Network("resnet50", (64,), (4,)),
    "mobilenet": Network("mobilenet", (50,), (25,)),
    "efficientnet_b0": Network("efficientnet_b0", (100, 100), (25, 25)),
    "vit": Network("vit", (4, 64, 4, 2), (8, 16, 1, 2)),
    "deit_tiny": Network("deit_tiny"),
    "deit_small": Network("deit_small"),
    "swin_tiny": Network("swin_tiny", data="digits_224"),
    "sret_tiny": Network("sret_tiny"),
    "unet": Network("unet", (16,), (4,), "digit_pixels", "pixels"),
    "unet2d": Network("unet2d", (16,), (4,), "digit_pixels", "pixels"),
    "pointset": Network("deplm", data="digits", task="points"),
    "decoder": Network("language", data="tinyshakespeare", task="text"),
    "radiomics_net": Network("ridl", data="phantom_volumes", task="volumes"),
    "gan": Network("sequential_gan", data="joint_pairs", task="pairs"),
}

# Presets, one of each kind; any other goes by its own name.
HARDWARE: Mapping[str, str] = {
    "ideal": "ideal",
    "rram_random": "rram_40nm_random",
    "rram": "rram_40nm_set_reset",
    "rram_analogue": "rram_wan2022",
    "pcm": "pcm_joshi2020",
    "sonos": "sonos",
    "sram": "sram_wang2023",
    "fp4": "nvfp4",
    "mxfp4": "mxfp4",
    "int4": "int4",
    "int8": "int8",
}


class Rule(NamedTuple):
    """A column of the matrix.

    Attributes:
        recipe: that has it.
        tasks: of the networks that it fits.
        chips: whether every step meets a new chip of the hardware.
    """

    recipe: str
    tasks: tuple[str, ...] = ("class", "pixels")
    chips: bool = False


_OWN = ("points", "text", "volumes", "pairs")
LEARN: Mapping[str, Rule] = {
    "weights": Rule("classifier", ("class", "pixels", *_OWN[1:])),
    "chips": Rule("classifier", ("class", "pixels", *_OWN[1:]), True),
    "mask": Rule("edge_pruning"),
    "mask_chips": Rule("edge_pruning", chips=True),
    "qat": Rule("quantization_aware"),
    "qat_chips": Rule("quantization_aware", chips=True),
    "coreset": Rule("quantization_aware", ("class",)),
    "federated": Rule("federated"),
    "feal": Rule("federated", ("class",)),
    "pulses": Rule("in_memory"),
    "readout": Rule("deplm", ("points",)),
}
SIZES = ("usual", "small")
_WORDS = {
    "model": "mlp", "hardware": "rram", "learn": "weights", "data": "",
    "size": "usual",
}  # fmt: skip


def fits(model: str, learn: str) -> bool:
    """Whether a network of `MODELS` can learn by a rule of `LEARN`."""
    if learn == "pulses":  # Of matrices alone: cells between two vectors.
        return model == "mlp"
    return MODELS[model].task in LEARN[learn].tasks


def combinations() -> Iterator[dict[str, str]]:
    """All words of the matrix that fit, network by network."""
    for model in MODELS:
        for learn in LEARN:
            if fits(model, learn):
                for hardware in HARDWARE:
                    yield {"model": model, "learn": learn, "hardware": hardware}


def get_config(words: str = "") -> ConfigDict:
    """The experiment of some words, such as "model=vit,learn=mask"."""
    given = _read(words)
    model, rule = MODELS[given["model"]], LEARN[given["learn"]]
    small = given["size"] == "small"
    if model.task in _OWN:
        c = _own(model, rule, small)
    else:
        c = _usual(model, rule, small)
        _LEARNING.get(given["learn"], lambda c: None)(c)
    if rule.chips:
        c.train.hardware = "fresh_chips"
    c.data.name = given["data"] or model.data
    c.hardware = defaults.hardware(
        HARDWARE.get(given["hardware"], given["hardware"])
    )
    c.study = ""
    return c


def _read(words: str) -> dict[str, str]:
    given = dict(_WORDS)
    for word in words.split(",") if words else ():
        name, _, value = word.partition("=")
        if name not in given or not value:
            raise checks.UsageError(
                f"{word!r} of configs/matrix.py is no word=value with a word of"
                f" {', '.join(_WORDS)}."
            )
        given[name] = value
    for name, known in (("model", MODELS), ("learn", LEARN), ("size", SIZES)):
        if given[name] not in known:
            what = f"{name} of configs/matrix.py"
            raise checks.unknown(what, given[name], known)
    if not fits(given["model"], given["learn"]):
        own = [learn for learn in LEARN if fits(given["model"], learn)]
        raise checks.UsageError(
            f"learn={given['learn']} does not fit model={given['model']}, which"
            f" takes {', '.join(own)}."
        )
    return given


def _usual(model: Network, rule: Rule, small: bool) -> Any:
    """A network that several recipes train."""
    c: Any = ConfigDict()
    c.recipe = rule.recipe
    c.seed = 0
    c.data = ConfigDict({"name": model.data, "crop": placeholder(int)})
    widths = model.small if small else model.widths
    c.model = ConfigDict({"name": model.name, "widths": widths})
    # Activations are exact, as most of the networks have them.
    c.model.update({"bits": placeholder(int), "over": "example"})
    transformer = model.name in ("vit", "deit_tiny", "deit_small", "swin_tiny")
    adam = transformer or model.name == "sret_tiny"
    c.optimizer = ConfigDict(
        {
            "name": "adamw" if adam else "sgd",
            "learning_rate": 1e-3 if adam else 0.05,
            "momentum": 0.9,
            "weight_decay": 0.05 if adam else 5e-4,
            "warmup": 0,
            "every": "step",
            "decay": "cosine",
            "average": 0.0,
        }
    )
    c.train = ConfigDict(
        {
            "epochs": 1 if small else 30,
            "batch": 32,
            "evaluate_every": 5,
            "checkpoint_every": 5,
            "select_on": "valid",
            "hardware": "ideal",
            "input_ranges": False,
            "devices": "one",
            "score": "accuracy",
        }
    )
    c.chips = defaults.chips(n=100, sweep=20, threshold=0.9, batch=60, chunk=20)
    if small:
        small_study = {"n": 4, "sweep": 0, "images": 32, "batch": 8, "chunk": 4}
        c.chips.update(small_study)
    c.energy = defaults.energy()
    return c


def _mask(c: Any) -> None:
    c.learn = _config("edge_pruning", "digits").learn
    # A score is no weight: the rate of configs/edge_pruning.py.
    c.optimizer.update({"name": "sgd", "learning_rate": 0.1})
    c.optimizer.weight_decay = 5e-4


def _qat(c: Any) -> None:
    del c.data["crop"]
    # Its sites round by themselves.
    del c.model["bits"], c.model["over"]
    c.augment = defaults.augment()
    c.quantize = defaults.quantize(weights=4, inputs=4)
    c.distill = defaults.distill()
    c.coreset = defaults.coreset()


def _coreset(c: Any) -> None:
    _qat(c)
    # Of two networks there is none in full precision to start from.
    c.coreset.update({"method": "el2n", "fraction": 0.5, "every": 5})


def _federated(c: Any) -> None:
    c.federated = defaults.federated(clients=4)
    c.evidence = defaults.evidence()
    c.active = defaults.active()
    # Clients take different numbers of steps.
    c.optimizer.every = "epoch"


def _feal(c: Any) -> None:
    _qat(c)
    # Clients in full precision; --config.quantize.weights=4 and so on.
    c.quantize = defaults.quantize()
    _federated(c)
    c.federated.recipe = "quantization_aware"
    c.evidence.loss = "digamma"
    c.active.update({"method": "feal", "initial": 40, "budget": 40, "every": 5})


def _pulses(c: Any) -> None:
    # The cells of configs/in_memory.py, and its rule.
    quick = c.train.epochs == 1
    own = _config("in_memory", "quick" if quick else "digits")
    c.cell, c.learn = own.cell, own.learn
    c.train = own.train
    c.data = ConfigDict({"name": c.data.name})
    del c["optimizer"]


_LEARNING = {
    "mask": _mask,
    "mask_chips": _mask,
    "qat": _qat,
    "qat_chips": _qat,
    "coreset": _coreset,
    "federated": _federated,
    "feal": _feal,
    "pulses": _pulses,
}


def _own(model: Network, rule: Rule, small: bool) -> Any:
    """A network that one recipe alone has, as its own config trains it."""
    del rule
    usual = {
        "deplm": "digits", "language": "shakespeare", "ridl": "ridl",
        "sequential_gan": "joint",
    }  # fmt: skip
    c = _config(model.name, "quick" if small else usual[model.name])
    if not small:
        c.chips.update({"n": 100, "chunk": 10})
    return c


def _config(name: str, variant: str) -> Any:
    """The config of another file of this folder."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_matrix_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)
