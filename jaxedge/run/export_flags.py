"""The flags of `jaxedge export`, read before anything heavy is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxedge.core import checks

# What can be written, and the extra of the package that each needs.
EXTRAS = {"stablehlo": "export", "safetensors": "language", "conductances": ""}
NOISE = ("read", "none")
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        workdir: of a finished run.
        out: folder that is written.
        words: keys of `EXTRAS`; empty for all that can be written here.
        chip: number of a chip of the study, 0 the first; None for the network
            on ideal hardware alone.
        noise: of the chip's program, "read" (it takes a key) or "none".
        platforms: that programs are for.
        batch: examples of a call of a program; None takes any number.
        tolerance: of a read that verifies a cell, S; None where unknown.
        data_root: the folder of data sets.
    """

    workdir: Path
    out: Path
    words: tuple[str, ...]
    chip: int | None
    noise: str
    platforms: tuple[str, ...]
    batch: int | None
    tolerance: float | None
    data_root: str | None


def parse(arguments: Sequence[str]) -> Asked:
    """Reads the command line; touches no file.

    Raises:
        UsageError: for an unknown flag or word, or one that is missing.
    """
    values = flags.FlagValues()
    for name in ("workdir", "out", "as", "data_root"):
        flags.DEFINE_string(name, None, "Name.", flag_values=values)
    flags.DEFINE_string("noise", "read", "Noise.", flag_values=values)
    flags.DEFINE_string("platforms", "cpu,cuda,tpu", "", flag_values=values)
    for name in ("chip", "batch"):
        flags.DEFINE_integer(name, None, "Number.", flag_values=values)
    flags.DEFINE_float("tolerance", None, "Siemens.", flag_values=values)
    try:
        rest = values(["jaxedge", *arguments])[1:]
    except flags.Error as error:
        text = " ".join(str(error).split()).removeprefix("flag ")
        raise checks.UsageError(text) from None
    if rest:
        raise checks.UsageError(
            f"{rest[0]!r} is no flag; flags start with -- and are written"
            " --name=value."
        )
    given = values.flag_values_dict()
    for name in ("workdir", "out"):
        if not given[name]:
            example = {"workdir": "runs/digits", "out": "exported"}[name]
            raise checks.UsageError(
                f"no --{name} was given; for example --{name}={example}."
            )
    words = _split(given["as"])
    for word in words:
        if word == "onnx":
            raise checks.UsageError(
                "ONNX needs an environment of its own; run"
                " scripts/export_onnx --workdir=... --out=... instead."
            )
        checks.choice("--as", word, EXTRAS)
    checks.choice("--noise", given["noise"], NOISE)
    platforms = _split(given["platforms"])
    for platform in platforms:
        checks.choice("--platforms", platform, _PLATFORMS)
    if not platforms:
        raise checks.UsageError(
            "--platforms names none; for example --platforms=cpu,cuda."
        )
    if given["chip"] is not None:
        checks.whole("--chip", given["chip"])
    if given["batch"] is not None:
        checks.whole("--batch", given["batch"], 1)
    if given["tolerance"] is not None:
        checks.in_range("--tolerance", given["tolerance"], 0, open_low=True)
    return Asked(
        Path(given["workdir"]),
        Path(given["out"]),
        words,
        given["chip"],
        given["noise"],
        platforms,
        given["batch"],
        given["tolerance"],
        given["data_root"],
    )


def _split(text: str | None) -> tuple[str, ...]:
    """Words between commas, each once."""
    words = (word.strip() for word in (text or "").split(","))
    return tuple(dict.fromkeys(word for word in words if word))
