"""The flags of `jaxedge radiomics`, read before anything heavy is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxedge.core import checks

DEFINITIONS = ("pyradiomics", "ibsi")


class Job(NamedTuple):
    """What is asked for.

    Attributes:
        image: a volume, or a table of cases.
        mask: of the volume; None with a table.
        out: the table of features.
        param: pyradiomics' parameter file; None for its defaults.
        label: of the mask; None for that of the file or the table, else 1.
        definitions: "pyradiomics" or "ibsi".
        maps: features of which maps are made, such as "glcm_Idn".
        radius: of the cubes that maps are made of, voxels; empty for that of
            the file, else 1.
        resample_mask: whether a mask on another grid is put onto the image's.
    """

    image: Path
    mask: Path | None
    out: Path
    param: Path | None = None
    label: int | None = None
    definitions: str = "pyradiomics"
    maps: tuple[str, ...] = ()
    radius: tuple[int, ...] = ()
    resample_mask: bool = False


def parse(arguments: Sequence[str]) -> Job:
    """Reads the command line; touches no file.

    Raises:
        UsageError: for an unknown flag, a bad value, or a missing file name.
    """
    values = _flags()
    try:
        given = [str(a) for a in values(["jaxedge", *arguments])[1:]]
    except flags.Error as error:
        text = " ".join(str(error).split()).removeprefix("flag ")
        raise checks.UsageError(text) from None
    tabled = bool(given) and given[0].lower().endswith(".csv")
    if len(given) != (1 if tabled else 2):
        raise checks.UsageError(
            f"{len(given)} files are named, but `jaxedge radiomics` takes IMAGE"
            " and MASK, or one CSV of cases with the columns Image and Mask."
        )
    if not values.out or not values.out.lower().endswith(".csv"):
        raise checks.UsageError(
            f"--out is {values.out!r}, but must name a .csv; for example"
            " --out=features.csv."
        )
    radius = tuple(_whole("radius", text) for text in values.radius)
    if radius and not values.maps:
        raise checks.UsageError(
            "--radius is of maps, but no --maps was given; for example"
            " --maps=glcm_Idn."
        )
    for name, entries in (("maps", values.maps), ("radius", radius)):
        if len(set(entries)) != len(entries):
            raise checks.UsageError(f"--{name} names one twice: {entries}.")
    return Job(
        image=Path(given[0]),
        mask=None if tabled else Path(given[1]),
        out=Path(values.out),
        param=None if values.param is None else Path(values.param),
        label=values.label,
        definitions=values.definitions,
        maps=tuple(values.maps),
        radius=radius,
        resample_mask=values.resample_mask,
    )


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name in ("out", "param"):
        flags.DEFINE_string(name, None, "File.", flag_values=values)
    flags.DEFINE_integer(
        "label", None, "Region.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "definitions", DEFINITIONS[0], DEFINITIONS, "Whose.", flag_values=values
    )
    for name in ("maps", "radius"):
        flags.DEFINE_list(name, [], "Several.", flag_values=values)
    flags.DEFINE_boolean(
        "resample_mask", False, "Onto the image.", flag_values=values
    )
    return values


def _whole(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise checks.UsageError(
            f"--{name} is {text!r}, but must be whole numbers from 1; for"
            f" example --{name}=1,2."
        )
    return number
