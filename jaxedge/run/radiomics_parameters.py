"""Parameter files of pyradiomics 3.0.1: every key is kept to, or refused.

A file is YAML or JSON with the sections `setting`, `imageType`, `featureClass`
and `voxelSetting`. An image type may have settings of its own, which go before
those of `setting`. Names and ranges are those of pyradiomics' schema.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any, NamedTuple

import yaml

from jaxedge.core import checks
from jaxedge.data import image_types, volume_filters
from jaxedge.features.radiomics import names
from jaxedge.features.radiomics import options as options_module

SECTIONS = ("setting", "imageType", "featureClass", "voxelSetting")


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
        kind: "flag", "whole", "number" or "text"; with "s", a list of them.
        default: where the file does not say.
        low: the smallest number.
        above: whether `low` itself is forbidden.
        high: the largest number.
        names: the allowed texts; None for any.
        lengths: of a list.
    """

    kind: str
    default: Any = None
    low: float = float("-inf")
    above: bool = False
    high: float = float("inf")
    names: Sequence[str] | None = None
    lengths: tuple[int, ...] = ()


# Those that an image type may have for itself.
OF_IMAGES = {
    "binWidth": Rule("number", 25, 0, True),
    "binCount": Rule("whole", None, 1),
    "distances": Rule("wholes", [1], 1),
    "force2D": Rule("flag", False),
    "force2Ddimension": Rule("whole", 0, 0, high=2),
    "voxelArrayShift": Rule("whole", 0),
    "symmetricalGLCM": Rule("flag", True),
    "weightingNorm": Rule("text", None, names=options_module.WEIGHTINGS),
    "gldm_a": Rule("whole", 0, 0),
    "sigma": Rule("numbers", [], 0, True),
    "start_level": Rule("whole", 0, 0),
    "level": Rule("whole", 1, 1),
    "wavelet": Rule("text", "coif1"),
    "gradientUseSpacing": Rule("flag", True),
}
SETTINGS = {
    **OF_IMAGES,
    "minimumROIDimensions": Rule("whole", 2, 1, high=3),
    "minimumROISize": Rule("whole", None, 1),
    "geometryTolerance": Rule("number", None, 0, True),
    "correctMask": Rule("flag", False),
    "additionalInfo": Rule("flag", True),
    "label": Rule("whole", 1, 1),
    "label_channel": Rule("whole", None, 0),
    "normalize": Rule("flag", False),
    "normalizeScale": Rule("number", 1, 0, True),
    "removeOutliers": Rule("number", None, 0, True),
    "resampledPixelSpacing": Rule("numbers", None, 0, lengths=(2, 3)),
    "interpolator": Rule(
        "text", "sitkBSpline", names=volume_filters.INTERPOLATORS
    ),
    "padDistance": Rule("whole", 5, 0),
    "resegmentRange": Rule("numbers", None, lengths=(1, 2)),
    "resegmentMode": Rule(
        "text", "absolute", names=volume_filters.RESEGMENT_MODES
    ),
    "resegmentShape": Rule("flag", False),
    "preCrop": Rule("flag", False),
}
VOXEL_SETTINGS = {
    "kernelRadius": Rule("whole", 1, 1),
    "maskedKernel": Rule("flag", True),
    "initValue": Rule("number", 0),
    "voxelBatch": Rule("whole", None, 1),
}
REFUSED = {
    name: "belongs to the image types LBP2D and LBP3D, which are not built"
    for name in (
        "lbp2DRadius",
        "lbp2DSamples",
        "lbp2DMethod",
        "lbp3DLevels",
        "lbp3DIcosphereRadius",
        "lbp3DIcosphereSubdivision",
    )
}
# Features that pyradiomics calls deprecated, and computes when they are named.
DEPRECATED = {
    "firstorder": ("StandardDeviation",),
    "shape": ("Compactness1", "Compactness2", "SphericalDisproportion"),
    "shape2D": ("SphericalDisproportion",),
}
# Those that it leaves out without a word, and what each is equal to.
_EQUAL = {
    ("glcm", "Dissimilarity"): "DifferenceAverage",
    ("glcm", "Homogeneity1"): "Id",
    ("glcm", "Homogeneity2"): "Idm",
    ("glcm", "SumVariance"): "ClusterTendency",
    ("gldm", "GrayLevelNonUniformityNormalized"): "Uniformity of firstorder",
    ("gldm", "DependencePercentage"): "1",
}
_KINDS = {
    "flag": "true or false",
    "whole": "a whole number",
    "number": "a number",
    "text": "a text",
}


class Parameters(NamedTuple):
    """What a parameter file says, with defaults where it does not.

    Attributes:
        setting: every name of `SETTINGS`.
        images: image type -> settings of its own, in the order of the file.
        classes: class -> features, () for all; None for all classes.
        voxels: every name of `VOXEL_SETTINGS`.
    """

    setting: Mapping[str, Any]
    images: Mapping[str, Mapping[str, Any]]
    classes: Mapping[str, tuple[str, ...]] | None
    voxels: Mapping[str, Any]

    def of_image(self, kind: str) -> dict[str, Any]:
        """Settings of an image type."""
        return {**self.setting, **self.images[kind]}

    def changed(self, **settings: Any) -> "Parameters":
        """With other settings."""
        return self._replace(setting={**self.setting, **settings})


def read(path: str | Path) -> Parameters:
    """A parameter file.

    Args:
        path: .json, or else YAML.

    Raises:
        UsageError: for a missing or unreadable file, or naming the key that is
            unknown, refused or of the wrong kind.
    """
    path = Path(path)
    try:
        return parse(_content(path) or {})
    except checks.UsageError as error:
        raise checks.UsageError(f"parameter file {path}: {error}") from None


def _content(path: Path) -> Any:
    """What a file holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except checks.UsageError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise checks.UsageError(
            f"it cannot be read ({reason}); check the path."
        ) from None
    # YAML leaves to Python what looks like a date or a number and is none, and
    # names that are lists.
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise checks.UsageError(
            f"it is no YAML or JSON ({reason}); mend that line."
        ) from None


def parse(content: Any) -> Parameters:
    """The same from what a file holds.

    Raises:
        UsageError: as `read`.
    """
    for name, section in _mapping("the file", content).items():
        if name not in SECTIONS:
            raise checks.unknown("section", name, SECTIONS)
        _mapping(name, section)
    setting = _settings("setting", content.get("setting", {}), SETTINGS)
    voxels = _settings(
        "voxelSetting", content.get("voxelSetting", {}), VOXEL_SETTINGS
    )
    if not _filled(voxels, VOXEL_SETTINGS)["maskedKernel"]:
        raise checks.UsageError(
            "voxelSetting.maskedKernel is false, which is not built: maps are"
            " made of the voxels of the region; leave it out."
        )
    parameters = Parameters(
        _filled(setting, SETTINGS),
        _images(content.get("imageType", {})),
        _classes(content.get("featureClass", {})),
        _filled(voxels, VOXEL_SETTINGS),
    )
    for kind in parameters.images:
        options(parameters.of_image(kind))
        if kind == "Wavelet":
            image_types.check_wavelet(parameters.of_image(kind)["wavelet"])
    return parameters


def options(setting: Mapping[str, Any]) -> options_module.Options:
    """Of the texture matrices, from settings."""
    made = options_module.Options(
        distances=tuple(setting["distances"]),
        symmetric=setting["symmetricalGLCM"],
        weighting=setting["weightingNorm"],
        plane=plane(setting),
        alpha=float(setting["gldm_a"]),
    )
    options_module.check(made)
    return made


def filters(setting: Mapping[str, Any]) -> image_types.Filters:
    """Of the image types, from settings."""
    return image_types.Filters(
        sigma=tuple(setting["sigma"]),
        wavelet=setting["wavelet"],
        level=setting["level"],
        start_level=setting["start_level"],
        plane=plane(setting),
        use_spacing=setting["gradientUseSpacing"],
    )


def plane(setting: Mapping[str, Any]) -> int | None:
    """Axis of [Z, Y, X] that features do not cross, None for none."""
    return setting["force2Ddimension"] if setting["force2D"] else None


def _images(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for kind, own in section.items():
        if kind in image_types.NOT_BUILT:
            raise checks.UsageError(
                f"imageType {kind} is not built; leave it out."
            )
        if kind not in image_types.IMAGE_TYPES:
            raise checks.unknown("imageType", kind, image_types.IMAGE_TYPES)
        where = f"imageType.{kind}"
        for name in _mapping(where, own):
            if name in SETTINGS and name not in OF_IMAGES:
                raise checks.UsageError(
                    f"{where}.{name} has no effect on one image type, as images"
                    " are prepared before they are filtered; write it in"
                    " setting."
                )
        found[kind] = _settings(where, own, OF_IMAGES)
    return found or {"Original": {}}


def _classes(
    section: Mapping[str, Any],
) -> dict[str, tuple[str, ...]] | None:
    found = {}
    for kind, wanted in section.items():
        if kind not in names.PYRADIOMICS:
            raise checks.unknown("featureClass", kind, names.PYRADIOMICS)
        if wanted is not None and not isinstance(wanted, list):
            raise checks.UsageError(
                f"featureClass.{kind} is {wanted!r}, but must be a list of"
                " features, or empty for all."
            )
        known = (*names.PYRADIOMICS[kind], *DEPRECATED.get(kind, ()))
        for name in wanted or ():
            if not isinstance(name, str):
                raise checks.UsageError(
                    f"featureClass.{kind} has {name!r}, but must be a list of"
                    " names of features."
                )
            if (kind, name) in _EQUAL:
                raise checks.UsageError(
                    f"featureClass.{kind}: {name} is deprecated, and"
                    f" pyradiomics leaves it out: it is equal to"
                    f" {_EQUAL[kind, name]}; name that instead."
                )
            if name not in known:
                raise checks.unknown(f"feature of {kind}", name, known, 30)
        found[kind] = tuple(wanted or ())
    return found or None


def _settings(
    where: str, stated: Mapping[str, Any], rules: Mapping[str, Rule]
) -> dict[str, Any]:
    """The settings of a section that are not null, checked."""
    found = {}
    for name, value in stated.items():
        if name in REFUSED:
            raise checks.UsageError(
                f"{where}.{name} {REFUSED[name]}; leave it out."
            )
        if name not in rules:
            raise checks.unknown(f"key of {where}", name, rules, 40)
        if name == "interpolator" and _is_whole(value):
            # pyradiomics takes SimpleITK's numbers, which begin at 1.
            value = dict(enumerate(volume_filters.INTERPOLATORS, 1)).get(value)
        if value is not None:
            found[name] = _checked(f"{where}.{name}", value, rules[name])
        elif name == "interpolator":
            found[name] = None  # Without one nothing is resampled.
    return found


def _filled(
    stated: Mapping[str, Any], rules: Mapping[str, Rule]
) -> dict[str, Any]:
    return {
        name: stated.get(name, rule.default) for name, rule in rules.items()
    }


def _checked(where: str, value: Any, rule: Rule) -> Any:
    if not rule.kind.endswith("s"):
        return _checked_one(where, value, rule)
    one = rule._replace(kind=rule.kind[:-1])
    if not isinstance(value, list):
        raise checks.UsageError(
            f"{where} is {value!r}, but must be a list, such as [{value}]."
        )
    if rule.lengths and len(value) not in rule.lengths:
        allowed = " or ".join(map(str, rule.lengths))
        raise checks.UsageError(
            f"{where} is {value}, but must have {allowed} numbers."
        )
    return [_checked_one(where, entry, one) for entry in value]


def _checked_one(where: str, value: Any, rule: Rule) -> Any:
    fits = {
        "flag": isinstance(value, bool),
        "whole": _is_whole(value),
        "number": isinstance(value, float) or _is_whole(value),
        "text": isinstance(value, str),
    }
    if not fits[rule.kind]:
        raise checks.UsageError(
            f"{where} is {value!r}, but must be {_KINDS[rule.kind]}."
        )
    # Without a range it may be NaN, as the rest of a map may.
    if rule.kind in ("whole", "number") and rule != Rule(
        rule.kind, rule.default
    ):
        checks.in_range(where, value, rule.low, rule.high, open_low=rule.above)
    if rule.names is not None:
        checks.choice(where, value, rule.names)
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise checks.UsageError(
            f"{where} is {value!r}, but must be names with values; an empty one"
            " is written {}."
        )
    return value


def _unique(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping, unless a name is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [name for name, _ in pairs]
        twice = next(name for name in keys if keys.count(name) > 1)
        raise checks.UsageError(f"{twice} is there twice; keep one of them.")
    return found


class _Loader(yaml.SafeLoader):
    """Of YAML 1.2, as pyradiomics reads it: 1e-3 is a number, no name twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        _unique(
            [
                (self.construct_object(k, True), v)
                for k, v in node.value
                if k.tag != "tag:yaml.org,2002:merge"
            ]
        )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
