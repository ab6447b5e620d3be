"""Where configs end: sections become checked NamedTuples."""

from collections.abc import Callable, Mapping
import dataclasses
import types
import typing
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn

from jaxedge import models
from jaxedge.core import checks
from jaxedge.data import text
from jaxedge.hardware import crossbar, devices, digital, sram
from jaxedge.hardware.adc import Adc
from jaxedge.quantize import integer
from jaxedge.recipes import defaults, scores

# How weights come onto any hardware of a config.
Design = crossbar.Spec | sram.Spec | digital.Spec

T = TypeVar("T")


class Data(NamedTuple):
    """Which data set.

    Attributes:
        name: of `jaxedge.data`.
        crop: side of the squares, in pixels, that training cuts out of its
            images at random, to flip and turn them; None takes the images as
            they are.
    """

    name: str
    crop: int | None = None

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        if self.crop is not None:
            checks.whole("data.crop", self.crop, 1)

    @property
    def options(self) -> dict[str, Any]:
        """Of `jaxedge.data.load`."""
        return {}


class Text(NamedTuple):
    """Which text, as which tokens.

    Attributes:
        name: of `jaxedge.data.text.TEXTS`.
        vocabulary: number of tokens.
        length: of a window, in tokens.
    """

    name: str
    vocabulary: int
    length: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("data.name", self.name, text.TEXTS)
        checks.whole("data.vocabulary", self.vocabulary, 256)
        checks.whole("data.length", self.length, 1)

    @property
    def options(self) -> dict[str, Any]:
        """Of `jaxedge.data.load`."""
        return {"vocabulary": self.vocabulary, "length": self.length}


class Model(NamedTuple):
    """Which network.

    Attributes:
        name: "mlp", "cnn", "crnn", "unet", "unet2d", "resnet18" or "resnet50";
            "resnet", of small images, "mobilenet", "efficientnet_b0" or "vit";
            "deit_tiny", "deit_small", "swin_tiny" or "sret_tiny".
        widths: hidden widths of the mlp; for the cnn its two channel counts
            and its hidden width; for the crnn two channel counts, its
            recurrent state and its hidden width; for a unet the channels
            of its first level; for a resnet those of its first convolution,
            of small images its depth before that; for the mobilenet per cent
            of the published widths, for the efficientnet_b0 also per cent of
            the published depths; for the vit the side of a patch, width,
            depth and heads.
        bits: resolution of the activations, None for exact ones.
        over: range of the activation quantiser, "example" or "tensor".
    """

    name: str
    widths: tuple[int, ...]
    bits: int | None
    over: str

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("model.name", self.name, NETWORKS)
        checks.choice("model.over", self.over, integer.RANGES)
        for width in self.widths:
            checks.whole("model.widths", width, 1)
        if self.bits is not None:
            checks.in_range("model.bits", self.bits, 1, 24)
        example = _WIDTHS.get(self.name, self.widths)
        if self.name in _PUBLISHED:
            example = ()
        if len(self.widths) != len(example):
            raise checks.UsageError(
                f"model.widths is {self.widths}, but the {self.name} takes"
                f" {len(example)} numbers, such as {example}."
            )
        if self.name not in _ROUNDED and self.bits is not None:
            raise checks.UsageError(
                f"model.bits is {self.bits}, but the activations of the"
                f" {self.name} are exact; use None."
            )


# The papers' widths of the networks that take a given number of them.
_WIDTHS = {
    "cnn": (64, 16, 128),
    "crnn": (64, 32, 128, 256),
    "unet": (32,),
    "unet2d": (16,),
    "resnet18": (64,),
    "resnet50": (64,),
    "resnet": (20, 16),
    "mobilenet": (50,),
    "efficientnet_b0": (100, 100),
    "vit": (4, 64, 4, 2),
}
# Those that round their activations.
_ROUNDED = ("mlp", "cnn", "crnn", "unet")


class Train(NamedTuple):
    """How long and on what.

    Attributes:
        epochs: passes over the training split; 0 leaves the network as it is.
        batch: examples a step.
        evaluate_every: epochs between evaluations.
        checkpoint_every: epochs between checkpoints.
        select_on: split that chooses the best epoch. "test" repeats the
            papers' released code and leaks the test set into the choice.
        hardware: "ideal", "one_chip" (at every step the first chip of the
            study, so that the network is one for this chip), "fresh_chips" (a
            new chip at every step) or "aged_chips" (a new one at any time
            since programming up to `hardware.seconds`). Converters in training
            have the ranges of the design, whatever percentiles or clip rate a
            study sets them by, but for what `input_ranges` learns: a crossbar
            has its full scale, a macro its own folding point and LSB.
        input_ranges: whether each layer learns the range of its inputs by
            gradient, from where the first batch puts it
            (`hardware.input_percentile`); the chips of the study have it too.
        score: what chooses the best epoch and judges chips, a name of
            `scores.SCORES`.
        devices: that train: "one", or "all", which share every batch.
        dtype: of activations in training, "float32" or "bfloat16"; what is
            learned stays float32.
        watch: whether every evaluation writes the metrics of the test split
            too, for curves; nothing is chosen by them.
    """

    epochs: int
    batch: int
    evaluate_every: int
    checkpoint_every: int
    select_on: str
    hardware: str
    input_ranges: bool
    score: str = "accuracy"
    devices: str = "one"
    dtype: str = "float32"
    watch: bool = False

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("train.devices", self.devices, ("one", "all"))
        checks.choice("train.dtype", self.dtype, ("float32", "bfloat16"))
        checks.in_range("train.epochs", self.epochs, 0)
        for name in ("batch", "evaluate_every", "checkpoint_every"):
            checks.in_range(f"train.{name}", getattr(self, name), 1)
        checks.choice("train.select_on", self.select_on, ("valid", "test"))
        checks.choice(
            "train.hardware",
            self.hardware,
            ("ideal", "one_chip", "fresh_chips", "aged_chips"),
        )
        checks.choice("train.score", self.score, scores.SCORES)
        if self.input_ranges and self.hardware == "ideal":
            raise checks.UsageError(
                "train.input_ranges is true, but train.hardware is 'ideal',"
                " which has no converters; choose 'fresh_chips', or false."
            )
        if self.input_ranges and not self.epochs:
            raise checks.UsageError(
                "train.input_ranges is true, but train.epochs is 0, so nothing"
                " is learned; give it epochs, or choose false."
            )


class Hardware(NamedTuple):
    """The chip that the network is put on.

    Attributes:
        device: a preset of `hardware.devices`, which lies in a crossbar; an
            in-SRAM macro, a preset of `hardware.sram`, whose design is `macro`
            alone; or a number format, a preset of `hardware.digital` such as
            "nvfp4", whose design is `digital` alone.
        overrides: fields of the device and of the effects around it
            (`devices.with_fields`); None keeps the preset's value.
        macro: fields of the macro (`sram.fields`); None keeps the preset's
            value.
        adc: fields of `hardware.adc.Adc`, errors of the converters; without
            any the converters are ideal.
        digital: fields of the number format (`digital.fields`); None keeps the
            preset's value.

    The others are those of `crossbar.Spec`.
    """

    device: str
    overrides: Mapping[str, Any]
    seconds: float
    event: int
    read_volts: float
    rows: int
    columns: int
    rows_on: int | None
    pair: str
    packing: str
    scaling: str
    weight_clip: float | None
    weight_bits: int | None
    slice_bits: int | None
    r_wire: float | None
    wires: str
    input_bits: int | None
    input_percentile: float | None
    bit_serial: bool
    adc_bits: int | None
    adc_range: float
    adc_percentile: float | None
    full_scale: str
    adc: Mapping[str, Any]
    compensate: bool
    read: str
    macro: Mapping[str, Any] = types.MappingProxyType({})
    weight_format: str | None = None
    digital: Mapping[str, Any] = types.MappingProxyType({})

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        make_plan(self).check()


# A network of a section, a number of classes and the shape of an input.
_Make = Callable[[Model, int, tuple[int, ...]], nn.Module]
_MODELS: dict[str, _Make] = {
    "mlp": lambda m, classes, _: models.Mlp(
        (*m.widths, classes), bits=m.bits, over=m.over
    ),
    "cnn": lambda m, classes, _: models.Cnn(
        classes,
        (m.widths[0], m.widths[1]),
        m.widths[2],
        bits=m.bits,
        over=m.over,
    ),
    "crnn": lambda m, classes, _: models.Crnn(
        classes,
        (m.widths[0], m.widths[1]),
        m.widths[2],
        m.widths[3],
        bits=m.bits,
        over=m.over,
    ),
    "unet": lambda m, classes, _: models.Unet(
        classes, m.widths[0], bits=m.bits, over=m.over
    ),
    "unet2d": lambda m, classes, _: models.Unet2D(classes, m.widths[0]),
    "resnet18": lambda m, classes, _: _large(m, classes, 18),
    "resnet50": lambda m, classes, _: _large(m, classes, 50),
    "resnet": lambda m, classes, image: models.ResNet(
        classes,
        m.widths[0],
        channels=(m.widths[1], 2 * m.widths[1], 4 * m.widths[1]),
        **_centred(image),
    ),
    "mobilenet": lambda m, classes, image: models.MobileNetV2(
        classes,
        m.widths[0] / 100,
        "cifar" if image[0] < 64 else "imagenet",
        dropout=0.2,  # As published.
        **_centred(image),
    ),
    # Nothing is left out in training, as in FEAL (arXiv:2312.02567).
    "efficientnet_b0": lambda m, classes, image: models.EfficientNet(
        classes,
        m.widths[0] / 100,
        m.widths[1] / 100,
        1 if image[0] <= 64 else 2,
        **_centred(image),
    ),
    "vit": lambda m, classes, image: models.Vit(
        classes,
        (image[0], image[1]),
        patch=m.widths[0],
        width=m.widths[1],
        depth=m.widths[2],
        heads=m.widths[3],
        **_centred(image),
    ),
}


def _large(m: Model, classes: int, depth: int) -> nn.Module:
    """Without what no array holds, as allenai/hidden-networks has it."""
    return models.LargeResNet(
        classes, depth, m.widths[0], affine=False, bias=False
    )


def _centred(image: tuple[int, ...]) -> dict[str, Any]:
    """Of pixels in [0, 1] a half is subtracted, and a quarter divides."""
    channels = image[-1]
    return {"mean": (0.5,) * channels, "std": (0.25,) * channels}


# Published transformers, trained with a tenth of their parts left out.
_PUBLISHED: dict[str, Callable[..., nn.Module]] = {
    "deit_tiny": models.vit.deit_tiny,
    "deit_small": models.vit.deit_small,
    "swin_tiny": models.swin.swin_tiny,
    "sret_tiny": models.sret.sret_tiny,
}
NETWORKS = (*_MODELS, *_PUBLISHED)


def make_model(
    model: Model, classes: int, image: tuple[int, ...] = (32, 32, 3)
) -> nn.Module:
    """The network of a config, for inputs of a shape."""
    if model.name in _PUBLISHED:
        make = _PUBLISHED[model.name]
        return make(classes=classes, image=image[:2], drop_path=0.1)
    return _MODELS[model.name](model, classes, image)


def make_plan(given: Hardware) -> Design:
    """The hardware of a config, for every layer."""
    known = (*devices.PRESETS, *sram.PRESETS, *digital.PRESETS)
    if given.device not in known:
        raise checks.unknown("device preset", given.device, known)
    if given.device in sram.PRESETS:
        return sram.get(given.device, **_given(given.macro))
    if given.device in digital.PRESETS:
        return digital.get(given.device, **_given(given.digital))
    fields = given._asdict()
    for other in ("macro", "digital"):
        fields.pop(other)
    device = devices.get(
        fields.pop("device"), **_given(fields.pop("overrides"))
    )
    known = [field.name for field in dataclasses.fields(Adc)]  # type: ignore
    for name in given.adc:
        if name not in known:
            raise checks.unknown("field of hardware.adc", name, known)
    errors = Adc(**fields.pop("adc"))
    errors.check()
    # Converters without any error cost nothing.
    adc = None if errors == Adc() else errors
    return crossbar.Spec(device, adc=adc, **fields)


def unused(given: Hardware) -> list[str]:
    """Fields of a config that its hardware does not look at, with values.

    A macro has no field of a crossbar, and the reverse, and number formats have
    none of either; a config may have them for another kind. Values that are
    those of `defaults` do not count. With a clip rate, layers choose their own
    folding points and LSBs.
    """
    parts = {
        part: [
            f"{part}.{name}={value}"
            for name, value in _given(getattr(given, part)).items()
        ]
        for part in _PARTS
    }
    if given.device in sram.PRESETS:
        macro = parts.pop("macro")
        if given.macro.get("clip_rate") is not None:  # By every layer.
            chosen = ("macro.fold", "macro.lsb")
            parts["macro"] = [m for m in macro if m.startswith(chosen)]
    elif given.device in digital.PRESETS:
        parts.pop("digital")
    else:
        return parts["macro"] + parts["digital"]
    usual = _plain(defaults.hardware(given.device))
    parts["own"] = [
        f"{name}={value}"
        for name, value in given._asdict().items()
        if name not in ("device", *_PARTS) and value != usual[name]
    ]
    return [found for part in parts.values() for found in part]


# Fields of one kind of hardware alone.
_PARTS = ("overrides", "macro", "digital")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a config gives; an empty field keeps the preset's value."""
    return {name: value for name, value in fields.items() if value is not None}


def unpack(kind: type[T], section: Any, name: str) -> T:
    """Turns a config section into a NamedTuple and checks it.

    Args:
        kind: a NamedTuple class, with `check` where it has ranges.
        section: a mapping with the fields of `kind`, of which those with a
            default may be missing.
        name: the section's name, for messages.

    Raises:
        UsageError: for a missing or unknown field, or a bad value.
    """
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    if not isinstance(section, Mapping) and not hasattr(section, "keys"):
        raise checks.UsageError(
            f"config.{name} is {section!r}, but must be a section with the"
            f" fields {', '.join(fields)}."
        )
    values = {key: _plain(section[key]) for key in section.keys()}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise checks.unknown(f"config field {name}.", key, fields)
    optional: Mapping[str, Any] = kind._field_defaults  # type: ignore
    for field in fields:
        if field not in values and field in optional:
            continue
        if field not in values:
            raise checks.UsageError(
                f"config.{name} lacks the field {field!r}; give it a value."
            )
        _check_type(f"{name}.{field}", values[field], hints[field])
    result = kind(**values)
    if hasattr(result, "check"):
        try:
            result.check()  # type: ignore[attr-defined]
        except checks.UsageError as error:
            if f"{name}." in str(error):
                raise
            # Rooms below know a field but not its section.
            raise checks.UsageError(f"config.{name}: {error}") from None
    return result


def unpack_sections(kind: type[T], config: Any) -> T:
    """Unpacks a NamedTuple of NamedTuples, one section a field."""
    sections = {}
    for name, section_kind in kind.__annotations__.items():
        if name not in config:
            raise checks.UsageError(
                f"the config lacks the section {name!r}; it needs"
                f" {', '.join(kind.__annotations__)}."
            )
        sections[name] = unpack(section_kind, config[name], name)
    return kind(**sections)


def check_unused(name: str, section: Any) -> None:
    """Raises unless a field of a section, such as "data.crop", is its default.

    For recipes that do not look at it.
    """
    field = name.split(".")[1]
    value, default = getattr(section, field), section._field_defaults[field]
    if value != default:
        raise checks.UsageError(
            f"config.{name} is {value!r}, but this recipe does not look at it;"
            f" leave it at {default!r}."
        )


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raises unless a value is of the field's type; int counts as float."""
    allowed = typing.get_args(hint) if _is_union(hint) else (hint,)
    kinds = [typing.get_origin(kind) or kind for kind in allowed]
    if float in kinds:
        kinds.append(int)
    flag = isinstance(value, bool) and bool not in kinds
    if flag or not isinstance(value, tuple(kinds)):
        words = " or ".join(getattr(k, "__name__", str(k)) for k in allowed)
        raise checks.UsageError(
            f"config.{name} is {value!r}, but must be {words}."
        )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _plain(value: Any) -> Any:
    """ConfigDicts become dicts, lists tuples, all else stays."""
    if hasattr(value, "items"):
        return {key: _plain(entry) for key, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value
